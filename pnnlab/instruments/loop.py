"""Out through the generator and back through the oscilloscope: one waveform, one record."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import final

import numpy as np

from pnnlab.errors import LinkError
from pnnlab.instruments.generator import Generator, GeneratorSettings
from pnnlab.instruments.guard import Guard
from pnnlab.instruments.oscilloscope import Oscilloscope, ScopeSettings, Trace
from pnnlab.instruments.scratch import Scratch
from pnnlab.systems.analog import Volts

PATIENCE_S = 5.0  # beyond the length of a record: instruments think, and networks wait


@final
@dataclass(frozen=True)
class Record:
    """What came back for one waveform.

    Attributes
    ----------
    volts : array, (points,), float32
        One value for each sample of the waveform, at its end.
    missing, saturated : int
        Points that the oscilloscope did not take, or that left its screen.
    step_s : float
        Between two points as they were taken, s.
    """

    volts: Volts
    missing: int
    saturated: int
    step_s: float


@final
class Loop:
    """A generator and an oscilloscope with a device between them.

    Parameters
    ----------
    generator : Generator
    oscilloscope : Oscilloscope
    output : GeneratorSettings
    low_v, high_v : float
        Range that the oscilloscope shows.
    guard : callable, optional
        Starts a process that switches the output off should this one die or hang.
    """

    def __init__(
        self,
        generator: Generator,
        oscilloscope: Oscilloscope,
        output: GeneratorSettings,
        *,
        low_v: float,
        high_v: float,
        guard: Callable[[], Guard] | None = None,
    ) -> None:
        self.generator = generator
        self.oscilloscope = oscilloscope
        self.output = output
        self.screen = ScopeSettings(
            low_v=low_v, high_v=high_v, sample_rate_hz=output.sample_rate_hz, points=0, delay_s=0.0
        )
        self._start_guard = guard
        self._guard: Guard | None = None
        self._live = False  # both are set up, the output is on, and somebody watches over it

    def seen_by(self, oscilloscope: Oscilloscope) -> "Loop":
        """The same generator, seen by another oscilloscope or by another channel, to be left open.

        Once this loop has taken a record its guard watches over the generator, for both.
        """
        self.recover()  # the two would not know of each other's settings
        screen = self.screen
        return Loop(
            self.generator, oscilloscope, self.output, low_v=screen.low_v, high_v=screen.high_v
        )

    @property
    def memory(self) -> int:
        """The longest waveform, in samples."""
        return min(self.generator.memory, self.oscilloscope.memory)

    @property
    def reopened(self) -> int:
        """How often a link had to be opened anew."""
        return self.generator.link.reopened + self.oscilloscope.link.reopened

    def take(self, volts: Volts, delay_s: float, scratch: Scratch | None = None) -> Record:
        """Play a waveform once and take down what comes back.

        Parameters
        ----------
        volts : array, (samples,)
        delay_s : float
            How late the answer to a sample arrives.
        scratch : Scratch, optional
            Where the record may lie.

        Raises
        ------
        LimitError
            The waveform must not be sent; nothing was.
        InstrumentError
            Something went wrong on the way; nothing that came back can be trusted then.
        """
        before = self.reopened
        if self._guard is not None and self._live:
            self._guard.check()
        self._set_up(len(volts), delay_s)
        self.generator.load(volts)
        self.oscilloscope.arm()
        self.generator.trigger()
        self.oscilloscope.wait(len(volts) / self.output.sample_rate_hz + PATIENCE_S)
        trace = self.oscilloscope.read(scratch)
        if self.reopened != before:
            raise LinkError("a link was lost and opened anew while a record was taken")
        on_grid = _on_grid(trace, len(volts), delay_s, 1 / self.output.sample_rate_hz)
        return Record(on_grid, trace.missing, trace.saturated, trace.step_s)

    def recover(self) -> None:
        """Forget what the instruments were told; the next record begins with telling them all."""
        self._live = False

    def rest(self) -> None:
        """Switch the output off, whatever else fails."""
        self._live = False
        self.generator.output(False)

    def _set_up(self, points: int, delay_s: float) -> None:
        screen = replace(
            self.screen, points=points, delay_s=delay_s + 1 / self.output.sample_rate_hz
        )
        if not self._live:
            self.generator.apply(self.output)
        if not self._live or screen != self.screen:
            self.oscilloscope.apply(screen)
            self.screen = screen
        if not self._live:
            self._be_watched()
            self.generator.output(True)
            self._live = True

    def _be_watched(self) -> None:
        """Have a guard before the output is on; one that has tripped has left."""
        if self._start_guard is None or (self._guard is not None and self._guard.alive):
            return
        if self._guard is not None:
            self._guard.close()
        self._guard = self._start_guard()

    def close(self) -> None:
        """Switch the output off, let both instruments go, and then the guard."""
        self._live = False
        with ExitStack() as stack:
            if self._guard is not None:
                stack.push(self._guard)  # trips if the output cannot be switched off
            stack.callback(self.oscilloscope.close)
            stack.callback(self.generator.close)


def _on_grid(trace: Trace, samples: int, delay_s: float, period_s: float) -> Volts:
    """A record at the ends of so many samples, (samples,), float32, V."""
    points = len(trace.volts)
    first = trace.start_s - (delay_s + period_s)
    last = first + (points - 1) * (trace.step_s - period_s)
    # To a thousandth of a sample it is the grid that was asked for, and no work.
    if points == samples and max(abs(first), abs(last)) < 1e-3 * period_s:
        return trace.volts
    times = delay_s + period_s * np.arange(1, samples + 1)
    taken = trace.start_s + trace.step_s * np.arange(points)
    on_grid: Volts = np.interp(times, taken, trace.volts).astype(np.float32)
    return on_grid
