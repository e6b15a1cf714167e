"""The oscilloscope's driver, byte by byte.

Commands and answers are those of the manuals: Keysight InfiniiVision 3000 X-Series Oscilloscopes,
Programmer's Guide; Rigol DS1000Z, Programming Guide.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from protocol import HANG_UP, Pair, block, expected_protocol, group, hello, question

from pnnlab.errors import InstrumentError, LinkError, RangeError
from pnnlab.instruments.dialects import INFINIIVISION, RIGOL_DS1000Z, BlockFormat, Scratch
from pnnlab.instruments.link import Link
from pnnlab.instruments.oscilloscope import (
    Oscilloscope,
    ScopeSettings,
    decode,
    read_preamble,
    resampled,
)

KEYSIGHT = hello("AGILENT TECHNOLOGIES,DSO-X 3024A,MY50000000,01.00.0000")
RIGOL = hello("RIGOL TECHNOLOGIES,DS1104Z,DS1ZA000000000,00.04.04")
SETTINGS = ScopeSettings(low_v=-1.1, high_v=1.1, sample_rate_hz=1e6, points=100, delay_s=0.0)

# Other formats that these instruments have: a dialect is data.
EIGHT_BITS = BlockFormat("BYTE", 0, "u1", 0x01, 0xFF, hole=0, most_points=4_000_000)
SIXTEEN_BITS = BlockFormat("WORD", 1, "<u2", 0, 255, hole=None, most_points=125_000)

KEYSIGHT_APPLY = group(
    ":STOP",
    ":CHAN1:DISP ON",
    ":CHAN1:COUP DC",
    ":CHAN1:IMP ONEM",
    ":CHAN1:BWL OFF",
    ":CHAN1:INV OFF",
    ":CHAN1:PROB 1",
    ":CHAN1:RANG 2.2",
    ":CHAN1:OFFS 0",
    ":TIM:MODE MAIN",
    ":TIM:REF CENT",
    ":TIM:RANG 0.0001",
    ":TIM:POS 5E-05",
    ":TRIG:MODE EDGE",
    ":TRIG:SOUR EXT",
    ":TRIG:SLOP POS",
    ":TRIG:LEV 1",
    ":TRIG:SWE NORM",
    ":ACQ:TYPE NORM",
    ":WAV:SOUR CHAN1",
    ":WAV:FORM WORD",
    ":WAV:BYT LSBF",
    ":WAV:UNS ON",
    ":WAV:POIN:MODE RAW",
    ":WAV:POIN 100",
)
KEYSIGHT_ASKED = (
    ":CHAN1:DISP?;:CHAN1:COUP?;:CHAN1:IMP?;:CHAN1:BWL?;:CHAN1:INV?;:CHAN1:PROB?;:CHAN1:RANG?;"
    ":CHAN1:OFFS?;:TIM:MODE?;:TIM:REF?;:TIM:RANG?;:TIM:POS?;:TRIG:MODE?;:TRIG:SOUR?;:TRIG:SLOP?;:TRIG:LEV?;:TRIG:SWE?;:ACQ:TYPE?;"
    ":WAV:SOUR?;:WAV:FORM?;:WAV:BYT?;:WAV:UNS?;:WAV:POIN:MODE?"
)
KEYSIGHT_ANSWER = (
    "1;DC;ONEM;0;0;+1.00000000E+000;+2.20E+000;+0.0E+000;MAIN;CENT;+1.000E-004;+5.00000E-005;EDGE;EXT;POS;"
    "+1.00E+000;NORM;NORM;CHAN1;WORD;LSBF;1;RAW"
)
KEYSIGHT_SET_UP = (*KEYSIGHT, *KEYSIGHT_APPLY, question(KEYSIGHT_ASKED, KEYSIGHT_ANSWER))
KEYSIGHT_TAKEN = (
    question(":AER?", "+0"),
    *group(":SING"),
    question(":AER?", "+0"),
    question(":AER?", "+1"),
    question(":OPER:COND?", "+2088"),  # running, waiting; and a bit that is none of ours
    question(":OPER:COND?", "+2048"),
)
WORD_PREAMBLE = (
    "+1,+0,+100,+1,+1.00000000E-006,+0.00000000E+000,+0,+4.88281E-005,+2.50000E-001,+32768"
)
BYTE_PREAMBLE = WORD_PREAMBLE.replace("+1,+0", "+0,+0", 1).replace("+4.88281E-005", "+0.0125")
BYTE_PREAMBLE = BYTE_PREAMBLE.replace("+32768", "+128")


def data(codes: np.ndarray) -> Pair:
    return (b":WAV:DATA?\n", block(codes.tobytes()) + b"\n")


def in_bytes(script: tuple[Pair, ...]) -> tuple[Pair, ...]:
    """The same conversation with BYTE blocks."""
    return tuple((sent.replace(b"WORD", b"BYTE"), _in_bytes(answer)) for sent, answer in script)


def _in_bytes(answer: bytes | None) -> bytes | None:
    return None if answer is None else answer.replace(b"WORD", b"BYTE")


def take(scope: Oscilloscope) -> None:
    scope.apply(SETTINGS)
    scope.arm()
    scope.wait(1.0)


def test_infiniivision_word() -> None:
    codes = np.full(100, 32768, "<u2")
    codes[:4] = [32768 + 4096, 32768 - 4096, 0x0A0A, 0xFE00]
    script = (*KEYSIGHT_SET_UP, *KEYSIGHT_TAKEN, question(":WAV:PRE?", WORD_PREAMBLE), data(codes))
    with (
        expected_protocol(*script) as name,
        Oscilloscope(Link(name)) as scope,
    ):
        take(scope)
        trace = scope.read()
    # V = (code - reference) * increment + origin
    assert trace.volts.dtype == np.float32
    np.testing.assert_allclose(
        trace.volts[:5],
        [0.45, 0.05, 0.25 + (0x0A0A - 32768) * 4.88281e-5, 0.25 + 32256 * 4.88281e-5, 0.25],
        rtol=1e-5,
    )
    assert len(trace.volts) == 100
    assert (trace.saturated, trace.missing) == (0, 0)


def test_infiniivision_byte_with_holes_and_clipped_points() -> None:
    codes = np.full(100, 128, "u1")
    codes[:7] = [0, 1, 255, 2, 254, 10, 0]
    script = (
        *in_bytes((*KEYSIGHT_SET_UP, *KEYSIGHT_TAKEN)),
        question(":WAV:PRE?", BYTE_PREAMBLE),
        data(codes),
    )
    dialect = replace(INFINIIVISION, format=EIGHT_BITS)
    with expected_protocol(*script) as name, Oscilloscope(Link(name), dialect) as scope:
        take(scope)
        trace = scope.read()
    expected = 0.25 + 0.0125 * (codes[:7].astype(float) - 128)
    expected[[0, 6]] = np.nan
    np.testing.assert_allclose(trace.volts[:7], expected, rtol=1e-6)
    assert (trace.saturated, trace.missing) == (2, 2)


@pytest.mark.parametrize(
    ("code", "saturated", "missing"),
    [
        (0, 0, 1),
        (1, 1, 0),
        (0x0100, 1, 0),
        (0x0200, 0, 0),
        (0xFE00, 0, 0),
        (0xFF00, 1, 0),
        (0xFFFF, 1, 0),
    ],
)
def test_infiniivision_special_words(code: int, saturated: int, missing: int) -> None:
    codes = np.full(100, 32768, "<u2")
    codes[50] = code
    script = (*KEYSIGHT_SET_UP, question(":WAV:PRE?", WORD_PREAMBLE), data(codes))
    with expected_protocol(*script) as name, Oscilloscope(Link(name)) as scope:
        scope.apply(SETTINGS)
        trace = scope.read()
    assert (trace.saturated, trace.missing) == (saturated, missing)
    assert int(np.isnan(trace.volts).sum()) == missing


def test_only_what_was_asked_for_is_kept() -> None:
    """100 points are the shortest record; 60 of them from 20 us on are wanted."""
    wanted = replace(SETTINGS, points=60, delay_s=20e-6)
    preamble = WORD_PREAMBLE.replace("+0.00000000E+000", "-1.00000000E-005")
    apply = tuple((a.replace(b":POS 5E-05", b":POS 7E-05"), b) for a, b in KEYSIGHT_APPLY)
    answer = KEYSIGHT_ANSWER.replace("+5.00000E-005", "+7.00000E-005")
    codes = (np.arange(100) * 256 + 512).astype("<u2")
    codes[10] = 0  # outside the part that is wanted
    script = (
        *KEYSIGHT,
        *apply,
        question(KEYSIGHT_ASKED, answer),
        question(":WAV:PRE?", preamble),
        data(codes),
    )
    with expected_protocol(*script) as name, Oscilloscope(Link(name)) as scope:
        scope.apply(wanted)
        trace = scope.read()
    assert len(trace.volts) == 60
    assert trace.missing == 0
    assert trace.volts[0] == pytest.approx(0.25 + (30 * 256 + 512 - 32768) * 4.88281e-5)


RIGOL_ASKED = (
    question(":CHAN4:DISP?", "1"),
    question(":CHAN4:COUP?", "DC"),
    question(":CHAN4:BWL?", "OFF"),
    question(":CHAN4:INV?", "0"),
    question(":CHAN4:PROB?", "1.000000e+00"),
    question(":CHAN4:SCAL?", "1.000000e+00"),
    question(":CHAN4:OFFS?", "0.000000e+00"),
    question(":CHAN1:DISP?", "1"),
    question(":CHAN1:COUP?", "DC"),
    question(":CHAN1:BWL?", "OFF"),
    question(":CHAN1:INV?", "0"),
    question(":CHAN1:PROB?", "1.000000e+00"),
    question(":CHAN1:VERN?", "1"),
    question(":CHAN1:SCAL?", "2.500000e-01"),
    question(":CHAN1:OFFS?", "-5.000000e-01"),
    question(":TIM:MODE?", "MAIN"),
    question(":TIM:SCAL?", "5.000000e-04"),
    question(":TIM:OFFS?", "3.000000e-03"),
    question(":ACQ:TYPE?", "NORM"),
    question(":ACQ:MDEP?", "6000"),
    question(":TRIG:MODE?", "EDGE"),
    question(":TRIG:EDG:SOUR?", "CHAN4"),
    question(":TRIG:EDG:SLOP?", "POS"),
    question(":TRIG:EDG:LEV?", "1.000000e+00"),
    question(":WAV:SOUR?", "CHAN1"),
    question(":WAV:MODE?", "RAW"),
    question(":WAV:FORM?", "BYTE"),
)
RIGOL_SET_UP = (
    *RIGOL,
    *group(
        ":RUN",
        *(f":CHAN{n}:DISP OFF" for n in (1, 2, 3, 4)),
        *(":CHAN4:DISP ON", ":CHAN4:COUP DC", ":CHAN4:BWL OFF", ":CHAN4:INV OFF"),
        *(":CHAN4:PROB 1", ":CHAN4:SCAL 1", ":CHAN4:OFFS 0"),
        ":CHAN1:DISP ON",
        ":CHAN1:COUP DC",
        ":CHAN1:BWL OFF",
        ":CHAN1:INV OFF",
        ":CHAN1:PROB 1",
        ":CHAN1:VERN ON",
        ":CHAN1:SCAL 0.25",
        ":CHAN1:OFFS -0.5",
        ":TIM:MODE MAIN",
        ":TIM:SCAL 0.0005",
        ":TIM:OFFS 0.003",
        ":ACQ:TYPE NORM",
        ":ACQ:MDEP 6000",
        ":TRIG:MODE EDGE",
        ":TRIG:EDG:SOUR CHAN4",
        ":TRIG:EDG:SLOP POS",
        ":TRIG:EDG:LEV 1",
        ":WAV:SOUR CHAN1",
        ":WAV:MODE RAW",
        ":WAV:FORM BYTE",
    ),
    *RIGOL_ASKED,
)
RIGOL_TAKEN = (
    *group(":SING"),
    question(":TRIG:STAT?", "RUN"),
    question(":TRIG:STAT?", "WAIT"),
    question(":TRIG:STAT?", "WAIT"),
    question(":TRIG:STAT?", "TD"),
    question(":TRIG:STAT?", "STOP"),
)
RIGOL_PREAMBLE = "0,2,6000,1,1.000000e-06,0.000000e+00,0,1.000000e-02,-50,127"
RIGOL_SETTINGS = ScopeSettings(-0.5, 1.5, 1e6, points=10, delay_s=0.0)


def test_rigol_in_parts() -> None:
    """No more points are given at once than the guide allows: here four of them."""
    dialect = replace(RIGOL_DS1000Z, format=RIGOL_DS1000Z.format._replace(most_points=4))
    codes = np.array([77, 87, 67, 10, 1, 254, 0, 255, 77, 77], "u1")
    script = (
        *RIGOL_SET_UP,
        *RIGOL_TAKEN,
        question(":WAV:PRE?", RIGOL_PREAMBLE),
        *group(":WAV:STAR 1", ":WAV:STOP 4"),
        data(codes[:4]),
        *group(":WAV:STAR 5", ":WAV:STOP 8"),
        data(codes[4:8]),
        *group(":WAV:STAR 9", ":WAV:STOP 10"),
        data(codes[8:]),
    )
    with (
        expected_protocol(*script) as name,
        Oscilloscope(Link(name), dialect) as scope,
    ):
        scope.apply(RIGOL_SETTINGS)
        scope.arm()
        scope.wait(1.0)
        trace = scope.read()
    # V = (code - origin - reference) * increment
    np.testing.assert_allclose(trace.volts, (codes.astype(float) - 77) * 0.01, atol=1e-6)
    assert (trace.saturated, trace.missing) == (2, 0)


def test_rigol_word() -> None:
    codes = np.array([77, 87, 67, 10, 1, 254, 0, 255, 77, 77], "<u2")
    script = (
        *(
            (sent.replace(b"BYTE", b"WORD"), _in_words(answer))
            for sent, answer in (*RIGOL_SET_UP, *RIGOL_TAKEN)
        ),
        question(":WAV:PRE?", RIGOL_PREAMBLE.replace("0,2", "1,2", 1)),
        *group(":WAV:STAR 1", ":WAV:STOP 10"),
        data(codes),
    )
    with (
        expected_protocol(*script) as name,
        Oscilloscope(Link(name), replace(RIGOL_DS1000Z, format=SIXTEEN_BITS)) as scope,
    ):
        scope.apply(RIGOL_SETTINGS)
        scope.arm()
        scope.wait(1.0)
        trace = scope.read()
    np.testing.assert_allclose(trace.volts, (codes.astype(float) - 77) * 0.01, atol=1e-6)


def _in_words(answer: bytes | None) -> bytes | None:
    return None if answer is None else answer.replace(b"BYTE", b"WORD")


@pytest.mark.parametrize(
    ("preamble", "match"),
    [
        ("+0," + WORD_PREAMBLE[3:], "format 0, not as WORD"),
        (WORD_PREAMBLE.replace("-006", "-005"), "too slow"),
        (WORD_PREAMBLE.replace("+100,", "+1e15,"), "has 1000000000000000 points, more than"),
        (WORD_PREAMBLE.replace("+100,", "+90,"), "not the 100 points"),
        (WORD_PREAMBLE.replace("+0.00000000E+000", "+5.00000000E-006"), "elsewhere"),
        (WORD_PREAMBLE.replace("+1.00000000E-006", "+0.0"), "cannot be read"),
        (WORD_PREAMBLE + ",+1", "11 fields"),
        (WORD_PREAMBLE.replace("+32768", "nan"), "cannot be read"),
        ("", "cannot be read"),
    ],
)
def test_a_preamble_that_does_not_fit_is_told(preamble: str, match: str) -> None:
    asked = question(":SYST:ERR?", '+0,"No error"')  # after an empty answer
    script = (*KEYSIGHT_SET_UP, question(":WAV:PRE?", preamble), *[asked] * (not preamble))
    with expected_protocol(*script) as name, Oscilloscope(Link(name)) as scope:
        scope.apply(SETTINGS)
        with pytest.raises(InstrumentError, match=match):
            scope.read()


def test_a_block_that_disagrees_with_its_preamble_is_told() -> None:
    short = data(np.full(99, 32768, "<u2"))
    script = (*KEYSIGHT_SET_UP, question(":WAV:PRE?", WORD_PREAMBLE), short)
    with expected_protocol(*script) as name, Oscilloscope(Link(name)) as scope:
        scope.apply(SETTINGS)
        with pytest.raises(LinkError, match=r"a block of .*198.* bytes; 200 were expected"):
            scope.read()


def test_a_block_that_breaks_off_is_a_failure_of_the_link() -> None:
    whole = block(np.full(100, 32768, "<u2").tobytes())
    script = (
        *KEYSIGHT_SET_UP,
        question(":WAV:PRE?", WORD_PREAMBLE),
        (b":WAV:DATA?\n", whole[:77]),
        *KEYSIGHT,
        question("X?", "1"),
    )
    with expected_protocol(*script) as name, Oscilloscope(Link(name, timeout_s=0.4)) as scope:
        scope.apply(SETTINGS)
        with pytest.raises(LinkError):
            scope.read()
        assert scope.link.ask("X?") == "1"  # opened anew
        with pytest.raises(LinkError, match="Apply the settings again"):
            scope.read()  # it may be another record


def test_a_record_that_came_over_a_link_opened_anew_is_refused() -> None:
    """Switched off and on again meanwhile, the instrument would show anything."""
    codes = np.full(100, 32768, "<u2")
    script = (
        *KEYSIGHT_SET_UP,
        (b":WAV:PRE?\n", HANG_UP),
        *KEYSIGHT,
        question(":WAV:PRE?", WORD_PREAMBLE),
        data(codes),
    )
    with expected_protocol(*script) as name, Oscilloscope(Link(name)) as scope:
        scope.apply(SETTINGS)
        with pytest.raises(LinkError, match="Apply the settings again"):
            scope.read()


def test_a_trigger_that_never_comes_is_told_and_no_longer_awaited() -> None:
    script = (
        *KEYSIGHT_SET_UP,
        *KEYSIGHT_TAKEN[:-2],
        question(":OPER:COND?", "+8"),
        *group(":STOP"),
    )
    with expected_protocol(*script) as name, Oscilloscope(Link(name)) as scope:
        scope.apply(SETTINGS)
        scope.arm()
        with pytest.raises(InstrumentError, match=r"no trigger within .* Check the cable"):
            scope.wait(-1.0)


def test_an_oscilloscope_that_does_not_get_ready_is_told() -> None:
    script = (*KEYSIGHT_SET_UP, question(":AER?", "+1"), *group(":SING"), question(":AER?", "+0"))
    with expected_protocol(*script) as name:
        link = Link(name)
        with Oscilloscope(link) as scope:
            scope.apply(SETTINGS)
            link.timeout_s = -1.0  # impatient, once the session is open
            with pytest.raises(InstrumentError, match="did not become ready"):
                scope.arm()


def test_an_answer_of_another_make_is_told() -> None:
    script = (*KEYSIGHT_SET_UP, question(":OPER:COND?", "STOP"))
    with expected_protocol(*script) as name, Oscilloscope(Link(name)) as scope:
        scope.apply(SETTINGS)
        with pytest.raises(InstrumentError, match="Choose another dialect"):
            scope.wait(1.0)


@pytest.mark.parametrize(
    ("said", "instead", "match"),
    [
        ("+1.000E-004", "+2.000E-004", r"TIM:RANG was set to 0\.0001 but is \+2"),
        ("+2.20E+000", "+4.00E+000", r"CHAN1:RANG was set to 2\.2"),
        ("DC", "AC", r"COUP was set to DC but is AC"),
        ("WORD", "ASC", r"FORM was set to WORD"),
    ],
)
def test_a_setting_that_did_not_stay_is_told(said: str, instead: str, match: str) -> None:
    wrong = question(KEYSIGHT_ASKED, KEYSIGHT_ANSWER.replace(said, instead, 1))
    script = (*KEYSIGHT, *KEYSIGHT_APPLY, wrong)
    with expected_protocol(*script) as name, Oscilloscope(Link(name)) as scope:
        with pytest.raises(InstrumentError, match=match):
            scope.apply(SETTINGS)
        for use in (scope.arm, scope.read, scope.verify):
            with pytest.raises(InstrumentError, match="apply settings first"):
                use()


def test_a_refused_setting_is_told() -> None:
    refused = group(*_lines(KEYSIGHT_APPLY), error='-222,"Data out of range"')
    with (
        expected_protocol(*KEYSIGHT, *refused) as name,
        Oscilloscope(Link(name)) as scope,
        pytest.raises(InstrumentError, match="-222"),
    ):
        scope.apply(SETTINGS)


def _lines(script: tuple[Pair, ...]) -> list[str]:
    return script[0][0].decode().splitlines()[:-1]


@pytest.mark.parametrize(
    "change",
    [
        {"low_v": 1.1},
        {"high_v": math.nan},
        {"sample_rate_hz": 0.0},
        {"points": 0},
        {"points": 4_000_001},
        {"delay_s": math.inf},
    ],
)
def test_settings_that_make_no_sense_are_not_sent(change: dict[str, float]) -> None:
    with (
        expected_protocol(*KEYSIGHT) as name,
        Oscilloscope(Link(name)) as scope,
        pytest.raises(RangeError),
    ):
        scope.apply(replace(SETTINGS, **change))


def test_a_lost_link_while_waiting_is_mended() -> None:
    script = (
        *KEYSIGHT_SET_UP,
        *KEYSIGHT_TAKEN[:-2],
        (b":OPER:COND?\n", HANG_UP),
        *KEYSIGHT,
        question(":OPER:COND?", "+0"),
    )
    with expected_protocol(*script) as name, Oscilloscope(Link(name)) as scope:
        scope.apply(SETTINGS)
        scope.arm()
        scope.wait(1.0)
        assert scope.link.reopened == 1  # for whoever must know
        with pytest.raises(LinkError, match="Apply the settings again"):
            scope.arm()  # it may be set to anything


# --- codes to volts


def test_the_preamble_of_the_rigol_guide() -> None:
    """The guide's own example of ``:WAV:PRE?``; V = (code - origin - reference) * increment."""
    preamble = read_preamble(
        "0,2,6000000,1,1.000000e-09,-3.000000e-03,0,4.132813e-01,0,122", origin_in_volts=False
    )
    assert (preamble.code, preamble.points) == (0, 6_000_000)
    assert (preamble.step_s, preamble.start_s) == (1e-9, -3e-3)
    volts, saturated, missing = decode(
        memoryview(bytes([122, 123, 22])), RIGOL_DS1000Z.format, preamble, Scratch()
    )
    np.testing.assert_allclose(volts, [0.0, 0.4132813, -41.32813], atol=1e-5)
    assert (saturated, missing) == (0, 0)


