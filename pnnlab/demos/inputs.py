"""Inputs for live inference: drawn digits, spoken vowels, test examples.

Strokes of a pen become the pixels of a task, placed and sized as its own images were; a spoken
vowel becomes its formants.
"""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO
from typing import Any, NamedTuple, final

import ipywidgets as widgets
import numpy as np
import torch
import traitlets
from matplotlib.axes import Axes
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw
from scipy.linalg import solve_toeplitz
from scipy.signal import lfilter, resample
from torch import Tensor

from pnnlab.errors import DataError, PnnlabError, ShapeError
from pnnlab.tasks import Task
from pnnlab.tasks.images import check_side, shrunk
from pnnlab.tasks.speech import (
    PARTS,
    PITCHES,
    TIMES,
    VOWELS,
    WORDS,
    formant_features,
    formant_hz,
    speaker_groups,
    synthesised,
)
from pnnlab.tasks.task import Split
from pnnlab.views.chart import Plot, PlotGrid, Series, draw_live
from pnnlab.views.parts import PageWidget, assets, button
from pnnlab.views.style import LineStyle

Array = NDArray[np.float64]

FINENESS = 8  # ink is laid on pixels this much finer and then averaged: soft edges
SMALLEST = 0.1  # of the pad: what is smaller is a mark, and not magnified into a digit


@dataclass(frozen=True, kw_only=True)
class Frame:
    """How the images of a set sit in their frame; sizes in pixels."""

    side: int  # width and height of the image
    box: int  # what the longer edge of a drawing is scaled to, ink included
    pen: float  # width of the pen
    by_mass: bool  # whether the centre of the ink's mass lies in the middle, or of its outline


MNIST_FRAME = Frame(side=28, box=20, pen=2.4, by_mass=True)
"""Of MNIST: 20 by 20 pixels, by their mass in the middle of 28 by 28 (LeCun et al., Proc. IEEE 86,
2278, 1998). The pen is as wide as strokes there are on average."""

OPTICAL_FRAME = Frame(side=32, box=32, pen=4.4, by_mass=False)
"""Of the 8 by 8 digits of scikit-learn: bitmaps of 32 by 32 that a digit fills, averaged (Alpaydin
and Kaynak, UCI, 1998)."""

