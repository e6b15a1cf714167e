"""Plots described as data: for print by matplotlib, to explore by plotly, live by `PlotGrid`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pnnlab.errors import ShapeError
from pnnlab.views.style import PALETTE, LineStyle, Picture, line_style

if TYPE_CHECKING:
    from plotly import graph_objects as go

Indices: TypeAlias = NDArray[np.intp]
Limits: TypeAlias = tuple[float, float]
FIRST = line_style(0)
LINES = 20  # that a menu offers


@dataclass(frozen=True, eq=False)
class Series:
    """A line through ``x`` and ``y``, both of shape (n,); NaN interrupts it.

    Two standard ``deviation`` (n,) are drawn up and down, an ``area`` is filled from its lower edge
    (n,) to its upper one, ``steps`` draws bars from zero. A ``faint`` line is the background of
    another: thin, pale and not in the legend. If not ``shown``, a picture is without it, and the
    legend of an explorable figure switches it on. `PlotGrid` draws lines, markers and deviations.

    `ShapeError` is raised if x and y are not one-dimensional and of one length, or a colour is none
    of `pnnlab.views.style.PALETTE`.
    """

    label: str
    x: ArrayLike
    y: ArrayLike
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
class Points:
    """A dot for each pair of ``x`` and ``y``, both of shape (rows, columns); of many, some.

    ``of`` names a row and a column, such as a shot and an output.
    """

    label: str
    x: ArrayLike
    y: ArrayLike
    of: tuple[str, str]

    def some(self, most: int) -> tuple[NDArray[np.float64], NDArray[np.float64], Indices]:
        """Pick at most so many at random, the same ones every time: x, y, (row, column)."""
        x, y = np.asarray(self.x), np.asarray(self.y)
        kept = np.arange(x.size)
        if x.size > most:
            kept = np.sort(np.random.default_rng(0).choice(x.size, most, replace=False))
        return x.flat[kept], y.flat[kept], np.column_stack(np.divmod(kept, x.shape[1]))


@dataclass(frozen=True, eq=False)
class Matrix:
    """``values`` (rows, columns) as colours; ``x`` (columns,), ``y`` (rows,) are middles of cells.

    ``detail`` is the name of another quantity of each cell, and its values. If ``signed``, colours
    differ below and above zero; if ``raised``, it is explored as a surface that can be turned.
    """

    label: str
    x: ArrayLike
    y: ArrayLike
    values: ArrayLike
    _: KW_ONLY
    detail: tuple[str, ArrayLike] | None = None
    signed: bool = False
    raised: bool = False


Mark: TypeAlias = Series | Points | Matrix


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

    def limits(self) -> tuple[Limits, Limits]:
        """Limits of x and of y in a live plot; y begins at zero where no value is negative."""
        x = self.x_limits or _reach([line.x for line in self.lines], 0)
        y = [line.y for line in self.lines if not line.faint]
        return x, self.y_limits or _reach(y, 0.06, log=self.log)


def _reach(rows: Sequence[ArrayLike], margin: float, *, log: bool = False) -> Limits:
    """What an axis shows of these rows, as ``reach`` of plotgrid.js."""
    values = np.concatenate([*rows, ()], dtype=float)
    values = values[np.isfinite(values) & ((values > 0) | (not log))]
    if not len(values):
        return (0.1, 10.0) if log else (0.0, 1.0)
    low, high = float(values.min()), float(values.max())
    if log:
        return low / 1.5, high * 1.5
    if margin and low >= 0:
        return 0.0, high * (1 + margin) or 1.0
    if low == high:
        return low - 1, high + 1
    return low - margin * (high - low), high + margin * (high - low)


@dataclass(frozen=True, eq=False)
class Alternatives:
    """Plots by name, of which an explorable figure shows one at a time, at first ``chosen``.

    A picture has only that one; if it is None, all of them side by side.
    """

    plots: dict[str, Plot]
    chosen: str | None = None


@dataclass(frozen=True, repr=False, eq=False)
class Chart:
    """A figure; at the end of a cell it shows itself as a picture.

    It has ``columns`` plots a row, by default all; the last plot takes the width that is left. If
    ``shared``, all have the same y axis. The picture of a ``live`` chart looks as `PlotGrid`: each
    plot has a legend with the last values.
    """

    title: str
    plots: Sequence[Plot | Alternatives]
    _: KW_ONLY
    columns: int | None = None
    shared: bool = False
    live: bool = False

    # Both renderers import this module; plotly is loaded only for those who explore.
    def static(self) -> Picture:
        """Draw it with matplotlib; ``chart.static().figure.savefig("name.pdf")`` writes a file."""
        from pnnlab.views.figures import matplotlib_renderer

        return matplotlib_renderer.draw(self)

    def explore(self) -> go.Figure:
        """Draw it with plotly, to point at and to turn, thinned so that a notebook stays small."""
        from pnnlab.views.figures import plotly_renderer

        return plotly_renderer.draw(self)

    def __repr__(self) -> str:
        many = "s" * (len(self.plots) > 1)
        return f"Chart of {len(self.plots)} plot{many}"  # the same in every run

    def _repr_png_(self) -> bytes:
        return self.static()._repr_png_()


def spread(size: int, most: int) -> list[int]:
    """At most so many of 0 ... size - 1, evenly spaced, the first and the last among them."""
    return sorted({round(place) for place in np.linspace(0, size - 1, min(size, most)).tolist()})
