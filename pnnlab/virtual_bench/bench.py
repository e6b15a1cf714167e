"""Two instruments on sockets, the cables and a device between them, and what goes wrong on purpose.

Several clients may be connected to an instrument. SCPI knows no password: whoever reaches the
socket may do anything, so it listens on this machine alone by default.
"""

import ipaddress
import math
import os
import socket
import socketserver
import threading
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from io import BufferedReader
from typing import Literal, TypeAlias, final, get_args
from weakref import WeakSet

import numpy as np

from pnnlab.errors import InstrumentError, RangeError
from pnnlab.systems.analog import AnalogPorts
from pnnlab.virtual_bench.generator_models import Afg3000, Keysight33500
from pnnlab.virtual_bench.generators import Emission
from pnnlab.virtual_bench.instrument import SimulatedInstrument
from pnnlab.virtual_bench.messages import Message, ScpiError, read_message
from pnnlab.virtual_bench.oscilloscope_models import Ds1000z, InfiniiVision
from pnnlab.virtual_bench.oscilloscopes import Signal, SimulatedOscilloscope

FaultKind: TypeAlias = Literal[
    "drop", "stall", "truncate", "late", "error", "hole", "saturate", "drift"
]
KINDS: tuple[FaultKind, ...] = get_args(FaultKind)
MOST_SAMPLES = 2**23  # of the device in one record
_WORTH_CUTTING = 64  # bytes of an answer
_SHORT_PULSE_S = 1e-6
_SETTLING = 1000  # samples that a device is driven before those on the screen
_SILENT_V = 2e-3  # up to which, about a code of a generator's, a device counts as at rest
GENERATORS = {"keysight": Keysight33500, "tektronix": Afg3000}
OSCILLOSCOPES = {"keysight": InfiniiVision, "rigol": Ds1000z}


