"""What a network is worth, on its devices and on their twins."""

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from pnnlab.layers import PhysicalLayer, on_device, on_twin, physical_layers
from pnnlab.tasks.base import Split, check_classes
from pnnlab.training.limits import at_limits, stuck

EVALUATION_BATCH = 500
READOUTS = 2000  # rows of each layer in which stuck read-outs are looked for


class Examples(Protocol):
    """Inputs with their classes, as `pnnlab.tasks.Split` holds them."""

    @property
    def x(self) -> Tensor:
        """Inputs, (n, features), in [0, 1]."""

    @property
    def labels(self) -> Tensor:
        """Classes, (n,), int64."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What a network is worth on its devices and on their twins; None where there are none.

    Attributes
    ----------
    gap : tuple of float
        By physical layer, mean squared difference of device and twin at the device's inputs,
        relative to the variance of the device's output.
    theta_at_limits, stuck : tuple of float
        By physical layer, see `at_limits` of its theta and `stuck` of its read-outs.
    """

    device_accuracy: float | None = None
    device_loss: float | None = None
    twin_accuracy: float | None = None
    twin_loss: float | None = None
    gap: tuple[float, ...] | None = None
    theta_at_limits: tuple[float, ...] | None = None
    stuck: tuple[float, ...] | None = None


def logits(network: nn.Module, x: Tensor) -> Tensor:
    """What the network says of ``x``, with the layers as they stand, (n, classes), no graph."""
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            return torch.cat([network(rows) for rows in x.split(EVALUATION_BATCH)])
    finally:
        network.train(was_training)


def accuracy(network: nn.Module, examples: Examples) -> tuple[float, float]:
    """Fraction of right answers and mean cross-entropy, with the layers as they stand."""
    split = Split(examples.x, examples.labels)  # refuses what has no accuracy before it is sent
    said = logits(network, split.x)
    check_classes("given", split, said.shape[1])
    right = (said.argmax(1) == split.labels).double().mean()
    return float(right), float(functional.cross_entropy(said, split.labels))


def evaluate(network: nn.Module, examples: Examples) -> Evaluation:
    """Run ``examples`` through the devices and, where every layer has one, through the twins.

    The gap of each layer is taken at the inputs that its device really saw.
    """
    layers = physical_layers(network)
    seen = [_Seen() for _ in layers]
    hooks = [layer.register_forward_hook(eye) for layer, eye in zip(layers, seen, strict=True)]
    try:
        with on_device(network):
            device_accuracy, device_loss = accuracy(network, examples)
    finally:
        for hook in hooks:
            hook.remove()
    on_devices = Evaluation(device_accuracy=device_accuracy, device_loss=device_loss)
    if not layers:
        return on_devices
    on_devices = replace(
        on_devices,
        theta_at_limits=tuple(at_limits(layer.theta) for layer in layers),
        stuck=tuple(stuck(torch.cat(eye.readouts)) for eye in seen),
    )
    if any(layer.twin is None for layer in layers):
        return on_devices
    with on_twin(network):
        twin_accuracy, twin_loss = accuracy(network, examples)
    return replace(
        on_devices,
        twin_accuracy=twin_accuracy,
        twin_loss=twin_loss,
        gap=tuple(float(eye.squared_gap / eye.squared_deviation) for eye in seen),
    )


class _Seen:
    """What an evaluation sees of one layer on its device, batch by batch."""

    def __init__(self) -> None:
        self.squared_gap, self.squared_deviation = torch.zeros(2, dtype=torch.float64)
        self.readouts: list[Tensor] = []
        self._room = READOUTS

    def __call__(self, layer: PhysicalLayer, inputs: tuple[Tensor], measured: Tensor) -> None:
        self.readouts.append(measured[: self._room])
        self._room -= len(self.readouts[-1])
        if layer.twin is None:
            return
        modelled = layer.twin(layer.drive(inputs[0]), layer.theta.clamp(0, 1))
        self.squared_gap += (measured - modelled).square().sum()
        self.squared_deviation += (measured - measured.mean(0)).square().sum()
