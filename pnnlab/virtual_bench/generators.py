"""What a function generator puts out, whatever its make."""

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from pnnlab.virtual_bench.instrument import (
    INVERSE,
    Command,
    Scale,
    SimulatedInstrument,
    keyword,
    number,
    switch,
    times,
)
from pnnlab.virtual_bench.messages import Message, Parameters, ScpiError

Points: TypeAlias = NDArray[np.float64]

SOURCE_OHM = 50.0
UNITS = ("VPP", "VRMS", "DBM")
OPEN_V = 20.0  # Vpp into an open circuit, at most
_OFFSETS_V = (-OPEN_V / 2, OPEN_V / 2)
_EDGE = 0.8  # of an edge lies between the 10 % and 90 % that its time is measured at


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

    def rms(self) -> float:
        """Return the root mean square of one volt peak to peak, without the mean; 0 for memories.

        The rms is exact for straight lines.
        """
        if self.phases is None:
            return 0.0
        parts, one, two = np.diff(self.phases), self.points[:-1], self.points[1:]
        mean, square = parts @ (one + two) / 2, parts @ (one**2 + one * two + two**2) / 3
        return self.gain(math.sqrt(max(square - mean**2, 0.0)))


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

    @property
    def period_s(self) -> float:
        """How long until everything repeats, s."""
        return self.every_s if self.every_s < math.inf else len(self.volts) / self.rate_hz

    def held(self, samples: int, sample_s: float, first_s: float = 0.0) -> Points:
        """Return its voltage in the middle of each sample of another clock, (samples,), V.

        The first sample begins `first_s` after the trigger.
        """
        points, step = len(self.volts), self.rate_hz * sample_s
        if math.isclose(step, 1, rel_tol=1e-9):
            step = 1.0  # one clock for both: a long waveform must not slip
        if (
            step == 1
            and samples <= points
            and not (first_s or self.start or self.phases is not None)
        ):
            return self.volts[:samples]
        at = (np.arange(samples) + 0.5) * step + first_s * self.rate_hz  # in points
        if self.every_s < math.inf:
            at %= self.every_s * self.rate_hz
        if self.cycles < math.inf:
            at[(at < 0) | (at >= self.cycles * points)] = 0.0
        at += self.start * points
        if self.phases is None:
            return self.volts[np.floor(at).astype(np.intp) % points]
        return np.interp(at / points % 1, self.phases, self.volts)


def settle(generator: "SimulatedGenerator", channel: int) -> None:
    """Let a channel follow a setting, or refuse the setting."""
    generator.settle(channel)


def _level(header: str, sign: int) -> Command:
    return number(
        f"[SOURce#:]VOLTage[:LEVel][:IMMediate]{header}",
        "level",
        0.0,
        _OFFSETS_V,
        "V",
        scale=times(lambda g, c: g.load(c)),
        then=lambda g, c: g.move_level(sign, c),
        show=lambda _, g, c: g.level(sign, c) * g.load(c),
    )


_AMPLITUDE = number(
    "[SOURce#:]VOLTage[:LEVel][:IMMediate][:AMPLitude]",
    "amplitude",
    0.2,
    lambda g, c: g.amplitudes(c),
    "VPP",
    scale=Scale(lambda v, g, c: g.out_of_unit(v, c), lambda v, g, c: g.in_unit(v, c)),
    then=settle,
)


def set_amplitude(generator: "SimulatedGenerator", channel: int, parameters: Parameters) -> None:
    """Set the amplitude; a unit after the number is that of this number alone."""
    unit = generator.get("unit", channel)
    for word in UNITS:
        if parameters[0].upper().endswith(word):
            generator.put("unit", word, channel)
            generator.check_unit(channel)
    _AMPLITUDE.do(generator, channel, parameters)
    generator.put("unit", unit, channel)


