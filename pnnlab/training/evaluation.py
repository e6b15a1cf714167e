"""Objectives, evaluations, and what goes through the physical layers of a network."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from pnnlab.errors import ShapeError
from pnnlab.layers import (
    PhysicalLayer,
    all_have_twins,
    observed,
    on_device,
    on_twin,
    physical_layers,
    place_of,
)
from pnnlab.tasks.task import Split, check_targets
from pnnlab.training.cost import passes_so_far

EVALUATION_BATCH = 500
READOUTS = 2000  # rows of each layer in which stuck read-outs are looked for
STICKING = 1e-3  # of its range, within which a read-out counts as being at the end of it


@final
@dataclass(frozen=True, kw_only=True)
class Labels:
    """Names of a loss and a metric, with their units, in plots and tables."""

    loss: str = "cross-entropy (nat)"
    metric: str = "accuracy"
    percent: bool = True  # whether the metric is a fraction, shown in per cent

    @property
    def factor(self) -> float:
        """What a metric is multiplied with to be shown."""
        return 100.0 if self.percent else 1.0

    def text(self, value: float | None) -> str:
        """Write a value of the metric; a dash for None."""
        if value is None:
            return "–"
        return f"{100 * value:.1f} %" if self.percent else f"{value:.3g}"


@final
@dataclass(frozen=True, kw_only=True)
class Objective:
    """A loss to train on and a metric to report, both functions of outputs and targets.

    The loss is a differentiable scalar, a mean over the examples; of the metric, larger is better.
    A run is resumed with the objective of the name it began with.
    """

    name: str
    loss: Callable[[Tensor, Tensor], Tensor]
    metric: Callable[[Tensor, Tensor], Tensor]
    labels: Labels


def _accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.argmax(1) == targets).double().mean()


def _r2(outputs: Tensor, targets: Tensor) -> Tensor:
    """Coefficient of determination over all outputs: 1 is perfect, 0 the constant mean."""
    error = (outputs - targets).double().square().sum()
    return 1 - error / (targets - targets.mean(0)).double().square().sum()


CLASSIFICATION = Objective(
    name="classification", loss=functional.cross_entropy, metric=_accuracy, labels=Labels()
)
REGRESSION = Objective(
    name="regression",
    loss=functional.mse_loss,
    metric=_r2,
    labels=Labels(loss="mean squared error", metric="R²", percent=False),
)


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


def default_objective(examples: Split) -> Objective:
    """Regression of floating-point targets, classification of whole ones."""
    return REGRESSION if examples.targets.is_floating_point() else CLASSIFICATION


def evaluate(network: nn.Module, examples: Split, objective: Objective | None = None) -> Evaluation:
    """Run ``examples`` through the devices and, where every layer has one, through the twins.

    The gap of each layer is taken at the inputs that drove its device. The ``objective`` is by
    default the `default_objective`.
    """
    layers = physical_layers(network)
    objective = objective or default_objective(Split(examples.x, examples.targets))
    gaps = {layer: torch.zeros((), dtype=torch.float64) for layer in layers}  # summed squares
    moments: dict[PhysicalLayer, list[Tensor]] = {layer: [] for layer in layers}
    readouts: dict[PhysicalLayer, list[Tensor]] = {layer: [] for layer in layers}

    def note(layer: PhysicalLayer, x: Tensor, theta: Tensor, y: Tensor) -> None:
        room = READOUTS - sum(map(len, readouts[layer]))
        readouts[layer].append(y[:room])
        if layer.twin is not None:
            gaps[layer] += (y - layer.twin(x, theta).double()).square().sum().cpu()
            variance, mean = torch.var_mean(y.double(), 0, correction=0)
            moments[layer].append(
                torch.stack([torch.full_like(mean, len(y)), mean, variance]).cpu()
            )

    with on_device(network), observed(network, note):
        device_metric, device_loss = scores(network, examples, objective)
    found: dict[str, Any] = {"device_metric": device_metric, "device_loss": device_loss}
    if layers:
        found["theta_at_limits"] = tuple(at_limits(layer.theta) for layer in layers)
        found["stuck"] = tuple(stuck(torch.cat(readouts[layer])) for layer in layers)
    if all_have_twins(network):
        with on_twin(network):
            found["twin_metric"], found["twin_loss"] = scores(network, examples, objective)
        found["gap"] = tuple(float(gaps[one] / _deviation(moments[one])) for one in layers)
    return Evaluation(labels=objective.labels, **found)


def _deviation(moments: list[Tensor]) -> float:
    """Summed squared deviation of all rows, of batches' counts, means and variances."""
    count, mean, variance = torch.stack(moments, 1)  # (batches, outputs) each
    total = (count * mean).sum(0) / count.sum(0)
    return float((count * (variance + (mean - total).square())).sum())


def accuracy(network: nn.Module, examples: Split) -> float:
    """Fraction of examples that the network classifies right, with the layers as they stand."""
    if default_objective(Split(examples.x, examples.targets)) is REGRESSION:
        raise ShapeError("values are not right or wrong; use scores or evaluate.")
    return scores(network, examples)[0]


