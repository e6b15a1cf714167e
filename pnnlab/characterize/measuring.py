"""What is measured of a device: repeatability, response, memory and drift."""

import math
from collections.abc import Sequence

import torch
import xarray as xr
from torch import Tensor

from pnnlab.characterize.datasets import UNITS, attributes, counting
from pnnlab.errors import RangeError
from pnnlab.physical_system import PhysicalSystem
from pnnlab.plain import whole

CERTAIN = 4.0  # standard errors above which a response is believed


def repeatability(
    system: PhysicalSystem, x: Tensor, theta: Tensor, repeats: int = 16
) -> xr.Dataset:
    """Take the same shots again and again.

    Parameters
    ----------
    system : PhysicalSystem
    x : Tensor, (shots, input_dim), in [0, 1]
        At least two different inputs, or there is no signal to compare with.
    theta : Tensor, (param_dim,) or (shots, param_dim), in [0, 1]
    repeats : int, >= 2

    Returns
    -------
    Dataset
        ``mean`` and ``deviation`` over the repeats, (shot, output); scalars ``noise_floor``, the
        rms deviation, ``signal``, the rms over outputs of the standard deviation over shots
        without the noise's share, ``signal_to_noise`` and ``noise_ceiling``.
    """
    repeats = whole("repeats", repeats, 2)
    whole("shots", len(x), 2)
    before = system.passes
    y = torch.stack([system(x, theta) for _ in range(repeats)]).double()
    mean, variance = y.mean(0), y.var(0)
    noise = variance.mean()
    signal = (mean.var(0).mean() - noise / repeats).clamp_min(0).sqrt()
    return xr.Dataset(
        {
            "mean": (("shot", "output"), mean.numpy(), UNITS),
            "deviation": (("shot", "output"), variance.sqrt().numpy(), UNITS),
            "noise_floor": ((), float(noise.sqrt()), UNITS),
            "signal": ((), float(signal), UNITS),
            "signal_to_noise": ((), float(signal / noise.sqrt()), UNITS),
            "noise_ceiling": ((), noise_ceiling(y), UNITS),
        },
        counting(shot=len(x), output=system.output_dim),
        attributes(system, before, "repeatability", repeats=repeats),
    )


def nmse(modelled: Tensor, measured: Tensor) -> float:
    """Squared error over the squared deviation of each output from its mean over the shots.

    Both are (..., shots, outputs). 0 is perfect; 1 is what the constant mean would reach.
    """
    modelled, measured = modelled.double(), measured.double()
    error = (modelled - measured).square().sum()
    return float(error / (measured.var(-2, correction=0).sum() * measured.shape[-2]))


