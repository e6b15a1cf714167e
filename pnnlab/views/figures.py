"""Figures of what was measured and of what a twin is worth, each a `Chart`.

At the end of a cell a chart shows itself as a picture; ``chart.explore()`` is the same to turn.
"""

import math
from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.stats import binned_statistic
from torch import Tensor

from pnnlab.characterize.manual_control import SIDES, ManualControl, Response
from pnnlab.errors import ShapeError
from pnnlab.twins import NeuralRecord, TwinReport
from pnnlab.views.chart import LINES, Chart, Matrix, Plot, Points, Series, spread
from pnnlab.views.style import BAND, LineStyle, line_style

Array = NDArray[np.float64]

READ_OUT = "read-out y (fraction of full scale)"
CHANGE = "change of y (fraction of full scale)"
DEVIATION = "SD of y (fraction of full scale)"
SLOPE = "rms |dy/dx| (full scale per range)"
DRIVES = {"x": ("Input x", "green"), "theta": ("Parameters θ", "purple")}
Y, PER_RANGE = "y (fraction of full scale)", "(full scale per range)"
RESIDUAL = "residual (fraction of full scale)"
BINS = 8  # of an input's range, for residuals by input
SHOWN = 3  # curves of a response, at first
SWEPT = 8  # elements of a response
GREY, DOTTED = LineStyle("grey", ()), LineStyle("grey", (2, 2))


