"""What the dashboard unfolds below its plots, one section at a time."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from html import escape
from itertools import chain
from typing import Any, TypeAlias, final

import ipywidgets as widgets
import numpy as np
from matplotlib.ticker import EngFormatter

from pnnlab.background import Session
from pnnlab.layers import all_have_twins, on_device, on_twin, physical_layers
from pnnlab.physical_system import Cost
from pnnlab.training import (
    Record,
    Reference,
    Training,
    alignment,
    alignment_passes,
    confusion,
    estimate,
    layer_drives,
    passes_per_example,
    reference_passes,
    refit,
    refit_passes,
    take_references,
)
from pnnlab.views.chart import Plot, PlotGrid, Series
from pnnlab.views.confusion_view import ConfusionView
from pnnlab.views.parts import (
    Cell,
    Entry,
    OneOf,
    Table,
    alert,
    bar,
    button,
    count,
    discard,
    duration,
    status,
    table_row,
)
from pnnlab.views.style import LineStyle
from pnnlab.views.trainings import column, layer_plot

GRADIENTS_AT = 8  # validation examples at which gradients are compared
SHOTS, REPEATS = 16, 4  # of each layer, as a reference for drift
REFIT = 200  # fresh shots for a refit, and
DRIVES = 64  # validation examples whose drives are among them
COSTS = ("Spent on",), ("Device passes", "Device time", "Device energy", "Dense digital network")
MOST = 500  # results kept of a section
Results: TypeAlias = dict[str, list[tuple[int, Sequence[float]]]]  # steps, values of the layers


class Section:
    """One section; it is made when it is first unfolded."""

    def __init__(self, sections: "Sections") -> None:
        self._sections, self._session = sections, sections.session
        self._training, self._network = sections.training, sections.training.network
        self._layers = physical_layers(self._network)
        self._grid = PlotGrid()
        self.widget = widgets.VBox([self._grid])

    def refresh(self) -> None:
        """Show the session as it is now, quickly and without a device pass."""

    def _examples(self, most: int) -> int:
        return min(most, len(self._training.validation.x))

    def _show_layers(self, y_label: str, results: Results, **options: Any) -> None:
        options["x_limits"] = (0.0, float(self._training.steps))
        self._grid.show([layer_plot(title, y_label, v, **options) for title, v in results.items()])


def add(results: Results, step: int, *values: Sequence[float]) -> None:
    """Add values to each of the results; many are thinned."""
    for known, layers in zip(results.values(), values, strict=True):
        known.append((step, layers))
        if len(known) > MOST:
            del known[1 : MOST // 2 : 2]  # every other one of the older half, but the first


@final
class DeviceAction:
    """A button that hands an action to a session; what it returns, in words, stands beside it."""

    def __init__(
        self, session: Session, name: str, act: Callable[[], str], passes: int, icon: str = "search"
    ) -> None:
        self._session, self._name, self._act = session, name, act
        self.button = button("", icon, self.request)
        self.set_passes(passes)
        self.message = widgets.HTML()
        self.widget = bar(self.button, self.message)

    def set_passes(self, passes: int) -> None:
        """Name the cost on the button."""
        self.button.description = f"{self._name} ({passes_text(passes)})"

    def request(self) -> None:
        """Request the action, unless it is requested and not done yet."""
        if self.button.disabled:
            return
        self.button.disabled = True
        when = "after this step" if self._session.status == "running" else "now"
        self.message.value = status(f"{self._name}: {when} …")
        self._session.do(self._name, self._act).add_done_callback(self._done)

    def _done(self, future: "Future[str]") -> None:
        try:
            error = future.exception()
            self.message.value = alert(error) if error else status(future.result())
        finally:
            self.button.disabled = False


def passes_text(passes: int) -> str:
    """A number of device passes in words."""
    return f"{count(passes)} device passes" if passes else "no device passes"


@final
class ConfusionSection(Section):
    """The confusion matrix of the validation split, on request."""

    def __init__(self, sections: "Sections") -> None:
        super().__init__(sections)
        self.view: ConfusionView | None = None
        passes = len(self._training.validation.x) * passes_per_example(self._network)
        name, where = "Name the examples", "computer"
        if self._layers:
            name, where = "Name the validation examples on the device", "device"
        session, act = self._session, partial(self._act, on_device, where)
        self.on_device = DeviceAction(session, name, act, passes)
        act = partial(self._act, on_twin, "twin")
        self.on_twin = DeviceAction(session, "The same on the twin", act, 0)
        twins = all_have_twins(self._network)
        shown = [self.on_device, self.on_twin] if twins else [self.on_device]
        self.widget.children = [action.widget for action in shown]

    def _act(self, on: Callable[..., Any], where: str) -> str:
        validation = self._training.validation
        with on(self._network):
            found = confusion(self._network, validation, self._sections.classes)
        if self.view is None:
            self.view = ConfusionView(found, validation.x, where=where)
            self.widget.children = (*self.widget.children, self.view)
        else:
            self.view.show(found, validation.x, where)
        return f"step {self._training.step}, {passes_text(found.device_passes)}"


@final
class AlignmentSection(Section):
    """Cosine of the twins' gradients with the device's, on request or every few evaluations."""

    def __init__(self, sections: "Sections") -> None:
        super().__init__(sections)
        titles = "Twin's gradients against the device's", "The most that noise allows"
        self._results: Results = {title: [] for title in titles}
        self._restart_count()
        passes = alignment_passes(self._network, GRADIENTS_AT)
        self.compare = DeviceAction(self._session, "Compare gradients", self._compare, passes)
        when = {0: "when asked", 1: "at every evaluation", 5: "at every 5th", 20: "at every 20th"}
        self.every = OneOf(when, label="Compare")
        self.every.observe(lambda _: self._restart_count(), "value")
        self.widget.children = self.compare.widget, self.every, self._grid
        self._draw()

    def refresh(self) -> None:
        """Compare again if it is time to."""
        new = len(self._session.evaluations) - self._counted
        if self.every.value and new >= self.every.value:
            self._restart_count()
            self.compare.request()

    def _restart_count(self) -> None:
        self._counted = len(self._session.evaluations)

    def _compare(self) -> str:
        step, x = self._training.step, self._training.validation.x[:GRADIENTS_AT]
        found = alignment(self._network, x, seed=step)
        cosine, ceiling = zip(*((one.cosine, one.ceiling) for one in found.layers), strict=True)
        add(self._results, step, cosine, ceiling)
        self._draw()
        cosines = ", ".join(f"{value:.2f}" for value in cosine)
        return f"step {step}: cosine {cosines} by layer, {passes_text(found.device_passes)}"

    def _draw(self) -> None:
        every = [values for known in self._results.values() for _, values in known]
        limits = min((0.0, *chain(*every))), 1.04
        note = "no gradients compared yet"
        self._show_layers("cosine (1: same)", self._results, y_limits=limits, note=note)


@final
class CostSection(Section):
    """Device time and energy of the training so far, of all of it, and of one answer."""

    def __init__(self, sections: "Sections") -> None:
        super().__init__(sections)
        self._costs = [layer.system.cost() for layer in self._layers]
        self.power = Entry(label="Power of the bench (W), if you know it", least=0.0)
        self.table = Table("Estimated time and energy", *COSTS)
        self.assumptions = widgets.HTML()
        self.widget.children = self.power, self.table, self.assumptions
        self.power.observe(lambda _: self.refresh(), "value")

    def refresh(self) -> None:
        """Show what was spent so far."""
        latest = self._session.latest
        spent = latest.device_passes if latest is not None else 0
        passes = {
            "One answer": passes_per_example(self._network),
            "So far, evaluations included": spent,
            "The whole training, at this pace": (
                spent * self._training.steps // latest.step if latest is not None else 0
            ),
        }
        costs = [powered(cost, self.power.value) for cost in self._costs]
        rows = []
        for name, each in passes.items():
            found = estimate(self._network, each, costs=costs)
            time, energies = found.device_seconds, (found.device_joules, found.digital_joules)
            cells: list[Cell] = [(name, name), (count(each), each), (seconds(time), time)]
            rows.append(table_row(name, [*cells, *((scaled(e, "J"), e) for e in energies)]))
        self.table.rows = rows
        assumed = "".join(f"<li>{escape(line)}</li>" for line in found.assumptions)
        html = f'<div class="pnn-message"><b>Assumptions</b><ul>{assumed}</ul></div>'
        self.assumptions.value = html


def powered(cost: Cost, watt: float) -> Cost:
    """The same cost, with the energy that a power draws in its time, if there is any."""
    if not watt:
        return cost
    if cost.seconds_per_pass is None:
        note = "A power is no energy without the time of a shot: let `cost` of the system say it."
        return replace(cost, assumptions=f"{cost.assumptions} {note}")
    note = f"Energy: {watt:g} W, entered here, for as long as the shots last."
    joules = watt * cost.seconds_per_pass
    return replace(cost, joules_per_pass=joules, assumptions=f"{cost.assumptions} {note}")


def seconds(value: float | None) -> str:
    """A time from microseconds to hours, or that it is not known."""
    return scaled(value, "s") if value is None or 0 < value < 1 else duration(value)


def scaled(value: float | None, unit: str) -> str:
    """Three digits with a prefix of the unit, or that it is not known."""
    return "not known" if value is None else EngFormatter(unit)(float(f"{value:.3g}"))


@final
class LimitsSection(Section):
    """Limits and saturation as the evaluations found them; it costs no device pass."""

    def refresh(self) -> None:
        """Show what the last evaluation found."""
        self._grid.show(limit_plots(self._session.evaluations))


def limit_plots(evaluated: Sequence[Record]) -> list[Plot]:
    """Parameters at their limits and read-outs that stick, by layer, over the steps."""
    options: dict[str, Any] = {"x_limits": (0.0, float(evaluated[-1].steps if evaluated else 1))}
    options |= {"unit": "%", "note": "shown at the first evaluation"}

    def plot(title: str, y_label: str, field: str) -> Plot:
        found = [(record.step, getattr(record, field)) for record in evaluated]
        known = [(step, values) for step, values in found if values is not None]
        return layer_plot(title, y_label, known, factor=100, **options)

    return [
        plot("Parameters at 0 or 1", "of the layer's θ (%)", "theta_at_limits"),
        plot("Read-outs that stick", "of the read-outs (%)", "stuck"),
    ]


@final
class RateSection(Section):
    """The learning rate over the steps to come, and buttons that change it from the next one on."""

    def __init__(self, sections: "Sections") -> None:
        super().__init__(sections)
        self.half = button("Half", "minus", lambda: self._scale(0.5))
        self.double = button("Double", "plus", lambda: self._scale(2.0))
        self.factor = Entry(label="Factor", value=1.0)
        self.apply = button("Multiply", "check", lambda: self._scale(self.factor.value))
        self.message = widgets.HTML()
        controls = bar(self.half, self.double, self.factor, self.apply, self.message)
        self.widget.children = controls, self._grid

    def refresh(self) -> None:
        """Show the rate of the past steps and, dashed, that of those to come."""
        training, latest = self._training, self._session.latest
        records = [*self._session.evaluations]
        if latest is not None and (not records or records[-1].step < latest.step):
            records.append(latest)
        to_come = np.linspace(training.step, training.steps, 60)
        rate = training.settings.rate
        planned = [training.rate_scale * rate(int(step), training.steps) for step in to_come]
        steps, rates = column(records, "step"), column(records, "learning_rate")
        lines = [
            Series("so far", steps, rates, markers=True),
            Series("to come", to_come, planned, style=LineStyle("grey", (6, 3))),
        ]
        x_limits = (0.0, float(training.steps))
        self._grid.show(
            [Plot("Learning rate", "step", "Adam's step size", lines, x_limits=x_limits)]
        )
        for one in (self.half, self.double, self.apply):
            one.disabled = training.step >= training.steps

    def _scale(self, factor: float) -> None:
        self.message.value = ""
        self._session.scale_rate(factor).add_done_callback(self._done)

    def _done(self, future: "Future[None]") -> None:
        error = future.exception()
        now = f"now {self._training.rate_scale:g} times that of the settings"
        self.message.value = alert(error) if error else status(now)
        self.refresh()


@final
class DriftSection(Section):
    """Drift since the twins were fitted, or since the last reference; and a refit."""

    def __init__(self, sections: "Sections") -> None:
        super().__init__(sections)
        self._references = sections.references
        titles = "Drift since it was remembered", "Least detectable drift"
        self._results: Results = {title: [] for title in titles}
        session, passes = self._session, reference_passes(self._network, self._examples(SHOTS))
        name = "Remember how the device is now"
        self.remember = DeviceAction(session, name, self._remember, passes, "bookmark")
        name, passes = "Compare with what is remembered", self._comparing_passes()
        self.compare = DeviceAction(session, name, self._compare, passes)
        self.compare.button.disabled = not self._references
        passes = refit_passes(REFIT) + self._examples(DRIVES) * passes_per_example(self._network)
        self.refits = []
        for place, layer in enumerate(self._layers):
            if layer.twin is not None:
                name, act = f"Refit the twin of layer {place + 1}", partial(self._refit, place)
                self.refits.append(DeviceAction(session, name, act, passes, "refresh"))
        about = status(
            "Some shots of every layer are stored and, later, taken again: a change beyond noise "
            "is drift. A twin that no longer fits its device can be fitted anew, between two steps."
        )
        rows = [action.widget for action in (self.remember, self.compare, *self.refits)]
        self.widget.children = widgets.HTML(about), *rows, self._grid
        self._draw()

    def _comparing_passes(self) -> int:
        if not self._references:
            return len(self._layers) * REPEATS * self._examples(SHOTS)
        return sum(len(one.y) * len(one.x) for one in self._references)

    def _remember(self) -> str:
        x = self._training.validation.x[:SHOTS]
        self._references = take_references(self._network, x, REPEATS)
        for known in self._results.values():
            known.clear()
        self.compare.set_passes(self._comparing_passes())
        self.compare.button.disabled = False
        self._draw()
        return f"remembered at step {self._training.step}"

    def _compare(self) -> str:
        layers = [each.compare() for each in self._references]
        drifted = ", ".join(
            f"layer {n}: {now.rms:.2g} rms" for n, now in enumerate(layers, 1) if now.significant
        )
        if drifted:
            self._training.note(f"drift beyond noise, {drifted}")
        rms, least = [now.rms for now in layers], [now.detectable for now in layers]
        add(self._results, self._training.step, rms, least)
        self._draw()
        passes = passes_text(sum(now.device_passes for now in layers))
        return f"step {self._training.step}: {drifted or 'no drift beyond noise'}; {passes}"

    def _refit(self, place: int) -> str:
        training = self._training
        drives = layer_drives(self._network, training.validation.x[:DRIVES])[self._layers[place]]
        found = refit(self._layers[place], shots=REFIT, x=drives, seed=training.step)
        training.note(f"the twin of layer {place + 1} was fitted anew: {found}")
        return str(found)

    def _draw(self) -> None:
        note = "nothing compared yet"
        self._show_layers("rms change (full scale)", self._results, note=note)


@final
class Sections:
    """Sections to unfold; each is made when it is first opened, and costs nothing before."""

    def __init__(
        self,
        session: Session,
        training: Training,
        classes: Sequence[str] | None = None,
        references: Sequence[Reference] = (),
    ) -> None:
        self.session, self.training = session, training
        self.classes, self.references = classes, references
        physical = bool(physical_layers(training.network))
        kinds: dict[str, tuple[type[Section], bool]] = {
            "Confusion": (ConfusionSection, not training.train.targets.is_floating_point()),
            "Gradients": (AlignmentSection, all_have_twins(training.network)),
            "Drift and refit": (DriftSection, physical),
            "Limits": (LimitsSection, physical),
            "Time and energy": (CostSection, physical),
            "Learning rate": (RateSection, True),
        }
        self._kinds = {name: kind for name, (kind, offered) in kinds.items() if offered}
        self._lock = threading.Lock()
        self.opened: dict[str, Section] = {}
        names = {name: name for name in self._kinds}
        self.folds = OneOf(names, label="Details", folds=True)
        self._body = widgets.VBox()
        self.widget = widgets.VBox([self.folds, self._body])
        self.folds.observe(lambda _: self._turn(), "value")

    def refresh(self) -> None:
        """Show the session as it is now."""
        for section in tuple(self.opened.values()):
            section.refresh()

    def close(self) -> None:
        """Take everything off the page, folded or not."""
        with self._lock:
            for section in self.opened.values():
                discard(section.widget)

    def _turn(self) -> None:
        name = self.folds.value
        with self._lock:  # callbacks come in any thread
            if name and name not in self.opened:
                self.opened[name] = self._kinds[name](self)
                self.opened[name].refresh()
            self._body.children = (self.opened[name].widget,) if name else ()
