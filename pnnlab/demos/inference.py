"""Live inference: an input through the devices of a trained network, layer by layer."""

import threading
from collections.abc import Callable
from functools import partial
from html import escape
from typing import Any

import ipywidgets as widgets
import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from pnnlab.background import Session
from pnnlab.demos.drawing import Drawing
from pnnlab.demos.inputs import Given, Input, input_for
from pnnlab.errors import DataError, PnnlabError
from pnnlab.layers import physical_layers
from pnnlab.protocols import SimulatedSystem
from pnnlab.tasks import Task
from pnnlab.training import Journey, Stage, journey
from pnnlab.views.controls import OneOf
from pnnlab.views.parts import LatestRequests, button, count, discard, percent, style_sheet
from pnnlab.views.plotgrid import Line, Panel, PlotGrid, number
from pnnlab.views.style import PALETTE, STYLE, Picture

READ_OUT = "read-out y (full scale)"
FEW = 60  # points that are marked one by one
Name = Callable[[int], str]


def read_out_panel(stage: Stage) -> Panel:
    """What the device gave, and the twin beside it."""
    lines = [_line("device", stage.measured, "blue")]
    if stage.modelled is not None:
        lines.append(_line("twin", stage.modelled, "vermillion", dash=(6, 3)))
    gap = "" if stage.gap is None else f" · gap {number(100 * stage.gap)} %"
    return Panel(
        title=f"Layer {stage.name}{gap}",
        x_label=f"output{_of_shots(stage)}",
        y_label=READ_OUT,
        lines=lines,
    )


def drive_panel(stage: Stage) -> Panel:
    """What went into the device."""
    clamped = f" · {percent(stage.clamped)} clamped" if stage.clamped else ""
    return Panel(
        title=f"Layer {stage.name}{clamped}",
        x_label=f"input{_of_shots(stage)}",
        y_label="drive x (of its range)",
        lines=[_line("drive", stage.drive, "green")],
        y_range=(0.0, 1.02),
    )


def waiting_panel(number_of_layer: int) -> Panel:
    """A layer that nothing has gone through yet."""
    return Panel(
        title=f"Layer {number_of_layer}",
        x_label="output",
        y_label=READ_OUT,
        note="nothing sent yet",
    )


def verdict(went: Journey, given: Given, name: Name) -> str:
    """What the network says, in words."""
    sure = percent(float(went.probabilities[went.winner]))
    where = "The device reads" if went.stages else "The network reads"
    said = f"{where} {name(went.winner)}, {sure} sure"
    if given.label is not None:
        right = given.label == went.winner
        said += ", and is right" if right else f", but it is {name(given.label)}"
    if went.twin_probabilities is None:
        return f"{said}."
    best = int(went.twin_probabilities.argmax())
    alone = percent(float(went.twin_probabilities[best]))
    return f"{said}. Its twin alone would read {name(best)}, {alone} sure."


def verdict_html(went: Journey, given: Given, source: Input) -> str:
    """`verdict`, spoken by screen readers, with the winner large."""
    mark = "" if given.label is None else ("✓" if given.label == went.winner else "✗")
    return (
        f'<div role="status" class="pnn-verdict"><b aria-hidden="true">'
        f"{escape(source.short(went.winner))} {mark}</b>"
        f"<span>{escape(verdict(went, given, source.name))}</span></div>"
    )


def odds_html(went: Journey, name: Name) -> str:
    """Every class with its probability, a bar as long, and a tick where the twin sees it."""
    twin = went.twin_probabilities
    rows = []
    for label, chance in enumerate(went.probabilities.tolist()):
        tick = spoken = ""
        if twin is not None:
            tick = f'<u style="left:{100 * float(twin[label]):.1f}%"></u>'
            spoken = f'<small class="pnn-spoken">, twin {percent(float(twin[label]))}</small>'
        first = ' class="pnn-first"' if label == went.winner else ""
        rows.append(
            f"<li{first}><span>{escape(name(label))}</span>"
            f'<i><em style="width:{100 * chance:.1f}%"></em>{tick}</i>'
            f"<span>{percent(chance)}{spoken}</span></li>"
        )
    key = "" if twin is None else '<p aria-hidden="true"><i></i> device <u></u> twin alone</p>'
    return f'<ul class="pnn-odds" aria-label="Probability of each class">{"".join(rows)}</ul>{key}'


