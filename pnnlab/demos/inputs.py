"""Inputs for live inference: drawn digits, spoken vowels, test examples."""

import base64
from collections.abc import Callable, Sequence
from html import escape
from io import BytesIO
from typing import Any, NamedTuple, final

import ipywidgets as widgets
import numpy as np
import traitlets
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torch import Tensor

from pnnlab.demos.drawing import Drawing
from pnnlab.demos.speech import formants
from pnnlab.errors import PnnlabError
from pnnlab.tasks import Task
from pnnlab.tasks.speech import (
    PITCHES,
    TIMES,
    VOWELS,
    WORDS,
    formant_features,
    formant_hz,
    synthesised,
)
from pnnlab.views.chart import Plot, Series, draw_live
from pnnlab.views.parts import PageWidget, assets, button
from pnnlab.views.plotgrid import PlotGrid
from pnnlab.views.style import LineStyle

SIZE = 1000  # strokes are in thousandths of the pad
RATE = 16_000  # samples a second of a vowel that is played


@final
class ExampleList(PageWidget):
    """Examples to choose from: each has a ``name`` to be read out, a ``text`` or a ``picture``."""

    _esm, _css = assets("choice")
    title = traitlets.Unicode("").tag(sync=True)
    items = traitlets.List(trait=traitlets.Dict()).tag(sync=True)
    chosen = traitlets.Int(-1).tag(sync=True)
    """Place of what is marked as chosen, or -1; set by whoever handles a choice."""

    def __init__(
        self, title: str, *, on_choose: Callable[[int], None], on_more: Callable[[], None]
    ) -> None:
        super().__init__(title=title)
        self._on_choose, self._on_more = on_choose, on_more

    def offer(self, items: list[dict[str, str]]) -> None:
        """Show other examples; none of them is chosen yet."""
        with self.hold_sync():
            self.items = items
            self.chosen = -1

    def _on_message(self, content: dict[str, Any], _: object) -> None:
        if "more" in content:
            self._on_more()
        elif 0 <= (place := int(content.get("chosen", -1))) < len(self.items):
            self._on_choose(place)


@final
class Sketchpad(PageWidget):
    """A pad to draw on. Strokes are small to send, exact to undo, sharp at every size."""

    _esm, _css = assets("sketchpad")
    title = traitlets.Unicode("Draw").tag(sync=True)
    continuous = traitlets.Bool(True).tag(sync=True)
    """Send a stroke while it is drawn, several times a second, not only when it has ended."""
    # No echo: when it came, the page would have drawn on.
    strokes = traitlets.List(trait=traitlets.List(trait=traitlets.Int())).tag(
        sync=True, echo_update=False
    )
    """Each as x, y, x, y and so on, in thousandths of the pad, from the upper left."""

    @property
    def lines(self) -> list[NDArray[np.float64]]:
        """The strokes as points, each (n, 2), in widths of the pad."""
        return [np.reshape(stroke, (-1, 2)) / SIZE for stroke in self.strokes if stroke]


@final
class Microphone(PageWidget):
    """Records in the browser: gives ``on_sound`` samples, (n,), 1 being full scale, and rate."""

    _esm, _css = assets("microphone", "listening")
    title = traitlets.Unicode("").tag(sync=True)
    seconds = traitlets.Float(1.5).tag(sync=True)
    refused = traitlets.Unicode("").tag(sync=True)
    """Why the last recording could not be used; what a browser refuses, its page shows alone."""

    def __init__(self, title: str, on_sound: Callable[[NDArray[np.float64], float], None]) -> None:
        super().__init__(title=title)
        self._on_sound = on_sound

    def play(self, samples: NDArray[np.float64], rate: float) -> None:
        """Let the page play ``samples``, (n,), in [-1, 1]."""
        self.send({"rate": rate}, [samples.astype("<f4").tobytes()])

    def _on_message(self, content: dict[str, Any], buffers: Sequence[Any]) -> None:
        samples = np.frombuffer(buffers[0], dtype="<f4").astype(np.float64)
        self.refused = ""
        try:
            self._on_sound(samples, float(content["rate"]))
        except PnnlabError as error:
            self.refused = str(error)


class Example(NamedTuple):
    """What is sent through a network: features, (n,), where from, and its class if known."""

    x: Tensor
    source: str
    label: int | None = None


class Input:
    """A way to give examples: choose one of each class of the task's test split, or others."""

    def __init__(
        self, task: Task, send: Callable[[Example], None], title: str = "Choose a test example"
    ) -> None:
        self.task = task
        self.send = send
        self.choice = ExampleList(title, on_choose=self._on_choose, on_more=self._on_more)
        self.plot = PlotGrid()
        self.widget = widgets.VBox([self.choice, self.plot])  # everything that a visitor handles
        self._page = -1
        self._rows: list[int] = []
        self._on_more()

    def show(self, example: Example) -> None:
        """Show what is sent to the network."""
        self.plot.show([self._plot(example)])

    def draw(self, axes: Axes, example: Example) -> None:
        """Draw the same into matplotlib's ``axes``."""
        draw_live(axes, self._plot(example))

    def _plot(self, example: Example) -> Plot:
        x = example.x.detach().double().cpu().numpy()
        line = Series("x", np.arange(len(x)), x, style=LineStyle("green", ()), markers=True)
        return Plot(f"In: {example.source}", "feature", "value", [line], y_limits=(0, 1.02))

    def example(self, row: int) -> Example:
        """A test example, marked as chosen if it is offered."""
        self.choice.chosen = self._rows.index(row) if row in self._rows else -1
        test = self.task.test
        return Example(test.x[row], f"test example {row}", int(test.targets[row]))

    def short(self, label: int) -> str:
        """A class, as the task calls it."""
        return self.task.class_names[label] if self.task.class_names else str(label)

    def name(self, label: int) -> str:
        """A class, as people call it: a vowel with a word that has it."""
        short = self.short(label)
        return f"{short} ({WORDS[VOWELS.index(short)]})" if short in VOWELS else short

    def _button(self, row: int) -> dict[str, str]:
        label = self.name(int(self.task.test.targets[row]))
        return {"name": f"{label}, test example {row}", "text": label}

    def _on_choose(self, place: int) -> None:
        self.send(self.example(self._rows[place]))

    def _on_more(self) -> None:
        self._page += 1
        labels = self.task.test.targets
        places = [(labels == label).nonzero()[:, 0].tolist() for label in range(self.task.classes)]
        self._rows = [rows[self._page % len(rows)] for rows in places if rows]
        self.choice.offer([self._button(row) for row in self._rows])


