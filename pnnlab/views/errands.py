"""Work that a hand asks for again and again: the newest wish counts, and nothing piles up."""

import threading
from collections.abc import Callable
from typing import final


@final
class Errands:
    """Carries out what was asked for, one after the other, in a thread that lives only that long.

    What is asked for again before it has begun is done once. So a hand may ask as often as it
    likes, and the last wish is always carried out.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted: dict[str, Callable[[], None]] = {}
        self._running = False

    def ask(self, name: str, act: Callable[[], None]) -> None:
        """Carry ``act`` out soon, in place of an earlier wish of this name that still waits."""
        with self._lock:
            self._wanted[name] = act
            if self._running:
                return
            self._running = True
        threading.Thread(target=self._run, name="pnnlab-panel", daemon=True).start()

    @property
    def busy(self) -> bool:
        """Whether something waits or is being carried out."""
        return self._running

    def forget(self) -> None:
        """Drop what has not begun."""
        with self._lock:
            self._wanted.clear()

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._wanted:
                    self._running = False
                    return
                act = self._wanted.pop(next(iter(self._wanted)))
            done = False
            try:
                act()
                done = True
            finally:
                if not done:  # the next wish gets a thread of its own
                    self._running = False