def travel_figure(source: Input, given: Given, went: Journey, passes: int) -> Picture:
    """The journey as a still picture: the example, the read-outs of the layers, the classes."""
    rows = 1 + (len(went.stages) + 1) // 2
    with rc_context(dict(STYLE)):
        figure = Figure(figsize=(9.6, 0.6 + 2.7 * rows), layout="constrained")
        grid = figure.subplots(rows, 2, squeeze=False)
        source.draw(grid[0, 0], given)
        _odds(grid[0, 1], went, source.short)
        for place, axes in enumerate(grid[1:].flat):
            if place < len(went.stages):
                read_out_panel(went.stages[place]).draw(axes)
            else:
                axes.remove()
        spent = f"   ·   {passes} device passes" if went.stages else ""
        said = f"{verdict(went, given, source.name)}{spent}"
        figure.suptitle(said, fontsize=10, x=0.01, ha="left")
    return Picture(figure)


def _odds(axes: Axes, went: Journey, name: Name) -> None:
    labels = np.arange(len(went.probabilities))
    shown = axes.bar(labels, 100 * went.probabilities.numpy(), 0.6, color=PALETTE["blue"])
    shown[went.winner].set_edgecolor("black")
    shown[0].set_label("device" if went.stages else "network")
    if went.twin_probabilities is not None:
        twin = 100 * went.twin_probabilities.numpy()
        axes.plot(labels, twin, "_", ms=14, mew=2, color=PALETTE["vermillion"], label="twin alone")
    axes.set(title="Out: class probabilities", ylabel="probability (%)", ylim=(0, 105))
    axes.set_xticks(labels, [name(label) for label in labels.tolist()])
    axes.legend(fontsize="small")


def _line(label: str, values: Tensor, color: str, dash: tuple[int, ...] = ()) -> Line:
    y = values.detach().double().cpu().flatten().numpy()
    x = np.arange(len(y))
    return Line(label=label, x=x, y=y, color=color, dash=dash, markers=len(y) <= FEW)


def _of_shots(stage: Stage) -> str:
    return f", {len(stage.drive)} shots in a row" if len(stage.drive) > 1 else ""


NOTHING = '<div role="status" class="pnn-verdict"><span>Nothing sent yet.</span></div>'
SHOWN = (("Read-outs", read_out_panel), ("Drives", drive_panel))


