"""The virtual generators: what they take, what they refuse, what they put out."""

import math

import numpy as np
import pytest
from malformed_messages import answered, errors

from pnnlab.virtual_bench.generator_models import Afg3000, Keysight33500
from pnnlab.virtual_bench.generators import Emission, SimulatedGenerator

POINTS = np.array([0.0, 0.25, 0.5, 1.0, 0.5, 0.25, 0.0, 0.0])


def ask(generator: SimulatedGenerator, text: str) -> str:
    return answered(generator, f"{text}\n".encode(), []).decode().rstrip("\n")


def codes(generator: SimulatedGenerator) -> list[int]:
    return [int(error.split(",")[0]) for error in errors(generator)]


def block(data: bytes) -> bytes:
    return f"#{len(str(len(data)))}{len(data)}".encode() + data


def emitted(generator: SimulatedGenerator, channel: int = 1) -> Emission:
    emission = generator.emission(channel)
    assert emission is not None
    return emission


@pytest.fixture
def keysight() -> Keysight33500:
    return Keysight33500()


@pytest.fixture
def tektronix() -> Afg3000:
    return Afg3000()


# --- Keysight ---


@pytest.mark.parametrize(
    ("order", "dac", "kind"),
    [
        ("SWAP", True, "<i2"),
        ("NORM", True, ">i2"),
        ("SWAP", False, "<f4"),
        ("NORM", False, ">f4"),
    ],
)
def test_keysight_takes_points_in_either_form_and_order(
    keysight: Keysight33500, order: str, dac: bool, kind: str
) -> None:
    points = np.round(POINTS * 32767) if dac else POINTS
    header = f"FORM:BORD {order};:SOUR2:DATA:ARB{':DAC' if dac else ''} saw,".encode()
    answered(keysight, header + block(points.astype(kind).tobytes()) + b"\n", [])
    assert ask(keysight, "SOUR2:DATA:ATTR:POIN? saw;PTP? saw") == "+8;+1.000000000000000E+00"
    assert codes(keysight) == []
    np.testing.assert_allclose(keysight.memory(2, "SAW").points, POINTS, atol=1 / 32767)


def test_keysight_takes_points_that_are_written_out(keysight: Keysight33500) -> None:
    ask(keysight, "DATA:ARB saw, " + ", ".join(map(str, POINTS)))
    ask(keysight, "DATA:ARB:DAC saw2, " + ", ".join(f"{32767 * point:.0f}" for point in POINTS))
    assert codes(keysight) == []
    np.testing.assert_array_equal(
        keysight.memory(1, "saw").points, keysight.memory(1, "saw2").points
    )


def test_keysight_refuses_waveforms(keysight: Keysight33500) -> None:
    ask(keysight, "FORM:BORD SWAP")
    for data in (POINTS[:7], 1.01 * POINTS, np.full(8, np.nan), np.full(8, np.inf)):
        answered(keysight, b"DATA:ARB x," + block(data.astype("<f4").tobytes()) + b"\n", [])
        assert codes(keysight) == [-222]
    answered(keysight, b"DATA:ARB x," + block(b"123") + b"\n", [])
    assert codes(keysight) == [-161]
    ask(keysight, "FUNC:ARB x")
    assert codes(keysight) == [785]
    half = b"DATA:ARB:DAC %s," + block(bytes(2 * 600_000)) + b"\n"
    answered(keysight, half % b"x" + half % b"x" + half % b"y", [])
    assert codes(keysight) == [786, 781]
    assert ask(keysight, "DATA:VOL:FREE?;CAT?") == '+400000;"EXP_RISE","X"'
    assert ask(keysight, "DATA:VOL:CLE;FREE?;:FUNC:ARB?") == '+1000000;"EXP_RISE"'


def prepared(keysight: Keysight33500, points: np.ndarray) -> None:
    answered(
        keysight,
        b"FORM:BORD SWAP;:DATA:VOL:CLE;:DATA:ARB x,"
        + block(points.astype("<f4").tobytes())
        + b";:FUNC:ARB x;:FUNC ARB;:FUNC:ARB:SRAT 2e6;:BURS:STAT ON;:OUTP:LOAD INF;:OUTP ON\n",
        [],
    )


