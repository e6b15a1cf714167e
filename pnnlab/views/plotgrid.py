"""Live plots in a page: the same `Plot` that charts are made of."""

import threading
from collections.abc import Sequence
from typing import Any, final

import anywidget
import numpy as np
import traitlets
from numpy.typing import ArrayLike

from pnnlab.views.chart import Plot, Series
from pnnlab.views.parts import PageWidget, script, styles
from pnnlab.views.style import BAND, colors


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
