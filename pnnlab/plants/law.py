"""From a plant's twin: its constants, identified, and the law that a controller is trained to."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import solve_discrete_are
from scipy.optimize import least_squares
from torch import Tensor

from pnnlab.errors import ShapeError
from pnnlab.plain import whole
from pnnlab.plants.plant import Constants, scaled


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


def identify(
    advance: Callable[[Tensor, Tensor, Constants], Tensor],
    nominal: Constants,
    states: Tensor,
    commands: Tensor,
    inside: Tensor,
    *,
    ahead: int = 5,
    tolerance: float = 0.1,
) -> Constants:
    """Fit constants to roll-outs by least squares.

    The twin predicts so many steps ``ahead`` from each measured state. Errors are weighed by those
    of the nominal twin, and constants differ from the nominal ones by about the fraction
    ``tolerance``.

    Parameters
    ----------
    advance : callable
        Takes states (rows, n), commands (rows, m) and constants; gives the next states.
    nominal : dataclass of floats
    states, commands, inside : Tensor, (steps + 1, rows, n), (steps, rows, m), (steps + 1, rows)
        Those of a `Rollout`. Only what happened within the limits is used.
    """
    ahead = whole("ahead", ahead, 1)
    kept = inside[ahead:]
    if not kept.any():
        raise ShapeError(f"no row stayed within the limits for {ahead} steps; record longer ones.")
    begin, after = states[:-ahead][kept].double(), states[ahead:][kept].double()
    sent = [commands[step : step + len(kept)][kept].double() for step in range(ahead)]

    def built(shift: NDArray[np.float64]) -> Constants:
        return scaled(nominal, np.exp(shift).tolist())

    def errors(shift: NDArray[np.float64]) -> Tensor:
        state, constants = begin, built(shift)
        for command in sent:
            state = advance(state, command, constants)
        return state - after

    start = np.zeros(len(vars(nominal)))
    scale = errors(start).square().mean(0).sqrt().clamp_min(1e-9)

    def residuals(shift: NDArray[np.float64]) -> NDArray[np.float64]:
        found = (errors(shift) / scale).flatten().numpy()
        return np.concatenate([found, shift / tolerance])

    return built(least_squares(residuals, start, diff_step=1e-4).x)
