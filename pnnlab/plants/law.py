"""The linear-quadratic regulator: the law that a controller may be trained to."""

from collections.abc import Callable, Sequence

import torch
from scipy.linalg import solve_discrete_are
from torch import Tensor

from pnnlab.errors import ShapeError


def regulator(
    advance: Callable[[Tensor, Tensor], Tensor],
    state_costs: Sequence[float],
    command_costs: Sequence[float],
) -> Tensor:
    r"""Gains K of the command :math:`u = -K s` that keeps a plant at rest where its state is zero.

    They minimise the sum over all steps of :math:`s^T Q s + u^T R u` for the plant linearised
    about zero, with the costs as diagonals of Q and R (K. J. Åström and R. M. Murray, Feedback
    Systems, chapter 7).

    Parameters
    ----------
    advance : callable
        Takes states (rows, n) and commands (rows, m), and returns the next states; differentiable.

    Returns
    -------
    Tensor, (m, n)
        In double precision.
    """
    n, m = len(state_costs), len(command_costs)
    zeros = torch.zeros(1, n, dtype=torch.float64), torch.zeros(1, m, dtype=torch.float64)
    if (shape := advance(*zeros).shape) != (1, n):
        raise ShapeError(f"{n} costs of states, but the plant gives {tuple(shape)}; give one each.")
    by_state, by_command = torch.autograd.functional.jacobian(advance, zeros)
    a, b = by_state[0, :, 0].numpy(), by_command[0, :, 0].numpy()
    q, r = (torch.tensor(costs).double().diag().numpy() for costs in (state_costs, command_costs))
    p = solve_discrete_are(a, b, q, r)
    gains: Tensor = torch.linalg.solve(
        torch.from_numpy(r + b.T @ p @ b), torch.from_numpy(b.T @ p @ a)
    )
    return gains
