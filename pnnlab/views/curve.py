"""A curve to draw with mouse, finger or keys; what is drawn goes to whoever owns the numbers."""

from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, final

import anywidget
import numpy as np
import traitlets
from numpy.typing import NDArray
from torch import Tensor, from_numpy

from pnnlab.errors import PnnlabError
from pnnlab.views.parts import shares
from pnnlab.views.style import DARK_PALETTE, PALETTE
from pnnlab.views.touch import assets

P = ParamSpec("P")
Part = tuple[str, int, int]  # name, first element, one beyond the last
Draw = Callable[[int, Tensor], None]


@final
class Curve(anywidget.AnyWidget):
    """A row of numbers in [0, 1] under a hand.

    It holds a copy of someone's numbers and changes none of them itself: a stroke is handed to
    ``on_draw``, and what comes of it is what `show` is told. A refusal, any `PnnlabError` that
    one of these callables raises, is said below the curve in the error's own words.

    Parameters
    ----------
    title : str
    values : Tensor, (width,)
        What it shows at first.
    color : str
        A name in `pnnlab.views.style.PALETTE`.
    on_draw : callable
        Called with a first element and values, float32, for each run of a stroke.
    on_lift : callable
        Called when a stroke has ended.
    on_preset : callable
        Called with the name of a preset or an example.
    presets, examples : sequence of str
        Names, as buttons and as a list.
    parts : sequence of (str, int, int)
        Stretches to be looked at one by one: name, first element, and one beyond the last. By
        default all elements are one.

    Attributes
    ----------
    chosen : int
        The element that the keys change; at first one in the middle.
    refused : str
        The refusal on view; empty if the last stroke was taken.
    """

    _esm, _css = assets("curve")
    spec = traitlets.Dict().tag(sync=True)
    values = traitlets.Bytes(b"").tag(sync=True)
    # No echo: when it came, keys would have moved on.
    chosen = traitlets.Int(0).tag(sync=True, echo_update=False)
    part = traitlets.Int(0).tag(sync=True, echo_update=False)
    refused = traitlets.Unicode("").tag(sync=True)
    answered = traitlets.List(["", 0]).tag(sync=True)

    def __init__(
        self,
        title: str,
        values: Tensor,
        *,
        color: str,
        on_draw: Draw,
        on_lift: Callable[[], None],
        on_preset: Callable[[str], None],
        presets: Sequence[str] = (),
        examples: Sequence[str] = (),
        parts: Sequence[Part] = (),
    ) -> None:
        spec = {
            "title": title,
            "light": PALETTE[color],
            "dark": DARK_PALETTE[color],
            "presets": list(presets),
            "examples": list(examples),
            "parts": [list(part) for part in parts] or [["all", 0, len(values)]],
        }
        # Whole from the first message on: a page may draw it, and hear keys, before a second.
        super().__init__(spec=spec, values=_packed(values), chosen=len(values) // 2)
        self._on_draw, self._on_lift, self._on_preset = on_draw, on_lift, on_preset
        shares(self)
        self.on_msg(self._take)

    def show(self, values: Tensor) -> None:
        """Show these numbers, (width,), from now on."""
        self.values = _packed(values)

    def _take(self, _: object, content: dict[str, Any], buffers: Sequence[Any]) -> None:
        """Do what a page asks; answer in one message, so that it knows what came of it."""
        if "kind" not in content:
            return
        with self.hold_sync():
            self.answered = [content["view"], content["count"]]
            if content["begins"]:
                self.refused = ""
            if content["kind"] == "preset":
                self._try(self._on_preset, content["name"])
            else:
                for start, values in _runs(content["runs"], buffers[0] if buffers else b""):
                    self._try(self._on_draw, start, values)
            if content["done"]:
                self._try(self._on_lift)

    def _try(self, act: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            act(*args, **kwargs)
        except PnnlabError as error:
            self.refused = str(error)


def _packed(values: Tensor) -> bytes:
    numbers: NDArray[Any] = values.detach().numpy()
    return numbers.astype("<f4").tobytes()


def _runs(places: Sequence[Sequence[int]], packed: Any) -> list[tuple[int, Tensor]]:
    """The runs of a stroke, out of the one buffer that holds them all."""
    values = np.frombuffer(packed, "<f4").astype(np.float32)
    ends = np.cumsum([0, *(size for _, size in places)])
    return [
        (start, from_numpy(values[ends[i] : ends[i + 1]])) for i, (start, _) in enumerate(places)
    ]