@final
class Faults:
    """A seeded schedule of faults, counted in messages that either instrument gets.

    ======== =====================================================================================
    drop     the connection is closed; the message may or may not have been carried out
    stall    the message is lost, and this client gets no answer for ``stall_s``
    truncate half of a long answer, such as a block, is sent, and then nothing
    late     the answer comes after ``stall_s``
    error    an error -240 stands in the queue, and nothing else is wrong
    hole     a part of the next record is missing
    saturate a part of the next record is beyond the converter's range
    drift    the oscilloscope's input is off by ``drift_v`` from now on, either way
    ======== =====================================================================================

    The same seed gives the same faults to the same messages, one in ``mean_messages`` on average,
    and no more than ``most``; `injected` counts them by kind. ``stall_s``, for "stall" and "late",
    is longer than the client's timeout. If ``waiting``, nothing goes wrong before `start`.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        mean_messages: float = 100.0,
        kinds: Sequence[FaultKind] = KINDS,
        stall_s: float = 0.5,
        drift_v: float = 0.01,
        most: int | None = None,
        waiting: bool = False,
    ) -> None:
        if not kinds or not set(kinds) <= set(KINDS):
            raise RangeError(f"kinds is {tuple(kinds)!r}; choose from {', '.join(KINDS)}.")
        if not mean_messages >= 1 or stall_s < 0:
            given = f"mean_messages is {mean_messages}, stall_s {stall_s}"
            raise RangeError(f"{given}; the first is at least 1, and neither is negative.")
        self.injected: Counter[str] = Counter()
        self.closing = threading.Event()
        self._kinds, self._mean, self._most = tuple(kinds), mean_messages, most
        self._stall_s, self._drift_v, self._waiting = stall_s, drift_v, waiting
        self._rng = np.random.default_rng(seed)
        self._lock = threading.Lock()
        self._due: FaultKind | None = None
        self._left = self._rng.geometric(1 / mean_messages)

    def start(self) -> None:
        """Begin, if waiting."""
        self._waiting = False

    def execute(self, instrument: SimulatedInstrument, message: Message) -> bytes:
        """Carry out a message with the fault that is due; `ConnectionAbortedError` for a drop."""
        self._count_message()
        if self._take("drop"):
            if self._rng.integers(2):
                instrument.execute(message)
            raise ConnectionAbortedError
        if self._take("stall"):
            self.closing.wait(self._stall_s)
            return b""
        if self._take("error"):
            instrument.report(ScpiError(-240))
        if isinstance(instrument, SimulatedOscilloscope) and not instrument.fault:
            if self._take("drift"):
                instrument.drift_v += self._drift_v if self._rng.integers(2) else -self._drift_v
            for kind in filter(self._take, ("hole", "saturate")):
                instrument.fault = kind  # of the next record
        answer = instrument.execute(message)
        if len(answer) >= _WORTH_CUTTING and self._take("truncate"):
            return answer[: len(answer) // 2]
        if answer and self._take("late"):
            self.closing.wait(self._stall_s)
        return answer

    def _count_message(self) -> None:
        with self._lock:
            if self._waiting or self._due is not None:
                return
            self._left -= 1
            exhausted = self._most is not None and self.injected.total() >= self._most
            if self._left <= 0 and not exhausted:
                self._due = self._kinds[self._rng.integers(len(self._kinds))]
                self._left = self._rng.geometric(1 / self._mean)

    def _take(self, kind: str) -> bool:
        with self._lock:
            if self._due != kind:
                return False
            self._due = None
            self.injected[kind] += 1
            return True


def answers(
    instrument: SimulatedInstrument, stream: BufferedReader, faults: Faults | None = None
) -> Iterator[bytes]:
    """Carry out what one client sends, message by message, and yield each answer."""
    execute = partial(faults.execute, instrument) if faults else instrument.execute
    while (message := read_message(stream, instrument.memory_bytes)) is not None:
        if isinstance(message, ScpiError):
            instrument.report(message)
        elif answer := execute(message):
            yield answer


class _Handler(socketserver.StreamRequestHandler):
    server: "InstrumentServer"
    rfile: BufferedReader
    disable_nagle_algorithm = True

    def handle(self) -> None:
        self.server.clients.add(self.request)
        with suppress(OSError):  # a client that goes away in the middle is no error of the server's
            for answer in answers(self.server.instrument, self.rfile, self.server.faults):
                self.wfile.write(answer)


@final
class InstrumentServer(socketserver.ThreadingTCPServer):
    """Serve an instrument from a thread until it is closed; port 0 takes any that is free."""

    daemon_threads = True
    allow_reuse_address = os.name == "posix"  # on Windows it would let two servers share a port

    def __init__(
        self,
        instrument: SimulatedInstrument,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        faults: Faults | None = None,
    ) -> None:
        self.instrument, self.faults = instrument, faults
        self.clients: WeakSet[socket.socket] = WeakSet()
        try:
            if not ipaddress.ip_address(socket.gethostbyname(host)).is_loopback:
                text = f"The virtual bench listens at {host}: whoever reaches it may use it."
                warnings.warn(text, stacklevel=3)
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            raise InstrumentError(
                f"No instrument can be served at {host}, port {port} ({error}). Port 0 takes any "
                "that is free."
            ) from error
        host, port = self.socket.getsockname()
        at = socket.gethostname() if host == "0.0.0.0" else host
        self.resource = f"TCPIP::{at}::{port}::SOCKET"  # its name for VISA
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening, and end all conversations."""
        self.shutdown()
        self._thread.join()
        self.server_close()
        for client in tuple(self.clients):
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)


@final
@dataclass(frozen=True)
class Wiring:
    """How the cables are connected; what is not the default is a mistake to be found."""

    inverted: bool = False  # the oscilloscope's signal and ground are exchanged
    probe: float = 1.0  # 10 for a probe that divides by ten
    connected: bool = True  # the oscilloscope's cable is plugged in
    trigger: bool = True  # the trigger's cable is
    swapped: bool = False  # the device is at the generator's second channel