def test_volts_that_no_number_holds_are_refused() -> None:
    with pytest.raises(ValueError, match="more volts"):
        read_preamble("0,0,10,1,1e-6,0,0,1e34,0,128", origin_in_volts=True)


def test_time_begins_at_the_reference() -> None:
    preamble = read_preamble("+1,+0,+10,+1,+1E-6,+2E-5,+5,+1E-3,+0.5,+32768", origin_in_volts=True)
    assert preamble.start_s == pytest.approx(15e-6)
    assert preamble.zero_v == pytest.approx(0.5 - 32.768)


@settings(deadline=None)  # the first call compiles
@given(arrays(np.uint8, st.integers(1, 50)))
def test_special_codes_are_counted_each_once(codes: np.ndarray) -> None:
    preamble = read_preamble("0,0,10,1,1e-6,0,0,0.01,0,128", origin_in_volts=True)
    volts, saturated, missing = decode(memoryview(codes.tobytes()), EIGHT_BITS, preamble, Scratch())
    assert missing == np.count_nonzero(codes == 0) == np.count_nonzero(np.isnan(volts))
    assert saturated == np.count_nonzero((codes == 1) | (codes == 255))


def test_a_record_is_interpolated_between_its_points_unless_its_grid_is_the_wanted_one() -> None:
    volts = np.float32([0, 2, 4, 6])
    wanted = replace(SETTINGS, points=5, delay_s=2e-6)
    np.testing.assert_allclose(resampled(volts, 1e-6, 2e-6, wanted), [1, 2, 3, 4, 5], rtol=1e-6)
    same = replace(SETTINGS, sample_rate_hz=5e5, points=4, delay_s=1e-6)
    assert resampled(volts, 1e-6, 2e-6, same) is volts
    assert resampled(volts, 1e-6 + 1e-9, 2e-6, same) is volts
    assert resampled(volts, 1e-6 + 1e-8, 2e-6, same) is not volts
