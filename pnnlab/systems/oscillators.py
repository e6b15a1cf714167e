r"""Coupled pendula: the network of the authors' public code, with its gap.

.. math::
   \ddot q_i = -\sin(s q_i) + \sum_j J_{ij} \left(\sin(s q_j) - \sin(s q_i)\right) + e_i

The input sets where the first pendula are released, the others hang at zero; half a unit of time
later the angles of the last pendula are read. All couplings and bias torques are parameters.
Time is in units of a pendulum's :math:`\sqrt{l/g}`, angles are in radians, s is 1 for a true
pendulum.

A matrix of couplings C is made symmetric, :math:`J = (C + C^T)/2`; its own diagonal adds to the
gravity of each pendulum, as in the authors' code. With
:math:`G = J - \mathrm{diag}(\sum_j J_{ij}) - 1`, J without its diagonal and the gravity in the
sum, the right side is :math:`\sin(s q)\, G + e`.

What is idealised: the couplings act through the sines of the angles and may have either sign, the
pendula start exactly at rest, and nothing is damped.

Source: Wright, Onodera et al., Nature 601, 549 (2022), and its public code,
https://github.com/mcmahon-lab/Physics-Aware-Training, examples 1 and 2.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, final

import numpy as np
import torch
from torch import Tensor

from pnnlab.errors import RangeError, ShapeError
from pnnlab.physical_system import Group
from pnnlab.plain import real, seeded, whole
from pnnlab.systems.units import BuiltSystem, RandomStream

DURATION = 0.5  # time from release to read-out, units of sqrt(l/g)
STEPS = 5  # Runge-Kutta steps in that time, the authors' number
COUPLING_RANGE = 4.0  # the authors' trained network for MNIST uses ±3.4
BIAS_RANGE = 2.0  # and ±1.25 here


@dataclass(frozen=True)
class OscillatorImperfections:
    """What a built network adds to its equations: the gap of the authors' example 2."""

    angle: float = 0.1  # eta: the sine sees every angle too large by this fraction
    coupling: float = 0.2  # standard deviation of the fixed errors of the matrix of couplings C
    release: float = 0.02  # standard deviation of each angle at release, rad, anew in each shot


def split(
    theta: Tensor, n: int, coupling_range: float = COUPLING_RANGE, bias_range: float = BIAS_RANGE
) -> tuple[Tensor, Tensor]:
    """Couplings C, (..., n, n), and biases, (..., n): theta in [0, 1] is C by rows, then biases."""
    couplings, biases = theta.split([n * n, n], -1)
    couplings = 2 * coupling_range * couplings - coupling_range
    return couplings.unflatten(-1, (n, n)), 2 * bias_range * biases - bias_range


def release(x: Tensor, n: int, low: float, high: float) -> Tensor:
    """Angles (batch, n) at which inputs (batch, input_dim) in [0, 1] release the pendula."""
    start = x.new_zeros(len(x), n)
    start[:, : x.shape[1]] = low + (high - low) * x
    return start


def coupling_matrix(couplings: Tensor) -> Tensor:
    r"""Q of the couplings C, (..., n, n): all others pull the pendula with :math:`\sin(q) Q`."""
    q = (couplings + couplings.mT).mul_(0.5)
    q.diagonal(dim1=-2, dim2=-1).copy_(-q.sum(-2))
    return q


Function: TypeAlias = Callable[[Tensor], Tensor]


def accelerations(
    sine: Function, couplings: Tensor, biases: Tensor, errors: Tensor | None = None
) -> Function:
    """Make the function that gives pendula's accelerations for angles, both (stages, batch, n).

    ``sine`` is what angles give in place of their sines; ``couplings``, (n, n), or one a shot, and
    ``biases``, (n,) or (batch, n), are C and e. The `coupling_matrix` ``errors`` is added.
    """
    matrix = coupling_matrix(couplings)
    if errors is not None:
        matrix = matrix + errors
    matrix.diagonal(dim1=-2, dim2=-1).sub_(1)
    if matrix.ndim == 2:
        return lambda q: sine(q) @ matrix + biases
    return lambda q: torch.einsum("sbi,bij->sbj", sine(q), matrix) + biases


def step(
    accelerate: Function, q: Tensor, p: Tensor | None, h: float, *, last: bool = False
) -> tuple[Tensor, Tensor | None]:
    r"""Take a step h of the classical Runge-Kutta method for :math:`\ddot q = a(q)`.

    The angles' derivative is the velocity, so only accelerations are computed, and in pairs: the
    second stage does not need the first, nor the fourth the third. At rest, where ``p`` is None,
    the first two are the same; the last step computes no velocities.
    """
    if p is None:
        middle = end = q
        (first,) = accelerate(q.unsqueeze(0))
        second = first
    else:
        middle, end = torch.add(q, p, alpha=h / 2), torch.add(q, p, alpha=h)
        first, second = accelerate(torch.stack([q, middle]))
    third_angle = torch.add(middle, first, alpha=h * h / 4)
    if last:
        (third,) = accelerate(third_angle.unsqueeze(0))
        return torch.add(end, first + second + third, alpha=h * h / 6), None
    fourth_angle = torch.add(end, second, alpha=h * h / 2)
    third, fourth = accelerate(torch.stack([third_angle, fourth_angle]))
    inner = second + third
    push = torch.add(first, fourth).add(inner, alpha=2)
    arrived = torch.add(end, inner.add(first), alpha=h * h / 6)
    return arrived, push.mul(h / 6) if p is None else torch.add(p, push, alpha=h / 6)