@final
class ImageInput(Input):
    """Images: draw one, or choose one of the task."""

    def __init__(
        self, task: Task, send: Callable[[Example], None], drawing: Drawing, *, continuous: bool
    ) -> None:
        self.drawing = drawing
        super().__init__(task, send, "Or choose a test image")
        self.pad = Sketchpad(continuous=continuous)
        self.pad.observe(lambda _: self._on_stroke(), "strokes")
        self._pixels = widgets.HTML()
        self.widget = widgets.VBox([self.pad, self._pixels, self.choice])

    def show(self, example: Example) -> None:
        """Show the pixels, enlarged."""
        side = self.drawing.side
        words = f"What goes in, {escape(example.source)}: {side} × {side} pixels"
        image = picture(self.drawing.image(example.x))
        self._pixels.value = (
            f'<figure class="pnn-pixels"><img src="{image}" alt="{words}">'
            f"<figcaption>{words}</figcaption></figure>"
        )

    def draw(self, axes: Axes, example: Example) -> None:
        """Draw the pixels."""
        axes.imshow(self.drawing.image(example.x), cmap="gray", vmin=0, vmax=1)
        axes.set(title=f"In: {example.source}", xlabel="pixel", ylabel="pixel")
        axes.grid(visible=False)

    def example(self, row: int) -> Example:
        """A test image; the pad is wiped, for it is not what is sent."""
        self.pad.strokes = []
        return super().example(row)

    def _button(self, row: int) -> dict[str, str]:
        image = self.drawing.image(self.task.test.x[row])
        return super()._button(row) | {"picture": picture(image)}

    def _on_stroke(self) -> None:
        if lines := self.pad.lines:
            self.choice.chosen = -1
            self.send(Example(self.drawing.features(lines), "your drawing"))


@final
class VowelInput(Input):
    """Vowels: say one, or choose one of the task and listen to it."""

    def __init__(self, task: Task, send: Callable[[Example], None], speakers: str) -> None:
        super().__init__(task, send, "Choose a test token")
        self.speakers = speakers
        words = ", ".join(f"‘{word}’" for word in WORDS[:3])
        self.microphone = Microphone(f"Or say {words} …", self._on_sound)
        self.listen = button("Listen", "volume-up", self._on_listen)
        self.listen.disabled = True
        self._hz = np.empty(0)
        self.plot.show([_formant_plot(self._hz)])
        self.widget = widgets.VBox([self.choice, self.microphone, self.plot, self.listen])

    def show(self, example: Example) -> None:
        """Show the formants, which can be listened to."""
        self._hz = formant_hz(example.x, [self.speakers])
        self.listen.disabled = False
        super().show(example)

    def _plot(self, example: Example) -> Plot:
        return _formant_plot(self._hz, f"In: formants of {example.source}")

    def _on_sound(self, samples: NDArray[np.float64], rate: float) -> None:
        hz = formants(samples, rate, speakers=self.speakers)
        self.choice.chosen = -1
        self.send(Example(formant_features(hz, [self.speakers]), "your voice"))

    def _on_listen(self) -> None:
        self.microphone.play(synthesised(self._hz, RATE, pitch=PITCHES[self.speakers]), RATE)


def picture(image: ArrayLike) -> str:
    """A small grey picture of ``image``, (h, w), in [0, 1], as a data address; 1 is white."""
    values = np.rint(255 * np.clip(np.asarray(image, dtype=np.float64), 0, 1)).astype(np.uint8)
    written = BytesIO()
    Image.fromarray(values).save(written, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(written.getvalue()).decode()


def _formant_plot(hz: NDArray[np.float64], title: str = "Formants") -> Plot:
    """F1 to F3 over the vowel, where they are read; nothing where there are none."""
    at = [float(time.removesuffix("%")) for time in TIMES[1:]]
    rows = hz.reshape(-1, 3)[1:].T
    styles = LineStyle("green", ()), LineStyle("purple", (6, 3)), LineStyle("orange", (2, 2))
    lines = [
        Series(f"F{k}", at, row, style=style, markers=True)
        for k, (row, style) in enumerate(zip(rows, styles, strict=True), start=1)
        if len(row)
    ]
    options: dict[str, Any] = {"unit": "Hz", "x_limits": (0, 100), "note": "say or choose a vowel"}
    return Plot(title, "time (% of the vowel)", "frequency (Hz)", lines, **options)
