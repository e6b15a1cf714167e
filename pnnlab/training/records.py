"""Records of training steps, and their history in bounded memory."""

from dataclasses import dataclass
from typing import Annotated, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]

BINS = 1024  # points kept of a curve, however long the run
EVALUATIONS = 1000  # evaluations kept


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What an evaluation measures; None where there was none, or no twin. Tuples are by layer.

    A network without physical layers runs on the computer, which is then the device. An exported
    run repeats the annotations: meaning and unit.
    """

    device_metric: Annotated[float | None, "metric on the device"] = None
    device_loss: Annotated[float | None, "loss on the device"] = None
    twin_metric: Annotated[float | None, "metric on the twin"] = None
    twin_loss: Annotated[float | None, "loss on the twin"] = None
    gap: Annotated[
        tuple[float, ...] | None,
        "mean squared difference of device and twin at the device's inputs, over the variance of "
        "the device's outputs",
    ] = None
    theta_at_limits: Annotated[
        tuple[float, ...] | None, "fraction of parameters at or beyond 0 or 1"
    ] = None
    stuck: Annotated[
        tuple[float, ...] | None, "fraction of read-outs that stick at an end of their range"
    ] = None


@dataclass(frozen=True, kw_only=True)
class Record(Scores):
    """One training step, with the scores on the validation split if it was evaluated."""

    step: Annotated[int, "steps done, this one included"]
    steps: Annotated[int, "steps of the whole run"]
    epoch: Annotated[int, "epoch of the step"]
    loss: Annotated[float, "loss of the objective with range penalty, of the batch"]
    batch_metric: Annotated[float, "metric on the batch, before the step"]
    clamped: Annotated[tuple[float, ...], "fraction of clamped inputs"]
    device_passes: Annotated[int, "shots taken since the run began, evaluations included"]
    seconds: Annotated[float, "wall time spent in steps", "s"]
    seconds_left: Annotated[float, "wall time to the end, at the speed so far", "s"]
    steps_per_second: Annotated[float, "mean speed since the run began", "1/s"]
    learning_rate: Annotated[float, "learning rate of this step"]


class Curves(NamedTuple):
    """Means over bins of steps: ``clamped`` is (bins, layers), the others (bins,)."""

    step: Floats
    loss: Floats
    batch_metric: Floats
    clamped: Floats


class History:
    """The records of a run in bounded memory: at most ``bins`` and ``evaluations``, both even.

    When the curves are full, neighbouring bins are merged; the older half of too many evaluations
    is thinned.
    """

    def __init__(self, bins: int = BINS, evaluations: int = EVALUATIONS) -> None:
        self.evaluations: list[Record] = []
        self._most_evaluations = evaluations
        self._most_bins = bins
        self._bins: list[Floats] = []  # complete but the last
        self._width = 1  # steps in a complete bin
        self._inside = 1  # steps in the last bin

    def add(self, record: Record) -> None:
        row = np.array((record.step, record.loss, record.batch_metric, *record.clamped))
        if self._bins and self._inside < self._width:
            self._inside += 1
            self._bins[-1] += (row - self._bins[-1]) / self._inside
        else:
            if len(self._bins) == self._most_bins:
                self._bins = [
                    (a + b) / 2 for a, b in zip(self._bins[::2], self._bins[1::2], strict=True)
                ]
                self._width *= 2
            self._bins.append(row)
            self._inside = 1
        if record.device_metric is not None:
            self.evaluations.append(record)
            if len(self.evaluations) > self._most_evaluations:
                del self.evaluations[1 : self._most_evaluations // 2 : 2]

    def curves(self) -> Curves:
        """Copy the curves; a bin that is still being filled is their last point."""
        rows = np.array(self._bins).reshape(len(self._bins), -1 if self._bins else 3)
        return Curves(rows[:, 0], rows[:, 1], rows[:, 2], rows[:, 3:])
