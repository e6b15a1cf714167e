"""A live view of a sweep: how far it is, and the accuracies as they come."""

import threading
from functools import partial
from html import escape
from typing import final

import ipywidgets as widgets
import numpy as np

from pnnlab.results.sweeping import Sweep
from pnnlab.views.chart import Chart, Plot, Series
from pnnlab.views.dashboard import show
from pnnlab.views.parts import RefreshLoop, View, duration, frame, show_error, status, tiles
from pnnlab.views.plotgrid import PlotGrid
from pnnlab.views.style import Picture, line_style


@final
class SweepView(View):
    """A live view of a sweep; at the end of a cell it shows itself.

    Tasks that are done, running and failed, the time left, the accuracies by method in the order in
    which they come, and the address of Dask's dashboard.

    Parameters
    ----------
    sweep : Sweep
        What to observe; `run` runs it.
    """

    alt_text = "Sweep"

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep
        self._lock = threading.Lock()
        self._state, self._tiles, self._error = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self.plots = PlotGrid()
        self.widget = frame("dashboard", self._state, self._error, self._tiles, self.plots)
        loop = RefreshLoop(self.refresh, lambda: sweep.active)
        sweep.observers.append(loop.wake)
        self._ending = partial(sweep.observers.remove, loop.wake), loop.close
        self.refresh()

    def run(self) -> Sweep:
        """Show the view, and do what is not done; then show its picture."""
        show(self)
        try:
            return self.sweep.run(progress=False)
        finally:
            show(self.figure())

    def figure(self) -> Picture:
        """What the view shows now, as a still picture."""
        self.refresh()
        return Chart(self.sweep.summary(), [accuracies(self.sweep)], columns=1).static()

    def refresh(self) -> None:
        """Show the sweep as it is now. While it is active this happens by itself."""
        sweep, errors = self.sweep, [one.error for one in list(self.sweep.failed.values())]
        with self._lock:
            link = sweep.dashboard and escape(sweep.dashboard, quote=True)
            link = f' <a href="{link}" target="_blank">Dask\'s dashboard</a>' if link else ""
            self._state.value = status(sweep.summary()) + link
            show_error(self._error, "\n".join(filter(None, errors[:3])))
            self._tiles.value = tiles_html(sweep)
            self.plots.show([accuracies(sweep)])


def tiles_html(sweep: Sweep) -> str:
    """The numbers of the moment, and how far the sweep is."""
    values = {
        "Done": f"{len(sweep.done)} <small>of {len(sweep.jobs)}</small>",
        "Running": sweep.running,
        "Failed": len(sweep.failed),
    }
    if sweep.active and sweep.seconds_left is not None:
        values["Time left"] = duration(sweep.seconds_left)
    return tiles(values, "Tasks ended", len(sweep.done) + len(sweep.failed), len(sweep.jobs))


def accuracies(sweep: Sweep) -> Plot:
    """Mean accuracy so far of each method, as it is used: `Row.used`. In the order of ending."""
    found: dict[str, list[tuple[int, float]]] = {}
    for number, one in enumerate(list(sweep.done.values()), start=1):
        for row in one.rows:
            if (used := row.used) is not None:
                found.setdefault(row.method, []).append((number, 100 * used))
    lines = []
    for place, (method, points) in enumerate(sorted(found.items())):
        x, y = np.array(points, float).T
        mean = np.cumsum(y) / np.arange(1, len(y) + 1)
        lines.append(Series(method, x, mean, style=line_style(place), markers=True))
    note = "waiting for the first task"
    title, limits = "Mean accuracy so far", (0.0, float(len(sweep.jobs)))
    return Plot(title, "tasks ended", "accuracy (%)", lines, unit="%", x_limits=limits, note=note)
