"""Background sessions: a training that runs in a thread, and can be paused, saved and stopped.

A session drives any iterator of records, as `fit` or a run makes them. Between two steps it does
what was asked of it; nobody who watches can hold up a step.
"""

import asyncio
import atexit
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Literal, NamedTuple, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pnnlab.errors import InstrumentError, PnnlabError, RunError
from pnnlab.training import Record

Status: TypeAlias = Literal["ready", "running", "paused", "stopped", "finished", "failed"]
Request: TypeAlias = Literal["pause", "stop", "checkpoint"]
Floats: TypeAlias = NDArray[np.float64]

BINS = 1024  # points kept of a curve, however long the run
EVALUATIONS = 1000  # evaluations kept
POLL_SECONDS = 0.05

logger = logging.getLogger(__name__)


class Curves(NamedTuple):
    """Means over bins of steps; the bins widen as a run grows.

    Attributes
    ----------
    step : ndarray, shape (bins,)
        Mean step of each bin.
    loss, batch_accuracy : ndarray, shape (bins,)
    clamped : ndarray, shape (bins, layers)
        Fractions, by physical layer.
    """

    step: Floats
    loss: Floats
    batch_accuracy: Floats
    clamped: Floats


class History:
    """What is remembered of the records, in bounded memory.

    Every step counts in the curves: when they are full, neighbouring bins are merged. Of the
    evaluations, the older half is thinned when there are too many; the latest are always whole.

    Parameters
    ----------
    bins, evaluations : int
        How many are kept at most; both even.
    """

    def __init__(self, bins: int = BINS, evaluations: int = EVALUATIONS) -> None:
        self.evaluations: list[Record] = []
        self._most_evaluations = evaluations
        self._rows = np.zeros((bins, 3))
        self._full = 0  # complete bins
        self._width = 1  # steps in a complete bin
        self._inside = 0  # steps in the bin that is being filled

    def add(self, record: Record) -> None:
        """Remember a record."""
        row = np.array((record.step, record.loss, record.batch_accuracy, *record.clamped))
        if self._full == self._inside == 0:
            self._rows = np.zeros((len(self._rows), len(row)))
        if self._full == len(self._rows):
            self._merge()
        self._inside += 1
        self._rows[self._full] += (row - self._rows[self._full]) / self._inside
        if self._inside == self._width:
            self._full, self._inside = self._full + 1, 0
        if record.device_accuracy is not None:
            self.evaluations.append(record)
            if len(self.evaluations) > self._most_evaluations:
                del self.evaluations[1 : self._most_evaluations // 2 : 2]

    def curves(self) -> Curves:
        """Copy the curves; a bin that is still being filled is their last point."""
        rows = self._rows[: self._full + (self._inside > 0)].copy()
        return Curves(rows[:, 0], rows[:, 1], rows[:, 2], rows[:, 3:])

    def _merge(self) -> None:
        half = len(self._rows) // 2
        self._rows[:half] = (self._rows[0::2] + self._rows[1::2]) / 2
        self._rows[half:] = 0
        self._full, self._width = half, 2 * self._width


class Session:
    """A training in a background thread.

    Every method may be called from any thread, and returns at once unless it says that it waits.
    While a session is running, leave its network alone; pause it first.

    Parameters
    ----------
    records : iterable of Record, or callable that makes one
        What to drive: ``fit(training)``, or a run's records. If it can be closed, it is, when
        the session ends: a run writes its checkpoint then. A training that was stopped goes on in
        a new session over the same training. Given ``run.records`` itself, not called, an
        instrument that fails pauses the session instead of ending it: `notice` says which and why,
        and `resume` takes the step again.
    checkpoint : callable, optional
        Writes a checkpoint. It is called in the training's thread, between two steps.

    Attributes
    ----------
    latest : Record or None
        The last record.
    notice : str
        What became of the last checkpoint asked for, or what an instrument failed of; empty before.
    error : BaseException or None
        What a failed session failed of.
    """

    def __init__(
        self,
        records: Iterable[Record] | Callable[[], Iterable[Record]],
        checkpoint: Callable[[], object] | None = None,
    ) -> None:
        self._begin = records if callable(records) else None
        self._records = iter(records() if callable(records) else records)
        self._checkpoint = checkpoint
        self._gate = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="pnnlab-training", daemon=True)
        self._status: Status = "ready"
        self._asked: set[Request] = set()
        self._history = History()
        self._observers: list[Callable[[], None]] = []
        self.latest: Record | None = None
        self.notice = ""
        self.error: BaseException | None = None

    @property
    def status(self) -> Status:
        """One of ready, running, paused, stopped, finished and failed."""
        return self._status

    @property
    def active(self) -> bool:
        """Whether the session has begun and not ended: it is running or paused."""
        return self._status in ("running", "paused")

    @property
    def asked(self) -> frozenset[Request]:
        """What was asked for and waits for the end of the present step."""
        with self._gate:
            done = {"pause"} if self._status == "paused" else set()
            return frozenset(self._asked - done)

    @property
    def can_checkpoint(self) -> bool:
        """Whether this session was given a way to write checkpoints."""
        return self._checkpoint is not None

    @property
    def evaluations(self) -> tuple[Record, ...]:
        """Records that hold an evaluation, oldest first; thinned, but never the latest."""
        with self._gate:
            return tuple(self._history.evaluations)

    def curves(self) -> Curves:
        """Loss, batch accuracy and clamping over the steps, in at most `BINS` points."""
        with self._gate:
            return self._history.curves()

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` whenever the status, a request or the notice has changed.

        It is called by the thread that made the change, not for each record, and must be quick.

        Returns
        -------
        callable
            Ends the observation.
        """
        with self._gate:
            self._observers.append(callback)

        def forget() -> None:
            with self._gate:
                if callback in self._observers:
                    self._observers.remove(callback)

        return forget

    def start(self) -> Self:
        """Begin.

        Raises
        ------
        RunError
            The session has begun or was stopped before.
        """
        with self._gate:
            if self._status != "ready":
                raise RunError(
                    f"this session is {self._status} and cannot be started again. Make a new one, "
                    "Session(fit(training)): it goes on where the training stands."
                )
            self._status = "running"
            # A kernel that is shut down leaves through here: the run still writes its checkpoint.
            atexit.register(self._leave)
            self._thread.start()
        self._tell()
        return self

    def pause(self) -> None:
        """Wait after the present step."""
        self._ask("pause")

    def resume(self) -> None:
        """Go on after a pause."""
        with self._gate:
            self._asked.discard("pause")
            self._gate.notify_all()
        self._tell()

    def stop(self) -> None:
        """End after the present step, also while paused."""
        with self._gate:
            unstarted = self._status == "ready"
            if unstarted:
                self._status = "stopped"
        if unstarted:
            self._close()
            self._tell()
        self._ask("stop")

    def request_checkpoint(self) -> None:
        """Write a checkpoint after the present step, also while paused.

        A checkpoint that cannot be written does not end the training: `notice` says why.

        Raises
        ------
        RunError
            The session was made without a way to write checkpoints, or is not active.
        """
        if not self.can_checkpoint:
            raise RunError(
                "this session has nowhere to write a checkpoint: make it from a run, "
                "Session(run.records(), checkpoint=run.checkpoint)."
            )
        if not self.active:
            raise RunError(f"this session is {self._status}; only an active one is checkpointed.")
        self._ask("checkpoint")

    def join(self) -> None:
        """Wait, as a script does, until the session has ended.

        Ctrl-C stops the session, waits for its last step and is raised again.

        Raises
        ------
        RunError
            The session was never started.
        BaseException
            Whatever the training failed of.
        """
        with self._waiting():
            while self._thread.is_alive():
                self._thread.join(POLL_SECONDS)  # in short waits, Ctrl-C works on every platform

    async def done(self) -> None:
        """Wait, as a notebook's cell does, until the session has ended.

        The kernel answers buttons meanwhile. Interrupting the kernel stops the session, waits for
        its last step and is raised again.

        Errors as of `join`.
        """
        with self._waiting():
            while self._thread.is_alive():
                await asyncio.sleep(POLL_SECONDS)

    def _work(self) -> None:
        with ExitStack() as stack:
            stack.push(self._end)  # left last: it sees an error of the training and of closing it
            stack.callback(self._close)
            while self._admitted() and (record := self._next()) is not None:
                with self._gate:
                    self._history.add(record)
                    self.latest = record

    def _next(self) -> Record | None:
        """Take a step; None after the last, or if the session is stopped while it waits."""
        while True:
            try:
                return next(self._records, None)
            except InstrumentError as error:
                if self._begin is None:
                    raise
                self._records = iter(self._begin())
                self.notice = f"Paused: {error}"
                self.pause()
            if not self._admitted():
                return None

    def _admitted(self) -> bool:
        """Between two steps: do what was asked, wait while paused, and say whether to go on."""
        while True:
            with self._gate:
                held = "pause" in self._asked
                if "checkpoint" in self._asked:
                    act = self._write_checkpoint
                elif "stop" in self._asked:
                    return False
                elif held != (self._status == "paused"):
                    self._status = "paused" if held else "running"
                    act = self._tell
                elif held:
                    self._gate.wait()
                    continue
                else:
                    return True
            act()

    def _write_checkpoint(self) -> None:
        assert self._checkpoint is not None
        step = self.latest.step if self.latest is not None else 0
        try:
            self._checkpoint()
            self.notice = f"checkpoint written at step {step}"
        except (PnnlabError, OSError) as error:
            self.notice = f"no checkpoint at step {step}, and the training goes on: {error}"
        with self._gate:
            self._asked.discard("checkpoint")
        self._tell()

    def _end(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> bool:
        """Keep how the training ended; an error is raised again in whoever waits for it."""
        with self._gate:
            complete = self.latest is not None and self.latest.step >= self.latest.steps
            stopped = "stop" in self._asked and not complete
            self.error = error
            self._status = "failed" if error else "stopped" if stopped else "finished"
            self._asked.clear()
        atexit.unregister(self._leave)
        self._tell()
        return True

    def _ask(self, request: Request) -> None:
        with self._gate:
            if not self.active:
                return
            self._asked.add(request)
            self._gate.notify_all()
        self._tell()

    def _tell(self) -> None:
        with self._gate:
            observers = tuple(self._observers)
        for observer in observers:
            try:
                observer()
            except Exception:
                # A broken view must not end a training, and nothing must hide that it is broken.
                logger.exception("an observer of a session failed; the training goes on")

    def _close(self) -> None:
        close = getattr(self._records, "close", None)
        if close is not None:
            close()

    def _leave(self) -> None:
        self.stop()
        self._thread.join()

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        """Whoever is interrupted while waiting stops the session; the others hear of its error."""
        if self._status == "ready":
            raise RunError("this session was not started: call session.start() first.")
        try:
            yield
        except BaseException:
            self._leave()
            raise
        if self.error is not None:
            raise self.error
