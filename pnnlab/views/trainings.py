"""The records of trainings as plots: one, several beside each other, and past runs in folders."""

import math
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from html import escape
from itertools import cycle
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Literal, TypeAlias, final

import ipywidgets as widgets
import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from pnnlab.background import Session
from pnnlab.errors import RunError
from pnnlab.runs import Run, RunInfo, list_runs, read_journal, read_run
from pnnlab.storage import user_path
from pnnlab.training import CLASSIFICATION, Floats, History, Labels, Record
from pnnlab.views.chart import Chart, Plot, PlotGrid, Series
from pnnlab.views.parts import (
    Cell,
    OneOf,
    RefreshLoop,
    Table,
    View,
    alert,
    bar,
    button,
    count,
    discard,
    duration,
    frame,
    status,
    table_row,
)
from pnnlab.views.style import BAND, LINE_DASHES, LineStyle, Picture, line_style

GREY = LineStyle("grey", ())
DEVICE, TWIN = LineStyle("blue", ()), LineStyle("vermillion", (6, 3))
LAYER_COLORS = ("green", "purple", "orange", "sky", "vermillion", "blue")
WAITING = "waiting for the first step"


class Recorded(History):
    """A training that is over, or runs elsewhere: the records of it, in bounded memory."""

    labels: Labels = CLASSIFICATION.labels

    def __init__(self, records: Iterable[Record] = ()) -> None:
        super().__init__()
        for record in records:
            self.add(record)

    @property
    def status(self) -> str:
        """Begun, unfinished or finished, as far as it was read."""
        if self.latest is None:
            return "begun"
        return "finished" if self.latest.step >= self.latest.steps else "unfinished"


@final
class RecordedRun(Recorded):
    """A run folder, read as far as its journal goes; `RunError` if there is none to read."""

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self.folder = user_path(folder)
        self.info = read_run(self.folder)
        self.labels = self.info.labels
        self.read()

    def read(self) -> None:
        """Read what was written since."""
        latest = self.latest
        new = read_journal(self.folder, latest.step - 1 if latest else 0)
        if latest is not None and new[:1] != [latest]:  # resumed: these steps were taken anew
            super().__init__(read_journal(self.folder))
            return
        for record in new[1:] if latest else new:
            self.add(record)


@final
class OverSeeds(Recorded):
    """Trainings that differ in their seed: means of their evaluations, as far as all of them go."""

    def __init__(self, folders: Sequence[str | Path]) -> None:
        runs = [RecordedRun(folder) for folder in folders]
        self.labels = runs[0].labels
        means: dict[str, Any] = {"device_metric": 0.0, "device_loss": 0.0, "seconds": 0.0}
        found, self.half = [], []  # and half the 95 % interval of the metric
        freedom = len(runs) - 1
        for records in zip(*(run.evaluations for run in runs), strict=False):
            for name in means:
                means[name] = fmean(getattr(record, name) for record in records)
            passes = round(fmean(record.device_passes for record in records))
            found.append(replace(records[0], **means, device_passes=passes))
            spread = stdev(record.device_metric or 0.0 for record in records)
            self.half.append(stdtrit(freedom, 0.975) * spread / math.sqrt(len(runs)))
        super().__init__(found)


Trained: TypeAlias = Session | Recorded