@final
class VirtualBench(ExitStack):
    """A waveform generator and an oscilloscope on sockets, with a device between them.

    The generator's first channel drives the device, the oscilloscope's first channel reads it,
    and the generator's trigger goes to the external input. `generator` and `oscilloscope` are their
    resource names for VISA.

    Parameters
    ----------
    generator : "keysight" or "tektronix"
        A 33522B or an AFG3022B.
    oscilloscope : "keysight" or "rigol"
        An InfiniiVision DSO-X 3034T or a DS1104Z.
    noise : bool
        Whether the oscilloscope is noisy and its trigger jitters; `seed` is of both.
    delay_s : float
        From the generator's trigger to its signal at the oscilloscope, s.
    host : str
        Where to listen; beyond this machine with a warning.
    port : int
        The generator's; the oscilloscope has the next. 0: any that are free. A port that is taken
        raises `InstrumentError`.
    """

    def __init__(
        self,
        device: AnalogPorts,
        *,
        generator: Literal["keysight", "tektronix"] = "keysight",
        oscilloscope: Literal["keysight", "rigol"] = "keysight",
        noise: bool = True,
        seed: int = 0,
        delay_s: float = 0.04e-6,
        wiring: Wiring | None = None,
        faults: Faults | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        for make, known in (generator, GENERATORS), (oscilloscope, OSCILLOSCOPES):
            if make not in known:
                raise RangeError(f"There is no {make!r}; choose from {tuple(known)}.")
        super().__init__()
        self._source = GENERATORS[generator]()
        self._scope = OSCILLOSCOPES[oscilloscope](noise=noise, seed=seed)
        self._source.lock = self._scope.lock  # for a trigger reaches from one into the other
        self._source.on_trigger = self._play
        self._source.on_change = self._scope.look
        self._scope.input_signal = self._input_signal
        self._device, self._delay_s, self._wiring = device, delay_s, wiring or Wiring()
        self._channel = 2 if self._wiring.swapped else 1
        self._rest_v = float(device.respond(np.zeros(1))[0])
        with ExitStack() as opened:
            names = []
            for place, instrument in enumerate((self._source, self._scope)):
                at = port + place if port else 0
                server = InstrumentServer(instrument, host=host, port=at, faults=faults)
                opened.callback(server.close)
                names.append(server.resource)
            self.generator, self.oscilloscope = names
            if faults is not None:
                faults.closing.clear()
                opened.callback(faults.closing.set)
            opened.callback(self._scope.close)
            self.push(opened.pop_all())

    def _play(self, channel: int, emission: Emission | None, synced: bool) -> None:
        pulse_s = None
        if synced and self._wiring.trigger:
            pulse_s = _SHORT_PULSE_S if emission is None else emission.seconds
        if self._scope.armed:
            signal = self._signal(emission if channel == self._channel else None, pulse_s)
            self._scope.receive(signal)

    def _input_signal(self, anything: bool) -> Signal | None:
        source, channel = self._source, self._channel
        free = source.plays_freely(channel)
        if not free and not anything:
            return None
        emission, pulse_s = source.emission(channel), None
        if emission and not free:
            emission = replace(emission, cycles=0)
        elif emission and source.synced(channel) and self._wiring.trigger:
            half_s = len(emission.volts) / emission.rate_hz / 2
            pulse_s = half_s if math.isinf(emission.seconds) else emission.seconds
        return self._signal(emission, pulse_s, repeats=True)

    def _signal(
        self, emission: Emission | None, pulse_s: float | None, *, repeats: bool = False
    ) -> Signal:
        start_s, end_s = self._scope.needs(math.inf if emission is None else emission.seconds)
        sample_s, wiring = self._device.sample_s, self._wiring
        early = 0  # samples before the trigger
        if emission is not None and (repeats or abs(emission.held(1, 0.0)[0]) > _SILENT_V):
            shown = max(0.0, self._delay_s - start_s) / sample_s
            early = _SETTLING + math.ceil(min(shown, MOST_SAMPLES / 2))
        samples = early + math.ceil(max(0.0, end_s - self._delay_s) / sample_s) + 1
        samples = min(MOST_SAMPLES, samples)
        drive = np.zeros(samples)
        if emission is not None:
            drive = emission.held(samples, sample_s, -early * sample_s)
        volts = np.asarray(self._device.respond(drive), dtype=np.float64)
        gain = (-1.0 if wiring.inverted else 1.0) * wiring.connected / wiring.probe
        delay_s = self._delay_s - early * sample_s
        return Signal(volts * gain, self._rest_v * gain, sample_s, delay_s, pulse_s, repeats)
