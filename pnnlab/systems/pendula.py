r"""Many pendula, all coupled with all: a fixed-step Runge-Kutta solver and its adjoint.

.. math::
   \ddot q_i = -\sin(s q_i) + \sum_j J_{ij} \left(\sin(s q_j) - \sin(s q_i)\right) + e_i

from rest at :math:`q(0)`. A matrix of couplings C is made symmetric, :math:`J = (C + C^T)/2`; its
own diagonal adds to the gravity of each pendulum, as in the authors' code. With
:math:`G = J - \mathrm{diag}(\sum_j J_{ij}) - 1`, J without its diagonal and the gravity in the
sum, the right side is :math:`\sin(s q)\, G + e`: one matrix product a stage, and G is symmetric, so
that the adjoint multiplies with the same matrix.

Arithmetic stays in the data type of the arguments. Time is in units of a pendulum's
:math:`\sqrt{l/g}`, angles are in radians, s is 1 for a true pendulum.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

DURATION = 0.5  # time from release to read-out, units of sqrt(l/g)
STEPS = 5  # Runge-Kutta steps in that time, the authors' number


def coupling_matrix(couplings: Tensor) -> Tensor:
    r"""Q of the couplings C: what all others pull, so that :math:`\sin(q) Q` is the coupling.

    Parameters
    ----------
    couplings : Tensor, (..., n, n)

    Returns
    -------
    Tensor, (..., n, n)
        The symmetric part of C, with minus its column sums (C's diagonal included) on the
        diagonal.
    """
    q = (couplings + couplings.mT).mul_(0.5)
    q.diagonal(dim1=-2, dim2=-1).copy_(-q.sum(-2))
    return q


def swing(
    start: Tensor,
    couplings: Tensor,
    biases: Tensor,
    *,
    errors: Tensor | None = None,
    scale: float = 1.0,
    steps: int = STEPS,
    duration: float = DURATION,
) -> Tensor:
    """Release the pendula and tell where they are after ``duration``.

    Differentiable in the first three arguments, by an own vector-Jacobian product.

    Parameters
    ----------
    start : Tensor, (batch, n)
        Angles q(0), at rest.
    couplings : Tensor, (n, n) or (batch, n, n)
        C, shared by the batch or one a shot. Shared is far faster.
    biases : Tensor, (n,) or (batch, n)
        Constant torques e, likewise.
    errors : Tensor, (n, n), optional
        A `coupling_matrix` that is added to that of ``couplings``.
    scale : float
        s, by which the sine's angle is off.
    steps : int
        Steps of the classical fourth-order Runge-Kutta method.
    duration : float

    Returns
    -------
    Tensor, (batch, n)
        Angles q(duration).
    """
    q: Tensor = _Swing.apply(start, couplings, biases, errors, scale, steps, duration)
    return q


def trajectory(
    start: Tensor,
    couplings: Tensor,
    biases: Tensor,
    *,
    scale: float = 1.0,
    steps: int = 100,
    duration: float = DURATION,
) -> tuple[Tensor, Tensor]:
    """Angles and angular velocities after each step, and at the start; not differentiable.

    Arguments as in `swing`.

    Returns
    -------
    tuple of Tensor, each (steps + 1, batch, n)
    """
    with torch.no_grad():
        network = _network(couplings, biases, None, scale)
        angles, velocities = [start], [torch.zeros_like(start)]
        for _ in range(steps):
            q, p = step(
                network.accelerate, angles[-1], velocities[-1], duration / steps, last=False
            )
            assert p is not None
            angles.append(q)
            velocities.append(p)
    return torch.stack(angles), torch.stack(velocities)


def step(
    accelerate: Callable[[Tensor], Tensor], q: Tensor, p: Tensor | None, h: float, *, last: bool
) -> tuple[Tensor, Tensor | None]:
    r"""One step of the classical Runge-Kutta method for :math:`\ddot q = a(q)`.

    The angles' derivative is the velocity, so only accelerations are computed, and in pairs: the
    second stage does not need the first, nor the fourth the third. At rest the first two fall
    together, and the last stage of the last step moves no angle.

    Parameters
    ----------
    accelerate : callable
        Tells the accelerations at angles (stages, batch, n), for one or two stages.
    q, p : Tensor, (batch, n)
        Angles and velocities; ``p`` is None at rest.
    h : float
        Length of the step.
    last : bool
        Whether nobody asks for the velocities any more; they are None then.
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


@final
@dataclass(frozen=True)
class _Network:
    """A programmed network: the matrix, the torques, and what the adjoint needs of each stage."""

    matrix: Tensor  # G, (n, n) or (batch, n, n)
    biases: Tensor
    scale: float
    sines: list[Tensor] | None = None
    cosines: list[Tensor] | None = None

    def accelerate(self, q: Tensor) -> Tensor:
        """The right side at angles ``q``, (stages, batch, n)."""
        angle = q if self.scale == 1 else q * self.scale
        sine = angle.sin()
        if self.sines is not None and self.cosines is not None:
            self.sines.append(sine)
            cosine = angle.cos()
            self.cosines.append(cosine if self.scale == 1 else cosine.mul_(self.scale))
        if self.matrix.ndim == 2 and self.biases.ndim == 1:
            return torch.addmm(self.biases, sine.flatten(0, 1), self.matrix).view_as(sine)
        return self.multiply(sine) + self.biases

    def multiply(self, rows: Tensor) -> Tensor:
        """Each row of (stages, batch, n) times its matrix."""
        if self.matrix.ndim == 2:
            return torch.mm(rows.flatten(0, 1), self.matrix).view_as(rows)
        return torch.bmm(rows.transpose(0, 1), self.matrix).transpose(0, 1)

    def pull_back(self, grad: Tensor) -> Tensor:
        """Gradient by the angles of the stages that the tape ends with, of one by their slopes."""
        assert self.cosines is not None
        return self.multiply(grad).mul_(self.cosines.pop())

    def step_back(
        self, grad_q: Tensor, grad_p: Tensor | None, h: float, *, at_rest: bool
    ) -> tuple[Tensor, Tensor | None, list[Tensor]]:
        """Transpose of `step`: gradients before it, and by its accelerations, the last first."""
        stages = grad_q.new_empty(4, *grad_q.shape)
        first, second, third, fourth = stages
        torch.mul(grad_q, h * h / 6, out=first)
        if grad_p is None:
            second.copy_(first)
            third.copy_(first)
            (back_3,) = self.pull_back(stages[2:3])
            before, used = grad_q + back_3, [stages[2:3]]
            back_4 = None
        else:
            torch.mul(grad_p, h / 6, out=fourth)
            first += fourth
            torch.add(first, fourth, out=third)
            back_3, back_4 = self.pull_back(stages[2:])
            torch.add(third, back_4, alpha=h * h / 2, out=second)
            before, used = back_3.add(grad_q).add_(back_4), [stages[2:]]
        first.add_(back_3, alpha=h * h / 4)
        if at_rest:
            together = first.add_(second).unsqueeze(0)
            return before.add_(self.pull_back(together)[0]), None, [*used, together]
        back_1, back_2 = self.pull_back(stages[:2])
        before.add_(back_1).add_(back_2)
        speed = torch.add(grad_q, back_2.add_(back_3), alpha=0.5).mul_(h)
        if grad_p is not None and back_4 is not None:
            speed.add_(grad_p).add_(back_4, alpha=h)
        return before, speed, [*used, stages[:2]]


def _network(
    couplings: Tensor, biases: Tensor, errors: Tensor | None, scale: float, *, tape: bool = False
) -> _Network:
    matrix = coupling_matrix(couplings)
    if errors is not None:
        matrix += errors
    matrix.diagonal(dim1=-2, dim2=-1).sub_(1)
    return _Network(matrix, biases, scale, *(([], []) if tape else (None, None)))


class _Swing(torch.autograd.Function):
    """The whole swing and its adjoint, exact for the discrete method."""

    @staticmethod
    def forward(
        ctx: Any,
        start: Tensor,
        couplings: Tensor,
        biases: Tensor,
        errors: Tensor | None,
        scale: float,
        steps: int,
        duration: float,
    ) -> Tensor:
        keep = any(ctx.needs_input_grad)
        network = _network(couplings, biases, errors, scale, tape=keep)
        h = duration / steps
        q, p = start, None
        for number in range(steps):
            q, p = step(network.accelerate, q, p, h, last=number == steps - 1)
        if keep:
            ctx.kept = network, h, steps
        return q

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        forward, h, steps = ctx.kept
        # A copy, for the tape is used up: a graph that is retained may be walked again.
        network = replace(forward, cosines=list(forward.cosines))
        by_stage: list[Tensor] = []
        grad_q, grad_p = grad, None
        for number in reversed(range(steps)):
            grad_q, grad_p, found = network.step_back(grad_q, grad_p, h, at_rest=number == 0)
            by_stage += found
        by_couplings = by_biases = None
        if ctx.needs_input_grad[1]:
            by_couplings = _by_couplings(forward.sines[::-1], by_stage, network.matrix.ndim == 2)
        if ctx.needs_input_grad[2]:
            total = torch.cat(by_stage).sum(0)
            by_biases = total.sum(0) if network.biases.ndim == 1 else total
        return grad_q, by_couplings, by_biases, None, None, None, None


def _by_couplings(sines: list[Tensor], by_stage: list[Tensor], shared: bool) -> Tensor:
    """Gradient by C: the sum over stages of sine times gradient, back through Q's symmetry."""
    sine, grad = torch.cat(sines), torch.cat(by_stage).mul_(0.5)
    if shared:
        half = sine.flatten(0, 1).T @ grad.flatten(0, 1)
    else:
        half = torch.bmm(sine.permute(1, 2, 0), grad.transpose(0, 1))
    diagonal = half.diagonal(dim1=-2, dim2=-1).clone()
    half -= diagonal.unsqueeze(-1)
    full = half + half.mT
    full.diagonal(dim1=-2, dim2=-1).copy_(-2 * diagonal)
    return full
