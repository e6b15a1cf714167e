"""Evaluations: what a network reaches on its devices and on their twins."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pnnlab.errors import ShapeError
from pnnlab.layers import PhysicalLayer, observed, on_device, on_twin, physical_layers
from pnnlab.tasks.task import Split, check_targets
from pnnlab.training.cost import passes_so_far
from pnnlab.training.objectives import CLASSIFICATION, Labels, Objective
from pnnlab.training.records import Scores

EVALUATION_BATCH = 500
READOUTS = 2000  # rows of each layer in which stuck read-outs are looked for
STICKING = 1e-3  # of its range, within which a read-out counts as being at the end of it


@dataclass(frozen=True, kw_only=True)
class Evaluation(Scores):
    """Scores with the names of their metric and loss."""

    labels: Labels = CLASSIFICATION.labels

    def __str__(self) -> str:
        reached = [f"{self.labels.metric} {self.labels.text(self.device_metric)} on the device"]
        if self.twin_metric is not None:
            reached.append(f"{self.labels.text(self.twin_metric)} on the twin")
        if self.gap is not None:
            reached.append(f"gap {', '.join(f'{gap:.2g}' for gap in self.gap)} by layer")
        return ", ".join(reached)


def evaluate(
    network: nn.Module, examples: Split, objective: Objective = CLASSIFICATION
) -> Evaluation:
    """Run ``examples`` through the devices and, where every layer has one, through the twins.

    The gap of each layer is taken at the inputs that its device really saw.
    """
    layers = physical_layers(network)
    squares = {layer: torch.zeros(2, dtype=torch.float64) for layer in layers}  # gap, deviation
    readouts: dict[PhysicalLayer, list[Tensor]] = {layer: [] for layer in layers}

    def note(layer: PhysicalLayer, x: Tensor, theta: Tensor, y: Tensor) -> None:
        room = READOUTS - sum(map(len, readouts[layer]))
        readouts[layer].append(y[:room])
        if layer.twin is not None:
            squares[layer][0] += (y - layer.twin(x, theta).double()).square().sum().cpu()
            squares[layer][1] += y.double().var(0, correction=0).sum().cpu() * len(y)

    with on_device(network), observed(network, note):
        device_metric, device_loss = scores(network, examples, objective)
    found: dict[str, Any] = {"device_metric": device_metric, "device_loss": device_loss}
    if layers:
        found["theta_at_limits"] = tuple(at_limits(layer.theta) for layer in layers)
        found["stuck"] = tuple(stuck(torch.cat(readouts[layer])) for layer in layers)
    if layers and all(layer.twin is not None for layer in layers):
        with on_twin(network):
            found["twin_metric"], found["twin_loss"] = scores(network, examples, objective)
        found["gap"] = tuple(float(gap / deviation) for gap, deviation in squares.values())
    return Evaluation(labels=objective.labels, **found)


def accuracy(network: nn.Module, examples: Split) -> float:
    """Fraction of examples that the network classifies right, with the layers as they stand."""
    return scores(network, examples)[0]


def scores(
    network: nn.Module, examples: Split, objective: Objective = CLASSIFICATION
) -> tuple[float, float]:
    """Metric and loss of an objective, with the layers as they stand."""
    split = Split(examples.x, examples.targets)  # refuses what has no score before it is sent
    found = outputs(network, split.x)
    check_targets("given", split, found.shape[1])
    metric, loss = (score(found, split.targets) for score in (objective.metric, objective.loss))
    return float(metric), float(loss)


def outputs(network: nn.Module, x: Tensor) -> Tensor:
    """Outputs of the network for ``x``, with the layers as they stand, (n, outputs), no graph."""
    with left_as_it_was(network):
        network.eval()
        return torch.cat([network(rows) for rows in x.split(EVALUATION_BATCH)])


@contextmanager
def left_as_it_was(network: nn.Module) -> Iterator[None]:
    """Afterwards every module has its mode again, and every layer its penalty; no graph inside."""
    modes = [(module, module.training) for module in network.modules()]
    notes = [(layer, layer.penalty, layer.clamped) for layer in physical_layers(network)]
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        for layer, penalty, clamped in notes:
            layer.penalty, layer.clamped = penalty, clamped


def at_limits(theta: Tensor) -> float:
    """Fraction of the parameters at or beyond the ends of [0, 1]; 0 where there are none."""
    beyond = (theta <= 0) | (theta >= 1)
    return float(beyond.double().mean()) if theta.numel() else 0.0


def stuck(y: Tensor) -> float:
    """Fraction of the read-outs ``y``, (n, outputs), that stick at an end of their output's range.

    An amplifier that saturates, or a converter that is overdriven, returns the same value again
    and again. A read-out sticks if it lies within a thousandth of its output's range of the
    largest or smallest value seen. The two that are these values themselves do not count; an
    output that never moves sticks throughout. NaN with fewer than three rows.
    """
    if len(y) < 3:
        return math.nan
    low, high = torch.aminmax(y, dim=0)
    margin = STICKING * (high - low)
    at_an_end = (y <= low + margin).sum(0) + (y >= high - margin).sum(0)
    return float(((at_an_end - 2) / (len(y) - 2)).clamp(0, 1).double().mean())


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """True classes against those that a network names, both (n,), and the names of the classes."""

    targets: NDArray[np.int64]
    predicted: NDArray[np.int64]
    classes: tuple[str, ...]
    device_passes: int

    @property
    def matrix(self) -> NDArray[np.int64]:
        """Examples by true class, the row, and predicted class, the column."""
        count = len(self.classes)
        cells = np.bincount(self.targets * count + self.predicted, minlength=count * count)
        return cells.reshape(count, count)

    @property
    def accuracy(self) -> float:
        """Fraction of right answers."""
        return float((self.targets == self.predicted).mean())

    def members(self, true: int, predicted: int) -> NDArray[np.int64]:
        """Indices of the examples behind one cell, in order."""
        return np.flatnonzero((self.targets == true) & (self.predicted == predicted))


def confusion(
    network: nn.Module, examples: Split, classes: Sequence[str] | None = None
) -> Confusion:
    """Let a network name the class of every example, with the layers as they stand.

    That is on the devices within `pnnlab.layers.on_device`, on the twins within `on_twin`, and
    otherwise on what the layers' rule drives. ``classes`` are named by their numbers by default.
    """
    if not len(examples.x):
        raise ShapeError("there are no examples to confuse; give at least one.")
    before = passes_so_far(network)
    found = outputs(network, examples.x)
    count = found.shape[1]
    names = tuple(str(number) for number in range(count)) if classes is None else tuple(classes)
    if len(names) != count:
        raise ShapeError(f"{len(names)} names for {count} classes; give one for each logit.")
    return Confusion(
        targets=examples.targets.cpu().numpy(),
        predicted=found.argmax(1).cpu().numpy(),
        classes=names,
        device_passes=passes_so_far(network) - before,
    )
