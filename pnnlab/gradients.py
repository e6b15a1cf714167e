r"""Gradient rules: ways to make :math:`y = f(x, \theta)` of a device differentiable.

A rule is a function of a system and its twin that returns a differentiable ``f(x, theta)``.
Comparing two training methods is swapping one argument.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias, final

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from pnnlab.errors import TwinError
from pnnlab.physical_system import PhysicalSystem, SimulatedSystem

Response: TypeAlias = Callable[[Tensor, Tensor], Tensor]
GradientRule: TypeAlias = Callable[[PhysicalSystem, nn.Module | None], Response]


class _ValueOfSystem(torch.autograd.Function):
    """The value that the system measured, with the gradient of what the twin computed."""

    @staticmethod
    def forward(ctx: FunctionCtx, modelled: Tensor, measured: Tensor) -> Tensor:
        return measured.view_as(measured)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


def physics_aware(system: PhysicalSystem, twin: nn.Module | None) -> Response:
    r"""Physics-aware training: forward through the system, backward through the twin.

    .. math:: y = f_p(x, \theta), \qquad
       \frac{\partial L}{\partial (x, \theta)} =
       \left(\frac{\partial f_m}{\partial (x, \theta)}(x, \theta)\right)^{\!T}
       \frac{\partial L}{\partial y}

    The twin's vector-Jacobian product is taken at the inputs that really drove the system.
    Source: Wright, Onodera et al., Nature 601, 549 (2022), Methods, "Physics-aware training".
    """
    return valued(system, _required(twin, "physics_aware"))


def valued(measure: Response, model: Response) -> Response:
    """Combine the value of one response with the gradient of another, of outputs as many."""

    def respond(x: Tensor, theta: Tensor) -> Tensor:
        measured = measure(x, theta)
        modelled = model(x, theta)
        if modelled.shape != measured.shape:
            raise TwinError(
                f"the twin gives {tuple(modelled.shape)} and its system gives "
                f"{tuple(measured.shape)}: this is the twin of another system; fit one for this."
            )
        value: Tensor = _ValueOfSystem.apply(modelled, measured)
        return value

    return respond


def in_silico(system: PhysicalSystem, twin: nn.Module | None) -> Response:
    """In silico training: forward and backward through the twin; the system is never driven."""
    return _required(twin, "in_silico")


def noise_aware(system: PhysicalSystem, twin: nn.Module | None) -> Response:
    """In silico training on a twin with the noise of the device: a fresh sample at every call."""
    sample = getattr(_required(twin, "noise_aware"), "sample", None)
    if sample is None:
        raise TwinError("noise_aware needs a twin with a method sample; give one that was fitted.")
    response: Response = sample
    return response


@final
@dataclass(frozen=True)
class NoiseAware:
    """As `noise_aware`, with so many ``times`` the noise that the twin knows."""

    times: float

    def __call__(self, system: PhysicalSystem, twin: nn.Module | None) -> Response:
        sample, model = noise_aware(system, twin), in_silico(system, twin)

        def respond(x: Tensor, theta: Tensor) -> Tensor:
            mean = model(x, theta)
            return mean + self.times * (sample(x, theta) - mean)

        return respond


@final
@dataclass(frozen=True)
class Randomised:
    """In silico training on a physics twin whose constants are drawn anew at every step.

    The relative standard deviation of each free constant is ``tolerance``, and all layers of one
    device have the same; ``noise`` adds that of the device. They follow from torch's seed, which a
    training sets at each step: do so in a loop of your own.
    """

    tolerance: float = 0.05
    noise: bool = False

    def __call__(self, _: PhysicalSystem, twin: nn.Module | None) -> Response:
        drawn = getattr(_required(twin, "Randomised"), "drawn", None)
        if drawn is None:
            raise TwinError("Randomised draws the constants of a PhysicsTwin; give one.")

        def respond(x: Tensor, theta: Tensor) -> Tensor:
            one = drawn(self.tolerance)
            y: Tensor = one.sample(x, theta) if self.noise else one(x, theta)
            return y

        return respond


def ideal(system: PhysicalSystem, twin: nn.Module | None) -> Response:
    """Backpropagation through the true system, which only a simulation allows."""
    if not isinstance(system, SimulatedSystem):
        raise TwinError(
            f"{system.name} is not simulated, so its exact gradient does not exist; "
            "use physics_aware with a twin."
        )
    return system.differentiable


RULES: Mapping[str, GradientRule] = {
    "PAT": physics_aware,
    "in silico": in_silico,
    "noise-aware": noise_aware,
    "ideal": ideal,
}
"""By the names that results give them."""


def _required(twin: nn.Module | None, rule: str) -> nn.Module:
    if twin is None:
        raise TwinError(f"{rule} differentiates a twin: give one, or use ideal in simulation.")
    return twin
