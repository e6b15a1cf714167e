"""Figures to explore of what a twin is worth."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from plotly import graph_objects as go
from torch import Tensor

from pnnlab.twins import NeuralRecord, TwinReport
from pnnlab.views import numbers
from pnnlab.views.explorable.drawing import (
    FULL,
    INK,
    OFTEN,
    SYMBOLS,
    axes,
    faint,
    line,
    rule,
    sheet,
    thin,
)
from pnnlab.views.numbers import BAND, RESIDUAL, Indices
from pnnlab.views.style import PALETTE

POINTS = 2000  # in the scatter plots of one figure
CELLS = 2400  # in its maps


def fitting_figure(records: Sequence[NeuralRecord], ceiling: float | None = None) -> go.Figure:
    """How a neural twin's error fell.

    Parameters
    ----------
    records : sequence of NeuralRecord
        Of `twins.fitting_neural`.
    ceiling : float, optional
        The noise ceiling of what it was shown.
    """
    figure = sheet("Fit of the neural twin")
    kept = [records[place] for place in numbers.spread(len(records), OFTEN)]
    epochs = [record.epoch for record in kept]
    rows = (
        ("training shots", [record.train for record in kept]),
        ("validation shots", [record.validation for record in kept]),
    )
    for place, (name, errors) in enumerate(rows):
        hover = f"{name}, epoch %{{x}}<br>NMSE %{{y:.4g}}<extra></extra>"
        figure.add_trace(line(errors, name, place, hover, x=epochs, marks=True), 1, 1)
    if ceiling:
        ends = [epochs[0], epochs[-1]]
        figure.add_trace(rule(ends, [ceiling] * 2, f"noise ceiling: {ceiling:.3g}", INK), 1, 1)
    axes(figure, 1, "epoch", "NMSE", log=True)
    figure.update_xaxes(dtick=math.ceil(len(records) / 12))  # whole epochs
    return figure


def parity_figure(*reports: TwinReport) -> go.Figure:
    """Twin against device on held-out shots, one plot a twin, with the noise of one read-out."""
    count = numbers.given(reports)
    figure = sheet(f"Parity on {_held(reports)}", [_error(r) for r in reports], shared=True)
    for column, report in enumerate(reports, 1):
        points = numbers.some(report.device.numel(), POINTS // count)
        device, modelled = report.device.flatten()[points], report.modelled.flatten()[points]
        ends = _ends(device, modelled)
        noise = BAND * numbers.noise(report)
        band = go.Scatter(
            x=np.append(ends, ends[::-1]),
            y=np.append(ends - noise, (ends + noise)[::-1]),
            mode="lines",
            fill="toself",
            fillcolor=faint(PALETTE["orange"], 0.5),
            line={"width": 0},
            hoverinfo="skip",
            name=f"noise of one read-out, ± {BAND:g} SD",
            showlegend=column == 1 and noise > 0,
        )
        dots = _dots(device, modelled, _where(points, report.device.shape[1]))
        dots.hovertemplate = (
            "shot %{customdata[0]}, output %{customdata[1]}<br>"
            f"device %{{x:.4g}}, twin %{{y:.4g}} {FULL}"
        )
        figure.add_traces([band, dots, _diagonal(ends)], rows=1, cols=column)
        axes(figure, column, "device y (fraction of full scale)")
    figure.update_yaxes(title_text="twin y (fraction of full scale)", col=1)
    return figure


def residual_figure(*reports: TwinReport) -> go.Figure:
    """Distribution of twin minus device, beside that of noise alone."""
    numbers.given(reports)
    figure = sheet(f"Residuals on {_held(reports)}", [_error(report) for report in reports])
    for column, report in enumerate(reports, 1):
        seen = numbers.distribution(report)
        bars = go.Bar(
            x=thin((seen.edges[1:] + seen.edges[:-1]) / 2),
            y=thin(seen.density),
            width=float(seen.edges[1] - seen.edges[0]),
            marker={"color": PALETTE["sky"], "line": {"width": 0}},
            name="twin − device",
            legendgroup="residual",
            showlegend=column == 1,
            hovertemplate=f"density %{{y:.3g}} at a residual of %{{x:.3g}} {FULL}",
        )
        figure.add_trace(bars, 1, column)
        if seen.grid.size:
            hover = f"noise alone: density %{{y:.3g}} at %{{x:.3g}} {FULL}"
            normal = line(seen.normal, "noise alone", 1, hover, x=thin(seen.grid))
            normal.update(legendgroup="noise", showlegend=column == 1)
            figure.add_trace(normal, 1, column)
        axes(figure, column, RESIDUAL)
    figure.update_yaxes(title_text="density (per full scale)", col=1)
    figure.update_layout(bargap=0)
    return figure


def residual_output_figure(*reports: TwinReport) -> go.Figure:
    """Rms residual of each output, between the device's noise and its signal."""
    numbers.given(reports)
    figure = sheet("Residuals by output")
    first = reports[0]
    chosen = numbers.spread(first.device.shape[1], OFTEN)

    def add(name: str, y: NDArray[np.float64], place: int, **style: object) -> None:
        hover = f"{name}, output %{{x}}<br>%{{y:.3g}} {FULL}"
        drawn = line(y[chosen], name, place, hover, x=chosen)
        figure.add_trace(drawn.update(line=style) if style else drawn, 1, 1)

    add("device: signal", first.device.double().std(0).numpy(), 0, color=INK, width=1)
    for place, report in enumerate(reports):
        add(report.twin, numbers.residual_by_output(report), place)
    if numbers.noise(first) > 0:
        add("device: noise", first.noise.numpy(), 2, color=INK, width=1)
    axes(figure, 1, "output", "rms " + RESIDUAL, log=True)
    figure.update_layout(showlegend=True)
    return figure


