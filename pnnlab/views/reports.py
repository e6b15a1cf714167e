"""Pictures of what was measured and of what a twin is worth.

Each function takes the data set or the reports and gives back a still `Picture`; the response
surface is a plotly figure, to be turned and hovered over.
"""

import math
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, ParamSpec

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from plotly import graph_objects as go
from torch import Tensor

from pnnlab.errors import ShapeError
from pnnlab.twins import NeuralRecord, TwinReport
from pnnlab.views.style import PALETTE, STYLE, Picture

READ_OUT = "read-out y (fraction of full scale)"
BAND = 2.0  # standard deviations in a noise band
SHOWN = 4000  # points in a scatter plot; more of them show nothing more
COLUMN = 3.4  # inches
P = ParamSpec("P")


def _styled(draw: Callable[P, Figure]) -> Callable[P, Picture]:
    """Draw in the lab's style, whatever the notebook's."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Picture:
        with mpl.rc_context(dict(STYLE)):
            return Picture(draw(*args, **kwargs))

    return drawn


def _panels(
    columns: int, height: float = 3.2, width: float | None = None
) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width or max(COLUMN * columns, 5.0), height), layout="constrained")
    return figure, list(figure.subplots(1, columns, squeeze=False).flat)


@_styled
def repeatability_figure(seen: xr.Dataset, shot: int = 0) -> Figure:
    """One shot with its noise band, and noise beside signal for every output."""
    figure, (left, right) = _panels(2, width=9.6)
    mean, deviation = seen["mean"][shot], seen["deviation"][shot]
    _band(left, seen.output, mean, deviation, "blue")
    left.set(title=f"Shot {shot}, repeated: ± {BAND:g} SD", xlabel="output", ylabel=READ_OUT)
    noise = (seen["deviation"] ** 2).mean("shot") ** 0.5
    right.semilogy(seen.output, seen["mean"].std("shot"), color=PALETTE["blue"], label="signal")
    right.semilogy(seen.output, noise, color=PALETTE["vermillion"], label="noise")
    right.set(
        title=f"Signal to noise {float(seen.signal_to_noise):.3g}",
        xlabel="output",
        ylabel="SD of y (fraction of full scale)",
    )
    right.legend()
    return figure


@_styled
def response_figure(seen: xr.Dataset, outputs: Sequence[int] | None = None) -> Figure:
    """Each swept element's curves at a few outputs: by default the three that move the most."""
    figure, axes = _panels(seen.sizes["element"], 3.0)
    for panel, element in zip(axes, seen.element.values, strict=True):
        curves = seen.sel(element=element)
        swing = (curves["mean"].max("value") - curves["mean"].min("value")).values
        chosen = np.sort(np.argsort(swing)[-3:]) if outputs is None else outputs
        for colour, output in zip(("blue", "vermillion", "green", "purple"), chosen, strict=False):
            one = curves.sel(output=output)
            _band(panel, one.value, one["mean"], one["deviation"], colour, f"output {output}")
        panel.set(title=f"Sweep of {element}", xlabel=f"{element} (fraction of range)")
        panel.legend(fontsize="small")
    axes[0].set_ylabel(READ_OUT)
    figure.suptitle(f"Response around a working point, ± {BAND:g} SD", x=0.01, ha="left")
    return figure


@_styled
def memory_figure(seen: xr.Dataset) -> Figure:
    """Which output feels which input element, and how the response fades with the lag."""
    figure, (left, right) = _panels(2, width=9.6)
    image = left.imshow(seen["jacobian"], aspect="auto", interpolation="nearest")
    figure.colorbar(image, ax=left, label="rms |dy/dx|")
    left.set(title="Sensitivity", xlabel="output", ylabel="moved input element")
    left.set_yticks(range(seen.sizes["element"]), [str(e) for e in seen.element.values])
    left.grid(visible=False)
    response, length = seen["response"], int(seen["length"])
    heard = response.where(response > 0)
    right.semilogy(seen.lag, heard, "o-", markersize=3, color=PALETTE["blue"], label="response")
    if float(seen["certain"].max()) > 0:
        right.semilogy(seen.lag, seen["certain"], color=PALETTE["grey"], label="noise limit")
    level = float(seen.attrs["fraction"]) * float(response.max())
    right.axhline(level, color=PALETTE["vermillion"], ls=":", label=f"{seen.attrs['fraction']:.0%}")
    right.axvline(length, color=PALETTE["green"], ls="--", label=f"memory: {length}")
    right.set(
        title="Fading",
        xlabel="lag (input elements)",
        ylabel="rms |dy/dx|",
        xlim=(-0.5, min(4 * max(length, 2), seen.sizes["lag"]) + 0.5),
    )
    right.legend(fontsize="small")
    return figure


