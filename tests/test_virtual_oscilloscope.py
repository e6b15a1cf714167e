"""The virtual oscilloscopes: when they trigger, what they keep, how they hand it over."""

import numpy as np
import pytest
from malformed_messages import answered, errors
from numpy.typing import NDArray

from pnnlab.virtual_bench.oscilloscope_models import Ds1000z, InfiniiVision
from pnnlab.virtual_bench.oscilloscopes import NOISE, Signal, SimulatedOscilloscope

KEYSIGHT = (
    ":CHAN1:RANG 8;OFFS 1;:TIM:REF LEFT;RANG 1E-3;POS 1E-4;:TRIG:SOUR EXT;LEV 1;:TRIG:SWE NORM;"
    ":WAV:POIN:MODE RAW;:WAV:POIN 1000;BYT LSBF;FORM WORD;:SING"
)
RIGOL = (
    ":RUN;:CHAN1:PROB 1;VERN ON;SCAL 1;OFFS -1;:TIM:SCAL 1E-4;OFFS 6E-4;:ACQ:MDEP 12000;"
    ":CHAN4:PROB 1;SCAL 1;:TRIG:EDG:SOUR CHAN4;LEV 1;:TRIG:SWE NORM;:STOP;:SING"
)
RAMP = Signal(np.linspace(0, 4, 1001)[1:], 0.0, 1e-6, pulse_s=1e-3)  # 4 V in a millisecond


def ask(scope: SimulatedOscilloscope, text: str) -> str:
    return answered(scope, f"{text}\n".encode(), []).decode().rstrip("\n")


def codes(scope: SimulatedOscilloscope) -> list[int]:
    return [int(error.split(",")[0]) for error in errors(scope)]


def payload(scope: SimulatedOscilloscope, query: str = ":WAV:DATA?") -> bytes:
    answer = answered(scope, f"{query}\n".encode(), [])
    digits = int(answer[1:2])
    count = int(answer[2 : 2 + digits])
    assert answer[:1] == b"#"
    assert answer[2 + digits + count :] == b"\n"
    return answer[2 + digits : 2 + digits + count]


def preamble(scope: SimulatedOscilloscope) -> list[float]:
    fields = [float(field) for field in ask(scope, ":WAV:PRE?").split(",")]
    assert len(fields) == 10
    return fields


def volts(scope: SimulatedOscilloscope, kind: str) -> NDArray[np.float64]:
    """As the programmer's guides say: the two makes differ."""
    data = np.frombuffer(payload(scope), kind).astype(float)
    increment, origin, reference = preamble(scope)[7:]
    assert len(data) == min(preamble(scope)[2], 1200) or isinstance(scope, InfiniiVision)
    if isinstance(scope, InfiniiVision):
        return (data - reference) * increment + origin
    return (data - reference - origin) * increment


@pytest.fixture
def keysight() -> InfiniiVision:
    return InfiniiVision(noise=False)


@pytest.fixture
def rigol() -> Ds1000z:
    return Ds1000z(noise=False)


# --- Keysight ---


def test_keysight_waits_for_its_trigger(keysight: InfiniiVision) -> None:
    assert ask(keysight, ":OPER:COND?;:AER?;:TER?;:RST?") == "+0;+0;+0;STOP"
    ask(keysight, KEYSIGHT)
    assert ask(keysight, ":OPER:COND?;:AER?;:AER?;:RST?") == "+40;+1;+0;SING"
    keysight.receive(RAMP)
    assert ask(keysight, ":OPER:COND?;:TER?;:TER?;:RST?") == "+0;+1;+0;STOP"
    assert codes(keysight) == []