def test_keysight_amplitude_is_that_of_the_points(keysight: Keysight33500) -> None:
    prepared(keysight, POINTS)
    ask(keysight, "VOLT 3;VOLT:OFFS 0.5")
    assert codes(keysight) == []
    emission = emitted(keysight)
    np.testing.assert_allclose(emission.volts, 0.5 + 3 * POINTS, atol=1e-4)
    assert (emission.rate_hz, emission.cycles, emission.seconds) == (2e6, 1, 4e-6)
    assert ask(keysight, "VOLT:LOW?;HIGH?") == "-1.000000000000000E+00;+2.000000000000000E+00"


def test_keysight_limits_the_amplitude_with_the_points(keysight: Keysight33500) -> None:
    prepared(keysight, POINTS)  # half the range: 10 V at most into an open circuit
    assert float(ask(keysight, "VOLT? MAX")) == pytest.approx(10)
    ask(keysight, "VOLT 10.1")
    assert codes(keysight) == [-222]
    ask(keysight, "VOLT 8;VOLT:OFFS 4")
    assert codes(keysight) == [-221]
    ask(keysight, "FUNC SIN;VOLT 20;FUNC ARB")
    assert codes(keysight) == [-221]
    assert ask(keysight, "FUNC?") == "SIN"
    ask(keysight, "VOLT:HIGH -11")
    assert codes(keysight) == [-222]
    before = ask(keysight, "VOLT?;:VOLT:OFFS?;:FUNC:ARB?")
    ask(keysight, "VOLT:LOW 10;LOW 10;:FUNC:ARB none")
    assert codes(keysight) == [-221, -221, 785]
    assert (
        ask(keysight, "VOLT?;:VOLT:OFFS?;:FUNC:ARB?") == before
    )  # what is refused changes nothing


def test_a_load_changes_what_volts_are_called_and_not_what_they_are(
    keysight: Keysight33500,
) -> None:
    prepared(keysight, 2 * POINTS - 1)
    ask(keysight, "OUTP:LOAD 50;:VOLT 1")
    assert np.ptp(emitted(keysight).volts) == pytest.approx(2)
    ask(keysight, "OUTP:LOAD INF")
    assert float(ask(keysight, "VOLT?")) == pytest.approx(2)
    assert ask(keysight, "OUTP:LOAD?") == "+9.9E+37"


def test_the_sample_rate_depends_on_the_filter(keysight: Keysight33500) -> None:
    ask(keysight, "FUNC:ARB:SRAT 200e6")
    assert codes(keysight) == []
    ask(keysight, "FUNC:ARB:FILT OFF;:FUNC:ARB:SRAT 200e6")
    assert codes(keysight) == [-222]


def test_it_plays_when_it_is_asked_and_waits(keysight: Keysight33500) -> None:
    played: list[tuple[int, bool, bool]] = []
    keysight.on_trigger = lambda channel, emission, synced: played.append(
        (channel, emission is not None, synced)
    )
    ask(keysight, "*TRG;:BURS:STAT ON;*TRG")  # it plays all the time, then on a clock of its own
    assert (codes(keysight), played) == ([-211, -211], [])
    ask(keysight, "TRIG:SOUR BUS;*TRG;:OUTP ON;*TRG;:OUTP:SYNC OFF;*TRG;:TRIG1")
    assert played == [(1, False, True), (1, True, True), (1, True, False), (1, True, False)]
    assert codes(keysight) == []


# --- Tektronix ---


def test_tektronix_amplitude_is_that_of_all_codes(tektronix: Afg3000) -> None:
    data = np.array([0, 8191, 16382, 12286, 8191], ">u2")
    answered(tektronix, b"TRAC EMEM," + block(data.tobytes()) + b"\n", [])
    ask(tektronix, "FUNC EMEM;FREQ 2e5;VOLT 2;VOLT:OFFS 1;:OUTP:STAT ON")
    assert codes(tektronix) == []
    emission = emitted(tektronix)
    np.testing.assert_allclose(emission.volts, 2 * np.array([0, 1, 2, 1.5, 1]), atol=3e-4)
    assert emission.rate_hz == pytest.approx(1e6)
    assert math.isinf(emission.seconds)
    assert ask(tektronix, "DATA:POIN? EMEM") == "5"
    assert answered(tektronix, b"DATA? EMEM\n", []) == block(data.tobytes()) + b"\n"