FULL_FRAME = Frame(side=28, box=28, pen=2.4, by_mass=False)
"""Of Fashion-MNIST: what is shown fills the frame."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawing:
    """From strokes to the features of a task, and from features to an image."""

    side: int  # the task's images are side by side pixels
    frame: Frame = MNIST_FRAME  # of the images that they were made from
    subsample: bool = False  # how they were made smaller; see `pnnlab.tasks.shrunk`
    order: Tensor | None = None  # pixel of each feature, (side * side,), if not row by row

    def __post_init__(self) -> None:
        check_side(self.side, self.frame.side)
        pixels = torch.arange(self.side**2)
        if self.order is not None and not torch.equal(self.order.sort().values, pixels):
            raise ShapeError(
                f"order does not name each of the {len(pixels)} pixels once: give the rows that "
                "the task's features were taken in, as in split.x[:, order]."
            )

    def features(self, strokes: Sequence[ArrayLike]) -> Tensor:
        """Features of ``strokes``, as of `inked`; (side * side,), float32, in [0, 1]."""
        image = torch.tensor(inked(strokes, self.frame), dtype=torch.float32)
        whole = Split(image.view(1, -1), torch.zeros(1, dtype=torch.int64))
        x = shrunk(whole, self.side, subsample=self.subsample).x[0]
        return x if self.order is None else x[self.order]

    def image(self, x: Tensor) -> Array:
        """The features ``x``, (side * side,), as an image, (side, side)."""
        pixels = x.detach().double().cpu()
        if self.order is not None:
            pixels = torch.empty_like(pixels).scatter_(0, self.order, pixels)
        image: Array = pixels.view(self.side, self.side).numpy()
        return image


def drawing_for(task: Task) -> Drawing | None:
    """How to draw for one of the tasks of this package; None if its examples are no images."""
    if task.side is None:
        return None
    frame = OPTICAL_FRAME if task.name == "digits" else FULL_FRAME
    if task.name.startswith("mnist"):
        frame = MNIST_FRAME
    return Drawing(side=task.side, frame=frame)


def inked(strokes: Sequence[ArrayLike], frame: Frame = MNIST_FRAME) -> Array:
    """Draw ``strokes`` with a round pen, scaled and placed for ``frame``.

    Each stroke, (points, 2), goes from left to right and from top to bottom, in widths of the pad;
    one point is a dot. Gives (side, side), in [0, 1]; 1 is ink. However large the drawing, the pen
    is as wide: it is the line that is scaled.
    """
    lines = [np.asarray(stroke, dtype=np.float64) for stroke in strokes]
    if not lines:
        raise DataError("nothing is drawn yet: draw a stroke first.")
    for line in lines:
        if line.ndim != 2 or line.shape[1] != 2 or not len(line):
            raise ShapeError(f"a stroke has shape {line.shape}; give points, (n, 2).")
    points = np.concatenate(lines)
    low, high = points.min(0), points.max(0)
    scale = (frame.box - frame.pen) / max(SMALLEST, float((high - low).max()))
    middle = frame.side / 2
    placed = [(line - (low + high) / 2) * scale + middle for line in lines]
    image = _with_pen(placed, frame)
    if frame.by_mass:
        rows, columns = np.indices(image.shape) + 0.5
        off = np.array([(columns * image).sum(), (rows * image).sum()]) / image.sum() - middle
        image = _with_pen([line - off for line in placed], frame)
    return image


def _with_pen(lines: Sequence[Array], frame: Frame) -> Array:
    """Ink of a round pen along ``lines``, in pixels from the upper left corner."""
    size = frame.side * FINENESS
    canvas = Image.new("L", (size, size))
    pen = ImageDraw.Draw(canvas)
    radius = frame.pen * FINENESS / 2
    for line in lines:
        fine = line * FINENESS - 0.5  # a pixel's coordinates are those of its middle
        if len(fine) > 1:
            pen.line([tuple(p) for p in fine], fill=255, width=round(2 * radius), joint="curve")
        for x, y in (fine[0], fine[-1]):
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    return np.asarray(canvas.reduce(FINENESS), dtype=np.float64) / 255


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


# Hz, below which five formants are looked for: a shorter throat has higher ones. Several are tried.
CEILINGS = {
    "men": (4500.0, 4750.0, 5000.0, 5250.0, 5500.0),
    "women": (4900.0, 5200.0, 5500.0, 5800.0, 6100.0),
    "children": (5600.0, 6000.0, 6400.0, 6800.0, 7200.0),
}
ORDER = 10  # of the prediction: two for each of five formants
WINDOW, HOP = 0.030, 0.01  # s
WIDEST = 700.0  # Hz, bandwidth of a resonance that counts as a formant
LOWEST = 150.0  # Hz
QUIETEST = 0.003  # rms of the loudest 10 ms, of full scale
SHORTEST = 0.08  # s of a vowel
FEWEST = 5  # frames with three formants
FALL = 0.18  # of the loudest rms: where a vowel begins and ends, 15 dB below


def formants(samples: ArrayLike, rate: float, *, speakers: str = "women") -> Array:
    r"""Find the vowel in a recording, (n,), 1 being full scale, and measure its formants.

    A vowel is a buzz that throat and mouth filter. Linear prediction describes each sample by those
    before it,

    .. math:: s_n \approx \sum_{k=1}^{p} a_k s_{n-k},

    and the roots of :math:`1 - \sum_k a_k z^{-k}` near the unit circle are the resonances: a root
    at :math:`r e^{i\varphi}` is a formant of frequency :math:`\varphi f_s / 2\pi` and bandwidth
    :math:`-\ln(r) f_s / \pi`. Idealised: no nasal sounds, whose zeros such a filter does not have.
    Several ceilings are tried, and the smoothest tracks kept: a formant that is missed or made up
    jumps. J. D. Markel and A. H. Gray, Linear Prediction of Speech (Springer, 1976), chapters 3, 7.

    Gives F1 to F3 where they are steadiest and at 20, 50 and 80 % of its duration, (12,), Hz.
    """
    [group] = speaker_groups([speakers])
    sound = np.asarray(samples, dtype=np.float64)
    if sound.ndim != 1 or not np.isfinite(sound).all():
        raise ShapeError(f"samples have shape {sound.shape}; give one channel of finite numbers.")
    begin, end = _vowel(sound, rate)
    vowel = sound[round(begin * rate) : round(end * rate)]
    every = (_tracks(vowel, rate, ceiling) for ceiling in CEILINGS[group])
    found = [(times, tracks) for times, tracks in every if len(times) >= FEWEST]
    if not found:
        raise DataError("no three formants in what was said: say one open vowel, as in 'heed'.")
    times, tracks = min(found, key=lambda each: np.abs(np.diff(np.log(each[1]), 2, 0)).mean())
    duration = end - begin
    moved = np.abs(np.gradient(np.log(tracks), axis=0)).sum(1)
    smooth = np.convolve(moved, np.ones(5) / 5, "same")
    # Not at the edges, where consonants begin and end.
    inner = np.flatnonzero((times > 0.1 * duration) & (times < 0.7 * duration))
    steady = times[inner[smooth[inner].argmin()]] if len(inner) else duration / 2
    at = [steady, *(part * duration for part in PARTS)]
    nearest = [np.abs(times - moment).argsort()[:5] for moment in at]
    return np.concatenate([np.median(tracks[frames], axis=0) for frames in nearest])


def _vowel(sound: Array, rate: float) -> tuple[float, float]:
    """Where the loudest part of ``sound``, (n,), begins and ends, seconds."""
    width = max(1, round(0.01 * rate))
    blocks = sound[: len(sound) // width * width].reshape(-1, width)
    level = blocks.std(1) if len(blocks) else np.zeros(1)
    loudest = int(level.argmax())
    if level[loudest] < QUIETEST:
        raise DataError("nothing was heard: speak louder, or choose another microphone.")
    if np.mean(np.abs(sound) > 0.99) > 0.02:
        raise DataError("the sound is too loud: move away from the microphone, or lower its level.")
    quiet = np.flatnonzero(level < FALL * level[loudest])
    begin = int(quiet[quiet < loudest].max(initial=-1)) + 1
    end = int(quiet[quiet > loudest].min(initial=len(level)))
    if (end - begin) * 0.01 < SHORTEST:
        raise DataError("what was heard is too short for a vowel: say it for a little longer.")
    return begin * 0.01, end * 0.01


def _tracks(sound: Array, rate: float, ceiling: float) -> tuple[Array, Array]:
    """F1 to F3 below ``ceiling``: times, (frames,), and Hz, (frames, 3), where all were found."""
    sampled = 2.0 * ceiling
    slow = resample(sound, round(len(sound) * sampled / rate))
    slow = lfilter([1.0, -np.exp(-2 * np.pi * 50 / sampled)], [1.0], slow)
    width, hop = round(WINDOW * sampled), round(HOP * sampled)
    if len(slow) < width:
        return np.empty(0), np.empty((0, 3))
    frames = sliding_window_view(slow, width)[::hop] * np.hamming(width)
    found = [_resonances(frame, sampled)[:3] for frame in frames]
    whole = [place for place, f in enumerate(found) if len(f) == 3]
    times = (np.array(whole) * hop + width / 2) / sampled
    tracks: Array = np.array([found[place] for place in whole]).reshape(-1, 3)
    return times, tracks


def _resonances(frame: Array, rate: float) -> Array:
    """Frequencies of the narrow resonances of ``frame``, (samples,), Hz, rising."""
    products = np.correlate(frame, frame, "full")[len(frame) - 1 :][: ORDER + 1]
    products[0] = products[0] * (1 + 1e-9) + 1e-12  # or silence could not be solved
    roots = np.roots([1.0, *-solve_toeplitz(products[:-1], products[1:])])
    with np.errstate(divide="ignore"):  # a root at zero is infinitely wide
        bandwidth = -np.log(np.abs(roots)) * rate / np.pi
    frequency = np.angle(roots) * rate / (2 * np.pi)
    kept = (bandwidth < WIDEST) & (frequency > LOWEST) & (frequency < rate / 2 - 50)
    return np.sort(frequency[kept])
