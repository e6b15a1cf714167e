"""Inputs for live inference: drawn digits, spoken vowels, test examples."""

import base64
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO
from typing import Any, final

import anywidget
import ipywidgets as widgets
import numpy as np
import traitlets
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torch import Tensor

from pnnlab.demos.drawing import MNIST_FRAME, Drawing, Frame, drawing_for, inked
from pnnlab.demos.speech import formant_features, formant_hz, formants, synthesised
from pnnlab.errors import PnnlabError
from pnnlab.tasks import Task
from pnnlab.tasks.hillenbrand1995 import TIMES, VOWELS, WORDS
from pnnlab.views.parts import assets, button, shares
from pnnlab.views.plotgrid import Line, Panel, PlotGrid


@dataclass(frozen=True)
class Item:
    """One thing to choose.

    Attributes
    ----------
    name : str
        Said in full, to those who point at it or listen.
    text : str
        Written on the button, if there is no picture.
    picture : str
        A data address, as `picture` makes them, or empty.
    """

    name: str
    text: str = ""
    picture: str = ""


@final
class ExampleList(anywidget.AnyWidget):
    """A row of things to choose from, and a button for others.

    Parameters
    ----------
    title, more : str
        Above the row, and on the button for others.
    on_choose : callable
        Called with the place of what was chosen.
    on_more : callable
        Called when others are wanted.

    Attributes
    ----------
    chosen : int
        Place of what is marked as chosen, or -1. Whoever is told of a choice marks it.
    """

    _esm, _css = assets("choice")
    title = traitlets.Unicode("").tag(sync=True)
    more = traitlets.Unicode("").tag(sync=True)
    items = traitlets.List(trait=traitlets.Dict()).tag(sync=True)
    chosen = traitlets.Int(-1).tag(sync=True)

    def __init__(
        self,
        title: str,
        more: str,
        *,
        on_choose: Callable[[int], None],
        on_more: Callable[[], None],
    ) -> None:
        super().__init__(title=title, more=more)
        self._on_choose, self._on_more = on_choose, on_more
        self.on_msg(self._on_message)

    def offer(self, items: Sequence[Item]) -> None:
        """Show other things; none of them is chosen yet."""
        with self.hold_sync():
            self.items = [vars(item) for item in items]
            self.chosen = -1

    def _on_message(self, _: object, content: dict[str, Any], __: object) -> None:
        if "more" in content:
            self._on_more()
        elif 0 <= (place := int(content.get("chosen", -1))) < len(self.items):
            self._on_choose(place)


