"""The device panel: draw a drive, see what the device answers, and take the code along."""

from collections.abc import Callable, Mapping
from functools import partial
from html import escape
from typing import Any, TypeVar

import ipywidgets as widgets
import torch
import xarray as xr
from torch import Tensor

from pnnlab.background import Session
from pnnlab.characterize.presets import given, presets
from pnnlab.characterize.probe import SIDES, Probe, Response, Side
from pnnlab.errors import PnnlabError
from pnnlab.physical_system import PhysicalSystem, SimulatedSystem
from pnnlab.views.controls import Entry
from pnnlab.views.curve import Curve, Part
from pnnlab.views.figures import device_panel
from pnnlab.views.parts import LatestRequests, button, count, discard, style_sheet
from pnnlab.views.style import Picture
from pnnlab.views.touch import CodeBox, HeatMap, ResponsePlot

POINTS, REPEATS = 21, 4  # values of a sweep, and shots at each
TITLES = {"x": "Input x", "theta": "Parameters θ"}
COLORS = {"x": "green", "theta": "purple"}
T = TypeVar("T")


class DevicePanel:
    """A device to touch: curves to draw, the live response, its twin, and the code of it all.

    At the end of a cell it shows itself. A simulated device answers while you draw. On a bench
    every look costs shots, so it answers there when the hand is lifted. A training that owns the
    device is asked, through its session, for a moment between two steps.

    Parameters
    ----------
    probe : Probe
        The device, its twin, and the drive. It is changed only by what a hand does here.
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
        The last look.
    seen : Dataset or None
        The last sweep, as of `Probe.sweep`.

    Examples
    --------
    >>> DevicePanel(Probe(Circuit(0), twin), units=Circuit)  # doctest: +SKIP
    """

    def __init__(
        self,
        probe: Probe,
        *,
        units: Callable[[int], PhysicalSystem] | None = None,
        presets: Mapping[str, Tensor] | None = None,
        session: Session | None = None,
    ) -> None:
        self.probe = probe
        self.session = session
        self.latest: Response | None = None
        self.seen: xr.Dataset | None = None
        self.requests = LatestRequests()
        self._units = units
        self._unit = int(getattr(probe.system, "unit", 0))
        self._fitted = self._unit
        self._given = dict(presets or {})
        self._randoms = 0
        self._touched: Side = "x"
        self.curves = {side: self._curve(side) for side in SIDES}
        self.response, self.map, self.code = ResponsePlot(), HeatMap(), CodeBox()
        self.unit = Entry("Unit", self._unit, whole=True)
        self.unit.observe(lambda change: self._exchange(int(change["new"])), "value")
        self.look = button("Measure", "refresh", self._ask_look)
        self.sweep = button("Sweep", "arrows-v", self._ask_sweep)
        self.send = button("Send to notebook", "code", self._write)
        self._what, self._said, self._refusal = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self.widget = self._laid_out()
        self._refuse("")
        self._name()
        if self.live:
            self._show_look(probe.measure())
        else:
            self.response.wait("Draw, or press Measure: this device is not driven before you ask.")

    @property
    def live(self) -> bool:
        """Whether the device answers while a hand draws: looks are free, and it has no other user.

        A simulated device is live unless a training is using it.
        """
        training = self.session is not None and self.session.active
        return isinstance(self.probe.system, SimulatedSystem) and not training

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        bundle: dict[str, Any] = self.widget._repr_mimebundle_(**kwargs)
        # The same words in every run; they stand in for the panel where no widget can live.
        return bundle | {"text/plain": "Device panel (alive in Jupyter)"}

    def figure(self) -> Picture:
        """What the panel shows now, as a still picture that every viewer can show."""
        return device_panel(self.probe, self.latest, self.seen).static()

    def close(self) -> None:
        """Take the widgets off the page. The probe stays as it is."""
        self.requests.forget()
        discard(self.widget)

    # --- what a hand asks for ----------------------------------------------------------

    def _draw(self, side: Side, start: int, values: Tensor) -> None:
        self.probe.draw(side, start, values)
        self._changed(side)

    def _preset(self, side: Side, name: str) -> None:
        if name in self._given:
            self.probe.begin(side, given(name, self._given[name]))
        else:
            self._randoms += name == "Random"
            offered = presets(len(self.probe.side(side)), seed=self._randoms)
            self.probe.begin(side, next(each for each in offered if each.name == name))
        self._changed(side)

    def _changed(self, side: Side) -> None:
        self.curves[side].show(self.probe.side(side))
        self._mark()
        if self.live:
            self._ask_look()
        else:
            self.response.old = True

    def _choose(self, side: Side) -> None:
        self._touched = side
        self._name()

    def _exchange(self, number: int) -> None:
        """Take another unit, or say why not and keep this one."""
        if self._units is None or number == self._unit:
            return
        try:
            self.probe.exchange(self._units(number))
        except PnnlabError as error:
            self._refuse(str(error))
            self.unit.value = self._unit
            return
        self._unit = number
        self._refuse("")
        self._name()
        self._ask_look()

    def _ask_look(self) -> None:
        self.requests.ask("look", self._look)

    def _ask_sweep(self) -> None:
        self.requests.ask("sweep", partial(self._sweep, self._chosen()))

    def _write(self) -> None:
        self.code.code = self.probe.code()

    # --- what the device does ------------------------------------------------------------

    def _look(self) -> None:
        response = self._carry_out(f"a look: {self.probe.repeats} shots", self.probe.measure)
        if response is not None:
            self._show_look(response)

    def _sweep(self, element: str) -> None:
        def act() -> xr.Dataset:
            return self.probe.sweep(element, points=POINTS, repeats=REPEATS)

        seen = self._carry_out(f"a sweep of {element}: {POINTS * REPEATS} shots", act)
        if seen is not None:
            self.seen = seen
            self.map.show(seen)
            self._mark()

    def _carry_out(self, name: str, act: Callable[[], T]) -> T | None:
        """Drive the device, when nothing else does; None if that was refused or failed."""
        try:
            if not self.live:
                self._say(f"{name} …")
            found = act() if self.session is None else self.session.do(name, act).result()
        except (PnnlabError, OSError) as error:
            self._refuse(str(error))
            return None
        else:
            self._refuse("")
            return found
        finally:
            self._say()

    # --- what is shown ---------------------------------------------------------------------

    def _show_look(self, response: Response) -> None:
        self.latest = response
        self.response.show(response)
        x, theta = (self.probe.side(side) for side in SIDES)
        same = torch.equal(x, response.x) and torch.equal(theta, response.theta)
        self.response.old = not (self.live or same)
        self._say()

    def _chosen(self) -> str:
        return f"{self._touched}[{self.curves[self._touched].chosen}]"

    def _mark(self) -> None:
        """Show in the map of a sweep where its control stands now."""
        if self.seen is not None:
            side, index = self.probe.element(str(self.seen.element.values[0]))
            self.map.now = float(self.probe.side(side)[index])

    def _name(self) -> None:
        system, shots = self.probe.system, POINTS * REPEATS
        self.sweep.description = f"What changes with {self._chosen()}?  {shots} shots"
        self.look.description = f"Measure: {self.probe.repeats} shots"
        sizes = f"{system.input_dim} inputs · {system.param_dim} parameters · "
        sizes += f"{system.output_dim} outputs"
        if self.probe.twin is not None and self._unit != self._fitted:
            sizes += f" · twin of unit {self._fitted}"
        self._what.value = f"<b>{escape(system.name)}</b><span>{sizes}</span>"

    def _say(self, busy: str = "") -> None:
        how = "answers while you draw" if self.live else "answers when you let go"
        passes = f"{count(self.probe.passes)} device passes so far"
        self._said.value = f"<span>{escape(busy) or how}</span> · <span>{passes}</span>"

    def _refuse(self, words: str) -> None:
        said = f'<div role="alert" class="pnn-refusal">{escape(words)}</div>'
        self._refusal.value = said if words else ""
        self._refusal.layout.display = None if words else "none"

    def _curve(self, side: Side) -> Curve:
        values = self.probe.side(side)
        fits = [name for name, drive in self._given.items() if drive.shape == values.shape]
        curve = Curve(
            TITLES[side],
            values,
            color=COLORS[side],
            on_draw=partial(self._draw, side),
            on_lift=self._ask_look,
            on_preset=partial(self._preset, side),
            presets=[preset.name for preset in presets(1)],
            examples=fits,
            parts=self._parts() if side == "theta" else (),
        )
        curve.observe(lambda _: self._choose(side), "chosen")
        return curve

    def _parts(self) -> list[Part]:
        system = self.probe.system
        groups = [(group.name, group.start, group.stop) for group in system.theta_groups()]
        return [("all", 0, system.param_dim), *groups]

    def _laid_out(self) -> widgets.VBox:
        top = widgets.HBox([self._what, self.unit, self.look, self.send])
        curves = widgets.Box([self.curves[side] for side in SIDES])
        below = widgets.HBox([self.sweep, self._said])
        for bar in (top, below):
            bar.add_class("pnn-bar")
        self._what.add_class("pnn-what")
        self.unit.add_class("pnn-unit")
        self._said.add_class("pnn-counted")
        curves.add_class("pnn-curves")
        self.unit.layout.display = "none" if self._units is None else None
        if not self.probe.system.param_dim:
            self.curves["theta"].layout.display = "none"
        parts = [top, self.code, self._refusal, curves, self.response, below, self.map]
        whole = widgets.VBox([style_sheet("panel"), *parts])
        whole.add_class("pnn-panel")
        return whole
