"""Other people's drivers on the virtual bench: a call works or is refused at once, and traces fit.

A refused query is answered with an empty line and an error in the queue. Had one no answer, the
drivers would wait for their timeout and raise VisaIOError, which no test here catches.
"""

import socket
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import pytest
from pymeasure.instruments import Instrument
from pymeasure.instruments.agilent import Agilent33220A, Agilent33500
from pymeasure.instruments.keysight import KeysightDSOX1102G
from pymeasure.instruments.tektronix import AFG3152C
from test_virtual_bench import session

from pnnlab.systems.analog import cable
from pnnlab.virtual_bench import VirtualBench

CLOCK_S = 1e-6  # of the cable
# What is read is not what was set: quotes are added, a number is sent in another unit.
NOT_ITSELF = ("label",)
LINE = {"visa_library": "@py", "read_termination": "\n", "write_termination": "\n"}


@contextmanager
def connected(make: Callable[..., Instrument], resource: str) -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "It is not known whether this device", FutureWarning)
        driver = make(resource, **LINE)
    visa = driver.adapter.connection
    tcp = visa.visalib.sessions[visa.session].interface  # pyvisa-py leaves Nagle's algorithm on
    tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        driver.write("*CLS")
        yield driver
    finally:
        driver.adapter.close()


@pytest.fixture
def keysight() -> Iterator[VirtualBench]:
    with VirtualBench(cable(CLOCK_S), noise=False) as there:
        yield there


@pytest.fixture
def others() -> Iterator[VirtualBench]:
    with VirtualBench(
        cable(CLOCK_S), generator="tektronix", oscilloscope="rigol", noise=False
    ) as there:
        yield there


def codes(driver: Any) -> list[int]:
    """Empty the error queue."""
    found = []
    while code := int(driver.ask("SYST:ERR?").split(",")[0]):
        found.append(code)
    return found


def settled(part: Any, name: str, driver: Any) -> list[int]:
    """Read a property, set it to what was read, read it again: the errors that are queued."""
    kind = getattr(type(part), name)
    try:
        value = getattr(part, name)
        if kind.fset is not None:
            setattr(part, name, value)
            if name not in NOT_ITSELF:
                again = getattr(part, name)
                assert again == (pytest.approx(value) if isinstance(value, float) else value)
        found, reason = codes(driver), ""
    except (LookupError, ValueError, TypeError) as error:
        found, reason = codes(driver), str(error)  # the driver cannot read an empty answer
    assert found or not reason or "can not be" in reason, name
    return found


def properties(part: Any) -> list[str]:
    cls = type(part)
    return [n for n in dir(cls) if not n.startswith("_") and isinstance(getattr(cls, n), property)]


@pytest.mark.parametrize(
    ("make", "instrument", "refused"),
    [
        (
            Agilent33500,
            "keysight.generator",
            {f"{channel}pulse_transition": -113 for channel in ("", "ch_1.", "ch_2.")},
        ),
        (
            Agilent33220A,
            "keysight.generator",
            {"beeper_state": -113, "pulse_period": -113, "pulse_transition": -113},
        ),
        (
            KeysightDSOX1102G,
            "keysight.oscilloscope",
            # No record has been taken yet, and setups are not stored.
            {"system_setup": -113, "waveform_data": -230, "waveform_preamble": -230},
        ),
        # The driver's SOURce1:OUTPut1:IMPedance is in no manual.
        (
            AFG3152C,
            "others.generator",
            {
                f"{channel}.{name}": code
                for channel in ("ch1", "ch2")
                for name, code in (("impedance", -113), ("amp_vrms", -131), ("amp_dbm", -131))
            },
        ),
    ],
)
def test_every_property_of_pymeasure_works_or_is_refused_at_once(
    make: Callable[..., Instrument],
    instrument: str,
    refused: dict[str, int],
    request: pytest.FixtureRequest,
) -> None:
    bench, _, side = instrument.partition(".")
    with connected(make, getattr(request.getfixturevalue(bench), side)) as driver:
        parts = {"": driver}
        for name in ("ch_1", "ch_2", "ch1", "ch2"):
            if hasattr(driver, name):
                parts[f"{name}."] = getattr(driver, name)
        found: dict[str, set[int]] = {}
        for path, part in parts.items():
            for name in properties(part):
                if errors := settled(part, name, driver):
                    found[path + name] = set(errors)
        assert found == {name: {code} for name, code in refused.items()}
        assert "," in driver.id  # still in step


