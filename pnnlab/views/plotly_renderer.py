"""Charts drawn by plotly, thinned, to point at, to choose from and to turn.

The background is opaque and light on every theme, as that of a `Picture` is.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from plotly import graph_objects as go
from plotly.subplots import make_subplots

from pnnlab.views.chart import Chart, Matrix, Plot, Points, Series, spread
from pnnlab.views.style import BAND, PALETTE

MOST: dict[type[Any], int] = {Series: 2000, Points: 1800, Matrix: 2400}
"""How many numbers all marks of a kind may show together: a notebook stores a chart in 60 KB."""
NAMES = ("circle", "square", "diamond", "cross", "x", "triangle-down", "triangle-up")
SYMBOLS = dict(zip(PALETTE, NAMES, strict=True))
AXIS: dict[str, Any] = {
    "gridcolor": "#E4E4E4",
    "linecolor": "#8A8A8A",
    "showline": True,
    "zeroline": False,
    "ticks": "outside",
    "tickcolor": "#8A8A8A",
    "automargin": True,
    "title": {"standoff": 8, "font": {"size": 13}},
}
# A template of a few lines: plotly's own would be stored with every figure, at 7 KB.
TEMPLATE = go.layout.Template(
    layout={
        "paper_bgcolor": "#FFFFFF",
        "plot_bgcolor": "#FFFFFF",
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": "#222222"},
        "title": {"x": 0, "xref": "paper", "xanchor": "left", "font": {"size": 15, "weight": 600}},
        "hoverlabel": {"font": {"size": 13}, "align": "left", "namelength": -1},
        "legend": {"orientation": "h", "yanchor": "top", "x": 0, "traceorder": "normal"},
        "xaxis": AXIS,
        "yaxis": AXIS,
        "bargap": 0,
        "modebar": {"remove": ["select2d", "lasso2d", "autoScale2d"], "orientation": "v"},
    }
)


def draw(chart: Chart) -> go.Figure:
    """Draw every plot; a legend names each line once, and switches it in all of them."""
    plots = chart.plots
    kinds = [type(mark) for plot in plots for mark in plot.marks]
    most = {kind: size // max(1, kinds.count(kind)) for kind, size in MOST.items()}
    figure = _sheet(chart, plots)
    for number, plot in enumerate(plots):
        row, column = divmod(number, chart.columns or len(plots))
        axes = figure.get_subplot(row + 1, column + 1)
        repeated = column > 0 and plot.y_label == plots[number - 1].y_label
        _label(axes, plot, "" if repeated else plot.y_label)
        figure.add_traces(_traces(plot, axes, most), rows=row + 1, cols=column + 1)
    listed: set[str] = set()
    for trace in sorted(figure.data, key=lambda trace: trace.visible == "legendonly"):
        trace.showlegend = bool(trace.name) and trace.legendgroup not in listed
        listed |= {trace.legendgroup} if trace.name else set()
    return figure


def _sheet(chart: Chart, plots: Sequence[Plot]) -> go.Figure:
    columns = chart.columns or len(plots)
    rows = -(-len(plots) // columns)
    left = rows * columns - len(plots)
    matrices = any(isinstance(mark, Matrix) for plot in plots for mark in plot.marks)
    grid: list[dict[str, Any]] = [{"type": "scene" if plot.raised else "xy"} for plot in plots]
    grid[-1]["colspan"] = 1 + left
    figure = make_subplots(
        rows,
        columns,
        specs=[[*grid, *[None] * left][row * columns :][:columns] for row in range(rows)],
        subplot_titles=[plot.title.replace("\n", "<br>") for plot in plots],
        shared_yaxes=chart.shared,
        horizontal_spacing=(0.4 if matrices else 0.2) / columns,
        vertical_spacing=0.3 / rows,
    )
    top, high = 60 + 40 * any(plot.title for plot in plots), 370 * rows - 80
    margin = {"l": 70, "r": 30, "t": top, "b": 80}
    if all(plot.raised for plot in plots):
        high, margin = high + 170, {"l": 0, "r": 0, "t": top, "b": 0}
        figure.update_layout(modebar_orientation="h")  # above the colour bar, not on it
    figure.update_layout(template=TEMPLATE, title_text=chart.title, margin=margin)
    figure.update_annotations(font={"size": 14}, xanchor="center")
    return figure.update_layout(height=top + high + margin["b"], legend_y=-60 / high)


def _label(axes: Any, plot: Plot, y_label: str) -> None:
    """Name and limit the axes; a surface is seen from the front and above."""
    if plot.raised:
        names = {"xaxis": plot.x_label, "yaxis": y_label, "zaxis": "y"}
        small = {"font": {"size": 13}}
        axes.update({axis: {"title": {"text": text} | small} for axis, text in names.items()})
        axes.update(camera_eye={"x": 0.75, "y": -1.6, "z": 0.75}, camera_center={"z": -0.15})
        axes.aspectratio = {"x": 1.5, "y": 1, "z": 0.7}
        return
    axes.xaxis.update(title_text=plot.x_label, range=plot.x_limits)
    axes.yaxis.update(title_text=y_label, range=plot.y_limits)
    if plot.log:
        limits = None if plot.y_limits is None else np.log10(plot.y_limits)
        axes.yaxis.update(type="log", exponentformat="power", range=limits)
    if plot.whole and all(np.size(mark.x) <= 12 for mark in plot.marks):
        axes.xaxis.dtick = 1


def _traces(plot: Plot, axes: Any, most: dict[type, int]) -> list[Any]:
    """What draws the marks, each with as many numbers as its kind may show."""
    drawn: list[Any] = []
    for mark in plot.marks:
        if isinstance(mark, Matrix):
            drawn.append(_matrix(mark, plot, axes, most[Matrix]))
        elif isinstance(mark, Points):
            drawn.append(_dots(mark, plot, most[Points]))
        elif isinstance(mark, Series):
            drawn += _lines(mark, plot, min(most[Series], 250))
    return drawn


def _lines(mark: Series, plot: Plot, most: int) -> list[Any]:
    """A line and, before it, the lower edge of its area and the upper one, filled down to it."""
    kept = spread(np.size(mark.x), most)
    color = PALETTE[mark.style.color]
    faint = f"rgba{(*(int(color[i : i + 2], 16) for i in (1, 3, 5)), 0.3)}"
    shared: dict[str, Any] = {
        "x": _small(mark.x)[kept],
        "y": _small(mark.y)[kept],
        "name": "" if mark.faint else mark.label,
        "legendgroup": f"{mark.label} {mark.style.color}",
        "visible": True if mark.shown else "legendonly",
        "opacity": 0.45 if mark.faint else None,
        "hovertemplate": _hover(plot, mark.label),
    }
    if mark.steps:
        return [go.Bar(shared, marker={"color": color, "opacity": 0.5, "line": {"width": 0}})]
    edges = [
        go.Scatter(
            shared | {"name": "", "y": _small(edge)[kept]},
            mode="lines",
            line={"width": 0, "color": color},
            fill=fill,
            fillcolor=faint,
        )
        for edge, fill in zip(mark.area or (), (None, "tonexty"), strict=False)
    ]
    dash = ",".join(f"{length}px" for length in mark.style.dash) or "solid"
    line = go.Scatter(
        shared,
        mode="lines+markers" if mark.markers else "lines",
        line={"color": color, "dash": dash},
        marker={"symbol": SYMBOLS[mark.style.color], "size": 7} if mark.markers else None,
    )
    if mark.deviation is not None:
        bars = BAND * _small(mark.deviation)[kept]
        line.error_y = {"array": bars, "color": faint, "thickness": 4, "width": 0}
        line.hovertemplate = _hover(plot, mark.label, f" ± %{{error_y.array:.2g}} ({BAND} SD)")
    return [*edges, line]


def _dots(mark: Points, plot: Plot, most: int) -> Any:
    x, y, where = mark.some(most)
    row, column = mark.of
    return go.Scatter(
        x=_small(x),
        y=_small(y),
        customdata=where,
        name=mark.label,
        legendgroup=mark.label,
        mode="markers",
        marker={"color": PALETTE["blue"], "size": 4, "opacity": 0.5},
        hovertemplate=_hover(plot, f"{row} %{{customdata[0]}}, {column} %{{customdata[1]}}"),
    )


def _matrix(mark: Matrix, plot: Plot, axes: Any, most: int) -> Any:
    values = np.asarray(mark.values)
    short = min(*values.shape, math.isqrt(most))
    sizes = [short if size == min(values.shape) else most // short for size in values.shape]
    rows, columns = (spread(*each) for each in zip(values.shape, sizes, strict=True))
    kept = np.ix_(rows, columns)
    hover, known = f"{mark.label}: %{{z:.4g}}", None
    if mark.detail is not None:
        hover += f"<br>{mark.detail[0]}: %{{customdata:.3g}}"
        known = _small(mark.detail[1])[kept]
    title = {"text": mark.label, "side": "right", "font": {"size": 13}}
    bar: dict[str, Any] = {"title": title, "thickness": 12}
    shared = {
        "x": _small(mark.x)[columns],
        "y": _small(mark.y)[rows],
        "z": _small(values)[kept],
        "colorscale": "RdBu_r" if mark.signed else "Cividis",
        "hovertemplate": _hover(plot, hover),
    }
    if mark.raised:
        # plotly.js takes a point of a surface by its column, then its row
        return go.Surface(shared, colorbar=bar, customdata=None if known is None else known.T)
    low, high = axes.yaxis.domain
    bar |= {"x": axes.xaxis.domain[1], "y": (low + high) / 2, "len": high - low}
    return go.Heatmap(shared, colorbar=bar, customdata=known, zmid=0 if mark.signed else None)


def _hover(plot: Plot, first: str, last: str = "") -> str:
    """What stands under the pointer: each value beside the label of its axis, unit included."""
    values = f"{plot.x_label}: %{{x}}<br>{plot.y_label}: %{{y:.4g}}"
    return f"{first}<br>{values}{last}<extra></extra>"


def _small(values: ArrayLike) -> NDArray[Any]:
    """Fractions as float32, which plotly stores in half the space of float64."""
    numbers = np.asarray(values)
    return numbers.astype(np.float32) if numbers.dtype.kind == "f" else numbers
