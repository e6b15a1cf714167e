"""What a function generator puts out, whatever its make."""

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, NamedTuple, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from pnnlab.virtual_bench.instrument import (
    INVERSE,
    Bounds,
    Command,
    SimulatedInstrument,
    keyword,
    number,
    string,
    switch,
    times,
)
from pnnlab.virtual_bench.messages import Message, ScpiError

Points: TypeAlias = NDArray[np.float64]

SOURCE_OHM = 50.0
OPEN_V = 20.0  # Vpp into an open circuit, at most


class Waveform(NamedTuple):
    """One cycle in memory."""

    points: Points  # (points,), float64, between -1 and 1
    low: float = -1.0  # to `high`: what the amplitude spans
    high: float = 1.0
    # Where in the cycle the points stand, (points,), from 0 to 1, with straight lines between them;
    # None: evenly, and each is held until the next.
    phases: Points | None = None

    def gain(self, amplitude_v: float) -> float:
        """Return the volts of a point of 1."""
        return amplitude_v / (self.high - self.low) if self.high > self.low else 0.0


def _lines(phases: list[float], points: list[float]) -> Waveform:
    return Waveform(np.array(points), phases=np.array(phases))


_TURN = np.linspace(0, 1, 4097)  # lines between so many points of a sine are 3e-7 off
_SINE = Waveform(np.sin(2 * np.pi * _TURN), phases=_TURN)
_FLAT = Waveform(np.zeros(2), 0.0, 0.0, np.array([0.0, 1.0]))


@final
@dataclass(frozen=True, eq=False)
class Emission:
    """What a channel puts out from a trigger on, or all the time."""

    volts: Points  # (points,), float64: one cycle, V into a high impedance
    rate_hz: float  # points a second
    cycles: float = math.inf  # of a burst; afterwards the point it began with is held
    phases: Points | None = None  # as in `Waveform`
    start: float = 0.0  # where it begins, in cycles
    every_s: float = math.inf  # from one burst to the next that comes by itself

    @property
    def seconds(self) -> float:
        """How long a burst plays, s."""
        return len(self.volts) * self.cycles / self.rate_hz

    def held(self, samples: int, sample_s: float, first_s: float = 0.0) -> Points:
        """Return its voltage in the middle of each sample of another clock, (samples,), V.

        The first sample begins `first_s` after the trigger.
        """
        points, step = len(self.volts), self.rate_hz * sample_s
        if math.isclose(step, 1, rel_tol=1e-9):
            step = 1.0  # one clock for both: a long waveform must not slip
        at = np.arange(0.5, samples, dtype=np.float64) * step + first_s * self.rate_hz  # in points
        if self.every_s < math.inf:
            at %= self.every_s * self.rate_hz
        if self.cycles < math.inf:
            at[(at < 0) | (at >= self.cycles * points)] = 0.0
        at += self.start * points
        if self.phases is None:
            return self.volts[np.floor(at).astype(np.intp) % points]
        return np.asarray(np.interp(at / points % 1, self.phases, self.volts), dtype=np.float64)