def test_arming_again_is_no_edge(keysight: InfiniiVision) -> None:
    assert ask(keysight, f"{KEYSIGHT};:AER?;:SING;:AER?;:STOP;:SING;:AER?") == "+1;+0;+1"


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ("FORM WORD", "<u2"),
        ("FORM WORD;BYT MSBF", ">u2"),
        ("FORM WORD;UNS OFF", "<i2"),
        ("FORM BYTE", "u1"),
        ("FORM BYTE;UNS 0", "i1"),
    ],
)
def test_keysight_gives_volts_in_every_form(
    keysight: InfiniiVision, settings: str, kind: str
) -> None:
    ask(keysight, KEYSIGHT)
    keysight.receive(RAMP)
    ask(keysight, f":WAV:{settings}")
    trace = volts(keysight, kind)
    assert preamble(keysight)[4:7] == [1e-6, 0, 0]
    assert len(trace) == 1000
    np.testing.assert_allclose(trace, np.arange(1000) * 4e-3, atol=0.51 * 8 / 199)
    assert len(np.unique(trace)) == pytest.approx(100, abs=2)  # eight bits


def test_keysight_writes_numbers_out(keysight: InfiniiVision) -> None:
    ask(keysight, f"{KEYSIGHT};:WAV:FORM ASC")
    keysight.receive(RAMP)
    trace = np.array([float(part) for part in payload(keysight).split(b",")])
    np.testing.assert_allclose(trace, np.arange(1000) * 4e-3, atol=0.51 * 8 / 199)


def test_high_resolution_has_more_bits(keysight: InfiniiVision) -> None:
    ask(keysight, f":ACQ:TYPE HRES;{KEYSIGHT}")
    keysight.receive(RAMP)
    trace = volts(keysight, "<u2")
    np.testing.assert_allclose(trace, np.arange(1000) * 4e-3, atol=0.51 * 8 / 199 / 16)
    assert preamble(keysight)[1] == 3


def test_clipped_points_and_holes_have_their_codes(keysight: InfiniiVision) -> None:
    ask(keysight, KEYSIGHT.replace("OFFS 1", "OFFS 1;RANG 2"))
    keysight.fault = "hole"
    keysight.receive(Signal(np.linspace(-2, 4, 1001)[1:], -2.0, 1e-6, pulse_s=1e-3))
    words = np.frombuffer(payload(keysight), "<u2")
    assert set(words[:280]) == {0x0001}
    assert set(words[-280:]) == {0xFF00}
    assert (words == 0).sum() == 20
    octets = np.frombuffer(payload(keysight, ":WAV:FORM BYTE;DATA?"), "u1")
    np.testing.assert_array_equal(octets == 1, words == 1)
    np.testing.assert_array_equal(octets == 255, words == 0xFF00)
    np.testing.assert_array_equal(octets == 0, words == 0)
    ask(keysight, ":SING")
    keysight.receive(RAMP)
    assert (np.frombuffer(payload(keysight), "u1") != 0).all()  # the next record is whole


def test_raw_points_are_read_only_when_it_has_stopped(keysight: InfiniiVision) -> None:
    ask(keysight, f"{KEYSIGHT.removesuffix('SING')}RUN")
    assert ask(keysight, ":WAV:DATA?") == ""
    keysight.receive(RAMP)
    assert ask(keysight, ":WAV:DATA?") == ""
    assert codes(keysight) == [-230, -221]
    assert len(payload(keysight, ":WAV:POIN:MODE NORM;:WAV:DATA?")) == 2000
    assert len(payload(keysight, ":STOP;:WAV:POIN:MODE RAW;:WAV:DATA?")) == 2000


def test_how_many_points_there_are(keysight: InfiniiVision) -> None:
    ask(keysight, KEYSIGHT)
    assert ask(keysight, ":WAV:POIN MAX;POIN?;:ACQ:POIN?") == "+4000000;+4000000"
    assert ask(keysight, ":WAV:POIN:MODE NORM;:WAV:POIN?") == "+62500"
    assert ask(keysight, ":TIM:RANG 1E-6;:WAV:POIN?;:ACQ:SRAT?") == "+5000;+5.00000000E+009"
    ask(keysight, ":WAV:POIN 99;:ACQ:POIN 1000")
    assert codes(keysight) == [-222, -113]  # the width of the screen says how many


