"""Line plots side by side, alive and still."""

import threading
from collections.abc import Sequence
from typing import final

import ipywidgets as widgets
from matplotlib import rc_context
from matplotlib.figure import Figure

from pnnlab.views.lineplot import LinePlot, Panel
from pnnlab.views.style import STYLE, Picture


@final
class PlotGrid:
    """Room for some panels, two a row where the page is wide enough.

    Parameters
    ----------
    most : int
        How many panels there may be.

    Attributes
    ----------
    plots : tuple of LinePlot
    widget : ipywidgets.Box
    """

    def __init__(self, most: int) -> None:
        self._lock = threading.Lock()  # a task and the dashboard may draw at once
        self.plots = tuple(LinePlot() for _ in range(most))
        self.widget = widgets.Box(self.plots)
        self.widget.add_class("pnn-plots")

    def show(self, panels: Sequence[Panel]) -> None:
        """Show ``panels``, as many as there are."""
        with self._lock:
            for plot, panel in zip(self.plots, panels, strict=False):
                plot.show(panel)
            for place, plot in enumerate(self.plots):
                plot.layout.display = None if place < len(panels) else "none"


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
