"""`Session`: a training in a background thread that can be paused, stopped and asked."""

import asyncio
import atexit
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, Self, TypeAlias, TypeVar, final

import torch

from pnnlab.errors import InstrumentError, PnnlabError, RunError
from pnnlab.plain import real
from pnnlab.training import CLASSIFICATION, Curves, History, Labels, Record, Training

Status: TypeAlias = Literal["ready", "running", "paused", "stopped", "finished", "failed"]
Request: TypeAlias = Literal["pause", "stop", "checkpoint"]
T = TypeVar("T")

POLL_SECONDS = 0.05

logger = logging.getLogger(__name__)


class Source(Protocol):
    """What a session can drive: a `Training`, a `Run`, or anything else that gives records.

    It may have a ``checkpoint`` to call between two steps, and a ``training`` that it drives.
    """

    def records(self) -> Iterator[Record]:
        """Go on from where it stands, one record a step."""


@dataclass(frozen=True)
class _Request:
    """An action that waits for its turn, and where its result goes."""

    name: str
    action: Callable[[], Any]
    future: "Future[Any]"


@final
class Session:
    """A training in a background thread.

    Every method may be called from any thread, and returns at once unless it says that it waits.
    While a session is active, leave its network and its device alone: give what needs them to
    `do`, which carries it out between two steps.

    An instrument that fails pauses the session: `notice` says which and why, and `resume` takes
    the step again.

    Parameters
    ----------
    source : Training, Run or other `Source`
        What to drive. A `Run` can write checkpoints, and writes one when the session ends. What
        was stopped goes on in a new session over the same source.

    Attributes
    ----------
    training : Training or None
        What is trained; None for a source that is neither a training nor a run.
    latest : Record or None
        The last record.
    notice : str
        What became of the last checkpoint asked for, or how an instrument or an action failed;
        empty before.
    error : BaseException or None
        How a failed session failed.
    """

    def __init__(self, source: Source) -> None:
        training = getattr(source, "training", source)
        self.training = training if isinstance(training, Training) else None
        self._source = source
        self._records = source.records()
        self._checkpoint: Callable[[], object] | None = getattr(source, "checkpoint", None)
        self._gate = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="pnnlab-training", daemon=True)
        self._status: Status = "ready"
        self._asked: set[Request] = set()
        self._queue: deque[_Request] = deque()  # the first may be running
        self._device = threading.Lock()  # held by the one thread that may drive the device
        self._helped = False  # a thread of its own carries the actions out
        self._history = History()
        self._observers: list[Callable[[], None]] = []
        self.latest: Record | None = None
        self.notice = ""
        self.error: BaseException | None = None

    @property
    def labels(self) -> Labels:
        """Names of the loss and the metric of the records."""
        return self.training.objective.labels if self.training else CLASSIFICATION.labels

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
    def tasks(self) -> tuple[str, ...]:
        """Names of the actions that wait or run, the next or running one first."""
        with self._gate:
            return tuple(request.name for request in self._queue)

    @property
    def can_checkpoint(self) -> bool:
        """Whether there is a run to write checkpoints of."""
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
        """Call ``callback`` whenever the status, a request, the tasks or the notice have changed.

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
        """Begin to train.

        Raises
        ------
        RunError
            The session has begun or was stopped before.
        """
        with self._gate:
            if self._status != "ready":
                raise RunError(
                    f"this session is {self._status} and cannot be started again. Make a new one, "
                    "Session(training): it goes on where the training stands."
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
            The session does not drive a run, or is not active.
        """
        if not self.can_checkpoint:
            raise RunError(
                "this session has nowhere to write a checkpoint: make it from a run, "
                "Session(Run.open(folder, training))."
            )
        if not self.active:
            raise RunError(f"this session is {self._status}; only an active one is checkpointed.")
        self._ask("checkpoint")

    def do(self, name: str, action: Callable[[], T]) -> "Future[T]":
        """Carry ``action`` out when nothing else drives the device or changes the network.

        That is between two steps of the training, in its thread, also while it is paused; in a
        thread of its own, at once, if the session is not active. One action after the other. An
        action that fails never ends the training: its future has the error, and `notice` says it.
        The random numbers that it draws leave those of the training as they were.

        A training that is stopped, or fails, refuses the actions that have not begun; one that
        finishes leaves them to be carried out.

        Parameters
        ----------
        name : str
            Shown while it waits or runs.
        action : callable
            Takes nothing; what it returns is the result of the future.

        Returns
        -------
        Future
            ``result()`` waits for it; never call that within another action.
        """
        request = _Request(name, action, Future())
        with self._gate:
            self._queue.append(request)
            self._gate.notify_all()
        self._tell()
        self._help()
        return request.future

    def scale_rate(self, factor: float) -> "Future[None]":
        """Multiply the learning rate of all steps to come, see `Training.scale_rate`.

        Raises
        ------
        RunError
            The session does not know what it trains.
        """
        training = self.training
        if training is None:
            raise RunError("this session drives no Training: make it by Session(training).")
        factor = real("the factor of the learning rate", factor)
        return self.do(f"learning rate × {factor:g}", lambda: training.scale_rate(factor))

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
        error = None
        with self._device:
            try:
                try:
                    while self._admitted() and (record := self._next()) is not None:
                        with self._gate:
                            self._history.add(record)
                            self.latest = record
                finally:
                    self._close()
            except BaseException as caught:  # noqa: BLE001 - `join` and `done` raise it again
                error = caught
            self._end(error)
        self._help()  # with what was asked for in the last step

    def _next(self) -> Record | None:
        """Take a step; None after the last, or if the session is stopped while it waits."""
        while True:
            try:
                return next(self._records, None)
            except InstrumentError as error:
                self._records = self._source.records()
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
                elif self._queue:
                    act = self._carry_out_next
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

    def _carry_out_next(self) -> None:
        request = self._queue[0]
        self._tell()
        with torch.random.fork_rng(devices=[]):
            self._carry_out(request)

    def _carry_out(self, request: _Request) -> None:
        error = result = None
        try:
            if request.future.set_running_or_notify_cancel():
                result = request.action()
        except BaseException as caught:  # noqa: BLE001 - whoever waits for the result gets it
            error = caught
        self._dismiss(request, result, error)

    def _dismiss(self, request: _Request, result: object, error: BaseException | None) -> None:
        """Take an action that was carried out or refused off the list, and say how it ended."""
        with self._gate:
            self._queue.remove(request)
            if error is not None:
                self.notice = f"{request.name}: {_told(error)}"
        if error is not None:
            request.future.set_exception(error)
        elif not request.future.cancelled():
            request.future.set_result(result)
        self._tell()

    def _help(self) -> None:
        """Have the actions carried out in a thread of their own, unless the training does it."""
        with self._gate:
            if self._helped or self.active or not self._queue:
                return
            self._helped = True
        # Not a daemon: a script ends when what it asked for is done.
        threading.Thread(target=self._carry_out_alone, name="pnnlab-action").start()

    def _carry_out_alone(self) -> None:
        with self._device:
            while True:
                with self._gate:
                    if self.active or not self._queue:
                        self._helped = False
                        return
                    request = self._queue[0]
                self._tell()
                self._carry_out(request)

    def _end(self, error: BaseException | None) -> None:
        """Keep how the training ended, and refuse what it leaves undone."""
        with self._gate:
            complete = self.latest is not None and self.latest.step >= self.latest.steps
            stopped = "stop" in self._asked and not complete
            self.error = error
            self._status = "failed" if error else "stopped" if stopped else "finished"
            refused = tuple(self._queue) if error or "stop" in self._asked else ()
            self._asked.clear()
        atexit.unregister(self._leave)
        for request in refused:
            how = "failed" if error else "was stopped"
            refusal = RunError(f"the training {how} before this began; ask for it again.")
            begun = request.future.set_running_or_notify_cancel()
            self._dismiss(request, None, refusal if begun else None)
        self._tell()

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


def _told(error: BaseException) -> str:
    """Message of an error for a person: its own words, if it was raised on purpose."""
    if isinstance(error, PnnlabError | OSError):
        return str(error)
    logger.error("an action of a session failed", exc_info=error)
    return f"{type(error).__name__}: {error}"
