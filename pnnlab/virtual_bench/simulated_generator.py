"""What a function generator puts out, whatever its dialect."""

import math
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from pnnlab.virtual_bench.commands import INFINITY, Bounds, Kind, Number, Value, nr3
from pnnlab.virtual_bench.instrument import SimulatedInstrument
from pnnlab.virtual_bench.messages import ScpiError
from pnnlab.virtual_bench.table import Command, Entry, Setting, as_text

Points: TypeAlias = NDArray[np.float64]

SOURCE_OHM = 50.0
OPEN_V = 20.0  # Vpp into an open circuit, at most
_PERIOD = 4096  # points of one period of a built-in shape
_PHASE = np.arange(_PERIOD) / _PERIOD

SHAPES: dict[str, Points] = {  # one period each, between -1 and 1
    "SIN": np.sin(2 * np.pi * _PHASE),
    "SQU": np.where(_PHASE < 0.5, 1.0, -1.0),
    "RAMP": 2 * _PHASE - 1,
    "TRI": 1 - np.abs(4 * ((_PHASE + 0.25) % 1) - 2),
    "PULS": np.where(_PHASE < 0.1, 1.0, -1.0),
    "DC": np.zeros(_PERIOD),
}


@final
@dataclass(frozen=True)
class Emission:
    """What a channel puts out from a trigger on.

    Attributes
    ----------
    volts : array, (points,), float64
        One cycle, V into a high impedance, each point held for ``1 / rate_hz``.
    rate_hz : float
        Points a second.
    cycles : float
        How many cycles; infinite for ever. Then the first point is held.
    """

    volts: Points
    rate_hz: float
    cycles: float = math.inf

    @property
    def seconds(self) -> float:
        """How long it plays."""
        return len(self.volts) * self.cycles / self.rate_hz

    def held(self, samples: int, sample_s: float) -> Points:
        """What it holds in the middle of each of so many samples of another clock.

        Returns
        -------
        array, (samples,), float64
            V.
        """
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


Plug: TypeAlias = Callable[[int, Emission | None, bool], None]
"""What a trigger sets off: the channel, what it emits (none: output off), whether it was synced."""


class SimulatedGenerator(SimulatedInstrument):
    """A function generator; a subclass supplies a model and its commands.

    Attributes
    ----------
    plug : callable
        Called at each trigger; whoever wires the bench sets it.
    """

    def __init__(
        self,
        identity: str,
        entries: Iterable[Entry],
        *,
        channels: int,
        memory_bytes: int,
        lock: "threading.RLock | None" = None,
    ) -> None:
        self.plug: Plug = lambda *_: None
        super().__init__(identity, entries, channels=channels, memory_bytes=memory_bytes, lock=lock)

    @abstractmethod
    def emission(self, channel: int) -> Emission | None:
        """What a channel emits when triggered, or all the time; none while its output is off."""

    @abstractmethod
    def waits(self, channel: int) -> bool:
        """Whether a channel waits for a trigger from the bus."""

    @abstractmethod
    def plays_freely(self, channel: int) -> bool:
        """Whether a channel plays all the time, or on a clock of its own."""

    @abstractmethod
    def synced(self, channel: int) -> bool:
        """Whether a trigger of this channel leaves the instrument as a pulse."""

    @abstractmethod
    def check(self, channel: int) -> None:
        """Raise -221 if the output stage cannot do what is set."""

    def load(self, channel: int) -> float:
        """What a volt into an open circuit is called at the load that was set."""
        ohm = self.get("load", channel)
        return 1.0 if ohm >= INFINITY else float(ohm / (ohm + SOURCE_OHM))

    @final
    def trigger(self) -> None:
        """``*TRG``: play on all channels that wait for it."""
        waiting = [channel for channel in range(1, self.channels + 1) if self.waits(channel)]
        if not waiting:
            raise ScpiError(-211)
        for channel in waiting:
            self.play(channel)

    @final
    def play(self, channel: int) -> None:
        """Play on a channel, as its trigger key does."""
        self.plug(channel, self.emission(channel), self.synced(channel))


