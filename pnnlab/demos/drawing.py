"""Strokes of a pen become the pixels of a task: placed and sized as its own images were."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from pnnlab.errors import DataError, ShapeError
from pnnlab.tasks.images import check_side, shrunk
from pnnlab.tasks.task import Split, Task

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
