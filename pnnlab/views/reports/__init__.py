"""Still pictures of what was measured and of what a twin is worth, for print.

Each function takes the data set or the reports and gives back a `Picture`. Of each there is one
to explore, with the same name, in `pnnlab.views.explorable`.
"""

from pnnlab.views.reports.answering import memory_figure, response_figure, surface_figure
from pnnlab.views.reports.repeating import drift_figure, noise_figure, repeatability_figure
from pnnlab.views.reports.twins import (
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
