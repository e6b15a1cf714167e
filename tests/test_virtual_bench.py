"""The virtual bench over real sockets: from the generator through the device to the trace."""

import itertools
import socket
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TypeAlias

import numpy as np
import pytest
import pyvisa
from numpy.typing import NDArray
from pyvisa.resources import MessageBasedResource

from pnnlab import cli
from pnnlab.errors import InstrumentError, RangeError
from pnnlab.systems.analog import AnalogPorts, Volts, cable
from pnnlab.virtual_bench import VirtualBench, Wiring
from pnnlab.virtual_bench.bench import InstrumentServer
from pnnlab.virtual_bench.generator_models import Keysight33500

Trace: TypeAlias = NDArray[np.float64]
WAVE = np.concatenate([np.linspace(-1, 1, 50), np.full(50, 0.5), np.linspace(1, -1, 50)])
AMPLITUDE_V, OFFSET_V = 4.0, 0.25
BEFORE = 200
DRIVE = np.concatenate([np.full(BEFORE, WAVE[0]), WAVE, np.full(100, WAVE[0])])
DRIVE = AMPLITUDE_V / 2 * DRIVE + OFFSET_V

KEYSIGHT_GENERATOR = (
    "FORM:BORD SWAP",
    "DATA:VOL:CLE",
    "DATA:ARB:DAC wave,{block}",
    "FUNC:ARB wave",
    "FUNC ARB",
    "FUNC:ARB:SRAT 1E6",
    "OUTP:LOAD INF",
    "TRIG:SOUR BUS",
)
TEKTRONIX_GENERATOR = (
    "OUTP1:IMP INF",
    "DATA EMEM,{block}",
    "FUNC EMEM",
    f"FREQ {1e6 / len(WAVE)!r}",
    "TRIG:SOUR EXT",
)
PLAY = (f"VOLT {AMPLITUDE_V}", f"VOLT:OFFS {OFFSET_V}", "BURS:NCYC 1", "BURS:STAT ON", "OUTP1 ON")
KEYSIGHT_SCOPE = (
    ":CHAN1:RANG 8;OFFS 0",
    ":TIM:REF LEFT;RANG 2E-4;POS 0",  # from a tenth of the screen before the trigger
    ":TRIG:SOUR EXT;LEV 1;:TRIG:SWE NORM",
    ":WAV:BYT LSBF;FORM WORD;POIN:MODE RAW;:WAV:POIN 2000",
    ":SING",
)
RIGOL_SCOPE = (
    ":RUN",
    ":CHAN1:PROB 1;VERN ON;SCAL 1;OFFS 0",
    ":TIM:SCAL 2E-5;OFFS 1E-4",  # a sixth of the screen
    ":ACQ:MDEP 12000",
    ":CHAN4:PROB 1;SCAL 1;:TRIG:EDG:SOUR CHAN4;LEV 1;:TRIG:SWE NORM",
    ":WAV:FORM WORD;MODE RAW;STAR 1;STOP 12000",
    ":STOP;:SING",
)


def smooth(volts: Volts) -> Volts:
    """Respond as one pole: a device with memory."""
    out, state = np.empty(len(volts)), 0.0
    for index, value in enumerate(volts):
        state += 0.2 * (value - state)
        out[index] = state
    return out


SMOOTH = AnalogPorts(1e-6, smooth)


@contextmanager
def session(name: str) -> Iterator[MessageBasedResource]:
    manager = pyvisa.ResourceManager("@py")
    with manager.open_resource(
        name, read_termination="\n", write_termination="\n", timeout=5000
    ) as resource:
        assert isinstance(resource, MessageBasedResource)
        yield resource


def tell(instrument: MessageBasedResource, commands: tuple[str, ...], block: bytes = b"") -> None:
    for command in commands:
        instrument.write_raw(command.encode().replace(b"{block}", block) + b"\n")
        assert "No error" in instrument.query("SYST:ERR?"), command


def waveform(make: str) -> bytes:
    code, kind = (np.round(WAVE * 32767), "<i2")
    if make == "tektronix":
        code, kind = np.round((WAVE + 1) * 8191), ">u2"
    data = code.astype(kind).tobytes()
    return f"#{len(str(len(data)))}{len(data)}".encode() + data


