"""A device panel on paper."""

from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pnnlab.characterize.probe import Probe, Response
from pnnlab.views.style import PALETTE, STYLE, Picture
from pnnlab.views.touch import BAND, summary


def panel_figure(probe: Probe, response: Response | None, seen: xr.Dataset | None) -> Picture:
    """Draw a drive, the response to it, and a sweep, as far as there are any."""
    with mpl.rc_context(dict(STYLE)):
        rows = 1 + (response is not None) + (seen is not None)
        figure = Figure(figsize=(9.6, 0.6 + 2.5 * rows), layout="constrained")
        grid = figure.add_gridspec(rows, 2)
        for place, (side, title) in enumerate((("x", "Input x"), ("theta", "Parameters θ"))):
            values = (probe.x, probe.theta)[place]
            axes = figure.add_subplot(grid[0, place])
            _bars(axes, values.numpy(), ("green", "purple")[place])
            axes.set(title=title, xlabel=f"element of {side}", ylabel="fraction of range")
        if response is not None:
            alone = response.modelled is None
            _response(figure.add_subplot(grid[1, slice(2) if alone else 0]), response)
            if not alone:
                _difference(figure.add_subplot(grid[1, 1]), response)
        if seen is not None:
            _map(figure, figure.add_subplot(grid[rows - 1, :]), seen)
        said = [] if response is None else [summary(response)]
        words = "   ·   ".join([probe.system.name, *said, f"{probe.passes} device passes"])
        figure.suptitle(words, fontsize=11, x=0.01, ha="left")
    return Picture(figure)


def _bars(axes: Axes, values: Any, color: str) -> None:
    edges = np.arange(len(values) + 1) - 0.5
    axes.stairs(values, edges, fill=True, color=PALETTE[color], alpha=0.3)
    axes.stairs(values, edges, color=PALETTE[color], linewidth=1.5, baseline=None)
    axes.set(xlim=(-0.5, max(len(values) - 0.5, 0.5)), ylim=(0, 1))


def _response(axes: Axes, response: Response) -> None:
    at, mean = np.arange(len(response.mean)), response.mean.numpy()
    spread = BAND * response.deviation.numpy()
    axes.fill_between(at, mean - spread, mean + spread, color=PALETTE["blue"], alpha=0.25, lw=0)
    label = f"device ± {BAND} SD of {response.shots} shots"
    axes.plot(at, mean, color=PALETTE["blue"], label=label)
    if response.modelled is not None:
        axes.plot(at, response.modelled, color=PALETTE["vermillion"], ls=(0, (6, 3)), label="twin")
    axes.set(title="Response", xlabel="output", ylabel="y (fraction of full scale)")
    axes.legend(fontsize="small")


def _difference(axes: Axes, response: Response) -> None:
    assert response.modelled is not None
    at, spread = np.arange(len(response.mean)), BAND * response.deviation.numpy()
    axes.fill_between(at, -spread, spread, color=PALETTE["grey"], alpha=0.25, lw=0, label="noise")
    axes.plot(at, response.modelled - response.mean, color=PALETTE["vermillion"], lw=1.3)
    axes.set(title="Twin − device", xlabel="output", ylabel="fraction of full scale")
    axes.legend(fontsize="small")


def _map(figure: Figure, axes: Axes, seen: xr.Dataset) -> None:
    name, mean = str(seen.element.values[0]), seen["mean"].values[0]
    half = 0.5 / (len(mean) - 1)
    change = mean - mean[0]
    most = float(np.abs(change).max()) or 1.0
    image = axes.imshow(
        change,
        cmap=mpl.colormaps["RdBu_r"].resampled(31),  # few colours: a picture is stored with 256
        vmin=-most,
        vmax=most,
        origin="lower",
        aspect="auto",
        interpolation="nearest",
        extent=(-0.5, mean.shape[1] - 0.5, -half, 1 + half),
    )
    axes.grid(visible=False)
    axes.set(title=f"Change from {name} = 0", xlabel="output", ylabel=f"{name} (of range)")
    figure.colorbar(image, ax=axes, label="change of y")