def test_tektronix_refuses(tektronix: Afg3000) -> None:
    answered(tektronix, b"DATA EMEM,#12ab\nDATA EMEM,#13abc\nDATA USER1,#14abcd\n", [])
    assert codes(tektronix) == [-222, -161, -224]
    ask(tektronix, "DATA EMEM,12;:FUNC USER1;:FUNC EMEM;FREQ 20e6")
    assert codes(tektronix) == [-104]
    ask(tektronix, "FUNC USER1;FUNC EMEM;FREQ 20e6;:VOLT 6;:VOLT:OFFS 2.1;:DATA:DEL USER1")
    assert codes(tektronix) == [-221, -221, -221, -113]


def test_tektronix_memories_are_copied_and_listed(tektronix: Afg3000) -> None:
    sent = b"DATA EMEM," + block(np.full(100, 8191, ">u2").tobytes())
    answered(tektronix, sent + b"\nDATA:COPY USER2,EMEM;:FUNC USER2\n", [])
    assert codes(tektronix) == []
    assert ask(tektronix, "DATA:CAT?;POIN? USER2") == '"EMEM","USER2";100'
    data = np.full(100, 8191, ">u2").tobytes()
    assert answered(tektronix, b"DATA? USER2\n", []) == block(data) + b"\n"


def test_tektronix_waits_whatever_its_clock_does(tektronix: Afg3000) -> None:
    ask(tektronix, "OUTP ON;:SOUR1:BURS ON")
    assert (tektronix.waits(1), tektronix.plays_freely(1)) == (True, True)
    ask(tektronix, "TRIG:SOUR EXT")
    assert (tektronix.waits(1), tektronix.plays_freely(1)) == (True, False)
    assert tektronix.synced(1)


# --- functions and units ---


def played(
    generator: SimulatedGenerator, samples: int = 1000, sample_s: float = 1e-6
) -> np.ndarray:
    """A millisecond of what plays; by default of a kilohertz."""
    return emitted(generator).held(samples, sample_s)


PHASE = (np.arange(1000) + 0.5) / 1000
MIDDLES = np.isin(np.arange(1000), [0, 500])  # of the edges of a pulse
START = "OUTP1 ON;:SOUR1:FREQ 1e3;VOLT 1;:"  # 2 Vpp into nothing


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ("FUNC SIN", np.sin(2 * np.pi * PHASE)),
        ("FUNC SIN;PHAS 90", np.cos(2 * np.pi * PHASE)),
        ("FUNC SQU;FUNC:SQU:DCYC 20", np.where(PHASE < 0.2, 1, -1)),
        ("FUNC TRI", np.interp(PHASE, [0, 0.25, 0.75, 1], [0, 1, -1, 0])),
        ("FUNC RAMP", np.interp(PHASE, [0, 0.5, 0.5, 1], [0, 1, -1, 0])),
        ("FUNC RAMP;FUNC:RAMP:SYMM 20", np.interp(PHASE, [0, 0.1, 0.9, 1], [0, 1, -1, 0])),
        ("FUNC PULS;FUNC:PULS:WIDT 3e-4", np.where(PHASE < 0.3, 1, -1)),
        ("FUNC PULS;FUNC:PULS:DCYC 40", np.where(PHASE < 0.4, 1, -1)),
        ("FUNC DC;:VOLT:OFFS 0.25", np.full(1000, 0.5)),
    ],
)
def test_functions_are_what_their_settings_say(
    keysight: Keysight33500, settings: str, wanted: np.ndarray
) -> None:
    ask(keysight, START + settings)
    assert codes(keysight) == []
    np.testing.assert_allclose(played(keysight), wanted, atol=1e-6)


def test_a_pulse_keeps_its_width(keysight: Keysight33500) -> None:
    ask(keysight, START + "FUNC PULS;:FUNC:PULS:WIDT 1e-4;:FREQ 2e3")
    assert float(ask(keysight, "FUNC:PULS:DCYC?")) == pytest.approx(20)
    ask(keysight, "FUNC:PULS:DCYC 40;PER 1e-3")
    assert float(ask(keysight, "FUNC:PULS:WIDT?")) == pytest.approx(2e-4)
    assert float(ask(keysight, "FREQ?")) == pytest.approx(1e3)
    assert codes(keysight) == []
    ask(keysight, "FREQ 1e4")
    assert codes(keysight) == [-221]  # adjusted, and said so
    assert float(ask(keysight, "FUNC:PULS:WIDT?")) == pytest.approx(1e-4)


