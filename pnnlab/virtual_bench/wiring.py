"""Two instruments, the cables between them, and a device."""

import math
import threading
from dataclasses import dataclass
from typing import Literal, Self, final

import numpy as np

from pnnlab.errors import RangeError
from pnnlab.systems.analog import AnalogPorts
from pnnlab.virtual_bench.afg3000 import Afg3000
from pnnlab.virtual_bench.ds1000z import Ds1000z
from pnnlab.virtual_bench.faults import Faults
from pnnlab.virtual_bench.infiniivision import InfiniiVision
from pnnlab.virtual_bench.keysight33500 import Keysight33500
from pnnlab.virtual_bench.record import Signal
from pnnlab.virtual_bench.server import InstrumentServer
from pnnlab.virtual_bench.simulated_generator import Emission, SimulatedGenerator
from pnnlab.virtual_bench.simulated_oscilloscope import SimulatedOscilloscope

MOST_SAMPLES = 2**23  # of the device in one record
_SHORT_PULSE_S = 1e-6


@final
@dataclass(frozen=True)
class Wiring:
    """How the cables run; what is not the default is a mistake to be found.

    Attributes
    ----------
    inverted : bool
        The oscilloscope's signal and ground are exchanged.
    probe : float
        Factor of the probe: 10 for one that divides by ten.
    connected : bool
        Whether the oscilloscope's cable is plugged in.
    trigger : bool
        Whether the trigger's cable is.
    swapped : bool
        The device hangs at the generator's second channel.
    """

    inverted: bool = False
    probe: float = 1.0
    connected: bool = True
    trigger: bool = True
    swapped: bool = False


@final
class _Wires:
    """Carries what the generator emits through the device to the oscilloscope."""

    def __init__(
        self,
        generator: SimulatedGenerator,
        scope: SimulatedOscilloscope,
        ports: AnalogPorts,
        wiring: Wiring,
        delay_s: float,
    ) -> None:
        self._generator, self._scope = generator, scope
        self._ports, self._wiring, self._delay_s = ports, wiring, delay_s
        self._channel = 2 if wiring.swapped else 1
        self._rest = float(ports.respond(np.zeros(1))[0])
        generator.plug = self.play
        scope.look = self.look

    def play(self, channel: int, emission: Emission | None, synced: bool) -> None:
        """The generator was triggered."""
        pulse_s = None
        if synced and self._wiring.trigger:
            pulse_s = _SHORT_PULSE_S if emission is None else emission.seconds
        heard = emission if channel == self._channel else None
        signal = self._signal(heard, pulse_s)
        if signal is not None:
            self._scope.see(signal)

    def look(self, anything: bool) -> Signal | None:
        """The signal that is there by itself; without one, a flat line if anything will do."""
        channel = self._channel
        free = self._generator.plays_freely(channel)
        if not free and not anything:
            return None
        emission = self._generator.emission(channel) if free else None
        pulse_s = None
        if emission is not None and self._generator.synced(channel) and self._wiring.trigger:
            pulse_s = len(emission.volts) / emission.rate_hz / 2
        return self._signal(emission, pulse_s)

    def _signal(self, emission: Emission | None, pulse_s: float | None) -> Signal | None:
        seconds = self._scope.listens(math.inf if emission is None else emission.seconds)
        if seconds is None:
            return None
        sample_s, wiring = self._ports.sample_s, self._wiring
        samples = math.ceil(max(0.0, seconds - self._delay_s) / sample_s) + 1
        samples = min(MOST_SAMPLES, samples)
        drive = np.zeros(samples) if emission is None else emission.held(samples, sample_s)
        volts = np.asarray(self._ports.respond(drive), dtype=np.float64)
        gain = (-1.0 if wiring.inverted else 1.0) * wiring.connected / wiring.probe
        return Signal(volts * gain, self._rest * gain, sample_s, self._delay_s, pulse_s)


@final
class VirtualBench:
    """A waveform generator and an oscilloscope on sockets, with a device between them.

    The generator's first channel drives the device, the oscilloscope's first channel reads it,
    and the generator's trigger goes to the external input.

    Parameters
    ----------
    ports : AnalogPorts
        The device.
    generator : "keysight" or "tektronix"
        A 33522B or an AFG3022B.
    oscilloscope : "keysight" or "rigol"
        An InfiniiVision DSO-X 3034T or a DS1104Z.
    noise : bool
        Whether the oscilloscope is noisy and its trigger jitters.
    seed : int
        Of both.
    delay_s : float
        From the generator's trigger to its signal at the oscilloscope, s.
    wiring : Wiring
        How the cables run.
    faults : Faults, optional
        What goes wrong.
    host : str
        Where to listen; beyond this machine with a warning.
    port : int
        The generator's; the oscilloscope has the next. 0: any that are free.

    Attributes
    ----------
    generator, oscilloscope : str
        Resource names for VISA.

    Raises
    ------
    RangeError
        No such instrument.
    InstrumentError
        A port is taken.
    """

    def __init__(
        self,
        ports: AnalogPorts,
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
        lock = threading.RLock()  # one for both: a trigger reaches from one into the other
        source = _generator(generator, lock)
        scope = _oscilloscope(oscilloscope, noise, seed, lock)
        self._scope, self._faults = scope, faults
        if faults is not None:
            faults.closing.clear()
        _Wires(source, scope, ports, wiring or Wiring(), delay_s)
        self._servers = [InstrumentServer(source, host=host, port=port, faults=faults)]
        try:
            second = port + 1 if port else 0
            self._servers.append(InstrumentServer(scope, host=host, port=second, faults=faults))
        except BaseException:
            self.close()
            raise
        self.generator, self.oscilloscope = (server.resource for server in self._servers)

    def close(self) -> None:
        """Switch the instruments off."""
        with self._scope.lock:
            self._scope.closed = True
            self._scope.changed.notify_all()
        if self._faults is not None:
            self._faults.closing.set()
        for server in self._servers:
            server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _generator(make: str, lock: "threading.RLock") -> SimulatedGenerator:
    if make == "keysight":
        return Keysight33500(lock=lock)
    if make == "tektronix":
        return Afg3000(lock=lock)
    raise RangeError(f"generator is {make!r}; there are 'keysight' and 'tektronix'.")


def _oscilloscope(
    make: str, noise: bool, seed: int, lock: "threading.RLock"
) -> SimulatedOscilloscope:
    if make == "keysight":
        return InfiniiVision(noise=noise, seed=seed, lock=lock)
    if make == "rigol":
        return Ds1000z(noise=noise, seed=seed, lock=lock)
    raise RangeError(f"oscilloscope is {make!r}; there are 'keysight' and 'rigol'.")
