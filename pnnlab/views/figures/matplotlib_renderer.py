"""Charts drawn by matplotlib, for print and for stored notebooks."""

from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from numpy.typing import ArrayLike, NDArray

from pnnlab.views.figures.chart import Alternatives, Chart, Matrix, Plot, Points, Series
from pnnlab.views.parts import number
from pnnlab.views.style import BAND, PALETTE, STYLE, Picture

SHOWN = 4000  # dots of one plot; more of them show nothing more
Listed: TypeAlias = dict[object, tuple[str, Any]]  # text and artists of an entry of a legend
MARKERS = dict(zip(PALETTE, "osDPXv^", strict=True))


def draw(chart: Chart) -> Picture:
    """Draw every plot, and below them one legend for all."""
    plots = [plot for place in chart.plots for plot in _plots(place)]
    columns = chart.columns or len(plots)
    rows = -(-len(plots) // columns)
    width = max(7.5, min(4.8 * columns, 9.6), 3.4 * columns)
    listed: Listed = {}
    with rc_context(dict(STYLE) | {"lines.scale_dashes": False}):
        figure = Figure(layout="constrained")
        grid = figure.add_gridspec(rows, columns)
        first = None
        for n, plot in enumerate(plots):
            row, column = divmod(n, columns)
            place = grid[row, column:] if plot is plots[-1] else grid[row, column]
            axes = figure.add_subplot(place, sharey=first if chart.shared else None)
            if chart.live:
                draw_live(axes, plot)
            else:
                listed |= _draw(axes, plot, ticks=5 if columns > 2 else 10)
            if column and plot.y_label == plots[n - 1].y_label:
                axes.set_ylabel("")
            first = first or axes
        if len(plots) == 1:
            figure.axes[0].set_title(chart.title)
        else:
            figure.suptitle(chart.title, fontsize=11, x=0.01, ha="left")
        labels, handles = zip(*listed.values(), strict=True) if listed else ((), ())
        fit = int(width / (0.6 + 0.07 * max(map(len, labels), default=0)))
        figure.set_size_inches(width, 0.6 + 2.9 * rows + 0.2 * -(-len(labels) // fit))
        if listed:
            figure.legend(handles, labels, loc="outside lower left", ncols=fit, fontsize="small")
    return Picture(figure)


def draw_live(axes: Axes, plot: Plot) -> None:
    """Draw a plot as `PlotGrid` shows it, with the last values in a legend of its own."""
    x, y = plot.limits()
    listed = _draw(axes, replace(plot, x_limits=x, y_limits=y), ticks=10, live=True)
    if axes.get_yscale() == "log":
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if y[1] < 50 * y[0] else (1,)))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    if plot.empty:
        middle: dict[str, Any] = {"ha": "center", "va": "center", "transform": axes.transAxes}
        axes.text(0.5, 0.5, plot.note, color="#555555", **middle)
    elif listed:
        labels, handles = zip(*listed.values(), strict=True)
        axes.legend(handles, labels)


def _named(line: Series, unit: str) -> str:
    """The line's name with its last value."""
    last = np.asarray(line.y, dtype=float)[-1:]
    if not np.isfinite(last).any():
        return line.label
    return f"{line.label}  {number(float(last[0]))} {unit}".rstrip()


def _plots(place: Plot | Alternatives) -> list[Plot]:
    if isinstance(place, Plot):
        return [place]
    return list(place.plots.values()) if place.chosen is None else [place.plots[place.chosen]]


def _draw(axes: Axes, plot: Plot, ticks: int, *, live: bool = False) -> Listed:
    """Draw a plot; gives what the legend is to name, once of each kind."""
    listed: Listed = {}
    for mark in plot.marks:
        if isinstance(mark, Matrix):
            _draw_matrix(axes, mark)
        elif isinstance(mark, Points):
            x, y, _ = mark.some(SHOWN)
            dots = axes.plot(x, y, ".", color=PALETTE["blue"], ms=2.5, alpha=0.5, rasterized=True)
            listed[mark.label] = mark.label, dots[0]
        elif mark.shown:
            drawn = _draw_series(axes, mark)
            if not mark.faint:
                label = _named(mark, plot.unit) if live else mark.label
                listed[mark.label, mark.style] = label, drawn
    axes.set(title=plot.title, xlabel=plot.x_label, ylabel=plot.y_label)
    if plot.log and any(np.any(np.asarray(mark.y) > 0) for mark in plot.marks):
        axes.set_yscale("log")  # of nothing positive there is no logarithm to show
    if plot.x_limits is not None:
        axes.set_xlim(plot.x_limits)
    if plot.y_limits is not None:
        axes.set_ylim(plot.y_limits)
    axes.xaxis.set_major_locator(MaxNLocator(ticks, steps=[1, 2, 2.5, 5, 10], integer=plot.whole))
    return listed


def _draw_series(axes: Axes, mark: Series) -> tuple[Any, ...]:
    color, y = PALETTE[mark.style.color], np.asarray(mark.y)
    if mark.steps:
        edges = _edges(mark.x)
        bars = axes.stairs(y, edges, fill=True, color=color, alpha=0.25)
        return bars, axes.stairs(y, edges, baseline=None, color=color, lw=1.5)
    areas = [] if mark.area is None else [mark.area]
    if mark.deviation is not None:
        wide = BAND * np.asarray(mark.deviation)
        areas.append((y - wide, y + wide))
    drawn = [axes.fill_between(mark.x, *area, color=color, alpha=0.25, lw=0) for area in areas]
    dash = (0, mark.style.dash) if mark.style.dash else "-"
    marker = MARKERS[mark.style.color] if mark.markers else None
    faint: dict[str, Any] = {"lw": 0.7, "alpha": 0.45} if mark.faint else {}
    return (*drawn, *axes.plot(mark.x, y, color=color, ls=dash, marker=marker, **faint))


def _draw_matrix(axes: Axes, mark: Matrix) -> None:
    values = np.asarray(mark.values)
    # A few colours, for a picture is stored with 32.
    colors = colormaps["RdBu_r"].resampled(31) if mark.signed else colormaps["cividis"]
    image = axes.pcolormesh(_edges(mark.x), _edges(mark.y), values, cmap=colors, rasterized=True)
    if mark.signed:
        most = float(np.abs(values).max()) or 1.0
        image.set_clim(-most, most)
    axes.figure.colorbar(image, ax=axes, label=mark.label)
    axes.grid(visible=False)


def _edges(middles: ArrayLike) -> NDArray[np.float64]:
    """Where the cells begin and end; a cell alone is one wide."""
    at = np.asarray(middles, dtype=float)
    between = (at[1:] + at[:-1]) / 2
    if not between.size:
        return np.append(at - 0.5, (at + 0.5)[:1] if at.size else 0.0)
    return np.concatenate([[2 * at[0] - between[0]], between, [2 * at[-1] - between[-1]]])
