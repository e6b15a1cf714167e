"""Figures to explore of what a device answers, and how long it remembers."""

from collections.abc import Sequence
from typing import Any

import xarray as xr
from plotly import graph_objects as go

from pnnlab.views.explorable.drawing import (
    FULL,
    OFTEN,
    affordable,
    axes,
    line,
    rule,
    sheet,
    thin,
)
from pnnlab.views.numbers import (
    BAND,
    READ_OUT,
    SLOPE,
    liveliest,
    spread,
    swept,
)
from pnnlab.views.style import PALETTE

CELLS = 3000  # in a map or a surface


def response_figure(seen: xr.Dataset, outputs: Sequence[int] | None = None) -> go.Figure:
    """Response curves of one swept element, chosen from a menu.

    Outputs are switched on and off in the legend; those that move the most are on.

    Parameters
    ----------
    seen : Dataset
        Of `characterize.response_curves`.
    outputs : sequence of int, optional
        By default those that move the most, as many as fit, three of them switched on.
    """
    elements = [str(name) for name in seen.element.values]
    room = affordable(seen.sizes["value"], 4)
    elements = [elements[place] for place in spread(len(elements), min(room, 24))]
    most = min(10, max(1, room // len(elements)))
    figure = sheet(f"Response around a working point, ± {BAND:g} SD")
    x = thin(seen.value.values)
    owners: list[tuple[str, Any]] = []  # of each line: its element, and how it is shown
    for element in elements:
        curves = seen.sel(element=element)
        chosen = liveliest(curves["mean"], "value", most) if outputs is None else outputs
        hover = (
            f"{element} = %{{x:.3g}} of its range<br>y = %{{y:.4g}} ± %{{customdata:.2g}} {FULL}"
        )
        for place, output in enumerate(chosen):
            one = curves.sel(output=output)
            name = f"output {output}"
            drawn = line(one["mean"], name, place, hover, x=x, deviation=one["deviation"])
            figure.add_trace(drawn, 1, 1)
            owners.append((element, place < 3 or outputs is not None or "legendonly"))
    seen_with = {
        element: [shown if owner == element else False for owner, shown in owners]
        for element in elements
    }
    for drawn, visible in zip(figure.data, seen_with[elements[0]], strict=True):
        drawn.visible = visible
    buttons = [
        {
            "label": element,
            "method": "update",
            "args": [
                {"visible": visible},
                {"xaxis.title.text": f"{element} (fraction of range)"},
            ],
        }
        for element, visible in seen_with.items()
    ]
    menu = {"buttons": buttons, "x": 1, "xanchor": "right", "y": 1.02, "yanchor": "bottom"}
    figure.update_layout(updatemenus=[menu], showlegend=True)
    axes(figure, 1, f"{elements[0]} (fraction of range)", READ_OUT)
    return figure


def surface_figure(seen: xr.Dataset, element: str | None = None) -> go.Figure:
    """All outputs against one swept element, as a surface to turn and hover over.

    Parameters
    ----------
    seen : Dataset
        Of `characterize.response_curves`.
    element : str, optional
        Such as ``"x[3]"``; by default the first that was swept.
    """
    name = swept(seen, element)
    values = spread(seen.sizes["value"], 41)
    outputs = spread(seen.sizes["output"], CELLS // len(values))
    curves = seen.sel(element=name).isel(value=values, output=outputs)
    surface = go.Surface(
        x=curves.output.values,
        y=thin(curves.value.values),
        z=thin(curves["mean"].values),
        # plotly.js looks a point of a surface up by its column, then its row
        customdata=thin(curves["deviation"].values).T,
        colorscale="Cividis",
        colorbar={"title": {"text": READ_OUT, "side": "right"}, "thickness": 14},
        hovertemplate=(
            f"output %{{x}}<br>{name} = %{{y:.3g}}<br>y = %{{z:.4g}} ± %{{customdata:.2g}} {FULL}"
        ),
    )
    figure = sheet(f"Response of all outputs to {name}", height=520)
    figure.add_trace(surface)
    scene = {
        axis: {"title": {"text": text, "font": {"size": 13}}, "tickfont": {"size": 11}}
        for axis, text in (("xaxis", "output"), ("yaxis", f"{name} (of range)"), ("zaxis", "y"))
    }
    scene["camera"] = {"eye": {"x": 0.75, "y": -1.6, "z": 0.75}, "center": {"z": -0.15}}
    scene["aspectratio"] = {"x": 1.5, "y": 1, "z": 0.7}
    figure.update_layout(scene=scene, margin={"l": 0, "r": 0, "t": 50, "b": 0})
    figure.update_layout(modebar_orientation="h")  # above the colour bar, not on it
    return figure


def memory_figure(seen: xr.Dataset) -> go.Figure:
    """Which output feels which input element, and how the response fades with the lag.

    Parameters
    ----------
    seen : Dataset
        Of `characterize.memory`.
    """
    length, fraction = int(seen["length"]), float(seen.attrs["fraction"])
    figure = sheet(f"Memory of {length} input elements", ("Sensitivity", "Fading"), space=0.2)
    elements = spread(seen.sizes["element"], 60)
    outputs = spread(seen.sizes["output"], CELLS // len(elements))
    felt = seen["jacobian"].isel(element=elements, output=outputs)
    image = go.Heatmap(
        x=felt.output.values,
        y=[str(name) for name in felt.element.values],
        z=thin(felt.values),
        colorscale="Cividis",
        colorbar={
            "title": {"text": "rms |dy/dx|", "font": {"size": 13}},
            "x": 0.41,
            "thickness": 12,
        },
        hovertemplate=(
            "input element %{y}, output %{x}<br>rms |dy/dx| = %{z:.3g}, full scale per range"
            "<extra></extra>"
        ),
    )
    figure.add_trace(image, 1, 1)
    lags = spread(seen.sizes["lag"], OFTEN)
    part = seen.isel(lag=lags)
    x = part.lag.values
    hover = "lag %{x} input elements<br>rms |dy/dx| = %{y:.3g}, full scale per range<extra></extra>"
    heard = part["response"].where(part["response"] > 0)
    figure.add_trace(line(heard, "response", 0, hover, x=x, marks=True), 1, 2)
    if float(seen["certain"].max()) > 0:
        certain = part["certain"].where(part["certain"] > 0)
        limit = line(certain, "noise limit", 1, hover, x=x)
        figure.add_trace(limit.update(line_color=PALETTE["grey"]), 1, 2)
    peak = float(seen["response"].max())
    ends, reach = (0, x[-1]), (fraction * peak / 3, peak)
    limits = (
        rule(ends, [fraction * peak] * 2, f"{fraction:.0%} of the peak", PALETTE["vermillion"]),
        rule([length] * 2, reach, f"memory: {length}", PALETTE["green"]),
    )
    figure.add_traces(limits, rows=1, cols=2)
    axes(figure, 1, "output", "moved input element")
    axes(figure, 2, "lag (input elements)", SLOPE, log=True)
    last = min(4 * max(length, 2), seen.sizes["lag"]) + 0.5
    figure.update_xaxes(range=[-0.5, last], col=2)
    figure.update_yaxes(type="category", autorange="reversed", col=1)  # as in the still one
    return figure