@pytest.mark.parametrize(
    ("settings", "start"),
    [
        (":TIM:REF CENT;POS 0", -5e-4),
        (":TIM:REF LEFT;POS 0", -1e-4),
        (":TIM:REF RIGH;POS 0", -9e-4),
        (":TIM:REF CENT;POS 2E-4", -3e-4),
    ],
)
def test_where_the_screen_begins(keysight: InfiniiVision, settings: str, start: float) -> None:
    ask(keysight, f"{KEYSIGHT};{settings}")
    keysight.receive(RAMP)
    assert preamble(keysight)[5] == pytest.approx(start)
    times = start + np.arange(1000) * 1e-6
    expected = np.clip(4e3 * times, 0, 4)
    np.testing.assert_allclose(volts(keysight, "<u2"), expected, atol=0.51 * 8 / 199)


def test_the_signal_itself_may_trigger(keysight: InfiniiVision) -> None:
    ask(keysight, f"{KEYSIGHT};:TRIG:SOUR CHAN1;LEV 2;:TIM:POS 1E-4")
    keysight.receive(RAMP)
    trace = volts(keysight, "<u2")
    assert trace[0] == pytest.approx(2, abs=0.03)  # the left edge of the screen is the trigger
    ask(keysight, ":SING;:TRIG:SLOP NEG")
    keysight.receive(RAMP)
    assert keysight.armed  # it never falls


@pytest.mark.parametrize(
    ("settings", "triggers"),
    [
        (":TRIG:LEV 4", False),
        (":TRIG:LEV 0", True),
        (":TRIG:SOUR CHAN2", False),
        (":TRIG:SLOP NEG", True),
    ],
)
def test_a_pulse_that_misses_the_level_is_not_seen(
    keysight: InfiniiVision, settings: str, triggers: bool
) -> None:
    ask(keysight, f"{KEYSIGHT};{settings}")
    keysight.receive(RAMP)
    assert keysight.armed != triggers
    assert (keysight.capture is not None) == triggers


def test_an_automatic_sweep_does_not_wait(keysight: InfiniiVision) -> None:
    ask(keysight, KEYSIGHT.replace("NORM;:WAV", "AUTO;:WAV"))
    assert not keysight.armed
    np.testing.assert_allclose(volts(keysight, "<u2"), 0, atol=0.03)


def test_a_trigger_may_be_forced(keysight: InfiniiVision) -> None:
    ask(keysight, f"{KEYSIGHT};:TRIG:FORC")
    assert keysight.capture is not None
    ask(keysight, ":TRIG:FORC")
    assert codes(keysight) == [-211]


def test_digitize_gives_up_in_the_end(keysight: InfiniiVision) -> None:
    keysight.timeout_s = 0.01
    assert ask(keysight, f"{KEYSIGHT};:DIG CHAN1;*OPC?") == "1"
    assert not keysight.armed
    assert keysight.capture is None


def test_an_average_needs_its_triggers(keysight: InfiniiVision) -> None:
    ask(keysight, f":ACQ:TYPE AVER;COUN 4;{KEYSIGHT}")
    for level in (0.0, 1.0, 2.0, 4.0):
        assert keysight.armed
        keysight.receive(Signal(np.full(1000, level), level, 1e-6, pulse_s=1e-3))
    assert not keysight.armed
    np.testing.assert_allclose(volts(keysight, "<u2"), 1.75, atol=0.51 * 8 / 199 / 16)
    assert preamble(keysight)[1] == 2


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        (":CHAN1:IMP FIFT", -224),
        (":CHAN1:BWL ON", -224),
        (":CHAN1:PROB:SKEW 1e-8", -222),
        (":TRIG:SLOP EITH", -224),
        (":TRIG:COUP AC", -224),
        (":TRIG:SOUR LINE", -224),
        (":TRIG:HFR ON", -113),
        (":ACQ:TYPE PEAK", -224),
        (":ACQ:COUN 2000", -222),
        (":AUT", -113),
    ],
)
def test_keysight_refuses_what_is_not_modelled(
    keysight: InfiniiVision, settings: str, code: int
) -> None:
    ask(keysight, settings)
    assert codes(keysight) == [code]


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        (":CHAN1:BWL 20M", -224),
        (":TRIG:EDG:SOUR AC", -224),
        (":TRIG:EDG:SOUR EXT", -224),
        (":TRIG:COUP LFR", -224),
    ],
)
def test_rigol_refuses_what_is_not_modelled(rigol: Ds1000z, settings: str, code: int) -> None:
    ask(rigol, settings)
    assert codes(rigol) == [code]


