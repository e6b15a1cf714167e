"""Shots that can be trusted: taken again until they can, and counted.

Every waveform begins with the pilot of the self-check. A record that is not whole, or whose pilot
does not come back as it did then, is not one of the device: its shots are taken again. While the
device rests, between two shots, the oscilloscope's own zero shows: it is taken off each record.
"""

import atexit
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import final

import numpy as np

from pnnlab.errors import InstrumentError, LinkError, RangeError
from pnnlab.instruments.alignment import align
from pnnlab.instruments.loop import Loop, Record
from pnnlab.instruments.oscilloscope import TriggerError
from pnnlab.instruments.programme import Programme
from pnnlab.instruments.scratch import Scratch
from pnnlab.instruments.selfcheck import LEAD, PILOT, SelfCheck, pilot, self_check
from pnnlab.systems.analog import Volts

ATTEMPTS = 12  # for each waveform
CHECKS = 3
WAITS_S = 0.01, 0.5  # before a lost link is tried again: first, and at most; doubled in between
LIKENESS = 0.9  # of a pilot with the self-check's; less is another device, or none
GAIN_STEP = 0.05  # a device's gain may wander; one that jumps so far did not do it by itself
WINDOW = slice(LEAD, LEAD + PILOT + LEAD)  # of a record, where its pilot is

logger = logging.getLogger(__name__)


@final
class Untrusted(InstrumentError):
    """A record that came back, and cannot be one of this device."""


@final
@dataclass(frozen=True)
class Tally:
    """What a bench did.

    Attributes
    ----------
    shots : int
        Taken and trusted.
    retaken : Mapping
        Shots that were taken again, by what was wrong: ``"link"``, ``"instrument"``, ``"record"``.
    zero_v : float
        How far the oscilloscope's zero has moved since the self-check, V; it is taken off.
    """

    shots: int
    retaken: Mapping[str, int]
    zero_v: float


@final
class Trust:
    """A loop whose records are checked.

    The output is on from the first shot to `close`, and off after anything that went wrong.

    Parameters
    ----------
    loop : Loop
    programme : Programme
        Of the device; benches with other programmes of the same device share this trust.
    delay_s : float
        How late the answer to a sample arrives, s.

    Raises
    ------
    InstrumentError
        An instrument does not answer, or the self-check found something.

    Attributes
    ----------
    lock : threading.RLock
        To be held from `take` until the record is no longer needed.
    """

    def __init__(self, loop: Loop, programme: Programme, delay_s: float = 0.0) -> None:
        self.loop = loop
        self.delay_s = delay_s
        self.rest = programme.rest
        self._pilot = pilot(programme).astype(np.float32)
        self._shots = 0
        self._retaken: Counter[str] = Counter()
        self._zero = 0.0
        self.lock = threading.RLock()
        self._waveform = Scratch()
        self._record = Scratch()
        self._closed = False
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
        most = (self.loop.memory - len(self._pilot)) // (samples + self.rest)
        if most < 1:
            raise RangeError(
                f"a shot of {samples} samples does not fit into the instruments' memory of "
                f"{self.loop.memory}: use fewer replays."
            )
        return most

    def take(self, shots: int, samples: int, write: Callable[[Volts], None]) -> Volts:
        """Play waveforms one after the other, with a rest after each, until all are sound.

        Parameters
        ----------
        shots, samples : int
            How many, no more than `at_once`, and of which length.
        write : callable
            Writes the waveforms, V, into the array (shots, samples) that it is called with.

        Returns
        -------
        array, (shots, samples), float32
            What came back, V, from where the oscilloscope's zero was in the self-check. It lasts
            until the next call.

        Raises
        ------
        LimitError
            A waveform must not be sent; nothing was.
        InstrumentError
            They cannot be had. The output is off then.
        """
        head, each = len(self._pilot), samples + self.rest
        waveform = self._waveform.array(head + shots * each, np.float32)
        waveform[:head] = self._pilot
        played = waveform[head:].reshape(shots, each)
        write(played[:, :samples])
        played[:, samples:] = 0
        record = self._sound(waveform, shots)
        rows = record[head:].reshape(shots, each)
        quiet = self._quiet(record[:head]), rows[:, samples + (self.rest + 1) // 2 :]
        total = sum(part.sum(dtype=np.float64) for part in quiet)
        self._zero = float(total / sum(part.size for part in quiet) - self._at_rest)
        self._shots += shots
        rows -= np.float32(self._zero)
        return rows[:, :samples]

    def close(self) -> None:
        """Switch the output off and let the instruments go; again, it does nothing."""
        atexit.unregister(self.close)
        if not self._closed:
            self._closed = True
            self.loop.close()

    def _checked(self, programme: Programme) -> SelfCheck:
        """A self-check without problems; one bad record does not condemn a bench."""
        for attempt in range(1, CHECKS + 1):
            try:
                check = self_check(self.loop, programme, self.delay_s)
                if not check.problems:
                    return check
                raise InstrumentError(str(check))
            except InstrumentError as error:
                if attempt == CHECKS or isinstance(error, TriggerError):
                    raise
                self.loop.recover()
        raise AssertionError

    def _sound(self, waveform: Volts, shots: int) -> Volts:
        try:
            for attempt in range(ATTEMPTS):
                try:
                    record = self.loop.take(waveform, self.delay_s, self._record)
                    self._examine(record)
                    return record.volts
                except InstrumentError as error:
                    failure = error
                    self._retaken[_kind(error)] += shots
                    logger.info("%d shots are taken again: %s", shots, error)
                    self.loop.recover()
                    if isinstance(error, LinkError):
                        time.sleep(min(WAITS_S[0] * 2**attempt, WAITS_S[1]))
        except BaseException:
            self._switch_off()
            raise
        raise InstrumentError(
            f"{shots} shots were taken {ATTEMPTS} times, and none can be trusted. The last time: "
            f"{failure} {self._switch_off()} Mend it, then go on; nothing is lost."
        ) from failure

    def _examine(self, record: Record) -> None:
        """Raise `Untrusted` unless the record is whole and its pilot as it was."""
        if record.missing or record.saturated:
            raise Untrusted(
                f"{record.missing} points are missing from the record, and {record.saturated} are "
                "off the screen."
            )
        found = align(record.volts[WINDOW], self.check.pilot[WINDOW])
        if found.likeness < LIKENESS or abs(found.gain - 1) > GAIN_STEP:
            raise Untrusted(
                f"the pilot comes back {found.gain:.2f} times as strong as in the self-check, and "
                f"resembles it by {found.likeness:.2f}: look at the cables and the device's supply."
            )

    def _quiet(self, head: Volts) -> Volts:
        """The end of the silence after a pilot, in which the device is at rest."""
        return head[-(2 * LEAD + self.rest) // 2 :]

    def _switch_off(self) -> str:
        """Switch the output off, and say whether it is."""
        try:
            self.loop.rest()
        except InstrumentError as error:  # what went wrong first is what to tell
            logger.warning("the output could not be switched off: %s", error)
            return "The output may still be ON: switch it off at the generator itself."
        return "The output is off."


def _kind(error: InstrumentError) -> str:
    if isinstance(error, Untrusted):
        return "record"
    return "link" if isinstance(error, LinkError) else "instrument"
