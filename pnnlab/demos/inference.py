"""Live inference: an input through the devices of a trained network, layer by layer."""

import threading
from collections.abc import Callable
from functools import partial
from html import escape

import ipywidgets as widgets
import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from pnnlab.background import Session
from pnnlab.demos.inputs import Drawing, Example, ImageInput, Input, VowelInput, drawing_for
from pnnlab.errors import DataError
from pnnlab.layers import physical_layers
from pnnlab.physical_system import SimulatedSystem
from pnnlab.tasks import Task
from pnnlab.training import CLASSIFICATION, Inference, LayerResponse, infer
from pnnlab.views.chart import Plot, PlotGrid, Series, draw_live
from pnnlab.views.parts import (
    LatestRequests,
    OneOf,
    View,
    bar,
    button,
    count,
    frame,
    number,
    show_error,
)
from pnnlab.views.style import PALETTE, STYLE, LineStyle, Picture

READ_OUT = "read-out y (full scale)"
FEW = 60  # points that are marked one by one
FORMANT_TASKS = ("vowels", "hillenbrand-vowels")  # whose features formant_features scales
NOTHING = '<div role="status" class="pnn-verdict"><span>Nothing sent yet.</span></div>'
percent = CLASSIFICATION.labels.text


class LiveInference(View):
    """A trained network to try out: what goes in, what each layer does, which class it names.

    At the end of a cell it shows itself. A digit is drawn or chosen, a vowel said or chosen; then
    it goes through the devices of the network, with the twins beside them. A device that is real,
    or that a training uses, is driven when a stroke has ended; a simulated one already while it is
    drawn.

    Parameters
    ----------
    network : nn.Module
        Trained on ``task``. It is used and never changed.
    drawing : Drawing, optional
        How strokes become features, if the task's pixels are subsampled or in an order of their
        own, such as ``dataclasses.replace(drawing_for(task), subsample=True)``.
    speakers : str
        Whose vowels the task has: ``"women"``, ``"men"`` or ``"children"``.
    session : Session, optional
        A training that uses the same devices; an example is sent between two of its steps.

    Examples
    --------
    >>> LiveInference(training.network, task).choose(0)  # doctest: +SKIP
    """

    alt_text = "Live inference"

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
        self.inference: Inference | None = None  # what became of the last example
        self.passes = 0  # of devices, for this view in all
        self.requests = LatestRequests()
        self._ending = (self.requests.close,)
        layers = physical_layers(network)
        drawing = drawing or drawing_for(task)
        self.source: Input
        if drawing is not None:
            simulated = all(isinstance(layer.system, SimulatedSystem) for layer in layers)
            live = simulated and session is None
            self.source = ImageInput(task, self._request, drawing, continuous=live)
        elif task.name in FORMANT_TASKS:
            self.source = VowelInput(task, self._request, speakers)
        else:
            self.source = Input(task, self._request)
        self._example: Example | None = None
        self._sending = threading.Lock()
        self.again = button("Send again", "refresh", self._on_again)
        self.again.disabled = True
        self.shown = OneOf({"Read-outs": "Read-outs", "Drives": "Drives"})
        self.shown.observe(lambda _: self._show_layers(), "value")
        self.plots = PlotGrid()
        names = [f"Layer {n}" for n in range(1, len(layers) + 1)]
        note = "nothing sent yet"
        self.plots.show([Plot(name, "output", READ_OUT, note=note) for name in names])
        self._verdict, self._odds, self._refusal = (widgets.HTML() for _ in range(3))
        self._verdict.value = NOTHING
        self._cost = widgets.HTML("<span>0 device passes so far</span>")
        if not layers:
            self._cost.value = "A digital network: no device is driven."
        top = bar(self._verdict, self.shown, self.again)
        middle = widgets.VBox([top, self._refusal, self.plots])
        columns = widgets.Box([self.source.widget, middle, widgets.VBox([self._odds, self._cost])])
        self.widget = frame("inference", columns.add_class("pnn-columns"))
        show_error(self._refusal, "")

    def choose(self, row: int) -> "LiveInference":
        """Send a test example through, wait for it, and return this view."""
        test = self.source.task.test
        if not 0 <= row < len(test):
            raise DataError(f"row is {row}; the test split has rows 0 to {len(test) - 1}.")
        self._send(self.source.example(row))
        return self

    def figure(self) -> Picture:
        """What the view shows now, as a still picture; `DataError` before anything was sent."""
        result = self.inference
        if result is None or self._example is None:
            raise DataError("nothing has been sent yet: choose(0) sends the first test example.")
        rows = 1 + (len(result.responses) + 1) // 2
        with rc_context(dict(STYLE)):
            figure = Figure(figsize=(9.6, 0.6 + 2.7 * rows), layout="constrained")
            grid = figure.subplots(rows, 2, squeeze=False)
            self.source.draw(grid[0, 0], self._example)
            _draw_odds(grid[0, 1], result, self.source.short)
            for place, axes in enumerate(grid[1:].flat):
                if place < len(result.responses):
                    draw_live(axes, _read_out_plot(result.responses[place]))
                else:
                    axes.remove()
            spent = f"   ·   {self.passes} device passes" if result.responses else ""
            title = _verdict(result, self._example.label, self.source.name) + spent
            figure.suptitle(title, fontsize=10, x=0.01, ha="left")
        return Picture(figure)

    def _request(self, example: Example) -> None:
        self.requests.submit("inference", partial(self._try, example))

    def _on_again(self) -> None:
        if self._example is not None:
            self._request(self._example)

    def _try(self, example: Example) -> None:
        try:
            self._send(example)
        except Exception as error:  # noqa: BLE001 - a driver may raise anything
            show_error(self._refusal, error)

    def _send(self, example: Example) -> None:
        with self._sending:
            act = partial(infer, self.network, example.x)
            if self.session is None:
                result = act()
            else:
                result = self.session.do(f"{example.source} through the network", act).result()
            self._example, self.inference = example, result
            self.passes += result.device_passes
            self.source.show(example)
            self._show(example, result)

    def _show(self, example: Example, result: Inference) -> None:
        mark = "" if example.label is None else ("✓" if example.label == result.predicted else "✗")
        self._verdict.value = (
            f'<div role="status" class="pnn-verdict"><b aria-hidden="true">'
            f"{escape(self.source.short(result.predicted))} {mark}</b>"
            f"<span>{escape(_verdict(result, example.label, self.source.name))}</span></div>"
        )
        self._odds.value = _odds_html(result, self.source.name)
        if result.responses:
            each = count(result.device_passes)
            spent = f"{each} device passes for this one, {count(self.passes)} so far"
            self._cost.value = f"<span>{spent}</span>"
        self.again.disabled = False
        show_error(self._refusal, "")
        self._show_layers()

    def _show_layers(self) -> None:
        if self.inference is not None:
            plot = _drive_plot if self.shown.value == "Drives" else _read_out_plot
            self.plots.show([plot(response) for response in self.inference.responses])