# What is set, and the error it leaves; 0 for none.
GENERATOR_VALUES: list[tuple[str, Any, int]] = [
    *(("shape", shape, 0) for shape in ("SIN", "SQU", "TRI", "RAMP", "PULS", "ARB", "DC")),
    *(("shape", shape, -224) for shape in ("NOIS", "PRBS")),
    ("shape", "SIN", 0),
    ("amplitude_unit", "VRMS", -224),
    ("amplitude_unit", "DBM", -224),
    ("amplitude_unit", "VPP", 0),
    ("arb_advance", "TRIG", -224),
    ("arb_filter", "OFF", 0),
    ("burst_mode", "GATED", 0),
    ("burst_mode", "TRIG", 0),
    ("burst_ncycles", 20, 0),
    ("burst_period", 1.0, 0),
    ("burst_state", True, 0),
    ("frequency", 100e6, -222),
    ("output_load", "INF", 0),
    ("phase", 90, 0),
    ("pulse_hold", "DCYC", -224),
    ("trigger_source", "BUS", 0),
    ("ext_trig_out", True, 0),
]
SCOPE_VALUES: list[tuple[str, Any, int]] = [
    ("acquisition_type", "average", 0),
    ("acquisition_type", "hresolution", 0),
    ("acquisition_type", "peak", -224),
    ("acquisition_mode", "segmented", -224),
    ("timebase_mode", "roll", -224),
    ("timebase_range", 1e-2, 0),
    ("timebase_offset", 1e-3, 0),
    ("waveform_source", "channel2", 0),
    ("waveform_source", "fft", -224),
    ("waveform_points", 62500, 0),
    ("waveform_format", "word", 0),
    ("ch1.bwlimit", True, -224),
    ("ch1.coupling", "ac", 0),
    ("ch1.probe_attenuation", 10.0, 0),
    ("ch1.invert", True, 0),
]


@pytest.mark.parametrize(
    ("make", "side", "values"),
    [
        (Agilent33500, "generator", GENERATOR_VALUES),
        (KeysightDSOX1102G, "oscilloscope", SCOPE_VALUES),
    ],
)
def test_what_is_not_modelled_is_refused_and_changes_nothing(
    make: Callable[..., Instrument],
    side: str,
    values: list[tuple[str, Any, int]],
    keysight: VirtualBench,
) -> None:
    with connected(make, getattr(keysight, side)) as driver:
        for path, value, code in values:
            *parents, name = path.split(".")
            part = getattr(driver, parents[0]) if parents else driver
            before = getattr(part, name)
            setattr(part, name, value)
            assert codes(driver) == ([code] if code else []), (path, value)
            if code:
                assert getattr(part, name) == before, (path, value)


def test_methods_of_pymeasure_work_or_are_refused_at_once(
    keysight: VirtualBench, others: VirtualBench
) -> None:
    with (
        connected(Agilent33500, keysight.generator) as generator,
        connected(KeysightDSOX1102G, keysight.oscilloscope) as scope,
        connected(AFG3152C, others.generator) as afg,
    ):
        generator.display = "hello"
        generator.clear_display()
        generator.beep()
        generator.phase_sync()
        assert codes(generator) == []
        generator.trigger()
        generator.wait_for_trigger()
        assert codes(generator) == [-211]  # it plays all the time
        generator.burst_state, generator.trigger_source = True, "BUS"
        generator.trigger()
        generator.wait_for_trigger()
        assert codes(generator) == []
        for action in (scope.run, scope.stop, scope.single, scope.default_setup, scope.run):
            action()
        assert codes(scope) == []
        scope.autoscale()
        assert codes(scope) == [-113]
        afg.ch1.frequency = 1e3  # a ramp has 250 kHz at most
        afg.ch1.waveform("RAMP", 1e3, "VPP", 0.5, 0.1)
        with pytest.raises(AttributeError, match="number"):  # of PyMeasure 0.16
            afg.ch1.enable()
        afg.beep()
        assert afg.opc() == 1
        assert codes(afg) == []
        afg.ch1.shape = "prnoise"
        assert codes(afg) == [-224]


