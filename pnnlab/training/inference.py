"""What goes through the physical layers of a network when it is given examples."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pnnlab.errors import ShapeError
from pnnlab.layers import PhysicalLayer, observed, on_device, on_twin, physical_layers
from pnnlab.training.cost import passes_so_far
from pnnlab.training.evaluation import left_as_it_was, outputs


def layer_drives(network: nn.Module, x: Tensor) -> dict[PhysicalLayer, Tensor]:
    """Send ``x`` through the devices, and collect the drives of every layer, (rows, input_dim).

    They are clamped to [0, 1]; of a layer that takes several shots an example, they are all of
    them. The network is left as it was.
    """
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
    """One physical layer on the way, and its twin beside it.

    Attributes
    ----------
    name : str
        Number of the layer, from 1, and name of its system.
    drive : Tensor, (shots, input_dim)
        In [0, 1]. One row, unless the layer divides an example into several shots.
    theta : Tensor, (param_dim,)
    measured, modelled : Tensor, (shots, output_dim)
        What the device gave, in the unit of its read-out, and what the twin gives at the same drive
        and parameters; None where there is no twin.
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
class Inference:
    """One example on its way through a network, on the device.

    Attributes
    ----------
    x : Tensor, (features,)
    responses : tuple of LayerResponse
        The physical layers, in the order in which it met them.
    probabilities : Tensor, (classes,)
    twin_probabilities : Tensor, (classes,), or None
        If every physical layer is its twin, from the first on; None where one has no twin, and in
        a digital network.
    """

    x: Tensor
    responses: tuple[LayerResponse, ...]
    probabilities: Tensor
    twin_probabilities: Tensor | None
    device_passes: int

    @property
    def predicted(self) -> int:
        """The class that the network names."""
        return int(self.probabilities.argmax())


def infer(network: nn.Module, x: Tensor) -> Inference:
    """Send one example through the devices of ``network``, and keep what each layer did.

    The network is used as it is when it has been trained: normalisation by its kept statistics.
    Nothing of it is changed, and only the devices are driven, once for each shot.

    Parameters
    ----------
    network : nn.Module
        Gives logits, (batch, classes). May hold any number of physical layers.
    x : Tensor, (features,) or (1, features)
    """
    row = x.detach()[None] if x.ndim == 1 else x.detach()
    if row.ndim != 2 or len(row) != 1:
        raise ShapeError(f"x has shape {tuple(x.shape)}; give one example, as in task.test.x[0].")
    layers = physical_layers(network)
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
        if layers and all(layer.twin is not None for layer in layers):
            with on_twin(network):
                twin_probabilities = network(row)[0].softmax(0)
    return Inference(
        x=row[0].clone(),
        responses=tuple(responses),
        probabilities=probabilities,
        twin_probabilities=twin_probabilities,
        device_passes=passes_so_far(network) - before,
    )
