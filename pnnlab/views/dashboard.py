"""Live views of a session, with buttons to start, pause and stop it, and of a sweep."""

import threading
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Unpack, final

import ipywidgets as widgets
import numpy as np
from IPython.display import display
from torch import nn

from pnnlab.background import Session
from pnnlab.errors import PnnlabError
from pnnlab.results.sweeping import Sweep
from pnnlab.runs import Run
from pnnlab.tasks import Task
from pnnlab.training import FitSettings, Options, Reference, Training
from pnnlab.views.chart import Chart, Plot, PlotGrid, Series
from pnnlab.views.parts import (
    RefreshLoop,
    View,
    bar,
    button,
    count,
    duration,
    frame,
    number,
    show_error,
    status,
    tiles,
)
from pnnlab.views.sections import Sections
from pnnlab.views.style import Picture, line_style
from pnnlab.views.trainings import training_plots

show: Callable[[object], object] = display  # which carries no types


async def watch(
    network: nn.Module,
    task: Task,
    settings: FitSettings | None = None,
    *,
    folder: str | Path | None = None,
    **options: Unpack[Options],
) -> Training:
    """Train under the dashboard, until the end or Stop: ``await watch(network, task)`` in a cell.

    Parameters and errors are those of `pnnlab.train`; a folder makes the Checkpoint button work.
    """
    training = Training(network, task, settings, **options)
    source = training if folder is None else Run.open(folder, training)
    await TrainingDashboard(Session(source), classes=task.class_names or None).watch()
    return training


class TrainingDashboard(View):
    """A live view of a session, with buttons to start, pause and stop it.

    At the end of a cell it shows itself. It reads the session at most ten times a second, in a
    thread of its own, and takes at most a fiftieth of a processor: no training step waits for it
    or for a browser.

    Parameters
    ----------
    session : Session
        What to observe. It is changed only by the buttons, and started by `watch`. Of a
        ``Session(training)`` there is more to unfold below the plots: confusion, gradients, drift
        and refit, limits, and the learning rate.
    classes : sequence of str, optional
        Names of the classes, for the confusion matrix.
    references : sequence of Reference, optional
        Taken of the physical layers when their twins were fitted: drift is measured from there on.

    Attributes
    ----------
    widget : ipywidgets.VBox
        The whole dashboard, to be placed in a layout of your own.

    Examples
    --------
    In one cell, that ends when the training does, with its picture:

    >>> await TrainingDashboard(session).watch()  # doctest: +SKIP

    Or in two, with work of your own between them:

    >>> dashboard = TrainingDashboard(session.start()); dashboard  # doctest: +SKIP
    >>> await session.done(); dashboard.figure()  # doctest: +SKIP
    """

    alt_text = "Training dashboard"

    def __init__(
        self,
        session: Session,
        *,
        classes: Sequence[str] | None = None,
        references: Sequence[Reference] = (),
    ) -> None:
        self.session = session
        self.sections: Sections | None = None
        if session.training is not None:
            self.sections = Sections(session, session.training, classes, references)
        self._state, self._error, self._tiles = (widgets.HTML() for _ in range(3))
        self.toggle = button("Start", "play", self._on_toggle)
        self.stop = button("Stop", "stop", session.stop)
        self.checkpoint = button("Checkpoint", "save", self._on_checkpoint)
        if not session.can_checkpoint:
            self.checkpoint.tooltip = "This session was given no place for checkpoints"
        self.plots = PlotGrid()
        controls = bar(self.toggle, self.stop, self.checkpoint, self._state)
        below = [self.sections.widget] if self.sections is not None else []
        self.widget = frame("dashboard", controls, self._error, self._tiles, self.plots, *below)
        self._lock = threading.Lock()
        # While it is paused nothing changes but what it tells.
        loop = RefreshLoop(self.refresh, lambda: session.status == "running", session)
        self._ending = (loop.close,)
        if self.sections is not None:
            self._ending += (self.sections.close,)

    async def watch(self) -> None:
        """Show the dashboard, start the session, wait for its end; show the picture, then raise."""
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
        plots = training_plots(self.session)
        return Chart(summary(self.session), plots, columns=2, live=True).static()

    def refresh(self) -> None:
        """Show the session as it is now. While it is active this happens by itself."""
        session, plots = self.session, training_plots(self.session)
        with self._lock:
            requests = session.requests
            self._state.value = state_html(session)
            show_error(self._error, error_text(session))
            self._tiles.value = tiles_html(session)
            running = session.status == "running" and "pause" not in requests
            name = {"ready": "Start", "paused": "Resume"}.get(session.status, "Pause")
            self.toggle.description = "Resume" if "pause" in requests else name
            self.toggle.icon = "pause" if running else "play"
            self.toggle.disabled = not (session.active or session.status == "ready")
            self.stop.disabled = not session.active or "stop" in requests
            self.checkpoint.disabled = not (session.active and session.can_checkpoint)
            self.plots.show(plots)
            if self.sections is not None:
                self.sections.refresh()

    def _on_toggle(self) -> None:
        if self.session.status == "ready":
            self.session.start()
        elif self.session.status == "paused" or "pause" in self.session.requests:
            self.session.resume()
        else:
            self.session.pause()

    def _on_checkpoint(self) -> None:
        if self.session.active:  # it may have ended since the button was shown
            self.session.request_checkpoint()


