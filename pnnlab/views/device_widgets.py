"""Widgets of the device panel: curves to draw, a response, a map of a sweep, and code to copy."""

from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, final

import anywidget
import matplotlib as mpl
import numpy as np
import traitlets
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor, from_numpy

from pnnlab.characterize.manual_control import Response
from pnnlab.errors import PnnlabError
from pnnlab.views.parts import assets, shares
from pnnlab.views.style import BAND, DARK_PALETTE, PALETTE

CODES = 65535  # a map is sent in 16 bits
STOPS = 33  # colours of a scale
P = ParamSpec("P")
Range = tuple[float, float]
Part = tuple[str, int, int]  # name, first element, one beyond the last
Draw = Callable[[int, Tensor], None]


@final
class Curve(anywidget.AnyWidget):
    """A row of numbers in [0, 1], to draw with mouse, finger or keys.

    It shows a copy and changes nothing itself: a stroke is handed to ``on_draw``, and `show` shows
    the result. A `PnnlabError` that one of these callables raises is shown below the curve.

    Parameters
    ----------
    title : str
    values : Tensor, (width,)
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
        Views of some elements only: name, first element, and one beyond the last.

    Attributes
    ----------
    chosen : int
        The element that the keys change; at first one in the middle.
    refused : str
        Why the last stroke was refused, or empty.
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
        # One message answers, so that the page knows what came of its request.
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
    values = np.frombuffer(packed, "<f4").astype(np.float32)
    ends = np.cumsum([0, *(size for _, size in places)])
    return [
        (start, from_numpy(values[ends[i] : ends[i + 1]])) for i, (start, _) in enumerate(places)
    ]


@final
class ResponsePlot(anywidget.AnyWidget):
    """What a device answered: the mean, its noise band, the twin, and below the difference."""

    _esm, _css = assets("response")
    spec = traitlets.Dict().tag(sync=True)
    points = traitlets.Bytes(b"").tag(sync=True)
    old = traitlets.Bool(False).tag(sync=True)
    """Whether the drive has changed since."""

    def wait(self, note: str) -> None:
        """Show nothing yet, and say why."""
        self.spec = {"title": "Response", "n": 0, "shots": 0, "twin": False, "note": note}

    def show(self, response: Response) -> None:
        """Show a response from now on; the axes move only where they must."""
        mean, twin = response.mean.numpy(), response.modelled
        spread = BAND * response.deviation.numpy()
        rows = [mean, response.deviation.numpy()]
        edges = [mean - spread, mean + spread]
        difference: Range = (-1.0, 1.0)
        if twin is not None:
            rows.append(twin.numpy())
            edges.append(twin.numpy())
            beyond = max(float(np.abs(twin.numpy() - mean).max()), float(spread.max()))
            reach = steady(self.spec.get("difference_range"), -beyond, beyond)
            difference = (-max(-reach[0], reach[1]), max(-reach[0], reach[1]))
        low, high = float(np.min(edges)), float(np.max(edges))
        with self.hold_sync():
            self.spec = {
                "title": "Response",
                "n": len(mean),
                "shots": response.shots,
                "band": BAND,
                "twin": twin is not None,
                "y_label": "read-out y",
                "y_range": list(steady(self.spec.get("y_range"), low, high)),
                "difference_range": list(difference),
                "summary": summary(response),
                "note": "",
            }
            self.points = np.concatenate(rows).astype("<f4").tobytes()
            self.old = False


@final
class HeatMap(anywidget.AnyWidget):
    """All outputs against one control: what changes, what is read, and what the twin misses."""

    _esm, _css = assets("heatmap")
    spec = traitlets.Dict().tag(sync=True)
    codes = traitlets.Bytes(b"").tag(sync=True)
    now = traitlets.Float(0.0).tag(sync=True)
    """Where the control stands."""

    def show(self, seen: xr.Dataset) -> None:
        """Show a sweep of `ManualControl.sweep` from now on."""
        name, mean = str(seen.element.values[0]), seen["mean"].values[0]
        layers = [
            ("change", "Change", mean - mean[0], "RdBu_r"),
            ("response", "Response", mean, "cividis"),
        ]
        if "modelled" in seen:
            difference = seen["modelled"].values[0] - mean
            layers.append(("twin − device", "Twin − device", difference, "RdBu_r"))
        ranges = [_around(values, colors == "RdBu_r") for _, _, values, colors in layers]
        change = np.ptp(mean, 0)
        most_moved = int(change.argmax())
        with self.hold_sync():
            self.spec = {
                "control": name,
                "rows": mean.shape[0],
                "columns": mean.shape[1],
                "summary": f"output {most_moved} changes most, by {change[most_moved]:.2g}",
                "layers": [
                    {"name": name, "title": title, "range": list(span), "colors": _scale(colors)}
                    for (name, title, _, colors), span in zip(layers, ranges, strict=True)
                ],
            }
            self.codes = b"".join(
                _coded(values, span) for (_, _, values, _), span in zip(layers, ranges, strict=True)
            )


@final
class CodeBox(anywidget.AnyWidget):
    """Code to copy, and in JupyterLab to put into a cell below; nothing is shown of no code."""

    _esm, _css = assets("codebox")
    code = traitlets.Unicode("").tag(sync=True)


def summary(response: Response) -> str:
    """Noise, and the twin's distance, in words."""
    noise = f"noise {100 * response.noise:.2g} %"
    if response.modelled is None:
        return f"{noise} of full scale"
    return f"twin off by {100 * response.gap:.2g} %, {noise} of full scale"


def steady(before: Range | None, low: float, high: float) -> Range:
    """Round limits around low and high, or those of before, if these still fit well."""
    low, high = _wide(low, high)
    if before is not None:
        holds = before[0] <= low and high <= before[1]
        if holds and high - low > 0.4 * (before[1] - before[0]):
            return before[0], before[1]
    step = 10 ** np.floor(np.log10(high - low))
    step *= 0.5 if high - low > 5 * step else 0.2 if high - low > 2 * step else 0.1
    return float(np.floor(low / step) * step), float(np.ceil(high / step) * step)


def _wide(low: float, high: float) -> Range:
    """Limits that are apart, also of values that are all the same, up to rounding."""
    size = max(abs(low), abs(high)) or 1.0
    return (low, high) if high - low > 1e-9 * size else (low - 1e-3 * size, high + 1e-3 * size)


def _around(values: NDArray[np.float64], signed: bool) -> Range:
    """Limits of a scale of colours; of what has a sign, as far below zero as above."""
    if not signed:
        return _wide(float(values.min()), float(values.max()))
    most = float(np.abs(values).max())
    return _wide(-most, most)


def _coded(values: NDArray[np.float64], span: Range) -> bytes:
    fractions = (values - span[0]) / (span[1] - span[0])
    return np.rint(CODES * np.clip(fractions, 0, 1)).astype("<u2").tobytes()


def _scale(name: str) -> list[list[int]]:
    colors: Any = mpl.colormaps[name](np.linspace(0, 1, STOPS))
    return [[int(part) for part in np.rint(255 * color[:3])] for color in colors]
