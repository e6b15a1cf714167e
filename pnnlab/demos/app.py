"""The whole lab on one page: its views side by side as tabs, in a notebook or as an app."""

import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from html import escape
from itertools import count
from pathlib import Path
from typing import final

import ipywidgets as widgets
import torch

from pnnlab.background import Session
from pnnlab.characterize import ManualControl
from pnnlab.demos.inference import LiveInference
from pnnlab.errors import PnnlabError, RunError, ShapeError
from pnnlab.gradients import physics_aware
from pnnlab.layers import calibrate, deep_pnn, programmed
from pnnlab.plain import seeded
from pnnlab.results.comparison import calibration_inputs
from pnnlab.runs import Run
from pnnlab.storage import user_path
from pnnlab.systems import Circuit
from pnnlab.tasks import digits
from pnnlab.training import FitSettings, Record, Training
from pnnlab.twins import CircuitEquations, PhysicsTwin
from pnnlab.views.dashboard import TrainingDashboard
from pnnlab.views.panel import DevicePanel
from pnnlab.views.parts import View, alert, style_sheet
from pnnlab.views.trainings import PastRuns


@final
class LabApp(View):
    """Views as tabs of one page, each made when its tab is first chosen.

    At the end of a cell it shows itself; ``pnnlab lab --app`` serves such a notebook as an app.

    ``tabs`` has by name what makes a view, such as ``lambda: DevicePanel(control)``: anything with
    a ``widget`` and a ``close()``. If it cannot be made the tab shows the error, and tries again
    when it is chosen again. ``views`` are those that were made.
    """

    alt_text = "The lab on one page"

    def __init__(
        self, tabs: Mapping[str, Callable[[], View]], *, title: str = "The lab", about: str = ""
    ) -> None:
        if not tabs:
            raise ShapeError("an app without tabs shows nothing: give it at least one view.")
        self._makers = dict(tabs)
        self._making = threading.RLock()  # callbacks come in any thread
        self.views: dict[str, View] = {}
        self.tabs = widgets.Tab([widgets.VBox() for _ in tabs], titles=list(tabs), selected_index=0)
        head = widgets.HTML(f"<h1>{escape(title)}</h1><span>{escape(about)}</span>")
        page = [style_sheet("view", "app"), head, self.tabs]
        self.widget = widgets.VBox(page).add_class("pnn-app")
        self.tabs.observe(lambda _: self._open(), "selected_index")
        self._open()

    def close(self) -> None:
        """Take everything off the page. What the views show goes on."""
        with self._making:
            for view in self.views.values():
                view.close()
            super().close()

    def _open(self) -> None:
        place = self.tabs.selected_index
        with self._making:
            if place is None or (name := self.tabs.titles[place]) in self.views:
                return
            try:
                self.views[name] = self._makers[name]()
                shown = self.views[name].widget
            except (PnnlabError, OSError) as error:
                shown = widgets.HTML(alert(error))
            self.tabs.children[place].children = (shown,)


def circuit_lab(root: str | Path = "results", *, epochs: int = 40) -> LabApp:
    """A lab on a simulated RLC-transistor board that learns to read handwritten digits.

    The network is that of the tour. Its twins are of the board's data sheet alone, so there is a
    gap to show, and something to refit. ``root`` is the folder of the runs.
    """
    unit_of = partial(Circuit, input_dim=64, replays=4, output_dim=64)
    board = unit_of(0)
    twin = PhysicsTwin(board, CircuitEquations(board.replays))
    systems, twins = programmed(board, twin, [(4, 64), (4, 64), (10, 10)])
    task = digits()
    network = deep_pnn(systems, twins, physics_aware, seed=0)
    calibrate(network, calibration_inputs(task))
    settings = FitSettings(epochs=epochs, batch_size=32, learning_rate=0.01)
    training = Training(network, task, settings)
    session = Session(RunOnStart(user_path(root), "digits", training))
    images = {f"Digit {task.test.targets[i]}": task.test.x[i] for i in range(3)}
    first = torch.rand(board.param_dim, generator=seeded(0))

    def panel() -> DevicePanel:
        # Its passes are counted apart: those of visitors are no cost of the training.
        control = ManualControl(board, twin, x=task.test.x[0], theta=first)
        return DevicePanel(control, units=unit_of, presets=images, session=session)

    return LabApp(
        {
            "Device": panel,
            "Training": lambda: TrainingDashboard(session),
            "Live inference": lambda: LiveInference(network, task, session=session),
            "Past runs": lambda: PastRuns(root),
        },
        about=f"{board.name}, unit 0, simulated: try it, train it, look at what it learned.",
    )


@final
class RunOnStart:
    """A run that makes its folder, ``name`` with a number that is free, at its first step."""

    def __init__(self, root: Path, name: str, training: Training) -> None:
        self.training = training
        self._root, self._name = root, name
        self._run: Run | None = None

    def records(self) -> Iterator[Record]:
        """Go on from where the training stands, one record a step."""
        if self._run is None:
            folders = (self._root / f"{self._name}-{n:03d}" for n in count(1))
            folder = next(folder for folder in folders if not folder.exists())
            self._run = Run.open(folder, self.training)
        yield from self._run.records()

    def checkpoint(self) -> None:
        """Write a checkpoint of the run."""
        if self._run is None:
            raise RunError("the run has no folder before its first step.")
        self._run.checkpoint()
