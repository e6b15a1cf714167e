"""Where a physical layer can do no more: parameters at their limits, read-outs that stick."""

import math

import torch
from torch import Tensor

STICKING = 1e-3  # of its range, within which a read-out counts as being at the end of it


def at_limits(theta: Tensor) -> float:
    """Fraction of the parameters at or beyond the ends of [0, 1]; 0 where there are none."""
    beyond = (theta <= 0) | (theta >= 1)
    return float(beyond.double().mean()) if theta.numel() else 0.0


def stuck(y: Tensor) -> float:
    """Fraction of the read-outs that stick at an end of what their output ever showed.

    An amplifier that saturates, or a converter that is overdriven, returns the same value again
    and again. A read-out sticks if it lies within a thousandth of its output's range of the
    largest or smallest value seen. The two that are these values themselves do not count; an
    output that never moves sticks throughout.

    Parameters
    ----------
    y : Tensor, (n, outputs)
        Of different inputs.

    Returns
    -------
    float
        NaN with fewer than three rows.
    """
    if len(y) < 3:
        return math.nan
    low, high = torch.aminmax(y, dim=0)
    margin = STICKING * (high - low)
    at_an_end = (y <= low + margin).sum(0) + (y >= high - margin).sum(0)
    return float(((at_an_end - 2) / (len(y) - 2)).clamp(0, 1).double().mean())