def swing(
    start: Tensor,
    couplings: Tensor,
    biases: Tensor,
    *,
    errors: Tensor | None = None,
    sine: Function = torch.sin,
    steps: int = STEPS,
    duration: float = DURATION,
) -> Tensor:
    """Release the pendula at rest and return their angles after ``duration``, (batch, n).

    Differentiable in the angles at release, ``start``, (batch, n), and in couplings and biases; see
    `accelerations`.
    """
    accelerate = accelerations(sine, couplings, biases, errors)
    q, p = start, None
    for number in range(steps):
        q, p = step(accelerate, q, p, duration / steps, last=number == steps - 1)
    return q


@torch.no_grad()
def trajectory(
    start: Tensor,
    couplings: Tensor,
    biases: Tensor,
    *,
    steps: int = 100,
    duration: float = DURATION,
) -> tuple[Tensor, Tensor]:
    """Angles and velocities, (steps + 1, batch, n), at the start and after each step of `swing`."""
    accelerate = accelerations(torch.sin, couplings, biases)
    states: list[tuple[Tensor, Any]] = [(start, torch.zeros_like(start))]
    for _ in range(steps):
        states.append(step(accelerate, *states[-1], duration / steps))
    angles, velocities = zip(*states, strict=True)
    return torch.stack(angles), torch.stack(velocities)


@final
class Oscillators(BuiltSystem):
    """A network of pendula, all coupled with all; its parameters are those of `split`.

    Parameters shared by the batch are far faster than one row a shot.

    Parameters
    ----------
    n, unit : int
        How many pendula, and which built copy.
    input_dim, output_dim : int, optional
        How many of the first are released by the input and of the last are read; all by default.
    low, high : float
        Angles at release of the inputs 0 and 1, rad.
    coupling_range, bias_range : float
        Largest coupling and torque either way.
    steps : int
        Runge-Kutta steps of the simulation.
    noise : bool
        Whether each shot has errors of release, drawn by ``seed``.
    """

    _what, _noise_name = "oscillators", "release"
    anywhere = True

    def __init__(
        self,
        n: int,
        *,
        unit: int = 0,
        input_dim: int | None = None,
        output_dim: int | None = None,
        low: float = 0.0,
        high: float = 1.0,
        coupling_range: float = COUPLING_RANGE,
        bias_range: float = BIAS_RANGE,
        steps: int = STEPS,
        noise: bool = True,
        imperfections: OscillatorImperfections | None = None,
        seed: int = 0,
    ) -> None:
        self.unit = unit = whole("unit", unit, 0)
        self.n = n = whole("n", n)
        self.low, self.high = real("low", low), real("high", high)
        self.steps = whole("steps", steps, 1)
        self.coupling_range = real("coupling_range", coupling_range)
        self.bias_range = real("bias_range", bias_range)
        if not (0 < coupling_range < math.inf and 0 < bias_range < math.inf):
            raise RangeError(
                f"the ranges are {coupling_range} and {bias_range}; both must be above 0."
            )
        inputs = n if input_dim is None else input_dim
        outputs = n if output_dim is None else output_dim
        if not (0 < inputs <= n and 0 < outputs <= n):
            raise ShapeError(f"{n} pendula cannot have {inputs} inputs and {outputs} outputs.")
        super().__init__(inputs, n * n + n, outputs)
        self._owner = {"unit": unit, "pendula": n}
        self._noise = RandomStream(unit, n, seed, on=noise)
        self._imperfections = imperfections or OscillatorImperfections()
        errors = np.random.default_rng((unit, n, 5)).standard_normal((n, n))
        errors *= self._imperfections.coupling
        self._errors = coupling_matrix(torch.from_numpy(errors))
        self._errors_in: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    def weak_theta(self, seed: int = 0) -> Tensor:
        """Parameters to begin training with: couplings and biases within 1/sqrt(n) either way."""
        width = self.n**-0.5
        random = torch.rand(self.param_dim, generator=seeded(seed)) - 0.5
        random[: self.n * self.n] *= width / self.coupling_range
        random[self.n * self.n :] *= width / self.bias_range
        return random + 0.5

    def theta_groups(self) -> tuple[Group, ...]:
        edge = self.n**2
        return Group("couplings", 0, edge), Group("biases", edge, edge + self.n)

    def _simulate(self, x: Tensor, theta: Tensor) -> Tensor:
        noise = torch.from_numpy(self._noise.rows(len(x), self.n, x.dtype)).to(x.device)
        start = release(x, self.n, self.low, self.high) + self._imperfections.release * noise
        scale, place = 1 + self._imperfections.angle, (x.dtype, x.device)
        if place not in self._errors_in:
            self._errors_in[place] = self._errors.to(x)
        end = swing(
            start,
            *split(theta, self.n, self.coupling_range, self.bias_range),
            errors=self._errors_in[place],
            sine=lambda q: (scale * q).sin(),
            steps=self.steps,
        )
        return end[:, self.n - self.output_dim :]
