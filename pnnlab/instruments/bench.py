"""A device between a generator and an oscilloscope, as a `PhysicalSystem`.

A batch goes out as one waveform, played once for a trigger, and comes back as one record.
"""

import atexit
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, nullcontext, suppress
from functools import partial
from typing import final

import numpy as np

from pnnlab.errors import InstrumentError, LinkError, RangeError
from pnnlab.instruments.dialects import GENERATORS, SCOPES, Dialect, Scratch
from pnnlab.instruments.generator import Generator, Limits, TakenError
from pnnlab.instruments.link import Link
from pnnlab.instruments.oscilloscope import Oscilloscope, ScopeSettings, Trace, TriggerError
from pnnlab.instruments.programme import Acquisition, Bench, Programme, Read, Waves
from pnnlab.instruments.selfcheck import (
    LEAD,
    PILOTS,
    WINDOW,
    SelfCheck,
    align,
    draw_pilots,
    quiet,
    self_check,
)
from pnnlab.instruments.shutdown import Guard, TripError
from pnnlab.systems.analog import Volts

ATTEMPTS = 12  # for each waveform
CHECKS = 3
BACKOFF_S = 0.01, 0.5  # before a lost link is tried again: first, and at most; doubled in between
# Of a pilot's record with that of the self-check. Another pilot's has less, even of a plate, which
# answers all of them in the same few modes: at most 0.81 in 2.8 million pairs. Its own has 0.993.
LEAST_CORRELATION = 0.9
GAIN_STEP = 0.05  # a device's gain may drift; so large a step has another cause
MOST_LATE = 0.5  # samples, of a record beside those of the self-check
MOST_APART = 0.1  # samples between two clocks at the end of a record
MOST_PPM = 100.0  # of two crystals: cheap ones differ by 50
LONGEST = 1 << 18  # samples of a record: at `MOST_PPM` its end is found within `LEAD`
TRIGGER_TIMEOUT_S = 5.0  # beyond the length of a record, for the instrument and the network

_PIECE = 1 << 15  # samples to be encoded or decoded at once: less than torch divides among threads

logger = logging.getLogger(__name__)


@final
class RecordError(InstrumentError):
    """A record that is incomplete, or not one of this device or of this waveform."""


