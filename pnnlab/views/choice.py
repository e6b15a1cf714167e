"""A row of things to choose from, each a button with its name or its picture."""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, final

import anywidget
import numpy as np
import traitlets
from numpy.typing import ArrayLike
from PIL import Image

from pnnlab.views.touch import assets


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
class Choice(anywidget.AnyWidget):
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
