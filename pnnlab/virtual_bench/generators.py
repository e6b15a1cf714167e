"""What a function generator puts out, whatever its make."""

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from pnnlab.virtual_bench.instrument import Command, SimulatedInstrument, keyword, number, switch
from pnnlab.virtual_bench.messages import ScpiError

Points: TypeAlias = NDArray[np.float64]

SOURCE_OHM = 50.0
OPEN_V = 20.0  # Vpp into an open circuit, at most
_OFFSETS_V = (-OPEN_V / 2, OPEN_V / 2)


class Waveform(NamedTuple):
    """One cycle in memory."""

    points: Points  # (points,), float64, between -1 and 1
    low: float = -1.0  # to `high`: what the amplitude spans
    high: float = 1.0

    def gain(self, amplitude_v: float) -> float:
        """Return the volts of a point of 1."""
        return amplitude_v / (self.high - self.low) if self.high > self.low else 0.0


_PHASE = np.arange(4096) / 4096
SHAPES = {
    "SIN": Waveform(np.sin(2 * np.pi * _PHASE)),
    "SQU": Waveform(np.where(_PHASE < 0.5, 1.0, -1.0)),
    "RAMP": Waveform(np.linspace(-1, 1, len(_PHASE))),
    "TRI": Waveform(1 - np.abs(4 * ((_PHASE + 0.25) % 1) - 2)),
    "PULS": Waveform(np.where(_PHASE < 0.1, 1.0, -1.0)),
    "DC": Waveform(np.zeros(len(_PHASE)), 0.0, 0.0),
}


@final
@dataclass(frozen=True, eq=False)
class Emission:
    """What a channel puts out from a trigger on."""

    volts: Points  # (points,), float64: one cycle, V into a high impedance
    rate_hz: float  # points a second; each is held until the next
    cycles: float = math.inf  # afterwards the first point is held

    @property
    def seconds(self) -> float:
        """How long it plays, s."""
        return len(self.volts) * self.cycles / self.rate_hz

    def held(self, samples: int, sample_s: float) -> Points:
        """Return its voltage in the middle of each sample of another clock, (samples,), V."""
        points = len(self.volts)
        if math.isclose(self.rate_hz * sample_s, 1, rel_tol=1e-9):
            if samples <= points:
                return self.volts[:samples]
            index = np.arange(samples)
        else:
            index = np.floor((np.arange(samples) + 0.5) * (sample_s * self.rate_hz)).astype(np.intp)
        volts = self.volts[index % points]
        volts[index >= self.cycles * points] = self.volts[0]
        return volts


def _voltage(header: str, name: str, initial: float, bounds: Any, **options: Any) -> Command:
    """A voltage of a channel: kept as into an open circuit, called by what the set load makes."""
    pattern = f"[SOURce#:]VOLTage[:LEVel][:IMMediate]{header}"
    return number(pattern, name, initial, bounds, "V", factor=lambda g, c: g._load(c), **options)


def _level_command(header: str, sign: int) -> Command:
    return _voltage(
        header,
        "level",
        0.0,
        _OFFSETS_V,
        then=lambda g, c: g._move_level(sign, c),
        show=lambda _, g, c: g._level(sign, c) * g._load(c),
    )


def check(generator: "SimulatedGenerator", channel: int) -> None:
    """Refuse a setting if the output stage cannot do it."""
    generator._check(channel)