class SimulatedGenerator(SimulatedInstrument):
    """A function generator; a subclass supplies a model and its commands."""

    channels = 2
    least_v: ClassVar[float]  # least amplitude, Vpp into an open circuit
    bus_sources: ClassVar[tuple[str, ...]]  # trigger sources with which ``*TRG`` plays a burst
    clocks: ClassVar[dict[str, str]]  # those that trigger by themselves, and the setting: how often
    burst_phase: ClassVar[str]  # the setting where a burst begins
    fastest_hz: ClassVar[dict[str, float]]  # of functions; "" are all others
    # Is given, at each trigger, the channel, what it emits (None: its output is off), and whether
    # a pulse goes out with it. The wiring sets it.
    on_trigger: Callable[[int, Emission | None, bool], None] = lambda *_: None
    on_change: Callable[[], None] = lambda *_: None  # called after each message

    def execute(self, message: Message) -> bytes:
        """Carry out a message, and let what is wired see what has changed."""
        with self.lock:
            answer = super().execute(message)
            self.on_change()
            return answer

    @abstractmethod
    def synced(self, channel: int) -> bool:
        """Tell whether a trigger of this channel leaves the instrument as a pulse."""

    @abstractmethod
    def memory(self, channel: int) -> Waveform:
        """Return one cycle of what a channel plays from memory."""

    def waveform(self, channel: int) -> Waveform:
        """Return one cycle of what a channel plays.

        A function is at 0° where it rises through its middle (33500 guide, BURSt:PHASe).
        """
        name, get = self.get("function", channel), partial(self.get, channel=channel)
        if name == "SIN":
            return _SINE
        if name in ("SQU", "PULS"):
            duty = float(self._values.get(("duty", channel), 50.0)) / 100
            high = duty if name == "SQU" else get("frequency") * get("width")
            return _lines([0, high, high, 1], [1, 1, -1, -1])
        if name in ("RAMP", "TRI"):
            rise = 0.5 if name == "TRI" else get("symmetry") / 100
            return _lines([0, rise / 2, 1 - rise / 2, 1], [0, 1, -1, 0])
        return _FLAT if name == "DC" else self.memory(channel)

    def _rate(self, channel: int) -> float:
        """Return how many points a channel plays a second."""
        return float(self.get("frequency", channel) * len(self.waveform(channel).points))

    def emission(self, channel: int) -> Emission | None:
        """Return what a channel emits when it is triggered, or all the time; none while off."""
        get, waveform, rate = partial(self.get, channel=channel), self.waveform(channel), self._rate
        if not get("output"):
            return None
        gain = waveform.gain(get("amplitude")) * (-1 if get("polarity") == "INV" else 1)
        volts = waveform.points * gain + get("offset")
        if not get("burst"):
            return Emission(volts, rate(channel), math.inf, waveform.phases, get("phase") / 360)
        cycles, every_s, clock = get("cycles"), math.inf, self.clocks.get(get("trigger source"))
        if clock and math.isfinite(cycles):  # the period grows with a burst that it cannot hold
            every_s = max(get(clock), cycles * len(volts) / rate(channel))
        start = get(self.burst_phase) / 360
        return Emission(volts, rate(channel), cycles, waveform.phases, start, every_s)

    def amplitudes(self, channel: int) -> tuple[float, float]:
        """Return the bounds of the amplitude, Vpp into an open circuit."""
        waveform = self.waveform(channel)
        return self.least_v, OPEN_V / 2 * (waveform.high - waveform.low or 2)

    def settle(self, channel: int) -> None:
        """Let the settings of a channel follow each other; -221 if its stage cannot do them."""
        get, function = partial(self.get, channel=channel), self.get("function", channel)
        self._adjust("frequency", self.fastest_hz.get(function, self.fastest_hz[""]), channel)
        if function == "PULS":
            self._adjust("width", 1 / get("frequency"), channel)
        waveform = self.waveform(channel)
        gain = waveform.gain(get("amplitude"))
        peak = max(abs(get("offset") + gain * end) for end in (waveform.low, waveform.high))
        if max(get("amplitude") / self.amplitudes(channel)[1], peak / OPEN_V * 2) > 1 + 1e-6:
            raise ScpiError(-221)

    def _adjust(self, name: str, most: float, channel: int) -> None:
        if self.get(name, channel) > most:
            self.put(name, most, channel)
            self.report(ScpiError(-221, f"Settings conflict;{name} adjusted"))

    def load(self, channel: int) -> float:
        """Return what a volt into an open circuit is at the load that was set, V."""
        ohm = self.get("load", channel)
        return 1.0 if math.isinf(ohm) else float(ohm / (ohm + SOURCE_OHM))

    def _level(self, sign: int, channel: int) -> float:
        """Return the upper (1) or the lower (-1) level, V into an open circuit."""
        return float(self.get("offset", channel) + sign * self.get("amplitude", channel) / 2)

    def _triggered(self, channel: int) -> bool:
        """Tell whether a trigger makes a channel play a burst."""
        return bool(self.get("burst", channel) and self.get("burst mode", channel) == "TRIG")

    def waits(self, channel: int) -> bool:
        """Tell whether a channel waits for a trigger from the bus."""
        return self._triggered(channel) and self.get("trigger source", channel) in self.bus_sources

    def plays_freely(self, channel: int) -> bool:
        """Tell whether a channel plays all the time, or on a clock of its own."""
        clocked = self._triggered(channel) and self.get("trigger source", channel) in self.clocks
        free = not self.get("burst", channel) or channel in self._endless or clocked
        return bool(free and self.get("output", channel))

    def trigger(self, *_: object) -> None:
        """Play on all channels that wait for a trigger."""
        waiting = [channel for channel in range(1, self.channels + 1) if self.waits(channel)]
        if not waiting:
            raise ScpiError(-211)
        for channel in waiting:
            self.play(channel)

    def play(self, channel: int, *_: object) -> None:
        """Play a burst on a channel, as its trigger key does whatever the source."""
        if not self._triggered(channel):
            raise ScpiError(-211)
        if math.isinf(self.get("cycles", channel)):
            self._endless.add(channel)
        self.on_trigger(channel, self.emission(channel), self.synced(channel))

    def _clear_state(self) -> None:
        self._endless: set[int] = set()
        for channel in range(1, self.channels + 1):
            self.settle(channel)