def _read_out_plot(response: LayerResponse) -> Plot:
    lines = [_line("device", response.measured, LineStyle("blue", ()))]
    if response.modelled is not None:
        lines.append(_line("twin", response.modelled, LineStyle("vermillion", (6, 3))))
    gap = "" if response.gap is None else f" · gap {number(100 * response.gap)} %"
    label = f"output{_of_shots(response)}"
    return Plot(f"Layer {response.name}{gap}", label, READ_OUT, lines)


def _drive_plot(response: LayerResponse) -> Plot:
    clamped = f" · {percent(response.clamped)} clamped" if response.clamped else ""
    title, label = f"Layer {response.name}{clamped}", f"input{_of_shots(response)}"
    lines = [_line("drive", response.drive, LineStyle("green", ()))]
    return Plot(title, label, "drive x (of its range)", lines, y_limits=(0.0, 1.02))


def _line(label: str, values: Tensor, style: LineStyle) -> Series:
    y = values.detach().double().cpu().flatten().numpy()
    return Series(label, np.arange(len(y)), y, style=style, markers=len(y) <= FEW)


def _of_shots(response: LayerResponse) -> str:
    return f", {len(response.drive)} shots in a row" if len(response.drive) > 1 else ""


def _verdict(result: Inference, label: int | None, name: Callable[[int], str]) -> str:
    """Which class the network names, in words, and whether that is right."""
    sure = percent(float(result.probabilities[result.predicted]))
    where = "The device reads" if result.responses else "The network reads"
    words = f"{where} {name(result.predicted)}, {sure} sure"
    if label is not None:
        words += ", and is right" if label == result.predicted else f", but it is {name(label)}"
    if result.twin_probabilities is None:
        return f"{words}."
    best = int(result.twin_probabilities.argmax())
    alone = percent(float(result.twin_probabilities[best]))
    return f"{words}. Its twin alone would read {name(best)}, {alone} sure."


def _odds_html(result: Inference, name: Callable[[int], str]) -> str:
    """Every class with its probability, a bar as long, and a tick where the twin puts it."""
    twin = result.twin_probabilities
    rows = []
    for label, chance in enumerate(result.probabilities.tolist()):
        tick = spoken = ""
        if twin is not None:
            tick = f'<u style="left:{100 * float(twin[label]):.1f}%"></u>'
            spoken = f'<small class="pnn-hidden">, twin {percent(float(twin[label]))}</small>'
        first = ' class="pnn-first"' if label == result.predicted else ""
        rows.append(
            f"<li{first}><span>{escape(name(label))}</span>"
            f'<i><em style="width:{100 * chance:.1f}%"></em>{tick}</i>'
            f"<span>{percent(chance)}{spoken}</span></li>"
        )
    key = "" if twin is None else '<p aria-hidden="true"><i></i> device <u></u> twin alone</p>'
    return (
        f'<ul class="pnn-classes" aria-label="Probability of each class">{"".join(rows)}</ul>{key}'
    )


def _draw_odds(axes: Axes, result: Inference, name: Callable[[int], str]) -> None:
    labels = np.arange(len(result.probabilities))
    bars = axes.bar(labels, 100 * result.probabilities.numpy(), 0.6, color=PALETTE["blue"])
    bars[result.predicted].set_edgecolor("black")
    bars[0].set_label("device" if result.responses else "network")
    if result.twin_probabilities is not None:
        twin = 100 * result.twin_probabilities.numpy()
        axes.plot(labels, twin, "_", ms=14, mew=2, color=PALETTE["vermillion"], label="twin alone")
    axes.set(title="Out: class probabilities", ylabel="probability (%)", ylim=(0, 105))
    axes.set_xticks(labels, [name(label) for label in labels.tolist()])
    axes.legend(fontsize="small")
