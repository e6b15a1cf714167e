"""Figures to explore: what was measured and what a twin is worth, to hover over and to turn.

Each function takes the data set or the reports and gives back a plotly figure, thinned so that a
stored notebook stays small. Of each there is a still one, with the same name and all of the
points, in `pnnlab.views.reports`.
"""

from pnnlab.views.explorable.answering import memory_figure, response_figure, surface_figure
from pnnlab.views.explorable.repeating import drift_figure, noise_figure, repeatability_figure
from pnnlab.views.explorable.twins import (
    fitting_figure,
    gap_figure,
    gradient_figure,
    parity_figure,
    residual_figure,
    residual_input_figure,
    residual_output_figure,
)

__all__ = [
    "drift_figure",
    "fitting_figure",
    "gap_figure",
    "gradient_figure",
    "memory_figure",
    "noise_figure",
    "parity_figure",
    "repeatability_figure",
    "residual_figure",
    "residual_input_figure",
    "residual_output_figure",
    "response_figure",
    "surface_figure",
]
