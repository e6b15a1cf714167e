"""Waveforms out through a generator, records back through an oscilloscope: checked and repeated.

Every waveform begins with the pilot of the self-check. A record that is incomplete, or whose pilot
differs from that of the self-check, is discarded, and its shots are taken again. The oscilloscope's
zero is measured while the device rests, between two shots, and subtracted from each record.
"""

import atexit
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import final

import numpy as np

from pnnlab.errors import InstrumentError, LinkError, RangeError
from pnnlab.instruments.generator import Generator, GeneratorSettings
from pnnlab.instruments.guard import Guard
from pnnlab.instruments.link import Scratch
from pnnlab.instruments.oscilloscope import Oscilloscope, ScopeSettings, Trace, TriggerError
from pnnlab.instruments.programme import Programme
from pnnlab.instruments.selfcheck import LEAD, REPEATS, WINDOW, SelfCheck, align, pilot, self_check
from pnnlab.systems.analog import Volts

ATTEMPTS = 12  # for each waveform
CHECKS = 3
WAITS_S = 0.01, 0.5  # before a lost link is tried again: first, and at most; doubled in between
LIKENESS = 0.9  # of a pilot with the self-check's; less is another device, or none
GAIN_STEP = 0.05  # a device's gain may drift; so large a step has another cause
PATIENCE_S = 5.0  # beyond the length of a record, for the instrument and the network

logger = logging.getLogger(__name__)


@final
class RecordError(InstrumentError):
    """A record that is incomplete, or not one of this device."""


@final
@dataclass(frozen=True)
class Tally:
    """What a bench did.

    Attributes
    ----------
    shots : int
        Taken and accepted.
    retaken : Mapping
        Shots that were taken again, by what was wrong: ``"link"``, ``"instrument"``, ``"record"``.
    zero_v : float
        How far the oscilloscope's zero has moved since the self-check, V; it is subtracted.
    """

    shots: int
    retaken: Mapping[str, int]
    zero_v: float