def training_plots(run: Trained) -> list[Plot]:
    """Loss, metric and, of physical layers, gap and clamping over the steps."""
    # Each is read once: the training goes on meanwhile.
    latest, curves, evaluated = run.latest, run.curves(), run.evaluations
    labels = run.labels
    where = "validation" if latest is not None and not latest.clamped else "device"
    step, steps = (latest.step, latest.steps) if latest is not None else (1, 1)
    # A power of two beyond the present step, at most the whole run: axes that seldom move.
    ends = (0.0, float(min(steps, max(64, 2 ** math.ceil(math.log2(1.1 * step))))))
    # Smooth over a tenth of the way so far: at least five steps, at most a fiftieth of the run.
    bin_steps = float(curves.step[1] - curves.step[0]) if len(curves.step) > 1 else 1.0
    most = max(5.0, steps / 50)
    widths = np.ceil(np.clip(curves.step / 10, 5, most) / bin_steps).astype(int)
    scores = labels.factor * curves.batch_metric
    rows = np.column_stack((curves.loss, scores, 100 * curves.clamped))
    loss, right, *clamped = _running_mean(rows, widths).T
    at = column(evaluated, "step")

    def lines(batch: Floats, field: str, factor: float = 1) -> list[Series]:
        device, twin = (
            factor * column(evaluated, f"{name}_{field}") for name in ("device", "twin")
        )
        found = [
            Series("batch", curves.step, batch, style=GREY),
            Series(where, at, device, style=DEVICE, markers=True),
            Series("twin", at, twin, style=TWIN, markers=True),
        ]
        return found if not np.isnan(twin).all() else found[:2]

    losses, metrics = lines(loss, "loss"), lines(right, "metric", labels.factor)
    highest = [v.max() for v in (loss[len(loss) // 10 :], np.asarray(losses[1].y)) if len(v)]
    top = 1.06 * max(highest, default=1.0) or 1.0
    each = Series("each batch", curves.step, curves.loss, style=GREY, faint=True)
    options: dict[str, Any] = {"x_limits": ends, "note": WAITING}
    plots = [
        Plot("Loss", "step", labels.loss, [each, *losses], y_limits=(0.0, top), **options),
        metric_plot(labels, "", "step", metrics, metrics[1:], **options),
    ]
    if latest is not None and not latest.clamped:
        return plots  # a digital network: no device, no gap, nothing clamped
    inputs = _layer_lines(curves.step, clamped)
    clamping = Plot("Clamped inputs", "step", "clamped (%)", inputs, unit="%", **options)
    options["note"] = "no twin to compare with" if evaluated else "shown at the first evaluation"
    gaps = [(record.step, record.gap) for record in evaluated if record.gap]
    label = "gap² / variance (%)"
    gap = layer_plot("Gap to the twin", label, gaps, factor=100, log=True, unit="%", **options)
    return [*plots, gap, clamping]


def metric_plot(
    labels: Labels,
    where: str,
    x_label: str,
    lines: Sequence[Series],
    bounding: Sequence[Series],
    **options: Any,
) -> Plot:
    """A metric that 1 or 100 % bounds from above, from below the smallest ``bounding`` value on."""
    step = labels.factor / 10
    known = np.concatenate([*(line.y for line in bounding), ()], dtype=float)
    known = known[~np.isnan(known)]
    lowest = step * math.floor(known.min() / step) if len(known) else 0.0
    return Plot(
        labels.metric.capitalize() + where,
        x_label,
        f"{labels.metric} (%)" if labels.percent else labels.metric,
        lines,
        unit="%" if labels.percent else "",
        y_limits=(lowest, labels.factor * (1.0 if lowest else 1.02)),
        **options,
    )


def layer_plot(
    title: str,
    y_label: str,
    points: Sequence[tuple[int, Sequence[float]]],
    *,
    factor: float = 1,
    **options: Any,
) -> Plot:
    """One line a physical layer, from steps with the ``factor``-fold values of all layers."""
    x = np.array([step for step, _ in points], dtype=float)
    layers = factor * np.array([values for _, values in points], dtype=float).T
    return Plot(title, "step", y_label, _layer_lines(x, layers, markers=True), **options)


def column(records: Sequence[Record], name: str) -> Floats:
    """One field of the records; NaN where it is None."""
    return np.array([getattr(record, name) for record in records], dtype=float)


def _layer_lines(x: Floats, layers: Iterable[Floats], *, markers: bool = False) -> list[Series]:
    styles = zip(cycle(LAYER_COLORS), cycle(LINE_DASHES), strict=False)
    return [
        Series(f"layer {n}", x, y, style=LineStyle(*style), markers=markers)
        for n, (y, style) in enumerate(zip(layers, styles, strict=False), 1)
    ]


def _running_mean(columns: Floats, widths: NDArray[np.int_]) -> Floats:
    """Down each column, (n, columns), the mean of the last ``widths``, (n,), values."""
    sums = np.zeros((len(columns) + 1, columns.shape[1]))
    np.cumsum(columns, axis=0, out=sums[1:])
    last = np.arange(1, len(columns) + 1)
    first = np.maximum(0, last - widths)
    means: Floats = (sums[last] - sums[first]) / (last - first)[:, None]
    return means


Against: TypeAlias = Literal["steps", "passes", "time"]
Source: TypeAlias = Session | Run | str | Path | Sequence[Record] | Sequence[Path]

AXES: Mapping[Against, tuple[str, str, str]] = {  # button, label of the axis, field of a record
    "steps": ("steps", "step", "step"),
    "passes": ("device passes", "device passes", "device_passes"),
    "time": ("time", "training time", "seconds"),
}
LISTED = ("Run", "Description", "Began (UTC)"), ("Step", "Metric on device")
COMPARED = (
    ("Training", "State"),
    ("Step", "On device", "best", "On twin", "Device passes", "Training time"),
)


@final
class Comparison(View):
    """Metric and loss on the device of several trainings, over steps, device passes or time.

    Sessions are followed while they run, and run folders while they grow, also from another
    process; none is changed. At the end of a cell it shows itself.

    Parameters
    ----------
    runs : mapping of str to Session, Run, path or sequence of Record
        A name and a source for each: a path is that of a run folder. Of several paths, one a seed,
        the mean is shown, with 95 % intervals for new seeds.
    against : {"steps", "passes", "time"}
        The axis to begin with.

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
        self._lock = threading.Lock()
        self._styles = {name: line_style(place) for place, name in enumerate(runs)}
        self.against = OneOf({key: name for key, (name, _, _) in AXES.items()}, label="Against")
        self.against.value = against
        self.table = Table("Trainings compared", *COMPARED, choosing="Show", chosen=runs)
        self._message = widgets.HTML()
        self._grid = PlotGrid()
        self.widget = frame("dashboard", bar(self.against), self._grid, self._message, self.table)
        self.against.observe(lambda _: self.refresh(), "value")
        self.table.observe(lambda _: self.refresh(), "chosen")
        self._ending = (RefreshLoop(self.refresh, self._going, *self._sessions).close,)

    def figure(self) -> Picture:
        """What is shown now, as a still picture."""
        self.refresh()
        title = f"{len(self.trainings)} trainings compared"
        return Chart(title, self._plots(), columns=2, live=True).static()

    def refresh(self) -> None:
        """Show the trainings as they are now. While any of them goes on this happens by itself."""
        with self._lock:
            problems = []
            for run in self._folders:
                try:
                    if run.status != "finished":
                        run.read()
                except RunError as error:
                    problems.append(error)
            self._grid.show(self._plots())
            self.table.rows = [self._row(name) for name in self.trainings]
            html = "".join(map(alert, problems))
            free = [name for name, run in self._shown().items() if not _passes(run)]
            if self.against.value == "passes" and free:
                html += status(f"No device passes, and so not in these plots: {', '.join(free)}.")
            self._message.value = html

    def _going(self) -> bool:
        growing = any(run.status != "finished" for run in self._folders)
        return growing or any(session.active for session in self._sessions)

    def _plots(self) -> list[Plot]:
        return comparison_plots(self._shown(), self.against.value, self._styles)

    def _shown(self) -> dict[str, Trained]:
        return {name: run for name, run in self.trainings.items() if name in self.table.chosen}

    def _row(self, name: str) -> dict[str, Any]:
        run = self.trainings[name]
        latest, evaluated, text = run.latest, run.evaluations, run.labels.text
        last = evaluated[-1] if evaluated else None
        metrics = [r.device_metric for r in evaluated if r.device_metric is not None]
        on_device, on_twin = (last.device_metric, last.twin_metric) if last else (None, None)
        step, seconds = (latest.step, latest.seconds) if latest else (0, 0.0)
        best, passes, state = max(metrics, default=None), _passes(run), run.status.capitalize()
        cells: list[Cell] = [
            (name, name),
            (state, state),
            (f"{count(step)} of {count(latest.steps)}" if latest else "–", step),
            *((text(metric), metric) for metric in (on_device, best, on_twin)),
            (count(passes) if passes else "–", passes or None),
            (duration(seconds), round(seconds, 1)),
        ]
        return table_row(name, cells, self._styles[name])


def recorded(source: Source) -> Trained:
    """The records of ``source``, or the session itself."""
    if isinstance(source, Session):
        return source
    if isinstance(source, Run | str | Path):
        return RecordedRun(source.folder if isinstance(source, Run) else source)
    folders = [one for one in source if isinstance(one, str | Path)]
    records = [one for one in source if isinstance(one, Record)]
    if folders and len(folders) == len(source):
        return OverSeeds(folders) if len(folders) > 1 else RecordedRun(folders[0])
    if len(records) == len(source):
        return Recorded(records)
    raise RunError(
        f"{type(source).__name__} cannot be compared: give a Session, a Run, the path of a run "
        "folder, or a list of paths or of Records."
    )


def comparison_plots(
    trainings: Mapping[str, Trained], against: Against, line_styles: Mapping[str, LineStyle]
) -> list[Plot]:
    """Metric and loss on the device, one line a training."""
    drawn = {
        name: run.evaluations
        for name, run in trainings.items()
        if against != "passes" or _passes(run)
    }
    _, x_label, field = AXES[against]
    costs = {name: column(records, field) for name, records in drawn.items()}
    most = max((cost for each in costs.values() for cost in each), default=0.0)
    unit, scale = "", 1.0
    if against == "time":
        units = ((180, " (s)", 1.0), (3 * 3600, " (min)", 60.0), (math.inf, " (h)", 3600.0))
        unit, scale = next((unit, scale) for longest, unit, scale in units if most < longest)
    options: dict[str, Any] = {
        "x_limits": (0.0, most / scale or 1.0),
        "note": "shown at the first evaluation" if trainings else "no training is chosen",
    }
    kinds = {run.labels for run in trainings.values()} or {CLASSIFICATION.labels}
    # Trainings of different objectives share their axes, which then name all of them.
    labels = replace(
        next(iter(kinds)),
        loss=", ".join(sorted({kind.loss for kind in kinds})),
        metric=", ".join(sorted({kind.metric for kind in kinds})),
        percent=all(kind.percent for kind in kinds),
    )

    def lines(field: str, factor: float = 1.0) -> list[Series]:
        values = {name: factor * column(records, field) for name, records in drawn.items()}
        return [
            Series(name, costs[name] / scale, y, style=line_styles[name], markers=True)
            for name, y in values.items()
        ]

    metric = [
        replace(line, deviation=labels.factor / BAND * np.array(run.half))
        if isinstance(run := trainings[line.label], OverSeeds)
        else line
        for line in lines("device_metric", labels.factor)
    ]
    return [
        metric_plot(labels, " on the device", x_label + unit, metric, metric, **options),
        Plot("Loss on the device", x_label + unit, labels.loss, lines("device_loss"), **options),
    ]


def _passes(run: Trained) -> int:
    return run.latest.device_passes if run.latest is not None else 0


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
        self._comparison: Comparison | None = None
        self._figure: Callable[[], Picture] | None = None
        self.again = button("Read again", "refresh", self.refresh)
        self.table = Table("Past runs", *LISTED, choosing="Open")
        self._message = widgets.HTML()
        self._below = widgets.VBox()
        controls = bar(self.again, self._message)
        self.widget = frame("dashboard", controls, self.table, self._below)
        self.table.observe(lambda _: self._show(), "chosen")
        self.refresh()

    def figure(self) -> Picture:
        """The curves of the opened runs, as a still picture; `RunError` if none is open."""
        with self._lock:
            if self._figure is None:
                raise RunError("no run is open: choose one in the table, or set table.chosen.")
            return self._figure()

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
            self._show()

    def close(self) -> None:
        """Take the widgets off the page."""
        with self._lock:
            self._clear()
            super().close()

    def _clear(self) -> None:
        if self._comparison is not None:
            self._comparison.close()
        self._comparison = self._figure = None
        shown, self._below.children = self._below.children, ()
        for child in shown:
            discard(child)

    def _show(self) -> None:
        with self._lock:
            chosen = self.table.chosen
            self._clear()
            try:
                if len(chosen) == 1:
                    run, grid = RecordedRun(self.root / chosen[0]), PlotGrid()
                    plots = training_plots(run)
                    grid.show(plots)
                    self._figure = Chart(chosen[0], plots, columns=2, live=True).static
                    self._below.children = (_about(chosen[0], run.info), grid)
                elif chosen:
                    self._comparison = Comparison({name: self.root / name for name in chosen})
                    self._figure = self._comparison.figure
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