def scores(
    network: nn.Module, examples: Split, objective: Objective | None = None
) -> tuple[float, float]:
    """Metric and loss, by default of the `default_objective`, with the layers as they stand."""
    split = Split(examples.x, examples.targets)  # refuses what has no score before it is sent
    objective = objective or default_objective(split)
    found = outputs(network, split.x)
    check_targets("given", split, found.shape[1])
    targets = split.targets.to(found.device)
    return float(objective.metric(found, targets)), float(objective.loss(found, targets))


def outputs(network: nn.Module, x: Tensor) -> Tensor:
    """Outputs of the network for ``x``, with the layers as they stand, (n, outputs), no graph."""
    with left_as_it_was(network):
        network.eval()
        place = place_of(network)
        return torch.cat([network(rows.to(place)) for rows in x.split(EVALUATION_BATCH)])


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

    A read-out sticks if it lies within a thousandth of that range of the largest or smallest value,
    which do not count themselves. NaN with fewer than three rows.
    """
    if len(y) < 3:
        return math.nan
    low, high = torch.aminmax(y, dim=0)
    margin = STICKING * (high - low)
    at_an_end = (y <= low + margin).sum(0) + (y >= high - margin).sum(0)
    return float(((at_an_end - 2) / (len(y) - 2)).clamp(0, 1).double().mean())


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """True classes against those that a network names."""

    targets: NDArray[np.int64]  # (n,)
    predicted: NDArray[np.int64]  # (n,)
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
        return float((self.targets == self.predicted).mean())

    def members(self, true: int, predicted: int) -> NDArray[np.int64]:
        """Indices of the examples behind one cell, in order."""
        return np.flatnonzero((self.targets == true) & (self.predicted == predicted))


def confusion(
    network: nn.Module, examples: Split, classes: Sequence[str] | None = None
) -> Confusion:
    """Let a network name the class of every example, with the layers as they stand."""
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


def layer_drives(network: nn.Module, x: Tensor) -> dict[PhysicalLayer, Tensor]:
    """Collect the drives of every layer for ``x``, (rows, input_dim), in [0, 1], on the devices."""
    drives: dict[PhysicalLayer, list[Tensor]] = {layer: [] for layer in physical_layers(network)}
    with on_device(network), observed(network, lambda layer, x, *_: drives[layer].append(x)):
        outputs(network, x)
    return {layer: torch.cat(rows) for layer, rows in drives.items()}


def working_points(network: nn.Module, x: Tensor) -> list[tuple[PhysicalLayer, Tensor, Tensor]]:
    """Every layer with ``len(x)`` of its drives, spread evenly over all of them, and its theta."""
    rows = torch.arange(len(x))
    return [
        (layer, drives[rows * len(drives) // len(x)], layer.theta.detach().clamp(0, 1))
        for layer, drives in layer_drives(network, x).items()
    ]


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerResponse:
    """One physical layer on the way, and its twin beside it."""

    name: str  # number of the layer, from 1, and name of its system
    drive: Tensor  # (shots, input_dim), in [0, 1]; one row unless the layer takes several shots
    theta: Tensor  # (param_dim,)
    measured: Tensor  # (shots, output_dim), in the unit of the read-out
    modelled: Tensor | None  # what the twin gives at the same drive; None where there is no twin
    clamped: float  # fraction of the drive that had to be clamped into [0, 1]

    @property
    def gap(self) -> float | None:
        """Mean squared difference of device and twin over the variance of the read-outs.

        None where there is no twin, or where the read-outs are all alike.
        """
        variance = float(self.measured.double().var(correction=0))
        if self.modelled is None or variance == 0:
            return None
        return float((self.measured - self.modelled).double().square().mean()) / variance


@dataclass(frozen=True, kw_only=True, eq=False)
class Inference:
    """One example on its way through a network, on the device."""

    x: Tensor  # (features,)
    responses: tuple[LayerResponse, ...]  # in the order in which the example met the layers
    probabilities: Tensor  # (classes,)
    twin_probabilities: Tensor | None  # with twins from the first layer on, where all have one
    device_passes: int

    @property
    def predicted(self) -> int:
        return int(self.probabilities.argmax())


def infer(network: nn.Module, x: Tensor) -> Inference:
    """Send one example, (features,) or (1, features), through the devices of ``network``.

    Keeps what each layer did. The network gives logits, and is left as it was.
    """
    row = (x.detach()[None] if x.ndim == 1 else x.detach()).to(place_of(network))
    if row.ndim != 2 or len(row) != 1:
        raise ShapeError(f"x has shape {tuple(x.shape)}; give one example, as in task.test.x[0].")
    before = passes_so_far(network)
    responses: list[LayerResponse] = []

    def note(layer: PhysicalLayer, drive: Tensor, theta: Tensor, measured: Tensor) -> None:
        responses.append(
            LayerResponse(
                name=f"{len(responses) + 1} · {layer.system.name}",
                drive=drive,
                theta=theta,
                measured=measured,
                modelled=None if layer.twin is None else layer.twin(drive, theta),
                clamped=layer.clamped,
            )
        )

    twin_probabilities: Tensor | None = None
    with left_as_it_was(network):
        network.eval()
        with on_device(network), observed(network, note):
            probabilities = network(row)[0].softmax(0)
        if all_have_twins(network):
            with on_twin(network):
                twin_probabilities = network(row)[0].softmax(0)
    return Inference(
        x=row[0].clone(),
        responses=tuple(responses),
        probabilities=probabilities,
        twin_probabilities=twin_probabilities,
        device_passes=passes_so_far(network) - before,
    )
