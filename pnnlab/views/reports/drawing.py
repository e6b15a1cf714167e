"""What the still figures share: the lab's style, panels side by side, a curve in its noise."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import matplotlib as mpl
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pnnlab.views.numbers import BAND
from pnnlab.views.style import PALETTE, STYLE, Picture

COLUMN = 3.4  # inches
SHOWN = 4000  # points in a scatter plot; more of them show nothing more
P = ParamSpec("P")


def styled(draw: Callable[P, Figure]) -> Callable[P, Picture]:
    """Draw in the lab's style, whatever the notebook's."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Picture:
        with mpl.rc_context(dict(STYLE)):
            return Picture(draw(*args, **kwargs))

    return drawn


def panels(
    columns: int, height: float = 3.2, width: float | None = None
) -> tuple[Figure, list[Axes]]:
    """Plots side by side; sizes in inches."""
    figure = Figure(figsize=(width or max(COLUMN * columns, 5.0), height), layout="constrained")
    return figure, list(figure.subplots(1, columns, squeeze=False).flat)


def band(
    axes: Axes,
    at: xr.DataArray,
    mean: xr.DataArray,
    deviation: xr.DataArray,
    colour: str,
    label: str = "",
) -> None:
    """A curve, and around it where single read-outs fall."""
    wide = BAND * deviation
    axes.fill_between(at, mean - wide, mean + wide, color=PALETTE[colour], alpha=0.25, lw=0)
    axes.plot(at, mean, color=PALETTE[colour], label=label)
