"""Records of training steps, and their history in bounded memory."""

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]

BINS = 1024  # points kept of a curve, however long the run; even
EVALUATIONS = 1000  # evaluations kept; even


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What an evaluation measures; None where there was none, or no twin. Tuples are by layer.

    A network without physical layers runs on the computer, which is then the device.
    """

    device_metric: float | None = None
    device_loss: float | None = None
    twin_metric: float | None = None
    twin_loss: float | None = None
    # Mean squared difference of device and twin at the device's inputs, over the variance of the
    # device's outputs.
    gap: tuple[float, ...] | None = None
    theta_at_limits: tuple[float, ...] | None = None  # fraction of parameters at or beyond 0 or 1
    stuck: tuple[float, ...] | None = None  # fraction of read-outs at an end of their range


@dataclass(frozen=True, kw_only=True)
class Record(Scores):
    """One training step, with the scores on the validation split if it was evaluated."""

    step: int  # steps done, this one included
    steps: int  # of the whole run
    epoch: int
    loss: float  # of the batch, with range penalty
    batch_metric: float  # before the step
    clamped: tuple[float, ...]  # fraction of clamped inputs
    device_passes: int  # shots taken since the run began, evaluations included
    seconds: float  # wall time spent in steps
    seconds_left: float  # wall time to the end, at the speed so far
    steps_per_second: float  # mean since the run began
    learning_rate: float  # of this step


class Curves(NamedTuple):
    """Means over bins of steps: ``clamped`` is (bins, layers), the others (bins,)."""

    step: Floats
    loss: Floats
    batch_metric: Floats
    clamped: Floats


class History:
    """The records of a run in bounded memory: at most `BINS` points and `EVALUATIONS` evaluations.

    When the curves are full, neighbouring bins are merged; the older half of too many evaluations
    is thinned.
    """

    def __init__(self) -> None:
        self.latest: Record | None = None
        self.evaluations: list[Record] = []
        self._bins: list[Floats] = []  # complete but the last
        self._width = 1  # steps in a complete bin
        self._inside = 1  # steps in the last bin

    def add(self, record: Record) -> None:
        row = np.array((record.step, record.loss, record.batch_metric, *record.clamped))
        if self._bins and self._inside < self._width:
            self._inside += 1
            self._bins[-1] += (row - self._bins[-1]) / self._inside
        else:
            if len(self._bins) == BINS:
                self._bins = [
                    (a + b) / 2 for a, b in zip(self._bins[::2], self._bins[1::2], strict=True)
                ]
                self._width *= 2
            self._bins.append(row)
            self._inside = 1
        if record.device_metric is not None:
            self.evaluations.append(record)
            if len(self.evaluations) > EVALUATIONS:
                del self.evaluations[1 : EVALUATIONS // 2 : 2]
        self.latest = record

    def curves(self) -> Curves:
        """Copy the curves; a bin that is still being filled is their last point."""
        rows = np.array(self._bins).reshape(len(self._bins), -1 if self._bins else 3)
        return Curves(rows[:, 0], rows[:, 1], rows[:, 2], rows[:, 3:])
