"""How a twin compares with its device: gradients, and the gap that grows with depth."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from pnnlab import characterize
from pnnlab.characterize import MeasuredShots
from pnnlab.errors import RangeError, TwinError
from pnnlab.physical_system import PhysicalSystem, still
from pnnlab.plain import seeded, whole
from pnnlab.twins.twin import Twin, predict

COTANGENTS = 16  # random directions in the outputs for each one in the inputs


@dataclass(frozen=True, kw_only=True)
class GradientAgreement:
    r"""A twin's vector-Jacobian products beside finite differences taken on the device.

    At working points :math:`p = (x, \theta)`, along random signs :math:`d` and seen through random
    signs :math:`v`, the device's :math:`v^T (f(p + h d) - f(p - h d)) / 2h` should equal the
    twin's :math:`(J^T v)^T d`.

    Attributes
    ----------
    cosine : float
        Between all of the device's products and all of the twin's: 1 if the Jacobians are
        proportional.
    ceiling : float
        What a perfect twin would reach, given the noise of the finite differences.
    relative_error : float
        Rms difference over the device's rms, both without the noise's share; 0 is perfect.
    device, twin : Tensor, (points, directions * cotangents)
        The products.
    device_passes : int
        What it cost.
    """

    cosine: float
    ceiling: float
    relative_error: float
    device: Tensor = field(repr=False, compare=False)
    twin: Tensor = field(repr=False, compare=False)
    device_passes: int


def gradient_agreement(
    system: PhysicalSystem,
    twin: Twin,
    shots: MeasuredShots,
    *,
    points: int = 64,
    directions: int = 4,
    step: float = 0.02,
    repeats: int = 8,
    seed: int = 0,
) -> GradientAgreement:
    """Compare gradients at the first ``points`` of ``shots``; see `agreement_at`."""
    return agreement_at(
        system,
        twin,
        shots.x[: whole("points", points)],
        shots.theta[:points],
        directions=directions,
        cotangents=COTANGENTS,
        step=step,
        repeats=repeats,
        seed=seed,
    )


def agreement_at(
    system: PhysicalSystem,
    twin: nn.Module,
    x: Tensor,
    theta: Tensor,
    *,
    directions: int,
    cotangents: int = COTANGENTS,
    step: float = 0.02,
    repeats: int = 8,
    seed: int = 0,
) -> GradientAgreement:
    """Compare gradients at working points, moved inside the range by ``step``.

    Costs ``2 * directions * repeats * len(x)`` device passes.

    Parameters
    ----------
    twin : nn.Module
        Called like the system, and differentiable.
    x : Tensor, (points, input_dim), in [0, 1]
    theta : Tensor, (param_dim,) or (points, param_dim), in [0, 1]
    directions, cotangents : int
        Random directions in the inputs and parameters, and random signs in the outputs for each.
    step : float
        How far the device's inputs and parameters move either way.
    repeats : int
        Shots averaged at each end; two or more tell the noise.
    """
    repeats = whole("repeats", repeats)
    if not 0 < step < 0.5 or repeats < 2:
        raise RangeError(
            f"step is {step} and repeats {repeats}; take 0 < step < 0.5, repeats >= 2."
        )
    directions = whole("directions", directions, 1)
    cotangents = whole("cotangents", cotangents, 1)
    before = system.passes
    generator = seeded(seed)
    x = x.clamp(step, 1 - step)
    theta = theta.expand(len(x), -1).clamp(step, 1 - step)
    device, modelled, noise = [], [], []
    for _ in range(directions):
        dx, dtheta = _signs(x.shape, generator), _signs(theta.shape, generator)
        ends = [
            torch.stack([system(x + h * dx, theta + h * dtheta) for _ in range(repeats)]).double()
            for h in (step, -step)
        ]
        slope = (ends[0] - ends[1]) / (2 * step)
        # Through random signs v, independent errors of the outputs add up in variance.
        noise.append(slope.var(0).sum(1).mean() / repeats)
        for _ in range(cotangents):
            v = _signs((len(x), system.output_dim), generator)
            device.append((slope.mean(0) * v).sum(1))
            by_x, by_theta = _pull_back(twin, x, theta, v)
            modelled.append(((by_x * dx).sum(1) + (by_theta * dtheta).sum(1)).double())
    a, b = torch.stack(device, 1), torch.stack(modelled, 1)
    variance = float(torch.stack(noise).mean())
    power = float(a.square().mean())
    signal = max(power - variance, 0.0)
    gap = max(float((a - b).square().mean()) - variance, 0.0)
    norm = math.sqrt(power * float(b.square().mean()))
    return GradientAgreement(
        cosine=float((a * b).mean()) / norm if norm else math.nan,
        ceiling=math.sqrt(signal / power) if power else math.nan,
        relative_error=math.sqrt(gap / signal) if signal else math.nan,
        device=a,
        twin=b,
        device_passes=system.passes - before,
    )


def _pull_back(twin: nn.Module, x: Tensor, theta: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    at = x.clone().requires_grad_(), theta.clone().requires_grad_()
    by_x, by_theta = torch.autograd.grad(twin(*at), at, v)
    return by_x, by_theta


def _signs(shape: tuple[int, ...] | torch.Size, generator: torch.Generator) -> Tensor:
    return 2.0 * torch.randint(0, 2, tuple(shape), generator=generator) - 1


@dataclass(frozen=True, kw_only=True)
class DepthGap:
    """NMSE of a chain of equal layers, by number of layers.

    Attributes
    ----------
    free : tuple of float
        The twin fed with its own outputs: in silico.
    local : tuple of float
        The twin at the inputs that the device really saw: physics-aware.
    noise : tuple of float
        The device against itself, run again: no twin can do better than half of it.
    """

    free: tuple[float, ...]
    local: tuple[float, ...]
    noise: tuple[float, ...]
    device_passes: int


def gap_by_depth(
    system: PhysicalSystem, twin: Twin, shots: MeasuredShots, *, depth: int = 5, inputs: int = 256
) -> DepthGap:
    """Chain ``depth`` layers and see device and twin drift apart.

    Layer n has the parameters of the n-th of ``shots``. Between layers each element is centred
    at 1/2, and all are scaled to an rms standard deviation of 1/4, as measured on the device.

    Raises
    ------
    TwinError
        The outputs cannot be fed to another such layer: there are not as many as inputs.
    """
    if system.output_dim != system.input_dim:
        raise TwinError(
            f"{system.name} has {system.input_dim} inputs and {system.output_dim} outputs, so it "
            "cannot be chained; use the report of a programme with as many of both."
        )
    before = system.passes
    device = again = model = shots.x[: whole("inputs", inputs)]
    free, local, noise = [], [], []
    for theta in shots.theta[: whole("depth", depth)]:
        y, y_local, y_free = (
            system(device, theta),
            predict(twin, device, theta),
            predict(twin, model, theta),
        )
        y_again = system(again, theta)
        free.append(characterize.nmse(y_free, y))
        local.append(characterize.nmse(y_local, y))
        noise.append(characterize.nmse(y_again, y))
        # One scale for all elements: those that carry nothing must not send their noise onward.
        mean, deviation = y.double().mean(0), y.double().var(0).mean().sqrt()
        factor = 0.0 if bool(still(y).all()) else 0.25 / deviation
        device, again, model = (
            (0.5 + factor * (h - mean)).clamp(0, 1).to(y) for h in (y, y_again, y_free)
        )
    return DepthGap(
        free=tuple(free),
        local=tuple(local),
        noise=tuple(noise),
        device_passes=system.passes - before,
    )
