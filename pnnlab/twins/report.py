"""How good a twin is: its error against the noise, its gradients, its gap with depth."""

import math
from dataclasses import dataclass, field

import torch
import xarray as xr
from torch import Tensor, nn

from pnnlab import characterize
from pnnlab.characterize import MeasuredShots
from pnnlab.errors import TwinError
from pnnlab.physical_system import PhysicalSystem, still
from pnnlab.plain import seeded, whole
from pnnlab.twins.physics import FAILED
from pnnlab.twins.twin import Twin, predict

FLOOR = 2.0  # times the noise floor: the twin's own error is no larger than the noise
INVISIBLE = 1e-4  # NMSE that counts as perfect where there is no noise to compare with
ASTRAY = 0.5  # cosine, relative to its ceiling, below which gradients lead over 60° astray
STEP = 0.02  # by which the device's inputs and parameters move either way for its gradients
INPUTS = 256  # of a chain of layers
POINTS = 64  # working points at which a report compares gradients


@dataclass(frozen=True, kw_only=True)
class GradientAgreement:
    r"""A twin's vector-Jacobian products beside finite differences taken on the device.

    At working points :math:`p = (x, \theta)`, along random signs :math:`d` and projected on random
    signs :math:`v`, the device's :math:`v^T (f(p + h d) - f(p - h d)) / 2h` should equal the
    twin's :math:`(J^T v)^T d`.
    """

    cosine: float  # between the device's and the twin's products: 1 for proportional Jacobians
    ceiling: float  # what a perfect twin would reach, given the noise of the differences
    relative_error: float  # rms difference over the device's rms, without the noise's share
    device: Tensor = field(repr=False, compare=False)  # products, (points, directions * cotangents)
    twin: Tensor = field(repr=False, compare=False)
    device_passes: int


def gradient_agreement(
    system: PhysicalSystem,
    twin: nn.Module,
    x: Tensor,
    theta: Tensor,
    *,
    directions: int = 4,
    cotangents: int = 16,
    repeats: int = 8,
    seed: int = 0,
) -> GradientAgreement:
    """Compare gradients at working points, moved inside the range by `STEP`.

    They are ``x``, (points, input_dim), and ``theta``, (param_dim,) or (points, param_dim), in
    [0, 1]. Compares random ``directions`` in both and, for each, as many ``cotangents``, signs of
    the outputs. The noise is taken from the ``repeats``, at least two, at each end. Costs
    ``2 * directions * repeats * len(x)`` device passes.
    """
    repeats = whole("repeats", repeats, 2)
    directions = whole("directions", directions, 1)
    cotangents = whole("cotangents", cotangents, 1)
    before = system.passes
    generator = seeded(seed)
    x = x.clamp(STEP, 1 - STEP)
    theta = theta.expand(len(x), -1).clamp(STEP, 1 - STEP)
    points = x.clone().requires_grad_(), theta.clone().requires_grad_()
    device, modelled, noise = [], [], []
    for _ in range(directions):
        dx, dtheta = (_signs(one.shape, generator).to(one) for one in (x, theta))
        slope = characterize.central_difference(system, x, theta, dx, dtheta, STEP, repeats)
        # Through random signs v, independent errors of the outputs add up in variance.
        noise.append(slope.var(0).sum(1).mean() / repeats)
        for _ in range(cotangents):
            v = _signs((len(x), system.output_dim), generator).to(x)
            device.append((slope.mean(0) * v).sum(1))
            by_x, by_theta = torch.autograd.grad(twin(*points), points, v)
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


