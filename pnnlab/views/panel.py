"""The device panel: draw a drive, see what the device answers, and take the code along."""

from collections.abc import Callable, Mapping
from functools import partial
from html import escape
from typing import TypeVar

import ipywidgets as widgets
import torch
import xarray as xr
from torch import Tensor

from pnnlab.background import Session
from pnnlab.characterize.manual_control import SIDES, ManualControl, Response, Side, presets
from pnnlab.errors import PnnlabError
from pnnlab.physical_system import PhysicalSystem, SimulatedSystem
from pnnlab.views.controls import Entry
from pnnlab.views.device_widgets import CodeBox, Curve, HeatMap, Part, ResponsePlot
from pnnlab.views.figures import device_panel
from pnnlab.views.parts import LatestRequests, View, bar, button, count, show_error, style_sheet
from pnnlab.views.style import Picture

POINTS, REPEATS = 21, 4  # values of a sweep, and shots at each
TITLES = {"x": "Input x", "theta": "Parameters θ"}
COLORS = {"x": "green", "theta": "purple"}
T = TypeVar("T")


class DevicePanel(View):
    """Draw the drive of a device; see the live response, its twin, and the code of it all.

    At the end of a cell it shows itself. A simulated device is measured while you draw. On a bench
    a measurement costs shots, so it is made there when a stroke ends. Through its session, a
    training that uses the device measures between two steps.

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
    widget : ipywidgets.VBox
        The whole panel, to be placed in a layout of your own.
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
        self.control = control
        self.session = session
        self.latest: Response | None = None
        self.swept: xr.Dataset | None = None
        self.requests = LatestRequests()
        self._units = units
        self._unit = int(getattr(control.system, "unit", 0))
        self._fitted = self._unit
        self._given = dict(presets or {})
        self._randoms = 0
        self._chosen_side: Side = "x"
        self.curves = {side: self._curve(side) for side in SIDES}
        self.response, self.map, self.code = ResponsePlot(), HeatMap(), CodeBox()
        self.unit = Entry("Unit", self._unit, whole=True)
        self.unit.observe(lambda change: self._exchange(int(change["new"])), "value")
        self.measure = button("Measure", "refresh", self._request_measurement)
        self.sweep = button("Sweep", "arrows-v", self._request_sweep)
        self.send = button("Send to notebook", "code", self._write)
        self._what, self._status, self._refusal = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self.widget = self._layout()
        show_error(self._refusal, "")
        self._name()
        if self.live:
            self._show_response(control.measure())
        else:
            self.response.wait("Draw, or press Measure: this device is not driven before you ask.")

    @property
    def live(self) -> bool:
        """Whether it is measured while one draws: a simulated device that no training uses."""
        training = self.session is not None and self.session.active
        return isinstance(self.control.system, SimulatedSystem) and not training

    def figure(self) -> Picture:
        """What the panel shows now, as a still picture that every viewer can show."""
        return device_panel(self.control, self.latest, self.swept).static()

    def close(self) -> None:
        """Take the widgets off the page. The control stays as it is."""
        self.requests.cancel()
        super().close()

    # --- requests of the page

    def _draw(self, side: Side, start: int, values: Tensor) -> None:
        self.control.draw(side, start, values)
        self._changed(side)

    def _preset(self, side: Side, name: str) -> None:
        if name in self._given:
            self.control.begin(side, self._given[name])
        else:
            self._randoms += name == "Random"
            offered = presets(len(self.control.side(side)), seed=self._randoms)
            self.control.begin(side, *offered[name])
        self._changed(side)

    def _changed(self, side: Side) -> None:
        self.curves[side].show(self.control.side(side))
        self._mark()
        if self.live:
            self._request_measurement()
        else:
            self.response.old = True

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
        self.requests.submit("measure", self._measure)

    def _request_sweep(self) -> None:
        self.requests.submit("sweep", partial(self._sweep, self._chosen()))

    def _write(self) -> None:
        self.code.code = self.control.code()

    # --- the device, in the thread of the requests

    def _measure(self) -> None:
        response = self._drive(f"a measurement: {self.control.repeats} shots", self.control.measure)
        if response is not None:
            self._show_response(response)

    def _sweep(self, element: str) -> None:
        def act() -> xr.Dataset:
            return self.control.sweep(element, points=POINTS, repeats=REPEATS)

        swept = self._drive(f"a sweep of {element}: {POINTS * REPEATS} shots", act)
        if swept is not None:
            self.swept = swept
            self.map.show(swept)
            self._mark()

    def _drive(self, name: str, act: Callable[[], T]) -> T | None:
        # None if it was refused or failed
        try:
            if not self.live:
                self._say(f"{name} …")
            found = act() if self.session is None else self.session.do(name, act).result()
        except (PnnlabError, OSError) as error:
            show_error(self._refusal, error)
            return None
        else:
            show_error(self._refusal, "")
            return found
        finally:
            self._say()

    # --- what is shown

    def _show_response(self, response: Response) -> None:
        self.latest = response
        self.response.show(response)
        x, theta = (self.control.side(side) for side in SIDES)
        same = torch.equal(x, response.x) and torch.equal(theta, response.theta)
        self.response.old = not (self.live or same)
        self._say()

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
        sizes = f"{system.input_dim} inputs · {system.param_dim} parameters · "
        sizes += f"{system.output_dim} outputs"
        if self.control.twin is not None and self._unit != self._fitted:
            sizes += f" · twin of unit {self._fitted}"
        self._what.value = f"<b>{escape(system.name)}</b><span>{sizes}</span>"

    def _say(self, busy: str = "") -> None:
        how = "answers while you draw" if self.live else "answers when you let go"
        passes = f"{count(self.control.passes)} device passes so far"
        self._status.value = f"<span>{escape(busy) or how}</span> · <span>{passes}</span>"

    def _curve(self, side: Side) -> Curve:
        values = self.control.side(side)
        fits = [name for name, drive in self._given.items() if drive.shape == values.shape]
        system = self.control.system
        parts: list[Part] = []
        if side == "theta":
            groups = [(group.name, group.start, group.stop) for group in system.theta_groups()]
            parts = [("all", 0, system.param_dim), *groups]
        curve = Curve(
            TITLES[side],
            values,
            color=COLORS[side],
            on_draw=partial(self._draw, side),
            on_lift=self._request_measurement,
            on_preset=partial(self._preset, side),
            presets=list(presets(1)),
            examples=fits,
            parts=parts,
        )
        curve.observe(lambda _: self._choose(side), "chosen")
        return curve

    def _layout(self) -> widgets.VBox:
        top = bar(self._what, self.unit, self.measure, self.send)
        curves = widgets.Box([self.curves[side] for side in SIDES])
        below = bar(self.sweep, self._status)
        self._what.add_class("pnn-device")
        self.unit.add_class("pnn-unit")
        self._status.add_class("pnn-counted")
        curves.add_class("pnn-curves")
        self.unit.layout.display = "none" if self._units is None else None
        if not self.control.system.param_dim:
            self.curves["theta"].layout.display = "none"
        parts = [top, self.code, self._refusal, curves, self.response, below, self.map]
        whole = widgets.VBox([style_sheet("view", "panel"), *parts])
        whole.add_class("pnn-panel")
        return whole