_Kept: TypeAlias = tuple[str, float, Bounds]  # name, initial value, bounds
settle = SimulatedGenerator.settle  # `then` of what shapes the output
_VOLTAGE = "[SOURce#:]VOLTage[:LEVel][:IMMediate]"
_AT_LOAD = times(SimulatedGenerator.load)


def _stop(generator: SimulatedGenerator, channel: int) -> None:
    generator._endless.discard(channel)


def _level(header: str, sign: int) -> Command:
    def show(_: float, generator: SimulatedGenerator, channel: int) -> float:
        return generator._level(sign, channel) * generator.load(channel)

    def move(generator: SimulatedGenerator, channel: int) -> None:  # the other level stays
        level, other = generator.get("level", channel), generator._level(-sign, channel)
        if sign * (level - other) <= 0:
            raise ScpiError(-221)
        generator.put("amplitude", sign * (level - other), channel)
        generator.put("offset", (level + other) / 2, channel)
        generator.settle(channel)

    bounds = (-OPEN_V / 2, OPEN_V / 2)
    return number(header, "level", 0.0, bounds, "V", scale=_AT_LOAD, then=move, show=show)


def commands(
    burst: str,
    cycles: tuple[float, float],
    hz: tuple[float, float],
    pulse: str,
    symmetry: float,
) -> tuple[Command, ...]:
    """Return the commands that makes share.

    `burst` and `pulse` are headers; `cycles` and `hz` the value after ``*RST`` and the greatest.
    """
    width: _Kept = ("width", 0.1 / hz[0], (1e-9, 1e6))
    frequency: _Kept = ("frequency", hz[0], (1e-6, hz[1]))
    percent = times(lambda g, c: 100 * g.get("frequency", c))
    ramp = "[SOURce#:]FUNCtion:RAMP:SYMMetry"
    count: _Kept = ("cycles", cycles[0], (1, cycles[1]))
    offset: _Kept = ("offset", 0.0, (-OPEN_V / 2, OPEN_V / 2))
    amplitude: _Kept = ("amplitude", 0.2, SimulatedGenerator.amplitudes)
    return (
        *SimulatedInstrument.commands,
        number(f"{_VOLTAGE}[:AMPLitude]", *amplitude, "VPP", scale=_AT_LOAD, then=settle),
        number(f"{_VOLTAGE}:OFFSet", *offset, "V", scale=_AT_LOAD, then=settle),
        _level(f"{_VOLTAGE}:HIGH", 1),
        _level(f"{_VOLTAGE}:LOW", -1),
        keyword("[SOURce#:]VOLTage:UNIT", "unit", ("VPP",)),
        number("[SOURce#:]FREQuency[:CW|FIXed]", *frequency, "HZ", then=settle),
        keyword("[SOURce#:]FREQuency:MODE", "frequency mode", ("CW", "FIXed")),
        number(ramp, "symmetry", symmetry, (0, 100), "PCT", then=settle),
        number(f"{pulse}:PERiod", *frequency, "S", scale=INVERSE, then=settle),
        keyword(f"{pulse}:HOLD", "hold", ("WIDTh",)),
        number(f"{pulse}:WIDTh", *width, "S", then=settle),
        number(f"{pulse}:DCYCle", *width, "PCT", scale=percent, then=settle),
        switch(burst, "burst", then=_stop),
        keyword("[SOURce#:]BURSt:MODE", "burst mode", ("TRIGgered", "GATed"), then=_stop),
        number("[SOURce#:]BURSt:NCYCles", *count, infinite=True, then=_stop),
        switch("OUTPut#[:STATe]", "output"),
        keyword("OUTPut#:POLarity", "polarity", ("NORMal", "INVerted")),
        string("DISPlay[:WINDow]:TEXT[:DATA]", "display text"),
        Command("DISPlay[:WINDow]:TEXT:CLEar", do=lambda g, *_: g.put("display text", "")),
        Command("SYSTem:BEEPer[:IMMediate]", do=lambda *_: None),
    )
