"""Plots described as data: for print by matplotlib, to explore by plotly, live by `PlotGrid`."""

from __future__ import annotations

import threading
from abc import ABC
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, final

import anywidget
import numpy as np
import traitlets
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from numpy.typing import ArrayLike, NDArray

from pnnlab.errors import ShapeError
from pnnlab.views.parts import PageWidget, number, script, styles
from pnnlab.views.style import BAND, PALETTE, STYLE, LineStyle, Picture, colors, line_style

if TYPE_CHECKING:
    from plotly import graph_objects as go


Indices: TypeAlias = NDArray[np.intp]
Limits: TypeAlias = tuple[float, float]
FIRST = line_style(0)
LINES = 20  # that a legend offers
SHOWN = 4000  # dots of one plot; more of them show nothing more
Listed: TypeAlias = dict[object, tuple[str, Any]]  # text and artists of an entry of a legend
MARKERS = dict(zip(PALETTE, "osDPXv^", strict=True))


@dataclass(frozen=True, eq=False)
class Mark(ABC):
    """What is drawn between two axes."""

    label: str
    x: ArrayLike
    y: ArrayLike


@dataclass(frozen=True, eq=False)
class Series(Mark):
    """A line through ``x`` and ``y``, both of shape (n,); NaN interrupts it.

    Two standard ``deviation`` (n,) are drawn up and down, an ``area`` is filled from its lower edge
    (n,) to its upper one, ``steps`` draws bars from zero. A ``faint`` line is the background of
    another: thin, pale and not in the legend. If not ``shown``, a picture is without it, and the
    legend of an explorable figure switches it on. `PlotGrid` draws lines, markers and deviations.

    `ShapeError` is raised if x and y are not one-dimensional and of one length, or a colour is none
    of `pnnlab.views.style.PALETTE`.
    """

    _: KW_ONLY
    deviation: ArrayLike | None = None
    area: tuple[ArrayLike, ArrayLike] | None = None
    style: LineStyle = FIRST
    markers: bool = False
    steps: bool = False
    faint: bool = False
    shown: bool = True

    def __post_init__(self) -> None:
        shapes = np.shape(self.x), np.shape(self.y)
        if len(shapes[0]) != 1 or shapes[0] != shapes[1]:
            raise ShapeError(
                f"line {self.label!r}: x has shape {shapes[0]} and y {shapes[1]}; "
                "give two one-dimensional arrays of one length."
            )
        if self.style.color not in PALETTE:
            raise ShapeError(f"no colour {self.style.color!r}; choose from {', '.join(PALETTE)}.")


@dataclass(frozen=True, eq=False)
class Points(Mark):
    """A dot for each pair of ``x`` and ``y``, (rows, columns); ``of`` names a row and a column."""

    of: tuple[str, str]

    def some(self, most: int) -> tuple[NDArray[np.float64], NDArray[np.float64], Indices]:
        """Pick at most so many at random, the same ones every time: x, y, (row, column)."""
        x, y = np.asarray(self.x), np.asarray(self.y)
        kept = np.arange(x.size)
        if x.size > most:
            kept = np.sort(np.random.default_rng(0).choice(x.size, most, replace=False))
        return x.flat[kept], y.flat[kept], np.column_stack(np.divmod(kept, x.shape[1]))


@dataclass(frozen=True, eq=False)
class Matrix(Mark):
    """``values`` (rows, columns) as colours; ``x`` (columns,), ``y`` (rows,) are middles of cells.

    ``detail`` is the name of another quantity of each cell, and its values. If ``signed``, colours
    differ below and above zero; if ``raised``, it is explored as a surface that can be turned.
    """

    values: ArrayLike
    _: KW_ONLY
    detail: tuple[str, ArrayLike] | None = None
    signed: bool = False
    raised: bool = False


@dataclass(frozen=True, eq=False)
class Plot:
    """Marks between two axes, each drawn over those before it.

    The labels of the axes hold their units, and name the values under the pointer too. Limits that
    are None are left to the data; ``log`` makes y logarithmic. In a live plot, ``unit`` follows the
    last values in the legend, and ``note`` stands in a plot without points.
    """

    title: str
    x_label: str
    y_label: str
    marks: Sequence[Mark] = ()
    _: KW_ONLY
    x_limits: Limits | None = None
    y_limits: Limits | None = None
    log: bool = False
    unit: str = ""
    note: str = ""

    @property
    def whole(self) -> bool:
        """Whether x takes only whole numbers."""
        return all(np.asarray(mark.x).dtype.kind == "i" for mark in self.marks)

    @property
    def raised(self) -> bool:
        """Whether it is explored as a surface."""
        return any(isinstance(mark, Matrix) and mark.raised for mark in self.marks)

    @property
    def lines(self) -> list[Series]:
        """The series among the marks."""
        return [mark for mark in self.marks if isinstance(mark, Series)]

    @property
    def empty(self) -> bool:
        """Whether there is no point to show."""
        return all(np.size(mark.x) == 0 for mark in self.marks)