def repeatability(data: xr.Dataset) -> Chart:
    """The first shot with its noise, others to switch on, and noise beside signal everywhere."""
    output, mean, deviation = data.output.values, data["mean"].values, data["deviation"].values
    shots = []
    for place, n in enumerate(spread(len(mean), LINES // 2)):
        how = line_style(place + 2) if place else LineStyle("green", ())
        shot = Series(f"shot {n}", output, mean[n], deviation=deviation[n], style=how, shown=not n)
        shots.append(shot)
    left = Plot(f"One shot, repeated: ± {BAND} SD", "output", READ_OUT, shots)
    noise = Series("noise", output, np.sqrt((deviation**2).mean(0)), style=line_style(1))
    signal = Series("signal", output, mean.std(0))
    beside = Plot("Signal and noise", "output", DEVIATION, [signal, noise], log=True)
    title = f"Signal to noise {float(data.signal_to_noise):.3g}"
    return Chart(title, [left, beside])


def response(data: xr.Dataset) -> Chart:
    """Each swept element's curves at the outputs that move most, three of them shown at first.

    Of many elements `SWEPT` are shown, evenly spread, and the title says so.
    """
    names, swept = data.element.values.tolist(), data.sizes["element"]
    names = [names[n] for n in spread(swept, SWEPT)]
    most = max(SHOWN, LINES // max(2, len(names)))
    chosen = {name: liveliest(data["mean"].sel(element=name), "value", most) for name in names}
    # An output looks the same in all plots; those that are shown at first differ the most.
    order = [o for each in chosen.values() for o in each[:SHOWN]]
    order += [o for each in chosen.values() for o in each[SHOWN:]]
    line_styles = {output: line_style(place) for place, output in enumerate(dict.fromkeys(order))}
    plots = []
    for name, each in chosen.items():
        marks = []
        for place, output in enumerate(each):
            curve, how = data.sel(element=name, output=output), line_styles[output]
            x, y, sd = (curve[field].values for field in ("value", "mean", "deviation"))
            label = f"output {output}"
            marks.append(Series(label, x, y, deviation=sd, style=how, shown=place < SHOWN))
        plots.append(Plot(f"Sweep of {name}", f"{name} (fraction of range)", READ_OUT, marks))
    title = f"Response around a working point, ± {BAND} SD"
    title += f"; {len(plots)} of {swept} elements" if len(plots) < swept else ""
    return Chart(title, plots, columns=min(4, len(plots)))


def surface(data: xr.Dataset, element: str | None = None) -> Chart:
    """All outputs against one swept element, such as ``"x[3]"``: by default the first one."""
    names = data.element.values.tolist()
    name = names[0] if element is None else element
    if name not in names:
        raise ShapeError(f"{name} was not swept; choose from {', '.join(names)}.")
    one = data.sel(element=name)
    arrays = one.output.values, one.value.values, one["mean"].values
    values = Matrix(READ_OUT, *arrays, detail=(DEVIATION, one["deviation"].values), raised=True)
    plot = Plot("", "output", f"{name} (fraction of range)", [values])
    return Chart(f"Response of all outputs to {name}", [plot])


def memory(data: xr.Dataset) -> Chart:
    """Sensitivity of each output to each input element, and how the response fades with the lag."""
    length, fraction = int(data["length"]), float(data.attrs["fraction"])
    lag, peak = data.lag.values, float(data["response"].max())
    # A logarithmic axis shows what is positive.
    answer, certain = (data[n].where(data[n] > 0).values for n in ("response", "certain"))
    level, end = fraction * peak, min(4 * max(length, 2), len(lag)) + 0.5
    sensitivity = Matrix(SLOPE, data.output.values, data.element.values, data["jacobian"].values)
    marks = [
        Series("response", lag, answer, markers=True),
        Series("noise limit", lag, certain, style=GREY),
        Series(f"{fraction:.0%} of the peak", lag[[0, -1]], [level] * 2, style=line_style(1)),
        Series(f"memory: {length}", [length] * 2, [level / 3, peak], style=line_style(2)),
    ]
    if np.isnan(certain).all():
        del marks[1]
    plots = [
        Plot("Sensitivity", "output", "moved input element", [sensitivity]),
        Plot("Fading", "lag (input elements)", SLOPE, marks, x_limits=(-0.5, end), log=True),
    ]
    return Chart(f"Memory of {length} input elements", plots)


def drift(data: xr.Dataset) -> Chart:
    """Change of the four outputs that move most (to explore, six more), beside the noise."""
    shots, change = data.shots.values, data["mean"] - data["mean"][0]
    noise = float(data["noise"])
    point = noise * math.sqrt(2 / int(data.attrs["every"]))
    marks = [
        Series(
            f"noise of {of}, ± SD", shots[[0, -1]], [0, 0], area=([-sd] * 2, [sd] * 2), style=how
        )
        for of, sd, how in (("one shot", noise, GREY), ("a point here", point, DOTTED))
    ]
    for place, output in enumerate(liveliest(change, "shots", 10)):
        y = change.sel(output=output).values
        how = line_style(place)
        marks.append(Series(f"output {output}", shots, y, style=how, shown=place < 4))
    title = f"Drift {float(data['drift']):.2g} rms beside noise {noise:.2g} of full scale"
    return Chart(title, [Plot("", "shots taken", CHANGE, marks)])


def device_panel(
    control: ManualControl, answer: Response | None, swept: xr.Dataset | None
) -> Chart:
    """A drive, the response to it beside the twin's, and a sweep, as far as there are any."""
    plots, words = [], [control.system.name]
    for side in SIDES:
        (title, color), y = DRIVES[side], control.side(side).numpy()
        line = Series(side, np.arange(len(y)), y, style=LineStyle(color, ()), steps=True)
        label = f"element of {side}"
        plots.append(Plot(title, label, "fraction of range", [line], y_limits=(0, 1)))
    if answer is not None:
        words.append(summary(answer))
        plots += response_plots(answer)
    if swept is not None:
        name, mean = str(swept.element.values[0]), swept["mean"].values[0]
        arrays = swept.output.values, swept.value.values, mean - mean[0]
        change = Matrix(CHANGE, *arrays, signed=True)
        label = f"{name} (fraction of range)"
        plots.append(Plot(f"Change from {name} = 0", "output", label, [change]))
    words.append(f"{control.passes} device passes")
    return Chart("   ·   ".join(words), plots, columns=2)


def response_plots(answer: Response) -> list[Plot]:
    """A response with its noise and the twin; of a twin, its difference from the device too."""
    mean, sd = answer.mean.numpy(), answer.deviation.numpy()
    output = np.arange(len(mean))
    label = f"device ± {BAND} SD of {answer.shots} shots"
    marks = [Series(label, output, mean, deviation=sd)]
    plots = [Plot("Response", "output", READ_OUT, marks)]
    if answer.modelled is not None:
        twin = answer.modelled.numpy()
        marks.append(Series("twin", output, twin, style=line_style(1)))
        off = [
            Series(f"noise ± {BAND} SD", output, 0 * sd, deviation=sd, style=GREY),
            Series("twin − device", output, twin - mean, style=line_style(1)),
        ]
        label = "twin − device (fraction of full scale)"
        plots.append(Plot("Twin − device", "output", label, off))
    return plots


def summary(answer: Response) -> str:
    """Noise, and the twin's distance, in words."""
    noise = f"noise {100 * answer.noise:.2g} %"
    if answer.modelled is None:
        return f"{noise} of full scale"
    return f"twin off by {100 * answer.gap:.2g} %, {noise} of full scale"


def liveliest(mean: xr.DataArray, along: str, most: int) -> list[int]:
    """The outputs that move the most along a dimension, those first that move most."""
    order = np.argsort(mean.std(along).values, kind="stable")[::-1]
    return [int(output) for output in mean.output.values[order[:most]]]


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
    first = _given(reports)[0]
    plots = []
    for report in reports:
        device, twin = report.device, report.modelled
        dots = Points("one output of one shot", device, twin, ("shot", "output"))
        wide = BAND * read_out_noise(report)
        label = "twin = device" + (wide > 0) * f", ± {BAND} SD of noise"
        marks = [dots, _diagonal(label, wide, device, twin)]
        title = f"{report.twin}\nNMSE {report.nmse:.1e}"
        plots.append(Plot(title, f"device {Y}", f"twin {Y}", marks))
    floor = "" if math.isnan(first.floor) else f"; noise floor: NMSE {first.floor:.1e}"
    return Chart(f"Parity on {first.shots} held-out shots{floor}", plots, shared=True)


def residuals_by_output(*reports: TwinReport) -> Chart:
    """Rms residual of each output, between the device's noise and its signal."""
    first = _given(reports)[0]
    output = np.arange(first.device.shape[1])
    marks = [Series("device: signal", output, first.device.double().std(0).numpy(), style=GREY)]
    for place, report in enumerate(reports):
        rms = np.sqrt(np.square(_residuals(report)).mean(0))
        marks.append(Series(report.twin, output, rms, style=line_style(place)))
    if read_out_noise(first) > 0:
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
        marks = [dots, _diagonal("twin = device", 0, found.device)]
        plots.append(Plot(title, f"device {PER_RANGE}", f"twin {PER_RANGE}", marks))
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


def read_out_noise(report: TwinReport) -> float:
    """Standard deviation of one read-out, rms over the outputs; 0 if that is unknown."""
    value = float(report.noise.square().mean().sqrt())
    return 0.0 if math.isnan(value) else value


def rms_by_input(report: TwinReport) -> tuple[Array, NDArray[np.int64]]:
    """Rms residual, (inputs, bins), by input element and its value; how many shots had it."""
    error = np.square(_residuals(report)).mean(1)
    mean, shots = (
        [
            binned_statistic(x, error, kind, BINS, (0, 1)).statistic
            for x in report.held.x.T.double().numpy()
        ]
        for kind in ("mean", "count")
    )
    return np.sqrt(mean), np.array(shots, dtype=np.int64)


def _given(reports: Sequence[TwinReport]) -> Sequence[TwinReport]:
    if not reports:
        raise ShapeError("there is no report to draw; make one with twins.report().")
    return reports


def _residuals(report: TwinReport) -> Array:
    """Twin minus device on the held-out shots, (shots, outputs)."""
    return np.asarray((report.modelled - report.device).double().numpy())


def _diagonal(label: str, wide: float, *values: Tensor) -> Series:
    """Where twin and device agree, from the lowest of the values to the highest, ± ``wide``."""
    low, high = (min(float(v.min()) for v in values), max(float(v.max()) for v in values))
    ends = np.array([low, high])
    return Series(label, ends, ends, area=(ends - wide, ends + wide), style=line_style(1))
