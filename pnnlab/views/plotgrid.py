"""Line plots side by side, alive and still."""

import threading
from collections.abc import Sequence
from typing import Any, final

import anywidget
import numpy as np
import traitlets
from matplotlib import rc_context
from matplotlib.figure import Figure

from pnnlab.views.lineplot import Panel
from pnnlab.views.parts import script, styles
from pnnlab.views.style import STYLE, Picture


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
        rows = [row for panel in panels for row in panel.rows()]
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
