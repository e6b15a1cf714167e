"""What the dashboard unfolds below its plots, one section at a time."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from typing import Generic, TypeVar, final

import ipywidgets as widgets
import numpy as np

from pnnlab.background import Session
from pnnlab.layers import on_device, on_twin, physical_layers
from pnnlab.physical_system import Cost
from pnnlab.training import (
    Alignment,
    Confusion,
    DriftNow,
    Estimate,
    Record,
    Reference,
    Refit,
    Training,
    alignment,
    alignment_passes,
    confusion,
    estimate,
    refit,
    refit_passes,
    remember,
    remembering_passes,
    seeing_passes,
    seen,
)
from pnnlab.views.confusion_view import ConfusionView
from pnnlab.views.controls import Entry, Folds, OneOf
from pnnlab.views.dashboard.panels import layer_lines
from pnnlab.views.lineplot import Line, Panel, number
from pnnlab.views.parts import alert, button, count, discard, duration
from pnnlab.views.plotgrid import PlotGrid


@dataclass(frozen=True, kw_only=True, eq=False)
class SectionContext:
    """What the sections of a dashboard show.

    Attributes
    ----------
    session : Session
    training : Training
        Of that session.
    classes : sequence of str or None
        Names of the classes.
    image : (int, int) or None
        Height and width of an input that is an image.
    references : tuple of Reference
        Taken of the physical layers' systems when their twins were fitted; may be empty.
    costs : tuple of Cost
        Of a shot of each physical layer; may be empty.
    """

    session: Session
    training: Training
    classes: Sequence[str] | None = None
    image: tuple[int, int] | None = None
    references: tuple[Reference, ...] = ()
    costs: tuple[Cost, ...] = ()


class Section(ABC):
    """One of the things that the dashboard unfolds. It is made when it is first unfolded.

    Attributes
    ----------
    widget : ipywidgets.VBox
    """

    widget: widgets.VBox

    @abstractmethod
    def refresh(self) -> None:
        """Show the session as it is now; called at every update, and so quick."""


T = TypeVar("T")


@final
class DeviceAction(Generic[T]):
    """A button that hands an action to a session, to be carried out between two steps.

    Parameters
    ----------
    session : Session
    name : str
        What the button does; the cost is added to it.
    action : callable
        Gives a result; it has the device and the network to itself.
    show : callable
        Called with the result, in whatever thread. What it returns is said beside the button.
    passes : int
        Device passes that it costs.
    icon : str

    Attributes
    ----------
    widget : ipywidgets.HBox
    button : ipywidgets.Button
    """

    def __init__(
        self,
        session: Session,
        name: str,
        action: Callable[[], T],
        show: Callable[[T], str],
        *,
        passes: int,
        icon: str = "search",
    ) -> None:
        self._session, self._name = session, name
        self._action, self._show = action, show
        self._lock = threading.Lock()  # held from the asking to the end
        self.button = button("", icon, self.ask)
        self.cost(passes)
        self.said = widgets.HTML()
        self.widget = widgets.HBox([self.button, self.said])
        self.widget.add_class("pnn-bar")

    def cost(self, passes: int) -> None:
        """Say another cost on the button."""
        self.button.description = f"{self._name} ({price(passes)})"

    def ask(self) -> bool:
        """Ask, unless it has been asked and is not done yet; says whether it was asked now."""
        if not self._lock.acquire(blocking=False):
            return False
        self.button.disabled = True
        when = "after this step" if self._session.status == "running" else "now"
        self._say(f"{self._name}: {when} …")
        self._session.do(self._name, self._action).add_done_callback(self._done)
        return True

    def _done(self, future: "Future[T]") -> None:
        try:
            error = future.exception()
            if error is not None:
                self.said.value = alert(error)
            else:
                self._say(self._show(future.result()))
        finally:
            self.button.disabled = False
            self._lock.release()

    def _say(self, words: str) -> None:
        self.said.value = f'<div role="status" class="pnn-said">{escape(words)}</div>'


def price(passes: int) -> str:
    """What something costs on the device, as a button says it."""
    return f"{count(passes)} device passes" if passes else "no device passes"


@final
class ConfusionSection(Section):
    """The confusion matrix of the validation split, on request.

    Parameters
    ----------
    context : SectionContext
    """

    def __init__(self, context: SectionContext) -> None:
        self._context = context
        network, examples = context.training.network, context.training.validation
        layers = physical_layers(network)
        self.view: ConfusionView | None = None
        self.on_device = DeviceAction(
            context.session,
            "Name the validation examples on the device" if layers else "Name the examples",
            self._device,
            lambda found: self._show(found, "device" if layers else "computer"),
            passes=seeing_passes(network, len(examples.x)),
        )
        asked = [self.on_device.widget]
        if layers and all(layer.twin is not None for layer in layers):
            self.on_twin = DeviceAction(
                context.session,
                "The same on the twin",
                self._twin,
                lambda found: self._show(found, "twin"),
                passes=0,
            )
            asked.append(self.on_twin.widget)
        self.widget = widgets.VBox(asked)

    def refresh(self) -> None:
        """Nothing follows by itself here: it would cost passes."""

    def _device(self) -> Confusion:
        training = self._context.training
        with on_device(training.network):
            return confusion(training.network, training.validation, self._context.classes)

    def _twin(self) -> Confusion:
        training = self._context.training
        with on_twin(training.network):
            return confusion(training.network, training.validation, self._context.classes)

    def _show(self, found: Confusion, where: str) -> str:
        x, step = self._context.training.validation.x, self._context.training.step
        if self.view is None:
            self.view = ConfusionView(found, x, shape=self._context.image, where=where)
            self.widget.children = (*self.widget.children, self.view)
        else:
            self.view.show(found, x, where)
        return f"step {step}, {price(found.device_passes)}"


POINTS = 8  # validation examples at which gradients are compared
MOST = 500  # comparisons kept


@dataclass(frozen=True)
class Sample:
    """Gradients compared once."""

    step: int
    found: Alignment


@final
class AlignmentSection(Section):
    """Cosine of the twins' gradients with the device's, when asked or every few evaluations.

    Parameters
    ----------
    context : SectionContext
    """

    def __init__(self, context: SectionContext) -> None:
        self._context = context
        self._samples: list[Sample] = []
        self._seen = len(context.session.evaluations)
        network = context.training.network
        passes = alignment_passes(network, POINTS)
        self.asking = DeviceAction(
            context.session, "Compare gradients", self._compare, self._show, passes=passes
        )
        self.every = OneOf(
            {0: "when asked", 1: "at every evaluation", 5: "at every 5th", 20: "at every 20th"},
            label="Compare",
        )
        self.every.observe(lambda _: self._begin(), "value")
        self._grid = PlotGrid()
        self.widget = widgets.VBox([self.asking.widget, self.every.widget, self._grid])
        self._draw()

    def refresh(self) -> None:
        """Ask again if it is time to."""
        if self.every.value and len(self._context.session.evaluations) >= self._seen + (
            self.every.value
        ):
            self._begin()
            self.asking.ask()

    def _begin(self) -> None:
        self._seen = len(self._context.session.evaluations)

    def _compare(self) -> Sample:
        training = self._context.training
        found = alignment(training.network, training.validation.x[:POINTS], seed=training.step)
        return Sample(training.step, found)

    def _show(self, sample: Sample) -> str:
        self._samples.append(sample)
        if len(self._samples) > MOST:
            del self._samples[1 : MOST // 2 : 2]
        self._draw()
        cosines = ", ".join(f"{value:.2f}" for value in sample.found.cosine)
        return f"step {sample.step}: cosine {cosines} by layer, {price(sample.found.device_passes)}"

    def _draw(self) -> None:
        self._grid.show(alignment_panels(self._samples, self._context.training.steps))


def alignment_panels(samples: Sequence[Sample], steps: int) -> list[Panel]:
    """Cosine and its ceiling, by layer, over the run."""
    step = np.array([sample.step for sample in samples], dtype=float)
    note = "no gradients compared yet"

    def panel(title: str, field: str) -> Panel:
        values = np.array([getattr(sample.found, field) for sample in samples], dtype=float)
        return Panel(
            title=title,
            y_label="cosine (1: same)",
            lines=layer_lines(step, values.T, markers=True),
            x_range=(0.0, float(steps)),
            y_range=(min(0.0, float(values.min(initial=0.0))), 1.04),
            note=note,
        )

    return [
        panel("Twin's gradients against the device's", "cosine"),
        panel("As far as noise lets one see", "ceiling"),
    ]


@final
class CostSection(Section):
    """Device time and energy of the training so far, of all of it, and of one answer.

    Parameters
    ----------
    context : SectionContext
    """

    def __init__(self, context: SectionContext) -> None:
        self._context = context
        layers = physical_layers(context.training.network)
        self._costs = context.costs or tuple(layer.system.cost() for layer in layers)
        self.power = Entry("Power of the bench (W), if you know it", 0.0, least=0.0)
        self._table = widgets.HTML()
        self.widget = widgets.VBox([self.power, self._table])
        self.power.observe(lambda _: self.refresh(), "value")
        self.refresh()

    def refresh(self) -> None:
        """Show what was spent so far."""
        training, latest = self._context.training, self._context.session.latest
        network = training.network
        spent = latest.device_passes if latest is not None else 0
        whole = spent * training.steps // latest.step if latest is not None else 0
        costs = powered(self._costs, self.power.value)
        rows = {
            "One answer": estimate(network, seeing_passes(network, 1), costs=costs),
            "So far, evaluations included": estimate(network, spent, costs=costs),
            "The whole training, at this pace": estimate(network, whole, costs=costs),
        }
        self._table.value = cost_html(rows)


def powered(costs: Sequence[Cost], watt: float) -> list[Cost]:
    """The same costs, with the energy that a power draws in their time, if there is any."""
    if not watt:
        return list(costs)
    return [_powered(cost, watt) for cost in costs]


def _powered(cost: Cost, watt: float) -> Cost:
    if cost.seconds_per_pass is None:
        said = "A power is no energy without the time of a shot: give the dashboard its Cost."
        return replace(cost, assumptions=f"{cost.assumptions} {said}")
    said = f"Energy: {watt:g} W, entered here, for as long as the shots last."
    return replace(
        cost,
        joules_per_pass=watt * cost.seconds_per_pass,
        assumptions=f"{cost.assumptions} {said}",
    )


def cost_html(rows: dict[str, Estimate]) -> str:
    """Estimates as a table, and their assumptions below it."""
    head = "".join(
        f'<th scope="col">{name}</th>'
        for name in ("", "Device passes", "Device time", "Device energy", "Dense digital network")
    )
    body = "".join(
        f'<tr><th scope="row">{name}</th><td>{count(found.device_passes)}</td>'
        f"<td>{seconds(found.device_seconds)}</td><td>{joules(found.device_joules)}</td>"
        f"<td>{joules(found.digital_joules)}</td></tr>"
        for name, found in rows.items()
    )
    assumed = "".join(f"<li>{escape(line)}</li>" for line in next(iter(rows.values())).assumptions)
    return (
        f'<table class="pnn-costs"><caption>Estimated time and energy</caption><thead><tr>{head}'
        f"</tr></thead><tbody>{body}</tbody></table>"
        f'<div class="pnn-said"><b>This rests on</b><ul>{assumed}</ul></div>'
    )


def seconds(value: float | None) -> str:
    """A time from microseconds to hours, or that it is not known."""
    if value is None:
        return "not known"
    return duration(value) if value >= 1 or value == 0 else _scaled(value, "s")


def joules(value: float | None) -> str:
    """An energy from picojoules to megajoules, or that it is not known."""
    return "not known" if value is None else _scaled(value, "J")


def _scaled(value: float, unit: str) -> str:
    for factor, prefix in ((1e6, "M"), (1e3, "k"), (1, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n")):
        if value >= factor:
            return f"{number(value / factor)} {prefix}{unit}"
    return f"{number(value / 1e-12)} p{unit}" if value else f"0 {unit}"


@final
class LimitsSection(Section):
    """What the evaluations saw of limits and saturation; it costs nothing more.

    Parameters
    ----------
    context : SectionContext
    """

    def __init__(self, context: SectionContext) -> None:
        self._session = context.session
        self._grid = PlotGrid()
        self.widget = widgets.VBox([self._grid])
        self.refresh()

    def refresh(self) -> None:
        """Show what the last evaluation saw."""
        self._grid.show(limit_panels(self._session.evaluations))


def limit_panels(evaluated: Sequence[Record]) -> list[Panel]:
    """Parameters at their limits and read-outs that stick, by layer, over the steps."""

    def panel(title: str, y_label: str, field: str) -> Panel:
        kept = [record for record in evaluated if getattr(record, field) is not None]
        step = np.array([record.step for record in kept], dtype=float)
        values = 100 * np.array([getattr(record, field) for record in kept], dtype=float)
        return Panel(
            title=title,
            y_label=y_label,
            unit="%",
            lines=layer_lines(step, values.T, markers=True),
            x_range=(0.0, float(evaluated[-1].steps if evaluated else 1)),
            note="shown at the first evaluation",
        )

    return [
        panel("Parameters at 0 or 1", "of the layer's θ (%)", "theta_at_limits"),
        panel("Read-outs that stick", "of the read-outs (%)", "stuck"),
    ]


@final
class RateSection(Section):
    """The learning rate over the steps to come, and buttons that change it from the next one on.

    Parameters
    ----------
    context : SectionContext
    """

    def __init__(self, context: SectionContext) -> None:
        self._context = context
        self.half = button("Half", "minus", lambda: self._scale(0.5))
        self.double = button("Double", "plus", lambda: self._scale(2.0))
        self.factor = Entry("Factor", 1.0)
        self.apply = button("Multiply", "check", lambda: self._scale(self.factor.value))
        self.said = widgets.HTML()
        bar = widgets.HBox([self.half, self.double, self.factor, self.apply, self.said])
        bar.add_class("pnn-bar")
        self._grid = PlotGrid()
        self.widget = widgets.VBox([bar, self._grid])
        self.refresh()

    def refresh(self) -> None:
        """Show the rate that the steps had and, dashed, those to come will have."""
        training = self._context.training
        self._grid.show([rate_panel(self._context)])
        over = training.step >= training.steps
        for one in (self.half, self.double, self.apply):
            one.disabled = over

    def _scale(self, factor: float) -> None:
        self.said.value = ""
        self._context.session.scale_rate(factor).add_done_callback(self._done)

    def _done(self, future: "Future[None]") -> None:
        error = future.exception()
        if error is not None:
            self.said.value = alert(error)
        else:
            scale = self._context.training.rate_scale
            self.said.value = (
                f'<div role="status" class="pnn-said">now {scale:g} times that of the settings'
                "</div>"
            )
        self.refresh()


def rate_panel(context: SectionContext) -> Panel:
    """The learning rate at the evaluations so far, and at the steps to come."""
    training = context.training
    records = [*context.session.evaluations]
    latest = context.session.latest
    if latest is not None and (not records or records[-1].step < latest.step):
        records.append(latest)
    x = np.array([record.step for record in records], dtype=float)
    y = np.array([record.learning_rate for record in records], dtype=float)
    to_come = np.linspace(training.step, training.steps, 60)
    settings, scale = training.settings, training.rate_scale
    planned = [scale * settings.rate(int(step), training.steps) for step in to_come]
    return Panel(
        title="Learning rate",
        y_label="Adam's step size",
        lines=[
            Line(label="so far", x=x, y=y, color="blue", markers=True),
            Line(label="to come", x=to_come, y=planned, color="grey", dash=(6, 3)),
        ],
        x_range=(0.0, float(training.steps)),
    )


SHOTS = 16  # remembered of each layer
REPEATS = 4
REFIT = 200  # fresh shots for a refit, and
DRIVES = 64  # validation examples whose drives are among them
MOST = 500  # looks kept
WHAT = (
    "Some shots of every layer are remembered and, later, taken again: what has changed beyond "
    "noise is drift. A twin that no longer fits its device can be fitted anew, between two steps."
)


@dataclass(frozen=True)
class DriftLook:
    """All layers compared with what was remembered, once."""

    step: int
    layers: tuple[DriftNow, ...]


@final
class DriftSection(Section):
    """Drift since the twins were fitted, or since they were last remembered; and a refit.

    Parameters
    ----------
    context : SectionContext
    """

    def __init__(self, context: SectionContext) -> None:
        self._context = context
        session, network = context.session, context.training.network
        layers = physical_layers(network)
        self._references: Sequence[Reference] = context.references
        self._looks: list[DriftLook] = []
        self.remember = DeviceAction(
            session,
            "Remember how the device is now",
            self._take,
            self._taken,
            passes=remembering_passes(network, self._examples(SHOTS)),
            icon="bookmark",
        )
        self.compare = DeviceAction(
            session,
            "Compare with what is remembered",
            self._compare,
            self._show,
            passes=self._comparing(),
        )
        self.compare.button.disabled = not self._references
        self.refits = tuple(
            DeviceAction(
                session,
                f"Refit the twin of layer {number + 1}",
                partial(self._refit, number),
                str,
                passes=refit_passes(REFIT) + seeing_passes(network, self._examples(DRIVES)),
                icon="refresh",
            )
            for number, layer in enumerate(layers)
            if layer.twin is not None
        )
        self._grid = PlotGrid()
        said = widgets.HTML(f'<div class="pnn-said">{WHAT}</div>')
        asked = [self.remember.widget, self.compare.widget, *(one.widget for one in self.refits)]
        self.widget = widgets.VBox([said, *asked, self._grid])
        self._draw()

    def _examples(self, most: int) -> int:
        return min(most, len(self._context.training.validation.x))

    def _comparing(self) -> int:
        """Device passes that it takes to compare."""
        if not self._references:
            layers = physical_layers(self._context.training.network)
            return len(layers) * REPEATS * self._examples(SHOTS)
        return sum(len(one.y) * len(one.x) for one in self._references)

    def refresh(self) -> None:
        """Nothing follows by itself here: it would cost passes."""

    def _take(self) -> int:
        training = self._context.training
        x = training.validation.x[:SHOTS]
        self._references = remember(training.network, x, REPEATS)
        return training.step

    def _taken(self, step: int) -> str:
        self._looks.clear()
        self.compare.cost(self._comparing())
        self.compare.button.disabled = False
        self._draw()
        return f"remembered at step {step}"

    def _compare(self) -> DriftLook:
        found = tuple(reference.compare() for reference in self._references)
        return DriftLook(self._context.training.step, found)

    def _show(self, look: DriftLook) -> str:
        self._looks.append(look)
        if len(self._looks) > MOST:
            del self._looks[1 : MOST // 2 : 2]
        self._draw()
        return drift_words(look)

    def _refit(self, number: int) -> Refit:
        training = self._context.training
        layer = physical_layers(training.network)[number]
        drives = seen(training.network, training.validation.x[:DRIVES])[number].x
        found = refit(layer, shots=REFIT, x=drives, seed=training.step)
        training.note(f"the twin of layer {number + 1} was fitted anew: {found}")
        return found

    def _draw(self) -> None:
        self._grid.show(drift_panels(self._looks, self._context.training.steps))


def drift_words(look: DriftLook) -> str:
    """A look in one sentence."""
    told = [
        f"layer {number}: {now.rms:.2g} rms"
        for number, now in enumerate(look.layers, start=1)
        if now.told_from_noise
    ]
    passes = price(sum(now.device_passes for now in look.layers))
    return f"step {look.step}: {', '.join(told) or 'no drift beyond noise'}; {passes}"


def drift_panels(looks: Sequence[DriftLook], steps: int) -> list[Panel]:
    """Change of the read-outs, and the least that could be told from noise, over the run."""
    step = np.array([look.step for look in looks], dtype=float)

    def panel(title: str, field: str) -> Panel:
        values = [[getattr(now, field) for now in look.layers] for look in looks]
        return Panel(
            title=title,
            y_label="rms change (full scale)",
            lines=layer_lines(step, np.array(values, dtype=float).T, markers=True),
            x_range=(0.0, float(steps)),
            note="nothing compared yet",
        )

    return [
        panel("Drift since it was remembered", "rms"),
        panel("Least drift that could be told", "certain"),
    ]


@final
class Sections:
    """Folds, each made when it is first opened; at first all are closed, and cost nothing.

    Parameters
    ----------
    context : SectionContext

    Attributes
    ----------
    folds : Folds
    made : dict of str to Section
        Those that were opened once.
    widget : ipywidgets.VBox
    """

    def __init__(self, context: SectionContext) -> None:
        self._context = context
        self._makers = sections(context)
        self._lock = threading.Lock()
        self.made: dict[str, Section] = {}
        self.folds = Folds(label="DriftLook closer", names=list(self._makers))
        self._room = widgets.VBox()
        self.widget = widgets.VBox([self.folds, self._room])
        self.folds.observe(lambda _: self._turn(), "unfolded")

    def refresh(self) -> None:
        """Show the session as it is now."""
        for section in tuple(self.made.values()):
            section.refresh()

    def close(self) -> None:
        """Take everything off the page, folded or not."""
        with self._lock:
            for section in self.made.values():
                discard(section.widget)

    def _turn(self) -> None:
        name = self.folds.unfolded
        with self._lock:  # callbacks come in any thread
            if name and name not in self.made:
                self.made[name] = self._makers[name](self._context)
            self._room.children = (self.made[name].widget,) if name else ()


def sections(context: SectionContext) -> Mapping[str, Callable[[SectionContext], Section]]:
    """What can be looked at: less of a digital network or a regression."""
    layers = physical_layers(context.training.network)
    found: dict[str, Callable[[SectionContext], Section]] = {}
    if not context.training.train.targets.is_floating_point():
        found["Confusion"] = ConfusionSection
    if layers and all(layer.twin is not None for layer in layers):
        found["Gradients"] = AlignmentSection
    if layers:
        found |= {
            "Drift and refit": DriftSection,
            "Limits": LimitsSection,
            "Time and energy": CostSection,
        }
    return found | {"Learning rate": RateSection}