class SimulatedGenerator(SimulatedInstrument):
    """A function generator; a subclass supplies a model and its commands."""

    channels = 2
    least_v: ClassVar[float]  # least amplitude, Vpp into an open circuit
    bus_sources: ClassVar[tuple[str, ...]]  # trigger sources with which ``*TRG`` plays a burst
    # Is given, at each trigger, the channel, what it emits (None: its output is off), and whether
    # a pulse goes out with it. The wiring sets it.
    on_trigger: Callable[[int, Emission | None, bool], None] = lambda *_: None

    @abstractmethod
    def _waveform(self, channel: int) -> Waveform:
        """Return one cycle of what a channel plays."""

    @abstractmethod
    def synced(self, channel: int) -> bool:
        """Tell whether a trigger of this channel leaves the instrument as a pulse."""

    def _rate(self, channel: int) -> float:
        """Return how many points a channel plays a second."""
        return float(self.get("frequency", channel) * len(self._waveform(channel).points))

    def emission(self, channel: int) -> Emission | None:
        """Return what a channel emits when it is triggered, or all the time; none while off."""
        if not self.get("output", channel):
            return None
        waveform = self._waveform(channel)
        gain = waveform.gain(self.get("amplitude", channel))
        if self.get("polarity", channel) == "INV":  # around the offset
            gain = -gain
        volts = waveform.points * gain + self.get("offset", channel)
        cycles = self.get("cycles", channel) if self.get("burst", channel) else math.inf
        return Emission(volts, self._rate(channel), cycles)

    def _amplitudes(self, channel: int) -> tuple[float, float]:
        """Return the bounds of the amplitude, Vpp into an open circuit."""
        _, low, high = self._waveform(channel)
        return self.least_v, OPEN_V * (high - low) / 2 if high > low else OPEN_V

    def _check(self, channel: int) -> None:
        """Raise -221 if the output stage cannot do what is set."""
        waveform, offset = self._waveform(channel), self.get("offset", channel)
        amplitude = self.get("amplitude", channel)
        gain = waveform.gain(amplitude)
        peak = max(abs(offset + gain * waveform.low), abs(offset + gain * waveform.high))
        if max(amplitude / self._amplitudes(channel)[1], peak / (OPEN_V / 2)) > 1 + 1e-6:
            raise ScpiError(-221)

    def _load(self, channel: int) -> float:
        """Return what a volt into an open circuit is at the load that was set, V."""
        ohm = self.get("load", channel)
        return 1.0 if math.isinf(ohm) else float(ohm / (ohm + SOURCE_OHM))

    def _level(self, sign: int, channel: int) -> float:
        """Return the upper (1) or the lower (-1) level, V into an open circuit."""
        return float(self.get("offset", channel) + sign * self.get("amplitude", channel) / 2)

    def _move_level(self, sign: int, channel: int) -> None:
        """Set a level to the value of "level", and leave the other one as it is."""
        level, other = self.get("level", channel), self._level(-sign, channel)
        if sign * (level - other) <= 0:
            raise ScpiError(-221)
        self.put("amplitude", sign * (level - other), channel)
        self.put("offset", (level + other) / 2, channel)
        self._check(channel)

    def waits(self, channel: int) -> bool:
        """Tell whether a channel waits for a trigger from the bus."""
        triggered = self.get("burst", channel) and self.get("burst mode", channel) == "TRIG"
        return bool(triggered and self.get("trigger source", channel) in self.bus_sources)

    def plays_freely(self, channel: int) -> bool:
        """Tell whether a channel plays all the time, or on a clock of its own."""
        clocked = self.get("trigger source", channel) in ("IMM", "TIM")
        return bool(self.get("output", channel) and (clocked or not self.get("burst", channel)))

    def trigger(self, *_: object) -> None:
        """Play on all channels that wait for a trigger."""
        waiting = [channel for channel in range(1, self.channels + 1) if self.waits(channel)]
        if not waiting:
            raise ScpiError(-211)
        for channel in waiting:
            self.play(channel)

    def play(self, channel: int, *_: object) -> None:
        """Play on a channel, as its trigger key does."""
        self.on_trigger(channel, self.emission(channel), self.synced(channel))

    commands = (
        *SimulatedInstrument.commands,
        _voltage("[:AMPLitude]", "amplitude", 0.2, _amplitudes, then=check),
        _voltage(":OFFSet", "offset", 0.0, _OFFSETS_V, then=check),
        _level_command(":HIGH", 1),
        _level_command(":LOW", -1),
        keyword("[SOURce#:]VOLTage:UNIT", "unit", ("VPP", "VRMS", "DBM")),
        keyword("[SOURce#:]BURSt:MODE", "burst mode", ("TRIGgered", "GATed")),
        switch("OUTPut#[:STATe]", "output"),
        keyword("OUTPut#:POLarity", "polarity", ("NORMal", "INVerted")),
        Command("SYSTem:BEEPer[:IMMediate]", do=lambda *_: None),
    )
