"""Line plots side by side, described once: alive in a page, still on paper."""

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import anywidget
import numpy as np
import traitlets
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import ArrayLike, NDArray

from pnnlab.errors import ShapeError
from pnnlab.views.parts import script, styles
from pnnlab.views.style import DARK_PALETTE, PALETTE, STYLE, Picture


@dataclass(frozen=True, kw_only=True, eq=False)
class Line:
    """One line of a panel.

    Parameters
    ----------
    label : str
        Its name in the legend.
    x, y : array_like, shape (n,)
        NaN interrupts the line.
    color : str
        A name in `pnnlab.views.style.PALETTE`.
    dash : tuple of int
        Lengths of strokes and gaps, in points; solid if empty. Lines of different meaning differ
        in more than their colour.
    faint : bool
        Background to another line: thin, pale and not in the legend.

    Raises
    ------
    ShapeError
        ``x`` and ``y`` are not one-dimensional and of one length.
    """

    label: str
    x: ArrayLike
    y: ArrayLike
    color: str = "blue"
    dash: tuple[int, ...] = ()
    faint: bool = False
    markers: bool = False

    def __post_init__(self) -> None:
        shapes = np.shape(self.x), np.shape(self.y)
        if len(shapes[0]) != 1 or shapes[0] != shapes[1]:
            raise ShapeError(
                f"line {self.label!r}: x has shape {shapes[0]} and y {shapes[1]}; "
                "give two one-dimensional arrays of one length."
            )
        if self.color not in PALETTE:
            raise ShapeError(f"no colour {self.color!r}; choose from {', '.join(PALETTE)}.")

    def spec(self) -> dict[str, Any]:
        """Everything that a page needs to draw it, but for the points."""
        return {
            "label": self.label,
            "n": len(np.asarray(self.x)),
            "light": PALETTE[self.color],
            "dark": DARK_PALETTE[self.color],
            "dash": list(self.dash),
            "faint": self.faint,
            "markers": self.markers,
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class Panel:
    """What a line plot shows.

    Parameters
    ----------
    unit : str
        Follows the values in the legend.
    x_range, y_range : (float, float), optional
        By default what the lines need, with ``y`` from zero where no value is negative.
    log : bool
        Draw ``y`` on a logarithmic scale; values that are not positive are left out.
    note : str
        Text in the middle of a panel that has no points to show.
    """

    title: str
    y_label: str
    lines: Sequence[Line] = ()
    x_label: str = "step"
    unit: str = ""
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    log: bool = False
    note: str = ""

    @property
    def empty(self) -> bool:
        """Whether there is no point to show."""
        return all(len(np.asarray(line.x)) == 0 for line in self.lines)

    def ranges(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """The ranges of x and of y."""
        x = self.x_range or _range([line.x for line in self.lines], 0.0)
        values = [line.y for line in self.lines if not line.faint]
        return x, self.y_range or (_log_range(values) if self.log else _range(values, 0.06))

    def spec(self) -> dict[str, Any]:
        """Everything that a page needs to draw it, but for the points."""
        return {
            "title": self.title,
            "x_label": self.x_label,
            "y_label": self.y_label,
            "unit": self.unit,
            "note": self.note if self.empty else "",
            "log": self.log,
            # What is not given, the page finds as `ranges` does: it is part of no update's cost.
            "x_range": self.x_range and list(self.x_range),
            "y_range": self.y_range and list(self.y_range),
            "lines": [line.spec() for line in self.lines],
        }

    def draw(self, axes: Axes) -> None:
        """Draw it, still, into matplotlib's ``axes``."""
        x_range, y_range = self.ranges()
        for line in self.lines:
            axes.plot(
                line.x,
                line.y,
                color=PALETTE[line.color],
                linestyle=(0, line.dash) if line.dash else "-",
                linewidth=0.7 if line.faint else 1.8,
                alpha=0.45 if line.faint else 1,
                marker="o" if line.markers and not line.faint else None,
                label=None if line.faint else _named(line, self.unit),
            )
        axes.set(title=self.title, xlabel=self.x_label, ylabel=self.y_label)
        if self.log:
            axes.set_yscale("log")
            near = y_range[1] < 50 * y_range[0]
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if near else (1,)))
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set(xlim=x_range, ylim=y_range)
        if self.empty:
            text = axes.text(0.5, 0.5, self.note, ha="center", va="center", color="#555555")
            text.set_transform(axes.transAxes)
        elif len(self.lines) > 0:
            axes.legend()


def _range(values: Sequence[ArrayLike], margin: float) -> tuple[float, float]:
    numbers = _finite(values)
    if len(numbers) == 0:
        return 0.0, 1.0
    low, high = float(numbers.min()), float(numbers.max())
    if margin and low >= 0:
        return 0.0, high * (1 + margin) or 1.0
    if low == high:
        return low - 1, high + 1
    return low - margin * (high - low), high + margin * (high - low)


def _log_range(values: Sequence[ArrayLike]) -> tuple[float, float]:
    numbers = _finite(values)
    numbers = numbers[numbers > 0]
    if len(numbers) == 0:
        return 0.1, 10.0
    return float(numbers.min()) / 1.5, float(numbers.max()) * 1.5


def _finite(values: Sequence[ArrayLike]) -> NDArray[np.float64]:
    numbers = np.concatenate([*values, ()], dtype=float)
    return numbers[np.isfinite(numbers)]


def _named(line: Line, unit: str) -> str:
    """The line's name with its last value."""
    values = np.asarray(line.y, dtype=float)
    if len(values) == 0 or not math.isfinite(values[-1]):
        return line.label
    return f"{line.label}  {number(float(values[-1]))}{f' {unit}' if unit else ''}"


def number(value: float) -> str:
    """Three significant digits, never in powers of ten where that is hard to read."""
    if value and not 1e-4 <= abs(value) < 1e6:
        return f"{value:.2e}"
    digits = 2 - math.floor(math.log10(abs(value))) if value else 0
    return f"{value:.{max(0, min(digits, 6))}f}"


@final
class PlotGrid(anywidget.AnyWidget):
    """Panels in a notebook, two a row where the page is wide enough, light and dark.

    It is made for running data: an update is one message, however many panels there are, with
    all points as 32-bit floats. Pointing at a panel shows the values at one x.
    """

    _esm = script("plotgrid")
    _css = styles("shared", "plotgrid")
    panels = traitlets.List(trait=traitlets.Dict()).tag(sync=True)
    points = traitlets.Bytes(b"").tag(sync=True)

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()  # a task and the dashboard may draw at once

    def show(self, panels: Sequence[Panel]) -> None:
        """Show ``panels`` from now on; what has not changed is not sent."""
        shown = [panel.spec() for panel in panels]
        rows = [row for panel in panels for line in panel.lines for row in (line.x, line.y)]
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
        """Tell who observes; the page too, unless `show` tells it, at less cost."""
        shown = change["name"] in {"panels", "points"}
        (traitlets.HasTraits if shown else anywidget.AnyWidget).notify_change(self, change)


def still(panels: Sequence[Panel], title: str) -> Picture:
    """The same panels as a picture, two a row."""
    rows = (len(panels) + 1) // 2
    with rc_context(dict(STYLE)):
        figure = Figure(figsize=(9.6, 0.6 + 2.9 * rows), layout="constrained")
        grid = figure.subplots(rows, 2, squeeze=False).flat
        for place, axes in enumerate(grid):
            if place < len(panels):
                panels[place].draw(axes)
            else:
                axes.remove()
        figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return Picture(figure)
