"""Errors of twins at the drives of a network, and the training method that they suggest."""

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from pnnlab.errors import TwinError
from pnnlab.layers import physical_layers
from pnnlab.training.methods import measured


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
        Some hundred inputs. Each costs two device passes a layer.

    Raises
    ------
    TwinError
        A layer has no twin.
    """
    layers = physical_layers(network)
    if not layers or any(layer.twin is None for layer in layers):
        raise TwinError("errors of twins need a network of physical layers that all have a twin.")
    before = sum({layer.system: layer.system.passes for layer in layers}.values())
    training = network.training
    network.eval()
    errors, noise = [], []
    try:
        shots = measured(network, x)
    finally:
        network.train(training)
    for shot in shots:
        with torch.no_grad():
            again = shot.layer.system(shot.x, shot.theta).double()
            model = shot.layer.twin(shot.x, shot.theta).double()  # type: ignore[misc]  # see above
        y = shot.y.double()
        scatter = float((y - again).square().mean()) / 2
        signal = float(y.var(0).mean()) - scatter
        error = max(float((y - model).square().mean()) - scatter, 0.0)
        errors.append(error / signal if signal > 0 else math.inf)
        noise.append(scatter / signal if signal > 0 else math.inf)
    after = sum({layer.system: layer.system.passes for layer in layers}.values())
    return LocalErrors(tuple(errors), tuple(noise), after - before)
