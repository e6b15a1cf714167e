"""The style of pictures: one palette for screen and paper, readable by the colour-blind."""

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from types import MappingProxyType
from typing import Any, NamedTuple

import matplotlib as mpl
from cycler import cycler
from matplotlib.figure import Figure
from PIL import Image

PALETTE = MappingProxyType(
    {
        "blue": "#0072B2",
        "vermillion": "#D55E00",
        "green": "#009E73",
        "purple": "#CC79A7",
        "orange": "#E69F00",
        "sky": "#56B4E9",
        "grey": "#7A7A7A",
    }
)
"""Colours of Okabe and Ito (Color Universal Design, 2008), and a grey; for light backgrounds."""

DARK_PALETTE = MappingProxyType(PALETTE | {"blue": "#56B4E9", "sky": "#0072B2", "grey": "#A0A0A0"})
"""The same for dark backgrounds, where the blues change places: theirs has no contrast there."""

BAND = 2  # standard deviations in a noise band
LINE_COLORS = ("blue", "vermillion", "green", "purple", "orange", "sky")
LINE_DASHES = ((), (6, 3), (2, 2), (8, 3, 2, 3), (12, 3))


class LineStyle(NamedTuple):
    """Colour, a name in the palette, and dashes of a line."""

    color: str
    dash: tuple[int, ...]


def line_style(place: int) -> LineStyle:
    """The style of line ``place``, from 0: thirty differ, each from its neighbours in two ways."""
    return LineStyle(LINE_COLORS[place % len(LINE_COLORS)], LINE_DASHES[place % len(LINE_DASHES)])


def colors(name: str) -> dict[str, str]:
    """A colour of the palette as a page takes it, on light and on dark."""
    return {"light": PALETTE[name], "dark": DARK_PALETTE[name]}


# The background is opaque, so that a stored picture is as legible on a dark page as on a light.
STYLE: Mapping[Any, Any] = MappingProxyType(
    {
        "figure.facecolor": "#FFFFFF",
        "figure.dpi": 100,
        "font.size": 10.5,
        "font.family": "sans-serif",
        "axes.prop_cycle": cycler(color=[v for name, v in PALETTE.items() if name != "grey"]),
        "axes.titlesize": 11.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.edgecolor": "#8A8A8A",
        "axes.labelcolor": "#222222",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": "#E4E4E4",
        "grid.linewidth": 0.8,
        "xtick.color": "#444444",
        "ytick.color": "#444444",
        "lines.linewidth": 1.8,
        "lines.markersize": 5,
        "legend.framealpha": 0.8,  # where it must lie on a line, its words are read first
        "legend.edgecolor": "none",
        "image.cmap": "cividis",
    }
)


def use_style() -> None:
    """Draw every matplotlib figure from here on in the lab's style."""
    mpl.rcParams.update(STYLE)


@dataclass(frozen=True, repr=False)
class Picture:
    """A still picture that shows itself at the end of a cell, whether pyplot is loaded or not.

    It is stored with few colours, plenty for lines and letters, and so stays small;
    ``picture.figure.savefig("name.pdf")`` writes it for print.
    """

    figure: Figure

    def __repr__(self) -> str:
        return f"Picture of {len(self.figure.axes)} plots"  # the same in every run

    def _repr_png_(self) -> bytes:
        drawn = BytesIO()
        self.figure.savefig(drawn, format="png")
        return lean(drawn.getvalue())


def lean(png: bytes) -> bytes:
    """The same picture with 32 colours, if that is smaller."""
    small = BytesIO()
    with Image.open(BytesIO(png)) as image:
        # Coverage, so that a thin line keeps its colour beside large areas of others.
        image.convert("RGB").quantize(
            32, method=Image.Quantize.MAXCOVERAGE, kmeans=2, dither=Image.Dither.NONE
        ).save(small, "PNG", optimize=True)
    return min(small.getvalue(), png, key=len)