# --- traces ---

HZ, AMPLITUDE_V, OFFSET_V = 200.0, 2.0, 0.25


def square(cycles: np.ndarray) -> np.ndarray:
    return np.where(cycles % 1 < 0.2, 1.0, -1.0)


def ramp(cycles: np.ndarray) -> np.ndarray:
    """A rise of 30 %, through the middle at 0."""
    return np.interp((cycles + 0.15) % 1, [0, 0.3, 1], [-1, 1, -1])


def pulse(cycles: np.ndarray) -> np.ndarray:
    return np.where(cycles % 1 < HZ * 1e-3, 1.0, -1.0)


def steps(cycles: np.ndarray) -> np.ndarray:
    return STAIRS[np.floor(cycles % 1 * len(STAIRS)).astype(int)]


STAIRS = np.linspace(-1, 1, 10)
SHAPES = {
    "SIN": lambda cycles: np.sin(2 * np.pi * cycles),
    "SQU": square,
    "RAMP": ramp,
    "PULS": pulse,
    "ARB": steps,
}


def set_up(generator: Any, shape: str) -> None:
    generator.output_load = "INF"
    generator.data_arb("stairs", STAIRS.tolist(), data_format="float")
    generator.arb_file = "stairs"
    generator.arb_srate = HZ * len(STAIRS)
    generator.shape = shape
    generator.frequency = HZ
    generator.amplitude = AMPLITUDE_V
    generator.offset = OFFSET_V
    generator.square_dutycycle = 20
    generator.ramp_symmetry = 30
    generator.pulse_width = 1e-3
    assert codes(generator) == []


def watch(scope: Any, *, source: str = "EXT", level_v: float = 1.0) -> None:
    scope.ch1.setup(vertical_range=4, offset=0)
    scope.timebase_range = 20e-3  # four cycles, half of them before the trigger
    scope.timebase_offset = 0
    scope.write(f":TRIG:SOUR {source};LEV {level_v};:TRIG:SWE NORM")
    assert codes(scope) == []


def trace(scope: Any) -> tuple[np.ndarray, np.ndarray]:
    volts, preamble = scope.download_data("channel1", points=5000)
    assert codes(scope) == []
    return preamble["xorigin"] + preamble["xincrement"] * np.arange(len(volts)), volts


def assert_plays(
    times: np.ndarray, volts: np.ndarray, wanted: Callable[[np.ndarray], np.ndarray]
) -> None:
    """A trace is what is wanted within half a code, but for the samples around a step."""
    early, late = wanted(times - 3 * CLOCK_S), wanted(times + CLOCK_S)
    lowest, highest = np.minimum(early, late), np.maximum(early, late)
    code_v = 4 / 199
    steep = highest - lowest > 0.1
    assert steep.mean() < 0.02
    smooth = ~steep
    assert (volts >= lowest - 0.51 * code_v)[smooth].all()
    assert (volts <= highest + 0.51 * code_v)[smooth].all()
    assert np.ptp(volts) > 1.8


@pytest.mark.parametrize("shape", SHAPES)
def test_a_trace_is_what_plays_before_and_after_the_trigger(
    keysight: VirtualBench, shape: str
) -> None:
    with (
        connected(Agilent33500, keysight.generator) as generator,
        connected(KeysightDSOX1102G, keysight.oscilloscope) as scope,
    ):
        set_up(generator, shape)
        generator.output = True
        assert codes(generator) == []
        watch(scope)
        scope.digitize("channel1")
        times, volts = trace(scope)
        assert times[0] == pytest.approx(-10e-3)
        scale = AMPLITUDE_V / 2
        assert_plays(times, volts, lambda t: OFFSET_V + scale * SHAPES[shape](HZ * t))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_burst_is_what_plays_before_and_after_its_trigger(
    keysight: VirtualBench, shape: str
) -> None:
    with (
        connected(Agilent33500, keysight.generator) as generator,
        connected(KeysightDSOX1102G, keysight.oscilloscope) as scope,
    ):
        set_up(generator, shape)
        generator.burst_ncycles = 1
        generator.burst_state = True
        generator.trigger_source = "BUS"
        generator.write("BURS:PHAS 90")
        generator.output = True
        assert codes(generator) == []
        watch(scope)
        scope.single()
        assert codes(scope) == []  # it waits now
        generator.trigger()
        assert codes(generator) == []
        scale = AMPLITUDE_V / 2

        def wanted(t: np.ndarray) -> np.ndarray:
            inside = (t >= 0) & (t < 1 / HZ)
            return OFFSET_V + scale * SHAPES[shape](np.where(inside, HZ * t, 0.0) + 0.25)

        assert_plays(*trace(scope), wanted)


