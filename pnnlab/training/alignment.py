"""Gradient alignment: whether the twins' gradients still point where the devices' own do."""

from dataclasses import dataclass

from torch import Tensor, nn

from pnnlab.errors import RangeError, TwinError
from pnnlab.layers import physical_layers
from pnnlab.plain import whole
from pnnlab.training.cost import passes_per_example, passes_so_far
from pnnlab.training.inference import working_points
from pnnlab.twins import agreement_at

COTANGENTS = 8  # random directions in the outputs for each one in the inputs


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """Agreement of the twins' gradients with the devices', by physical layer.

    See `pnnlab.twins.GradientAgreement`. A cosine at its ceiling is as good as the noise of the
    devices lets anyone see.
    """

    cosine: tuple[float, ...]
    ceiling: tuple[float, ...]
    relative_error: tuple[float, ...]
    device_passes: int


def alignment(
    network: nn.Module, x: Tensor, *, directions: int = 2, repeats: int = 2, seed: int = 0
) -> Alignment:
    """Compare, layer by layer, the twin's vector-Jacobian products with the device's differences.

    Every layer is tested where it works: with its present parameters, at the inputs that reach
    its device when ``x``, (points, features), is sent through the devices before it, ``len(x)`` of
    them. A few are enough: see `alignment_passes`, and `pnnlab.twins.agreement_at`.
    """
    if not len(x):
        raise RangeError("alignment is taken at examples; give at least one.")
    twins = [layer.twin for layer in physical_layers(network)]
    if not twins or None in twins:
        raise TwinError("gradients of twins are compared, and a physical layer has none.")
    seed, before = whole("seed", seed), passes_so_far(network)
    found = [
        agreement_at(
            layer.system,
            layer.twin,
            drives,
            theta,
            directions=directions,
            cotangents=COTANGENTS,
            repeats=repeats,
            seed=seed + number,
        )
        for number, (layer, drives, theta) in enumerate(working_points(network, x))
        if layer.twin is not None
    ]
    return Alignment(
        cosine=tuple(one.cosine for one in found),
        ceiling=tuple(one.ceiling for one in found),
        relative_error=tuple(one.relative_error for one in found),
        device_passes=passes_so_far(network) - before,
    )


def alignment_passes(
    network: nn.Module, points: int, *, directions: int = 2, repeats: int = 2
) -> int:
    """Device passes that `alignment` costs at so many examples."""
    layers = len(physical_layers(network))
    return points * (passes_per_example(network) + 2 * directions * repeats * layers)
