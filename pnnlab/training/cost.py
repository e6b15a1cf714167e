"""Device passes of a network, and the time and energy they take, from stated assumptions."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from pnnlab.errors import RangeError, ShapeError
from pnnlab.layers import PhysicalLayer, Rescale, Shots, physical_layers
from pnnlab.physical_system import Cost, PhysicalSystem

# A 32-bit floating-point product, 3.7 pJ, and sum, 0.9 pJ, in a 45 nm process at 0.9 V.
# Source: M. Horowitz, "Computing's energy problem", ISSCC 2014, p. 10.
JOULES_PER_MULTIPLY_ADD = 4.6e-12


def systems_of(network: nn.Module) -> tuple[PhysicalSystem, ...]:
    """The systems of all physical layers, each once."""
    return tuple({id(layer.system): layer.system for layer in physical_layers(network)}.values())


def passes_so_far(network: nn.Module) -> int:
    """Shots that the systems of a network have taken since they were made."""
    return sum(system.passes for system in systems_of(network))


def shots_per_example(network: nn.Module) -> dict[PhysicalLayer, int]:
    """How often each physical layer is driven for one example: once, or more within `Shots`."""
    shots = dict.fromkeys(physical_layers(network), 1)
    for module in network.modules():
        if isinstance(module, Shots):
            for layer in physical_layers(module):
                shots[layer] *= module.shots
    return shots


def passes_per_example(network: nn.Module) -> int:
    """Device passes that one example costs."""
    return sum(shots_per_example(network).values())


def multiply_adds(network: nn.Module) -> int:
    """Products and sums that one example costs a digital network of the same shape.

    Each shot counts as a dense matrix, linear layers and rescalings as themselves, twins not.
    """
    shots = shots_per_example(network)
    total = sum(n * layer.system.input_dim * layer.system.output_dim for layer, n in shots.items())
    twins = {part for layer in shots if layer.twin is not None for part in layer.twin.modules()}
    for module in set(network.modules()) - twins:
        if isinstance(module, nn.Linear):
            total += module.in_features * module.out_features
        elif isinstance(module, Rescale):
            total += module.statistics.num_features
    return total


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Time and energy of some device passes, each as good as its assumptions."""

    device_passes: int
    device_seconds: float | None  # None if that of a system is not known
    device_joules: float | None
    digital_joules: float  # of a dense digital network of the same shape, given the same examples
    assumptions: tuple[str, ...]  # whole sentences, to be shown wherever the numbers are


def estimate(
    network: nn.Module, device_passes: int, *, costs: Sequence[Cost] | None = None
) -> Estimate:
    """Estimate time and energy of device passes, and of a dense digital network in their place.

    ``costs`` are one for each physical layer, by default those of their systems.
    """
    shots = shots_per_example(network)
    if not shots or device_passes < 0:
        raise RangeError(
            f"{device_passes} passes of {len(shots)} physical layers cost nothing that could be "
            "estimated; give a network with physical layers, and the passes of a record."
        )
    known = [layer.system.cost() for layer in shots] if costs is None else list(costs)
    if len(known) != len(shots):
        raise ShapeError(f"{len(known)} costs for {len(shots)} physical layers; give one for each.")
    examples = device_passes / sum(shots.values())
    passes = [examples * times for times in shots.values()]
    sentences: dict[str, list[str]] = {}  # layers on machines of one kind share a sentence
    for number, (layer, cost) in enumerate(zip(shots, known, strict=True), start=1):
        sentence = f"({layer.system.name}): {cost.assumptions} Source: {cost.source}."
        sentences.setdefault(sentence, []).append(str(number))
    assumptions = [
        f"Layer{'s' * (len(numbers) > 1)} {', '.join(numbers)} {sentence}"
        for sentence, numbers in sentences.items()
    ]
    arithmetic = multiply_adds(network)
    assumptions.append(
        f"Digital: {arithmetic} products and sums an example, a dense matrix in place of each "
        f"shot, at {JOULES_PER_MULTIPLY_ADD * 1e12:.3g} pJ each; memory, which often takes more, "
        "is free."
    )
    return Estimate(
        device_passes=device_passes,
        device_seconds=_total(passes, [cost.seconds_per_pass for cost in known]),
        device_joules=_total(passes, [cost.joules_per_pass for cost in known]),
        digital_joules=examples * arithmetic * JOULES_PER_MULTIPLY_ADD,
        assumptions=tuple(assumptions),
    )


def _total(passes: Sequence[float], each: Sequence[float | None]) -> float | None:
    """Sum over the layers; None if one of them is not known."""
    known = [n * one for n, one in zip(passes, each, strict=True) if one is not None]
    return sum(known) if len(known) == len(each) else None
