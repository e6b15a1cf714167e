"""A task: something that needs the device, or the training, for itself for a while."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Generic, TypeVar, final

from pnnlab.errors import RunError

T = TypeVar("T")

POLL_SECONDS = 0.05

logger = logging.getLogger(__name__)


@final
class Task(Generic[T]):
    """One action that was handed to `Session.do`, and what became of it.

    Parameters
    ----------
    name : str
        What a person reads while it waits or runs.
    action : callable
        Takes nothing; what it returns is the result.

    Attributes
    ----------
    error : BaseException or None
        What the action failed of, or why it was never begun; None before it has ended.
    """

    def __init__(self, name: str, action: Callable[[], T]) -> None:
        self.name = name
        self.error: BaseException | None = None
        self._action = action
        self._results: list[T] = []  # one, once the action has succeeded
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[Task[T]], None]] = []

    @property
    def done(self) -> bool:
        """Whether it has ended, well or not."""
        return self._ended.is_set()

    @property
    def result(self) -> T:
        """What the action returned.

        Raises
        ------
        RunError
            It has not ended yet.
        BaseException
            Whatever the action failed of.
        """
        if not self.done:
            raise RunError(f"{self.name} has not ended yet: wait() for it, or ask with on_done.")
        if self.error is not None:
            raise self.error
        return self._results[0]

    def on_done(self, callback: Callable[["Task[T]"], None]) -> None:
        """Call ``callback`` with this task once it has ended; at once if it has already.

        It is called by the thread that carried the action out, and must be quick.
        """
        with self._lock:
            if not self.done:
                self._callbacks.append(callback)
                return
        self._call(callback)

    def wait(self, timeout: float | None = None) -> T:
        """Wait until it has ended, and return its `result`. Never within another task.

        Parameters
        ----------
        timeout : float, optional
            Seconds; by default as long as it takes.

        Raises
        ------
        TimeoutError
            It has not ended in time, and goes on.
        BaseException
            Whatever the action failed of.
        """
        latest = float("inf") if timeout is None else time.monotonic() + timeout
        # In short waits, Ctrl-C works on every platform.
        while not self._ended.wait(max(0.0, min(POLL_SECONDS, latest - time.monotonic()))):
            if time.monotonic() >= latest:
                raise TimeoutError(f"{self.name} has not ended within {timeout:g} s; it goes on.")
        return self.result

    def act(self) -> None:
        """Carry the action out, keeping its result or error. For the session that was asked."""
        with ExitStack() as stack:
            stack.push(self._keep_error)
            self._results.append(self._action())

    def end(self) -> None:
        """Let whoever waits know. For the session that was asked."""
        with self._lock:
            self._ended.set()
            callbacks = tuple(self._callbacks)
            self._callbacks.clear()
        for callback in callbacks:
            self._call(callback)

    def _keep_error(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> bool:
        self.error = error
        return True

    def _call(self, callback: Callable[["Task[T]"], None]) -> None:
        try:
            callback(self)
        except Exception:
            # A broken view must not end a training, and nothing must hide that it is broken.
            logger.exception("whoever waited for %s failed; the session goes on", self.name)
