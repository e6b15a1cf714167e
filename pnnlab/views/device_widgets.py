"""Widgets of the device panel: curves to draw, a map of a sweep, and code to copy."""

from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, final

import anywidget
import matplotlib as mpl
import numpy as np
import traitlets
import xarray as xr
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from torch import Tensor, from_numpy

from pnnlab.errors import PnnlabError
from pnnlab.views.parts import assets, shares
from pnnlab.views.style import colors

CODES = 65535  # a map is sent in 16 bits
STOPS = 33  # colours of a scale
P = ParamSpec("P")
Range = tuple[float, float]
Part = tuple[str, int, int]  # name, first element, one beyond the last
Draw = Callable[[int, Tensor], None]


@final
class Curve(anywidget.AnyWidget):
    """A row of numbers in [0, 1], to draw with mouse, finger or keys.

    It shows a copy and changes nothing itself. ``on_draw`` is called with a first element and
    float32 values for each run of a stroke, ``on_lift`` when a stroke has ended, ``on_preset`` with
    the name of a preset or an example; `show` then shows the result. A `PnnlabError` that one of
    them raises is shown below the curve. ``parts`` are views of some elements only.
    """

    _esm, _css = assets("curve")
    spec = traitlets.Dict().tag(sync=True)
    values = traitlets.Bytes(b"").tag(sync=True)
    # The element that the keys change. No echo: when it came, keys would have moved on.
    chosen = traitlets.Int(0).tag(sync=True, echo_update=False)
    part = traitlets.Int(0).tag(sync=True, echo_update=False)
    refused = traitlets.Unicode("").tag(sync=True)  # why the last stroke was refused
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
            **colors(color),
            "presets": list(presets),
            "examples": list(examples),
            "parts": [list(part) for part in parts] or [["all", 0, len(values)]],
        }
        # Whole from the first message on: a page may draw it, and take keys, before a second.
        super().__init__(spec=spec, values=_packed(values), chosen=len(values) // 2)
        self._on_draw, self._on_lift, self._on_preset = on_draw, on_lift, on_preset
        shares(self)
        self.on_msg(self._take)

    def show(self, values: Tensor) -> None:
        """Show these numbers, (width,), from now on."""
        self.values = _packed(values)

    def _take(self, _: object, content: dict[str, Any], buffers: Sequence[Any]) -> None:
        # One message answers: the page needs all that came of its request at once.
        if "kind" not in content:
            return
        with self.hold_sync():
            self.answered = [content["view"], content["count"]]
            if content["begins"]:
                self.refused = ""
            if content["kind"] == "preset":
                self._try(self._on_preset, content["name"])
            else:
                values = np.frombuffer(buffers[0] if buffers else b"", "<f4").astype(np.float32)
                ends = np.cumsum([0, *(size for _, size in content["runs"])])
                for (start, _), first, end in zip(content["runs"], ends, ends[1:], strict=False):
                    self._try(self._on_draw, start, from_numpy(values[first:end]))
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


@final
class HeatMap(anywidget.AnyWidget):
    """All outputs against one control: their change, the read-outs, and the error of the twin."""

    _esm, _css = assets("heatmap")
    spec = traitlets.Dict().tag(sync=True)
    codes = traitlets.Bytes(b"").tag(sync=True)
    now = traitlets.Float(0.0).tag(sync=True)  # the value of the control

    def show(self, swept: xr.Dataset) -> None:
        """Show a sweep of `ManualControl.sweep` from now on."""
        control, mean = str(swept.element.values[0]), swept["mean"].values[0]
        layers = {"change": ("Change", mean - mean[0]), "response": ("Response", mean)}
        if "modelled" in swept:
            layers["twin − device"] = "Twin − device", swept["modelled"].values[0] - mean
        shown, codes = [], b""
        for name, (title, values) in layers.items():
            signed = name != "response"
            most = float(np.abs(values).max())
            low, high = _wide(*((-most, most) if signed else (values.min(), values.max())))
            colors = _scale("RdBu_r" if signed else "cividis")
            shown.append({"name": name, "title": title, "range": [low, high], "colors": colors})
            fractions = np.clip((values - low) / (high - low), 0, 1)
            codes += np.rint(CODES * fractions).astype("<u2").tobytes()
        change = np.ptp(mean, 0)
        most_moved = int(change.argmax())
        with self.hold_sync():
            self.spec = {
                "control": control,
                "rows": mean.shape[0],
                "columns": mean.shape[1],
                "summary": f"output {most_moved} changes most, by {change[most_moved]:.2g}",
                "layers": shown,
            }
            self.codes = codes


@final
class CodeBox(anywidget.AnyWidget):
    """Code to copy, and in JupyterLab to put into a cell below; hidden without code."""

    _esm, _css = assets("codebox")
    code = traitlets.Unicode("").tag(sync=True)


def steady(before: Range | None, low: float, high: float) -> Range:
    """Round limits around low and high, or those of before, if these still fit well."""
    if before is not None:
        filled = (high - low) / (before[1] - before[0])
        if before[0] <= low and high <= before[1] and filled > 0.4:
            return before
    ticks = MaxNLocator(9).tick_values(low, high)
    return float(ticks[0]), float(ticks[-1])


def _wide(low: float, high: float) -> Range:
    """Limits that are apart, also of values that are all the same, up to rounding."""
    size = max(abs(low), abs(high)) or 1.0
    return (low, high) if high - low > 1e-9 * size else (low - 1e-3 * size, high + 1e-3 * size)


def _scale(name: str) -> list[list[int]]:
    colors: Any = mpl.colormaps[name](np.linspace(0, 1, STOPS))
    return [[int(part) for part in np.rint(255 * color[:3])] for color in colors]