@_styled
def drift_figure(seen: xr.Dataset, outputs: int = 4) -> Figure:
    """Change of the outputs that move the most, beside the noise of one read-out and of a point."""
    figure, (axes,) = _panels(1, width=7.5)
    change = seen["mean"] - seen["mean"][0]
    for output in np.argsort(change.std("shots").values)[::-1][:outputs]:
        axes.plot(seen.shots, change.sel(output=output), label=f"output {output}")
    noise = float(seen["noise"])
    error = noise * math.sqrt(2 / int(seen.attrs["every"]))
    axes.axhspan(-noise, noise, color=PALETTE["grey"], alpha=0.12, label="noise of one shot, ± SD")
    axes.axhspan(-error, error, color=PALETTE["grey"], alpha=0.35, label="of a point here, ± SD")
    axes.set(
        title=f"Drift {float(seen['drift']):.2g} rms beside noise {noise:.2g}",
        xlabel="shots taken",
        ylabel="change of y (fraction of full scale)",
    )
    axes.legend(fontsize="small", ncols=2)
    return figure


@_styled
def fitting_figure(records: Sequence[NeuralRecord], ceiling: float | None = None) -> Figure:
    """How a neural twin's error fell; ``ceiling`` is the noise ceiling of what it was shown."""
    figure, (axes,) = _panels(1, width=6.0)
    epochs = [record.epoch for record in records]
    axes.semilogy(epochs, [r.train for r in records], "o-", label="training shots")
    axes.semilogy(epochs, [r.validation for r in records], "s-", label="validation shots")
    if ceiling:
        axes.axhline(ceiling, color=PALETTE["grey"], ls="--", label="noise ceiling")
    axes.set(title="Fit of the neural twin", xlabel="epoch", ylabel="NMSE")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()
    return figure


@_styled
def parity_figure(*reports: TwinReport) -> Figure:
    """Twin against device on held-out shots, one panel a twin, with the noise of one read-out."""
    figure, axes = _panels(_some(reports), 3.4)
    for panel, report in zip(axes, reports, strict=True):
        device, modelled = _thinned(report.device), _thinned(report.modelled)
        ends = np.array([min(device.min(), modelled.min()), max(device.max(), modelled.max())])
        noise = BAND * _noise(report)
        panel.plot(device, modelled, ".", markersize=2, alpha=0.4, rasterized=True)
        panel.plot(ends, ends, color="#222222", lw=1)
        panel.fill_between(ends, ends - noise, ends + noise, color=PALETTE["orange"], alpha=0.5)
        panel.set(title=_title(report), xlabel="device y", aspect="equal")
    axes[0].set_ylabel("twin y (fraction of full scale)")
    return figure


@_styled
def residual_figure(*reports: TwinReport) -> Figure:
    """Distribution of twin minus device, beside that of noise alone."""
    figure, axes = _panels(_some(reports), 3.0)
    for panel, report in zip(axes, reports, strict=True):
        residual = (report.modelled - report.device).numpy().ravel()
        reach = float(np.quantile(np.abs(residual), 0.995))
        panel.hist(
            residual, np.linspace(-reach, reach, 61).tolist(), density=True, label="twin − device"
        )
        noise = _noise(report)
        if noise > 0:
            grid = np.linspace(-reach, reach, 301)
            normal = np.exp(-((grid / noise) ** 2) / 2) / (noise * math.sqrt(2 * math.pi))
            panel.plot(grid, normal, color=PALETTE["vermillion"], label="noise alone")
        panel.set(title=_title(report), xlabel="residual (fraction of full scale)", yticks=[])
        panel.xaxis.set_major_locator(MaxNLocator(4, symmetric=True))
    axes[0].set_ylabel("density")
    axes[0].legend(fontsize="small")
    return figure


