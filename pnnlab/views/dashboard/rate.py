"""The learning rate, changed while the training goes on."""

from concurrent.futures import Future
from typing import final

import ipywidgets as widgets
import numpy as np

from pnnlab.views.dashboard.closer import Closer, Looked
from pnnlab.views.entry import Entry
from pnnlab.views.lineplot import Line, Panel
from pnnlab.views.parts import alert, button
from pnnlab.views.plotgrid import PlotGrid


@final
class RateCloser(Closer):
    """The learning rate over the steps to come, and buttons that change it from the next one on.

    Parameters
    ----------
    looked : Looked
    """

    def __init__(self, looked: Looked) -> None:
        self._looked = looked
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
        training = self._looked.training
        self._grid.show([rate_panel(self._looked)])
        over = training.step >= training.steps
        for one in (self.half, self.double, self.apply):
            one.disabled = over

    def _scale(self, factor: float) -> None:
        self.said.value = ""
        self._looked.session.scale_rate(factor).add_done_callback(self._done)

    def _done(self, future: "Future[None]") -> None:
        error = future.exception()
        if error is not None:
            self.said.value = alert(error)
        else:
            scale = self._looked.training.rate_scale
            self.said.value = (
                f'<div role="status" class="pnn-said">now {scale:g} times that of the settings'
                "</div>"
            )
        self.refresh()


def rate_panel(looked: Looked) -> Panel:
    """The learning rate at the evaluations so far, and at the steps to come."""
    training = looked.training
    records = [*looked.session.evaluations]
    latest = looked.session.latest
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
