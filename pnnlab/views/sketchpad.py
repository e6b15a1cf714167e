"""A pad to draw on with mouse, finger or keys; its strokes become an image as a task's are."""

from typing import final

import anywidget
import numpy as np
import traitlets
from numpy.typing import NDArray

from pnnlab.tasks.drawing import MNIST_FRAME, Frame, inked
from pnnlab.views.parts import shares
from pnnlab.views.touch import assets

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
