"""How far the devices have drifted since a moment, and their twins brought up to date."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import final

import ipywidgets as widgets
import numpy as np

from pnnlab.layers import physical_layers
from pnnlab.training import (
    DriftNow,
    Reference,
    Refit,
    refit,
    refit_passes,
    remember,
    remembering_passes,
    seeing_passes,
    seen,
)
from pnnlab.views.dashboard.asking import Asking, price
from pnnlab.views.dashboard.closer import Closer, Looked
from pnnlab.views.dashboard.panels import layer_lines
from pnnlab.views.lineplot import Panel
from pnnlab.views.plotgrid import PlotGrid

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
class Look:
    """All layers compared with what was remembered, once."""

    step: int
    layers: tuple[DriftNow, ...]


@final
class DriftCloser(Closer):
    """Drift since the twins were fitted, or since they were last remembered; and a refit.

    Parameters
    ----------
    looked : Looked
    """

    def __init__(self, looked: Looked) -> None:
        self._looked = looked
        session, network = looked.session, looked.training.network
        layers = physical_layers(network)
        self._references: Sequence[Reference] = looked.references
        self._looks: list[Look] = []
        self.remember = Asking(
            session,
            "Remember how the device is now",
            self._take,
            self._taken,
            passes=remembering_passes(network, self._examples(SHOTS)),
            icon="bookmark",
        )
        self.compare = Asking(
            session,
            "Compare with what is remembered",
            self._compare,
            self._show,
            passes=self._comparing(),
        )
        self.compare.button.disabled = not self._references
        self.refits = tuple(
            Asking(
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
        return min(most, len(self._looked.training.validation.x))

    def _comparing(self) -> int:
        """Device passes that it takes to compare."""
        if not self._references:
            layers = physical_layers(self._looked.training.network)
            return len(layers) * REPEATS * self._examples(SHOTS)
        return sum(len(one.y) * len(one.x) for one in self._references)

    def refresh(self) -> None:
        """Nothing follows by itself here: it would cost passes."""

    def _take(self) -> int:
        training = self._looked.training
        x = training.validation.x[:SHOTS]
        self._references = remember(training.network, x, REPEATS)
        return training.step

    def _taken(self, step: int) -> str:
        self._looks.clear()
        self.compare.cost(self._comparing())
        self.compare.button.disabled = False
        self._draw()
        return f"remembered at step {step}"

    def _compare(self) -> Look:
        found = tuple(reference.compare() for reference in self._references)
        return Look(self._looked.training.step, found)

    def _show(self, look: Look) -> str:
        self._looks.append(look)
        if len(self._looks) > MOST:
            del self._looks[1 : MOST // 2 : 2]
        self._draw()
        return drift_words(look)

    def _refit(self, number: int) -> Refit:
        training = self._looked.training
        layer = physical_layers(training.network)[number]
        drives = seen(training.network, training.validation.x[:DRIVES])[number].x
        found = refit(layer, shots=REFIT, x=drives, seed=training.step)
        training.note(f"the twin of layer {number + 1} was fitted anew: {found}")
        return found

    def _draw(self) -> None:
        self._grid.show(drift_panels(self._looks, self._looked.training.steps))


def drift_words(look: Look) -> str:
    """A look in one sentence."""
    told = [
        f"layer {number}: {now.rms:.2g} rms"
        for number, now in enumerate(look.layers, start=1)
        if now.told_from_noise
    ]
    passes = price(sum(now.device_passes for now in look.layers))
    return f"step {look.step}: {', '.join(told) or 'no drift beyond noise'}; {passes}"


def drift_panels(looks: Sequence[Look], steps: int) -> list[Panel]:
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
