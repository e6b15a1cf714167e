"""When an oscilloscope triggers, what it keeps, and what its converter makes of that."""

import math
import threading
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from pnnlab.virtual_bench.generators import Points
from pnnlab.virtual_bench.instrument import Command, SimulatedInstrument, keyword, switch, times
from pnnlab.virtual_bench.messages import Message, ScpiError

PULSE_V = 3.3  # a trigger pulse, high; low is 0 V
NOISE = 0.006  # of the screen's height, rms, each sample
JITTER = 0.01  # of a sample of the device's, at most, either way
SOURCES = tuple(f"CHANnel{n}" for n in range(1, 5))


@final
@dataclass(frozen=True, eq=False)
class Signal:
    """What arrives at the connectors around a generator's trigger, or without one."""

    volts: Points  # (samples,), float64, V at the end of each sample; straight lines between them
    rest: float  # what there was before, V
    sample_s: float  # duration of a sample, s
    delay_s: float = 0.0  # when the first sample begins, s after the trigger pulse
    pulse_s: float | None = None  # length of the pulse at the external trigger, s; None: no pulse
    repeats: bool = False  # whether it comes again and again

    def at(self, times: Points) -> Points:
        """Interpolate the voltage at times in s after the pulse."""
        nodes, begins = np.append(self.rest, self.volts), np.arange(-1.0, len(self.volts))
        volts: Points = np.interp((times - self.delay_s) / self.sample_s - 1, begins, nodes)
        return volts

    def crossing(self, level: float, slope: str) -> float | None:
        """Find when the voltage first crosses a level, s after the pulse and not before it."""
        above = (np.append(self.rest, self.volts) - level) * (1 if slope == "POS" else -1)
        before = max(0, math.ceil(-self.delay_s / self.sample_s))
        (crossed,) = np.nonzero((above[before:-1] < 0) & (above[before + 1 :] >= 0))
        if not len(crossed):
            return None
        first = before + int(crossed[0])
        part = float(above[first] / (above[first] - above[first + 1]))
        return self.delay_s + (first + part) * self.sample_s


class Screen(NamedTuple):
    """The settings of the axes."""

    centre_v: float  # middle of the screen's eight divisions, V
    height_v: float
    start_s: float  # left edge, s after the trigger
    width_s: float
    points: int  # how many the memory takes over that width


@final
@dataclass(frozen=True, eq=False)
class Capture:
    """A record: the signal, and how it was taken."""

    signals: tuple[tuple[Signal, float], ...]  # each with its trigger, s after the pulse
    averages: int  # the number of records whose mean it is
    screen: Screen
    gain: float  # what a volt at the connector is called
    offset_v: float  # of the input, V
    alternating: bool  # whether the mean is taken off
    seed: tuple[int, int] | None  # of the noise and of the trigger's jitter; None: neither
    fault: str  # "", "hole" or "saturate"

    def volts(self, channel: int, points: int) -> Points:
        """Sample a channel evenly over the screen, (points,), V; only the first is connected."""
        screen = self.screen
        rng = None if self.seed is None else np.random.default_rng(self.seed)
        volts = np.zeros(points)
        if channel == 1:
            for signal, triggered_s in self.signals:
                jitter = JITTER * signal.sample_s * rng.uniform(-1, 1) if rng else 0.0
                start = screen.start_s + triggered_s + jitter
                times = start + np.arange(points, dtype=np.float64) * (screen.width_s / points)
                volts += signal.at(times) / len(self.signals)
            if self.alternating:
                volts -= volts.mean()
            volts = (volts + self.offset_v) * self.gain
        if rng is not None:
            noise = NOISE * screen.height_v / math.sqrt(self.averages)
            volts += noise * rng.standard_normal(points)
        return volts


AT_PROBE = times(lambda scope, channel: scope.probe(channel))


