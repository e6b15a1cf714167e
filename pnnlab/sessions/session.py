"""`Session`: a training in a background thread, and whoever else needs its device."""

import asyncio
import atexit
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias, TypeVar, final

import torch

from pnnlab.errors import InstrumentError, PnnlabError, RunError
from pnnlab.plain import real
from pnnlab.sessions.history import Curves, History
from pnnlab.sessions.task import POLL_SECONDS, Task
from pnnlab.training import Record, Training

Status: TypeAlias = Literal["ready", "running", "paused", "stopped", "finished", "failed"]
Request: TypeAlias = Literal["pause", "stop", "checkpoint"]
T = TypeVar("T")

logger = logging.getLogger(__name__)


@final
class Session:
    """A training in a background thread.

    Every method may be called from any thread, and returns at once unless it says that it waits.
    While a session is active, leave its network and its device alone: what needs them is handed
    to `do`, which carries it out between two steps.

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
    training : Training, optional
        What ``records`` drive: its network for those who look into it, its learning rate for
        `scale_rate`.

    Attributes
    ----------
    latest : Record or None
        The last record.
    notice : str
        What became of the last checkpoint asked for, or what an instrument or a task failed of;
        empty before.
    error : BaseException or None
        What a failed session failed of.
    """

    def __init__(
        self,
        records: Iterable[Record] | Callable[[], Iterable[Record]],
        checkpoint: Callable[[], object] | None = None,
        *,
        training: Training | None = None,
    ) -> None:
        self.training = training
        self._begin = records if callable(records) else None
        self._records = iter(records() if callable(records) else records)
        self._checkpoint = checkpoint
        self._gate = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="pnnlab-training", daemon=True)
        self._status: Status = "ready"
        self._asked: set[Request] = set()
        self._queue: deque[Task[Any]] = deque()  # the first may be running
        self._device = threading.Lock()  # held by the one thread that may drive the device
        self._helped = False  # a thread of their own carries the tasks out
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
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks that wait or run, the next or running one first."""
        with self._gate:
            return tuple(task.name for task in self._queue)

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

    def do(self, name: str, action: Callable[[], T]) -> Task[T]:
        """Carry ``action`` out when nothing else drives the device or changes the network.

        That is between two steps of the training, in its thread, also while it is paused; in a
        thread of its own, at once, if the session is not active. One task after the other. An
        action that fails never ends the training: its task has the error, and `notice` says it.
        What it draws from torch's global generator leaves the training's numbers as they were.

        A training that is stopped, or fails, refuses the tasks that have not begun; one that
        finishes leaves them to be carried out.

        Parameters
        ----------
        name : str
            What a person reads while it waits or runs.
        action : callable
            Takes nothing; what it returns is the result of the task.
        """
        task = Task(name, action)
        with self._gate:
            self._queue.append(task)
            self._gate.notify_all()
        self._tell()
        self._help()
        return task

    def scale_rate(self, factor: float) -> Task[None]:
        """Multiply the learning rate of all steps to come, see `Training.scale_rate`.

        Raises
        ------
        RunError
            The session was made without its training.
        """
        training = self.training
        if training is None:
            raise RunError(
                "this session does not know its training: make it with "
                "Session(fit(training), training=training)."
            )
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
        with ExitStack() as stack:
            stack.callback(self._help)  # with what was asked for in the last step
            stack.enter_context(self._device)
            stack.push(self._end)  # it sees an error of the training and of closing it
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
        task = self._queue[0]
        self._tell()
        with torch.random.fork_rng(devices=[]):
            task.act()
        self._dismiss(task)

    def _dismiss(self, task: Task[Any]) -> None:
        """Take a task that was carried out or refused off the list, and say so."""
        with self._gate:
            self._queue.remove(task)
            if task.error is not None:
                self.notice = f"{task.name}: {_said(task.error)}"
        task.end()
        self._tell()

    def _help(self) -> None:
        """Unless the training does it, see to it that the tasks are carried out."""
        with self._gate:
            if self._helped or self.active or not self._queue:
                return
            self._helped = True
        # Not a daemon: a script ends when what it asked for is done.
        threading.Thread(target=self._carry_out_alone, name="pnnlab-task").start()

    def _carry_out_alone(self) -> None:
        with self._device:
            while True:
                with self._gate:
                    if self.active or not self._queue:
                        self._helped = False
                        return
                    task = self._queue[0]
                self._tell()
                task.act()
                self._dismiss(task)

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
            refused = tuple(self._queue) if error or "stop" in self._asked else ()
            self._asked.clear()
        atexit.unregister(self._leave)
        for task in refused:
            how = "failed" if error else "was stopped"
            task.error = RunError(f"the training {how} before this began; ask for it again.")
            self._dismiss(task)
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


def _said(error: BaseException) -> str:
    """What a person is told of an error: its own words, if it was raised on purpose."""
    if isinstance(error, PnnlabError | OSError):
        return str(error)
    logger.error("a task of a session failed", exc_info=error)
    return f"{type(error).__name__}: {error}"
