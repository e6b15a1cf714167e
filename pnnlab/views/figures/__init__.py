"""Figures of what was measured and of what a twin is worth, each described once as a `Chart`.

At the end of a cell a chart shows itself as a picture; ``chart.static()`` is that picture,
``chart.explore()`` the same figure to hover over, to choose from and to turn.
"""

from pnnlab.views.figures.chart import Chart
from pnnlab.views.figures.measurements import (
    device_panel,
    drift,
    memory,
    noise,
    repeatability,
    response,
    surface,
)
from pnnlab.views.figures.twin_reports import (
    fitting,
    gap,
    gradients,
    parity,
    residuals_by_input,
    residuals_by_output,
)

__all__ = [
    "Chart",
    "device_panel",
    "drift",
    "fitting",
    "gap",
    "gradients",
    "memory",
    "noise",
    "parity",
    "repeatability",
    "residuals_by_input",
    "residuals_by_output",
    "response",
    "surface",
]
