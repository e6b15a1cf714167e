"""Several trainings in one picture: what each has reached, and at what cost."""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Literal, TypeAlias, final

import ipywidgets as widgets
import numpy as np

from pnnlab.background import Session
from pnnlab.errors import RunError
from pnnlab.runs import Run
from pnnlab.training import CLASSIFICATION, Record
from pnnlab.views.controls import OneOf
from pnnlab.views.dashboard.board import TITLES
from pnnlab.views.dashboard.panels import metric_label, metric_range
from pnnlab.views.lineplot import Line, Panel
from pnnlab.views.parts import (
    RefreshLoop,
    View,
    alert,
    button,
    count,
    duration,
    style_sheet,
)
from pnnlab.views.past import Kept, Past, Watched
from pnnlab.views.plotgrid import PlotGrid, still
from pnnlab.views.style import Picture
from pnnlab.views.table import Column, Look, Table, TableRow, look

Against: TypeAlias = Literal["steps", "passes", "time"]
Source: TypeAlias = Session | Run | str | Path | Sequence[Record]

AXES: Mapping[Against, str] = {
    "steps": "step",
    "passes": "device passes",
    "time": "training time",
}
INTERVAL = 0.5  # seconds between two updates
PATIENCE = 60.0  # seconds that a journal may stand still before it is no longer looked at
COLUMNS = (
    Column(name="Training"),
    Column(name="State"),
    Column(name="Step", numeric=True),
    Column(name="On device", numeric=True),
    Column(name="best", numeric=True),
    Column(name="On twin", numeric=True),
    Column(name="Device passes", numeric=True),
    Column(name="Training time", numeric=True),
)


@final
class Comparison(View):
    """Metric and loss on the device of several trainings, over steps, device passes or time.

    Sessions are followed while they run, and run folders while they grow, also from another
    process. At the end of a cell it shows itself; it changes none of the trainings.

    Parameters
    ----------
    runs : mapping of str to Session, Run, path or sequence of Record
        What each is called, and where it is found: a path is that of a run folder.
    against : {"steps", "passes", "time"}
        The axis to begin with.

    Attributes
    ----------
    widget : ipywidgets.VBox
    against : OneOf
    table : Table
        Its chosen rows are drawn.

    Raises
    ------
    RunError
        There is nothing to compare, or no run where a path leads.
    """

    alt_text = "Comparison of trainings"

    def __init__(self, runs: Mapping[str, Source], *, against: Against = "steps") -> None:
        if not runs:
            raise RunError("there is nothing to compare: give at least one session or run folder.")
        self.trainings = {name: watched(source) for name, source in runs.items()}
        self._sessions = [run for run in self.trainings.values() if isinstance(run, Session)]
        self._kept = [run for run in self.trainings.values() if isinstance(run, Kept)]
        self._grew = time.monotonic()
        self._problem = ""
        self._lock = threading.Lock()
        self._looks = {name: look(place) for place, name in enumerate(runs)}
        axes = {"steps": "steps", "passes": "device passes", "time": "time"}
        self.against = OneOf(axes, label="Against")
        self.against.value = against
        self.again = button("Read again", "refresh", self.read)
        self.table = Table(label="Trainings compared", choosing="Show", chosen=list(runs))
        self._said = widgets.HTML()
        self._grid = PlotGrid()
        bar = widgets.HBox([self.against.widget, *([self.again] if self._kept else [])])
        bar.add_class("pnn-bar")
        self.widget = widgets.VBox(
            [style_sheet("view", "dashboard"), bar, self._grid, self._said, self.table]
        )
        self.widget.add_class("pnn-dashboard")
        self._refresh_loop = RefreshLoop(self.refresh, self._going, interval=INTERVAL)
        self._forget = [session.on_change(self._refresh_loop.wake) for session in self._sessions]
        self.against.observe(lambda _: self.refresh(), "value")
        self.table.observe(lambda _: self.refresh(), "chosen")
        self.refresh()
        if self._going():
            self._refresh_loop.wake()

    def figure(self) -> Picture:
        """What is shown now, as a still picture."""
        self.refresh()
        panels = comparison_panels(self._shown(), self.against.value, self._looks)
        return still(panels, f"{len(self.trainings)} trainings compared")

    def refresh(self) -> None:
        """Show the trainings as they are now. While any of them goes on this happens by itself."""
        with self._lock:
            self._read()
            panels = comparison_panels(self._shown(), self.against.value, self._looks)
            self._grid.show(panels)
            self.table.show(COLUMNS, [self._row(name) for name in self.trainings])
            self._said.value = self._words()

    def read(self) -> None:
        """Look at the run folders again, and follow those that grow."""
        self._grew = time.monotonic()
        self.refresh()
        self._refresh_loop.wake()

    def close(self) -> None:
        """Stop observing, and take the widgets off the page. The trainings go on."""
        self._refresh_loop.close()
        for forget in self._forget:
            forget()
        super().close()

    def _going(self) -> bool:
        waiting = any(not run.whole for run in self._kept)
        growing = waiting and time.monotonic() - self._grew < PATIENCE
        return growing or any(session.active for session in self._sessions)

    def _read(self) -> None:
        self._problem = ""
        for run in self._kept:
            try:
                if not run.whole and run.read():
                    self._grew = time.monotonic()
            except RunError as error:
                self._problem = str(error)

    def _shown(self) -> dict[str, Watched]:
        return {name: run for name, run in self.trainings.items() if name in self.table.chosen}

    def _words(self) -> str:
        said = [alert(self._problem)] if self._problem else []
        free = [name for name, run in self._shown().items() if not _passes(run)]
        if self.against.value == "passes" and free:
            said.append(f"No device passes, and so not in these plots: {escape(', '.join(free))}.")
        return "".join(said)

    def _row(self, name: str) -> TableRow:
        run = self.trainings[name]
        latest, evaluated = run.latest, run.evaluations
        last = evaluated[-1] if evaluated else None
        best = max(
            (r.device_metric for r in evaluated if r.device_metric is not None), default=None
        )
        on_device = last.device_metric if last else None
        on_twin = last.twin_metric if last else None
        step = latest.step if latest else 0
        passes = latest.device_passes if latest else 0
        seconds = latest.seconds if latest else 0.0
        return TableRow(
            key=name,
            look=self._looks[name],
            cells=[
                (name, name),
                (state := _state(run), state),
                (f"{count(step)} of {count(latest.steps)}" if latest else "–", step),
                (run.labels.text(on_device), on_device),
                (run.labels.text(best), best),
                (run.labels.text(on_twin), on_twin),
                (count(passes) if passes else "–", passes or None),
                (duration(seconds), round(seconds, 1)),
            ],
        )


