"""Time and energy on a device, estimated from stated assumptions, beside digital arithmetic."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from pnnlab.errors import RangeError, ShapeError
from pnnlab.layers import PhysicalLayer, Rescale
from pnnlab.physical_system import Cost
from pnnlab.training.layer_drives import shots_per_example

JOULES_PER_MULTIPLY_ADD = 4.6e-12
"""A 32-bit floating-point product, 3.7 pJ, and sum, 0.9 pJ, in a 45 nm process at 0.9 V.

Source: M. Horowitz, "Computing's energy problem", ISSCC 2014, p. 10.
"""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Time and energy of some device passes, each as good as its assumptions.

    Attributes
    ----------
    device_passes : int
    device_seconds, device_joules : float or None
        None if a machine of the network does not say.
    digital_joules : float
        Of the arithmetic of a dense digital network of the same shape, given the same examples.
    assumptions : tuple of str
        Whole sentences, to be shown wherever the numbers are.
    """

    device_passes: int
    device_seconds: float | None
    device_joules: float | None
    digital_joules: float
    assumptions: tuple[str, ...]


def multiply_adds(network: nn.Module) -> int:
    """Products and sums that one example costs a digital network of the same shape.

    Each shot of a physical layer counts as a dense matrix, as wide as its inputs and outputs, and
    linear layers and rescalings as themselves. Twins, which train and never infer, do not count.
    """
    shots = shots_per_example(network)
    total = sum(
        times * layer.system.input_dim * layer.system.output_dim for layer, times in shots.items()
    )
    twins = {id(part) for layer in shots if layer.twin is not None for part in layer.twin.modules()}
    for module in network.modules():
        if id(module) in twins:
            continue
        if isinstance(module, nn.Linear):
            total += module.in_features * module.out_features
        elif isinstance(module, Rescale):
            total += module.statistics.num_features
    return total


def estimate(
    network: nn.Module,
    device_passes: int,
    *,
    costs: Sequence[Cost] | None = None,
    joules_per_multiply_add: float = JOULES_PER_MULTIPLY_ADD,
) -> Estimate:
    """Say what passes cost in time and energy, and what a dense digital network would take.

    Parameters
    ----------
    network : nn.Module
        With at least one physical layer.
    device_passes : int
        Of all layers together, as a `Record` counts them. Every layer has its share.
    costs : sequence of Cost, optional
        One for each physical layer; by default what their systems say.
    joules_per_multiply_add : float
        Of the digital network.

    Raises
    ------
    RangeError
        There is no physical layer, or the passes are negative.
    ShapeError
        Costs and physical layers are not as many.
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
    arithmetic = multiply_adds(network)
    return Estimate(
        device_passes=device_passes,
        device_seconds=_total(passes, [cost.seconds_per_pass for cost in known]),
        device_joules=_total(passes, [cost.joules_per_pass for cost in known]),
        digital_joules=examples * arithmetic * joules_per_multiply_add,
        assumptions=(
            *_sentences(shots, known),
            (
                f"Digital: {arithmetic} products and sums an example, a dense matrix in place of "
                f"each shot, at {joules_per_multiply_add * 1e12:.3g} pJ each; memory, which often "
                "takes more, is free."
            ),
        ),
    )


def _total(passes: Sequence[float], each: Sequence[float | None]) -> float | None:
    known = [one for one in each if one is not None]
    if len(known) < len(each):
        return None
    return sum(count * one for count, one in zip(passes, known, strict=True))


def _sentences(shots: dict[PhysicalLayer, int], known: Sequence[Cost]) -> list[str]:
    """What is assumed of each machine; layers on machines of one kind share a sentence."""
    told: dict[str, list[int]] = {}
    for number, (layer, cost) in enumerate(zip(shots, known, strict=True), start=1):
        words = f"({layer.system.name}): {cost.assumptions} Source: {cost.source}."
        told.setdefault(words, []).append(number)
    return [
        f"Layer{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))} {words}"
        for words, numbers in told.items()
    ]