def test_a_probe_changes_what_volts_are_called(keysight: InfiniiVision) -> None:
    ask(keysight, f"{KEYSIGHT};:CHAN1:PROB 10")
    assert ask(keysight, ":CHAN1:RANG?;OFFS?") == "+8.00000000E+001;+1.00000000E+001"
    keysight.receive(RAMP)
    np.testing.assert_allclose(volts(keysight, "<u2"), np.arange(1000) * 4e-2, atol=0.21)
    ask(keysight, ":CHAN1:RANG 0.01")
    assert codes(keysight) == [-222]


def test_inversion_coupling_and_drift(keysight: InfiniiVision) -> None:
    ask(keysight, f"{KEYSIGHT};:CHAN1:INV ON;COUP AC;OFFS 0")
    keysight.drift_v = 0.25
    keysight.receive(RAMP)
    expected = -(np.arange(1000) * 4e-3 - 1.998 + 0.25)
    np.testing.assert_allclose(volts(keysight, "<u2"), expected, atol=0.03)


def test_noise_has_its_size_and_its_seed() -> None:
    traces = []
    for seed in (1, 1, 2):
        scope = InfiniiVision(noise=True, seed=seed)
        ask(scope, f"{KEYSIGHT};:ACQ:TYPE HRES")
        scope.receive(Signal(np.zeros(1), 0.0, 1e-6, pulse_s=1e-3))
        traces.append(volts(scope, "<u2"))
        np.testing.assert_array_equal(volts(scope, "<u2"), traces[-1])  # read twice
    np.testing.assert_array_equal(traces[0], traces[1])
    assert (traces[0] != traces[2]).mean() > 0.9
    assert traces[0].std() == pytest.approx(NOISE * 8, rel=0.1)


def test_what_needs_no_record_is_answered_without_one(
    keysight: InfiniiVision, rigol: Ds1000z
) -> None:
    assert ask(keysight, ":WAV:XREF?;YREF?;FORM WORD;YREF?") == "+0;+128;+32768"
    assert ask(rigol, ":WAV:XREF?;YREF?") == "0;127"
    assert codes(keysight) == codes(rigol) == []
    assert ask(keysight, ":WAV:XINC?") == ""
    assert codes(keysight) == [-230]


def test_keysight_sums_a_subsystem_up(keysight: InfiniiVision) -> None:
    ask(keysight, ":CHAN2:RANG 4;LAB 'out'")
    assert ask(keysight, ":CHAN2?").startswith(":CHAN2:RANG +4.00000000E+000;OFFS ")
    assert 'LAB "out"' in ask(keysight, ":CHAN2?")
    assert ask(keysight, ":TIM?").startswith(":TIM:MODE MAIN;REF CENT;MAIN:RANG ")


# --- Rigol ---


def test_rigol_waits_for_its_trigger(rigol: Ds1000z) -> None:
    ask(rigol, RIGOL)
    assert ask(rigol, ":TRIG:STAT?;:TRIG:SWE?") == "WAIT;SING"  # :SINGle is a sweep
    rigol.receive(RAMP)
    assert ask(rigol, ":TRIG:STAT?") == "STOP"
    assert codes(rigol) == []


