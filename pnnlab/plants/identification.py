"""Identification: the constants of a plant's twin from what was measured of the plant."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from torch import Tensor

from pnnlab.errors import ShapeError
from pnnlab.plain import whole
from pnnlab.plants.simulated import Constants, scaled


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