@final
class VisaAcquisition(Acquisition):
    """A generator and an oscilloscope with a device between them; see `open_bench`.

    Every waveform begins and ends with a pilot, far weaker than the drive: one of those that this
    client alone has drawn and whose records the self-check has taken, each in turn. A record that
    is incomplete, whose pilot is not answered as in the self-check (an older one, or of another
    client), or after which a setting was changed, is discarded, and its shots are taken again. So
    is one between whose pilots the clocks of both instruments part; the generator's sample rate
    then follows the oscilloscope's, unless both have a common reference. The
    oscilloscope's zero is measured between shots, while the device rests, and subtracted.

    The output is on from the first waveform to `close`, and off after any failure. After anything
    but this bench has switched it off, only `rearm` lets it be switched on again. ``guard`` starts
    a process that switches it off should this one die or hang.
    """

    check: SelfCheck

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
        self._period_s = 1 / programme.sample_rate_hz
        self._rate_hz = programme.sample_rate_hz  # by the generator's clock
        self._programme = programme
        self._delay_s = delay_s + self._period_s
        self._points = 0  # of the record for which the oscilloscope is set up
        self._start_guard = guard
        self._guard: Guard | None = None
        self._live = False  # both are set up, the output is on, and the guard is alive
        self._tripped = ""  # why the output must not be switched on again
        self._closed = False
        self._pilots = draw_pilots(programme)
        self._head: int = self._pilots.shape[1]  # samples of a pilot and its silence
        self._played = -1  # number of the pilot that was played last
        self._waveform = Scratch()
        self._volts = Scratch()
        super().__init__()
        try:
            self.check = self._checked()
            self._at_rest = float(quiet(self.check.records, programme).mean(dtype=np.float64))
        except BaseException:
            self.close()
            raise

    def at_once(self, samples: int) -> int:
        memory = min(self.generator.dialect.most_points, self.oscilloscope.dialect.records[-1])
        longest = min(memory, LONGEST)
        most = (longest - 2 * self._head) // (samples + self._programme.rest)
        if most < 1:
            raise RangeError(
                f"a shot of {samples} samples and pilots do not fit into a record of {longest}; "
                "use fewer replays."
            )
        return most

    def take(self, shots: int, samples: int, waves: Waves, read: Read) -> None:
        """Play waveforms until all are accepted; the zero is that of the self-check."""
        head, each = self._head, samples + self._programme.rest
        most, piece = self.at_once(samples), max(1, _PIECE // samples)
        with self._lock:
            for start in range(0, shots, most):
                count = min(most, shots - start)
                waveform = self._waveform.array(count * each + 2 * head, np.float32)
                played = waveform[head:-head].reshape(count, each)
                for row in range(0, count, piece):
                    part = played[row : row + piece, :samples]
                    part[:] = waves(slice(start + row, start + row + len(part)))
                played[:, samples:] = 0
                record = self._accepted(waveform, count)
                answers = record[head:-head].reshape(count, each)
                rests = answers[:, samples + (self._programme.rest + 1) // 2 :]
                still = np.concatenate([quiet(record[:head], self._programme), rests.ravel()])
                self._zero = float(still.mean(dtype=np.float64) - self._at_rest)
                answers -= np.float32(self._zero)
                for row in range(0, count, piece):
                    part = answers[row : row + piece, :samples]
                    read(slice(start + row, start + row + len(part)), part)
                self._shots += count

    def rearm(self) -> None:
        """Go on after a trip, unless the shutdown process still tries to switch the output off."""
        with self._lock:
            if self._guard is not None:
                self._guard.close()
                if self._guard.acting:
                    raise self._guard.still_on()
                self._guard = None
            self._live, self._tripped = False, ""

    def close(self) -> None:
        """Switch the output off and release both instruments, then the guard; may be repeated."""
        self._release(self.generator.close)

    def _release(self, end: Callable[[], None]) -> None:
        atexit.unregister(self.close)
        if not self._closed:
            self._closed, self._live = True, False
            # The guard trips if the output cannot be switched off.
            with self._guard or nullcontext(), closing(self.oscilloscope):
                end()

    def _checked(self) -> SelfCheck:
        for attempt in range(1, CHECKS + 1):
            try:
                self._played = -1
                traces = [self._play(pilot.copy()) for pilot in self._pilots]
                check = self_check(self._programme, self._pilots, traces, self._other_channel)
                if not check.problems:
                    break
                raise InstrumentError(str(check))
            except InstrumentError as error:
                if attempt == CHECKS or isinstance(error, TriggerError | TripError | TakenError):
                    raise
                self._live = False
        return check

    def _other_channel(self) -> tuple[int, int, Volts]:
        """Numbers of the channel in use and of another one, and the other one's pilot."""
        used = self.oscilloscope
        other = 2 if used.channel == 1 else 1
        self.oscilloscope = Oscilloscope(used.link, used.dialect, channel=other)
        self._live = False
        try:
            return used.channel, other, self._play(self._pilots[0].copy()).volts
        finally:
            self.oscilloscope, self._live = used, False

    def _accepted(self, waveform: Volts, shots: int) -> Volts:
        """Play a waveform until its record is accepted, and return that."""
        if self._tripped:
            raise TripError(
                f"The output stays off: {self._tripped} Look at the instruments, then call rearm() "
                "of the bench, and go on."
            )
        try:
            for attempt in range(ATTEMPTS):
                try:
                    trace = self._play(waveform, self._volts)
                    self._examine(trace)
                    return trace.volts
                except TakenError:
                    self._release(self.generator.link.close)  # theirs: left as it is
                    raise
                except TripError as error:
                    self._tripped = str(error)
                    raise
                except InstrumentError as error:
                    failure = error
                    cause = {RecordError: "record", LinkError: "link"}.get(type(error))
                    self._retaken[cause or "instrument"] += shots
                    logger.info("%d shots are taken again: %s", shots, error)
                    self._live = self._live and cause == "record"
                    if isinstance(error, LinkError):
                        time.sleep(min(BACKOFF_S[0] * 2**attempt, BACKOFF_S[1]))
        except BaseException:
            self._switch_off()
            raise
        raise InstrumentError(
            f"{shots} shots were taken {ATTEMPTS} times, and none can be trusted. The last time: "
            f"{failure} {self._switch_off()} Remove the cause, then continue; nothing is lost."
        ) from failure

    def _play(self, waveform: Volts, scratch: Scratch | None = None) -> Trace:
        """Play a waveform once, and return the record that both instruments' settings agree to."""
        if self._guard is not None:
            self._guard.check()
        programme = self._programme
        self._played = (self._played + 1) % PILOTS
        waveform[: self._head] = waveform[-self._head :] = self._pilots[self._played]
        if not self._live:
            self.generator.apply(self._rate_hz, programme.drive_v)
        if not self._live or len(waveform) != self._points:
            self._points = len(waveform)
            screen = programme.low_v, programme.high_v, programme.sample_rate_hz
            self.oscilloscope.apply(ScopeSettings(*screen, self._points, self._delay_s))
        self.generator.load(waveform)
        if not self._live:
            if self._start_guard is not None and self._guard is None:
                self._guard = self._start_guard()
            self.generator.output(True)
            self._live = True
        self.oscilloscope.arm()
        self.generator.trigger()
        self.oscilloscope.wait(len(waveform) * self._period_s + TRIGGER_TIMEOUT_S)
        trace = self.oscilloscope.read(scratch)
        self.generator.verify()
        self.oscilloscope.verify()
        return trace

    def _examine(self, trace: Trace) -> None:
        """Raise `RecordError` unless the record is complete, and of this waveform."""
        if trace.missing or trace.saturated:
            raise RecordError(
                f"{trace.missing} points are missing from the record, and {trace.saturated} are "
                "off the screen."
            )
        known = self.check.records[self._played, WINDOW]
        found = align(trace.volts[WINDOW], known)
        if found.correlation < LEAST_CORRELATION or abs(found.gain - 1) > GAIN_STEP:
            raise RecordError(
                f"the pilot comes back {found.gain:.2f} times as strong as in the self-check, and "
                f"its correlation is {found.correlation:.2f}: the record is an older one or of "
                "another client of this bench, or else look at the cables and at the device's "
                "supply."
            )
        length, around = len(trace.volts) - self._head, slice(WINDOW.stop + LEAD)
        early, last = (align(trace.volts[n:][around], known) for n in (0, length))
        late, apart = early.delay - LEAD, (last.delay - early.delay) / length
        if abs(late) > MOST_LATE:
            raise RecordError(
                f"the record is {late:+.1f} samples late beside the self-check: look whether the "
                "oscilloscope is triggered by the generator's own Sync or Trigger output."
            )
        rate_hz = self._rate_hz * (1 + apart)
        ppm = 1e6 * (rate_hz * self._period_s - 1)
        if last.correlation < LEAST_CORRELATION or abs(ppm) > MOST_PPM:
            raise RecordError(
                "the pilot at the end is not where it should be: a shot was disturbed, or the "
                f"clocks of generator and oscilloscope differ by more than {MOST_PPM:g} ppm; is "
                "one of them set to an external reference that it does not get?"
            )
        if abs(apart) * length > MOST_APART:
            self._rate_hz, self._live = rate_hz, False
            raise RecordError(f"the clocks of both instruments part by {1e6 * apart:+.2f} ppm.")

    def _switch_off(self) -> str:
        """Switch the output off, and say whether it is."""
        self._live = False
        if self._closed:
            return ""
        try:
            self.generator.output(False)
        except InstrumentError as error:  # the first failure is the one to report
            logger.warning("the output could not be switched off: %s", error)
            if self._guard is not None and not self._tripped:
                self._tripped = "it could not be switched off, and the shutdown process insists."
                with suppress(InstrumentError):
                    self._guard.trip("by a failure of the link", wait_s=0.0)
            return "The output may still be ON: switch it off at the generator itself."
        return "The output is off."


def open_bench(
    generator: str,
    oscilloscope: str,
    programme: Programme,
    *,
    limits: Limits,
    library: str = "@py",
    channels: tuple[int, int] = (1, 1),
    timeout_s: float = 10.0,
    delay_s: float = 0.0,
    guarded: bool = True,
    take_over: bool = False,
) -> Bench:
    """Open both instruments and check the cabling between them.

    The generator's channel drives the device, the oscilloscope's records it, and the generator's
    Sync or Trigger output goes to the oscilloscope's external trigger input, which of a Rigol is
    its last channel.

    Parameters
    ----------
    generator, oscilloscope : str
        VISA addresses, such as ``"TCPIP::192.168.0.7::5025::SOCKET"``.
    limits : Limits
        No waveform that exceeds them is sent.
    library, timeout_s
        See `pnnlab.instruments.link.Link`.
    channels : tuple of int
        Of generator and oscilloscope.
    delay_s : float
        How late an answer arrives: `SelfCheck.late_s` of a `CableProgramme`, measured with a cable
        in the device's place.
    guarded : bool
        Whether a second process switches the output off should this one die or hang.
    take_over : bool
        Whether to take the bench from a client whose name is on the generator's screen. A client of
        this computer that has ended need not be taken over.

    Raises
    ------
    InstrumentError
        An instrument does not answer or is of no known dialect, another client uses the generator,
        or the self-check found a problem.
    LimitError
        The programme's drive exceeds the limits.
    """
    with ExitStack() as opened:
        generator_link, scope_link = (
            opened.enter_context(Link(name, library=library, timeout_s=timeout_s))
            for name in (generator, oscilloscope)
        )
        plays = _dialect_of(generator_link, GENERATORS)
        shows = _dialect_of(scope_link, SCOPES)
        off = f"{plays.output.format(channel=channels[0])} OFF", f'{plays.client.header} ""'
        drives = Generator(generator_link, plays, channel=channels[0], limits=limits)
        if not take_over:
            drives.claim()
        acquisition = VisaAcquisition(
            drives,
            Oscilloscope(scope_link, shows, channel=channels[1]),
            programme,
            delay_s=delay_s,
            guard=partial(Guard, generator, off, library=library) if guarded else None,
        )
        opened.pop_all()  # the acquisition closes them from here on
    return Bench(acquisition, programme)


def _dialect_of(link: Link, dialects: Sequence[Dialect]) -> Dialect:
    for dialect in dialects:
        if any(model in link.identity for model in dialect.models):
            return dialect
    known = ", ".join(dialect.name for dialect in dialects)
    raise InstrumentError(
        f"{link} is {link.identity!r} and none of {known}. A dialect is data: write one as in "
        "pnnlab.instruments.dialects, and build a VisaAcquisition with it."
    )
