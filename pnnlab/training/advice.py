"""Errors of twins at the drives of a network, and the training method that they suggest."""

import math
from dataclasses import dataclass
from typing import final

from torch import Tensor, nn

from pnnlab.errors import TwinError
from pnnlab.layers import all_have_twins, physical_layers
from pnnlab.training.cost import passes_so_far
from pnnlab.training.drift import take_references
from pnnlab.training.methods import twin_of
from pnnlab.twins import predict


@final
@dataclass(frozen=True)
class LocalErrors:
    """How wrong the twins of a network are within one theta, layer by layer.

    A report of a twin varies inputs and parameters at random. In a network the parameters of a
    layer are fixed while its inputs vary, and only what the inputs change carries information: the
    same error of a twin is a larger part of it.

    Attributes
    ----------
    errors : tuple of float
        Squared error of the twin, without the noise, over the variance of the read-outs with the
        inputs, also without the noise; infinite where that variance is not above the noise.
    noise : tuple of float
        Variance of the noise over the same.
    device_passes : int
        What the measurement cost.
    """

    errors: tuple[float, ...]
    noise: tuple[float, ...]
    device_passes: int

    @property
    def over_noise(self) -> tuple[float, ...]:
        """Squared error of the twin over the variance of the noise, layer by layer."""
        return tuple(
            error / noise if noise else math.inf
            for error, noise in zip(self.errors, self.noise, strict=True)
        )


def local_errors(network: nn.Module, x: Tensor) -> LocalErrors:
    """Measure the errors of the twins of a calibrated network at its inputs ``x``.

    Parameters
    ----------
    network : nn.Module
        It is left as it is; it need not be trained.
    x : Tensor, (batch, features)
        Some hundred inputs. Each costs three device passes a layer.

    Raises
    ------
    TwinError
        A layer has no twin.
    """
    if not all_have_twins(network):
        raise TwinError("errors of twins need a network of physical layers that all have a twin.")
    before = passes_so_far(network)
    errors, noise = [], []
    layers = physical_layers(network)
    for layer, found in zip(layers, take_references(network, x, repeats=2), strict=True):
        modelled = predict(twin_of(layer), found.x, found.theta).double()
        y = found.y.double()
        scatter = float(y.var(0).mean())  # half of it is left in the mean of two
        signal = float(y.mean(0).var(0).mean()) - scatter / 2
        error = max(float((y.mean(0) - modelled).square().mean()) - scatter / 2, 0.0)
        errors.append(error / signal if signal > 0 else math.inf)
        noise.append(scatter / signal if signal > 0 else math.inf)
    return LocalErrors(tuple(errors), tuple(noise), passes_so_far(network) - before)
