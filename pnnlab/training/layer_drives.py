"""The drives that reach the devices of a network when it is given examples."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pnnlab.layers import PhysicalLayer, Shots, observed, on_device, physical_layers
from pnnlab.training.evaluation import outputs


@dataclass(frozen=True, eq=False)
class LayerDrives:
    """Where one physical layer works.

    Attributes
    ----------
    layer : PhysicalLayer
    x : Tensor, (rows, input_dim)
        Drives that reached the device, clamped to [0, 1]; of a layer that takes several shots an
        example, all of them.
    theta : Tensor, (param_dim,)
        Its parameters at that time, likewise.
    """

    layer: PhysicalLayer
    x: Tensor
    theta: Tensor

    def spread(self, rows: int) -> Tensor:
        """Some of the drives, spread evenly over all of them, (rows, input_dim)."""
        return self.x[torch.arange(rows) * len(self.x) // rows]


def seen(network: nn.Module, x: Tensor) -> tuple[LayerDrives, ...]:
    """Send ``x`` through the devices, and note the drive of every physical layer.

    Costs `seeing_passes`. The network is left as it was.
    """
    layers = physical_layers(network)
    drives: dict[PhysicalLayer, list[Tensor]] = {layer: [] for layer in layers}
    with on_device(network), observed(network, lambda layer, x, *_: drives[layer].append(x)):
        outputs(network, x)
    return tuple(
        LayerDrives(layer, torch.cat(rows), layer.theta.detach().clamp(0, 1))
        for layer, rows in drives.items()
    )


def passes_so_far(network: nn.Module) -> int:
    """Shots that the systems of a network have taken since they were made."""
    systems = {id(layer.system): layer.system for layer in physical_layers(network)}
    return sum(system.passes for system in systems.values())


def seeing_passes(network: nn.Module, examples: int) -> int:
    """Device passes that so many examples cost."""
    return examples * sum(shots_per_example(network).values())


def shots_per_example(network: nn.Module) -> dict[PhysicalLayer, int]:
    """How often each physical layer is driven for one example: once, or as `Shots` of it say."""
    shots = dict.fromkeys(physical_layers(network), 1)
    for module in network.modules():
        if isinstance(module, Shots):
            for layer in physical_layers(module):
                shots[layer] *= module.shots
    return shots
