"""What a figure shows, whichever form it takes: chosen, thinned and counted in one place."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pnnlab.errors import ShapeError
from pnnlab.twins import DepthGap, TwinReport

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

READ_OUT = "read-out y (fraction of full scale)"
DEVIATION = "SD of y (fraction of full scale)"
RESIDUAL = "residual (fraction of full scale)"
SLOPE = "rms |dy/dx| (full scale per range)"
BAND = 2.0  # standard deviations in a noise band
BINS = 8  # of an input's range, for residuals by input


def spread(size: int, most: int) -> Indices:
    """At most so many of 0 ... size - 1, evenly spaced, the first and the last among them."""
    return np.unique(np.linspace(0, size - 1, min(size, most)).round().astype(np.intp))


def some(size: int, most: int) -> Indices:
    """At most so many of 0 ... size - 1, picked at random, and the same ones every time."""
    if size <= most:
        return np.arange(size)
    return np.sort(np.random.default_rng(0).choice(size, most, replace=False))


def liveliest(mean: xr.DataArray, along: str, most: int) -> list[int]:
    """The outputs that move the most along a dimension, those first that move most."""
    order = np.argsort(mean.std(along).values, kind="stable")[::-1]
    return [int(output) for output in mean.output.values[order[:most]]]


def swept(seen: xr.Dataset, element: str | None) -> str:
    """The element that was asked for, or the first.

    Raises
    ------
    ShapeError
        It was not swept.
    """
    names = [str(name) for name in seen.element.values]
    if element is None:
        return names[0]
    if element not in names:
        raise ShapeError(f"{element} was not swept; choose from {', '.join(names)}.")
    return element


def noise_at_levels(seen: xr.Dataset, bins: int = 12) -> tuple[Array, Array]:
    """Noise against the read-out: mean level and rms deviation, in equally full bins.

    Parameters
    ----------
    seen : Dataset
        Of `characterize.repeatability`.
    """
    level, deviation = seen["mean"].values.ravel(), seen["deviation"].values.ravel()
    parts = np.array_split(np.argsort(level, kind="stable"), min(bins, level.size))
    return (
        np.array([level[part].mean() for part in parts]),
        np.array([np.sqrt(np.square(deviation[part]).mean()) for part in parts]),
    )


def residuals(report: TwinReport) -> Array:
    """Twin minus device on the held-out shots, (shots, outputs)."""
    return np.asarray((report.modelled - report.device).double().numpy())


def noise(report: TwinReport) -> float:
    """Standard deviation of one read-out, rms over the outputs; 0 if that is unknown."""
    value = float(report.noise.square().mean().sqrt())
    return 0.0 if math.isnan(value) else value


@dataclass(frozen=True)
class Distribution:
    """How the residuals are distributed.

    Attributes
    ----------
    edges : (bins + 1,)
        They hold 99 % of the residuals.
    density : (bins,)
    grid, normal : (points,)
        What noise alone would give; empty if the noise is unknown.
    """

    edges: Array
    density: Array
    grid: Array
    normal: Array


def distribution(report: TwinReport, bins: int = 60) -> Distribution:
    """The residuals of all outputs together, beside a normal distribution of the noise."""
    values, deviation = residuals(report).ravel(), noise(report)
    reach = float(np.quantile(np.abs(values), 0.99)) or 1e-12  # a perfect twin has no width
    edges = np.linspace(-reach, reach, bins + 1)
    counts = np.histogram(values, edges)[0]
    grid = np.linspace(-reach, reach, 181) if deviation > 0 else np.empty(0)
    height = 1 / (deviation * math.sqrt(2 * math.pi)) if deviation > 0 else 0.0
    return Distribution(
        edges=edges,
        density=counts / (values.size * (edges[1] - edges[0])),
        grid=grid,
        normal=height * np.exp(-((grid / (deviation or 1.0)) ** 2) / 2),
    )


def residual_by_output(report: TwinReport) -> Array:
    """Rms residual of each output, (outputs,)."""
    return np.asarray(np.sqrt(np.square(residuals(report)).mean(0)))


def residual_by_input(report: TwinReport) -> tuple[Array, NDArray[np.int64]]:
    """Rms residual of all outputs, by each input element and by the value that it had.

    Returns
    -------
    rms : (inputs, bins)
        NaN where no held-out shot had such a value.
    shots : (inputs, bins)
        How many had.
    """
    x = report.held.x.double().numpy()
    error = np.square(residuals(report)).mean(1)
    places = np.minimum((x * BINS).astype(np.intp), BINS - 1) + BINS * np.arange(x.shape[1])
    size = BINS * x.shape[1]
    shots = np.bincount(places.ravel(), minlength=size)
    total = np.bincount(places.ravel(), np.repeat(error, x.shape[1]), minlength=size)
    mean = np.divide(total, shots, out=np.full(size, math.nan), where=shots > 0)
    return np.sqrt(mean).reshape(-1, BINS), shots.reshape(-1, BINS)


def given(reports: Sequence[TwinReport]) -> int:
    """How many reports there are.

    Raises
    ------
    ShapeError
        None.
    """
    if not reports:
        raise ShapeError("there is no report to draw; make one with twins.report().")
    return len(reports)


def chained(reports: Sequence[TwinReport]) -> list[tuple[str, DepthGap]]:
    """The twins that could be chained, with their gaps.

    Raises
    ------
    ShapeError
        There is none.
    """
    found = [(report.twin, report.gap) for report in reports if report.gap is not None]
    if not found:
        raise ShapeError(
            "there is no report to draw, or none of a system that can be chained: one that has as "
            "many outputs as inputs."
        )
    return found