def test_the_signal_itself_triggers_and_there_is_one_before(keysight: VirtualBench) -> None:
    with (
        connected(Agilent33500, keysight.generator) as generator,
        connected(KeysightDSOX1102G, keysight.oscilloscope) as scope,
    ):
        set_up(generator, "SIN")
        watch(scope, source="CHAN1", level_v=OFFSET_V)
        scope.single()
        assert codes(scope) == []  # it waits
        generator.output = True  # and takes its record now
        assert codes(generator) == []
        wanted = lambda t: OFFSET_V + AMPLITUDE_V / 2 * np.sin(2 * np.pi * HZ * t)  # noqa: E731
        times, volts = trace(scope)
        assert_plays(times + CLOCK_S, volts, wanted)


def test_running_on_automatic_needs_no_edge_and_follows_the_generator(
    keysight: VirtualBench,
) -> None:
    with (
        connected(Agilent33500, keysight.generator) as generator,
        connected(KeysightDSOX1102G, keysight.oscilloscope) as scope,
    ):
        watch(scope, source="CHAN2")
        scope.write(":TRIG:SWE AUTO")
        scope.run()
        assert np.abs(trace(scope)[1]).max() < 0.02
        generator.output_load = "INF"
        generator.shape = "DC"
        generator.output = True
        for volts in (1.0, -0.5):
            generator.offset = volts
            assert codes(generator) == []
            np.testing.assert_allclose(trace(scope)[1], volts, atol=0.011)
        scope.stop()
        assert codes(scope) == []  # it has stopped
        generator.offset = 0.0
        assert codes(generator) == []
        np.testing.assert_allclose(trace(scope)[1], -0.5, atol=0.011)


def test_averages_are_quieter() -> None:
    with (
        VirtualBench(cable(CLOCK_S), noise=True) as there,
        connected(KeysightDSOX1102G, there.oscilloscope) as scope,
    ):
        scope.ch1.setup(vertical_range=4)
        scope.write(":TRIG:SWE AUTO")
        spread = []
        for kind in ("normal", "average"):
            scope.acquisition_type = kind
            scope.write(":ACQ:COUN 64")
            scope.digitize("channel1")
            spread.append(trace(scope)[1].std())
        assert spread[0] / spread[1] == pytest.approx(8, rel=0.15)


def test_a_beginners_script_reads_the_rigol(others: VirtualBench) -> None:
    with (
        connected(AFG3152C, others.generator) as afg,
        session(others.oscilloscope) as scope,
    ):
        afg.write("OUTP1:IMP INF")
        afg.ch1.waveform("SIN", HZ, "VPP", AMPLITUDE_V, OFFSET_V)
        afg.write("OUTP1:STAT ON")
        assert codes(afg) == []
        for line in (":CHAN1:PROB 1;SCAL 0.5;OFFS 0", ":TIM:SCAL 1E-3", ":TRIG:EDG:LEV 0.25"):
            scope.write(line)
        for line in (":RUN", ":WAV:SOUR CHAN1", ":WAV:MODE NORM", ":WAV:FORM BYTE"):
            scope.write(line)
        assert int(scope.query(":WAV:POIN?")) == 1200
        fields = [float(field) for field in scope.query(":WAV:PRE?").split(",")]
        data = scope.query_binary_values(":WAV:DATA?", datatype="B", container=np.array)
        assert scope.query("SYST:ERR?").startswith("0,")
    volts = (data - fields[9] - fields[8]) * fields[7]
    times = fields[5] + fields[4] * np.arange(len(data))
    assert_plays(
        times + CLOCK_S,
        volts,
        lambda t: OFFSET_V + AMPLITUDE_V / 2 * np.sin(2 * np.pi * HZ * t),
    )