@final
class Acquisition:
    """A generator and an oscilloscope with a device between them.

    The output is on from the first waveform to `close`, and off after any failure.

    Parameters
    ----------
    generator : Generator
    oscilloscope : Oscilloscope
    programme : Programme
        Of the device; benches with other programmes of the same device share this acquisition.
    delay_s : float
        How late the answer to a sample arrives, s.
    guard : callable, optional
        Starts a process that switches the output off should this one die or hang.

    Raises
    ------
    InstrumentError
        An instrument does not answer, or the self-check found a problem.

    Attributes
    ----------
    check : SelfCheck
    lock : threading.RLock
        Hold it from `take` until the record is no longer needed.
    """

    def __init__(
        self,
        generator: Generator,
        oscilloscope: Oscilloscope,
        programme: Programme,
        *,
        delay_s: float = 0.0,
        guard: Callable[[], Guard] | None = None,
    ) -> None:
        self.generator = generator
        self.oscilloscope = oscilloscope
        self.rest = programme.rest
        self.delay_s = delay_s
        self.period_s = 1 / programme.sample_rate_hz
        self.lock = threading.RLock()
        self._output = GeneratorSettings(programme.sample_rate_hz, programme.drive_v)
        self._screen = ScopeSettings(
            low_v=programme.low_v,
            high_v=programme.high_v,
            sample_rate_hz=programme.sample_rate_hz,
            points=0,
            delay_s=delay_s + self.period_s,
        )
        self._start_guard = guard
        self._guard: Guard | None = None
        self._live = False  # both are set up, the output is on, and the guard is alive
        self._closed = False
        self._pilot = pilot(programme).astype(np.float32)
        self._shots = 0
        self._retaken: Counter[str] = Counter()
        self._zero = 0.0
        self._waveform = Scratch()
        self._volts = Scratch()
        atexit.register(self.close)
        try:
            self.check = self._checked(programme)
            self._at_rest = float(self._quiet(self.check.pilot).mean(dtype=np.float64))
        except BaseException:
            self.close()
            raise

    @property
    def tally(self) -> Tally:
        """What was done so far."""
        return Tally(self._shots, dict(self._retaken), self._zero)

    def at_once(self, samples: int) -> int:
        """How many shots of so many samples the instruments' memories hold.

        Raises
        ------
        RangeError
            Not even one.
        """
        memory = min(self.generator.memory, self.oscilloscope.memory)
        most = (memory - len(self._pilot)) // (samples + self.rest)
        if most < 1:
            raise RangeError(
                f"a shot of {samples} samples does not fit into the instruments' memory of "
                f"{memory}: use fewer replays."
            )
        return most

    def take(self, shots: int, samples: int, write: Callable[[Volts], None]) -> Volts:
        """Play waveforms one after the other, with a rest after each, until all are accepted.

        Parameters
        ----------
        shots, samples : int
            How many, no more than `at_once`, and of which length.
        write : callable
            Writes the waveforms, V, into the array (shots, samples) that it is called with.

        Returns
        -------
        array, (shots, samples), float32
            Answers at the end of each sample, V, relative to the oscilloscope's zero in the
            self-check. Valid until the next call.

        Raises
        ------
        LimitError
            A waveform exceeds the limits; nothing was sent.
        InstrumentError
            No record was accepted. The output is off then.
        """
        head, each = len(self._pilot), samples + self.rest
        waveform = self._waveform.array(head + shots * each, np.float32)
        waveform[:head] = self._pilot
        played = waveform[head:].reshape(shots, each)
        write(played[:, :samples])
        played[:, samples:] = 0
        record = self._accepted(waveform, shots)
        rows = record[head:].reshape(shots, each)
        quiet = self._quiet(record[:head]), rows[:, samples + (self.rest + 1) // 2 :]
        total = sum(part.sum(dtype=np.float64) for part in quiet)
        self._zero = float(total / sum(part.size for part in quiet) - self._at_rest)
        self._shots += shots
        rows -= np.float32(self._zero)
        return rows[:, :samples]

    def close(self) -> None:
        """Switch the output off and release both instruments, then the guard; may be repeated."""
        atexit.unregister(self.close)
        if self._closed:
            return
        self._closed = True
        self._live = False
        with ExitStack() as stack:
            if self._guard is not None:
                stack.push(self._guard)  # trips if the output cannot be switched off
            stack.callback(self.oscilloscope.close)
            stack.callback(self.generator.close)

    def _checked(self, programme: Programme) -> SelfCheck:
        """Retry the self-check up to three times."""
        for attempt in range(1, CHECKS + 1):
            try:
                traces = [self._play(self._pilot) for _ in range(REPEATS)]
                check = self_check(programme, traces, self.delay_s, self._beside)
                if not check.problems:
                    return check
                raise InstrumentError(str(check))
            except InstrumentError as error:
                if attempt == CHECKS or isinstance(error, TriggerError):
                    raise
                self._live = False
        raise AssertionError

    def _beside(self) -> tuple[int, int, Volts]:
        """Numbers of the channel in use and of another one, and the other one's pilot."""
        used = self.oscilloscope
        other = 2 if used.channel == 1 else 1
        self.oscilloscope = Oscilloscope(used.link, used.dialect, channel=other)
        self._live = False
        try:
            return used.channel, other, self._play(self._pilot).volts
        finally:
            self.oscilloscope, self._live = used, False

    def _accepted(self, waveform: Volts, shots: int) -> Volts:
        first_s = self.delay_s + self.period_s
        try:
            for attempt in range(ATTEMPTS):
                try:
                    trace = self._play(waveform, self._volts)
                    volts = trace.at(first_s, self.period_s, len(waveform))
                    self._examine(trace, volts)
                    return volts
                except InstrumentError as error:
                    failure = error
                    self._retaken[_kind(error)] += shots
                    logger.info("%d shots are taken again: %s", shots, error)
                    self._live = False
                    if isinstance(error, LinkError):
                        time.sleep(min(WAITS_S[0] * 2**attempt, WAITS_S[1]))
        except BaseException:
            self._switch_off()
            raise
        raise InstrumentError(
            f"{shots} shots were taken {ATTEMPTS} times, and none can be trusted. The last time: "
            f"{failure} {self._switch_off()} Remove the cause, then continue; nothing is lost."
        ) from failure

    def _play(self, waveform: Volts, scratch: Scratch | None = None) -> Trace:
        """Play a waveform once, and return the record."""
        links = self.generator.link, self.oscilloscope.link
        reopened = [link.reopened for link in links]
        if self._guard is not None and self._live:
            self._guard.check()
        self._set_up(len(waveform))
        self.generator.load(waveform)
        self.oscilloscope.arm()
        self.generator.trigger()
        self.oscilloscope.wait(len(waveform) * self.period_s + PATIENCE_S)
        trace = self.oscilloscope.read(scratch)
        if [link.reopened for link in links] != reopened:
            raise LinkError("a link was lost and opened anew while a record was taken")
        return trace

    def _set_up(self, points: int) -> None:
        screen = replace(self._screen, points=points)
        if not self._live:
            self.generator.apply(self._output)
        if not self._live or screen != self._screen:
            self.oscilloscope.apply(screen)
            self._screen = screen
        if not self._live:
            self._start_watch()
            self.generator.output(True)
            self._live = True

    def _start_watch(self) -> None:
        """Start a guard before the output is on; one that has tripped has ended."""
        if self._start_guard is None or (self._guard is not None and self._guard.alive):
            return
        if self._guard is not None:
            self._guard.close()
        self._guard = self._start_guard()

    def _examine(self, trace: Trace, volts: Volts) -> None:
        """Raise `RecordError` unless the record is complete and its pilot unchanged."""
        if trace.missing or trace.saturated:
            raise RecordError(
                f"{trace.missing} points are missing from the record, and {trace.saturated} are "
                "off the screen."
            )
        found = align(volts[WINDOW], self.check.pilot[WINDOW])
        if found.likeness < LIKENESS or abs(found.gain - 1) > GAIN_STEP:
            raise RecordError(
                f"the pilot comes back {found.gain:.2f} times as strong as in the self-check, and "
                f"resembles it by {found.likeness:.2f}: look at the cables and the device's supply."
            )

    def _quiet(self, head: Volts) -> Volts:
        """The end of the silence after a pilot, in which the device is at rest."""
        return head[-(2 * LEAD + self.rest) // 2 :]

    def _switch_off(self) -> str:
        """Switch the output off, and say whether it is."""
        self._live = False
        try:
            self.generator.output(False)
        except InstrumentError as error:  # the first failure is the one to report
            logger.warning("the output could not be switched off: %s", error)
            return "The output may still be ON: switch it off at the generator itself."
        return "The output is off."


def _kind(error: InstrumentError) -> str:
    if isinstance(error, RecordError):
        return "record"
    return "link" if isinstance(error, LinkError) else "instrument"
