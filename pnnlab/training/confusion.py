"""Which classes a network takes for which, and the examples behind each mistake."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pnnlab.errors import ShapeError
from pnnlab.training.evaluation import Examples, outputs
from pnnlab.training.layer_drives import passes_so_far

Counts = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """True classes against those that a network names.

    Attributes
    ----------
    matrix : ndarray, (classes, classes), int64
        Examples by true class, the row, and predicted class, the column.
    targets, predicted : ndarray, (n,), int64
        Of each example.
    classes : tuple of str
        Names of the classes.
    device_passes : int
        What it cost.
    """

    matrix: Counts
    targets: Counts
    predicted: Counts
    classes: tuple[str, ...]
    device_passes: int

    @property
    def accuracy(self) -> float:
        """Fraction of right answers."""
        return float(np.trace(self.matrix) / self.matrix.sum())

    def members(self, true: int, predicted: int) -> Counts:
        """Indices of the examples behind one cell, in order."""
        return np.flatnonzero((self.targets == true) & (self.predicted == predicted))


def confusion(
    network: nn.Module, examples: Examples, classes: Sequence[str] | None = None
) -> Confusion:
    """Let a network name the class of every example, with the layers as they stand.

    That is on the devices within `pnnlab.layers.on_device`, on the twins within `on_twin`, and
    otherwise on what the layers' rule drives.

    Parameters
    ----------
    network : nn.Module
        Gives logits, (batch, classes).
    examples : Examples
    classes : sequence of str, optional
        Names of the classes, one for each logit; by default their numbers.

    Raises
    ------
    ShapeError
        There are no examples, or names and logits are not as many.
    """
    if not len(examples.x):
        raise ShapeError("there are no examples to confuse; give at least one.")
    before = passes_so_far(network)
    found = outputs(network, examples.x)
    count = found.shape[1]
    names = tuple(str(number) for number in range(count)) if classes is None else tuple(classes)
    if len(names) != count:
        raise ShapeError(f"{len(names)} names for {count} classes; give one for each logit.")
    targets, predicted = examples.targets.cpu(), found.argmax(1).cpu()
    cells = torch.bincount(targets * count + predicted, minlength=count * count)
    return Confusion(
        matrix=cells.reshape(count, count).numpy(),
        targets=targets.numpy(),
        predicted=predicted.numpy(),
        classes=names,
        device_passes=passes_so_far(network) - before,
    )
