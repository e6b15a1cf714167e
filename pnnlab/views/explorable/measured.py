"""Figures to explore of what was measured of a device."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from plotly import graph_objects as go

from pnnlab.views.explorable.drawing import (
    affordable,
    axes,
    faint,
    line,
    rule,
    sheet,
    thin,
)
from pnnlab.views.numbers import (
    BAND,
    DEVIATION,
    READ_OUT,
    liveliest,
    noise_at_levels,
    some,
    spread,
    swept,
)
from pnnlab.views.style import PALETTE

POINTS = 1200  # in a scatter plot
CELLS = 3000  # in a map or a surface
OFTEN = 250  # points of a line
FULL = "of full scale<extra></extra>"
Y, SD = "y = %{y:.4g}", f"%{{customdata:.2g}} {FULL}"  # of a line


def repeatability_figure(seen: xr.Dataset, shot: int = 0) -> go.Figure:
    """A shot with its noise, others under a slider, and noise beside signal for every output.

    Parameters
    ----------
    seen : Dataset
        Of `characterize.repeatability`.
    shot : int
        The one to begin with.
    """
    outputs = seen.isel(output=spread(seen.sizes["output"], OFTEN))
    x = outputs.output.values
    others = spread(seen.sizes["shot"], min(12, affordable(len(x), 4)))
    shots = sorted({shot, *others.tolist()})
    titles = (f"One shot, repeated: ± {BAND:g} SD", "Signal and noise")
    figure = sheet(f"Signal to noise {float(seen.signal_to_noise):.3g}", titles, height=500)
    hover = f"output %{{x}}<br>{Y} ± {SD}"
    for n in shots:
        one = outputs.sel(shot=n)
        drawn = line(one["mean"], f"shot {n}", 0, hover, x=x, deviation=one["deviation"])
        figure.add_trace(drawn.update(visible=n == shot, showlegend=False), 1, 1)
    rows = (
        ("signal", outputs["mean"].std("shot"), 0),
        ("noise", (outputs["deviation"] ** 2).mean("shot") ** 0.5, 1),
    )
    for name, y, place in rows:
        hover = f"{name} of output %{{x}}<br>%{{y:.3g}} {FULL}"
        figure.add_trace(line(y, name, place, hover, x=x), 1, 2)
    axes(figure, 1, "output", READ_OUT)
    axes(figure, 2, "output", DEVIATION, log=True)
    steps = [
        {
            "label": str(n),
            "method": "restyle",
            "args": ["visible", [n == other for other in shots] + [True, True]],
        }
        for n in shots
    ]
    slider = {
        "active": shots.index(shot),
        "currentvalue": {"prefix": "shot ", "font": {"size": 13}},
        "steps": steps,
        "len": 0.45,
        "pad": {"t": 45},
    }
    figure.update_layout(sliders=[slider])
    figure.update_layout(legend={"x": 0.55}, margin={"b": 120})
    return figure


def noise_figure(seen: xr.Dataset) -> go.Figure:
    """The noise floor: how noisy each output is, and whether the noise grows with the read-out.

    Parameters
    ----------
    seen : Dataset
        Of `characterize.repeatability`.
    """
    floor, deviation = float(seen["noise_floor"]), seen["deviation"]
    figure = sheet(f"Noise floor {floor:.3g} {FULL[:13]}", ("Of each output", "Noise and signal"))
    chosen = deviation.isel(output=spread(seen.sizes["output"], OFTEN))
    x = chosen.output.values
    low, high = chosen.quantile(0.1, "shot"), chosen.quantile(0.9, "shot")
    hidden = {"width": 0, "color": PALETTE["sky"]}
    said = "%{y:.3g} " + FULL
    for y, name, fill in ((low, "", None), (high, "8 of 10 shots", "tonexty")):
        edge = line(y, name, 0, f"a tenth of the shots of output %{{x}} is beyond<br>{said}", x=x)
        edge.update(line=hidden, fill=fill, fillcolor=faint(PALETTE["sky"], 0.4))
        figure.add_trace(edge.update(showlegend=bool(name)), 1, 1)
    rms = (chosen**2).mean("shot") ** 0.5
    hover = f"output %{{x}}<br>rms over the shots {said}"
    figure.add_trace(line(rms, "rms over shots", 0, hover, x=x), 1, 1)

    points = some(deviation.size, POINTS)
    shot, output = np.unravel_index(points, deviation.shape)
    dots = go.Scatter(
        x=thin(seen["mean"].values.ravel()[points]),
        y=thin(deviation.values.ravel()[points]),
        customdata=np.column_stack((shot, output)).astype(np.int16),
        mode="markers",
        marker={"color": PALETTE["sky"], "size": 4, "opacity": 0.6},
        name="one output of one shot",
        hovertemplate=(
            "shot %{customdata[0]}, output %{customdata[1]}<br>y = %{x:.4g}, "
            f"SD %{{y:.2g}} {FULL}"
        ),
    )
    levels, sizes = noise_at_levels(seen)
    hover = f"y near %{{x:.3g}}<br>rms SD {said}"
    binned = line(sizes, "rms at this level", 0, hover, x=thin(levels), marks=True)
    figure.add_traces([dots, binned], rows=1, cols=2)
    for column in (1, 2):
        rule(figure, floor, "noise floor", PALETTE["vermillion"], column)
    axes(figure, 1, "output", DEVIATION)
    axes(figure, 2, READ_OUT, DEVIATION)
    figure.update_yaxes(rangemode="tozero")
    return figure


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
        customdata=thin(curves["deviation"].values),
        colorscale="Cividis",
        colorbar={"title": {"text": "y"}, "thickness": 14},
        hovertemplate=(
            f"output %{{x}}<br>{name} = %{{y:.3g}}<br>y = %{{z:.4g}} ± %{{customdata:.2g}} {FULL}"
        ),
    )
    figure = sheet(f"Response of all outputs to {name}", height=520)
    figure.add_trace(surface)
    scene = {
        "xaxis": {"title": {"text": "output"}},
        "yaxis": {"title": {"text": f"{name} (fraction of range)"}},
        "zaxis": {"title": {"text": READ_OUT}},
    }
    figure.update_layout(scene=scene, margin={"l": 0, "r": 0, "t": 50, "b": 0})
    return figure


def memory_figure(seen: xr.Dataset) -> go.Figure:
    """Which output feels which input element, and how the response fades with the lag.

    Parameters
    ----------
    seen : Dataset
        Of `characterize.memory`.
    """
    length, fraction = int(seen["length"]), float(seen.attrs["fraction"])
    figure = sheet(f"Memory of {length} input elements", ("Sensitivity", "Fading"))
    elements = spread(seen.sizes["element"], 60)
    outputs = spread(seen.sizes["output"], CELLS // len(elements))
    felt = seen["jacobian"].isel(element=elements, output=outputs)
    image = go.Heatmap(
        x=felt.output.values,
        y=[str(name) for name in felt.element.values],
        z=thin(felt.values),
        colorscale="Cividis",
        colorbar={"title": {"text": "rms |dy/dx|"}, "x": 0.45, "thickness": 12},
        hovertemplate=(
            "input element %{y}, output %{x}<br>rms |dy/dx| = %{z:.3g}, full scale per range"
            "<extra></extra>"
        ),
    )
    figure.add_trace(image, 1, 1)
    lags = spread(seen.sizes["lag"], OFTEN)
    part = seen.isel(lag=lags)
    x = part.lag.values
    hover = "lag %{x} input elements<br>rms |dy/dx| = %{y:.3g}<extra></extra>"
    heard = part["response"].where(part["response"] > 0)
    figure.add_trace(line(heard, "response", 0, hover, x=x, marks=True), 1, 2)
    if float(seen["certain"].max()) > 0:
        certain = part["certain"].where(part["certain"] > 0)
        limit = line(certain, "noise limit", 1, hover, x=x)
        figure.add_trace(limit.update(line_color=PALETTE["grey"]), 1, 2)
    level = fraction * float(seen["response"].max())
    rule(figure, math.log10(level), f"{fraction:.0%} of the peak", PALETTE["vermillion"], 2)
    rule(figure, length, f"memory: {length}", PALETTE["green"], 2, upright=True)
    axes(figure, 1, "output", "moved input element")
    axes(figure, 2, "lag (input elements)", "rms |dy/dx|", log=True)
    reach = min(4 * max(length, 2), seen.sizes["lag"]) + 0.5
    figure.update_xaxes(range=[-0.5, reach], col=2)
    figure.update_yaxes(type="category", col=1)
    return figure


def drift_figure(seen: xr.Dataset, outputs: int = 4) -> go.Figure:
    """Change of the outputs that move the most, beside the noise of one read-out and of a point.

    More outputs than are shown at first wait in the legend.

    Parameters
    ----------
    seen : Dataset
        Of `characterize.drift`.
    outputs : int
        How many are switched on.
    """
    noise, every = float(seen["noise"]), int(seen.attrs["every"])
    figure = sheet(f"Drift {float(seen['drift']):.2g} rms beside noise {noise:.2g} of full scale")
    part = seen["mean"].isel(shots=spread(seen.sizes["shots"], OFTEN))
    change = part - seen["mean"][0]
    x = thin(part.shots.values)
    waiting = min(outputs + 6, affordable(len(x), 2))
    hover = f"after %{{x:,}} shots<br>change of y = %{{y:.3g}} {FULL}"
    for place, output in enumerate(liveliest(seen["mean"], "shots", max(outputs, waiting))):
        drawn = line(change.sel(output=output), f"output {output}", place, hover, x=x)
        figure.add_trace(drawn.update(visible=place < outputs or "legendonly"), 1, 1)
    bands = (
        (noise, 0.15, "noise of one shot, ± SD"),
        (noise * math.sqrt(2 / every), 0.4, "noise of a point here, ± SD"),
    )
    for half, opacity, name in bands:
        figure.add_hrect(
            -half,
            half,
            fillcolor=PALETTE["grey"],
            opacity=opacity,
            line_width=0,
            layer="below",
            name=name,
            showlegend=True,
        )
    axes(figure, 1, "shots taken", "change of y (fraction of full scale)")
    return figure
