"""Several trainings in one picture: what each has reached, and at what cost."""

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any, Literal, TypeAlias, final

import ipywidgets as widgets
import numpy as np

from pnnlab.background import Session
from pnnlab.errors import RunError
from pnnlab.runs import Run, read_journal, read_run
from pnnlab.storage import user_path
from pnnlab.training import CLASSIFICATION, Curves, History, Labels, Record
from pnnlab.views.controls import OneOf
from pnnlab.views.dashboard import TITLES
from pnnlab.views.parts import (
    RefreshLoop,
    View,
    alert,
    bar,
    button,
    count,
    discard,
    duration,
    style_sheet,
)
from pnnlab.views.plotgrid import Line, Panel, PlotGrid, still
from pnnlab.views.style import LineStyle, Picture, line_style
from pnnlab.views.table import Cell, Table, table_row
from pnnlab.views.training_panels import TrainingRecord, metric_label, metric_range

Against: TypeAlias = Literal["steps", "passes", "time"]
Source: TypeAlias = Session | Run | str | Path | Sequence[Record]

AXES: Mapping[Against, tuple[str, str, str]] = {  # button, label of the axis, field of a record
    "steps": ("steps", "step", "step"),
    "passes": ("device passes", "device passes", "device_passes"),
    "time": ("time", "training time", "seconds"),
}
INTERVAL = 0.5  # seconds between two updates
PATIENCE = 60.0  # seconds that a journal may stand still before it is no longer read
NUMERIC = ("Step", "On device", "best", "On twin", "Device passes", "Training time")
COLUMNS = {"Training": False, "State": False} | dict.fromkeys(NUMERIC, True)


class Recorded:
    """A training that is over, or runs elsewhere: the records of it, in bounded memory."""

    labels: Labels = CLASSIFICATION.labels
    latest: Record | None = None

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self._history = History()
        self._add(records)

    @property
    def evaluations(self) -> tuple[Record, ...]:
        """Records that hold an evaluation, oldest first; thinned, but never the latest."""
        return tuple(self._history.evaluations)

    @property
    def finished(self) -> bool:
        """Whether the training has come to its end."""
        return self.latest is not None and self.latest.step >= self.latest.steps

    def curves(self) -> Curves:
        """Loss, batch metric and clamping over the steps."""
        return self._history.curves()

    def _add(self, records: Iterable[Record]) -> None:
        for record in records:
            self._history.add(record)
            self.latest = record


