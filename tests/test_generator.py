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
from pnnlab.instruments.dialects import KEYSIGHT_33500, TEKTRONIX_AFG3000, Encoding, Scratch
from pnnlab.instruments.generator import Generator, Limits, TakenError, decode, encode
from pnnlab.instruments.link import Link
from pnnlab.instruments.shutdown import TripError

KEYSIGHT = hello("Agilent Technologies,33522B,MY52800000,3.05-1.19-2.00-52-00")
TEKTRONIX = hello("TEKTRONIX,AFG3102,C100101,SCPI:99.0 FV:1.0")
SETTINGS = (1e6, 1.0)
LIMITS = Limits(-1, 1)
VOLTS = np.array([0, 1, -1, 0.5, -0.25, 0, 0, 0])

# Another encoding that it has: a dialect is data.
FLOAT32 = Encoding("SOUR{channel}:DATA:ARB {arb},", "<f4", -1, 1, 32767)

ON = (*group("OUTP1 ON"), question("OUTP1?", "1"))
OFF = (*group("OUTP1 OFF"), question("OUTP1?", "0"))
CLOSED = (*OFF, *group('DISP:TEXT ""'))
ME = "pnnlab 7 on lab"


@pytest.fixture(autouse=True)
def _named(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the generator of each test calls itself and its uploads."""
    monkeypatch.setattr("os.getpid", lambda: 7)
    monkeypatch.setattr("socket.gethostname", lambda: "lab")
    monkeypatch.setattr("secrets.token_hex", lambda _: "0a0b0c")


KEYSIGHT_APPLY = (
    *OFF,
    *group(f'DISP:TEXT "{ME}"'),
    *group(
        "OUTP1:LOAD INF",
        "SOUR1:VOLT:UNIT VPP",
        "SOUR1:VOLT:OFFS 0",
        "SOUR1:VOLT 0.002",
        "SOUR1:DATA:VOL:CLE",
        "SOUR1:FUNC ARB",
        "SOUR1:FUNC:ARB:FILT OFF",
        "SOUR1:FUNC:ARB:ADV SRAT",
        "SOUR1:FUNC:ARB:SRAT 1000000",
        "OUTP1:LOAD INF",
        "OUTP1:POL NORM",
        "OUTP1:MODE NORM",
        "SOUR1:VOLT:UNIT VPP",
        "SOUR1:VOLT:OFFS 0",
        "SOUR1:BURS:MODE TRIG",
        "SOUR1:BURS:NCYC 1",
        "SOUR1:BURS:PHAS 0",
        "SOUR1:BURS:STAT ON",
        "TRIG1:SOUR BUS",
        "TRIG1:DEL 0",
        "OUTP:SYNC:SOUR CH1",
        "OUTP:SYNC ON",
    ),
)
KEYSIGHT_ASKED = (
    ":SOUR1:FUNC?;:SOUR1:FUNC:ARB:FILT?;:SOUR1:FUNC:ARB:ADV?;:SOUR1:FUNC:ARB:SRAT?;:OUTP1:LOAD?;"
    ":OUTP1:POL?;:OUTP1:MODE?;:SOUR1:VOLT:UNIT?;:SOUR1:VOLT:OFFS?;:SOUR1:BURS:MODE?;"
    ":SOUR1:BURS:NCYC?;:SOUR1:BURS:PHAS?;:SOUR1:BURS:STAT?;:TRIG1:SOUR?;:TRIG1:DEL?;"
    ":OUTP:SYNC:SOUR?;:OUTP:SYNC?"
)
KEYSIGHT_ANSWER = (
    "ARB;OFF;SRAT;+1.000000000000000E+06;9.9E+37;NORM;NORM;VPP;+0.0000000000000E+00;TRIG;"
    "+1.000000000000000E+00;+0.0E+00;1;BUS;+0.0E+00;CH1;1"
)
KEYSIGHT_SET_UP = (*KEYSIGHT, *KEYSIGHT_APPLY, question(KEYSIGHT_ASKED, KEYSIGHT_ANSWER))
# -32767 to 32767, least significant byte first
KEYSIGHT_CODES = bytes.fromhex("0000 ff7f 0180 0040 00e0 0000 0000 0000")


def keysight_upload(
    data: bytes,
    command: str = "DATA:ARB:DAC",
    *,
    number: int = 1,
    lesser: str = "0.002",
    volt: str = "1.99999999",
) -> tuple[Pair, ...]:
    name = f"P0A0B0CN{number}"
    return (
        (
            f"FORM:BORD SWAP\nSOUR1:{command} {name},#2{len(data)}".encode()
            + data
            + f"\nSOUR1:VOLT {lesser}\nSOUR1:FUNC:ARB {name}\n:SYST:ERR?\n".encode(),
            OK,
        ),
        *group(f"SOUR1:VOLT {volt}"),
    )


def keysight_verified(
    *,
    on: bool = False,
    number: int = 1,
    volt: str = "+1.9999999900000E+00",
    points: str = "+8",
    client: str = ME,
    settings: str = KEYSIGHT_ANSWER,
    arb: str = "",
) -> Pair:
    """The question after an upload and after a record, and its answer."""
    name = f"P0A0B0CN{number}"
    return question(
        f"{KEYSIGHT_ASKED};:SOUR1:FUNC:ARB?;:SOUR1:VOLT?;:DISP:TEXT?;:OUTP1?;"
        f":SOUR1:DATA:ATTR:POIN? {name}",
        f'{settings};"{arb or name}";{volt};"{client}";{int(on)};{points}',
    )


KEYSIGHT_LOADED = (*KEYSIGHT_SET_UP, *keysight_upload(KEYSIGHT_CODES), keysight_verified())


def test_keysight_from_the_settings_to_a_shot() -> None:
    script = (
        *(*KEYSIGHT_LOADED, *ON, *group("*TRG"), *group("*TRG")),
        *(keysight_verified(on=True), *CLOSED),
    )
    with (
        expected_protocol(*script) as name,
        Generator(Link(name), limits=LIMITS) as generator,
    ):
        generator.apply(*SETTINGS)
        generator.load(VOLTS)
        generator.output(True)
        generator.trigger()
        generator.trigger()
        generator.verify()


def test_keysight_float32() -> None:
    """Each sample is one that its converter has: what the instrument rounds, it stretches."""
    steps = np.array([0, 32767, -32767, 16384, -8192, 0, 0, 0])
    data = (steps / 32767).astype("<f4").tobytes()
    script = (
        *KEYSIGHT_SET_UP,
        *keysight_upload(data, "DATA:ARB"),
        keysight_verified(),
        *CLOSED,
    )
    with (
        expected_protocol(*script) as name,
        Generator(
            Link(name), replace(KEYSIGHT_33500, encoding=FLOAT32), limits=LIMITS
        ) as generator,
    ):
        generator.apply(*SETTINGS)
        generator.load(VOLTS.astype(np.float32))


def test_tektronix_from_the_settings_to_a_shot() -> None:
    asked = (
        ":SOUR1:FUNC?;:OUTP1:IMP?;:OUTP1:POL?;:SOUR1:VOLT:UNIT?;:SOUR1:VOLT?;:SOUR1:VOLT:OFFS?;"
        ":SOUR1:PHAS?;:SOUR1:BURS:MODE?;:SOUR1:BURS:NCYC?;:SOUR1:BURS:TDEL?;:SOUR1:BURS:STAT?;"
        ":TRIG:SOUR?;:OUTP:TRIG:MODE?"
    )
    answer = (
        "EMEM;9.9E+37;NORM;VPP;2.000E+00;0.000E+00;0.0E+00;TRIG;1.000000E+00;0.0E+00;1;EXT;TRIG"
    )
    script = (
        *TEKTRONIX,
        *OFF,
        *group(f'DISP:TEXT "{ME}"'),
        *group(
            "SOUR1:VOLT:OFFS 0",
            "SOUR1:FUNC EMEM",
            "OUTP1:IMP INF",
            "OUTP1:POL NORM",
            "SOUR1:VOLT:UNIT VPP",
            "SOUR1:VOLT 2",
            "SOUR1:VOLT:OFFS 0",
            "SOUR1:PHAS 0",
            "SOUR1:BURS:MODE TRIG",
            "SOUR1:BURS:NCYC 1",
            "SOUR1:BURS:TDEL 0",
            "SOUR1:BURS:STAT ON",
            "TRIG:SOUR EXT",
            "OUTP:TRIG:MODE TRIG",
        ),
        question(asked, answer),
        (
            # 0 to 16382, most significant byte first
            b"DATA EMEM,#216"
            + bytes.fromhex("1fff 3ffe 0000 2fff 17ff 1fff 1fff 1fff")
            + b"\n:SYST:ERR?\n",
            OK,
        ),
        *group("SOUR1:FREQ 125000"),
        question(
            f"{asked};:SOUR1:FREQ?;:DISP:TEXT?;:OUTP1?;:DATA:POIN? EMEM",
            f'{answer};1.250000000000E+05;"{ME}";0;8',
        ),
        *ON,
        *group("*TRG"),
        *CLOSED,
    )
    with (
        expected_protocol(*script) as name,
        Generator(Link(name), TEKTRONIX_AFG3000, limits=LIMITS) as generator,
    ):
        generator.apply(*SETTINGS)
        generator.load(VOLTS)
        generator.output(True)
        generator.trigger()


def test_a_waveform_that_uses_part_of_the_span_has_an_amplitude_of_its_own() -> None:
    """A 33500 stretches points from 0 to 0.25 to its amplitude, were it not set to a fourth.

    The lesser amplitude comes first: neither waveform is ever stretched beyond its own.
    """
    data = bytes.fromhex("0000 0020 0000 0000 0000 0000 0000 0000")  # 8192 of 32767
    script = (
        *KEYSIGHT_LOADED,
        *keysight_upload(data, number=2, lesser="0.250007628", volt="0.250007628"),
        keysight_verified(number=2, volt="+2.5000762800000E-01"),
        *keysight_upload(KEYSIGHT_CODES, number=3, lesser="0.250007628"),
        keysight_verified(number=3),
        *CLOSED,
    )
    with expected_protocol(*script) as name, Generator(Link(name), limits=LIMITS) as generator:
        generator.apply(*SETTINGS)
        generator.load(VOLTS)
        generator.load(np.array([0, 0.25, 0, 0, 0, 0, 0, 0]))
        generator.load(VOLTS)


def test_a_full_memory_is_emptied_at_the_least_amplitude() -> None:
    """What is selected then rests at its lowest point."""
    (sent, ok), *rest = keysight_upload(KEYSIGHT_CODES, number=2)
    emptied = b"SOUR1:VOLT 0.002\nSOUR1:DATA:VOL:CLE\n" + sent
    script = (*KEYSIGHT_LOADED, (emptied, ok), *rest, keysight_verified(number=2), *CLOSED)
    dialect = replace(KEYSIGHT_33500, most_points=15)
    with (
        expected_protocol(*script) as name,
        Generator(Link(name), dialect, limits=LIMITS) as generator,
    ):
        generator.apply(*SETTINGS)
        generator.load(VOLTS)
        generator.load(VOLTS)


@pytest.mark.parametrize("volt", ["+2.0010000000000E+00", "+1.9990000000000E+00"])
def test_an_amplitude_that_the_instrument_rounds_must_be_within_the_limits_too(volt: str) -> None:
    script = (
        *(*KEYSIGHT_SET_UP, *keysight_upload(KEYSIGHT_CODES), keysight_verified(volt=volt)),
        *CLOSED,
    )
    with expected_protocol(*script) as name, Generator(Link(name), limits=LIMITS) as generator:
        generator.apply(*SETTINGS)
        if volt < "+2":
            generator.load(VOLTS)
            return
        with pytest.raises(LimitError, match="permitted are -1 to 1"):
            generator.load(VOLTS)
        with pytest.raises(InstrumentError, match="load one first"):
            generator.trigger()


@pytest.mark.parametrize(
    ("said", "error", "match"),
    [
        (keysight_verified(), TripError, "switched ON but is 0"),
        (keysight_verified(on=True, client="pnnlab 8 on hall"), TakenError, "used by 8 on hall"),
        (
            keysight_verified(on=True, settings=KEYSIGHT_ANSWER.replace("VPP;+0.0", "VPP;+5.0")),
            InstrumentError,
            "VOLT:OFFS was set to 0 but is",
        ),
        (
            keysight_verified(on=True, arb="P777777N3"),
            InstrumentError,
            "FUNC:ARB was set to P0A0B0CN1 but is",
        ),
        (keysight_verified(on=True, volt="+2.08E+00"), InstrumentError, "VOLT was set to"),
        (keysight_verified(on=True, points="+7"), InstrumentError, "has .7 points; 8 were sent"),
    ],
)
def test_what_was_changed_meanwhile_is_told(said: Pair, error: type[Exception], match: str) -> None:
    script = (*KEYSIGHT_LOADED, *ON, said, *CLOSED)
    with expected_protocol(*script) as name, Generator(Link(name), limits=LIMITS) as generator:
        generator.apply(*SETTINGS)
        generator.load(VOLTS)
        generator.output(True)
        with pytest.raises(error, match=match):
            generator.verify()


def test_a_generator_that_somebody_uses_is_not_claimed() -> None:
    gone = "pnnlab 4194305 on lab"  # more than the numbers of processes here
    script = (
        *KEYSIGHT,
        *(question("DISP:TEXT?", f'"{text}"') for text in ("", "do not touch", ME, gone)),
        question("DISP:TEXT?", '"pnnlab 4194305 on hall"'),
        *OFF,
    )
    with expected_protocol(*script) as name, Generator(Link(name), limits=LIMITS) as generator:
        for _ in range(4):
            generator.claim()
        with pytest.raises(TakenError, match=r"used by 4194305 on hall.*take_over=True"):
            generator.claim()


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
    script = (*KEYSIGHT_SET_UP, *CLOSED)
    with expected_protocol(*script) as name, Generator(Link(name), limits=LIMITS) as generator:
        generator.apply(1e6, 0.5)
        with pytest.raises(error, match=match):
            generator.load(volts)
        with pytest.raises(InstrumentError, match="load one first"):
            generator.trigger()


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ((1e6, 1.01), LimitError),
        ((1e6, math.nan), RangeError),
        ((1e6, 0.0), RangeError),
        ((0.0, 1.0), RangeError),
        ((math.inf, 1.0), RangeError),
    ],
)
def test_settings_that_make_no_sense_are_not_sent(
    settings: tuple[float, float], error: type[Exception]
) -> None:
    with (
        expected_protocol(*KEYSIGHT, *OFF) as name,
        Generator(Link(name), limits=LIMITS) as generator,
    ):
        with pytest.raises(error):
            generator.apply(*settings)
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
        ("1;BUS", "0;BUS", r"BURS:STAT was set to ON but is 0"),
        ("1;BUS", "BUS", r"gave 16 answers"),
    ],
)
def test_a_setting_that_did_not_stay_is_told(said: str, instead: str, match: str) -> None:
    wrong = KEYSIGHT_ANSWER.replace(said, instead, 1)
    script = (*KEYSIGHT, *KEYSIGHT_APPLY, question(KEYSIGHT_ASKED, wrong), *OFF)
    with expected_protocol(*script) as name, Generator(Link(name), limits=LIMITS) as generator:
        with pytest.raises(InstrumentError, match=match):
            generator.apply(*SETTINGS)
        with pytest.raises(InstrumentError, match="apply settings first"):
            generator.load(VOLTS)


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
        *CLOSED,
    )
    with (
        expected_protocol(*script) as name,
        Generator(Link(name, timeout_s=0.4), limits=LIMITS) as generator,
    ):
        generator.apply(*SETTINGS)
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
        *CLOSED,
    )

    def shoot(name: str) -> None:
        with Generator(Link(name, timeout_s=0.4), limits=LIMITS) as generator:
            generator.apply(*SETTINGS)
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
    st.floats(1e-3, 10),
)
def test_codes_mean_the_volts_they_were_made_from(
    encoding: Encoding, fractions: np.ndarray, amplitude_v: float
) -> None:
    volts = amplitude_v * fractions
    codes = encode(encoding, amplitude_v, volts, Scratch())
    assert codes.dtype == np.dtype(encoding.dtype)
    sent = decode(encoding, amplitude_v, codes)
    rounding = 1e-6 * amplitude_v
    assert np.abs(sent - volts).max() <= 0.5 * amplitude_v / encoding.half + rounding


@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda e: e.header)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_ends_of_the_span_are_the_ends_of_the_codes(
    encoding: Encoding, dtype: type[np.floating]
) -> None:
    codes = encode(encoding, 0.2, np.array([-0.2, 0.0, 0.2], dtype), Scratch())
    assert codes.tolist() == pytest.approx(
        [encoding.lowest, (encoding.lowest + encoding.highest) / 2, encoding.highest], abs=1e-6
    )


def test_the_codes_of_the_manuals() -> None:
    """33500: -32767 to 32767, here low byte first; AFG3000: 0 to 16382, high byte first."""
    volts = np.array([-1.0, 0.0, 1.0])
    keysight, tektronix = KEYSIGHT_33500.encoding, TEKTRONIX_AFG3000.encoding
    assert encode(keysight, 1.0, volts, Scratch()).tobytes() == b"\x01\x80\x00\x00\xff\x7f"
    assert encode(tektronix, 1.0, volts, Scratch()).tobytes() == b"\x00\x00\x1f\xff\x3f\xfe"
