"""What the layers of a network see when it is given examples."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pnnlab.layers import PhysicalLayer, Shots, on_device, physical_layers
from pnnlab.training import logits


@dataclass(frozen=True, eq=False)
class Seen:
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


def seen(network: nn.Module, x: Tensor) -> tuple[Seen, ...]:
    """Send ``x`` through the devices, and note the drive of every physical layer.

    Costs `seeing_passes`. The network is left as it was.
    """
    layers = physical_layers(network)
    drives: list[list[Tensor]] = [[] for _ in layers]

    def note(layer: PhysicalLayer, inputs: tuple[Tensor], _measured: Tensor) -> None:
        drives[layers.index(layer)].append(layer.drive(inputs[0]).detach())

    hooks = [layer.register_forward_hook(note) for layer in layers]
    try:
        with on_device(network):
            logits(network, x)
    finally:
        for hook in hooks:
            hook.remove()
    return tuple(
        Seen(layer, torch.cat(rows), layer.theta.detach().clamp(0, 1))
        for layer, rows in zip(layers, drives, strict=True)
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
