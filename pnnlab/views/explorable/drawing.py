"""What the explorable figures share: a sheet in the lab's style, lines with noise, thin data.

The background is opaque and light on every theme, as that of a `Picture` is.
"""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from plotly import graph_objects as go
from plotly.subplots import make_subplots

from pnnlab.views.numbers import BAND
from pnnlab.views.style import PALETTE

HEIGHT = 430  # pixels
OFTEN = 250  # points of a line; more of them show nothing more
BUDGET = 42_000  # characters of JSON that the data of one figure may take
NUMBER = 16 / 3  # characters a number: float32 in base64
TRACE = 450  # characters around the data of a line
INK, RULE = "#222222", "#E4E4E4"

FULL = "of full scale<extra></extra>"  # the end of what is said under the pointer
Y, SD = "y = %{y:.4g}", f"%{{customdata:.2g}} {FULL}"

COLOURS = tuple(PALETTE[name] for name in ("blue", "vermillion", "green", "purple", "orange"))
DASHES = ("solid", "dash", "dot", "dashdot")  # one fewer than colours: twenty pairs
SYMBOLS = ("circle", "square", "diamond", "cross")
BOX = MappingProxyType(
    {"orientation": "h", "y": -0.2, "yanchor": "top", "x": 0, "traceorder": "normal"}
)

AXIS: MappingProxyType[str, Any] = MappingProxyType(
    {
        "gridcolor": RULE,
        "linecolor": "#8A8A8A",
        "showline": True,
        "zeroline": False,
        "ticks": "outside",
        "tickcolor": "#8A8A8A",
        "automargin": True,
        "title": {"standoff": 8, "font": {"size": 13}},
    }
)
LAYOUT: MappingProxyType[str, Any] = MappingProxyType(
    {
        "colorway": COLOURS,
        "paper_bgcolor": "#FFFFFF",
        "plot_bgcolor": "#FFFFFF",
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": INK},
        "title": {"x": 0, "xref": "paper", "xanchor": "left", "font": {"size": 15, "weight": 600}},
        "hoverlabel": {"font": {"size": 13}, "align": "left", "namelength": -1},
        "legend": dict(BOX),
        "xaxis": dict(AXIS),
        "yaxis": dict(AXIS),
        "margin": {"l": 70, "r": 30, "t": 70, "b": 60},
        "modebar": {"remove": ["select2d", "lasso2d", "autoScale2d"], "orientation": "v"},
    }
)


def sheet(
    title: str,
    titles: Sequence[str] = ("",),
    *,
    height: int = HEIGHT,
    shared: bool = False,
    space: float = 0.1,
) -> go.Figure:
    """An empty figure with plots side by side, each below its own title.

    Parameters
    ----------
    shared : bool
        Do the plots share the y axis?
    space : float
        Between two plots, as a fraction of the whole width.
    """
    figure = make_subplots(
        1, len(titles), subplot_titles=titles, shared_yaxes=shared, horizontal_spacing=space
    )
    # A template of a few lines: plotly's own would be stored with every figure, at 7 KB.
    figure.update_layout(template=go.layout.Template(layout=dict(LAYOUT)), title_text=title)
    figure.update_layout(height=height)
    figure.update_annotations(font={"size": 14}, xanchor="center")
    return figure


def axes(figure: go.Figure, column: int, x: str, y: str = "", *, log: bool = False) -> None:
    """Label the axes of one plot."""
    figure.update_xaxes(title_text=x, col=column)
    figure.update_yaxes(title_text=y, col=column)
    if log:
        figure.update_yaxes(type="log", exponentformat="power", col=column)


def thin(values: ArrayLike) -> NDArray[np.float32]:
    """Numbers as float32, which plotly stores in half the space of float64."""
    return np.asarray(values, dtype=np.float32)


def affordable(points: int, numbers: int) -> int:
    """How many lines of so many points, with so many numbers a point, fit into one figure."""
    return max(1, int(BUDGET / (TRACE + NUMBER * numbers * points)))


def colour(place: int) -> str:
    """The n-th colour, again from the start when they are used up."""
    return COLOURS[place % len(COLOURS)]


def stroke(place: int) -> dict[str, Any]:
    """How the n-th line is drawn: by colour and by dashes, for who sees no colours."""
    return {"color": colour(place), "width": 2, "dash": DASHES[place % len(DASHES)]}


def line(
    y: ArrayLike,
    name: str,
    place: int,
    hover: str,
    *,
    x: ArrayLike | None = None,
    deviation: ArrayLike | None = None,
    marks: bool = False,
) -> go.Scatter:
    """A line, with bars of noise if its standard deviation is given.

    Parameters
    ----------
    x : array, optional
        By default 0, 1, 2, ...
    place : int
        Among the lines of its plot: it has the colour, the dashes and the marks of that place.
    hover : str
        What is said under the pointer; ``%{customdata}`` is one standard deviation.
    """
    drawn = go.Scatter(
        y=thin(y),
        name=name,
        mode="lines+markers" if marks else "lines",
        line=stroke(place),
        marker={"symbol": SYMBOLS[place % len(SYMBOLS)], "size": 7},
        hovertemplate=hover,
    )
    if x is not None:
        drawn.x = x
    if deviation is not None:
        one = thin(deviation)
        bars = {"array": BAND * one, "color": faint(colour(place)), "thickness": 4, "width": 0}
        drawn.update(error_y=bars, customdata=one)
    return drawn


def faint(shade: str, opacity: float = 0.3) -> str:
    """A colour that lets others through."""
    red, green, blue = (int(shade[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def rule(x: ArrayLike, y: ArrayLike, name: str, shade: str) -> go.Scatter:
    """A thin straight line that the legend names: a limit, a level."""
    return go.Scatter(
        x=x,
        y=y,
        mode="lines",
        line={"color": shade, "width": 1.5, "dash": "dot"},
        name=name,
        hovertemplate=f"{name}<extra></extra>",
    )
