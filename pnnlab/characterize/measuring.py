"""What is measured of a device: repeatability, response, memory and drift."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from pnnlab.characterize.datasets import UNITS, attributes, repeated
from pnnlab.physical_system import PhysicalSystem
from pnnlab.plain import whole

CERTAIN = 4.0  # standard errors above which a response is believed
STEP = 0.25  # by which `memory` moves an input either way


def _dataset(
    variables: Mapping[str, tuple[str, Any]],
    coordinates: Mapping[str, Any],
    record: dict[str, str | int | float],
) -> xr.Dataset:
    """Make a data set of variables as fractions of full scale; number what has no coordinate."""
    dataset = xr.Dataset(
        {name: (dims.split(), np.asarray(one), UNITS) for name, (dims, one) in variables.items()},
        coordinates,
        record,
    )
    rest = dataset.sizes.keys() - dataset.coords.keys()
    return dataset.assign_coords({dim: np.arange(dataset.sizes[dim]) for dim in rest})


def repeatability(
    system: PhysicalSystem, x: Tensor, theta: Tensor, repeats: int = 16
) -> xr.Dataset:
    """Take the same shots again and again.

    Parameters
    ----------
    x : Tensor, (shots, input_dim)
        At least two different inputs, or there is no signal to compare with.
    theta : Tensor, (param_dim,) or (shots, param_dim)

    Returns
    -------
    Dataset
        ``mean`` and ``deviation`` over the repeats, (shot, output); scalars ``noise_floor``, the
        rms deviation, ``signal``, the rms over outputs of the standard deviation over shots
        without the noise's share, ``signal_to_noise`` and ``nmse_floor``.
    """
    repeats = whole("repeats", repeats, 2)
    whole("shots", len(x), 2)
    before = system.passes
    y = repeated(system, x, theta, repeats).double()
    mean, variance = y.mean(0), y.var(0)
    noise = variance.mean()
    signal = (mean.var(0).mean() - noise / repeats).clamp_min(0).sqrt()
    variables = {
        "mean": ("shot output", mean),
        "deviation": ("shot output", variance.sqrt()),
        "noise_floor": ("", noise.sqrt()),
        "signal": ("", signal),
        "signal_to_noise": ("", signal / noise.sqrt()),
        "nmse_floor": ("", nmse_floor(y)),
    }
    return _dataset(variables, {}, attributes(system, before, "repeatability", repeats=repeats))


def nmse(modelled: Tensor, measured: Tensor) -> float:
    """Divide the squared error by the squared deviation of each output from its mean over shots.

    Both are (..., shots, outputs). 0 is perfect; 1 is what the constant mean would reach.
    """
    modelled, measured = modelled.double(), measured.double()
    error = (modelled - measured).square().sum()
    return float(error / (measured.var(-2, correction=0).sum() * measured.shape[-2]))


def nmse_floor(y: Tensor) -> float:
    """Find the lowest `nmse` that a model without noise can reach against one noisy read-out.

    It is the noise's share of the variance of ``y``, (repeats, shots, outputs); NaN with one
    repeat.
    """
    if len(y) < 2:
        return math.nan
    y = y.double()
    return float(y.var(0).mean() / y.var(1, correction=0).mean())


def response_curves(
    system: PhysicalSystem,
    x: Tensor,
    theta: Tensor,
    *,
    inputs: Sequence[int] = (),
    parameters: Sequence[int] = (),
    points: int = 21,
    repeats: int = 8,
) -> xr.Dataset:
    """Sweep one element after the other from 0 to 1, the others resting at a working point.

    Parameters
    ----------
    x, theta : Tensor, (input_dim,) and (param_dim,)
        The working point.
    inputs, parameters : sequence of int
        Which elements of ``x`` and ``theta`` to sweep.

    Returns
    -------
    Dataset
        ``mean`` and ``deviation`` over the repeats, (element, value, output); the coordinate
        ``element`` reads ``"x[3]"`` or ``"theta[7]"``.
    """
    repeats = whole("repeats", repeats, 2)
    points = whole("points", points, 1)
    whole("swept elements", len(inputs) + len(parameters), 1)
    before = system.passes
    values = torch.linspace(0, 1, points, dtype=x.dtype)
    names, curves = [], []
    for side, element in [("x", i) for i in inputs] + [("theta", i) for i in parameters]:
        swept = {"x": x.repeat(points, 1), "theta": theta.repeat(points, 1)}
        swept[side][:, element] = values
        names.append(f"{side}[{element}]")
        curves.append(repeated(system, swept["x"], swept["theta"], repeats).double())
    y, dims = torch.stack(curves), "element value output"
    return _dataset(
        {"mean": (dims, y.mean(1)), "deviation": (dims, y.std(1))},
        {"element": names, "value": values.numpy()},
        attributes(system, before, "response curves", repeats=repeats),
    )


def central_difference(
    system: PhysicalSystem,
    x: Tensor,
    theta: Tensor,
    dx: Tensor,
    dtheta: Tensor,
    step: float,
    repeats: int,
) -> Tensor:
    """Measure the derivative along a direction, (repeats, shots, outputs), float64.

    The working points are at least ``step`` times the direction inside [0, 1].
    """
    up, down = (
        repeated(system, x + h * dx, theta + h * dtheta, repeats).double() for h in (step, -step)
    )
    return (up - down) / (2 * step)


def memory(
    system: PhysicalSystem,
    x: Tensor,
    theta: Tensor,
    *,
    elements: Sequence[int] | None = None,
    repeats: int = 8,
    fraction: float = 0.01,
) -> xr.Dataset:
    """Measure how long one element of the input acts on the outputs.

    Each element moves up and down by a quarter around every working point; the response is the
    central difference, its variance from noise taken off. Element ``i`` of ``n`` acts in slot
    ``i``, output ``k`` of ``m`` is complete in slot ``(k + 1) n / m - 1``, and the lag is the
    difference, in input elements. For a device that replays its input, programme one replay and as
    many outputs as inputs: the lag is then in samples, without echoes.

    Parameters
    ----------
    x : Tensor, (points, input_dim)
        Working points; the response is the rms over them.
    theta : Tensor, (param_dim,) or (points, param_dim)
    elements : sequence of int, optional
        Which inputs to move; by default eight, spread over the first half.
    fraction : float
        Of the largest response, below which an element counts as forgotten.

    Returns
    -------
    Dataset
        ``jacobian``, (element, output), rms over the working points of dy/dx; ``response`` and
        ``certain``, (lag,), its rms and the smallest response distinguishable from noise; scalar
        ``length``: the first lag from which on nothing above ``fraction`` and above the noise is
        left. If it is ``limited_by`` the ``"noise"``, more points or repeats may find more.
    """
    repeats = whole("repeats", repeats, 2)
    before, n, m = system.passes, system.input_dim, system.output_dim
    chosen = list(range(0, max(n // 2, 1), max(n // 16, 1)) if elements is None else elements)
    squares, errors = torch.zeros(2, len(chosen), m, dtype=torch.float64)
    still = torch.zeros_like(theta)
    for row, element in enumerate(chosen):
        centre, direction = x.clone(), torch.zeros_like(x[0])
        centre[:, element] = x[:, element].clamp(STEP, 1 - STEP)
        direction[element] = 1
        slope = central_difference(system, centre, theta, direction, still, STEP, repeats)
        error = slope.var(0) / repeats
        squares[row], errors[row] = (slope.mean(0).square() - error).mean(0), error.mean(0)
    slots = (torch.arange(1, m + 1) * n) // m - 1
    lags = slots - torch.tensor(chosen)[:, None]
    last = int(lags.max()) + 1
    response, certain = torch.full((2, max(last, 1)), math.nan, dtype=torch.float64)
    for lag in range(last):
        here = lags == lag
        if here.any():
            response[lag] = squares[here].mean().clamp_min(0).sqrt()
            # The mean of k squares of normal errors scatters by sqrt(2 / k) of their variance.
            scatter = errors[here].mean() * math.sqrt(2 / (len(x) * int(here.sum())))
            certain[lag] = (CERTAIN * scatter).sqrt()
    peak = response.nan_to_num().max()
    present = (response > fraction * peak) & (response > certain)
    length = int(present.nonzero().max()) + 1 if present.any() else 0
    limited_by = "noise" if (certain[length:] > fraction * peak).any() else "fraction"
    variables = {
        "jacobian": ("element output", squares.clamp_min(0).sqrt()),
        "response": ("lag", response),
        "certain": ("lag", certain),
        "length": ("", length),
    }
    record = attributes(system, before, "memory", repeats=repeats, step=STEP, fraction=fraction)
    dataset = _dataset(variables, {"element": chosen}, record | {"limited_by": limited_by})
    for name, variable in dataset.data_vars.items():
        variable.attrs["units"] = "input elements" if name == "length" else "output per input"
    return dataset


def drift(
    system: PhysicalSystem, x: Tensor, theta: Tensor, *, shots: int = 100_000, every: int = 1_000
) -> xr.Dataset:
    """Repeat one reference shot for long, and separate slow change from noise.

    Parameters
    ----------
    x, theta : Tensor, (input_dim,) and (param_dim,)
    shots, every : int
        Shots in all, and shots averaged into one point of the record.

    Returns
    -------
    Dataset
        ``mean``, (shots, output), at the number of shots taken so far; scalars ``noise``, rms of
        single read-outs within a point, and ``drift``, rms over outputs of the points' standard
        deviation, without the noise's share.
    """
    every = whole("every", every, 2)
    points = whole("shots / every", shots // every, 2)
    before = system.passes
    rows = x.expand(every, -1)
    mean, variance = [], []
    for _ in range(points):
        y = system(rows, theta).double()
        mean.append(y.mean(0))
        variance.append(y.var(0))
    record, noise = torch.stack(mean), torch.stack(variance).mean()
    slow = (record.var(0).mean() - noise / every).clamp_min(0).sqrt()
    return _dataset(
        {"mean": ("shots output", record), "noise": ("", noise.sqrt()), "drift": ("", slow)},
        {"shots": every * np.arange(1, points + 1)},
        attributes(system, before, "drift", every=every),
    )
