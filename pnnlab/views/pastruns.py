"""Past runs: what the folders hold, and the curves of those that are opened."""

import threading
from html import escape
from pathlib import Path
from typing import Any, final

import ipywidgets as widgets

from pnnlab.errors import RunError
from pnnlab.runs import RunInfo, list_runs
from pnnlab.storage import user_path
from pnnlab.views.comparison import Comparison
from pnnlab.views.figures.chart import Chart
from pnnlab.views.parts import View, alert, bar, button, count, discard, frame, status
from pnnlab.views.plotgrid import PlotGrid
from pnnlab.views.style import Picture
from pnnlab.views.table import Table, table_row
from pnnlab.views.training_plots import RecordedRun, training_plots

TEXTS, NUMBERS = ("Run", "Description", "Began (UTC)"), ("Step", "Metric on device")


@final
class PastRuns(View):
    """A table of all runs in a folder; open one to see its curves, or several to compare them.

    It only reads: runs that are going on, here or in another process, are not disturbed.

    Parameters
    ----------
    root : path
        Folder of run folders, at any depth.

    Attributes
    ----------
    table : Table
        Its chosen rows are open; the key of a row is the path of its folder below ``root``.
    """

    alt_text = "Past runs"

    def __init__(self, root: str | Path) -> None:
        self.root = user_path(root)
        self._lock = threading.RLock()
        self._open: tuple[str, ...] = ()
        self._run: RecordedRun | None = None
        self._comparison: Comparison | None = None
        self.again = button("Read again", "refresh", self.refresh)
        self.table = Table("Past runs", TEXTS, NUMBERS, choosing="Open")
        self._message = widgets.HTML()
        self._below = widgets.VBox()
        controls = bar(self.again, self._message)
        self.widget = frame("dashboard", controls, self.table, self._below)
        self.table.observe(lambda _: self._show(), "chosen")
        self.refresh()

    def figure(self) -> Picture:
        """The curves of the opened runs, as a still picture; `RunError` if none is open."""
        with self._lock:
            if self._comparison is not None:
                return self._comparison.figure()
            if self._run is not None:
                plots = training_plots(self._run)
                return Chart(self._open[0], plots, columns=2, live=True).static()
        raise RunError("no run is open: choose one in the table, or set table.chosen.")

    def refresh(self) -> None:
        """List the folder again, and read what came to the opened runs since."""
        with self._lock:
            runs = list_runs(self.root)
            names = [run.folder.relative_to(self.root).as_posix() for run in runs]
            self.table.rows = [run_row(run, name) for run, name in zip(runs, names, strict=True)]
            found = count(len(runs)) if runs else "no"
            plural = "s" * (len(runs) != 1)
            self._message.value = status(f"{found} run{plural} in {self.root}")
            self.table.chosen = [name for name in self.table.chosen if name in names]
            self._open = ()
            self._show()

    def close(self) -> None:
        """Take the widgets off the page."""
        with self._lock:
            self._clear()
            super().close()

    def _clear(self) -> None:
        if self._comparison is not None:
            self._comparison.close()
        self._comparison = self._run = None
        shown, self._below.children = self._below.children, ()
        for child in shown:
            discard(child)

    def _show(self) -> None:
        with self._lock:
            chosen = tuple(self.table.chosen)
            if chosen == self._open:
                return
            self._clear()
            self._open = chosen
            try:
                if len(chosen) == 1:
                    self._run = RecordedRun(self.root / chosen[0])
                    grid = PlotGrid()
                    grid.show(training_plots(self._run))
                    self._below.children = (_about(chosen[0], self._run.info), grid)
                elif chosen:
                    self._comparison = Comparison({name: self.root / name for name in chosen})
                    self._below.children = (self._comparison.widget,)
            except RunError as error:
                self._below.children = (widgets.HTML(alert(error)),)


def run_row(run: RunInfo, name: str) -> dict[str, Any]:
    """A run as a row of the table."""
    metric = run.device_metric
    cells = [
        (name, name),
        (run.description or "–", run.description or None),
        (run.began[:19].replace("T", " "), run.began),
        (f"{count(run.step)} of {count(run.steps)}" if run.steps else "–", run.step),
        (run.labels.text(metric), metric),
    ]
    return table_row(name, cells, note=run.problem)


def _about(name: str, run: RunInfo) -> widgets.HTML:
    """Versions, source and platform of a run; what changed in it or went wrong, latest first."""
    labels = {"pnnlab": "pnnlab ", "torch": "torch ", "commit": "source ", "platform": ""}
    known = run.provenance
    parts = "  ·  ".join(f"{label}{known[key]}" for key, label in labels.items() if known.get(key))
    html = f"<b>{escape(name)}</b> &nbsp; {escape(parts)}"
    events = [
        f"<li>step {count(event.step)}, {escape(event.time[:19].replace('T', ' '))}: "
        f"{escape(event.message)}</li>"
        for event in reversed(run.events)
    ]
    if events:
        scroll = 'tabindex="0" aria-label="Events" style="max-height: 12em; overflow: auto"'
        html += f"<div>Events (UTC)<ul {scroll}>{''.join(events)}</ul></div>"
    return widgets.HTML(f'<div class="pnn-message">{html}</div>')
