"""The records of a training, and what it shows as plots."""

import math
from collections.abc import Iterable, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from pnnlab.background import Session
from pnnlab.runs import read_journal, read_run
from pnnlab.storage import user_path
from pnnlab.training import CLASSIFICATION, Floats, History, Labels, Record
from pnnlab.views.chart import Plot, Series
from pnnlab.views.style import LINE_DASHES, LineStyle

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
