"""Errors of twins at the drives of a network, and the training method that they suggest."""

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from pnnlab.errors import TwinError
from pnnlab.layers import all_have_twins, physical_layers
from pnnlab.training.cost import passes_so_far
from pnnlab.training.drift import take_references
from pnnlab.training.methods import twin_of
from pnnlab.twins import predict

STEP = 0.05
"""Standard deviation of the parameters' change, of their range."""

# Sums of a network's parameter errors. Of the pairs tried, these agree best with the map of
# notebook 05, of circuits and light; plates and other units did not take part in the choice.
IN_SILICO_DOES = 0.3
TWIN_IS_WRONG = 1.22


@final
@dataclass(frozen=True)
class LocalErrors:
    """How wrong the twins of a network are where it uses them, layer by layer.

    In a network inputs carry the information with the parameters fixed, and a step changes the
    parameters a little: there the same error of a twin is a larger part than in its report.

    Attributes
    ----------
    errors : tuple of float
        Squared error of the twin over the variance of the read-outs with the inputs, both without
        the noise; infinite where that variance is not above the noise.
    parameter_errors : tuple of float
        The same of what a small random change of the parameters changes in the read-outs.
    over_noise : tuple of float
        Squared error of the twin over the variance of the noise.
    device_passes : int
        What the measurement cost.
    """

    errors: tuple[float, ...]
    parameter_errors: tuple[float, ...]
    over_noise: tuple[float, ...]
    device_passes: int

    @property
    def suggestion(self) -> str:
        return suggestion(sum(self.parameter_errors))


def suggestion(error: float) -> str:
    """Return what to do at this sum of the layers' parameter errors.

    ``"in silico with noise"``, ``"PAT"``, or ``"a better twin first"``.
    """
    if error <= IN_SILICO_DOES:
        return "in silico with noise"
    return "PAT" if error <= TWIN_IS_WRONG else "a better twin first"


def local_errors(network: nn.Module, x: Tensor) -> LocalErrors:
    """Measure the errors of the twins of a calibrated network, which need not be trained.

    It takes some hundred inputs ``x``, (batch, features), at five device passes a layer each.
    Raises `TwinError` if a layer has no twin.
    """
    if not all_have_twins(network):
        raise TwinError("errors of twins need a network of physical layers that all have a twin.")
    before = passes_so_far(network)
    random = torch.Generator().manual_seed(0)
    errors, parameter_errors, over_noise = [], [], []
    layers = physical_layers(network)
    for layer, found in zip(layers, take_references(network, x, repeats=2), strict=True):
        theta = found.theta.expand(len(found.x), -1)
        moved = (theta + STEP * torch.randn(theta.shape, generator=random)).clamp(0, 1)
        shifted = torch.stack([layer.system(found.x, moved) for _ in range(2)]).double()
        y, twin = found.y.double(), twin_of(layer)
        modelled = predict(twin, found.x, theta).double()
        scatter = float(y.var(0).mean())  # half of it is left in the mean of two
        signal = float(y.mean(0).var(0).mean())
        errors.append(_relative(y.mean(0) - modelled, signal, scatter / 2))
        noise = scatter / (signal - scatter / 2) if signal > scatter / 2 else math.inf
        over_noise.append(errors[-1] / noise if noise else math.inf)
        change = shifted.mean(0) - y.mean(0)
        wrong = change - (predict(twin, found.x, moved).double() - modelled)
        left = scatter / 2 + float(shifted.var(0).mean()) / 2
        parameter_errors.append(_relative(wrong, float(change.square().mean()), left))
    cost = passes_so_far(network) - before
    return LocalErrors(tuple(errors), tuple(parameter_errors), tuple(over_noise), cost)


def _relative(error: Tensor, signal: float, noise: float) -> float:
    """Mean squared error over a signal's variance, both without the noise that is in them."""
    wrong = max(float(error.square().mean()) - noise, 0.0)
    return wrong / (signal - noise) if signal > noise else math.inf