class SimulatedOscilloscope(SimulatedInstrument):
    """An oscilloscope; a subclass supplies a model and its commands.

    A record is taken at once when its trigger comes. Armed with the sweep on automatic, or while
    the generator runs freely, it takes one at once as well; running, whenever its record is asked
    for. With `noise`, of this `seed`, its readings are noisy and its trigger jitters.
    """

    channels = 4
    memory_bytes = 2**20
    codes_high: ClassVar[int]  # codes of the converter's eight bits over the screen's height
    middle: ClassVar[int]  # code at its centre
    trigger_input: ClassVar[str] = "EXT"  # where the pulse arrives
    # The first two fields of the preamble: each a setting, and its values in order.
    preamble: ClassVar[tuple[tuple[str, tuple[str, ...]], ...]]

    def __init__(self, *, noise: bool = True, seed: int = 0) -> None:
        # The signal that is there without a trigger from the bus: one that runs freely, or, if
        # called with True, whatever there is. The wiring sets it.
        self.input_signal: Callable[[bool], Signal | None] = lambda _: None
        self.fault = ""  # of the next record: "", "hole" or "saturate"
        self.drift_v = 0.0  # offset of the input that nobody calibrated, V
        self.timeout_s = 30.0  # a command that waits for a trigger is then given up
        self._closed = False
        self._noise, self._seed, self._records = noise, seed, 0
        self._converted: tuple[object, NDArray[np.uint16]] | None = None
        super().__init__()
        self._changed = threading.Condition(self.lock)

    @abstractmethod
    def _screen(self, channel: int = 1) -> Screen: ...  # as it is set now

    @abstractmethod
    def _points(self) -> int: ...  # that there are to read

    @abstractmethod
    def _reference(self) -> int: ...  # the code of the screen's centre, as it is transferred

    @abstractmethod
    def _vertical(self) -> tuple[float, float]: ...  # increment and origin of the preamble, V

    def _set_display(self) -> None:
        """Adapt what depends on the channels that are on."""

    def _clear_state(self) -> None:
        self.capture: Capture | None = None
        self._averaged: list[tuple[Signal, float]] = []
        self._stale = True
        self.run_state = "STOP"
        self.armed = self.armed_event = self.triggered_event = False

    def trigger(self, *_: object) -> None:
        """Take a record now, whatever the trigger's settings are."""
        if not self.armed:
            raise ScpiError(-211)
        self._take(self.input_signal(True) or Signal(np.zeros(1), 0.0, 1.0, repeats=True), 0.0)

    def stop(self, *_: object) -> None:
        if self.run_state == "RUN":
            self.look()
        self.armed = False
        self.run_state = "STOP"
        with self._changed:
            self._changed.notify_all()

    def arm(self, state: Literal["SING", "RUN"]) -> None:
        """Wait for a trigger, once (SING) or again and again (RUN)."""
        self.run_state = state
        if not self.armed:  # an event register sees the edge alone
            self.armed_event = True
        self.armed = True
        self._averaged.clear()
        if state == "SING":
            self.capture = None
            self.look()

    def look(self) -> None:
        """Take a record of what there is without a trigger from the bus, once a message."""
        if not self.armed or not self._stale:
            return
        self._stale = self.run_state == "SING"
        records = self._records
        if (signal := self.input_signal(False)) is not None:
            self.receive(signal)
        if self._records == records and self.get("sweep") == "AUTO":
            self.trigger()

    def execute(self, message: Message) -> bytes:
        with self.lock:
            self._stale = True
            return super().execute(message)

    def receive(self, signal: Signal) -> None:
        """Take a record of a signal if one is waited for and the signal triggers it."""
        source, level, slope = (
            self.get(f"trigger {name}") for name in ("source", "level", "slope")
        )
        when: float | None = None
        if source == self.trigger_input and signal.pulse_s is not None:
            crossed = 0 < level + 0.2 < PULSE_V  # a level of zero is crossed by noise
            when = (0.0 if slope == "POS" else signal.pulse_s) if crossed else None
        elif source == "CHAN1":
            when = signal.crossing(level / self._gain(), slope)
        if self.armed and when is not None:
            self._take(signal, when)

    def needs(self, plays_s: float) -> tuple[float, float]:
        """Return from when to when it needs what plays so long, s after the pulse."""
        screen = self._screen()
        end_s = screen.start_s + screen.width_s
        if (self.get("trigger source"), self.get("trigger slope")) == (self.trigger_input, "POS"):
            return screen.start_s, end_s
        # Another trigger may come at any time while it plays; ten screens of that are enough.
        return screen.start_s, end_s + min(plays_s, 10 * screen.width_s)

    def probe(self, channel: int) -> float:
        """Return the probe's factor: volts are kept as they are at the connector."""
        return float(self.get("probe", channel))

    def _gain(self) -> float:
        return self.probe(1) * (-1 if self.get("invert") else 1)

    def _take(self, signal: Signal, when: float) -> None:
        self._records += 1
        wanted = round(self.get("averages")) if self.get("type") == "AVER" else 1
        self._averaged = [*self._averaged, (signal, when)][-1 if signal.repeats else -wanted :]
        averages = wanted if signal.repeats else len(self._averaged)
        self.capture = Capture(
            tuple(self._averaged),
            averages,
            self._screen(),
            gain=self._gain(),
            offset_v=self.drift_v,
            alternating=self.get("coupling") == "AC",
            seed=(self._seed, self._records) if self._noise else None,
            fault=self.fault,
        )
        self.fault = ""
        self.triggered_event = True
        if self.run_state == "SING" and averages == wanted:
            self.stop()

    def _wait(self) -> None:
        # The instrument's parser, too, blocks until the record is complete.
        self._changed.wait_for(lambda: not self.armed or self._closed, self.timeout_s)
        if self.armed:
            self.stop()

    def close(self) -> None:
        """End a command that waits."""
        with self.lock:
            self._closed = True
            self._changed.notify_all()

    def _acquired(self) -> Capture:
        if self.run_state == "RUN":
            self.look()
        if self.capture is None:
            raise ScpiError(-230)
        return self.capture

    def _step_v(self) -> float:
        return self._acquired().screen.height_v / self.codes_high

    def _codes(self, bits: int = 8) -> NDArray[np.uint16]:
        """Convert the selected channel with so many bits, once for all reads; (points,), uint16.

        Eight bits are in the high byte, `middle` at the centre of the screen; 0 where nothing was
        taken, 1 below the converter's range and 0xFF00 above it.
        """
        capture, channel, points = self._acquired(), int(self.get("source")[-1]), self._points()
        key = (capture, channel, points, bits)
        if self._converted is not None and self._converted[0] == key:
            return self._converted[1]
        fine = 2 ** (bits - 8)
        volts = capture.volts(channel, points) - capture.screen.centre_v
        codes = np.round(volts / self._step_v() * fine) + self.middle * fine
        low, high = codes < 2 * fine, codes > 254 * fine + fine - 1
        words: NDArray[np.uint16] = np.clip(codes, 0, 255 * fine).astype(np.uint16) * (256 // fine)
        words[low], words[high] = 0x0001, 0xFF00
        damaged = max(1, points // 50)
        if capture.fault == "hole":
            words[points // 3 :][:damaged] = 0
        elif capture.fault == "saturate":
            words[points // 2 :][:damaged] = 0xFF00
        self._converted = key, words
        return words

    def rate(self, *_: object) -> float:
        """Return how many points are taken a second."""
        return self._screen().points / self._screen().width_s

    def _preamble(self, *_: object) -> tuple[float, ...]:
        # Format, type, points, count, and both axes.
        screen, points = self._acquired().screen, self._points()
        form = [values.index(self.get(setting)) for setting, values in self.preamble]
        axes = screen.width_s / points, screen.start_s, 0, *self._vertical(), self._reference()
        return *form, points, 1, *axes

    commands = (
        *SimulatedInstrument.commands,
        Command("RUN", do=lambda s, *_: s.arm("RUN")),
        Command("STOP", do=stop),
        switch("CHANnel#:DISPlay", "display", True, then=lambda s, *_: s._set_display()),
        keyword("CHANnel#:COUPling", "coupling", ("DC", "AC")),
        switch("CHANnel#:INVert", "invert"),
        keyword("TIMebase:MODE", "timebase mode", ("MAIN",)),
        keyword("TRIGger:MODE", "trigger mode", ("EDGE",)),
        keyword("WAVeform:SOURce", "source", SOURCES),
        keyword("WAVeform:FORMat", "format", ("BYTE", "WORD", "ASCii")),
        Command("WAVeform:PREamble", ask=lambda s, *_: ",".join(map(s.write, s._preamble()))),
        Command("WAVeform:XINCrement", ask=lambda s, *_: s._preamble()[4]),
        Command("WAVeform:XORigin", ask=lambda s, *_: s._preamble()[5]),
        Command("WAVeform:XREFerence", ask=lambda *_: 0),
        Command("WAVeform:YINCrement", ask=lambda s, *_: s._preamble()[7]),
        Command("WAVeform:YORigin", ask=lambda s, *_: s._preamble()[8]),
        Command("WAVeform:YREFerence", ask=lambda s, *_: s._reference()),
    )