def picture(image: ArrayLike) -> str:
    """A small grey picture of ``image``, (h, w), in [0, 1], as a data address; 1 is white."""
    values = np.rint(255 * np.clip(np.asarray(image, dtype=np.float64), 0, 1)).astype(np.uint8)
    written = BytesIO()
    Image.fromarray(values).save(written, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(written.getvalue()).decode()


SIZE = 1000  # strokes are in thousandths of the pad


@final
class Sketchpad(anywidget.AnyWidget):
    """What a hand draws, as strokes: small to send, exact to undo, sharp at every size.

    Parameters
    ----------
    title : str
        What is to be drawn.
    frame : Frame
        How `image` places and scales the drawing.
    continuous : bool
        Tell of a stroke while it is drawn, several times a second, not only when it has ended.

    Attributes
    ----------
    strokes : list of list of int
        Each stroke as x, y, x, y and so on, in thousandths of the pad, from the upper left.
    """

    _esm, _css = assets("sketchpad")
    title = traitlets.Unicode("Draw").tag(sync=True)
    continuous = traitlets.Bool(True).tag(sync=True)
    # No echo: when it came, the page would have drawn on.
    strokes = traitlets.List(trait=traitlets.List(trait=traitlets.Int())).tag(
        sync=True, echo_update=False
    )

    def __init__(
        self, title: str = "Draw", *, frame: Frame = MNIST_FRAME, continuous: bool = True
    ) -> None:
        super().__init__(title=title, continuous=continuous)
        self.frame = frame
        shares(self)

    @property
    def lines(self) -> list[NDArray[np.float64]]:
        """The strokes as points, each (n, 2), in widths of the pad."""
        return [np.reshape(stroke, (-1, 2)) / SIZE for stroke in self.strokes if stroke]

    @property
    def image(self) -> NDArray[np.float64]:
        """The drawing, (side, side), in [0, 1], placed and scaled as its frame says.

        Raises
        ------
        DataError
            Nothing is drawn.
        """
        return inked(self.lines, self.frame)

    def undo(self) -> None:
        """Take the last stroke back."""
        self.strokes = self.strokes[:-1]

    def clear(self) -> None:
        """Take all strokes back."""
        self.strokes = []


SECONDS = 1.5


@final
class Microphone(anywidget.AnyWidget):
    """Records in the browser. No sound is stored in the notebook.

    Parameters
    ----------
    title : str
        What is to be said.
    on_sound : callable
        Called with the samples, (n,), 1 being full scale, and their rate, per second. A
        `PnnlabError` that it raises is said below the button in the error's own words.
    seconds : float
        How long a recording is.

    Attributes
    ----------
    refused : str
        Why the last recording could not be used; empty if it was taken. What the page's own browser
        refuses is said in that page alone.
    """

    _esm, _css = assets("microphone")
    title = traitlets.Unicode("").tag(sync=True)
    seconds = traitlets.Float(SECONDS).tag(sync=True)
    refused = traitlets.Unicode("").tag(sync=True)

    def __init__(
        self,
        title: str,
        on_sound: Callable[[NDArray[np.float64], float], None],
        *,
        seconds: float = SECONDS,
    ) -> None:
        super().__init__(title=title, seconds=seconds)
        self._on_sound = on_sound
        self.on_msg(self._on_message)

    def play(self, samples: NDArray[np.float64], rate: float) -> None:
        """Let the page play ``samples``, (n,), in [-1, 1]."""
        self.send({"rate": rate}, [samples.astype("<f4").tobytes()])

    def _on_message(self, _: object, content: dict[str, Any], buffers: list[memoryview]) -> None:
        samples = np.frombuffer(buffers[0], dtype="<f4").astype(np.float64)
        self.refused = ""
        try:
            self._on_sound(samples, float(content["rate"]))
        except PnnlabError as error:
            self.refused = str(error)


RATE = 16_000  # samples a second of a vowel that is played
PITCH = {"women": 210.0, "men": 120.0, "children": 250.0}  # Hz, of a voice that is played
FORMANT_TASKS = ("vowels", "hillenbrand-vowels")  # whose features formant_features scales


@dataclass(frozen=True, eq=False)
class Given:
    """An example to be sent through a network.

    Attributes
    ----------
    x : Tensor, (features,)
    what : str
        Where it comes from, in words.
    label : int or None
        Its class, where that is known.
    """

    x: Tensor
    what: str
    label: int | None = None


Give = Callable[[Given], None]


class Input(ABC):
    """A way to give examples, beginning with those of the task's test split.

    Parameters
    ----------
    task : Task
    give : callable
        Called with each example that a visitor gives.
    title : str
        Of the examples to choose from.

    Attributes
    ----------
    choice : ExampleList
        One test example of each class.
    """

    def __init__(self, task: Task, give: Give, title: str) -> None:
        self.task = task
        self.give = give
        self.choice = ExampleList(title, "Others", on_choose=self._on_choose, on_more=self._on_more)
        self._page = 0
        self._rows: list[int] = []
        self._offer()

    @property
    @abstractmethod
    def widget(self) -> widgets.Widget:
        """Everything that a visitor handles."""

    @abstractmethod
    def show(self, given: Given) -> None:
        """Show what is given to the network."""

    @abstractmethod
    def draw(self, axes: Axes, given: Given) -> None:
        """The same, still, into matplotlib's ``axes``."""

    @abstractmethod
    def _item(self, row: int) -> Item:
        """A test example as something to choose."""

    def example(self, row: int) -> Given:
        """A test example, marked as chosen if it is offered."""
        self.choice.chosen = self._rows.index(row) if row in self._rows else -1
        test = self.task.test
        return Given(test.x[row], f"test example {row}", int(test.targets[row]))

    def short(self, label: int) -> str:
        """A class, as the task calls it."""
        return self.task.class_names[label] if self.task.class_names else str(label)

    def name(self, label: int) -> str:
        """A class, as people call it."""
        return self.short(label)

    def _on_choose(self, place: int) -> None:
        self.give(self.example(self._rows[place]))

    def _on_more(self) -> None:
        self._page += 1
        self._offer()

    def _offer(self) -> None:
        labels = self.task.test.targets
        places = [(labels == label).nonzero()[:, 0].tolist() for label in range(self.task.classes)]
        self._rows = [rows[self._page % len(rows)] for rows in places if rows]
        self.choice.offer([self._item(row) for row in self._rows])


@final
class ImageInput(Input):
    """Images: draw one, or choose one of the task.

    Attributes
    ----------
    pad : Sketchpad
    """

    def __init__(self, task: Task, give: Give, drawing: Drawing, *, continuous: bool) -> None:
        self.drawing = drawing
        super().__init__(task, give, "Or choose a test image")
        self.pad = Sketchpad("Draw", frame=drawing.frame, continuous=continuous)
        self.pad.observe(lambda _: self._on_stroke(), "strokes")
        self._seen = widgets.HTML()
        self._box = widgets.VBox([self.pad, self._seen, self.choice])

    @property
    def widget(self) -> widgets.Widget:
        """Pad, what the network sees, and the images to choose from."""
        return self._box

    def show(self, given: Given) -> None:
        """Show the pixels, enlarged."""
        side = self.drawing.side
        words = f"What goes in, {escape(given.what)}: {side} × {side} pixels"
        source = picture(self.drawing.image(given.x))
        self._seen.value = (
            f'<figure class="pnn-seen"><img src="{source}" alt="{words}">'
            f"<figcaption>{words}</figcaption></figure>"
        )

    def draw(self, axes: Axes, given: Given) -> None:
        """Draw the pixels."""
        axes.imshow(self.drawing.image(given.x), cmap="gray", vmin=0, vmax=1)
        axes.set(title=f"In: {given.what}", xlabel="pixel", ylabel="pixel")
        axes.grid(visible=False)

    def example(self, row: int) -> Given:
        """A test image; the pad is wiped, for it is not what is sent."""
        self.pad.clear()
        return super().example(row)

    def _item(self, row: int) -> Item:
        label = self.name(int(self.task.test.targets[row]))
        image = picture(self.drawing.image(self.task.test.x[row]))
        return Item(f"{label}, test example {row}", picture=image)

    def _on_stroke(self) -> None:
        if lines := self.pad.lines:
            self.choice.chosen = -1
            self.give(Given(self.drawing.features(lines), "your drawing"))


@final
class VowelInput(Input):
    """Vowels: say one, or choose one of the task and listen to it.

    Attributes
    ----------
    microphone : Microphone
    listen : ipywidgets.Button
        Plays the vowel that was given last, made from its formants.
    """

    def __init__(self, task: Task, give: Give, speakers: str) -> None:
        self.speakers = speakers
        super().__init__(task, give, "Choose a test token")
        words = ", ".join(f"‘{word}’" for word in WORDS[:3])
        self.microphone = Microphone(f"Or say {words} …", self._on_sound)
        self.listen = button("Listen", "volume-up", self._on_listen)
        self.listen.disabled = True
        self.plot = PlotGrid()
        self.plot.show([_formant_panel(None)])
        self._given: Given | None = None
        self._box = widgets.VBox([self.choice, self.microphone, self.plot, self.listen])

    @property
    def widget(self) -> widgets.Widget:
        """Tokens to choose from, microphone, and the formants of what was given."""
        return self._box

    def show(self, given: Given) -> None:
        """Show the formants."""
        self._given = given
        self.listen.disabled = False
        self.plot.show([_formant_panel(formant_hz(given.x, self.speakers))])

    def draw(self, axes: Axes, given: Given) -> None:
        """Draw the formants."""
        _formant_panel(formant_hz(given.x, self.speakers)).draw(axes)
        axes.set_title(f"In: formants of {given.what}")

    def name(self, label: int) -> str:
        """A vowel and a word that has it."""
        vowel = self.short(label)
        return f"{vowel} ({WORDS[VOWELS.index(vowel)]})" if vowel in VOWELS else vowel

    def _item(self, row: int) -> Item:
        label = int(self.task.test.targets[row])
        return Item(f"{self.name(label)}, test example {row}", text=self.name(label))

    def _on_sound(self, samples: NDArray[np.float64], rate: float) -> None:
        spoken = formants(samples, rate, speakers=self.speakers)
        self.choice.chosen = -1
        self.give(Given(formant_features(spoken.hz, self.speakers), "your voice"))

    def _on_listen(self) -> None:
        if self._given is not None:
            hz = formant_hz(self._given.x, self.speakers)
            self.microphone.play(synthesised(hz, RATE, pitch=PITCH[self.speakers]), RATE)


@final
class PlainInput(Input):
    """Examples that are neither images nor formants of a known scale: choose one of the task."""

    def __init__(self, task: Task, give: Give) -> None:
        super().__init__(task, give, "Choose a test example")
        self.plot = PlotGrid()
        self._box = widgets.VBox([self.choice, self.plot])

    @property
    def widget(self) -> widgets.Widget:
        """Examples to choose from, and the features of what was given."""
        return self._box

    def show(self, given: Given) -> None:
        """Show the features."""
        self.plot.show([_plain_panel(given)])

    def draw(self, axes: Axes, given: Given) -> None:
        """Draw the features."""
        _plain_panel(given).draw(axes)

    def _item(self, row: int) -> Item:
        label = self.name(int(self.task.test.targets[row]))
        return Item(f"{label}, test example {row}", text=label)


def input_for(
    task: Task, give: Give, *, drawing: Drawing | None, speakers: str, continuous: bool
) -> Input:
    """The way to give examples that fits ``task``."""
    drawing = drawing or drawing_for(task)
    if drawing is not None:
        return ImageInput(task, give, drawing, continuous=continuous)
    if task.name in FORMANT_TASKS:
        return VowelInput(task, give, speakers)
    return PlainInput(task, give)


def _formant_panel(hz: NDArray[np.float64] | None) -> Panel:
    """F1 to F3 over the vowel, where they are read; nothing of None."""
    at = [float(time.removesuffix("%")) for time in TIMES[1:]]
    looks: tuple[dict[str, Any], ...] = (
        {"color": "green"},
        {"color": "purple", "dash": (6, 3)},
        {"color": "orange", "dash": (2, 2)},
    )
    lines = []
    if hz is not None:
        rows = hz.reshape(4, 3)[1:].T
        lines = [
            Line(label=f"F{k}", x=at, y=row, markers=True, **look)
            for k, (row, look) in enumerate(zip(rows, looks, strict=True), start=1)
        ]
    return Panel(
        title="Formants",
        x_label="time (% of the vowel)",
        y_label="frequency (Hz)",
        unit="Hz",
        lines=lines,
        x_range=(0, 100),
        note="say or choose a vowel",
    )


def _plain_panel(given: Given) -> Panel:
    x = given.x.detach().double().cpu().numpy()
    line = Line(label="x", x=np.arange(len(x)), y=x, color="green", markers=True)
    title = f"In: {given.what}"
    return Panel(title=title, x_label="feature", y_label="value", lines=[line], y_range=(0, 1.02))
