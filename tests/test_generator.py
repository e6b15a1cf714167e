"""The generator's driver, byte by byte.

Commands and answers are those of the manuals: Keysight 33500 Series, Operating and Service Guide;
Tektronix AFG3000 Series, Programmer Manual.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from protocol import HANG_UP, OK, Pair, expected_protocol, group, hello, question

from pnnlab.errors import InstrumentError, LimitError, LinkError, RangeError, ShapeError
from pnnlab.instruments.channel import Scratch
from pnnlab.instruments.dialects import KEYSIGHT_33500, TEKTRONIX_AFG3000, Encoding
from pnnlab.instruments.generator import Converter, Generator, GeneratorSettings
from pnnlab.instruments.limits import Limits
from pnnlab.instruments.link import Link

KEYSIGHT = hello("Agilent Technologies,33522B,MY52800000,3.05-1.19-2.00-52-00")
TEKTRONIX = hello("TEKTRONIX,AFG3102,C100101,SCPI:99.0 FV:1.0")
SETTINGS = GeneratorSettings(sample_rate_hz=1e6, amplitude_v=1.0)
LIMITS = Limits(-1, 1)
VOLTS = np.array([0, 1, -1, 0.5, -0.25, 0, 0, 0])

# Another encoding that it has: a dialect is data.
FLOAT32 = Encoding("SOUR{channel}:DATA:ARB PNNLAB,", "<f4", -1, 1)

ON = (*group("OUTP1 ON"), question("OUTP1?", "1"))
OFF = (*group("OUTP1 OFF"), question("OUTP1?", "0"))

KEYSIGHT_APPLY = (
    *OFF,
    *group(
        "SOUR1:VOLT:OFFS 0",
        "SOUR1:DATA:VOL:CLE",
        "SOUR1:FUNC ARB",
        "SOUR1:FUNC:ARB:FILT OFF",
        "SOUR1:FUNC:ARB:SRAT 1000000",
        "OUTP1:LOAD INF",
        "SOUR1:VOLT:UNIT VPP",
        "SOUR1:VOLT 2",
        "SOUR1:VOLT:OFFS 0",
        "SOUR1:BURS:MODE TRIG",
        "SOUR1:BURS:NCYC 1",
        "SOUR1:BURS:STAT ON",
        "TRIG1:SOUR BUS",
        "OUTP:SYNC:SOUR CH1",
        "OUTP:SYNC ON",
    ),
)
KEYSIGHT_ASKED = (
    ":SOUR1:FUNC?;:SOUR1:FUNC:ARB:FILT?;:SOUR1:FUNC:ARB:SRAT?;:OUTP1:LOAD?;:SOUR1:VOLT:UNIT?;"
    ":SOUR1:VOLT?;:SOUR1:VOLT:OFFS?;:SOUR1:BURS:MODE?;:SOUR1:BURS:NCYC?;:SOUR1:BURS:STAT?;"
    ":TRIG1:SOUR?;:OUTP:SYNC:SOUR?;:OUTP:SYNC?"
)
KEYSIGHT_ANSWER = (
    "ARB;OFF;+1.000000000000000E+06;9.9E+37;VPP;+2.0000000000000E+00;+0.0000000000000E+00;TRIG;"
    "+1.000000000000000E+00;1;BUS;CH1;1"
)
KEYSIGHT_SET_UP = (*KEYSIGHT, *KEYSIGHT_APPLY, question(KEYSIGHT_ASKED, KEYSIGHT_ANSWER))
KEYSIGHT_SELECTED = (
    question(":SOUR1:VOLT?;:SOUR1:FUNC:ARB?", '+2.0000000000000E+00;"PNNLAB"'),
    question("SOUR1:DATA:ATTR:POIN? PNNLAB", "+8"),
)
# -32767 to 32767, least significant byte first
KEYSIGHT_CODES = bytes.fromhex("0000 ff7f 0180 0040 00e0 0000 0000 0000")


def keysight_upload(data: bytes, command: str = "DATA:ARB:DAC", volt: str = "2") -> Pair:
    return (
        f"SOUR1:DATA:VOL:CLE\nFORM:BORD SWAP\nSOUR1:{command} PNNLAB,#2{len(data)}".encode()
        + data
        + f"\nSOUR1:VOLT {volt}\nSOUR1:FUNC:ARB PNNLAB\n:SYST:ERR?\n".encode(),
        OK,
    )


KEYSIGHT_LOADED = (*KEYSIGHT_SET_UP, keysight_upload(KEYSIGHT_CODES), *KEYSIGHT_SELECTED)


def test_keysight_from_the_settings_to_a_shot() -> None:
    script = (*KEYSIGHT_LOADED, *ON, *group("*TRG"), *group("*TRG"), *OFF)
    with (
        expected_protocol(*script) as name,
        Generator(Link(name), limits=LIMITS) as generator,
    ):
        generator.apply(SETTINGS)
        generator.load(VOLTS)
        generator.output(True)
        generator.trigger()
        generator.trigger()


def test_keysight_float32() -> None:
    data = bytes.fromhex("00000000 0000803f 000080bf 0000003f 000080be 00000000 00000000 00000000")
    script = (
        *KEYSIGHT_SET_UP,
        keysight_upload(data, "DATA:ARB"),
        *KEYSIGHT_SELECTED,
        *OFF,
    )
    with (
        expected_protocol(*script) as name,
        Generator(
            Link(name), replace(KEYSIGHT_33500, encoding=FLOAT32), limits=LIMITS
        ) as generator,
    ):
        generator.apply(SETTINGS)
        generator.load(VOLTS.astype(np.float32))


def test_keysight_other_channel_offset_and_load() -> None:
    asked = KEYSIGHT_ASKED.replace("SOUR1", "SOUR2").replace("OUTP1", "OUTP2")
    answer = (
        "ARB;OFF;+2.500000000000000E+05;+5.000000000000000E+01;VPP;+5.0000000000000E-01;"
        "+7.5000000000000E-01;TRIG;+1.000000000000000E+00;1;BUS;CH2;1"
    )
    off = (*group("OUTP2 OFF"), question("OUTP2?", "0"))
    script = (
        *KEYSIGHT,
        *off,
        *group(
            "SOUR2:VOLT:OFFS 0",
            "SOUR2:DATA:VOL:CLE",
            "SOUR2:FUNC ARB",
            "SOUR2:FUNC:ARB:FILT OFF",
            "SOUR2:FUNC:ARB:SRAT 250000",
            "OUTP2:LOAD 50",
            "SOUR2:VOLT:UNIT VPP",
            "SOUR2:VOLT 0.5",
            "SOUR2:VOLT:OFFS 0.75",
            "SOUR2:BURS:MODE TRIG",
            "SOUR2:BURS:NCYC 1",
            "SOUR2:BURS:STAT ON",
            "TRIG2:SOUR BUS",
            "OUTP:SYNC:SOUR CH2",
            "OUTP:SYNC ON",
        ),
        question(asked.replace("TRIG1", "TRIG2"), answer),
        (
            b"SOUR2:DATA:VOL:CLE\nFORM:BORD SWAP\nSOUR2:DATA:ARB:DAC PNNLAB,#216"
            # 0.5 V is the lowest code, 0.75 V the middle, 0.875 V half way up
            + bytes.fromhex("0180 0000 0040 0180 0180 0180 0180 0180")
            + b"\nSOUR2:VOLT 0.375003815\nSOUR2:FUNC:ARB PNNLAB\n:SYST:ERR?\n",
            OK,
        ),
        question(":SOUR2:VOLT?;:SOUR2:FUNC:ARB?", '+3.7500000000000E-01;"PNNLAB"'),
        question("SOUR2:DATA:ATTR:POIN? PNNLAB", "+8"),
        *off,
    )
    with (
        expected_protocol(*script) as name,
        Generator(Link(name), channel=2, limits=Limits(0.5, 1, rest_v=0.5)) as generator,
    ):
        generator.apply(GeneratorSettings(250e3, 0.25, offset_v=0.75, load_ohm=50))
        generator.load(np.array([0.5, 0.75, 0.875, 0.5, 0.5, 0.5, 0.5, 0.5]))


def test_tektronix_from_the_settings_to_a_shot() -> None:
    script = (
        *TEKTRONIX,
        *OFF,
        *group(
            "SOUR1:VOLT:OFFS 0",
            "SOUR1:FUNC EMEM",
            "OUTP1:IMP INF",
            "SOUR1:VOLT:UNIT VPP",
            "SOUR1:VOLT 2",
            "SOUR1:VOLT:OFFS 0",
            "SOUR1:BURS:MODE TRIG",
            "SOUR1:BURS:NCYC 1",
            "SOUR1:BURS:STAT ON",
            "TRIG:SOUR EXT",
            "OUTP:TRIG:MODE TRIG",
        ),
        question(
            ":SOUR1:FUNC?;:OUTP1:IMP?;:SOUR1:VOLT:UNIT?;:SOUR1:VOLT?;:SOUR1:VOLT:OFFS?;"
            ":SOUR1:BURS:MODE?;:SOUR1:BURS:NCYC?;:SOUR1:BURS:STAT?;:TRIG:SOUR?;:OUTP:TRIG:MODE?",
            "EMEM;9.9E+37;VPP;2.000E+00;0.000E+00;TRIG;1.000000E+00;1;EXT;TRIG",
        ),
        (
            # 0 to 16382, most significant byte first
            b"DATA EMEM,#216"
            + bytes.fromhex("1fff 3ffe 0000 2ffe 17ff 1fff 1fff 1fff")
            + b"\nSOUR1:FREQ 125000\n:SYST:ERR?\n",
            OK,
        ),
        question(":SOUR1:FREQ?", "1.250000000000E+05"),
        question("DATA:POIN? EMEM", "8"),
        *ON,
        *group("*TRG"),
        *OFF,
    )
    with (
        expected_protocol(*script) as name,
        Generator(Link(name), TEKTRONIX_AFG3000, limits=LIMITS) as generator,
    ):
        generator.apply(SETTINGS)
        generator.load(VOLTS)
        generator.output(True)
        generator.trigger()


def test_a_waveform_that_uses_part_of_the_span_has_an_amplitude_of_its_own() -> None:
    """A 33500 stretches points from 0 to 0.25 to its amplitude, were it not set to a fourth."""
    data = bytes.fromhex("0000 0020 0000 0000 0000 0000 0000 0000")  # 8192 of 32767
    script = (
        *KEYSIGHT_SET_UP,
        keysight_upload(data, volt="0.25000763"),
        question(":SOUR1:VOLT?;:SOUR1:FUNC:ARB?", '+2.5000000000000E-01;"PNNLAB"'),
        question("SOUR1:DATA:ATTR:POIN? PNNLAB", "+8"),
        question(
            KEYSIGHT_ASKED, KEYSIGHT_ANSWER.replace("+2.0000000000000E+00", "+2.5000000000000E-01")
        ),
        question("OUTP1?", "0"),
        question(":SOUR1:VOLT?;:SOUR1:FUNC:ARB?", '+2.5000000000000E-01;"PNNLAB"'),
        question("SOUR1:DATA:ATTR:POIN? PNNLAB", "+8"),
        *OFF,
    )
    with expected_protocol(*script) as name, Generator(Link(name), limits=LIMITS) as generator:
        generator.apply(SETTINGS)
        generator.load(np.array([0, 0.25, 0, 0, 0, 0, 0, 0]))
        generator.verify()


REFUSED: Sequence[tuple[np.ndarray, type[Exception], str]] = [
    (np.where(VOLTS == 1, math.nan, VOLTS), LimitError, "NaN or infinite"),
    (VOLTS * 1.001, LimitError, "permitted are -1 to 1 V"),
    (VOLTS * 0.9, LimitError, "converter from -0.5"),
    (VOLTS[:7] / 2, RangeError, "7 samples; Keysight 33500/33600 takes 8 to 1000000"),
    (np.zeros(1_000_001), RangeError, "1000001 samples"),
    (np.zeros(8), RangeError, "varies by 0 V"),
    (VOLTS[None] / 2, ShapeError, "samples"),
    (VOLTS.astype(np.int64), ShapeError, "int64"),
]


@pytest.mark.parametrize(("volts", "error", "match"), REFUSED, ids=lambda v: str(v)[:20])
def test_what_must_not_be_sent_is_not(
    volts: np.ndarray, error: type[Exception], match: str
) -> None:
    answer = KEYSIGHT_ANSWER.replace("+2.0000000000000E+00", "+1.0000000000000E+00")
    apply = tuple((a.replace(b"VOLT 2", b"VOLT 1"), b) for a, b in KEYSIGHT_APPLY)
    script = (*KEYSIGHT, *apply, question(KEYSIGHT_ASKED, answer), *OFF)
    with expected_protocol(*script) as name, Generator(Link(name), limits=LIMITS) as generator:
        generator.apply(GeneratorSettings(1e6, 0.5))
        with pytest.raises(error, match=match):
            generator.load(volts)
        with pytest.raises(InstrumentError, match="load one first"):
            generator.trigger()


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        (GeneratorSettings(1e6, 1.01), LimitError),
        (GeneratorSettings(1e6, 0.5, offset_v=0.6), LimitError),
        (GeneratorSettings(1e6, math.nan), RangeError),
        (GeneratorSettings(1e6, 0.0), RangeError),
        (GeneratorSettings(0.0, 1.0), RangeError),
        (GeneratorSettings(math.inf, 1.0), RangeError),
        (GeneratorSettings(1e6, 1.0, offset_v=math.nan), LimitError),
        (GeneratorSettings(1e6, 1.0, load_ohm=-50), RangeError),
    ],
)
def test_settings_that_make_no_sense_are_not_sent(
    settings: GeneratorSettings, error: type[Exception]
) -> None:
    with (
        expected_protocol(*KEYSIGHT, *OFF) as name,
        Generator(Link(name), limits=LIMITS) as generator,
    ):
        with pytest.raises(error):
            generator.apply(settings)
        with pytest.raises(InstrumentError, match="apply settings first"):
            generator.load(VOLTS)
        with pytest.raises(InstrumentError, match="apply settings first"):
            generator.output(True)


@pytest.mark.parametrize(
    ("said", "instead", "match"),
    [
        ("+1.000000000000000E+06", "+6.250000000000000E+05", r"SRAT was set to 1000000 but is"),
        ("9.9E+37", "+5.000000000000000E+01", r"LOAD was set to INF but is \+5"),
        ("ARB", "SIN", r"FUNC was set to ARB but is SIN"),
        ("TRIG", "GAT", r"BURS:MODE was set to TRIG but is GAT"),
        (";1;BUS", ";0;BUS", r"BURS:STAT was set to ON but is 0"),
        (";1;BUS", ";BUS", r"gave 12 answers"),
    ],
)
def test_a_setting_that_did_not_stay_is_told(said: str, instead: str, match: str) -> None:
    wrong = KEYSIGHT_ANSWER.replace(said, instead, 1)
    script = (*KEYSIGHT, *KEYSIGHT_APPLY, question(KEYSIGHT_ASKED, wrong), *OFF)
    with expected_protocol(*script) as name, Generator(Link(name), limits=LIMITS) as generator:
        with pytest.raises(InstrumentError, match=match):
            generator.apply(SETTINGS)
        with pytest.raises(InstrumentError, match="apply settings first"):
            generator.load(VOLTS)


@pytest.mark.parametrize(
    ("selected", "points", "match"),
    [
        ('+2.0000000000000E+00;"INT:\\BUILTIN\\EXP_RISE.ARB"', None, "FUNC:ARB was set to PNNLAB"),
        ('+2.0000000000000E+00;"PNNLAB"', "+7", "has .7 points; 8 were sent"),
    ],
)
def test_a_waveform_that_did_not_arrive_is_told(
    selected: str, points: str | None, match: str
) -> None:
    asked = [question(":SOUR1:VOLT?;:SOUR1:FUNC:ARB?", selected)]
    if points is not None:
        asked.append(question("SOUR1:DATA:ATTR:POIN? PNNLAB", points))
    script = (*KEYSIGHT_SET_UP, keysight_upload(KEYSIGHT_CODES), *asked, *OFF)
    with expected_protocol(*script) as name, Generator(Link(name), limits=LIMITS) as generator:
        generator.apply(SETTINGS)
        with pytest.raises(InstrumentError, match=match):
            generator.load(VOLTS)
        with pytest.raises(InstrumentError, match="load one first"):
            generator.trigger()


def test_an_output_that_stays_off_is_told() -> None:
    script = (*KEYSIGHT_SET_UP, *group("OUTP1 ON"), question("OUTP1?", "0"), *OFF)
    with expected_protocol(*script) as name, Generator(Link(name), limits=LIMITS) as generator:
        generator.apply(SETTINGS)
        with pytest.raises(InstrumentError, match="switched ON but is 0"):
            generator.output(True)


@pytest.mark.parametrize(
    "use",
    [Generator.trigger, lambda g: g.output(True), lambda g: g.load(VOLTS), Generator.verify],
    ids=["trigger", "output", "load", "verify"],
)
def test_nothing_goes_on_after_a_lost_link(use: Callable[[Generator], None]) -> None:
    """The instrument may have been switched off and on again: who knows what it would play."""
    script = (
        *KEYSIGHT_LOADED,
        (b"*TRG\n:SYST:ERR?\n", HANG_UP),
        *KEYSIGHT,
        question("SOUR1:FUNC?", "SIN"),
        *OFF,
    )
    with (
        expected_protocol(*script) as name,
        Generator(Link(name, timeout_s=0.4), limits=LIMITS) as generator,
    ):
        generator.apply(SETTINGS)
        generator.load(VOLTS)
        with pytest.raises(LinkError):
            generator.trigger()
        assert generator.link.ask("SOUR1:FUNC?") == "SIN"  # opened anew
        with pytest.raises(LinkError, match="Apply the settings again"):
            use(generator)


def test_the_output_goes_off_after_an_exception_even_over_a_lost_link() -> None:
    script = (
        *KEYSIGHT_LOADED,
        *ON,
        (b"OUTP1 OFF\n:SYST:ERR?\n", HANG_UP),
        *KEYSIGHT,
        *OFF,
    )

    def shoot(name: str) -> None:
        with Generator(Link(name, timeout_s=0.4), limits=LIMITS) as generator:
            generator.apply(SETTINGS)
            generator.load(VOLTS)
            generator.output(True)
            raise ZeroDivisionError

    with expected_protocol(*script) as name, pytest.raises(ZeroDivisionError):
        shoot(name)


def test_an_output_that_cannot_be_switched_off_is_not_passed_over() -> None:
    lost = (b"OUTP1 OFF\n:SYST:ERR?\n", HANG_UP)
    script = (*KEYSIGHT, lost, *KEYSIGHT, lost, *KEYSIGHT, lost)
    with expected_protocol(*script) as name:
        generator = Generator(Link(name, timeout_s=0.4), limits=LIMITS)
        with pytest.raises(LinkError):
            generator.close()


# --- volts to codes

ENCODINGS = [KEYSIGHT_33500.encoding, FLOAT32, TEKTRONIX_AFG3000.encoding]


@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda e: e.header)
@settings(deadline=None)  # the first call compiles
@given(
    arrays(np.float64, st.integers(1, 30), elements=st.floats(-1, 1)),
    st.floats(-5, 5),
    st.floats(1e-3, 10),
)
def test_codes_mean_the_volts_they_were_made_from(
    encoding: Encoding, fractions: np.ndarray, centre_v: float, amplitude_v: float
) -> None:
    volts = centre_v + amplitude_v * fractions
    converter = Converter(encoding, centre_v, amplitude_v)
    codes = converter.encode(volts, Scratch())
    assert codes.dtype == np.dtype(encoding.dtype)
    sent = converter.decode(codes)
    rounding = 1e-6 * amplitude_v + 1e-12 * abs(centre_v)
    assert np.abs(sent - volts).max() <= 0.5 * converter.step_v + rounding


@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda e: e.header)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_ends_of_the_span_are_the_ends_of_the_codes(
    encoding: Encoding, dtype: type[np.floating]
) -> None:
    codes = Converter(encoding, 0.1, 0.2).encode(np.array([-0.1, 0.1, 0.3], dtype), Scratch())
    assert codes.tolist() == pytest.approx(
        [encoding.lowest, (encoding.lowest + encoding.highest) / 2, encoding.highest], abs=1e-6
    )


def test_the_codes_of_the_manuals() -> None:
    """33500: -32767 to 32767, here low byte first; AFG3000: 0 to 16382, high byte first."""
    volts = np.array([-1.0, 0.0, 1.0])
    keysight, tektronix = KEYSIGHT_33500.encoding, TEKTRONIX_AFG3000.encoding
    assert (
        Converter(keysight, 0.0, 1.0).encode(volts, Scratch()).tobytes()
        == b"\x01\x80\x00\x00\xff\x7f"
    )
    assert (
        Converter(tektronix, 0.0, 1.0).encode(volts, Scratch()).tobytes()
        == b"\x00\x00\x1f\xff\x3f\xfe"
    )