def _signs(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return 2.0 * torch.randint(0, 2, shape, generator=generator) - 1


@dataclass(frozen=True)
class DepthGap:
    """NMSE of a chain of equal layers, by number of layers."""

    free: tuple[float, ...]  # the twin fed with its own outputs: in silico
    local: tuple[float, ...]  # the twin at the inputs that the device really had: physics-aware
    noise: tuple[float, ...]  # the device run again: on its own a twin can reach half of it at best
    device_passes: int


def gap_by_depth(
    system: PhysicalSystem, twin: Twin, shots: MeasuredShots, *, depth: int = 5
) -> DepthGap:
    """Chain ``depth`` layers and measure how device and twin drift apart.

    Layer n has the parameters of the n-th of ``shots``. Between layers read-outs are centred at 1/2
    and scaled to an rms standard deviation of 1/4, as measured on the device.
    """
    if system.output_dim != system.input_dim:
        raise TwinError(
            f"{system.name} has {system.input_dim} inputs and {system.output_dim} outputs, so it "
            "cannot be chained; use the report of a programme with as many of both."
        )
    before = system.passes
    device = again = model = shots.x[:INPUTS]
    gaps = []
    for theta in shots.theta[: whole("depth", depth)]:
        y, local = system(device, theta), predict(twin, device, theta)
        free, repeat = predict(twin, model, theta), system(again, theta)
        gaps.append([characterize.nmse(other, y) for other in (free, local, repeat)])
        # One scale for all elements: those that carry nothing must not send their noise onward.
        mean, deviation = y.double().mean(0), y.double().var(0).mean().sqrt()
        factor = 0.0 if bool(still(y).all()) else 0.25 / deviation
        device, again, model = (
            (0.5 + factor * (h - mean)).clamp(0, 1).to(y) for h in (y, repeat, free)
        )
    free_gaps, local_gaps, noise_gaps = zip(*gaps, strict=True) if gaps else ((), (), ())
    return DepthGap(free_gaps, local_gaps, noise_gaps, system.passes - before)


@dataclass(frozen=True, kw_only=True)
class TwinReport:
    """How good a twin is.

    The verdict is ``"at the noise floor"`` for an NMSE up to twice the floor, or 1e-4, so that
    the twin's own error is no larger than the device's noise; ``"failed: ..."`` if the fit failed,
    the NMSE is above 0.5, or the cosine of the gradients is below half of its ceiling; and
    ``"usable"`` between.
    """

    system: str
    twin: str  # which kind
    nmse: float  # against single read-outs of held-out shots
    floor: float  # the `nmse_floor` of these shots; NaN if they were not repeated
    verdict: str
    gradient: GradientAgreement | None  # None if there was no device to measure them on
    gap: DepthGap | None  # None if there was no device, or it cannot be chained
    held: MeasuredShots = field(repr=False, compare=False)  # with all of their repeats
    modelled: Tensor = field(repr=False, compare=False)  # (shots, outputs)

    @property
    def shots(self) -> int:
        return len(self.held)

    @property
    def device(self) -> Tensor:
        """First read-outs of the held-out shots, (shots, outputs)."""
        return self.held.y[0]

    @property
    def noise(self) -> Tensor:
        """Standard deviation of one read-out, (outputs,), rms over the shots; NaN if unknown."""
        y = self.held.y.double()
        if len(y) < 2:  # no noise can be taken from a single repeat
            return torch.full_like(y[0, 0], math.nan)
        return y.var(0).mean(0).sqrt()

    @property
    def device_passes(self) -> int:
        """What the report itself cost; the held-out shots were measured before."""
        return sum(part.device_passes for part in (self.gradient, self.gap) if part)

    def __str__(self) -> str:
        gradient, ratio = self.gradient, self.nmse / self.floor if self.floor else math.inf
        lines = [
            f"{self.twin} of {self.system}: {self.verdict}",
            (
                f"  error (NMSE, {self.shots} held-out shots)  {self.nmse:.4g}"
                f"   noise floor {self.floor:.4g}   ratio {ratio:.3g}"
            ),
        ]
        if gradient is None:
            return "\n".join([*lines, "  gradients and depth: not known without the device"])
        lines.append(
            f"  gradient cosine with the device         {gradient.cosine:.3f}"
            f"   ceiling {gradient.ceiling:.3f}   relative error {gradient.relative_error:.3f}"
        )
        if self.gap is not None:
            rows = (
                ("gap after layers", range(1, len(self.gap.free) + 1), "8d"),
                ("  twin on its own (in silico)", self.gap.free, "8.4f"),
                ("  twin at the device's inputs", self.gap.local, "8.4f"),
                ("  device against itself", self.gap.noise, "8.4f"),
            )
            lines += [
                f"  {name:<34}" + "".join(f"{v:{form}}" for v in row) for name, row, form in rows
            ]
        return "\n".join([*lines, f"  device passes for this report: {self.device_passes}"])


def report(
    system: PhysicalSystem | None,
    twin: Twin,
    dataset: xr.Dataset,
    *,
    depth: int = 5,
    seed: int = 0,
) -> TwinReport:
    """Evaluate a twin on the test shots of a data set of `collect`, and on the device itself.

    Without a ``system``, gradients and the gap, of up to ``depth`` layers, stay unknown. A failure
    is kept in the twin, and trainings warn of it. Raises `TwinError` if twin, system and data do
    not belong together.
    """
    depth = whole("depth", depth)
    if system is not None:
        twin.check_system(system)
    twin.check_data(dataset)
    held = characterize.shots(dataset, "test")
    modelled = predict(twin, held.x, held.theta)
    error = characterize.nmse(modelled.expand_as(held.y), held.y)
    floor = characterize.nmse_floor(held.y)
    gradient = gap = None
    if system is not None:
        points = held.x[:POINTS], held.theta[:POINTS]
        gradient = gradient_agreement(system, twin, *points, seed=seed)
        if system.input_dim == system.output_dim:
            gap = gap_by_depth(system, twin, held, depth=depth)
    verdict = _verdict(twin.fault, error, floor, gradient)
    twin.reported = f"its report {verdict}" if verdict.startswith("failed") else ""
    return TwinReport(
        system=twin.signature.name,
        twin=twin.label,
        nmse=error,
        floor=floor,
        verdict=verdict,
        gradient=gradient,
        gap=gap,
        held=held,
        modelled=modelled,
    )


def _verdict(fault: str, error: float, floor: float, gradient: GradientAgreement | None) -> str:
    if fault:
        return f"failed: {fault}"
    if not error <= FAILED:
        return f"failed: NMSE {error:.2g}, where a constant reaches 1"
    if gradient is not None and not gradient.cosine >= ASTRAY * gradient.ceiling:
        return f"failed: its gradients lead astray, cosine {gradient.cosine:.2f}"
    if error <= INVISIBLE or error <= FLOOR * floor:
        return "at the noise floor"
    return "usable"