def watched(source: Source) -> Session | Kept | Past:
    """What a view can watch of ``source``.

    Raises
    ------
    RunError
        There is no run where a path leads, or ``source`` is nothing of what is named.
    """
    if isinstance(source, Session):
        return source
    if isinstance(source, Run):
        return Kept(source.folder)
    if isinstance(source, str | Path):
        return Kept(source)
    if all(isinstance(one, Record) for one in source):
        return Past(source)
    raise RunError(
        f"{type(source).__name__} cannot be compared: give a Session, a Run, the path of a run "
        "folder, or a list of Records."
    )


def comparison_panels(
    trainings: Mapping[str, Watched], against: Against, looks: Mapping[str, Look]
) -> list[Panel]:
    """Metric and loss on the device, one line a training, over what ``against`` says."""
    seen = [
        (name, run.evaluations)
        for name, run in trainings.items()
        if against != "passes" or _passes(run)
    ]
    unit, scale = _unit(against, [record for _, records in seen for record in records])

    def lines(field: str, factor: float) -> list[Line]:
        return [
            Line(
                label=name,
                x=np.array([_cost(record, against) / scale for record in records], dtype=float),
                y=np.array([getattr(record, field) for record in records], dtype=float) * factor,
                color=looks[name].color,
                dash=looks[name].dash,
                markers=True,
            )
            for name, records in seen
        ]

    x_label = AXES[against] + unit
    most = max((_cost(record, against) for _, records in seen for record in records), default=0)
    x_range = (0.0, most / scale or 1.0)
    note = "no training is chosen" if not trainings else "shown at the first evaluation"
    kinds = {run.labels for run in trainings.values()} or {CLASSIFICATION.labels}
    # Trainings of different objectives share their axes, which then name all of them.
    labels = replace(
        next(iter(kinds)),
        loss=", ".join(sorted({kind.loss for kind in kinds})),
        metric=", ".join(sorted({kind.metric for kind in kinds})),
        percent=all(kind.percent for kind in kinds),
    )
    metric = lines("device_metric", labels.factor)
    values = [labels.factor * (r.device_metric or 0.0) for _, records in seen for r in records]
    return [
        Panel(
            title=f"{labels.metric.capitalize()} on the device",
            y_label=metric_label(labels),
            x_label=x_label,
            unit="%" if labels.percent else "",
            lines=metric,
            x_range=x_range,
            y_range=metric_range(labels, values),
            note=note,
        ),
        Panel(
            title="Loss on the device",
            y_label=labels.loss,
            x_label=x_label,
            lines=lines("device_loss", 1.0),
            x_range=x_range,
            note=note,
        ),
    ]


def _cost(record: Record, against: Against) -> float:
    costs = {"steps": record.step, "passes": record.device_passes, "time": record.seconds}
    return costs[against]


def _unit(against: Against, records: Sequence[Record]) -> tuple[str, float]:
    """The unit of the axis, as it follows its name, and its size."""
    if against != "time":
        return "", 1.0
    longest = max((record.seconds for record in records), default=0.0)
    if longest < 180:
        return " (s)", 1.0
    return (" (min)", 60.0) if longest < 3 * 3600 else (" (h)", 3600.0)


def _passes(run: Watched) -> int:
    return run.latest.device_passes if run.latest is not None else 0


def _state(run: Session | Kept | Past) -> str:
    if isinstance(run, Session):
        return TITLES[run.status]
    latest = run.latest
    if latest is None:
        return "Begun"
    return "Finished" if latest.step >= latest.steps else "Unfinished"
