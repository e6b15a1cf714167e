"""The confusion matrix, and the inputs behind each cell."""

import math
from typing import final

import numpy as np
import traitlets
from matplotlib import rc_context
from matplotlib.figure import Figure
from torch import Tensor

from pnnlab.errors import ShapeError
from pnnlab.training import Confusion
from pnnlab.views.parts import PageWidget, script, styles
from pnnlab.views.style import STYLE, Picture

SHOWN = 24  # inputs behind a cell that are shown
SMALLEST_IMAGE = 8  # pixels a side, from which on a square of inputs is taken for an image


@final
class ConfusionView(PageWidget):
    """A confusion matrix whose cells are buttons: each shows the inputs behind it.

    At the end of a cell it shows itself. Arrow keys move from cell to cell, Enter opens one.

    Parameters
    ----------
    x : Tensor, (n, features), in [0, 1]
        The examples that were named, in the same order; `ShapeError` if they are others.
        Drawn as images where the features make a square of at least 8 by 8 pixels, else as curves.
    where : str
        On what they were named.
    """

    alt_text = "Confusion matrix"
    _esm, _css = script("confusion"), styles("confusion")
    title = traitlets.Unicode().tag(sync=True)
    classes = traitlets.List(traitlets.Unicode()).tag(sync=True)
    matrix: traitlets.List[list[int]] = traitlets.List().tag(sync=True)
    cell = traitlets.List(traitlets.Int()).tag(sync=True)  # the open one: true and named class
    picked = traitlets.Dict().tag(sync=True)
    values = traitlets.Bytes(b"").tag(sync=True)

    def __init__(self, confusion: Confusion, x: Tensor, *, where: str = "device") -> None:
        super().__init__()
        self.show(confusion, x, where)
        self.observe(lambda _: self._pick(), "cell")

    def show(self, confusion: Confusion, x: Tensor, where: str = "device") -> None:
        """Show another matrix, of the examples ``x``; the open cell stays open."""
        if len(x) != len(confusion.targets):
            raise ShapeError(
                f"{len(confusion.targets)} examples were named and x holds {len(x)}; give those "
                "that the confusion was taken of."
            )
        self._confusion, self._x = confusion, x
        with self.hold_sync():
            self.title = f"{100 * confusion.accuracy:.1f} % of {len(x)} right on the {where}"
            self.classes = list(confusion.classes)
            self.matrix = confusion.matrix.tolist()
            self._pick()

    def figure(self) -> Picture:
        """The matrix as a still picture: counts, on the shade of their part of the row."""
        classes, matrix = self._confusion.classes, self._confusion.matrix
        part = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
        with rc_context(dict(STYLE)):
            side = 2.2 + 0.42 * len(classes)
            figure = Figure(figsize=(side, side), layout="constrained")
            axes = figure.subplots()
            axes.imshow(part, cmap="Blues", vmin=0, vmax=1)
            for (true, named), count in np.ndenumerate(matrix):
                if count:
                    ink = "#FFFFFF" if part[true, named] > 0.5 else "#222222"
                    axes.text(named, true, str(count), ha="center", va="center", color=ink)
            axes.set(title=self.title, xlabel="named class", ylabel="true class")
            axes.set_xticks(range(len(classes)), classes)
            axes.set_yticks(range(len(classes)), classes)
            axes.grid(visible=False)
        return Picture(figure)

    def _pick(self) -> None:
        classes = self._confusion.classes
        if len(self.cell) != 2 or max(self.cell) >= len(classes):
            self.picked, self.values = {}, b""
            return
        true, named = self.cell
        members = self._confusion.members(true, named)
        chosen = members[:SHOWN]
        levels = (self._x[chosen].detach().clamp(0, 1) * 255).round().byte()
        as_what = "named rightly" if true == named else f"taken for {classes[named]}"
        many = "s" * (len(members) != 1)
        features = self._x.shape[1]
        side = math.isqrt(features)
        square = side * side == features and side >= SMALLEST_IMAGE
        height, width = (side, side) if square else (0, features)
        with self.hold_sync():
            self.picked = {
                "title": f"{len(members)} example{many} of {classes[true]}, {as_what}",
                "examples": chosen.tolist(),
                "of": len(members),
                "width": width,
                "height": height,
            }
            self.values = levels.numpy().tobytes()
