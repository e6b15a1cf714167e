"""Keeping a view up to date from a thread of its own, at a bounded cost."""

import threading
import time
from collections.abc import Callable
from typing import final

INTERVAL = 0.1  # seconds between two updates while something happens, or more:
LOAD = 0.01  # the part that updates may take of what the process uses of its processors
COST = 3.0  # times what an update takes in its own thread: sending and waking come on top
LATEST = 0.8  # seconds between two updates, at most: who waits for a device uses no processor
SHORTEST = 0.05  # seconds between two updates, however often something is asked
ATTENTIVE = 3  # updates at full speed once something was asked: what became of it shows in one


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
        """Refresh soon, at least once more, and follow as long as there is something to follow."""
        self._changed.set()
        if not self._closed and self._following.acquire(blocking=False):
            threading.Thread(target=self._follow, name="pnnlab-dashboard", daemon=True).start()

    def close(self) -> None:
        """Follow no longer."""
        self._closed = True
        self._changed.set()

    def _follow(self) -> None:
        attentive = 0
        try:
            while not self._closed:
                attentive = ATTENTIVE if self._changed.is_set() else attentive - 1
                self._changed.clear()
                going = self._active()  # asked before: what ends meanwhile is shown once more
                began = time.thread_time()
                self._refresh()
                if not going:
                    break
                share = COST * (time.thread_time() - began) / LOAD
                time.sleep(SHORTEST)
                if self._resting():
                    self._changed.wait()
                elif attentive > 0:
                    self._changed.wait(self._interval)
                else:
                    self._rest(share)
        finally:
            self._following.release()
        if self._changed.is_set():
            self.wake()  # something has changed since that refresh, before the lock was free

    def _rest(self, share: float) -> None:
        """Wait until the process has used ``share`` seconds of its processors, or was asked.

        Not until so much time has passed: where others use the machine too, a training gets but a
        part of it, and would lose several times as large a part to its views.
        """
        enough = time.process_time() + share
        latest = time.monotonic() + max(LATEST, share)
        while not self._changed.wait(self._interval):
            if time.process_time() >= enough or time.monotonic() >= latest:
                return