def noise_ceiling(y: Tensor) -> float:
    """Lowest `nmse` that a model without noise can reach against one noisy read-out.

    Parameters
    ----------
    y : Tensor, (repeats, shots, outputs)
        The same shots, repeated. The ceiling is the noise's variance over the total variance;
        NaN with a single repeat, which tells nothing about noise.
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
    x : Tensor, (input_dim,)
    theta : Tensor, (param_dim,)
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
    curves = []
    for number, element in [(0, i) for i in inputs] + [(1, i) for i in parameters]:
        swept = [x.repeat(points, 1), theta.repeat(points, 1)]
        swept[number][:, element] = values
        curves.append(torch.stack([system(*swept) for _ in range(repeats)]).double())
    y = torch.stack(curves)
    dims = ("element", "value", "output")
    names = [f"x[{i}]" for i in inputs] + [f"theta[{i}]" for i in parameters]
    return xr.Dataset(
        {
            "mean": (dims, y.mean(1).numpy(), UNITS),
            "deviation": (dims, y.std(1).numpy(), UNITS),
        },
        {"element": names, "value": values.numpy()} | counting(output=system.output_dim),
        attributes(system, before, "response curves", repeats=repeats),
    )


def memory(
    system: PhysicalSystem,
    x: Tensor,
    theta: Tensor,
    *,
    elements: Sequence[int] | None = None,
    step: float = 0.25,
    repeats: int = 8,
    fraction: float = 0.01,
) -> xr.Dataset:
    """How long the outputs remember one element of the input.

    Each element moves up and down by ``step`` around every working point; the outputs' response
    is the central difference, its variance from noise taken off. An input element and an output
    stand in time where they stand in their vectors: element ``i`` of ``n`` acts in slot ``i``,
    output ``k`` of ``m`` is complete in slot ``(k + 1) n / m - 1``, and the lag is the difference,
    in input elements. For a device that replays its input, programme one replay and as many
    outputs as inputs: the lag is then in samples, without echoes.

    Parameters
    ----------
    x : Tensor, (points, input_dim)
        Working points; the response is the rms over them.
    theta : Tensor, (param_dim,) or (points, param_dim)
    elements : sequence of int, optional
        Which inputs to move; by default eight, spread over the first half.
    step : float
        In (0, 0.5].
    fraction : float
        Of the largest response, below which an element counts as forgotten.

    Returns
    -------
    Dataset
        ``jacobian``, (element, output), rms over the working points of dy/dx; ``response`` and
        ``certain``, (lag,), its rms and the smallest response that could be told from noise;
        scalar ``length``: the first lag from which on nothing above ``fraction`` and above the
        noise is left. ``limited_by`` of the record says which of the two ended it: if the
        ``"noise"``, more working points or repeats may find more.
    """
    repeats = whole("repeats", repeats, 2)
    if not 0 < step <= 0.5:
        raise RangeError(f"step is {step}; an input can move by more than 0 and at most 0.5.")
    before, n, m = system.passes, system.input_dim, system.output_dim
    chosen = list(range(0, max(n // 2, 1), max(n // 16, 1)) if elements is None else elements)
    squares, errors = torch.zeros(2, len(chosen), m, dtype=torch.float64)
    for row, element in enumerate(chosen):
        moved = x.clone()
        centre = x[:, element].clamp(step, 1 - step)
        ends = []
        for sign in (1, -1):
            moved[:, element] = centre + sign * step
            ends.append(torch.stack([system(moved, theta) for _ in range(repeats)]).double())
        slope = (ends[0] - ends[1]) / (2 * step)
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
    remembered = (response > fraction * peak) & (response > certain)
    length = int(remembered.nonzero().max()) + 1 if remembered.any() else 0
    blind = bool((certain[length:] > fraction * peak).any())
    per_element = {"units": "output per input"}
    return xr.Dataset(
        {
            "jacobian": (("element", "output"), squares.clamp_min(0).sqrt().numpy(), per_element),
            "response": (("lag",), response.numpy(), per_element),
            "certain": (("lag",), certain.numpy(), per_element),
            "length": ((), length, {"units": "input elements"}),
        },
        {"element": chosen} | counting(output=m, lag=len(response)),
        attributes(system, before, "memory", repeats=repeats, step=step, fraction=fraction)
        | {"limited_by": "noise" if blind else "fraction"},
    )


def drift(
    system: PhysicalSystem, x: Tensor, theta: Tensor, *, shots: int = 100_000, every: int = 1_000
) -> xr.Dataset:
    """Repeat one reference shot for long, and tell slow change from noise.

    Parameters
    ----------
    x : Tensor, (input_dim,)
    theta : Tensor, (param_dim,)
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
    whole("shots / every", shots // every, 2)
    before = system.passes
    rows = x.expand(every, -1)
    mean, variance = [], []
    for _ in range(shots // every):
        y = system(rows, theta).double()
        mean.append(y.mean(0))
        variance.append(y.var(0))
    record, noise = torch.stack(mean), torch.stack(variance).mean()
    slow = (record.var(0).mean() - noise / every).clamp_min(0).sqrt()
    return xr.Dataset(
        {
            "mean": (("shots", "output"), record.numpy(), UNITS),
            "noise": ((), float(noise.sqrt()), UNITS),
            "drift": ((), float(slow), UNITS),
        },
        {"shots": every * torch.arange(1, len(record) + 1).numpy()}
        | counting(output=system.output_dim),
        attributes(system, before, "drift", every=every),
    )