def trace(
    scope: MessageBasedResource, make: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    fields = [float(field) for field in scope.query(":WAV:PRE?").split(",")]
    data = scope.query_binary_values(":WAV:DATA?", datatype="H", container=np.array)
    times = fields[5] + fields[4] * np.arange(len(data))
    if make == "keysight":
        return times, (data - fields[9]) * fields[7] + fields[8]
    return times, (data - fields[9] - fields[8]) * fields[7]


@contextmanager
def both(bench: VirtualBench) -> Iterator[tuple[MessageBasedResource, MessageBasedResource]]:
    with bench, session(bench.generator) as source, session(bench.oscilloscope) as screen:
        yield source, screen


def shot(
    bench: VirtualBench, generator: str = "keysight", scope: str = "keysight"
) -> tuple[Trace, Trace]:
    with both(bench) as (source, screen):
        commands = KEYSIGHT_GENERATOR if generator == "keysight" else TEKTRONIX_GENERATOR
        tell(source, (*commands, *PLAY), waveform(generator))
        tell(screen, KEYSIGHT_SCOPE if scope == "keysight" else RIGOL_SCOPE)
        tell(source, ("*TRG",))
        return trace(screen, scope)


def expected(times: Trace, response: Volts, delay_s: float) -> Trace:
    """At the oscilloscope: the response to BEFORE samples of rest at the first point, and more."""
    nodes = np.concatenate(([response[0]], response))
    return np.interp((times - delay_s) / 1e-6 + BEFORE, np.arange(len(nodes)), nodes)


@pytest.mark.parametrize(
    ("generator", "scope"),
    list(itertools.product(("keysight", "tektronix"), ("keysight", "rigol"))),
)
def test_a_waveform_goes_through_the_device(generator: str, scope: str) -> None:
    delay_s = 3e-6
    bench = VirtualBench(
        SMOOTH, generator=generator, oscilloscope=scope, noise=False, delay_s=delay_s
    )
    times, volts = shot(bench, generator, scope)
    wanted = expected(times, smooth(DRIVE), delay_s)
    step = 8 / 199
    np.testing.assert_allclose(volts, wanted, atol=step / 2 + 2e-3)
    assert times[0] < -1e-5
    assert times[-1] > 1.7e-4
    assert np.ptp(volts) > 3


def test_noise_is_that_of_the_data_sheet() -> None:
    times, volts = shot(VirtualBench(cable(), noise=True, seed=3))
    before = volts[times < 0]
    assert before.std() == pytest.approx(0.006 * 8, rel=0.15)


@pytest.mark.parametrize(
    ("wiring", "gain"),
    [(Wiring(inverted=True), -1.0), (Wiring(probe=10), 0.1), (Wiring(connected=False), 0.0)],
)
def test_what_is_wrong_with_the_cables_shows(wiring: Wiring, gain: float) -> None:
    times, volts = shot(VirtualBench(cable(), noise=False, wiring=wiring))
    playing = (times > 2e-6) & (times < 148e-6)
    wanted = gain * expected(times, DRIVE, 0.04e-6)
    np.testing.assert_allclose(volts[playing], wanted[playing], atol=0.03)


@pytest.mark.parametrize("wiring", [Wiring(trigger=False), Wiring(swapped=True)])
def test_without_a_trigger_or_a_drive(wiring: Wiring) -> None:
    with both(VirtualBench(cable(), noise=False, wiring=wiring)) as (source, screen):
        tell(source, (*KEYSIGHT_GENERATOR, *PLAY), waveform("keysight"))
        tell(screen, KEYSIGHT_SCOPE)
        tell(source, ("*TRG",))
        if not wiring.trigger:
            assert screen.query(":OPER:COND?") == "+40"
            return
        assert np.abs(trace(screen, "keysight")[1]).max() < 0.03


def test_an_output_that_is_off_drives_nothing() -> None:
    with both(VirtualBench(cable(), noise=False)) as (source, screen):
        tell(source, (*KEYSIGHT_GENERATOR, *PLAY, "OUTP OFF"), waveform("keysight"))
        tell(screen, KEYSIGHT_SCOPE)
        tell(source, ("*TRG",))
        assert np.abs(trace(screen, "keysight")[1]).max() < 0.03


def test_a_generator_that_runs_freely_is_seen_at_once() -> None:
    with both(VirtualBench(cable(), noise=False)) as (source, screen):
        tell(source, ("OUTP:LOAD INF", "VOLT 2", "FREQ 10E3", "OUTP ON"))
        tell(screen, KEYSIGHT_SCOPE)
        times, volts = trace(screen, "keysight")
    playing = times > 0
    sine = np.sin(2 * np.pi * 1e4 * times)
    assert np.corrcoef(sine[playing], volts[playing])[0, 1] > 0.99
    assert np.ptp(volts) == pytest.approx(2, abs=0.05)


def test_a_command_that_waits_lets_the_trigger_in() -> None:
    bench = VirtualBench(cable(), noise=False)
    with both(bench) as (source, screen):
        tell(source, (*KEYSIGHT_GENERATOR, *PLAY), waveform("keysight"))
        tell(screen, KEYSIGHT_SCOPE[:-1])
        screen.write(":AER?;:DIG CHAN1;*OPC?")
        with session(bench.oscilloscope) as other:
            while other.query(":OPER:COND?") != "+40":
                pass  # every question lets the other conversation run
            tell(source, ("*TRG",))
        assert screen.read() == "+0;1"
        assert np.ptp(trace(screen, "keysight")[1]) > 3


def test_closing_ends_conversations_and_waiting() -> None:
    bench = VirtualBench(cable())
    threads = threading.active_count()
    port = int(bench.oscilloscope.split("::")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        client.sendall(b":TRIG:SWE NORM;:TRIG:SOUR EXT;:DIG\n")
        started = time.monotonic()
        bench.close()
        assert time.monotonic() - started < 4
        with suppress(ConnectionResetError):  # if the message was still unread
            assert client.recv(100) == b""
    assert threading.active_count() < threads
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=1)


def free_pair() -> int:
    """The first of two ports that nobody uses."""
    for _ in range(100):
        with socket.create_server(("127.0.0.1", 0)) as first, suppress(OSError, OverflowError):
            port = int(first.getsockname()[1])
            socket.create_server(("127.0.0.1", port + 1)).close()
            return port
    raise AssertionError("no two ports beside each other are free")


def test_ports_can_be_chosen_and_may_be_taken() -> None:
    with VirtualBench(cable()) as first:
        port = int(first.generator.split("::")[2])
        with pytest.raises(InstrumentError, match=f"port {port}.*Port 0"):
            VirtualBench(cable(), port=port)
    with VirtualBench(cable(), port=free_pair()) as bench:
        _, host, port, kind = bench.generator.split("::")
        assert (host, kind) == ("127.0.0.1", "SOCKET")
        assert bench.oscilloscope == f"TCPIP::127.0.0.1::{int(port) + 1}::SOCKET"


def test_a_server_that_others_can_reach_warns() -> None:
    with pytest.warns(UserWarning, match=r"0\.0\.0\.0.*whoever"):
        server = InstrumentServer(Keysight33500(), host="0.0.0.0")
    assert socket.gethostname() in server.resource
    server.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        InstrumentServer(Keysight33500(), host="localhost").close()


@pytest.mark.parametrize("argument", ["generator", "oscilloscope"])
def test_unknown_instruments_are_named(argument: str) -> None:
    with pytest.raises(RangeError, match="'keysight'"):
        VirtualBench(cable(), **{argument: "lecroy"})


def test_a_client_that_vanishes_leaves_the_others_alone() -> None:
    with VirtualBench(cable()) as bench:
        port = int(bench.generator.split("::")[2])
        with session(bench.generator) as source:
            for _ in range(5):
                with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
                    client.sendall(b"DATA:ARB x,#49999half")
            assert "33522B" in source.query("*IDN?")


# --- pnnlab virtual-bench ---


@pytest.mark.parametrize(
    ("words", "models"),
    [
        (["--system", "circuit", "--unit", "1"], ("33522B", "DSO-X 3034T")),
        (["--system", "plate", "--no-noise"], ("33522B", "DSO-X 3034T")),
        (
            ["--system", "cable", "--generator", "tektronix", "--oscilloscope", "rigol"],
            ("AFG3022B", "DS1104Z"),
        ),
    ],
)
def test_the_command_serves_until_ctrl_c(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    models: tuple[str, str],
) -> None:
    met: list[str] = []

    def press_ctrl_c(_: float) -> None:
        shown = capsys.readouterr()
        assert shown.err == "Ctrl-C ends it.\n"
        lines = shown.out.splitlines()
        assert [line.split()[0] for line in lines] == ["generator", "oscilloscope"]
        for line in lines:
            with session(line.split()[1]) as instrument:
                met.append(instrument.query("*IDN?").split(",")[1])
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.time, "sleep", press_ctrl_c)
    assert cli.main(["virtual-bench", *words]) == cli.OK
    assert tuple(met) == models


def test_the_command_says_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["virtual-bench", "--system", "cable", "--port", "99999"]) == cli.BAD_ARGUMENTS
    assert "port 99999" in capsys.readouterr().err
    assert cli.main(["virtual-bench", "--unit", "-1"]) == cli.BAD_ARGUMENTS
    assert "at least 0" in capsys.readouterr().err
