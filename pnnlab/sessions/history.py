"""What a session remembers of its records, in bounded memory."""

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pnnlab.training import Record

Floats: TypeAlias = NDArray[np.float64]

BINS = 1024  # points kept of a curve, however long the run
EVALUATIONS = 1000  # evaluations kept


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