@final
@dataclass(frozen=True)
class Level(Kind):
    """A voltage, kept as it is into an open circuit and called by what the set load makes of it.

    Attributes
    ----------
    number : Number
        Its value after ``*RST``, V into an open circuit, and its bounds, V into the set load.
    """

    number: Number

    def start(self) -> float:
        """V into an open circuit."""
        return self.number.initial

    def read(self, text: str, instrument: Any, channel: int) -> float:
        """Read V into the set load."""
        return self.number.read(text, instrument, channel) / float(instrument.load(channel))

    def limit(self, text: str, instrument: Any, channel: int) -> float | None:
        """The bound that is named, V into an open circuit."""
        bound = self.number.limit(text, instrument, channel)
        return None if bound is None else bound / float(instrument.load(channel))

    def show(self, value: Value, instrument: Any, channel: int) -> str:
        """V into the set load."""
        return self.number.show(float(value) * instrument.load(channel), instrument, channel)


def checked(generator: SimulatedGenerator, channel: int, *_: object) -> None:
    """Have a setting put back if the output stage cannot do it."""
    generator.check(channel)


def offset_bounds(generator: SimulatedGenerator, channel: int) -> tuple[float, float]:
    """What the offset may be, V into the set load."""
    most = OPEN_V / 2 * generator.load(channel)
    return -most, most


def levels(root: str, amplitude: Bounds, form: Callable[[float], str] = nr3) -> tuple[Entry, ...]:
    """Amplitude and offset, and the same as upper and lower level.

    Parameters
    ----------
    root : str
        Header before AMPLitude, OFFSet, HIGH and LOW.
    amplitude : (float, float) or callable
        Bounds of the amplitude, Vpp into the set load.
    form : callable
        How numbers are shown.
    """
    swing, offset = Number(0.2, amplitude, "V", form), Number(0.0, offset_bounds, "V", form)
    return (
        Setting(f"{root}[:AMPLitude]", "amplitude", Level(swing), checked),
        Setting(f"{root}:OFFSet", "offset", Level(offset), checked),
        *(_edge(f"{root}:{name}", edge, offset) for edge, name in enumerate(("LOW", "HIGH"))),
    )


def _edge(pattern: str, edge: int, number: Number) -> Command:
    def now(generator: SimulatedGenerator, channel: int) -> list[float]:
        load = generator.load(channel)
        middle, half = generator.get("offset", channel), generator.get("amplitude", channel) / 2
        return [(middle - half) * load, (middle + half) * load]

    def do(
        generator: SimulatedGenerator, channel: int, parameters: tuple[str | bytes, ...]
    ) -> None:
        edges, load = now(generator, channel), generator.load(channel)
        edges[edge] = number.read(as_text(parameters[0]), generator, channel)
        names = ("amplitude", "offset")
        before = [generator.get(name, channel) for name in names]
        low, high = edges
        try:
            if high <= low:
                raise ScpiError(-221)
            for name, volts in zip(names, (high - low, (high + low) / 2), strict=True):
                generator.put(name, volts / load, channel)
            generator.check(channel)
        except ScpiError:
            for name, volts in zip(names, before, strict=True):
                generator.put(name, volts, channel)
            raise

    def ask(generator: SimulatedGenerator, channel: int, _: tuple[str | bytes, ...]) -> str:
        return number.show(now(generator, channel)[edge], generator, channel)

    return Command(pattern, do, ask, takes=(1, 1))


def converted(points: Points, bits: int) -> Points:
    """Points between -1 and 1 as a converter of so many bits gives them."""
    codes = 2 ** (bits - 1) - 1
    return np.asarray(np.round(points * codes) / codes)


def numbers(values: tuple[Any, ...], read: Callable[[str], float]) -> Points:
    """Points that were written as numbers."""
    if any(isinstance(value, bytes) for value in values):
        raise ScpiError(-168)
    return np.array([read(value) for value in values], dtype=np.float64)
