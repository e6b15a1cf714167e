"""What the training costs in time and energy, with all that the estimate assumes."""

from collections.abc import Sequence
from dataclasses import replace
from html import escape
from typing import final

import ipywidgets as widgets

from pnnlab.layers import physical_layers
from pnnlab.protocols import Cost
from pnnlab.training import Estimate, estimate, seeing_passes
from pnnlab.views.dashboard.closer import Closer, Looked
from pnnlab.views.entry import Entry
from pnnlab.views.lineplot import number
from pnnlab.views.words import count, duration


@final
class CostCloser(Closer):
    """Device time and energy of the training so far, of all of it, and of one answer.

    Parameters
    ----------
    looked : Looked
    """

    def __init__(self, looked: Looked) -> None:
        self._looked = looked
        layers = physical_layers(looked.training.network)
        self._costs = looked.costs or tuple(layer.system.cost() for layer in layers)
        self.power = Entry("Power of the bench (W), if you know it", 0.0, least=0.0)
        self._table = widgets.HTML()
        self.widget = widgets.VBox([self.power, self._table])
        self.power.observe(lambda _: self.refresh(), "value")
        self.refresh()

    def refresh(self) -> None:
        """Show what was spent so far."""
        training, latest = self._looked.training, self._looked.session.latest
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