def cycle(
    root: str, hold: str, initial_hz: float, bounds_hz: tuple[float, float], *, symmetry: float
) -> tuple[Command, ...]:
    """Return the commands of frequency, pulse (its headers begin with `root`) and ramp."""
    widths = (1e-9, 1e6)
    percent = Scale(
        lambda value, g, c: value / 100 / g.get("frequency", c),
        lambda width_s, g, c: 100 * width_s * g.get("frequency", c),
    )
    hz: Any = ("frequency", initial_hz, bounds_hz)
    return (
        number("[SOURce#:]FREQuency[:CW|FIXed]", *hz, "HZ", then=settle),
        keyword("[SOURce#:]FREQuency:MODE", "frequency mode", ("CW", "FIXed")),
        number(f"{root}:PERiod", *hz, "S", scale=INVERSE, then=settle),
        keyword(f"{root}:HOLD", "hold", ("WIDTh", hold), then=settle),
        number(f"{root}:WIDTh", "width", 0.1 / initial_hz, widths, "S", then=settle),
        number(
            f"{root}:DCYCle", "width", 0.1 / initial_hz, widths, "PCT", scale=percent, then=settle
        ),
        number(
            "[SOURce#:]FUNCtion:RAMP:SYMMetry", "symmetry", symmetry, (0, 100), "PCT", then=settle
        ),
    )


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
        name = self.get("function", channel)
        if name == "SIN":
            return _SINE
        if name == "SQU":
            high = self._values.get(("duty", channel), 50.0) / 100
            return _lines([0, high, high, 1], [1, 1, -1, -1])
        if name in ("RAMP", "TRI"):
            rise = 0.5 if name == "TRI" else self.get("symmetry", channel) / 100
            return _lines([0, rise / 2, 1 - rise / 2, 1], [0, 1, -1, 0])
        if name == "PULS":
            hz, width_s = self.get("frequency", channel), self.get("width", channel)
            one, two = (self.get(edge, channel) / _EDGE for edge in ("leading", "trailing"))
            top_s = width_s + (one - two) / 2  # the width is from middle to middle
            return _lines([0, hz * one, hz * top_s, hz * (top_s + two), 1], [-1, 1, 1, -1, -1])
        return _FLAT if name == "DC" else self.memory(channel)

    def _rate(self, channel: int) -> float:
        """Return how many points a channel plays a second."""
        return float(self.get("frequency", channel) * len(self.waveform(channel).points))

    def emission(self, channel: int) -> Emission | None:
        """Return what a channel emits when it is triggered, or all the time; none while off."""
        if not self.get("output", channel):
            return None
        waveform = self.waveform(channel)
        gain = waveform.gain(self.get("amplitude", channel))
        if self.get("polarity", channel) == "INV":  # around the offset
            gain = -gain
        volts = waveform.points * gain + self.get("offset", channel)
        rate = self._rate(channel)
        if not self.get("burst", channel):
            start = self.get("phase", channel) / 360
            return Emission(volts, rate, phases=waveform.phases, start=start)
        cycles, start = self.get("cycles", channel), self.get(self.burst_phase, channel) / 360
        clock = self.clocks.get(self.get("trigger source", channel))
        every_s = math.inf
        if clock and math.isfinite(cycles):  # the period grows with a burst that it cannot hold
            every_s = max(self.get(clock, channel), cycles * len(volts) / rate)
        return Emission(volts, rate, cycles, waveform.phases, start, every_s)

    def amplitudes(self, channel: int) -> tuple[float, float]:
        """Return the bounds of the amplitude, Vpp into an open circuit."""
        waveform = self.waveform(channel)
        span = waveform.high - waveform.low
        return self.least_v, OPEN_V * span / 2 if span > 0 else OPEN_V

    def settle(self, channel: int) -> None:
        """Let the settings of a channel follow each other; -221 if its stage cannot do them."""
        hz = min(
            self.get("frequency", channel),
            self.fastest_hz.get(self.get("function", channel), self.fastest_hz[""]),
        )
        if hz < self.get("frequency", channel):
            self.put("frequency", hz, channel)
            self.report(ScpiError(-221, "Settings conflict;frequency reduced"))
        if self.get("hold", channel) != "WIDT":
            self._multiply("width", self._values.get(("hz before", channel), hz) / hz, channel)
        self.put("hz before", hz, channel)
        self._fit_pulse(channel)
        waveform = self.waveform(channel)
        rms, unit = waveform.rms(), self.get("unit", channel)
        if rms == 0 or (unit == "DBM" and math.isinf(self.get("load", channel))):
            self.put("unit", "VPP", channel)
        elif unit != "VPP":  # keeps its number
            self._multiply("amplitude", self.get("rms before", channel) / rms, channel)
        self.put("rms before", rms, channel)
        amplitude, offset = self.get("amplitude", channel), self.get("offset", channel)
        gain = waveform.gain(amplitude)
        peak = max(abs(offset + gain * waveform.low), abs(offset + gain * waveform.high))
        if max(amplitude / self.amplitudes(channel)[1], peak / (OPEN_V / 2)) > 1 + 1e-6:
            raise ScpiError(-221)

    def _multiply(self, name: str, factor: float, channel: int) -> None:
        self.put(name, self.get(name, channel) * factor, channel)

    def _fit_pulse(self, channel: int) -> None:
        one, two = (self.get(edge, channel) / _EDGE for edge in ("leading", "trailing"))
        least, most = (one + two) / 2, 1 / self.get("frequency", channel) - (one + two) / 2
        width, plays = self.get("width", channel), self.get("function", channel) == "PULS"
        if least > most and plays:
            raise ScpiError(-221)
        if not least <= width <= most:
            self.put("width", max(min(width, most), least), channel)
            if plays:
                self.report(ScpiError(-221, "Settings conflict;pulse width has been adjusted"))

    def load(self, channel: int) -> float:
        """Return what a volt into an open circuit is at the load that was set, V."""
        ohm = self.get("load", channel)
        return 1.0 if math.isinf(ohm) else float(ohm / (ohm + SOURCE_OHM))

    def in_unit(self, open_v: float, channel: int) -> float:
        """Express an amplitude, Vpp into an open circuit, in the unit that is set."""
        unit, volts = self.get("unit", channel), open_v * self.load(channel)
        if unit != "VPP":
            volts *= self.waveform(channel).rms()
        return (
            10 * math.log10(volts**2 / self.get("load", channel) / 1e-3) if unit == "DBM" else volts
        )

    def out_of_unit(self, value: float, channel: int) -> float:
        """Return an amplitude in the unit that is set as Vpp into an open circuit."""
        unit = self.get("unit", channel)
        if unit == "DBM":
            value = math.sqrt(1e-3 * self.get("load", channel) * 10 ** (min(value, 100) / 10))
        return value / self.load(channel) / (1 if unit == "VPP" else self.waveform(channel).rms())

    def check_unit(self, channel: int) -> None:
        """Refuse a unit that has no meaning for the function or the load."""
        unit = self.get("unit", channel)
        if unit != "VPP" and not self.waveform(channel).rms():
            raise ScpiError(-221)
        if unit == "DBM" and math.isinf(self.get("load", channel)):
            raise ScpiError(-221)

    def level(self, sign: int, channel: int) -> float:
        """Return the upper (1) or the lower (-1) level, V into an open circuit."""
        return float(self.get("offset", channel) + sign * self.get("amplitude", channel) / 2)

    def move_level(self, sign: int, channel: int) -> None:
        """Set a level to the value of "level", and leave the other one as it is."""
        level, other = self.get("level", channel), self.level(-sign, channel)
        if sign * (level - other) <= 0:
            raise ScpiError(-221)
        self.put("amplitude", sign * (level - other), channel)
        self.put("offset", (level + other) / 2, channel)
        self.settle(channel)

    def _triggered(self, channel: int) -> bool:
        """Tell whether a trigger makes a channel play a burst."""
        return bool(self.get("burst", channel) and self.get("burst mode", channel) == "TRIG")

    def waits(self, channel: int) -> bool:
        """Tell whether a channel waits for a trigger from the bus."""
        return self._triggered(channel) and self.get("trigger source", channel) in self.bus_sources

    def plays_freely(self, channel: int) -> bool:
        """Tell whether a channel plays all the time, or on a clock of its own."""
        if not self.get("output", channel):
            return False
        if not self.get("burst", channel):
            return True
        if channel in self._endless and math.isinf(self.get("cycles", channel)):
            return True
        return self._triggered(channel) and self.get("trigger source", channel) in self.clocks

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
        self._endless.add(channel)  # if it is: until it is stopped
        self.on_trigger(channel, self.emission(channel), self.synced(channel))

    def stop(self, channel: int, *_: object) -> None:
        """End a burst that has no end."""
        self._endless.discard(channel)

    def _clear_state(self) -> None:
        self._endless: set[int] = set()
        for channel in range(1, self.channels + 1):
            self.settle(channel)

    commands = (
        *SimulatedInstrument.commands,
        Command(
            _AMPLITUDE.pattern,
            set_amplitude,
            _AMPLITUDE.ask,
            (1, 1),
            (0, 1),
            setting=_AMPLITUDE.setting,
        ),
        number(
            "[SOURce#:]VOLTage[:LEVel][:IMMediate]:OFFSet",
            "offset",
            0.0,
            _OFFSETS_V,
            "V",
            scale=times(lambda g, c: g.load(c)),
            then=settle,
        ),
        _level(":HIGH", 1),
        _level(":LOW", -1),
        keyword(
            "[SOURce#:]VOLTage:UNIT",
            "unit",
            UNITS,
            then=lambda g, c: g.check_unit(c),
        ),
        keyword("[SOURce#:]BURSt:MODE", "burst mode", ("TRIGgered", "GATed")),
        switch("OUTPut#[:STATe]", "output"),
        keyword("OUTPut#:POLarity", "polarity", ("NORMal", "INVerted")),
        Command("SYSTem:BEEPer[:IMMediate]", do=lambda *_: None),
    )