REQUESTS = {"pause": "Pausing after this step", "stop": "Stopping after this step"}


def summary(session: Session) -> str:
    """A session in one line of text."""
    latest, title = session.latest, session.status.capitalize()
    if latest is None:
        return f"{title}, before the first step"
    parts = [f"{title} at step {count(latest.step)} of {count(latest.steps)}"]
    if session.training and session.training.twin_faults:
        parts.append("a twin is not good")
    if evaluated := session.evaluations:
        last = evaluated[-1]
        where = "device" if latest.clamped else "validation"
        parts.append(f"{where} {session.labels.text(last.device_metric)}")
        if last.twin_metric is not None:
            parts.append(f"twin {session.labels.text(last.twin_metric)}")
    if latest.clamped:
        parts.append(f"{count(latest.device_passes)} device passes")
    return "   ·   ".join([*parts, duration(latest.seconds)])


def state_html(session: Session) -> str:
    """Status, requests and the last notice; announced by screen readers."""
    requested = [text for request, text in REQUESTS.items() if request in session.requests]
    title = requested[-1] if requested else session.status.capitalize()
    tasks = session.actions  # read once: the training goes on meanwhile
    doing = f"{tasks[0]} …" if tasks else session.notice
    return (
        f'<div role="status" class="pnn-state pnn-{session.status}"><i aria-hidden="true"></i>'
        f"<b>{title}</b><span>{escape(doing)}</span></div>"
    )


def error_text(session: Session) -> str:
    """The error of a failed session and what to do, or what is wrong with twins; else empty."""
    if session.error is None:
        return "\n".join(session.training.twin_faults if session.training else ())
    text, latest = f"{type(session.error).__name__}: {session.error}", session.latest
    if isinstance(session.error, PnnlabError):
        return text
    return (
        f"{text}\nThe network holds the weights of step {latest.step if latest else 0}, the last "
        "that was whole. `await session.done()` shows where the error arose; mend it, then train "
        "on with a new session over the same training."
    )


def tiles_html(session: Session) -> str:
    """The numbers of the moment, and how far the run is."""
    latest = session.latest
    if latest is None:
        return ""
    last = (session.evaluations or [latest])[-1]
    name, text = session.labels.metric.capitalize(), session.labels.text
    shown = {"Step": f"{count(latest.step)} <small>of {count(latest.steps)}</small>"}
    if latest.clamped:
        shown[f"{name} on device"] = text(last.device_metric)
        shown[f"{name} on twin"] = text(last.twin_metric)
        shown["Device passes"] = count(latest.device_passes)
    else:
        shown[name] = text(last.device_metric)
    shown["Steps per second"] = number(latest.steps_per_second)
    if session.active:
        shown["Time left"] = duration(latest.seconds_left)
    else:
        shown["Training time"] = duration(latest.seconds)
    return tiles(shown, "Steps done", latest.step, latest.steps)


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
        self._ending = (RefreshLoop(self.refresh, lambda: sweep.active, sweep).close,)

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
            self._tiles.value = sweep_tiles(sweep)
            self.plots.show([accuracies(sweep)])


def sweep_tiles(sweep: Sweep) -> str:
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
    for ended, one in enumerate(list(sweep.done.values()), start=1):
        for row in one.rows:
            if (used := row.used) is not None:
                found.setdefault(row.method, []).append((ended, 100 * used))
    lines = []
    for place, (method, points) in enumerate(sorted(found.items())):
        x, y = np.array(points, float).T
        mean = np.cumsum(y) / np.arange(1, len(y) + 1)
        lines.append(Series(method, x, mean, style=line_style(place), markers=True))
    note = "waiting for the first task"
    title, limits = "Mean accuracy so far", (0.0, float(len(sweep.jobs)))
    return Plot(title, "tasks ended", "accuracy (%)", lines, unit="%", x_limits=limits, note=note)
