"""The device panel: draw a drive, see the response of the device, and copy the code."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from html import escape
from typing import Any, TypeVar, final

import ipywidgets as widgets
import matplotlib as mpl
import numpy as np
import torch
import traitlets
import xarray as xr
from matplotlib.ticker import MaxNLocator
from torch import Tensor, from_numpy

from pnnlab.background import Session
from pnnlab.characterize.manual_control import SIDES, ManualControl, Response, Side, presets
from pnnlab.errors import PnnlabError
from pnnlab.physical_system import PhysicalSystem, SimulatedSystem
from pnnlab.views.chart import Limits, Plot, PlotGrid
from pnnlab.views.figures import DRIVES, device_panel, response_plots, summary
from pnnlab.views.parts import (
    Entry,
    LatestRequests,
    PageWidget,
    View,
    assets,
    bar,
    button,
    count,
    frame,
    show_error,
)
from pnnlab.views.style import BAND, Picture, colors

POINTS, REPEATS = 21, 4  # values of a sweep, and shots at each
OLD = "pnn-old"  # of a response whose drive has changed since
STOPS = 33  # colours of a scale
T = TypeVar("T")


@final
class Curve(PageWidget):
    """One side of a drive, to draw with mouse, finger or keys; what is drawn is asked for.

    Each stroke and each preset, of which ``given`` are some more, changes the control; ``changed``
    is called then, and ``lifted`` at the end of a stroke. What `PnnlabError` any of them raises is
    shown below.
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
        control: ManualControl,
        side: Side,
        given: Mapping[str, Tensor],
        *,
        changed: Callable[[], None],
        lifted: Callable[[], None],
    ) -> None:
        self._control, self._side, self._given = control, side, given
        self._changed, self._lifted = changed, lifted
        self._seed = SIDES.index(side)  # of the last random preset: no other side has the same
        values, (title, color) = control.side(side), DRIVES[side]
        groups = control.system.theta_groups() if side == "theta" else ()
        spec = {
            "title": title,
            **colors(color),
            "presets": list(presets(1)),
            "examples": [name for name, x in given.items() if x.shape == values.shape],
            "parts": [["all", 0, len(values)], *([g.name, g.start, g.stop] for g in groups)],
        }
        # Whole from the first message on: a page may draw it, and take keys, before a second.
        super().__init__(spec=spec, values=self._packed(), chosen=len(values) // 2)

    def _packed(self) -> bytes:
        return self._control.side(self._side).numpy().astype("<f4").tobytes()

    def _on_message(self, content: dict[str, Any], buffers: Sequence[Any]) -> None:
        # One message answers: the page needs all that came of its request at once.
        with self.hold_sync():
            self.answered = [content["view"], content["count"]]
            if content["begins"]:
                self.refused = ""
            if content["kind"] == "preset":
                self._try(self._preset, content["name"])
            else:
                values = np.frombuffer(buffers[0] if buffers else b"", "<f4").astype(np.float32)
                ends = np.cumsum([0, *(size for _, size in content["runs"])])
                for (start, _), first, end in zip(content["runs"], ends, ends[1:], strict=False):
                    self._try(self._draw, start, from_numpy(values[first:end]))
            if content["done"]:
                self._try(self._lifted)

    def _try(self, act: Callable[..., None], *args: object) -> None:
        try:
            act(*args)
        except PnnlabError as error:
            self.refused = str(error)

    def _draw(self, start: int, values: Tensor) -> None:
        self._control.draw(self._side, start, values)
        self.values = self._packed()
        self._changed()

    def _preset(self, name: str) -> None:
        if name in self._given:
            self._control.begin(self._side, self._given[name])
        else:
            self._seed += len(SIDES) * (name == "Random")
            offered = presets(len(self._control.side(self._side)), seed=self._seed)
            self._control.begin(self._side, *offered[name])
        self.values = self._packed()
        self._changed()


@final
class HeatMap(PageWidget):
    """All outputs against one control: their change, the read-outs, and the error of the twin."""

    _esm, _css = assets("heatmap")
    spec = traitlets.Dict().tag(sync=True)
    values = traitlets.Bytes(b"").tag(sync=True)  # float32, (layers, rows, columns)
    now = traitlets.Float(0.0).tag(sync=True)  # the value of the control

    def show(self, swept: xr.Dataset) -> None:
        """Show a sweep of `ManualControl.sweep` from now on."""
        mean = swept["mean"].values[0]
        layers = {"Change": mean - mean[0], "Response": mean}
        if "modelled" in swept:
            layers["Twin − device"] = swept["modelled"].values[0] - mean
        shown = []
        for title, values in layers.items():
            low, high, scale = values.min(), values.max(), "cividis"
            if title != "Response":  # signed: white is zero
                high, scale = np.abs(values).max(), "RdBu_r"
                low = -high
            colors = mpl.colormaps[scale](np.linspace(0, 1, STOPS), bytes=True)[:, :3].tolist()
            ends = list(MaxNLocator().nonsingular(low, high))  # apart, also where all are the same
            shown.append({"title": title, "range": ends, "colors": colors})
        change = np.ptp(mean, 0)
        most_moved = int(change.argmax())
        with self.hold_sync():
            self.spec = {
                "control": str(swept.element.values[0]),
                "rows": mean.shape[0],
                "columns": mean.shape[1],
                "summary": f"output {most_moved} changes most, by {change[most_moved]:.2g}",
                "layers": shown,
            }
            self.values = np.stack([*layers.values()]).astype("<f4").tobytes()


@final
class CodeBox(PageWidget):
    """Code to copy, and in JupyterLab to put into a cell below; hidden without code."""

    _esm, _css = assets("codebox")
    code = traitlets.Unicode("").tag(sync=True)


class DevicePanel(View):
    """Draw the drive of a device; see the live response, its twin, and the code of it all.

    At the end of a cell it shows itself. A simulated device is measured while you draw. On a bench
    a measurement costs shots, so it is made there when a stroke ends. With a session it is made
    between two steps of the training that uses the device.

    Parameters
    ----------
    control : ManualControl
        The device, its twin, and the drive. It is changed only from here.
    units : callable, optional
        Makes another unit of its number; there is a chooser then.
    presets : mapping of str to Tensor, optional
        Drives of your own, such as examples of a task, by name. Each is offered wherever its
        length fits.
    session : Session, optional
        A training that uses the same device.

    Attributes
    ----------
    latest : Response or None
        The last measurement.
    swept : Dataset or None
        The last sweep, as of `ManualControl.sweep`.

    Examples
    --------
    >>> DevicePanel(ManualControl(Circuit(0), twin), units=Circuit)  # doctest: +SKIP
    """

    alt_text = "Device panel"

    def __init__(
        self,
        control: ManualControl,
        *,
        units: Callable[[int], PhysicalSystem] | None = None,
        presets: Mapping[str, Tensor] | None = None,
        session: Session | None = None,
    ) -> None:
        self.control, self.session = control, session
        self.latest: Response | None = None
        self.swept: xr.Dataset | None = None
        self.requests = LatestRequests()
        self._ending = (self.requests.close,)
        self._units = units
        self._unit = self._fitted = int(getattr(control.system, "unit", 0))
        self._chosen_side: Side = "x"
        does = {"changed": self._changed, "lifted": self._request_measurement}
        self.curves = {side: Curve(control, side, dict(presets or {}), **does) for side in SIDES}
        for side, curve in self.curves.items():
            curve.observe(lambda _, side=side: self._choose(side), "chosen")
        self.response, self.map, self.code = PlotGrid(), HeatMap(), CodeBox()
        self._plots: list[Plot] = []
        self.unit = Entry(label="Unit", value=self._unit, whole=True)
        self.unit.observe(lambda change: self._exchange(int(change["new"])), "value")
        self.measure = button("Measure", "refresh", self._request_measurement)
        self.sweep = button("Sweep", "arrows-v", self._request_sweep)
        self.send = button("Send to notebook", "code", self._show_code)
        self._what, self._status, self._refusal = (widgets.HTML() for _ in range(3))
        self._what.add_class("pnn-device")
        self.unit.add_class("pnn-unit")
        self.unit.layout.display = "none" if self._units is None else None
        if not self.control.system.param_dim:
            self.curves["theta"].layout.display = "none"
        top = bar(self._what, self.unit, self.measure, self.send)
        curves = widgets.Box([*self.curves.values()]).add_class("pnn-curves")
        below = bar(self.sweep, self._status)
        parts = top, self.code, self._refusal, curves, self.response, below, self.map
        self.widget = frame("panel", *parts)
        show_error(self._refusal, "")
        self._name()
        if self.live:
            self._show_response(control.measure())
        else:
            note = "Draw, or press Measure: this device is not driven before you ask."
            self.response.show([Plot("Response", "output", "read-out y", note=note)])

    @property
    def live(self) -> bool:
        """Whether drawing measures: of a simulated device that no training uses."""
        training = self.session is not None and self.session.active
        return isinstance(self.control.system, SimulatedSystem) and not training

    def figure(self) -> Picture:
        """What the panel shows now, as a still picture that every viewer can show."""
        return device_panel(self.control, self.latest, self.swept).static()

    # --- requests of the page

    def _changed(self) -> None:
        self._mark()
        if self.live:
            self._request_measurement()
        else:
            self.response.add_class(OLD)

    def _choose(self, side: Side) -> None:
        self._chosen_side = side
        self._name()

    def _exchange(self, number: int) -> None:
        if self._units is None or number == self._unit:
            return
        try:
            self.control.exchange(self._units(number))
        except PnnlabError as error:
            show_error(self._refusal, error)
            self.unit.value = self._unit
            return
        self._unit = number
        show_error(self._refusal, "")
        self._name()
        self._request_measurement()

    def _request_measurement(self) -> None:
        name, act = f"a measurement: {self.control.repeats} shots", self.control.measure
        self.requests.submit("measure", partial(self._drive, name, act, self._show_response))

    def _request_sweep(self) -> None:
        element = self._chosen()
        name = f"a sweep of {element}: {POINTS * REPEATS} shots"
        act = partial(self.control.sweep, element, points=POINTS, repeats=REPEATS)
        self.requests.submit("sweep", partial(self._drive, name, act, self._show_sweep))

    def _drive(self, name: str, act: Callable[[], T], show: Callable[[T], None]) -> None:
        # In the thread of the requests.
        try:
            if not self.live:
                self._show_status(f"{name} …")
            show(act() if self.session is None else self.session.do(name, act).result())
            show_error(self._refusal, "")
        except Exception as error:  # noqa: BLE001 - a driver may raise anything
            show_error(self._refusal, error)
        finally:
            self._show_status()

    # --- what is shown

    def _show_response(self, response: Response) -> None:
        self.latest, self._plots = response, live_plots(response, self._plots)
        self.response.show(self._plots)
        x, theta = (self.control.side(side) for side in SIDES)
        same = torch.equal(x, response.x) and torch.equal(theta, response.theta)
        (self.response.remove_class if self.live or same else self.response.add_class)(OLD)
        self._show_status()

    def _show_sweep(self, swept: xr.Dataset) -> None:
        self.swept = swept
        self.map.show(swept)
        self._mark()

    def _show_code(self) -> None:
        self.code.code = self.control.code()

    def _chosen(self) -> str:
        return f"{self._chosen_side}[{self.curves[self._chosen_side].chosen}]"

    def _mark(self) -> None:
        if self.swept is not None:
            side, index = self.control.element(str(self.swept.element.values[0]))
            self.map.now = float(self.control.side(side)[index])

    def _name(self) -> None:
        system, shots = self.control.system, POINTS * REPEATS
        self.sweep.description = f"What changes with {self._chosen()}?  {shots} shots"
        self.measure.description = f"Measure: {self.control.repeats} shots"
        twin = ""
        if self.control.twin is not None and self._unit != self._fitted:
            twin = f" · twin of unit {self._fitted}"
        self._what.value = (
            f"<b>{escape(system.name)}</b><span>{system.input_dim} inputs · {system.param_dim} "
            f"parameters · {system.output_dim} outputs{twin}</span>"
        )

    def _show_status(self, busy: str = "") -> None:
        how = "measured while you draw" if self.live else "measured when a stroke ends"
        passes = f"{count(self.control.passes)} device passes so far"
        self._status.value = f"<span>{escape(busy) or how}</span> · <span>{passes}</span>"


def live_plots(response: Response, before: Sequence[Plot] = ()) -> list[Plot]:
    """Plots of a response, with limits that change only where those ``before`` no longer fit."""
    plots = response_plots(response)
    for place, (plot, y_label) in enumerate(zip(plots, ("read-out y", "difference"), strict=False)):
        edges = []
        for line in plot.lines:
            wide = 0 if line.deviation is None else BAND * np.asarray(line.deviation)
            edges += [np.asarray(line.y) - wide, np.asarray(line.y) + wide]
        low, high = float(np.min(edges)), float(np.max(edges))
        if place == 1:
            low, high = min(low, -high), max(-low, high)
        limits = steady(before[place].y_limits if place < len(before) else None, low, high)
        plots[place] = replace(plot, y_label=y_label, y_limits=limits)
    plots[0] = replace(plots[0], title=f"Response: {summary(response)}")
    return plots


def steady(before: Limits | None, low: float, high: float) -> Limits:
    """Round limits around low and high, or those of before, if these still fit well."""
    if before is not None:
        filled = (high - low) / (before[1] - before[0])
        if before[0] <= low and high <= before[1] and filled > 0.4:
            return before
    ticks = MaxNLocator(9).tick_values(low, high)
    return float(ticks[0]), float(ticks[-1])
