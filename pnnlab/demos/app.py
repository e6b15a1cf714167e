"""The whole lab on one page: its views side by side as tabs, in a notebook or as an app."""

import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from html import escape
from pathlib import Path
from typing import Any, Protocol, final

import ipywidgets as widgets
import torch

from pnnlab.background import Session
from pnnlab.characterize import ManualControl
from pnnlab.demos.inference import LiveInference
from pnnlab.errors import PnnlabError, RunError, ShapeError
from pnnlab.gradients import physics_aware
from pnnlab.layers import calibrate, deep_pnn
from pnnlab.plain import seeded
from pnnlab.results.baselines import calibration_inputs
from pnnlab.runs import Run
from pnnlab.storage import user_path
from pnnlab.systems import Circuit
from pnnlab.tasks import digits
from pnnlab.training import FitSettings, Record, Training
from pnnlab.twins import CircuitEquations, PhysicsTwin
from pnnlab.views.dashboard import TrainingDashboard
from pnnlab.views.panel import DevicePanel
from pnnlab.views.parts import discard, style_sheet
from pnnlab.views.pastruns import PastRuns


class Seen(Protocol):
    """A view, as all of them here are."""

    @property
    def widget(self) -> widgets.Widget:
        """What is placed on the page."""

    def close(self) -> None:
        """Take it off the page."""


@final
class LabApp:
    """Views as tabs of one page, each made when it is first looked at.

    At the end of a cell it shows itself; ``pnnlab lab --app`` serves such a notebook as an app.

    Parameters
    ----------
    tabs : mapping of str to callable
        By name of the tab, what makes its view, such as ``lambda: DevicePanel(control)``. A view
        that cannot be made says why in its place, and is tried again when its tab is chosen again.
    title : str
    about : str
        What this lab is, in a line.

    Attributes
    ----------
    widget : ipywidgets.VBox
        The whole page, to be placed in a layout of your own.
    tabs : ipywidgets.Tab
    views : dict of str to view
        Those that were made.

    Raises
    ------
    ShapeError
        There is no tab.
    """

    def __init__(
        self, tabs: Mapping[str, Callable[[], Seen]], *, title: str = "The lab", about: str = ""
    ) -> None:
        if not tabs:
            raise ShapeError("an app without tabs shows nothing: give it at least one view.")
        self._makers = dict(tabs)
        self._making = threading.RLock()
        self.views: dict[str, Seen] = {}
        self.tabs = widgets.Tab([widgets.VBox() for _ in tabs], titles=list(tabs), selected_index=0)
        head = widgets.HTML(f"<h1>{escape(title)}</h1><span>{escape(about)}</span>")
        self.widget = widgets.VBox([style_sheet("app"), head, self.tabs])
        self.widget.add_class("pnn-app")
        self.tabs.observe(lambda change: self._open(change["new"]), "selected_index")
        self._open(0)

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        bundle: dict[str, Any] = self.widget._repr_mimebundle_(**kwargs)
        # The same words in every run; they stand in for the app where no widget can live.
        return bundle | {"text/plain": "The lab on one page (alive in Jupyter)"}

    def show(self, name: str) -> Seen:
        """Turn to a tab, as a click on it does.

        Returns
        -------
        view
            What it shows.

        Raises
        ------
        ShapeError
            There is no such tab.
        """
        if name not in self._makers:
            raise ShapeError(f"no tab {name!r}; there are {', '.join(self._makers)}.")
        self.tabs.selected_index = list(self._makers).index(name)
        with self._making:
            if name not in self.views:
                self._make(name)
            return self.views[name]

    def close(self) -> None:
        """Take everything off the page. What the views show goes on."""
        with self._making:
            for view in self.views.values():
                view.close()
            discard(self.widget)

    def _open(self, place: int | None) -> None:
        """Make the view of a tab, or say in its place why there is none."""
        if place is None:
            return
        name = list(self._makers)[place]
        with self._making:  # callbacks come in any thread
            if name in self.views:
                return
            try:
                self._make(name)
            except (PnnlabError, OSError) as error:
                said = f'<div role="alert" class="pnn-error">{escape(str(error))}</div>'
                self.tabs.children[place].children = (widgets.HTML(said),)

    def _make(self, name: str) -> None:
        view = self._makers[name]()
        self.views[name] = view
        self.tabs.children[list(self._makers).index(name)].children = (view.widget,)


def circuit_lab(
    root: str | Path = "results", *, unit: int = 0, seed: int = 0, epochs: int = 40
) -> LabApp:
    """A lab to touch, on a simulated RLC-transistor board that learns to read handwritten digits.

    The network is that of the tour. Its twins know the board from its data sheet alone, so there
    is a gap to be seen, and something to refit.

    Parameters
    ----------
    root : path
        Folder of the runs. A run gets a folder of its own in it once it is started.
    unit : int
        Which fabricated copy of the board.
    seed : int
    epochs : int
    """
    board = Circuit(unit, input_dim=64, replays=4, output_dim=64, seed=seed)
    systems = [
        board,
        board.reprogrammed(replays=4, output_dim=64),
        board.reprogrammed(replays=10, output_dim=10),
    ]
    twins = [PhysicsTwin(system, CircuitEquations(system.replays)) for system in systems]
    task = digits()
    network = deep_pnn(systems, twins, physics_aware, seed=seed)
    calibrate(network, calibration_inputs(task))
    settings = FitSettings(epochs=epochs, batch_size=32, learning_rate=0.01, seed=seed)
    training = Training(network, task, settings)
    session = kept_session(user_path(root), training, "digits")
    # The same board, counted by itself: what a visitor asks of it is no cost of the training.
    touched = board.reprogrammed(replays=4, output_dim=64)
    images = {f"Digit {task.test.targets[i]}": task.test.x[i] for i in range(3)}
    first = torch.rand(board.param_dim, generator=seeded(seed))

    def panel() -> DevicePanel:
        control = ManualControl(touched, twins[0], x=task.test.x[0], theta=first)
        other = partial(Circuit, input_dim=64, replays=4, output_dim=64)
        return DevicePanel(control, units=other, presets=images, session=session)

    return LabApp(
        {
            "Device": panel,
            "Training": lambda: TrainingDashboard(session),
            "Live inference": lambda: LiveInference(network, task, session=session),
            "Past runs": lambda: PastRuns(root),
        },
        about=f"{board.name}, unit {unit}, simulated: touch it, train it, look at what it learned.",
    )


def kept_session(root: Path, training: Training, name: str) -> Session:
    """A session whose run makes its folder below ``root`` when it is started, not before.

    The folder is ``name`` with the first number that is free.
    """
    return Session(_LateRun(root, training, name))


class _LateRun:
    """A run that has no folder before its first step."""

    def __init__(self, root: Path, training: Training, name: str) -> None:
        self.training = training
        self._root, self._name = root, name
        self._run: Run | None = None

    def records(self) -> Iterator[Record]:
        if self._run is None:
            numbers = (self._root / f"{self._name}-{n:03d}" for n in range(1, 100_000))
            folder = next(folder for folder in numbers if not folder.exists())
            self._run = Run.create(folder, self.training)
        yield from self._run.records()

    def checkpoint(self) -> None:
        if self._run is None:
            raise RunError("the run has no folder before its first step.")
        self._run.checkpoint()
