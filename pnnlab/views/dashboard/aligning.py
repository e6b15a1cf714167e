"""Whether the twins' gradients still point where the device's do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import ipywidgets as widgets
import numpy as np

from pnnlab.training import Alignment, alignment, alignment_passes
from pnnlab.views.dashboard.asking import Asking, price
from pnnlab.views.dashboard.closer import Closer, Looked
from pnnlab.views.dashboard.panels import layer_lines
from pnnlab.views.lineplot import Panel
from pnnlab.views.oneof import OneOf
from pnnlab.views.plotgrid import PlotGrid

POINTS = 8  # validation examples at which gradients are compared
MOST = 500  # comparisons kept


@dataclass(frozen=True)
class Sample:
    """Gradients compared once."""

    step: int
    found: Alignment


@final
class AlignmentCloser(Closer):
    """Cosine of the twins' gradients with the device's, when asked or every few evaluations.

    Parameters
    ----------
    looked : Looked
    """

    def __init__(self, looked: Looked) -> None:
        self._looked = looked
        self._samples: list[Sample] = []
        self._seen = len(looked.session.evaluations)
        network = looked.training.network
        passes = alignment_passes(network, POINTS)
        self.asking = Asking(
            looked.session, "Compare gradients", self._compare, self._show, passes=passes
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
        if self.every.value and len(self._looked.session.evaluations) >= self._seen + (
            self.every.value
        ):
            self._begin()
            self.asking.ask()

    def _begin(self) -> None:
        self._seen = len(self._looked.session.evaluations)

    def _compare(self) -> Sample:
        training = self._looked.training
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
        self._grid.show(alignment_panels(self._samples, self._looked.training.steps))


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