@_styled
def gradient_figure(*reports: TwinReport) -> Figure:
    """Vector-Jacobian products of twin and device along the same random directions."""
    figure, axes = _panels(_some(reports), 3.4)
    for panel, report in zip(axes, reports, strict=True):
        gradient = report.gradient
        device, modelled = _thinned(gradient.device), _thinned(gradient.twin)
        ends = np.array([device.min(), device.max()])
        panel.plot(device, modelled, ".", markersize=2, alpha=0.4, rasterized=True)
        panel.plot(ends, ends, color="#222222", lw=1)
        panel.set(
            title=f"{report.twin}\ncosine {gradient.cosine:.3f} of {gradient.ceiling:.3f}",
            xlabel="device, finite differences",
        )
    axes[0].set_ylabel("twin, backpropagation")
    return figure


@_styled
def gap_figure(*reports: TwinReport) -> Figure:
    """How the gap grows with the number of layers: in silico, and at the device's inputs."""
    chained = [(report, report.gap) for report in reports if report.gap is not None]
    _some(chained)
    figure, (left, right) = _panels(2, width=9.6)
    for report, gap in chained:
        depth = range(1, len(gap.free) + 1)
        left.semilogy(depth, gap.free, "o-", label=report.twin)
        right.semilogy(depth, gap.local, "o-", label=report.twin)
        left.set_xticks(depth)
        right.set_xticks(depth)
    noise = chained[0][1].noise
    label = "device against itself"
    left.semilogy(range(1, len(noise) + 1), noise, "s--", color=PALETTE["grey"], label=label)
    left.set(title="Twin on its own (in silico)", xlabel="layers", ylabel="NMSE of the last layer")
    right.set(title="Twin at the device's inputs (PAT)", xlabel="layer")
    left.legend(fontsize="small")
    right.sharey(left)
    return figure


def response_surface(seen: xr.Dataset, element: str | None = None) -> go.Figure:
    """All outputs against one swept element, as a surface to turn and hover over.

    Parameters
    ----------
    seen : Dataset
        Of `characterize.response_curves`.
    element : str, optional
        Such as ``"x[3]"``; by default the first that was swept.
    """
    name = str(seen.element.values[0]) if element is None else element
    if name not in seen.element.values:
        raise ShapeError(f"{name} was not swept; choose from {', '.join(seen.element.values)}.")
    curves = seen.sel(element=name)
    surface = go.Surface(
        x=curves.output.values,
        y=curves.value.values,
        z=curves["mean"].values,
        customdata=curves["deviation"].values,
        colorscale="Cividis",
        colorbar={"title": "y"},
        hovertemplate=(
            f"output %{{x}}<br>{name} = %{{y:.3g}}<br>"
            "y = %{z:.4g} ± %{customdata:.2g}<extra></extra>"
        ),
    )
    figure = go.Figure(surface)
    figure.update_layout(
        title=f"Response of all outputs to {name}",
        scene={
            "xaxis": {"title": {"text": "output"}},
            "yaxis": {"title": {"text": f"{name} (fraction of range)"}},
            "zaxis": {"title": {"text": "y (fraction of full scale)"}},
        },
        margin={"l": 0, "r": 0, "t": 40, "b": 0},
        height=480,
    )
    return figure


def _band(
    axes: Axes,
    at: xr.DataArray,
    mean: xr.DataArray,
    deviation: xr.DataArray,
    colour: str,
    label: str = "",
) -> None:
    spread = BAND * deviation
    axes.fill_between(at, mean - spread, mean + spread, color=PALETTE[colour], alpha=0.25, lw=0)
    axes.plot(at, mean, color=PALETTE[colour], label=label)


def _some(reports: Sequence[object]) -> int:
    if not reports:
        raise ShapeError("there is no report to draw, or none of a system that can be chained.")
    return len(reports)


def _title(report: TwinReport) -> str:
    return f"{report.twin}\nNMSE {report.nmse:.1e} (noise {report.ceiling:.0e})"


def _noise(report: TwinReport) -> float:
    """Standard deviation of one read-out, from the noise ceiling; 0 if that is unknown."""
    spread = float(report.device.var(0, correction=0).mean())
    return 0.0 if math.isnan(report.ceiling) else math.sqrt(report.ceiling * spread)


def _thinned(values: Tensor) -> NDArray[Any]:
    flat = values.numpy().ravel()
    return flat[:: max(1, flat.size // SHOWN)]