@final
class RecordedRun(Recorded):
    """A run folder, read as far as its journal goes; `read` again for what came since.

    Raises
    ------
    RunError
        There is no run in ``folder``, or its journal cannot be read.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self.folder = user_path(folder)
        self._reading = threading.Lock()
        self.info = read_run(self.folder)
        self.labels = self.info.labels
        self.read()

    def read(self) -> bool:
        """Read what was written since, and return whether there was anything.

        Raises
        ------
        RunError
            The journal can no longer be read.
        """
        with self._reading:
            latest = self.latest
            if latest is None:
                new = read_journal(self.folder)
            else:
                new = read_journal(self.folder, latest.step - 1)
                if not new or new[0] != latest:  # resumed: these steps were taken anew
                    anew = Recorded(read_journal(self.folder))
                    self._history, self.latest = anew._history, anew.latest
                    return True
                del new[0]
            self._add(new)
            return bool(new)


@final
class Comparison(View):
    """Metric and loss on the device of several trainings, over steps, device passes or time.

    Sessions are followed while they run, and run folders while they grow, also from another
    process. At the end of a cell it shows itself; it changes none of the trainings.

    Parameters
    ----------
    runs : mapping of str to Session, Run, path or sequence of Record
        A name and a source for each: a path is that of a run folder.
    against : {"steps", "passes", "time"}
        The axis to begin with.

    Attributes
    ----------
    widget : ipywidgets.VBox
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
        self.trainings = {name: recorded(source) for name, source in runs.items()}
        self._sessions = [run for run in self.trainings.values() if isinstance(run, Session)]
        self._folders = [run for run in self.trainings.values() if isinstance(run, RecordedRun)]
        self._grew = time.monotonic()
        self._problem = ""
        self._lock = threading.Lock()
        self._looks = {name: line_style(place) for place, name in enumerate(runs)}
        names = {against: name for against, (name, _, _) in AXES.items()}
        self.against = OneOf(names, label="Against")
        self.against.value = against
        self.again = button("Read again", "refresh", self.read)
        self.table = Table("Trainings compared", COLUMNS, choosing="Show", chosen=list(runs))
        self._message = widgets.HTML()
        self._grid = PlotGrid()
        controls = bar(self.against.widget, *([self.again] if self._folders else []))
        self.widget = widgets.VBox(
            [style_sheet("view", "dashboard"), controls, self._grid, self._message, self.table]
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
        return still(self._panels(), f"{len(self.trainings)} trainings compared")

    def refresh(self) -> None:
        """Show the trainings as they are now. While any of them goes on this happens by itself."""
        with self._lock:
            self._read()
            self._grid.show(self._panels())
            self.table.rows = [self._row(name) for name in self.trainings]
            self._message.value = self._html()

    def read(self) -> None:
        """Read the run folders again, and follow those that grow."""
        self._grew = time.monotonic()
        self.refresh()
        self._refresh_loop.wake()

    def close(self) -> None:
        """Stop observing, and take the widgets off the page. The trainings go on."""
        self._refresh_loop.close()
        for forget in self._forget:
            forget()
        discard(self.widget)

    def _going(self) -> bool:
        waiting = any(not run.finished for run in self._folders)
        growing = waiting and time.monotonic() - self._grew < PATIENCE
        return growing or any(session.active for session in self._sessions)

    def _read(self) -> None:
        self._problem = ""
        for run in self._folders:
            try:
                if not run.finished and run.read():
                    self._grew = time.monotonic()
            except RunError as error:
                self._problem = str(error)

    def _shown(self) -> dict[str, Session | Recorded]:
        return {name: run for name, run in self.trainings.items() if name in self.table.chosen}

    def _panels(self) -> list[Panel]:
        return comparison_panels(self._shown(), self.against.value, self._looks)

    def _html(self) -> str:
        html = alert(self._problem) if self._problem else ""
        free = [name for name, run in self._shown().items() if not _passes(run)]
        if self.against.value == "passes" and free:
            html += f"No device passes, and so not in these plots: {escape(', '.join(free))}."
        return html

    def _row(self, name: str) -> dict[str, Any]:
        run = self.trainings[name]
        latest, evaluated = run.latest, run.evaluations
        metrics = [r.device_metric for r in evaluated if r.device_metric is not None]
        on_device, on_twin = (
            (evaluated[-1].device_metric, evaluated[-1].twin_metric) if evaluated else (None, None)
        )
        step, seconds = (latest.step, latest.seconds) if latest else (0, 0.0)
        best, passes, state = max(metrics, default=None), _passes(run), _state(run)
        cells: list[Cell] = [
            (name, name),
            (state, state),
            (f"{count(step)} of {count(latest.steps)}" if latest else "–", step),
            *((run.labels.text(metric), metric) for metric in (on_device, best, on_twin)),
            (count(passes) if passes else "–", passes or None),
            (duration(seconds), round(seconds, 1)),
        ]
        return table_row(name, cells, self._looks[name])


def recorded(source: Source) -> Session | Recorded:
    """The records of ``source``, or the session itself."""
    if isinstance(source, Session):
        return source
    if isinstance(source, Run):
        return RecordedRun(source.folder)
    if isinstance(source, str | Path):
        return RecordedRun(source)
    if all(isinstance(one, Record) for one in source):
        return Recorded(source)
    raise RunError(
        f"{type(source).__name__} cannot be compared: give a Session, a Run, the path of a run "
        "folder, or a list of Records."
    )


def comparison_panels(
    trainings: Mapping[str, TrainingRecord], against: Against, line_styles: Mapping[str, LineStyle]
) -> list[Panel]:
    """Metric and loss on the device, one line a training."""
    drawn = [
        (name, run.evaluations)
        for name, run in trainings.items()
        if against != "passes" or _passes(run)
    ]
    unit, scale = _unit(against, [record for _, records in drawn for record in records])

    def lines(field: str, factor: float) -> list[Line]:
        return [
            Line(
                label=name,
                x=np.array([_cost(record, against) / scale for record in records], dtype=float),
                y=np.array([getattr(record, field) for record in records], dtype=float) * factor,
                color=line_styles[name].color,
                dash=line_styles[name].dash,
                markers=True,
            )
            for name, records in drawn
        ]

    x_label = AXES[against][1] + unit
    most = max((_cost(record, against) for _, records in drawn for record in records), default=0)
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
    values = [labels.factor * (r.device_metric or 0.0) for _, records in drawn for r in records]
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
    return float(getattr(record, AXES[against][2]))


def _unit(against: Against, records: Sequence[Record]) -> tuple[str, float]:
    """The unit of the axis, as it follows its name, and its size."""
    if against != "time":
        return "", 1.0
    longest = max((record.seconds for record in records), default=0.0)
    if longest < 180:
        return " (s)", 1.0
    return (" (min)", 60.0) if longest < 3 * 3600 else (" (h)", 3600.0)


def _passes(run: TrainingRecord) -> int:
    return run.latest.device_passes if run.latest is not None else 0


def _state(run: Session | Recorded) -> str:
    if isinstance(run, Session):
        return TITLES[run.status]
    if run.latest is None:
        return "Begun"
    return "Finished" if run.finished else "Unfinished"