@pytest.mark.parametrize(("form", "kind"), [("BYTE", "u1"), ("WORD", "<u2")])
def test_rigol_gives_volts_from_screen_and_memory(rigol: Ds1000z, form: str, kind: str) -> None:
    ask(rigol, RIGOL)
    rigol.receive(RAMP)
    ask(rigol, f":WAV:FORM {form}")
    fields = preamble(rigol)
    assert fields[1:6] == [0, 1200, 1, 1e-6, pytest.approx(0, abs=1e-15)]
    expected = np.clip(np.arange(1200) * 4e-3, 0, 4)
    np.testing.assert_allclose(volts(rigol, kind), expected, atol=0.51 / 25)
    ask(rigol, ":WAV:MODE RAW;STAR 4001;STOP 4100")
    assert preamble(rigol)[1:5] == [2, 12_000, 1, 1e-7]
    data = np.frombuffer(payload(rigol), kind)
    assert len(data) == 100
    increment, origin, reference = preamble(rigol)[7:]
    expected = (4000 + np.arange(100)) * 4e-4
    np.testing.assert_allclose((data - origin - reference) * increment, expected, atol=0.51 / 25)


def test_rigol_refuses(rigol: Ds1000z) -> None:
    ask(rigol, f"{RIGOL};:ACQ:MDEP 120000;:WAV:DATA?")
    assert codes(rigol) == [-230]
    rigol.receive(RAMP)
    ask(rigol, ":ACQ:MDEP 120000")
    assert codes(rigol) == [-221]  # it has stopped
    ask(rigol, ":RUN;:ACQ:MDEP 5;:WAV:MODE RAW;DATA?")
    assert codes(rigol) == [-224, -221]
    ask(rigol, ":STOP;:WAV:STAR 5;STOP 4;DATA?;:WAV:STOP 120001;DATA?")
    assert codes(rigol) == [-222, -222]
    ask(rigol, ":WAV:FORM ASC;STAR 1;STOP 12000;:RUN;:ACQ:MDEP 120000")
    rigol.receive(RAMP)
    ask(rigol, ":STOP;:WAV:STOP 20000;DATA?")
    assert codes(rigol) == [-223]


def test_rigol_channels_share_the_memory(rigol: Ds1000z) -> None:
    ask(rigol, RIGOL)
    assert codes(rigol) == []
    assert ask(rigol, ":RUN;:CHAN3:DISP ON;:ACQ:MDEP?") == "AUTO"  # 12 000 are no longer to be had
    ask(rigol, ":ACQ:MDEP 12000")
    assert codes(rigol) == [-224]
    ask(rigol, ":ACQ:MDEP 6000;:STOP;:SING")
    rigol.receive(RAMP)
    assert ask(rigol, ":WAV:MODE RAW;POIN?") == "6000"
    assert codes(rigol) == []


def test_rigol_trigger_level_is_near_the_screen(rigol: Ds1000z) -> None:
    ask(rigol, ":CHAN4:PROB 1;SCAL 0.1;:TRIG:EDG:SOUR CHAN4;LEV 1")
    assert codes(rigol) == [-222]


def test_rigol_scales_are_round_without_fine_adjustment(rigol: Ds1000z) -> None:
    assert float(ask(rigol, ":CHAN1:PROB 1;SCAL 0.3;SCAL?")) == pytest.approx(0.2)
    assert float(ask(rigol, ":CHAN1:VERN ON;SCAL 0.3;SCAL?")) == pytest.approx(0.3)


def test_rigol_clips_without_a_word(rigol: Ds1000z) -> None:
    ask(rigol, RIGOL.replace("SCAL 1;OFFS -1", "SCAL 0.1;OFFS -1"))
    rigol.receive(Signal(np.linspace(-2, 4, 1001)[1:], -2.0, 1e-6, pulse_s=1e-3))
    octets = np.frombuffer(payload(rigol), "u1")
    assert (octets[0], octets[1000]) == (0, 255)
    assert ask(rigol, ":WAV:FORM ASC;:TRIG:STAT?") == "STOP"
    assert len(payload(rigol).split(b",")) == 1200
