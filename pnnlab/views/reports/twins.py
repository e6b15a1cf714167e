"""Still pictures of what a twin is worth."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pnnlab.twins import NeuralRecord, TwinReport
from pnnlab.views import numbers
from pnnlab.views.numbers import BAND, RESIDUAL
from pnnlab.views.reports.drawing import SHOWN, panels, styled
from pnnlab.views.style import PALETTE

DASHES = ("-", "--", "-.", ":")


@styled
def fitting_figure(records: Sequence[NeuralRecord], ceiling: float | None = None) -> Figure:
    """How a neural twin's error fell; ``ceiling`` is the noise ceiling of what it was shown."""
    figure, (axes,) = panels(1, width=6.0)
    epochs = [record.epoch for record in records]
    axes.semilogy(epochs, [r.train for r in records], "o-", label="training shots")
    axes.semilogy(epochs, [r.validation for r in records], "s-", label="validation shots")
    if ceiling:
        axes.axhline(ceiling, color=PALETTE["grey"], ls="--", label="noise ceiling")
    axes.set(title="Fit of the neural twin", xlabel="epoch", ylabel="NMSE")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()
    return figure


@styled
def parity_figure(*reports: TwinReport) -> Figure:
    """Twin against device on held-out shots, one panel a twin, with the noise of one read-out."""
    figure, axes = panels(numbers.given(reports), 3.4)
    for panel, report in zip(axes, reports, strict=True):
        points = numbers.some(report.device.numel(), SHOWN)
        device, modelled = report.device.flatten()[points], report.modelled.flatten()[points]
        ends = np.array([min(device.min(), modelled.min()), max(device.max(), modelled.max())])
        noise = BAND * numbers.noise(report)
        panel.plot(device, modelled, ".", markersize=2, alpha=0.4, rasterized=True)
        panel.plot(ends, ends, color="#222222", lw=1)
        panel.fill_between(ends, ends - noise, ends + noise, color=PALETTE["orange"], alpha=0.5)
        panel.set(title=_title(report), xlabel="device y (fraction of full scale)", aspect="equal")
    axes[0].set_ylabel("twin y (fraction of full scale)")
    return figure


@styled
def residual_figure(*reports: TwinReport) -> Figure:
    """Distribution of twin minus device, beside that of noise alone."""
    figure, axes = panels(numbers.given(reports), 3.0)
    for panel, report in zip(axes, reports, strict=True):
        seen = numbers.distribution(report)
        panel.stairs(seen.density, seen.edges, fill=True, label="twin − device")
        panel.plot(seen.grid, seen.normal, color=PALETTE["vermillion"], label="noise alone")
        panel.set(title=_title(report), xlabel=RESIDUAL, yticks=[])
        panel.xaxis.set_major_locator(MaxNLocator(4, symmetric=True))
    axes[0].set_ylabel("density")
    axes[0].legend(fontsize="small")
    return figure


@styled
def residual_output_figure(*reports: TwinReport) -> Figure:
    """Rms residual of each output, between the device's noise and its signal."""
    numbers.given(reports)
    figure, (axes,) = panels(1, 3.4, 9.6)
    first, outputs = reports[0], np.arange(reports[0].device.shape[1])
    signal = first.device.double().std(0)
    axes.semilogy(outputs, signal, color=PALETTE["grey"], label="device: signal")
    for report, dashes in zip(reports, DASHES * len(reports), strict=False):
        rms = numbers.residual_by_output(report)
        axes.semilogy(outputs, rms, ls=dashes, label=report.twin)
    if numbers.noise(first) > 0:
        axes.semilogy(outputs, first.noise, color=PALETTE["grey"], ls=":", label="device: noise")
    axes.set(title="Residuals by output", xlabel="output", ylabel="rms " + RESIDUAL)
    figure.legend(loc="outside right upper", fontsize="small")
    return figure


@styled
def residual_input_figure(*reports: TwinReport) -> Figure:
    """Rms residual by input element and by the value that it had: where a twin goes wrong."""
    figure, axes = panels(numbers.given(reports), 3.4)
    maps = [numbers.residual_by_input(report)[0] for report in reports]
    for panel, report, rms in zip(axes, reports, maps, strict=True):
        edges = np.linspace(0, 1, rms.shape[1] + 1)
        rows = np.arange(len(rms) + 1) - 0.5
        image = panel.pcolormesh(edges, rows, rms, rasterized=True)
        figure.colorbar(image, ax=panel, label="rms " + RESIDUAL if report is reports[-1] else "")
        panel.set(title=report.twin, xlabel="its value (fraction of range)")
        panel.grid(visible=False)
    axes[0].set_ylabel("input element")
    return figure


@styled
def gradient_figure(*reports: TwinReport) -> Figure:
    """Vector-Jacobian products of twin and device along the same random directions."""
    figure, axes = panels(numbers.given(reports), 3.4)
    for panel, report in zip(axes, reports, strict=True):
        gradient = report.gradient
        points = numbers.some(gradient.device.numel(), SHOWN)
        device, modelled = gradient.device.flatten()[points], gradient.twin.flatten()[points]
        ends = np.array([device.min(), device.max()])
        panel.plot(device, modelled, ".", markersize=2, alpha=0.4, rasterized=True)
        panel.plot(ends, ends, color="#222222", lw=1)
        panel.set(
            title=f"{report.twin}\ncosine {gradient.cosine:.3f} of {gradient.ceiling:.3f}",
            xlabel="device, finite differences",
        )
    axes[0].set_ylabel("twin, backpropagation\n(full scale per range)")
    return figure


@styled
def gap_figure(*reports: TwinReport) -> Figure:
    """How the gap grows with the number of layers: in silico, and at the device's inputs."""
    gaps = numbers.chained(reports)
    figure, (left, right) = panels(2, width=9.6)
    for twin, gap in gaps:
        depth = range(1, len(gap.free) + 1)
        left.semilogy(depth, gap.free, "o-", label=twin)
        right.semilogy(depth, gap.local, "o-", label=twin)
        left.set_xticks(depth)
        right.set_xticks(depth)
    noise = gaps[0][1].noise
    label = "device against itself"
    left.semilogy(range(1, len(noise) + 1), noise, "s--", color=PALETTE["grey"], label=label)
    left.set(title="Twin on its own (in silico)", xlabel="layers", ylabel="NMSE of the last layer")
    right.set(title="Twin at the device's inputs (PAT)", xlabel="layer")
    left.legend(fontsize="small")
    right.sharey(left)
    return figure


def _title(report: TwinReport) -> str:
    return f"{report.twin}\nNMSE {report.nmse:.1e} (noise {report.ceiling:.0e})"
