"""`journey`: one example on its way through a network, with what every physical layer did to it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from pnnlab.errors import ShapeError
from pnnlab.layers import PhysicalLayer, observed, on_device, on_twin, physical_layers
from pnnlab.training.layer_drives import passes_so_far


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage:
    """One physical layer on the way, and its twin beside it.

    Attributes
    ----------
    name : str
        Number of the layer, from 1, and name of its system.
    drive : Tensor, (shots, input_dim)
        What went into the device, in [0, 1]. One row, unless the layer divides an example into
        several shots.
    theta : Tensor, (param_dim,)
        The parameters it was set to, in [0, 1].
    measured : Tensor, (shots, output_dim)
        What the device gave, in the unit of its read-out.
    modelled : Tensor, (shots, output_dim), or None
        What the twin gives at the same drive and parameters; None where there is no twin.
    clamped : float
        Fraction of the drive that had to be clamped into [0, 1].
    """

    name: str
    drive: Tensor
    theta: Tensor
    measured: Tensor
    modelled: Tensor | None
    clamped: float

    @property
    def gap(self) -> float | None:
        """Mean squared difference of device and twin over the variance of the read-outs.

        None where there is no twin, or where the read-outs are all alike.
        """
        if self.modelled is None:
            return None
        variance = float(self.measured.double().var(correction=0))
        if variance == 0:
            return None
        return float((self.measured - self.modelled).double().square().mean()) / variance


@dataclass(frozen=True, kw_only=True, eq=False)
class Journey:
    """One example on its way through a network, on the device.

    Attributes
    ----------
    x : Tensor, (features,)
        The example.
    stages : tuple of Stage
        The physical layers, in the order in which it met them.
    logits, probabilities : Tensor, (classes,)
        What the network says, and the softmax of it.
    twin_probabilities : Tensor, (classes,), or None
        What it says if every physical layer is its twin, from the first on; None where one has
        no twin, and in a digital network.
    device_passes : int
        Shots that it cost.
    """

    x: Tensor
    stages: tuple[Stage, ...]
    logits: Tensor
    probabilities: Tensor
    twin_probabilities: Tensor | None
    device_passes: int

    @property
    def winner(self) -> int:
        """The class that the network names."""
        return int(self.logits.argmax())


def journey(network: nn.Module, x: Tensor) -> Journey:
    """Send one example through the devices of ``network`` and note what happens on the way.

    The network is used as it is when it has been trained: normalisation by its kept statistics.
    Nothing of it is changed, and only the devices are driven, once for each shot.

    Parameters
    ----------
    network : nn.Module
        Gives logits, (batch, classes). May hold any number of physical layers.
    x : Tensor, (features,) or (1, features)
        The example, as the network was trained on them.

    Raises
    ------
    ShapeError
        ``x`` is not one example.
    RangeError
        A device would be driven outside [0, 1]; it was not.
    """
    row = x.detach()[None] if x.ndim == 1 else x.detach()
    if row.ndim != 2 or len(row) != 1:
        raise ShapeError(f"x has shape {tuple(x.shape)}; give one example, as in task.test.x[0].")
    layers = physical_layers(network)
    before = passes_so_far(network)
    stages: list[Stage] = []
    with _left_as_it_was(network), torch.no_grad():
        with on_device(network), observed(network, partial(_note, stages)):
            logits = network(row)[0]
        said: Tensor | None = None
        if layers and all(layer.twin is not None for layer in layers):
            with on_twin(network):
                said = network(row)[0].softmax(0)
    return Journey(
        x=row[0].clone(),
        stages=tuple(stages),
        logits=logits,
        probabilities=logits.softmax(0),
        twin_probabilities=said,
        device_passes=passes_so_far(network) - before,
    )


def _note(
    stages: list[Stage], layer: PhysicalLayer, drive: Tensor, theta: Tensor, measured: Tensor
) -> None:
    stages.append(
        Stage(
            name=f"{len(stages) + 1} · {layer.system.name}",
            drive=drive,
            theta=theta,
            measured=measured,
            modelled=None if layer.twin is None else layer.twin(drive, theta),
            clamped=layer.clamped,
        )
    )


@contextmanager
def _left_as_it_was(network: nn.Module) -> Iterator[None]:
    """Evaluate inside; afterwards every module is in its mode and every layer has its notes."""
    modes = [(module, module.training) for module in network.modules()]
    notes = [(layer, layer.penalty, layer.clamped) for layer in physical_layers(network)]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        for layer, penalty, clamped in notes:
            layer.penalty, layer.clamped = penalty, clamped