@dataclass(frozen=True, repr=False, eq=False)
class Chart:
    """A figure; at the end of a cell it shows itself as a picture.

    It has ``columns`` plots a row, by default all; the last plot takes the width that is left. If
    ``shared``, all have the same y axis. The picture of a ``live`` chart looks as `PlotGrid`: each
    plot has a legend with the last values.
    """

    title: str
    plots: Sequence[Plot]
    _: KW_ONLY
    columns: int | None = None
    shared: bool = False
    live: bool = False

    def static(self) -> Picture:
        """Draw it with matplotlib; ``chart.static().figure.savefig("name.pdf")`` writes a file."""
        plots = self.plots
        columns = self.columns or len(plots)
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
                axes = figure.add_subplot(place, sharey=first if self.shared else None)
                if self.live:
                    draw_live(axes, plot)
                else:
                    listed |= _draw(axes, plot, ticks=5 if columns > 2 else 10)
                if column and plot.y_label == plots[n - 1].y_label:
                    axes.set_ylabel("")
                first = first or axes
            if len(plots) == 1:
                figure.axes[0].set_title(self.title)
            else:
                figure.suptitle(self.title, fontsize=11, x=0.01, ha="left")
            texts, handles = zip(*listed.values(), strict=True) if listed else ((), ())
            fit = int(width / (0.6 + 0.07 * max(map(len, texts), default=0)))
            figure.set_size_inches(width, 0.6 + 2.9 * rows + 0.2 * -(-len(texts) // fit))
            if listed:
                figure.legend(handles, texts, loc="outside lower left", ncols=fit, fontsize="small")
        return Picture(figure)

    def explore(self) -> go.Figure:
        """Draw it with plotly, to point at and to turn, thinned so that a notebook stays small."""
        from pnnlab.views import plotly_renderer  # which imports this module

        return plotly_renderer.draw(self)

    def __repr__(self) -> str:
        many = "s" * (len(self.plots) > 1)
        return f"Chart of {len(self.plots)} plot{many}"  # the same in every run

    def _repr_png_(self) -> bytes:
        return self.static()._repr_png_()


def draw_live(axes: Axes, plot: Plot) -> None:
    """Draw a plot as `PlotGrid` shows it, with the last values in a legend of its own."""
    axes.margins(x=0)
    listed = _draw(axes, plot, ticks=10, live=True)
    if plot.y_limits is None and not plot.log and axes.dataLim.y0 >= 0:
        axes.set_ylim(bottom=0)
    if axes.get_yscale() == "log":
        low, high = axes.get_ylim()
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 50 * low else (1,)))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    if plot.empty:
        middle: dict[str, Any] = {"ha": "center", "va": "center", "transform": axes.transAxes}
        axes.text(0.5, 0.5, plot.note, color="#555555", **middle)
    elif listed:
        labels, handles = zip(*listed.values(), strict=True)
        axes.legend(handles, labels)


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
        elif isinstance(mark, Series) and mark.shown:
            drawn = _draw_series(axes, mark)
            if not mark.faint:
                label, last = mark.label, np.asarray(mark.y, dtype=float)[-1:]
                if live and np.isfinite(last).any():
                    label += f"  {number(float(last[0]))} {plot.unit}".rstrip()
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


def spread(size: int, most: int) -> list[int]:
    """At most so many of 0 ... size - 1, evenly spaced, the first and the last among them."""
    return sorted({round(place) for place in np.linspace(0, size - 1, min(size, most)).tolist()})


@final
class PlotGrid(PageWidget):
    """Line plots in a notebook, two a row where the page is wide enough, light and dark.

    It is made for running data: an update is one message, however many plots there are, with
    all points as 32-bit floats. Pointing at a plot, or the arrow keys, show the values at one x.
    """

    _esm = script("plotgrid")
    _css = styles("shared", "plotgrid")
    panels = traitlets.List(trait=traitlets.Dict()).tag(sync=True)
    points = traitlets.Bytes(b"").tag(sync=True)

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()  # a task and the dashboard may draw at once

    def show(self, plots: Sequence[Plot]) -> None:
        """Show ``plots`` from now on; what has not changed is not sent."""
        shown = [_described(plot) for plot in plots]
        rows = [row for plot in plots for line in plot.lines for row in _rows(line)]
        points = np.concatenate(rows or [()]).astype("<f4").tobytes()
        with self._lock:
            state: dict[str, object] = {} if shown == self.panels else {"panels": shown}
            buffers = [] if points == self.points else [points]
            self.panels, self.points = shown, points  # for a page that comes later
            if self.comm is not None and (state or buffers):
                paths = [["points"]] if buffers else []
                update = {"method": "update", "state": state, "buffer_paths": paths}
                self.comm.send(update, buffers=buffers)

    def notify_change(self, change: Any) -> None:
        """Call the observers; `show` alone sends panels and points to the page, at less cost."""
        shown = change["name"] in {"panels", "points"}
        (traitlets.HasTraits if shown else anywidget.AnyWidget).notify_change(self, change)


def _rows(line: Series) -> tuple[ArrayLike, ...]:
    if line.deviation is None:
        return line.x, line.y
    return line.x, line.y, BAND * np.asarray(line.deviation)


def _described(plot: Plot) -> dict[str, Any]:
    """Everything that a page needs to draw it, but for the points."""
    return {
        "title": plot.title,
        "x_label": plot.x_label,
        "y_label": plot.y_label,
        "unit": plot.unit,
        "note": plot.note if plot.empty else "",
        "log": plot.log,
        # What is not given, the page finds: it is part of no update's cost.
        "x_range": plot.x_limits and list(plot.x_limits),
        "y_range": plot.y_limits and list(plot.y_limits),
        "lines": [
            {
                "label": line.label,
                "n": np.size(line.x),
                **colors(line.style.color),
                "dash": list(line.style.dash),
                "faint": line.faint,
                "band": line.deviation is not None,
                "markers": line.markers,
            }
            for line in plot.lines
        ],
    }
