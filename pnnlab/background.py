"""`Session`: a training in a background thread that can be paused and stopped, and shares devices.

All that drives a device waits in one queue, where each step of the training queues the next one.
"""

import asyncio
import atexit
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Literal, Protocol, Self, TypeAlias, TypeVar, final

import torch

from pnnlab.errors import DeviceError, PnnlabError, RunError
from pnnlab.plain import real
from pnnlab.training import CLASSIFICATION, Curves, History, Record, Training

Status: TypeAlias = Literal["ready", "running", "paused", "stopped", "finished", "failed"]
Request: TypeAlias = Literal["pause", "stop"]
T = TypeVar("T")

POLL_SECONDS = 0.05

logger = logging.getLogger(__name__)


class Source(Protocol):
    """What a session drives; it may have a ``checkpoint`` to call, and a ``training``."""

    def records(self) -> Iterator[Record]:
        """Go on from where it stands, one record a step."""


@final
class Session:
    """A training in a background thread.

    Every method may be called from any thread, and returns at once unless it says that it waits.
    While a session is active, leave its network and its device alone: give what needs them to
    `do`, which carries it out between two steps.

    A device that fails, with whatever error of its `_measure`, pauses the session: the step is
    undone, `notice` gives the error, and `resume` takes the step again.

    Parameters
    ----------
    source : Training, Run or other `Source`
        A `Run` can write checkpoints, and writes one when the session ends. What was stopped goes
        on in a new session over the same source.

    Attributes
    ----------
    training : Training or None
        What is trained; None for a source that is neither a training nor a run.
    labels : Labels
        Names of the loss and the metric of the records.
    can_checkpoint : bool
        Whether there is a run to write checkpoints of.
    status : str
        One of ready, running, paused, stopped, finished and failed.
    latest : Record or None
        The last record.
    notice : str
        Outcome of the last checkpoint requested, or how a device or an action failed; empty
        before.
    error : BaseException or None
        How a failed session failed.
    observers : list of callable
        Each is called when the status, a request, the actions or the notice changed, not for each
        record, by the thread that made the change, and must be quick.
    """

    def __init__(self, source: Source) -> None:
        training = getattr(source, "training", source)
        self.training = training if isinstance(training, Training) else None
        self.labels = (self.training.objective if self.training else CLASSIFICATION).labels
        self._source = source
        self._records = source.records()
        self._undone = False  # whether a device failed in the last step
        self._checkpoint: Callable[[], object] | None = getattr(source, "checkpoint", None)
        self.can_checkpoint = self._checkpoint is not None
        self._lock = threading.RLock()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="pnnlab-training")
        self._actions: dict[object, str] = {}  # names; the first may be running
        self._requests: set[Request] = set()
        self._ended = threading.Event()
        self._history = History()
        self.observers: list[Callable[[], object]] = []
        self.status: Status = "ready"
        self.latest: Record | None = None
        self.notice = ""
        self.error: BaseException | None = None

    @property
    def active(self) -> bool:
        """Whether the session has begun and not ended: it is running or paused."""
        return self.status in ("running", "paused")

    @property
    def requests(self) -> frozenset[Request]:
        """Requests that wait for the end of the present step."""
        with self._lock:
            return frozenset(self._requests if self.status == "running" else ())

    @property
    def actions(self) -> tuple[str, ...]:
        """Names of the actions that wait or run, the next or running one first."""
        with self._lock:
            return tuple(self._actions.values())

    @property
    def evaluations(self) -> tuple[Record, ...]:
        """Records that hold an evaluation, oldest first; thinned, but never the latest."""
        with self._lock:
            return tuple(self._history.evaluations)

    def curves(self) -> Curves:
        """Loss, batch metric and clamping over the steps, in at most `BINS` points."""
        with self._lock:
            return self._history.curves()

    def start(self) -> Self:
        """Begin to train; a session begins once."""
        with self._lock:
            if self.status != "ready":
                raise RunError(
                    f"this session is {self.status} and cannot be started again. Make a new one, "
                    "Session(training): it continues at the step reached."
                )
            self.status = "running"
        # A kernel that is shut down leaves through here: the run still writes its checkpoint.
        atexit.register(self._leave)
        self._notify()
        self._step_later()
        return self

    def pause(self) -> None:
        """Wait after the present step."""
        self._request(self._requests.add, "pause")

    def resume(self) -> None:
        """Go on after a pause."""
        self._request(self._requests.discard, "pause")

    def stop(self) -> None:
        """End after the present step, also while paused."""
        with self._lock:
            if ready := self.status == "ready":
                self.status = "stopped"
        if ready:
            self._close()
            self._ended.set()
            self._notify()
        self._request(self._requests.add, "stop")

    def request_checkpoint(self) -> None:
        """Write a checkpoint after the present step, also while paused.

        A checkpoint that cannot be written does not end the training: `notice` says why.
        """
        checkpoint = self._checkpoint
        if checkpoint is None:
            raise RunError(
                "this session has nowhere to write a checkpoint: make it from a run, "
                "Session(Run.open(folder, training))."
            )
        if not self.active:
            raise RunError(f"this session is {self.status}; only an active one is checkpointed.")

        def write() -> None:
            step = self.latest.step if self.latest is not None else 0
            try:
                checkpoint()
                self.notice = f"checkpoint written at step {step}"
            except (PnnlabError, OSError) as error:
                self.notice = f"no checkpoint at step {step}, and the training goes on: {error}"

        if "checkpoint" not in self.actions:
            self.do("checkpoint", write)

    def do(self, name: str, action: Callable[[], T]) -> "Future[T]":
        """Carry ``action`` out when nothing else drives the device or changes the network.

        That is between two steps of the training, also while it is paused; at once, if the session
        is not active. One action after the other. An action that fails never ends the training:
        its future has the error, and `notice` its message. The random numbers that it draws leave
        those of the training as they were.

        A training that is stopped, or fails, refuses the actions that have not begun.
        ``result()`` of the future waits for it; never call that within another action.
        """

        def settle(_: object) -> None:
            with self._lock:
                del self._actions[carry_out]
            self._notify()

        def carry_out() -> T:
            try:
                if during and "stop" in self._requests:
                    how = "failed" if self.error else "was stopped"
                    raise RunError(f"the training {how} before this began; ask for it again.")
                with torch.random.fork_rng(devices=[], enabled=self.active):
                    return action()
            except BaseException as error:
                if isinstance(error, PnnlabError | OSError):  # raised on purpose
                    self.notice = f"{name}: {error}"
                else:
                    logger.error("an action of a session failed", exc_info=error)
                    self.notice = f"{name}: {type(error).__name__}: {error}"
                raise

        with self._lock:
            during = self.active
            self._actions[carry_out] = name
        self._notify()
        future = self._worker.submit(carry_out)
        future.add_done_callback(settle)
        return future

    def scale_rate(self, factor: float) -> "Future[None]":
        """Multiply the learning rate of all steps to come, see `Training.scale_rate`."""
        training = self.training
        if training is None:
            raise RunError("this session drives no Training: make it by Session(training).")
        factor = real("the factor of the learning rate", factor)
        return self.do(f"learning rate × {factor:g}", lambda: training.scale_rate(factor))

    def join(self) -> None:
        """Wait, as a script does, until the session has ended.

        Ctrl-C stops the session, waits for its last step and is raised again, as is whatever the
        training failed of.
        """
        with self._waiting():
            while not self._ended.wait(POLL_SECONDS):
                pass  # in short waits, Ctrl-C works on every platform

    async def done(self) -> None:
        """Wait, as a notebook's cell does, until the session has ended.

        The kernel answers buttons meanwhile. Interrupting the kernel stops the session, waits for
        its last step and is raised again. Errors as of `join`.
        """
        with self._waiting():
            while not self._ended.is_set():
                await asyncio.sleep(POLL_SECONDS)

    def _request(self, change: Callable[[Request], None], request: Request) -> None:
        with self._lock:
            if not self.active:
                return
            change(request)
            awake = self.status == "paused" and self._requests != {"pause"}
            if awake:
                self.status = "running"
        self._notify()
        if awake:
            self._step_later()

    def _step_later(self) -> None:
        try:
            self._worker.submit(self._step)
        except RuntimeError:  # the interpreter is shutting down, and its threads take no more jobs
            self._requests.add("stop")
            self._end(None)

    def _step(self) -> None:
        with self._lock:
            stopping = "stop" in self._requests
            if held := self._requests == {"pause"}:
                self.status = "paused"
        if held:
            self._notify()
            return
        try:
            record = None if stopping else next(self._records, None)
        except DeviceError as error:
            self._records, self._undone = self._source.records(), True
            self.notice = f"Paused: {error}"
            self.pause()
        except BaseException as error:  # noqa: BLE001 - `join` and `done` raise it again
            self._end(error)
            return
        else:
            if record is None:
                self._end(None)
                return
            with self._lock:
                self._history.add(record)
                self.latest, self._undone = record, False
        self._step_later()

    def _end(self, error: BaseException | None) -> None:
        try:
            self._close()
            if self._undone and self._checkpoint is not None:
                self._checkpoint()  # of records that were not begun again, nothing writes one
        except BaseException as caught:  # noqa: BLE001 - `join` and `done` raise it again
            error = caught
        with self._lock:
            complete = self.latest is not None and self.latest.step >= self.latest.steps
            stopped = "stop" in self._requests
            if error:
                self._requests.add("stop")  # which refuses the actions that wait
            self.error = error
            outcome: Status = "stopped" if stopped and not complete else "finished"
            self.status = "failed" if error else outcome
        atexit.unregister(self._leave)
        self._notify()
        self._ended.set()

    def _notify(self) -> None:
        for observer in tuple(self.observers):
            try:
                observer()
            except Exception:
                # A broken view must not end a training, and nothing must hide that it is broken.
                logger.exception("an observer of a session failed; the training goes on")

    def _close(self) -> None:
        if (close := getattr(self._records, "close", None)) is not None:
            close()

    def _leave(self) -> None:
        self.stop()
        self._ended.wait()

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        """Stop the session if the wait is interrupted; otherwise raise the session's error."""
        if self.status == "ready":
            raise RunError("this session was not started: call session.start() first.")
        try:
            yield
        except BaseException:
            self._leave()
            raise
        if self.error is not None:
            raise self.error
