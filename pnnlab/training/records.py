"""Records of training steps, and what is kept of them in bounded memory."""

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]

BINS = 1024  # points kept of a curve, however long the run
EVALUATIONS = 1000  # evaluations kept


@dataclass(frozen=True, kw_only=True)
class Record:
    """What one training step showed.

    The fields from ``device_metric`` on are None in steps without an evaluation; those of the
    twin also where there is none. A network without physical layers runs on the computer itself,
    and what it reaches is the ``device_metric``.

    Attributes
    ----------
    step, steps : int
        Steps done, this one included, and steps of the whole run.
    loss, batch_metric : float
        Loss of the objective with range penalty, and its metric, of this batch.
    clamped : tuple of float
        Fraction of clamped inputs, by physical layer.
    device_passes : int
        Shots taken by all systems of the network since the run began, evaluations included.
    seconds, seconds_left, steps_per_second : float
        Wall time spent in steps so far, and what it promises.
    learning_rate : float
        Of this step.
    gap : tuple of float
        By physical layer, mean squared difference of device and twin at the device's inputs,
        relative to the variance of the device's output.
    theta_at_limits : tuple of float
        By physical layer, fraction of its parameters at or beyond 0 or 1.
    stuck : tuple of float
        By physical layer, fraction of its read-outs on the validation split that stick at an end
        of what their output ever showed: saturation.
    """

    step: int
    steps: int
    epoch: int
    loss: float
    batch_metric: float
    clamped: tuple[float, ...]
    device_passes: int
    seconds: float
    seconds_left: float
    steps_per_second: float
    learning_rate: float
    device_metric: float | None = None
    device_loss: float | None = None
    twin_metric: float | None = None
    twin_loss: float | None = None
    gap: tuple[float, ...] | None = None
    theta_at_limits: tuple[float, ...] | None = None
    stuck: tuple[float, ...] | None = None


class Curves(NamedTuple):
    """Means over bins of steps; the bins widen as a run grows.

    Attributes
    ----------
    step : ndarray, shape (bins,)
        Mean step of each bin.
    loss, batch_metric : ndarray, shape (bins,)
    clamped : ndarray, shape (bins, layers)
        Fractions, by physical layer.
    """

    step: Floats
    loss: Floats
    batch_metric: Floats
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
        row = np.array((record.step, record.loss, record.batch_metric, *record.clamped))
        if self._full == self._inside == 0:
            self._rows = np.zeros((len(self._rows), len(row)))
        if self._full == len(self._rows):
            self._merge()
        self._inside += 1
        self._rows[self._full] += (row - self._rows[self._full]) / self._inside
        if self._inside == self._width:
            self._full, self._inside = self._full + 1, 0
        if record.device_metric is not None:
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