def test_a_function_has_its_greatest_frequency(keysight: Keysight33500) -> None:
    ask(keysight, "FREQ 10e6;FUNC RAMP")
    assert codes(keysight) == [-221]
    assert float(ask(keysight, "FREQ?")) == 200e3


@pytest.mark.parametrize(
    ("model", "settings", "code"),
    [
        *((Keysight33500, f"FUNC {name}", -224) for name in ("NOIS", "PRBS", "USER")),
        (Keysight33500, "OUTP:MODE GAT", -224),
        (Keysight33500, "TRIG:DEL 1", -222),
        (Keysight33500, "TRIG:COUN 2", -222),
        (Keysight33500, "FREQ:MODE SWE", -224),
        (Keysight33500, "UNIT:ANGL RAD", -224),
        (Keysight33500, "VOLT:UNIT VRMS", -224),
        (Keysight33500, "VOLT 1 VRMS", -131),
        (Keysight33500, "VOLT 10 dBm", -131),
        (Keysight33500, "FUNC:PULS:HOLD DCYC", -224),
        (Keysight33500, "FUNC:PULS:TRAN 1e-8", -113),
        (Keysight33500, "APPL:NOIS", -113),
        (Keysight33500, "AM:STAT ON", -113),
        *((Afg3000, f"FUNC {name}", -224) for name in ("PRN", "SINC", "GAUS", "USER5")),
        (Afg3000, "BURS:TDEL 1", -222),
        (Afg3000, "FREQ:MODE SWE", -224),
        (Afg3000, "AM:STAT ON", -113),
    ],
)
def test_what_is_not_modelled_is_refused(
    model: type[SimulatedGenerator], settings: str, code: int
) -> None:
    generator = model()
    ask(generator, settings)
    assert codes(generator) == [code]


def test_apply_sets_everything_and_switches_on(keysight: Keysight33500) -> None:
    ask(keysight, "VOLT:OFFS 2;:BURS:STAT ON;:TRIG:SOUR BUS;:APPL:SQU 2e3,3,0.5")
    numbers = ",".join(map(keysight.decimal, (2e3, 3.0, 0.5)))
    assert ask(keysight, "APPL?") == f'"SQU {numbers}"'
    assert ask(keysight, "OUTP?;:BURS:STAT?;:TRIG:SOUR?") == "1;0;IMM"
    assert float(ask(keysight, "APPL:SIN 5e3;:VOLT?")) == pytest.approx(0.1)  # the default
    ask(keysight, "APPL:DC DEF,DEF,-1")
    np.testing.assert_allclose(played(keysight), -2.0)
    ask(keysight, "APPL:ARB 1e5,1")
    assert (ask(keysight, "FUNC?"), emitted(keysight).rate_hz) == ("ARB", 1e5)
    assert codes(keysight) == []
    before = ask(keysight, "OUTP OFF;:APPL?")
    ask(keysight, "APPL:SIN 1e3,30")
    assert codes(keysight) == [-222]
    assert ask(keysight, "APPL?;:OUTP?") == f"{before};0"  # what is refused changes nothing


# --- bursts ---


def times(samples: int, sample_s: float) -> np.ndarray:
    """The middles of samples."""
    return (np.arange(samples) + 0.5) * sample_s


MAKES = {
    "keysight": (Keysight33500, "BURS:PHAS 90", "BURS:STAT ON;:TRIG:SOUR BUS"),
    "tektronix": (Afg3000, "PHAS 90 DEG", "BURS:STAT ON;:TRIG:SOUR EXT"),
}


@pytest.mark.parametrize("make", MAKES)
def test_a_burst_has_its_cycles_begins_at_its_phase_and_rests_there(make: str) -> None:
    model, phase, burst = MAKES[make]
    generator = model()
    ask(generator, f"FUNC SIN;FREQ 1e3;VOLT 1;VOLT:OFFS 0.25;:OUTP1 ON;:SOUR1:BURS:NCYC 3;:{burst}")
    ask(generator, phase)
    assert codes(generator) == []
    assert (generator.waits(1), generator.plays_freely(1)) == (True, False)
    emission = emitted(generator)
    assert emission.seconds == pytest.approx(3e-3)
    at = times(1000, 1e-5)
    # A volt into 50 Ω is two into nothing.
    exact = 0.5 + np.cos(2 * np.pi * 1e3 * np.minimum(at, 3e-3))
    np.testing.assert_allclose(emission.held(1000, 1e-5), exact, atol=1e-6)