class LiveInference:
    """A trained network under a visitor's hands: what goes in, what each layer does, what it reads.

    At the end of a cell it shows itself. A digit is drawn or chosen, a vowel said or chosen; then
    it goes through the devices of the network, and the twins show beside them. Nothing is driven
    before something is asked for. A device that is real, or that a training uses, is driven when
    a stroke has ended; a simulated one already while it is drawn.

    Parameters
    ----------
    network : nn.Module
        Trained on ``task``. It is used and never changed.
    task : Task
        Says how examples look, what the classes are called, and offers its test split.
    drawing : Drawing, optional
        How strokes become features, if the task's pixels are subsampled or in an order of their
        own; by default as `pnnlab.demos.drawing.drawing_for` says.
    speakers : str
        Who speaks, ``"women"``, ``"men"`` or ``"children"``, as the task was made: of vowels alone.
    session : Session, optional
        A training that uses the same devices; it is asked for a moment between two steps.

    Attributes
    ----------
    widget : ipywidgets.VBox
        The whole view, to be placed in a layout of your own.
    source : Input
        Pad or microphone, and the examples to choose from.
    journey : Journey or None
        The last one.
    passes : int
        Device passes that all journeys of this view have cost.

    Examples
    --------
    >>> LiveInference(training.network, task).choose(0)  # doctest: +SKIP
    """

    def __init__(
        self,
        network: nn.Module,
        task: Task,
        *,
        drawing: Drawing | None = None,
        speakers: str = "women",
        session: Session | None = None,
    ) -> None:
        self.network = network
        self.session = session
        self.journey: Journey | None = None
        self.passes = 0
        self.requests = LatestRequests()
        layers = physical_layers(network)
        simulated = all(isinstance(layer.system, SimulatedSystem) for layer in layers)
        self.source = input_for(
            task,
            self._ask,
            drawing=drawing,
            speakers=speakers,
            continuous=simulated and session is None,
        )
        self._given: Given | None = None
        self._travelling = threading.Lock()
        self.again = button("Send again", "refresh", self._on_again)
        self.again.disabled = True
        self.shown = OneOf({name: name for name, _ in SHOWN})
        self.shown.observe(lambda _: self._show_stages(), "value")
        self.plots = PlotGrid()
        self.plots.show([waiting_panel(number) for number in range(1, len(layers) + 1)])
        self._verdict, self._odds = widgets.HTML(), widgets.HTML()
        self._cost, self._refusal = widgets.HTML(), widgets.HTML()
        self._verdict.value = (
            '<div role="status" class="pnn-verdict"><span>Nothing sent yet.</span></div>'
        )
        self.widget = self._laid_out()
        self._refuse("")
        self._count()

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        bundle: dict[str, Any] = self.widget._repr_mimebundle_(**kwargs)
        # The same words in every run; they stand in for the view where no widget can live.
        return bundle | {"text/plain": "Live inference (alive in Jupyter)"}

    def choose(self, row: int) -> "LiveInference":
        """Send a test example through, and wait until it has arrived.

        Raises
        ------
        DataError
            The test split has no such row.
        PnnlabError
            Whatever a device refused.
        """
        test = self.source.task.test
        if not 0 <= row < len(test):
            raise DataError(f"row is {row}; the test split has rows 0 to {len(test) - 1}.")
        self._travel(self.source.example(row))
        return self

    def figure(self) -> Picture:
        """What the view shows now, as a still picture that every viewer can show.

        Raises
        ------
        DataError
            Nothing has been sent yet.
        """
        if self.journey is None or self._given is None:
            raise DataError("nothing has been sent yet: choose(0) sends the first test example.")
        return travel_figure(self.source, self._given, self.journey, self.passes)

    def close(self) -> None:
        """Take the widgets off the page. The network stays as it is."""
        self.requests.forget()
        discard(self.widget)

    def _ask(self, given: Given) -> None:
        """Send an example soon; of several that wait, only the newest is sent."""
        self.requests.ask("journey", partial(self._try, given))

    def _on_again(self) -> None:
        if self._given is not None:
            self._ask(self._given)

    def _try(self, given: Given) -> None:
        """Send an example, or say in place why that is refused."""
        try:
            self._travel(given)
        except (PnnlabError, OSError, RuntimeError) as error:  # torch's own are RuntimeErrors
            self._refuse(str(error))

    def _travel(self, given: Given) -> None:
        with self._travelling:
            act = partial(journey, self.network, given.x)
            if self.session is None:
                went = act()
            else:
                went = self.session.do(f"{given.what} through the network", act).result()
            self._given, self.journey = given, went
            self.passes += went.device_passes
            self._show(given, went)

    def _show(self, given: Given, went: Journey) -> None:
        self.source.show(given)
        self._verdict.value = verdict_html(went, given, self.source)
        self._odds.value = odds_html(went, self.source.name)
        self.again.disabled = False
        self._refuse("")
        self._show_stages()
        self._count()

    def _show_stages(self) -> None:
        if self.journey is not None:
            panel = dict(SHOWN)[self.shown.value]
            self.plots.show([panel(stage) for stage in self.journey.stages])

    def _count(self) -> None:
        if not physical_layers(self.network):
            self._cost.value = "A digital network: no device is driven."
        elif self.journey is not None:
            each = count(self.journey.device_passes)
            spent = f"{each} device passes for this one, {count(self.passes)} so far"
            self._cost.value = f"<span>{spent}</span>"
        else:
            self._cost.value = "<span>0 device passes so far</span>"

    def _refuse(self, words: str) -> None:
        said = f'<div role="alert" class="pnn-refusal">{escape(words)}</div>'
        self._refusal.value = said if words else ""
        self._refusal.layout.display = None if words else "none"

    def _laid_out(self) -> widgets.VBox:
        bar = widgets.HBox([self._verdict, self.shown.widget, self.again])
        middle = widgets.VBox([bar, self._refusal, self.plots])
        right = widgets.VBox([self._odds, self._cost])
        left = self.source.widget
        for part, name in ((left, "give"), (middle, "way"), (right, "read"), (bar, "bar")):
            part.add_class(f"pnn-{name}")
        columns = widgets.Box([left, middle, right])
        columns.add_class("pnn-columns")
        whole = widgets.VBox([style_sheet("inference"), columns])
        whole.add_class("pnn-inference")
        return whole
