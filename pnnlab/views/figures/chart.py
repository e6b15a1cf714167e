"""What a figure shows, described once as data: matplotlib draws it for print, plotly to explore."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pnnlab.views.style import LineStyle, Picture, line_style

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
    (n,) to its upper one, ``steps`` draws bars from zero. If not ``shown``, a picture is without
    it, and the legend of an explorable figure switches it on.
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
    shown: bool = True


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
    are None are left to the data; ``log`` makes y logarithmic.
    """

    title: str
    x_label: str
    y_label: str
    marks: Sequence[Mark]
    _: KW_ONLY
    x_limits: Limits | None = None
    y_limits: Limits | None = None
    log: bool = False

    @property
    def whole(self) -> bool:
        """Whether x takes only whole numbers."""
        return all(np.asarray(mark.x).dtype.kind == "i" for mark in self.marks)

    @property
    def raised(self) -> bool:
        """Whether it is explored as a surface."""
        return any(isinstance(mark, Matrix) and mark.raised for mark in self.marks)


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
    ``shared``, all have the same y axis.
    """

    title: str
    plots: Sequence[Plot | Alternatives]
    _: KW_ONLY
    columns: int | None = None
    shared: bool = False

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