@pytest.mark.parametrize(
    ("model", "clock"),
    [
        (Keysight33500, "TRIG:SOUR IMM;:BURS:INT:PER 4e-3"),
        (Keysight33500, "TRIG:SOUR TIM;TIM 4e-3"),
        (Afg3000, "TRIG:SOUR TIM;TIM 4e-3"),
    ],
)
def test_a_clock_repeats_a_burst_for_ever(model: type[SimulatedGenerator], clock: str) -> None:
    generator = model()
    ask(generator, f"FUNC SQU;FREQ 1e3;VOLT 1;:OUTP1 ON;:BURS:NCYC 2;:BURS:STAT ON;:{clock}")
    assert codes(generator) == []
    assert generator.plays_freely(1)
    emission = emitted(generator)
    at = times(1200, 1e-5) - 4e-3
    inside = at % 4e-3
    exact = np.where((inside < 2e-3) & (inside % 1e-3 >= 0.5e-3), -1.0, 1.0)
    np.testing.assert_array_equal(emission.held(1200, 1e-5, -4e-3), exact)
    assert emission.every_s == 4e-3


def test_a_clock_slower_than_its_burst_waits_for_the_end(keysight: Keysight33500) -> None:
    ask(keysight, "FREQ 1e3;:BURS:NCYC 20;STAT ON;INT:PER 1e-3;:OUTP ON")
    assert emitted(keysight).every_s == pytest.approx(20e-3)


@pytest.mark.parametrize("make", MAKES)
def test_what_no_trigger_starts_is_refused(make: str) -> None:
    model, _, burst = MAKES[make]
    generator = model()
    played: list[int] = []
    generator.on_trigger = lambda channel, *_: played.append(channel)
    ask(generator, "OUTP1 ON;*TRG;:TRIG")  # no burst
    assert codes(generator) == [-211, -211]
    ask(generator, f"{burst};:BURS:MODE GAT;*TRG;:TRIG")  # a gate at an input without a cable
    assert codes(generator) == [-211, -211]
    assert not generator.plays_freely(1)
    ask(generator, "BURS:MODE TRIG;*TRG;:TRIG")
    assert (codes(generator), played) == ([], [1, 1])


def test_an_endless_burst_plays_from_its_trigger_until_it_is_stopped(
    keysight: Keysight33500,
) -> None:
    start = "OUTP ON;:TRIG:SOUR BUS;:BURS:NCYC INF;STAT ON;*TRG"
    for stop in ("ABOR", "BURS:STAT ON", "BURS:NCYC 1", "OUTP OFF", "*RST"):
        assert not keysight.plays_freely(1)
        ask(keysight, start)
        assert keysight.plays_freely(1)
        ask(keysight, stop)
    assert not keysight.plays_freely(1)
    assert codes(keysight) == []


# --- what is held ---


def test_points_are_held_and_then_the_first_one() -> None:
    emission = Emission(np.arange(4.0), 1e6, cycles=2)
    np.testing.assert_array_equal(emission.held(10, 1e-6), [0, 1, 2, 3, 0, 1, 2, 3, 0, 0])
    np.testing.assert_array_equal(emission.held(5, 2e-6), [1, 3, 1, 3, 0])
    np.testing.assert_array_equal(emission.held(5, 0.5e-6), [0, 0, 1, 1, 2])
    np.testing.assert_array_equal(emission.held(3, 1e-6), [0, 1, 2])
    np.testing.assert_array_equal(emission.held(3, 4e-6), [2, 2, 0])
    assert Emission(np.arange(4.0), 1e6).held(9, 1e-6)[-1] == 0


def test_the_clock_does_not_slip_over_a_long_waveform() -> None:
    emission = Emission(np.arange(1_000_000.0), 1 / 1e-6, cycles=1)
    np.testing.assert_array_equal(emission.held(1_000_000, 1e-6), emission.volts)
    almost = Emission(np.arange(1_000_000.0), 1e6 * (1 + 1e-12), cycles=1)
    np.testing.assert_array_equal(almost.held(1_000_000, 1e-6), emission.volts)
