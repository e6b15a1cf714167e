"""What a network reaches on its devices and on their twins."""

import math
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, nn

from pnnlab.layers import PhysicalLayer, observed, on_device, on_twin, physical_layers
from pnnlab.tasks.task import Split, check_targets
from pnnlab.training.objectives import CLASSIFICATION, Labels, Objective

EVALUATION_BATCH = 500
READOUTS = 2000  # rows of each layer in which stuck read-outs are looked for
STICKING = 1e-3  # of its range, within which a read-out counts as being at the end of it


class Examples(Protocol):
    """Inputs with what is wanted for them, as `pnnlab.tasks.Split` holds them."""

    @property
    def x(self) -> Tensor:
        """Inputs, (n, features), in [0, 1]."""

    @property
    def targets(self) -> Tensor:
        """Classes, (n,), int64, or values, (n, outputs), floating point."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What a network reaches on its devices and on their twins; None where there are none.

    Attributes
    ----------
    device_metric, device_loss, twin_metric, twin_loss : float
        Of the objective. Without physical layers, the device is the computer.
    gap : tuple of float
        By physical layer, mean squared difference of device and twin at the device's inputs,
        relative to the variance of the device's output.
    theta_at_limits, stuck : tuple of float
        By physical layer, see `at_limits` of its theta and `stuck` of its read-outs.
    labels : Labels
        Names of the metric and the loss.
    """

    device_metric: float | None = None
    device_loss: float | None = None
    twin_metric: float | None = None
    twin_loss: float | None = None
    gap: tuple[float, ...] | None = None
    theta_at_limits: tuple[float, ...] | None = None
    stuck: tuple[float, ...] | None = None
    labels: Labels = CLASSIFICATION.labels

    def __str__(self) -> str:
        reached = [f"{self.labels.metric} {self.labels.text(self.device_metric)} on the device"]
        if self.twin_metric is not None:
            reached.append(f"{self.labels.text(self.twin_metric)} on the twin")
        if self.gap is not None:
            reached.append(f"gap {', '.join(f'{gap:.2g}' for gap in self.gap)} by layer")
        return ", ".join(reached)


def outputs(network: nn.Module, x: Tensor) -> Tensor:
    """Outputs of the network for ``x``, with the layers as they stand, (n, outputs), no graph."""
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            return torch.cat([network(rows) for rows in x.split(EVALUATION_BATCH)])
    finally:
        network.train(was_training)


def accuracy(network: nn.Module, examples: Examples) -> float:
    """Fraction of examples that the network classifies right, with the layers as they stand."""
    return scores(network, examples)[0]


def evaluate(
    network: nn.Module, examples: Examples, objective: Objective = CLASSIFICATION
) -> Evaluation:
    """Run ``examples`` through the devices and, where every layer has one, through the twins.

    The gap of each layer is taken at the inputs that its device really saw.
    """
    layers = physical_layers(network)
    sums = {layer: _Sums() for layer in layers}
    with on_device(network), observed(network, lambda layer, *seen: sums[layer].add(layer, *seen)):
        device_metric, device_loss = scores(network, examples, objective)
    on_devices = Evaluation(
        device_metric=device_metric, device_loss=device_loss, labels=objective.labels
    )
    if not layers:
        return on_devices
    on_devices = replace(
        on_devices,
        theta_at_limits=tuple(at_limits(layer.theta) for layer in layers),
        stuck=tuple(stuck(torch.cat(one.readouts)) for one in sums.values()),
    )
    if any(layer.twin is None for layer in layers):
        return on_devices
    with on_twin(network):
        twin_metric, twin_loss = scores(network, examples, objective)
    return replace(
        on_devices,
        twin_metric=twin_metric,
        twin_loss=twin_loss,
        gap=tuple(float(one.squared_gap / one.squared_deviation) for one in sums.values()),
    )


def at_limits(theta: Tensor) -> float:
    """Fraction of the parameters at or beyond the ends of [0, 1]; 0 where there are none."""
    beyond = (theta <= 0) | (theta >= 1)
    return float(beyond.double().mean()) if theta.numel() else 0.0


def stuck(y: Tensor) -> float:
    """Fraction of the read-outs that stick at an end of what their output ever showed.

    An amplifier that saturates, or a converter that is overdriven, returns the same value again
    and again. A read-out sticks if it lies within a thousandth of its output's range of the
    largest or smallest value seen. The two that are these values themselves do not count; an
    output that never moves sticks throughout.

    Parameters
    ----------
    y : Tensor, (n, outputs)
        Of different inputs.

    Returns
    -------
    float
        NaN with fewer than three rows.
    """
    if len(y) < 3:
        return math.nan
    low, high = torch.aminmax(y, dim=0)
    margin = STICKING * (high - low)
    at_an_end = (y <= low + margin).sum(0) + (y >= high - margin).sum(0)
    return float(((at_an_end - 2) / (len(y) - 2)).clamp(0, 1).double().mean())


def scores(
    network: nn.Module, examples: Examples, objective: Objective = CLASSIFICATION
) -> tuple[float, float]:
    """Metric and loss of an objective, with the layers as they stand."""
    split = Split(examples.x, examples.targets)  # refuses what has no score before it is sent
    found = outputs(network, split.x)
    check_targets("given", split, found.shape[1])
    metric, loss = (score(found, split.targets) for score in (objective.metric, objective.loss))
    return float(metric), float(loss)


class _Sums:
    """Sums over what an evaluation sees of one layer on its device, batch by batch."""

    def __init__(self) -> None:
        self.squared_gap, self.squared_deviation = torch.zeros(2, dtype=torch.float64)
        self.readouts: list[Tensor] = []
        self._room = READOUTS

    def add(self, layer: PhysicalLayer, x: Tensor, theta: Tensor, measured: Tensor) -> None:
        self.readouts.append(measured[: self._room])
        self._room -= len(self.readouts[-1])
        if layer.twin is None:
            return
        self.squared_gap += (measured - layer.twin(x, theta).double()).square().sum()
        self.squared_deviation += measured.double().var(0, correction=0).sum() * len(measured)
