"""Where live inference takes its examples from: the task's own, a hand, or a voice."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any, final

import ipywidgets as widgets
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from torch import Tensor

from pnnlab.tasks import Task
from pnnlab.tasks.drawing import Drawing, drawing_for
from pnnlab.tasks.hillenbrand1995 import TIMES, VOWELS, WORDS
from pnnlab.tasks.speech import formant_features, formant_hz, formants, synthesised
from pnnlab.views.choice import Choice, Item, picture
from pnnlab.views.lineplot import Line, Panel
from pnnlab.views.microphone import Microphone
from pnnlab.views.parts import button
from pnnlab.views.plotgrid import PlotGrid
from pnnlab.views.sketchpad import Sketchpad

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
    choice : Choice
        One test example of each class.
    """

    def __init__(self, task: Task, give: Give, title: str) -> None:
        self.task = task
        self.give = give
        self.choice = Choice(title, "Others", on_choose=self._on_choose, on_more=self._on_more)
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
