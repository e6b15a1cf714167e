"""Where the layers can do no more: parameters at their limits, read-outs that stick."""

from collections.abc import Sequence
from typing import final

import ipywidgets as widgets
import numpy as np

from pnnlab.training import Record
from pnnlab.views.dashboard.closer import Closer, Looked
from pnnlab.views.dashboard.panels import layer_lines
from pnnlab.views.lineplot import Panel
from pnnlab.views.plotgrid import PlotGrid


@final
class LimitsCloser(Closer):
    """What the evaluations saw of limits and saturation; it costs nothing more.

    Parameters
    ----------
    looked : Looked
    """

    def __init__(self, looked: Looked) -> None:
        self._session = looked.session
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
