"""The training dashboard: see a session live, hold it, save it, end it; then keep the picture."""

import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import numpy as np
from IPython.display import display
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pnnlab.errors import PnnlabError
from pnnlab.sessions import Floats, Session
from pnnlab.training import Record
from pnnlab.views.lineplot import Line, LinePlot, Panel, number
from pnnlab.views.style import STYLE, Picture

INTERVAL = 0.1  # seconds between two updates while it runs, or more:
LOAD = 0.01  # the part of a processor that updates may take; sending them takes a third more
SHORTEST = 0.05  # seconds between two updates, however often something is asked
LAYER_COLORS = ("green", "purple", "orange", "sky", "vermillion", "blue")
LAYER_DASHES = ((), (6, 3), (2, 2), (8, 3, 2, 3))
show: Callable[[object], object] = display  # which carries no types
CSS = (Path(__file__).parent / "dashboard.css").read_text()

TITLES = {
    "ready": "Ready",
    "running": "Running",
    "paused": "Paused",
    "stopped": "Stopped",
    "finished": "Finished",
    "failed": "Failed",
}
REQUESTS = {"pause": "Pausing after this step", "stop": "Stopping after this step"}


class TrainingDashboard:
    """A live view of a session, with the buttons that command it.

    At the end of a cell it shows itself. It reads the session at most ten times a second, in a
    thread of its own, and takes at most a fiftieth of a processor: no training step waits for it
    or for a browser.

    Parameters
    ----------
    session : Session
        What to observe. It is changed only by the buttons, and started by `watch`.

    Attributes
    ----------
    widget : ipywidgets.VBox
        The whole dashboard, to be placed in a layout of your own.

    Examples
    --------
    In one cell, that ends when the training does, with its picture:

    >>> await TrainingDashboard(session).watch()  # doctest: +SKIP

    Or in two, with work of your own between them:

    >>> dashboard = TrainingDashboard(session.start())  # doctest: +SKIP
    >>> dashboard  # doctest: +SKIP
    >>> await session.done(); dashboard.figure()  # doctest: +SKIP
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self._state = widgets.HTML()
        self._error = widgets.HTML()
        self._tiles = widgets.HTML()
        self.toggle = _button("Start", "play", self._on_toggle)
        self.stop = _button("Stop", "stop", session.stop)
        self.checkpoint = _button("Checkpoint", "save", self._on_checkpoint)
        self.plots = tuple(LinePlot() for _ in range(4))
        bar = widgets.HBox([self.toggle, self.stop, self.checkpoint, self._state])
        grid = widgets.Box(self.plots)
        style = widgets.HTML(f"<style>{CSS}</style>", layout={"display": "none"})
        self.widget = widgets.VBox([style, bar, self._error, self._tiles, grid])
        self.widget.add_class("pnn-dashboard")
        bar.add_class("pnn-bar")
        grid.add_class("pnn-plots")
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._closed = False
        self._painting = threading.Lock()  # taken once, by the thread that paints
        self._forget = session.on_change(self._on_change)
        self._on_change()
        self.refresh()

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        bundle: dict[str, Any] = self.widget._repr_mimebundle_(**kwargs)
        # The same words in every run; they stand in for the dashboard where no widget can live.
        return bundle | {"text/plain": "Training dashboard (alive in Jupyter)"}

    async def watch(self) -> None:
        """Show the dashboard, start the session if need be, and wait until it has ended.

        The final picture is shown in the end, also of a training that was stopped, interrupted
        or failed.

        Raises
        ------
        BaseException
            Whatever the training failed of.
        """
        show(self)
        if self.session.status == "ready":
            self.session.start()
        try:
            await self.session.done()
        finally:
            show(self.figure())

    def figure(self) -> Picture:
        """What the dashboard shows now, as a still picture that every viewer can show."""
        self.refresh()
        panels = training_panels(self.session)
        rows = (len(panels) + 1) // 2
        with rc_context(dict(STYLE)):
            figure = Figure(figsize=(9.6, 0.6 + 2.9 * rows), layout="constrained")
            for panel, axes in zip(panels, figure.subplots(rows, 2).flat, strict=True):
                panel.draw(axes)
            figure.suptitle(summary(self.session), fontsize=11, x=0.01, ha="left")
        return Picture(figure)

    def refresh(self) -> None:
        """Show the session as it is now. While it is active this happens by itself."""
        session = self.session
        panels = training_panels(session)
        with self._lock:
            self._state.value = state_html(session)
            self._error.value = error_html(session)
            self._error.layout.display = None if self._error.value else "none"
            self._tiles.value = tiles_html(session)
            running = session.status == "running" and "pause" not in session.asked
            name = {"ready": "Start", "paused": "Resume"}.get(session.status, "Pause")
            name = "Resume" if "pause" in session.asked else name
            self.toggle.description = name
            self.toggle.icon = "pause" if running else "play"
            self.toggle.disabled = not (session.active or session.status == "ready")
            self.stop.disabled = not session.active or "stop" in session.asked
            self.checkpoint.disabled = not (session.active and session.can_checkpoint)
            if not session.can_checkpoint:
                self.checkpoint.tooltip = "This session was given no place for checkpoints"
            for plot, panel in zip(self.plots, panels, strict=False):
                plot.show(panel)
            for place, plot in enumerate(self.plots):
                plot.layout.display = None if place < len(panels) else "none"

    def close(self) -> None:
        """Stop observing, and take the widgets off the page. The session goes on."""
        self._closed = True
        self._forget()
        self._changed.set()
        self.widget.close_all()

    def _on_toggle(self) -> None:
        if self.session.status == "ready":
            self.session.start()
        elif self.session.status == "paused" or "pause" in self.session.asked:
            self.session.resume()
        else:
            self.session.pause()

    def _on_checkpoint(self) -> None:
        if self.session.active:
            self.session.request_checkpoint()

    def _on_change(self) -> None:
        self._changed.set()
        if self.session.active and self._painting.acquire(blocking=False):
            threading.Thread(target=self._paint, name="pnnlab-dashboard", daemon=True).start()

    def _paint(self) -> None:
        """Refresh while the session is active; at once when something was asked."""
        while self.session.active and not self._closed:
            self._changed.clear()
            began = time.thread_time()
            self.refresh()
            rest = max(INTERVAL, (time.thread_time() - began) / LOAD)
            time.sleep(SHORTEST)
            self._changed.wait(None if self.session.status == "paused" else rest - SHORTEST)
        if not self._closed:
            self.refresh()


def training_panels(session: Session) -> list[Panel]:
    """What a session shows as plots: loss, accuracy and, of physical layers, gap and clamping."""
    # Each is read once: the training goes on meanwhile.
    latest, curves, evaluated = session.latest, session.curves(), session.evaluations
    where = "validation" if latest is not None and not latest.clamped else "device"
    x_range = (0.0, _axis_end(latest))
    # Smooth over a tenth of the way so far: at least five steps, at most a fiftieth of the run.
    bin_steps = float(curves.step[1] - curves.step[0]) if len(curves.step) > 1 else 1.0
    most = max(5.0, latest.steps / 50 if latest is not None else 0)
    widths = np.ceil(np.clip(curves.step / 10, 5, most) / bin_steps).astype(int)
    columns = np.column_stack((curves.loss, 100 * curves.batch_accuracy, 100 * curves.clamped))
    loss, right, *clamped = _running_mean(columns, widths).T
    device_loss, twin_loss = _column(evaluated, "device_loss"), _column(evaluated, "twin_loss")
    device = 100 * _column(evaluated, "device_accuracy")
    twin = 100 * _column(evaluated, "twin_accuracy")

    x = curves.step
    highest = [values.max() for values in (loss[len(loss) // 10 :], device_loss) if len(values)]
    lowest = 10 * math.floor(np.nanmin([*device, *twin]) / 10) if len(device) else 0
    panels = [
        Panel(
            title="Loss",
            y_label="cross-entropy (nat)",
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
            title="Accuracy",
            y_label="right answers (%)",
            unit="%",
            lines=[
                Line(label="batch", x=x, y=right, color="grey"),
                *_evaluation_lines(where, evaluated, device, twin),
            ],
            x_range=x_range,
            y_range=(lowest, 100.0 if lowest else 102.0),
            note="waiting for the first step",
        ),
    ]
    if latest is not None and not latest.clamped:
        return panels  # a digital network: no device, no gap, nothing clamped
    return [
        *panels,
        Panel(
            title="Gap to the twin",
            y_label="gap² / variance (%)",
            unit="%",
            lines=_layer_lines(
                np.array([r.step for r in evaluated if r.gap], dtype=float),
                100 * np.array([r.gap for r in evaluated if r.gap], dtype=float).T,
                markers=True,
            ),
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


def summary(session: Session) -> str:
    """A session in one line of text."""
    latest = session.latest
    if latest is None:
        return f"{TITLES[session.status]}, before the first step"
    parts = [f"{TITLES[session.status]} at step {count(latest.step)} of {count(latest.steps)}"]
    if evaluated := session.evaluations:
        last = evaluated[-1]
        where = "device" if latest.clamped else "validation"
        parts.append(f"{where} {percent(last.device_accuracy)}")
        if last.twin_accuracy is not None:
            parts.append(f"twin {percent(last.twin_accuracy)}")
    if latest.clamped:
        parts.append(f"{count(latest.device_passes)} device passes")
    return "   ·   ".join([*parts, duration(latest.seconds)])


def state_html(session: Session) -> str:
    """Status, what is asked and what became of the last checkpoint; spoken by screen readers."""
    asked = [text for request, text in REQUESTS.items() if request in session.asked]
    title = asked[-1] if asked else TITLES[session.status]
    return (
        f'<div role="status" class="pnn-state pnn-{session.status}"><i aria-hidden="true"></i>'
        f"<b>{title}</b><span>{escape(session.notice)}</span></div>"
    )


def error_html(session: Session) -> str:
    """What a failed session failed of and what to do; empty for any other."""
    if session.error is None:
        return ""
    step = session.latest.step if session.latest is not None else 0
    said = f"<b>{type(session.error).__name__}</b>: {escape(str(session.error))}"
    if not isinstance(session.error, PnnlabError):
        said += (
            f"\nThe network holds the weights of step {step}, the last that was whole. "
            "<code>await session.done()</code> shows where the error arose; mend it, then train "
            "on with a new session over the same training."
        )
    return f'<div role="alert" class="pnn-error">{said}</div>'


def tiles_html(session: Session) -> str:
    """The numbers of the moment, and how far the run is."""
    latest = session.latest
    if latest is None:
        return ""
    evaluated = session.evaluations
    last = evaluated[-1] if evaluated else latest
    tiles = [("Step", f"{count(latest.step)} <small>of {count(latest.steps)}</small>")]
    if latest.clamped:
        tiles += [
            ("Accuracy on device", percent(last.device_accuracy)),
            ("Accuracy on twin", percent(last.twin_accuracy)),
            ("Device passes", count(latest.device_passes)),
        ]
    else:
        tiles += [("Accuracy", percent(last.device_accuracy))]
    tiles += [
        ("Steps per second", number(latest.steps_per_second)),
        ("Time left", duration(latest.seconds_left))
        if session.active
        else ("Training time", duration(latest.seconds)),
    ]
    items = "".join(f"<div><span>{name}</span>{value}</div>" for name, value in tiles)
    return (
        f'<div class="pnn-tiles">{items}</div><progress class="pnn-progress" '
        f'aria-label="Steps done" value="{latest.step}" max="{latest.steps}"></progress>'
    )


def percent(fraction: float | None) -> str:
    """A fraction in per cent, or a dash where there is none."""
    return "–" if fraction is None else f"{100 * fraction:.1f} %"


def count(value: int) -> str:
    """A number with its thousands apart."""
    return f"{value:,}".replace(",", "\u202f")


def duration(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _button(description: str, icon: str, act: Callable[[], None]) -> widgets.Button:
    button = widgets.Button(description=description, icon=icon)
    button.on_click(lambda _: act())
    return button


def _evaluation_lines(
    where: str, evaluated: Sequence[Record], device: Floats, twin: Floats
) -> list[Line]:
    """On the device and, where there is one, on the twin."""
    x = np.array([record.step for record in evaluated], dtype=float)
    lines = [Line(label=where, x=x, y=device, color="blue", markers=True)]
    if not np.isnan(twin).all():
        dashed = Line(label="twin", x=x, y=twin, color="vermillion", dash=(6, 3), markers=True)
        lines.append(dashed)
    return lines


def _layer_lines(x: Floats, layers: Iterable[Floats], *, markers: bool = False) -> list[Line]:
    """One line a physical layer."""
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
