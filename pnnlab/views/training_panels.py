"""What a training shows as plots."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pnnlab.training import Curves, Floats, Labels, Record
from pnnlab.views.plotgrid import Line, Panel

LAYER_COLORS = ("green", "purple", "orange", "sky", "vermillion", "blue")
LAYER_DASHES = ((), (6, 3), (2, 2), (8, 3, 2, 3))


class TrainingRecord(Protocol):
    """What views need of a training: a `Session`, or the records of one."""

    @property
    def labels(self) -> Labels:
        """Names of the loss and the metric."""

    @property
    def latest(self) -> Record | None:
        """The last record."""

    @property
    def evaluations(self) -> Sequence[Record]:
        """Records that hold an evaluation, oldest first."""

    def curves(self) -> Curves:
        """Loss, batch metric and clamping over the steps."""


def training_panels(session: TrainingRecord) -> list[Panel]:
    """What a session shows as plots: loss, metric and, of physical layers, gap and clamping."""
    # Each is read once: the training goes on meanwhile.
    latest, curves, evaluated = session.latest, session.curves(), session.evaluations
    where = "validation" if latest is not None and not latest.clamped else "device"
    x_range = (0.0, _axis_end(latest))
    # Smooth over a tenth of the way so far: at least five steps, at most a fiftieth of the run.
    bin_steps = float(curves.step[1] - curves.step[0]) if len(curves.step) > 1 else 1.0
    most = max(5.0, latest.steps / 50 if latest is not None else 0)
    widths = np.ceil(np.clip(curves.step / 10, 5, most) / bin_steps).astype(int)
    labels = session.labels
    scores = labels.factor * curves.batch_metric
    columns = np.column_stack((curves.loss, scores, 100 * curves.clamped))
    loss, right, *clamped = _running_mean(columns, widths).T
    device_loss, twin_loss = _column(evaluated, "device_loss"), _column(evaluated, "twin_loss")
    device = labels.factor * _column(evaluated, "device_metric")
    twin = labels.factor * _column(evaluated, "twin_metric")

    x = curves.step
    highest = [values.max() for values in (loss[len(loss) // 10 :], device_loss) if len(values)]
    panels = [
        Panel(
            title="Loss",
            y_label=labels.loss,
            lines=[
                Line(label="each batch", x=x, y=curves.loss, color="grey", faint=True),
                Line(label="batch", x=x, y=loss, color="grey"),
                *_evaluation_lines(where, evaluated, device_loss, twin_loss),
            ],
            x_range=x_range,
            y_range=(0.0, 1.06 * max(highest, default=1.0) or 1.0),
            note="waiting for the first step",
        ),
        Panel(
            title=labels.metric.capitalize(),
            y_label=metric_label(labels),
            unit="%" if labels.percent else "",
            lines=[
                Line(label="batch", x=x, y=right, color="grey"),
                *_evaluation_lines(where, evaluated, device, twin),
            ],
            x_range=x_range,
            y_range=metric_range(labels, [*device, *twin]),
            note="waiting for the first step",
        ),
    ]
    if latest is not None and not latest.clamped:
        return panels  # a digital network: no device, no gap, nothing clamped
    return [
        *panels,
        layer_panel(
            "Gap to the twin",
            [(record.step, record.gap) for record in evaluated if record.gap],
            factor=100,
            y_label="gap² / variance (%)",
            unit="%",
            x_range=x_range,
            log=True,
            note="no twin to compare with" if evaluated else "shown at the first evaluation",
        ),
        Panel(
            title="Clamped inputs",
            y_label="clamped (%)",
            unit="%",
            lines=_layer_lines(x, clamped),
            x_range=x_range,
            note="waiting for the first step",
        ),
    ]


def metric_label(labels: Labels) -> str:
    """A metric on an axis."""
    return f"{labels.metric} (%)" if labels.percent else labels.metric


def metric_range(labels: Labels, values: Sequence[float]) -> tuple[float, float]:
    """An axis for a metric that 1 or 100 % bounds from above, from below the smallest value on."""
    step = labels.factor / 10
    known = [value for value in values if not math.isnan(value)]
    lowest = step * math.floor(min(known) / step) if known else 0.0
    return lowest, labels.factor * (1.0 if lowest else 1.02)


def _evaluation_lines(
    where: str, evaluated: Sequence[Record], device: Floats, twin: Floats
) -> list[Line]:
    x = np.array([record.step for record in evaluated], dtype=float)
    lines = [Line(label=where, x=x, y=device, color="blue", markers=True)]
    if not np.isnan(twin).all():
        dashed = Line(label="twin", x=x, y=twin, color="vermillion", dash=(6, 3), markers=True)
        lines.append(dashed)
    return lines


def layer_panel(
    title: str, points: Sequence[tuple[int, Sequence[float]]], *, factor: float = 1, **fields: Any
) -> Panel:
    """One line a physical layer, from steps with the ``factor``-fold values of all layers."""
    x = np.array([step for step, _ in points], dtype=float)
    layers = factor * np.array([values for _, values in points], dtype=float).T
    return Panel(title=title, lines=_layer_lines(x, layers, markers=True), **fields)


def _layer_lines(x: Floats, layers: Iterable[Floats], *, markers: bool = False) -> list[Line]:
    return [
        Line(
            label=f"layer {number + 1}",
            x=x,
            y=values,
            color=LAYER_COLORS[number % len(LAYER_COLORS)],
            dash=LAYER_DASHES[number % len(LAYER_DASHES)],
            markers=markers,
        )
        for number, values in enumerate(layers)
    ]


def _column(records: Sequence[Record], name: str) -> Floats:
    """One field of the records; NaN where it is None."""
    return np.array([getattr(record, name) for record in records], dtype=float)


def _running_mean(columns: Floats, widths: NDArray[np.int_]) -> Floats:
    """Down each column, (n, columns), the mean of the last ``widths``, (n,), values."""
    sums = np.zeros((len(columns) + 1, columns.shape[1]))
    np.cumsum(columns, axis=0, out=sums[1:])
    last = np.arange(1, len(columns) + 1)
    first = np.maximum(0, last - widths)
    means: Floats = (sums[last] - sums[first]) / (last - first)[:, None]
    return means


def _axis_end(latest: Record | None) -> float:
    """A power of two beyond the present step, at most the whole run: axes that seldom move."""
    if latest is None:
        return 1.0
    return float(min(latest.steps, max(64, 2 ** math.ceil(math.log2(1.1 * latest.step)))))
