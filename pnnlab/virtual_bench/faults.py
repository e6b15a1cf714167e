"""What goes wrong on a bench, on purpose and reproducibly."""

import threading
from collections import Counter
from collections.abc import Sequence
from typing import Literal, TypeAlias, final, get_args

import numpy as np

from pnnlab.errors import RangeError
from pnnlab.virtual_bench.instrument import SimulatedInstrument
from pnnlab.virtual_bench.messages import Message, ScpiError
from pnnlab.virtual_bench.oscilloscopes import SimulatedOscilloscope

FaultKind: TypeAlias = Literal[
    "drop", "stall", "truncate", "late", "error", "hole", "saturate", "drift"
]
KINDS: tuple[FaultKind, ...] = get_args(FaultKind)
_WORTH_CUTTING = 64  # bytes of an answer


@final
class Faults:
    """A seeded schedule of faults, counted in messages that either instrument gets.

    ======== =====================================================================================
    drop     the connection is closed; the message may or may not have been carried out
    stall    the message is lost, and this client gets no answer for ``stall_s``
    truncate half of a long answer, such as a block, is sent, and then nothing
    late     the answer comes after ``stall_s``
    error    an error -240 stands in the queue, and nothing else is wrong
    hole     a part of the next record is missing
    saturate a part of the next record is beyond the converter's range
    drift    the oscilloscope's input is off by ``drift_v`` from now on, either way
    ======== =====================================================================================

    The same `seed` gives the same faults to the same messages; they are `mean_messages` apart on
    average, at most `most`, and none comes before `start` if `waiting`. A `stall_s` that is not
    longer than the client's timeout is no fault. `injected` counts what has happened by kind.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        mean_messages: float = 100.0,
        kinds: Sequence[FaultKind] = KINDS,
        stall_s: float = 0.5,
        drift_v: float = 0.01,
        most: int | None = None,
        waiting: bool = False,
    ) -> None:
        unknown = [kind for kind in kinds if kind not in KINDS]
        if unknown or not kinds:
            raise RangeError(f"kinds is {tuple(kinds)!r}; choose from {', '.join(KINDS)}.")
        if not mean_messages >= 1 or stall_s < 0:
            raise RangeError(
                f"mean_messages is {mean_messages} and stall_s {stall_s}; a fault comes at most "
                "once a message, and a stall takes no less than no time."
            )
        self.injected: Counter[str] = Counter()
        self.closing = threading.Event()
        self._kinds, self._mean, self._most = tuple(kinds), mean_messages, most
        self._stall_s, self._drift_v, self._waiting = stall_s, drift_v, waiting
        self._rng = np.random.default_rng(seed)
        self._lock = threading.Lock()
        self._due: FaultKind | None = None
        self._left = self._rng.geometric(1 / mean_messages)

    def start(self) -> None:
        """Begin, if waiting."""
        self._waiting = False

    def execute(self, instrument: SimulatedInstrument, message: Message) -> bytes:
        """Carry out a message with the fault that is due; `ConnectionAbortedError` for a drop."""
        self._count()
        if self._take("drop"):
            if self._coin():
                instrument.execute(message)
            raise ConnectionAbortedError
        if self._take("stall"):
            self.closing.wait(self._stall_s)
            return b""
        if self._take("error"):
            instrument.report(ScpiError(-240))
        if isinstance(instrument, SimulatedOscilloscope):
            self._spoil(instrument)
        answer = instrument.execute(message)
        if len(answer) >= _WORTH_CUTTING and self._take("truncate"):
            return answer[: len(answer) // 2]
        if answer and self._take("late"):
            self.closing.wait(self._stall_s)
        return answer

    def _spoil(self, scope: SimulatedOscilloscope) -> None:
        with scope.lock:
            if scope.fault:  # the one before still waits for its record
                return
            if self._take("drift"):
                scope.drift_v += self._drift_v if self._coin() else -self._drift_v
            for kind in ("hole", "saturate"):
                if self._take(kind):
                    scope.fault = kind

    def _coin(self) -> bool:
        with self._lock:
            return bool(self._rng.integers(2))

    def _count(self) -> None:
        """Count a message, and choose a fault if its turn has come."""
        with self._lock:
            if self._waiting or self._due is not None:
                return
            self._left -= 1
            exhausted = self._most is not None and self.injected.total() >= self._most
            if self._left <= 0 and not exhausted:
                self._due = self._kinds[self._rng.integers(len(self._kinds))]
                self._left = self._rng.geometric(1 / self._mean)

    def _take(self, kind: str) -> bool:
        """Tell whether this is the fault that is due, and it no longer is."""
        with self._lock:
            if self._due != kind:
                return False
            self._due = None
            self.injected[kind] += 1
            return True
