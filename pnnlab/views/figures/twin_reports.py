"""Figures of what a twin is worth: its errors, its gradients, its gap with depth."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pnnlab.errors import ShapeError
from pnnlab.twins import NeuralRecord, TwinReport
from pnnlab.views.figures.chart import Chart, Mark, Matrix, Plot, Points, Series
from pnnlab.views.figures.measurements import DOTTED, GREY
from pnnlab.views.style import BAND, LineStyle, line_style

Array = NDArray[np.float64]

Y, SLOPE = "y (fraction of full scale)", "(full scale per range)"
RESIDUAL = "residual (fraction of full scale)"
BINS = 8  # of an input's range, for residuals by input


def fitting(records: Sequence[NeuralRecord], floor: float | None = None) -> Chart:
    """How a neural twin's error fell; ``floor`` is the noise floor of what it was shown."""
    epochs = np.array([record.epoch for record in records])
    train, validation = [r.train for r in records], [r.validation for r in records]
    marks = [
        Series("training shots", epochs, train, markers=True),
        Series("validation shots", epochs, validation, style=line_style(1), markers=True),
    ]
    if floor:
        label = f"noise floor: {floor:.3g}"
        marks.append(Series(label, epochs[[0, -1]], [floor] * 2, style=DOTTED))
    return Chart("Fit of the neural twin", [Plot("", "epoch", "NMSE", marks, log=True)])


def parity(*reports: TwinReport) -> Chart:
    """Twin against device on held-out shots, one plot a twin, with the noise of one read-out."""
    plots = []
    for report in _given(reports):
        device, twin = report.device, report.modelled
        dots = Points("one output of one shot", device, twin, ("shot", "output"))
        wide = BAND * noise(report)
        label = "twin = device" + (wide > 0) * f", ± {BAND} SD of noise"
        marks: list[Mark] = [dots, _diagonal(label, wide, device, twin)]
        plots.append(Plot(_error(report), f"device {Y}", f"twin {Y}", marks))
    return Chart(f"Parity on {_held(reports)}", plots, shared=True)


def residuals_by_output(*reports: TwinReport) -> Chart:
    """Rms residual of each output, between the device's noise and its signal."""
    first = _given(reports)[0]
    output = np.arange(first.device.shape[1])
    marks = [Series("device: signal", output, first.device.double().std(0).numpy(), style=GREY)]
    for place, report in enumerate(reports):
        rms = np.sqrt(np.square(_residuals(report)).mean(0))
        marks.append(Series(report.twin, output, rms, style=line_style(place)))
    if noise(first) > 0:
        marks.append(Series("device: noise", output, first.noise.numpy(), style=DOTTED))
    plot = Plot("", "output", f"rms {RESIDUAL}", marks, log=True)
    return Chart("Residuals by output", [plot])


def residuals_by_input(*reports: TwinReport) -> Chart:
    """Rms residual by input element and by the value that it had: where a twin goes wrong."""
    plots = []
    for report in _given(reports):
        rms, shots = rms_by_input(report)
        x, y = (np.arange(BINS) + 0.5) / BINS, np.arange(len(rms))
        values = Matrix(f"rms {RESIDUAL}", x, y, rms, detail=("shots", shots))
        x_label = "its value (fraction of range)"
        plots.append(Plot(report.twin, x_label, "input element", [values]))
    return Chart("Residuals by input element and its value", plots, shared=True)


def gradients(*reports: TwinReport) -> Chart:
    """Vector-Jacobian products along random directions: backpropagated, by finite differences."""
    plots = []
    for report in _given(reports):
        if (found := report.gradient) is None:
            raise ShapeError("this report was made without a device; give report() one.")
        of = "working point", "product"
        dots = Points("one product at one working point", found.device, found.twin, of)
        title = f"{report.twin}\ncosine {found.cosine:.3f} of {found.ceiling:.3f}"
        marks: list[Mark] = [dots, _diagonal("twin = device", 0, found.device)]
        plots.append(Plot(title, f"device {SLOPE}", f"twin {SLOPE}", marks))
    title = "Gradients: cosine of twin and device (finite differences), of the best possible"
    return Chart(title, plots, shared=True)


def gap(*reports: TwinReport) -> Chart:
    """How the gap grows with the number of layers: in silico, and at the device's inputs."""
    gaps = [(report.twin, report.gap) for report in reports if report.gap is not None]
    if not gaps:
        raise ShapeError(
            "there is no report to draw, or none of a system that can be chained: one that has as "
            "many outputs as inputs."
        )

    def line(label: str, errors: Sequence[float], how: LineStyle) -> Series:
        return Series(label, np.arange(1, len(errors) + 1), errors, style=how, markers=True)

    free = [line(twin, gap.free, line_style(place)) for place, (twin, gap) in enumerate(gaps)]
    local = [line(twin, gap.local, line_style(place)) for place, (twin, gap) in enumerate(gaps)]
    free.append(line("device against itself", gaps[0][1].noise, DOTTED))
    label = "NMSE of the last layer"
    plots = [
        Plot("Twin on its own (in silico)", "layers", label, free, log=True),
        Plot("Twin at the device's inputs (PAT)", "layers", label, local, log=True),
    ]
    return Chart("Gap and depth", plots, shared=True)


def noise(report: TwinReport) -> float:
    """Standard deviation of one read-out, rms over the outputs; 0 if that is unknown."""
    value = float(report.noise.square().mean().sqrt())
    return 0.0 if math.isnan(value) else value


def rms_by_input(report: TwinReport) -> tuple[Array, NDArray[np.int64]]:
    """Rms residual, (inputs, bins), by input element and its value, and how many shots had it.

    It is NaN where no held-out shot had such a value.
    """
    x = report.held.x.double().numpy()
    error = np.square(_residuals(report)).mean(1)
    places = np.minimum((x * BINS).astype(np.intp), BINS - 1) + BINS * np.arange(x.shape[1])
    size = BINS * x.shape[1]
    shots = np.bincount(places.ravel(), minlength=size)
    total = np.bincount(places.ravel(), np.repeat(error, x.shape[1]), minlength=size)
    mean = np.divide(total, shots, out=np.full(size, math.nan), where=shots > 0)
    return np.sqrt(mean).reshape(-1, BINS), shots.reshape(-1, BINS)


def _given(reports: Sequence[TwinReport]) -> Sequence[TwinReport]:
    if not reports:
        raise ShapeError("there is no report to draw; make one with twins.report().")
    return reports


def _residuals(report: TwinReport) -> Array:
    """Twin minus device on the held-out shots, (shots, outputs)."""
    return np.asarray((report.modelled - report.device).double().numpy())


def _error(report: TwinReport) -> str:
    return f"{report.twin}\nNMSE {report.nmse:.1e}"


def _held(reports: Sequence[TwinReport]) -> str:
    first = reports[0]
    known = not math.isnan(first.floor)
    return f"{first.shots} held-out shots" + known * f"; noise floor: NMSE {first.floor:.1e}"


def _diagonal(label: str, wide: float, *values: Tensor) -> Series:
    """Where twin and device agree, from the lowest of the values to the highest, ± ``wide``."""
    low, high = (min(float(v.min()) for v in values), max(float(v.max()) for v in values))
    ends = np.array([low, high])
    return Series(label, ends, ends, area=(ends - wide, ends + wide), style=line_style(1))
