"""Keeping a view up to date from a thread of its own, at a bounded cost."""

import threading
import time
from collections.abc import Callable
from typing import final

INTERVAL = 0.1  # seconds between two updates while something happens, or more:
LOAD = 0.01  # the part of a processor that updates may take; sending them takes a third more
SHORTEST = 0.05  # seconds between two updates, however often something is asked


@final
class Follower:
    """Calls ``refresh`` while there is something to follow, and once when there no longer is.

    The thread lives only that long, and takes at most a fiftieth of a processor.

    Parameters
    ----------
    refresh : callable
        Shows what there is now.
    active : callable
        Whether there is something to follow.
    resting : callable, optional
        Whether nothing will change before the next `wake`.
    interval : float
        Seconds between two updates, at least.
    """

    def __init__(
        self,
        refresh: Callable[[], None],
        active: Callable[[], bool],
        *,
        resting: Callable[[], bool] = lambda: False,
        interval: float = INTERVAL,
    ) -> None:
        self._refresh, self._active, self._resting = refresh, active, resting
        self._interval = interval
        self._changed = threading.Event()
        self._closed = False
        self._following = threading.Lock()  # held by the thread that follows, if there is one

    def wake(self) -> None:
        """Refresh soon, and follow from now on if there is something to follow."""
        self._changed.set()
        if not self._closed and self._active() and self._following.acquire(blocking=False):
            threading.Thread(target=self._follow, name="pnnlab-dashboard", daemon=True).start()

    def close(self) -> None:
        """Follow no longer."""
        self._closed = True
        self._changed.set()

    def _follow(self) -> None:
        try:
            while self._active() and not self._closed:
                self._changed.clear()
                began = time.thread_time()
                self._refresh()
                rest = max(self._interval, (time.thread_time() - began) / LOAD)
                time.sleep(SHORTEST)
                self._changed.wait(None if self._resting() else rest - SHORTEST)
            if not self._closed:
                self._refresh()
        finally:
            self._following.release()
        if self._active():
            self.wake()  # there was something new to follow before the lock was free
