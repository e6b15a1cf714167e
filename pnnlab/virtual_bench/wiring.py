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
from pnnlab.virtual_bench.generators import Emission
from pnnlab.virtual_bench.infiniivision import InfiniiVision
from pnnlab.virtual_bench.keysight33500 import Keysight33500
from pnnlab.virtual_bench.oscilloscopes import Signal
from pnnlab.virtual_bench.server import InstrumentServer

MOST_SAMPLES = 2**23  # of the device in one record
_SHORT_PULSE_S = 1e-6
GENERATORS = {"keysight": Keysight33500, "tektronix": Afg3000}
OSCILLOSCOPES = {"keysight": InfiniiVision, "rigol": Ds1000z}


@final
@dataclass(frozen=True)
class Wiring:
    """How the cables are connected; what is not the default is a mistake to be found."""

    inverted: bool = False  # whether the oscilloscope's signal and ground are exchanged
    probe: float = 1.0  # 10 for a probe that divides by ten
    connected: bool = True  # whether the oscilloscope's cable is plugged in
    trigger: bool = True  # whether the trigger's cable is
    swapped: bool = False  # whether the device is at the generator's second channel


@final
class VirtualBench:
    """A waveform generator and an oscilloscope on sockets, with a device between them.

    The generator's first channel drives the device, the oscilloscope's first channel reads it,
    and the generator's trigger goes to the external input.

    Parameters
    ----------
    device : AnalogPorts
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
    wiring : Wiring, optional
        How the cables are connected.
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
        for name, make, known in (
            ("generator", generator, GENERATORS),
            ("oscilloscope", oscilloscope, OSCILLOSCOPES),
        ):
            if make not in known:
                raise RangeError(f"{name} is {make!r}; there are {' and '.join(map(repr, known))}.")
        lock = threading.RLock()  # one for both: a trigger reaches from one into the other
        self._source = GENERATORS[generator](lock=lock)
        self._scope = OSCILLOSCOPES[oscilloscope](noise=noise, seed=seed, lock=lock)
        self._source.on_trigger = self._play
        self._scope.input_signal = self._input_signal
        self._device, self._delay_s, self._wiring = device, delay_s, wiring or Wiring()
        self._channel = 2 if self._wiring.swapped else 1
        self._rest_v = float(device.respond(np.zeros(1))[0])
        self._faults = faults
        if faults is not None:
            faults.closing.clear()
        self._servers: list[InstrumentServer] = []
        try:
            for place, instrument in enumerate((self._source, self._scope)):
                at = port + place if port else 0
                server = InstrumentServer(instrument, host=host, port=at, faults=faults)
                self._servers.append(server)
        except BaseException:
            self.close()
            raise
        self.generator, self.oscilloscope = (server.resource for server in self._servers)

    def close(self) -> None:
        """Switch the instruments off."""
        self._scope.close()
        if self._faults is not None:
            self._faults.closing.set()
        for server in self._servers:
            server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _play(self, channel: int, emission: Emission | None, synced: bool) -> None:
        """Carry what the generator emits at a trigger to the oscilloscope."""
        pulse_s = None
        if synced and self._wiring.trigger:
            pulse_s = _SHORT_PULSE_S if emission is None else emission.seconds
        signal = self._signal(emission if channel == self._channel else None, pulse_s)
        if signal is not None:
            self._scope.receive(signal)

    def _input_signal(self, anything: bool) -> Signal | None:
        """The signal that is there by itself; without one, a flat line if anything will do."""
        free = self._source.plays_freely(self._channel)
        if not free and not anything:
            return None
        emission = self._source.emission(self._channel) if free else None
        pulse_s = None
        if emission is not None and self._source.synced(self._channel) and self._wiring.trigger:
            pulse_s = len(emission.volts) / emission.rate_hz / 2
        return self._signal(emission, pulse_s)

    def _signal(self, emission: Emission | None, pulse_s: float | None) -> Signal | None:
        seconds = self._scope.needs_s(math.inf if emission is None else emission.seconds)
        if seconds is None:
            return None
        sample_s, wiring = self._device.sample_s, self._wiring
        samples = min(MOST_SAMPLES, math.ceil(max(0.0, seconds - self._delay_s) / sample_s) + 1)
        drive = np.zeros(samples) if emission is None else emission.held(samples, sample_s)
        volts = np.asarray(self._device.respond(drive), dtype=np.float64)
        gain = (-1.0 if wiring.inverted else 1.0) * wiring.connected / wiring.probe
        return Signal(volts * gain, self._rest_v * gain, sample_s, self._delay_s, pulse_s)
