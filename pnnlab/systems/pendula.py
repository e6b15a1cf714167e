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

from itertools import accumulate, pairwise
from typing import Any, final

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pnnlab.systems import pendula_kernels as kernels
from pnnlab.systems.pendula_kernels import Array

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
    batch = len(start)
    with torch.no_grad():
        run = _Run(start, couplings, biases, None, scale, duration / steps)
        passed = [(run.q.T.copy(), run.p.T.copy())]
        for number in range(steps):
            run.step((0, 2 * batch if number else batch), (0, 2 * batch))
            passed.append((run.q.T.copy(), run.p.T.copy()))
    angles, velocities = (torch.from_numpy(np.stack(v)) for v in zip(*passed, strict=True))
    return angles, velocities


@final
class _Run:
    """Programmed pendula on their way, pendulum-major; see `pnnlab.systems.pendula_kernels`.

    Parameters
    ----------
    start, couplings, biases, errors, scale
        As in `swing`.
    h : float
        Length of a step.
    stages : int
        For how many there is room.
    """

    def __init__(
        self,
        start: Tensor,
        couplings: Tensor,
        biases: Tensor,
        errors: Tensor | None,
        scale: float,
        h: float,
        stages: int = 2,
    ) -> None:
        self.matrix = coupling_matrix(couplings)  # G, (n, n) or (batch, n, n)
        if errors is not None:
            self.matrix += errors
        self.matrix.diagonal(dim1=-2, dim2=-1).sub_(1)
        self.biases = biases.detach().expand_as(start).T.contiguous().numpy()
        self.q = start.detach().numpy().T.copy()
        self.p = np.zeros_like(self.q)
        # Torch multiplies up to a third faster where a product's rows are whole vectors long.
        n, columns = len(self.q), stages * len(start)
        self.padded = start.new_empty(-(-n // 16) * 16, columns)
        self.padded[n:] = 0
        self.sines = self.padded[:n]
        self.responses = self.sines.numpy(), np.empty((n, columns), self.q.dtype)
        self.k = kernels.constants(h, scale, self.q.dtype)

    def multiply(self, columns: Tensor) -> Array:
        """Each column of (n, stages * batch) from the left with its matrix."""
        if self.matrix.ndim == 2:
            return torch.mm(self.matrix, columns).numpy()
        product = torch.bmm(self.matrix, self.by_shot(columns))
        return product.permute(1, 2, 0).flatten(1).numpy()

    def by_shot(self, columns: Tensor) -> Tensor:
        """Bring (n, stages * batch) to (batch, n, stages)."""
        by_stage: Tensor = columns.unflatten(1, (-1, self.q.shape[1]))
        return by_stage.permute(2, 0, 1)

    def by_couplings(self, by_stages: Tensor) -> Tensor:
        """Gradient by C: the sum over stages of gradient times sine, back through Q's symmetry."""
        if self.matrix.ndim == 2:
            half = torch.mm(by_stages, self.padded.T)[:, : len(self.q)]
        else:
            half = torch.bmm(self.by_shot(by_stages), self.by_shot(self.sines).mT)
        half *= 0.5
        diagonal = half.diagonal(dim1=-2, dim2=-1).clone()
        half -= diagonal.unsqueeze(-1)
        full: Tensor = half + half.mT
        full.diagonal(dim1=-2, dim2=-1).copy_(-2 * diagonal)
        return full

    def step(self, begun: tuple[int, int], gone_on: tuple[int, int]) -> None:
        """Make a step; the responses of its two pairs of stages go where it is told."""
        q, p, k, biases = self.q, self.p, self.k, self.biases
        kernels.begin(q, p, k, *self.responses, *begun)
        early = self.multiply(self.sines[:, slice(*begun)])
        kernels.halfway(q, p, early, biases, k, *self.responses, *gone_on)
        late = self.multiply(self.sines[:, slice(*gone_on)])
        kernels.arrive(q, p, early, late, biases, k)


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
        # At rest the first two stages fall together; the very last would move no angle.
        stages, batch = [1, *(2 * steps - 2) * [2], 1], len(start)
        keep = any(ctx.needs_input_grad)
        ends = accumulate(stages, initial=0)
        spans = list(pairwise(ends)) if keep else [(0, count) for count in stages]
        columns = [(batch * a, batch * b) for a, b in spans]
        pairs = list(zip(columns[::2], columns[1::2], strict=True))
        run = _Run(start, couplings, biases, errors, scale, duration / steps, max(spans)[1])
        for pair in pairs:
            run.step(*pair)
        if keep:
            ctx.kept = run, pairs, biases.ndim
        return torch.from_numpy(run.q.T.copy())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        run, pairs, bias_dim = ctx.kept
        by_q = grad.numpy().T.copy()
        by_p = np.zeros_like(by_q)
        by_stages = torch.empty_like(run.sines)
        to, (_, cosines), k = by_stages.numpy(), run.responses, run.k
        for (begun, half), (_, end) in reversed(pairs):
            kernels.arrive_adjoint(by_q, by_p, k, to, half, end)
            back = run.multiply(by_stages[:, half:end])
            kernels.halfway_adjoint(by_q, by_p, k, cosines, back, to, begun, half, end)
            if begun or ctx.needs_input_grad[0]:
                back = run.multiply(by_stages[:, begun:half])
                kernels.begin_adjoint(by_q, by_p, k, cosines, back, begun, half)
        by_couplings = by_biases = None
        if ctx.needs_input_grad[1]:
            by_couplings = run.by_couplings(by_stages)
        if ctx.needs_input_grad[2]:
            by_biases = by_stages.sum(1) if bias_dim == 1 else run.by_shot(by_stages).sum(2)
        return torch.from_numpy(by_q.T), by_couplings, by_biases, None, None, None, None