def residual_input_figure(*reports: TwinReport) -> go.Figure:
    """Rms residual by input element and by the value that it had: where a twin goes wrong."""
    count = numbers.given(reports)
    titles = [report.twin for report in reports]
    figure = sheet("Residuals by input element and its value", titles, shared=True)
    for column, report in enumerate(reports, 1):
        rms, shots = numbers.residual_by_input(report)
        bins = rms.shape[1]
        rows = numbers.spread(len(rms), CELLS // (bins * count))
        image = go.Heatmap(
            x=thin((np.arange(bins) + 0.5) / bins),
            y=rows,
            z=thin(rms[rows]),
            customdata=shots[rows],
            colorscale="Cividis",
            colorbar={"thickness": 10, "len": 0.9, "title": {"text": "rms", "font": {"size": 13}}},
            hovertemplate=(
                "input element %{y} near %{x:.2f}, in %{customdata} shots<br>"
                f"rms residual %{{z:.3g}} {FULL}"
            ),
        )
        figure.add_trace(image, 1, column)
        right = figure.layout[f"xaxis{column if column > 1 else ''}"].domain[1]
        figure.data[-1].colorbar.x = right
        axes(figure, column, "its value (fraction of range)")
    figure.update_yaxes(title_text="input element", col=1)
    return figure


def gradient_figure(*reports: TwinReport) -> go.Figure:
    """Vector-Jacobian products of twin and device along the same random directions."""
    count = numbers.given(reports)
    titles = [f"{r.twin}: {r.gradient.cosine:.3f} of {r.gradient.ceiling:.3f}" for r in reports]
    figure = sheet("Gradients: cosine of twin and device, of the best possible", titles)
    for column, report in enumerate(reports, 1):
        gradient = report.gradient
        points = numbers.some(gradient.device.numel(), POINTS // count)
        device, modelled = gradient.device.flatten()[points], gradient.twin.flatten()[points]
        dots = _dots(device, modelled, _where(points, gradient.device.shape[1]))
        dots.hovertemplate = (
            "working point %{customdata[0]}, product %{customdata[1]}<br>"
            "device %{x:.4g}, twin %{y:.4g}, full scale per range<extra></extra>"
        )
        figure.add_traces([dots, _diagonal(_ends(device, device))], rows=1, cols=column)
        axes(figure, column, "device, finite differences")
    figure.update_yaxes(title_text="twin, backpropagation (full scale per range)", col=1)
    return figure


def gap_figure(*reports: TwinReport) -> go.Figure:
    """How the gap grows with the number of layers: in silico, and at the device's inputs."""
    gaps = numbers.chained(reports)
    titles = ("Twin on its own (in silico)", "Twin at the device's inputs (PAT)")
    figure = sheet("Gap and depth", titles, shared=True)
    for place, (twin, gap) in enumerate(gaps):
        for column, errors in ((1, gap.free), (2, gap.local)):
            hover = f"{twin}, layer %{{x}}<br>NMSE %{{y:.4g}}<extra></extra>"
            depth = np.arange(1, len(errors) + 1)
            drawn = line(errors, twin, place, hover, x=depth, marks=True)
            figure.add_trace(drawn.update(legendgroup=twin, showlegend=column == 1), 1, column)
    noise = gaps[0][1].noise
    hover = "device against itself, layer %{x}<br>NMSE %{y:.4g}<extra></extra>"
    depth = np.arange(1, len(noise) + 1)
    again = line(noise, "device against itself", 3, hover, x=depth, marks=True)
    again.update(line_color=PALETTE["grey"], marker_symbol=SYMBOLS[-1])
    figure.add_trace(again, 1, 1)
    axes(figure, 1, "layers", "NMSE of the last layer", log=True)
    axes(figure, 2, "layer", log=True)
    figure.update_xaxes(dtick=1)
    return figure


def _error(report: TwinReport) -> str:
    return f"{report.twin}: NMSE {report.nmse:.1e}"


def _held(reports: Sequence[TwinReport]) -> str:
    first = reports[0]
    known = not math.isnan(first.ceiling)
    return f"{first.shots} held-out shots" + known * f"; noise ceiling: NMSE {first.ceiling:.1e}"


def _ends(*values: Tensor) -> NDArray[np.float32]:
    return thin([min(float(v.min()) for v in values), max(float(v.max()) for v in values)])


def _where(points: Indices, width: int) -> Indices:
    return np.column_stack(np.divmod(points, width))


def _dots(x: Tensor, y: Tensor, named: Indices) -> go.Scatter:
    return go.Scatter(
        x=thin(x),
        y=thin(y),
        customdata=named,
        mode="markers",
        marker={"color": PALETTE["blue"], "size": 4, "opacity": 0.45},
        showlegend=False,
    )


def _diagonal(ends: NDArray[np.float32]) -> go.Scatter:
    """Where twin and device agree."""
    drawn = rule(ends, ends, "twin = device", INK)
    return drawn.update(
        line={"width": 1, "dash": "solid"}, showlegend=False, hoverinfo="skip", hovertemplate=None
    )
