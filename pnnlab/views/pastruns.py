"""Past runs: what the folders hold, and the curves of those that are opened."""

import threading
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any, final

import ipywidgets as widgets

from pnnlab.errors import RunError
from pnnlab.runs import EventRow, RunInfo, list_runs
from pnnlab.storage import user_path
from pnnlab.views.comparison import Comparison, RecordedRun
from pnnlab.views.parts import View, alert, bar, button, count, discard, style_sheet
from pnnlab.views.plotgrid import PlotGrid, still
from pnnlab.views.style import Picture
from pnnlab.views.table import Table, table_row
from pnnlab.views.training_panels import training_panels

COLUMNS = {
    "Run": False,
    "Description": False,
    "Began (UTC)": False,
    "Step": True,
    "Metric on device": True,
}


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
    widget : ipywidgets.VBox
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
        self.table = Table("Past runs", COLUMNS, choosing="Open")
        self._message = widgets.HTML()
        self._below = widgets.VBox()
        controls = bar(self.again, self._message)
        self.widget = widgets.VBox(
            [style_sheet("view", "dashboard"), controls, self.table, self._below]
        )
        self.widget.add_class("pnn-dashboard")
        self.table.observe(lambda _: self._show(), "chosen")
        self.refresh()

    def figure(self) -> Picture:
        """The curves of the opened runs, as a still picture.

        Raises
        ------
        RunError
            No run is open.
        """
        with self._lock:
            if self._comparison is not None:
                return self._comparison.figure()
            if self._run is not None:
                return still(training_panels(self._run), self._open[0])
        raise RunError("no run is open: choose one in the table, or set table.chosen.")

    def refresh(self) -> None:
        """List the folder again, and read what came to the opened runs since."""
        with self._lock:
            runs = list_runs(self.root)
            names = [run.folder.relative_to(self.root).as_posix() for run in runs]
            self.table.rows = [run_row(run, name) for run, name in zip(runs, names, strict=True)]
            found = count(len(runs)) if runs else "no"
            self._message.value = (
                f'<div role="status" class="pnn-said">{found} run{"s" * (len(runs) != 1)} in '
                f"<code>{escape(str(self.root))}</code></div>"
            )
            self.table.chosen = [name for name in self.table.chosen if name in names]
            self._open = ()
            self._show()

    def close(self) -> None:
        """Take the widgets off the page."""
        with self._lock:
            self._clear()
            discard(self.widget)

    def _clear(self) -> None:
        if self._comparison is not None:
            self._comparison.close()
        self._comparison = self._run = None
        shown, self._below.children = self._below.children, ()
        for child in shown:
            discard(child)

    def _show(self) -> None:
        """Open what is chosen, and nothing else."""
        with self._lock:
            chosen = tuple(self.table.chosen)
            if chosen == self._open:
                return
            self._clear()
            self._open = chosen
            try:
                if len(chosen) == 1:
                    self._below.children = self._one(chosen[0])
                elif chosen:
                    self._comparison = Comparison({name: self.root / name for name in chosen})
                    self._below.children = (self._comparison.widget,)
            except RunError as error:
                self._below.children = (widgets.HTML(alert(error)),)

    def _one(self, name: str) -> tuple[widgets.Widget, ...]:
        self._run = RecordedRun(self.root / name)
        grid = PlotGrid()
        grid.show(training_panels(self._run))
        info = self._run.info
        html = provenance_html(name, info.provenance) + events_html(info.events)
        return widgets.HTML(html), grid


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


def provenance_html(name: str, provenance: dict[str, Any]) -> str:
    """Versions, source and platform of a run, in a line."""
    labels = {"pnnlab": "pnnlab ", "torch": "torch ", "commit": "source ", "platform": ""}
    parts = [f"{label}{provenance[key]}" for key, label in labels.items() if provenance.get(key)]
    return f'<div class="pnn-said"><b>{escape(name)}</b> &nbsp; {escape("  ·  ".join(parts))}</div>'


def events_html(events: Sequence[EventRow]) -> str:
    """What changed in a run, or went wrong, the latest first; empty if nothing did."""
    lines = [
        f"<li>step {count(event.step)}, {escape(event.time[:19].replace('T', ' '))}: "
        f"{escape(event.message)}</li>"
        for event in reversed(events)
    ]
    if not lines:
        return ""
    scroll = 'tabindex="0" aria-label="Events" style="max-height: 12em; overflow: auto"'
    return f'<div class="pnn-said">Events (UTC)<ul {scroll}>{"".join(lines)}</ul></div>'
