"""Figures to explore of how well a device repeats itself: at once, and over time."""

import math

import numpy as np
import xarray as xr
from plotly import graph_objects as go

from pnnlab.views.explorable.drawing import (
    FULL,
    OFTEN,
    SD,
    Y,
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
)
from pnnlab.views.style import PALETTE

POINTS = 1200  # in a scatter plot


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
    figure = sheet(f"Noise floor {floor:.3g} of full scale", ("Of each output", "Noise and signal"))
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
        customdata=np.column_stack((shot, output)),
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
    for column, ends in enumerate(((x[0], x[-1]), (levels[0], levels[-1])), 1):
        drawn = rule(ends, (floor, floor), "noise floor", PALETTE["vermillion"])
        figure.add_trace(drawn.update(showlegend=column == 1), 1, column)
    axes(figure, 1, "output", DEVIATION)
    axes(figure, 2, READ_OUT, DEVIATION)
    figure.update_yaxes(rangemode="tozero")
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