# --- what a snapshot of QCoDeS asks (0.58: Keysight_33XXX, Rigol_DS1074Z) ---

SNAPSHOT_GENERATOR = (
    *(
        f"SOURce{channel}:{name}?"
        for channel in (1, 2)
        for name in (
            *("FUNCtion", "FREQuency:MODE", "FREQuency", "PHASe", "VOLTage:UNIT", "VOLTage"),
            *("VOLTage:OFFSet", "FUNCtion:RAMP:SYMMetry", "FUNCtion:PULSE:WIDTh", "BURSt:STATe"),
            *("BURSt:MODE", "BURSt:NCYCLes", "BURSt:PHASe", "BURSt:GATE:POLarity"),
            "BURSt:INTernal:PERiod",
        )
    ),
    *(
        f"{name}?"
        for channel in (1, 2)
        for name in (
            *(f"OUTPut{channel}", f"OUTPut{channel}:POLarity", f"TRIGger{channel}:SOURce"),
            *(f"TRIGger{channel}:SLOPe", f"TRIGger{channel}:COUNt", f"TRIGger{channel}:DELay"),
            f"TRIGger{channel}:TIMer",
        )
    ),
    *("OUTPut:SYNC?", "OUTPut:SYNC:SOURce?", "*IDN?"),
)
SNAPSHOT_SCOPE = (
    *("WAVeform:XORigin?", ":WAVeform:XINCrement?", "WAV:POIN?", "WAVeform:YORigin?"),
    *(":WAVeform:YINCrement?", ":WAVeform:YREFerence?", ":TRIGger:MODE?", ":WAVeform:SOURce?"),
    *(":TRIGger:EDGE:LEVel?", ":TRIGger:EDGE:SOURce?", ":TRIGger:EDGE:SLOPe?"),
    *(f":CHANnel{channel}:SCALe?" for channel in (1, 2, 3, 4)),
)


def test_snapshots_are_answered(keysight: VirtualBench, others: VirtualBench) -> None:
    for resource, first, questions in (
        (keysight.generator, "*CLS", SNAPSHOT_GENERATOR),
        (others.oscilloscope, ":RUN", SNAPSHOT_SCOPE),
    ):
        with session(resource) as instrument:
            instrument.write(first)
            silent = [question for question in questions if not instrument.query(question)]
            assert silent == []
            assert int(instrument.query("SYST:ERR?").split(",")[0]) == 0


@pytest.mark.parametrize("side", ["generator", "oscilloscope"])
def test_an_unknown_question_is_answered_at_once(side: str, keysight: VirtualBench) -> None:
    with session(getattr(keysight, side)) as instrument:
        assert instrument.query("MEASure:VAMP? CHANnel1") == ""
        assert instrument.query("SYST:ERR?").endswith('-113,"Undefined header"')
        identity = instrument.query("*IDN?")
        assert instrument.query("*IDN?;:FOO?") == f"{identity};"
        with pytest.raises(ValueError, match="hash"):
            instrument.query_binary_values("FOO:DATA?")
        assert instrument.query("*IDN?") == identity


def test_no_command_of_a_web_page_is_carried_out(keysight: VirtualBench) -> None:
    port = int(keysight.generator.split("::")[2])
    body = b"VOLT 5\nOUTP ON\n"
    posted = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 15\r\n\r\n" + body
    long = b"GET /" + 2**21 * b"a" + b"' HTTP/1.1\r\nOrigin: http://evil.example\r\n\r\n" + body
    for request in (posted, long, b"PRI * HTTP/2.0\r\n\r\n" + body, b"x\n" + posted):
        with (
            socket.create_connection(("127.0.0.1", port), timeout=5) as client,
            suppress(ConnectionError),  # closed with the rest unread
        ):
            client.sendall(request)
            assert client.recv(100) == b""
    with session(keysight.generator) as generator:
        assert float(generator.query("VOLT?")) == pytest.approx(0.1)
        assert generator.query("OUTP?") == "0"
