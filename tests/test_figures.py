"""Figures: one description, drawn for print and to explore, with the same numbers and words."""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import plotly
import pytest
import torch
import xarray as xr
from browser import lab_page, needs_chromium
from matplotlib.figure import Figure
from PIL import Image
from plotly import graph_objects as go
from toy import Toy, ToyTwin

from pnnlab import characterize, twins
from pnnlab.characterize import ManualControl, MeasuredShots
from pnnlab.errors import ShapeError
from pnnlab.twins import (
    DepthGap,
    GradientAgreement,
    Mlp,
    NeuralRecord,
    NeuralSettings,
    NeuralTwin,
    TwinReport,
)
from pnnlab.views import figures
from pnnlab.views.chart import Chart, Matrix, Plot, Points, Series, spread

DRAWN = ["repeatability", "response", "surface", "memory", "drift", "fitting", "parity"]
DRAWN += ["residuals_by_output", "residuals_by_input", "gradients", "gap"]
SMALL = 60_000  # bytes that a figure may take in a stored notebook


@dataclass(frozen=True)
class Measured:
    """One of everything that can be drawn."""

    repeated: xr.Dataset
    swept: xr.Dataset
    remembered: xr.Dataset
    drifted: xr.Dataset
    records: list[NeuralRecord]
    judged: list[TwinReport]

    def charts(self) -> dict[str, Chart]:
        """Every function of `figures` that draws data, called."""
        given = {
            "repeatability": [self.repeated],
            "response": [self.swept],
            "surface": [self.swept],
            "memory": [self.remembered],
            "drift": [self.drifted],
            "fitting": [self.records, 0.01],
        }
        return {name: getattr(figures, name)(*given.get(name, self.judged)) for name in DRAWN}


@pytest.fixture(scope="module")
def toy() -> Measured:
    system = Toy(noise=0.03)
    generator = torch.Generator().manual_seed(0)
    x, theta = torch.rand(8, 6, generator=generator), torch.rand(36, generator=generator)
    data = characterize.collect(system, 300, seed=0)
    twin = NeuralTwin(system, Mlp((16,)))
    raw = twins.report(system, twin, data)
    records = list(twins.fitting_neural(twin, data, NeuralSettings(epochs=3)))
    return Measured(
        repeated=characterize.repeatability(system, x, theta, repeats=4),
        swept=characterize.response_curves(
            system, x[0], theta, inputs=[1], parameters=[7], points=5
        ),
        remembered=characterize.memory(system, x, theta),
        drifted=characterize.drift(system, x[0], theta, shots=1000, every=100),
        records=records,
        judged=[raw, twins.report(system, twin, data)],
    )


def large() -> Measured:
    """What a device with 784 inputs and outputs, measured with patience, would give."""
    rng = np.random.default_rng(0)

    def noise(**sizes: int) -> tuple[tuple[str, ...], np.ndarray]:
        return tuple(sizes), rng.random(tuple(sizes.values()))

    elements = [f"theta[{i}]" for i in range(30)]
    several = {"shot": 100, "output": 784}
    curves = {"element": len(elements), "value": 101, "output": 196}
    x, y = torch.rand(300, 784), torch.rand(2, 300, 784)
    products = torch.rand(64, 64)
    judged = [
        TwinReport(
            system="plate",
            twin=f"physics twin, number {number}",
            nmse=0.01,
            floor=0.001,
            verdict="usable",
            gradient=GradientAgreement(
                cosine=0.9, ceiling=1.0, relative_error=0.1, device=products, twin=products,
                device_passes=1,
            ),
            gap=DepthGap(free=(0.1,) * 9, local=(0.1,) * 9, noise=(0.01,) * 9, device_passes=1),
            held=MeasuredShots(x, x, y),
            modelled=y[0] + 0.1 * torch.rand(300, 784),
        )
        for number in range(4)
    ]  # fmt: skip
    return Measured(
        repeated=xr.Dataset(
            {
                "mean": noise(**several),
                "deviation": noise(**several),
                "noise_floor": 0.5,
                "signal_to_noise": 1.0,
            },
            {"output": np.arange(784)},
        ),
        swept=xr.Dataset(
            {"mean": noise(**curves), "deviation": noise(**curves)},
            {"element": elements, "value": np.linspace(0, 1, 101), "output": np.arange(196)},
        ),
        remembered=xr.Dataset(
            {
                "jacobian": noise(element=100, output=784),
                "response": noise(lag=784),
                "certain": noise(lag=784),
                "length": 40,
            },
            {"element": np.arange(100), "output": np.arange(784), "lag": np.arange(784)},
            {"fraction": 0.01},
        ),
        drifted=xr.Dataset(
            {"mean": noise(shots=5000, output=784), "noise": 0.1, "drift": 0.1},
            {"shots": 1000 * np.arange(1, 5001), "output": np.arange(784)},
            {"every": 1000},
        ),
        records=[
            NeuralRecord(epoch=n, train=1 / n, validation=1 / n, best=1 / n) for n in range(1, 1001)
        ],
        judged=judged,
    )


def drawn(chart: Chart) -> Figure:
    """The printed form, as stored: a PNG, and words at every axis that carries numbers."""
    picture = chart.static()
    with Image.open(io.BytesIO(picture._repr_png_())) as image:
        assert image.size[0] > 400
    figure = picture.figure
    for axes in figure.axes:
        if axes.get_label() == "<colorbar>":
            assert axes.get_ylabel()
        else:
            assert axes.get_title() or axes.get_title("left")
            assert axes.get_xlabel()
    assert any(axes.get_ylabel() for axes in figure.axes)
    return figure


def explored(chart: Chart) -> go.Figure:
    """The explorable form: a title of one line, words at every axis, units under the pointer."""
    figure = chart.explore()
    assert figure.layout.title.text == chart.title
    assert "<br>" not in chart.title
    if figure.layout.scene.xaxis.title.text:  # turned in space
        assert figure.layout.scene.zaxis.title.text
    else:
        assert all(axis.title.text for axis in figure.select_xaxes())
        assert next(figure.select_yaxes()).title.text
    for trace in figure.data:
        assert trace.hovertemplate.endswith("<extra></extra>"), trace.name
    assert figure.layout.template.layout.paper_bgcolor == "#FFFFFF"  # legible on every theme
    return figure


def named(figure: go.Figure, name: str) -> list[go.Scatter]:
    return [trace for trace in figure.data if trace.name == name]


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_explorable_figures_are_small() -> None:
    for name, chart in large().charts().items():
        size = len(explored(chart).to_json())
        assert size < SMALL, f"{name} takes {size} bytes"


def test_both_forms_show_the_same_lines(toy: Measured) -> None:
    """Of every line that a picture has, the explorable figure has the points and the colour."""
    assert len(toy.charts()) == 11
    for name, chart in toy.charts().items():
        figure, picture = explored(chart), drawn(chart)
        lines = {
            (trace.line.color.lower(), tuple(np.float32(trace.y).tolist()))
            for trace in figure.data
            if trace.type == "scatter" and "lines" in trace.mode and trace.line.width != 0
        }
        for line in (line for axes in picture.axes for line in axes.lines):
            if line.get_linestyle() != "None":  # not dots
                points = tuple(np.float32(line.get_ydata()).tolist())
                assert (line.get_color().lower(), points) in lines, (name, line.get_label())
        if picture.legends:
            named = [t.name for t in figure.data if t.showlegend and t.visible != "legendonly"]
            assert sorted(named) == sorted(legend(picture))


def test_a_faint_line_is_pale_and_in_no_legend() -> None:
    lines = [Series("each", [1, 2], [3.0, 4.0], faint=True), Series("mean", [1, 2], [3.5, 3.5])]
    chart = Chart("", [Plot("", "step", "y", lines)])
    drawn = chart.static().figure
    assert [line.get_alpha() for line in drawn.axes[0].lines] == [0.45, None]
    assert [text.get_text() for text in drawn.legends[0].get_texts()] == ["mean"]
    assert [(trace.opacity, trace.showlegend) for trace in chart.explore().data] == [
        (0.45, False),
        (None, True),
    ]


def test_a_shot_is_chosen(toy: Measured) -> None:
    chart = figures.repeatability(toy.repeated)
    left, _ = drawn(chart).axes
    assert [line.get_ydata().tolist() for line in left.lines] == [
        toy.repeated["mean"][0].values.tolist()
    ]
    assert f"{float(toy.repeated.signal_to_noise):.3g}" in chart.title
    figure = explored(chart)
    assert [t.name for t in figure.data if t.visible is True] == ["shot 0", "signal", "noise"]
    (shot,) = named(figure, "shot 5")
    assert shot.visible == "legendonly"
    assert shot.showlegend
    assert np.allclose(shot.y, toy.repeated["mean"].sel(shot=5))
    assert np.allclose(shot.error_y.array, 2 * toy.repeated["deviation"].sel(shot=5))
    assert len({(t.line.color, t.line.dash) for t in figure.data}) == len(figure.data)


def test_each_element_has_its_plot(toy: Measured) -> None:
    chart = figures.response(toy.swept)
    first, second = drawn(chart).axes
    assert (first.get_xlabel()[:4], second.get_xlabel()[:8]) == ("x[1]", "theta[7]")
    assert "output 1" in legend(drawn(chart))  # 7 = 6 + 1: the only one that theta[7] moves
    figure = explored(chart)
    assert figure.layout.xaxis.title.text == "x[1] (fraction of range)"
    assert figure.layout.xaxis2.title.text == "theta[7] (fraction of range)"
    on = [t for t in figure.data if t.xaxis == "x2" and t.visible is True]
    assert len(on) == 3
    assert on[0].name == "output 1"
    assert np.allclose(on[0].y, toy.swept["mean"].sel(element="theta[7]", output=1))
    many = figures.response(large().swept)
    assert [many.plots[n].title for n in (0, -1)] == ["Sweep of theta[0]", "Sweep of theta[29]"]
    assert (len(many.plots), many.columns) == (figures.SWEPT, 4)
    assert many.title.endswith("8 of 30 elements")


def test_an_output_looks_the_same_in_all_plots() -> None:
    line_styles: dict[str, set[object]] = {}
    for plot in figures.response(large().swept).plots:
        for mark in plot.marks:
            assert isinstance(mark, Series)
            line_styles.setdefault(mark.label, set()).add(mark.style)
    assert all(len(each) == 1 for each in line_styles.values())


def test_a_surface_can_be_turned(toy: Measured) -> None:
    chart = figures.surface(toy.swept, "theta[7]")
    (surface,) = explored(chart).data
    curves = toy.swept.sel(element="theta[7]")
    assert np.allclose(surface.z, curves["mean"])
    assert np.allclose(np.transpose(surface.customdata), curves["deviation"])
    values = drawn(chart).axes[0].collections[0].get_array()
    assert values is not None
    assert np.array_equal(values, curves["mean"])
    assert "theta[7]" in chart.title
    with pytest.raises(ShapeError, match=r"x\[9\] was not swept; choose from x\[1\], theta\[7\]"):
        figures.surface(toy.swept, "x[9]")


def test_limits_are_those_of_the_description() -> None:
    for log, seen in ((False, (1, 100)), (True, (0, 2))):
        line = Series("y", [1, 2], [3, 4])
        chart = Chart(
            "one", [Plot("", "x", "y", [line], x_limits=(0, 9), y_limits=(1, 100), log=log)]
        )
        assert drawn(chart).axes[0].get_xlim() == (0, 9)
        assert drawn(chart).axes[0].get_ylim() == (1, 100)
        assert repr(chart) == "Chart of 1 plot"
        assert chart._repr_png_().startswith(b"\x89PNG")
        layout = explored(chart).layout
        assert (layout.xaxis.range, layout.yaxis.range) == ((0, 9), seen)


def test_cells_lie_around_their_middles() -> None:
    for y, ends in (([2, 4, 6], (1, 7)), ([3], (2.5, 3.5))):
        matrix = Matrix("z", [0, 1], y, np.ones((len(y), 2)))
        axes = drawn(Chart("one", [Plot("", "x", "y", [matrix])])).axes[0]
        assert axes.get_xlim() == (-0.5, 1.5)
        assert axes.get_ylim() == ends


def test_memory_and_drift_say_what_was_measured(toy: Measured) -> None:
    chart = figures.memory(toy.remembered)
    figure = explored(chart)
    assert f"Memory of {int(toy.remembered.length)} input" in chart.title
    assert np.allclose(figure.data[0].z, toy.remembered["jacobian"])
    assert f"memory: {int(toy.remembered.length)}" in legend(drawn(chart))

    chart = figures.drift(toy.drifted)
    assert len(drawn(chart).axes[0].lines) == 6  # two of noise
    outputs = [t for t in explored(chart).data if t.name.startswith("output")]
    assert [t.visible for t in outputs] == [True] * 4 + ["legendonly"] * 2
    assert outputs[0].x[-1] == 1000
    change = toy.drifted["mean"] - toy.drifted["mean"][0]
    output = int(outputs[0].name.removeprefix("output "))
    assert np.allclose(outputs[0].y, change.sel(output=output))


def test_a_device_that_does_not_answer_can_be_drawn() -> None:
    system = Toy(noise=0.0)
    x, theta = torch.zeros(3, 6), torch.zeros(36)
    repeated = characterize.repeatability(system, x, theta, repeats=2)
    for chart in (
        figures.memory(characterize.memory(system, x, theta)),
        figures.repeatability(repeated),
        figures.drift(characterize.drift(system, x[0], theta, shots=20, every=10)),
    ):
        drawn(chart)
        explored(chart)


def test_twins_stand_side_by_side(toy: Measured) -> None:
    raw, fitted = toy.judged
    for draw in (figures.parity, figures.gradients):
        assert len(drawn(draw(raw, fitted)).axes) == 2
        assert len(drawn(draw(fitted)).axes) == 1
    figure = explored(figures.parity(raw, fitted))
    label = "twin y (fraction of full scale)"  # said once
    assert [axis.title.text for axis in figure.select_yaxes()] == [label, ""]
    dots = [trace for trace in figure.data if trace.mode == "markers"]
    assert len(dots) == 2
    shot, output = dots[1].customdata[7]
    assert dots[1].x[7] == fitted.device[shot, output]
    assert dots[1].y[7] == fitted.modelled[shot, output]
    chart = figures.gradients(raw, fitted)
    assert f"{fitted.gradient.cosine:.3f}" in explored(chart).layout.annotations[1].text
    assert f"{fitted.gradient.cosine:.3f}" in drawn(chart).axes[1].get_title("left")
    names = [trace.name for trace in explored(figures.residuals_by_output(raw, fitted)).data]
    assert names == ["device: signal", raw.twin, raw.twin, "device: noise"]  # both are neural
    assert explored(figures.residuals_by_input(fitted)).data[0].z.shape == (6, 8)
    assert fitted.gap is not None
    free, again, local = explored(figures.gap(fitted)).data
    assert np.allclose(free.y, fitted.gap.free)
    assert np.allclose(local.y, fitted.gap.local)
    assert np.allclose(again.y, fitted.gap.noise)
    (axes,) = drawn(figures.fitting(toy.records, fitted.floor)).axes
    assert axes.lines[1].get_ydata().tolist() == [record.validation for record in toy.records]
    assert len(explored(figures.fitting(toy.records)).data) == 2


@pytest.mark.parametrize(
    "draw",
    [
        figures.gap,
        figures.gradients,
        figures.parity,
        figures.residuals_by_input,
        figures.residuals_by_output,
    ],
)
def test_nothing_to_draw_is_refused(draw: Callable[..., Chart]) -> None:
    with pytest.raises(ShapeError, match="there is no report to draw"):
        draw()


def test_a_report_without_a_floor_can_be_drawn() -> None:
    system = Toy(inputs=3, outputs=2)
    data = characterize.collect(system, 50, seed=0, repeats=1)
    report = twins.report(system, NeuralTwin(system, Mlp((4,))), data)
    assert math.isnan(report.floor)
    chart = figures.parity(report)
    drawn(chart)
    assert "floor" not in explored(chart).layout.title.text
    assert "noise" not in "".join(legend(drawn(chart)))
    assert not named(explored(figures.residuals_by_output(report)), "device: noise")
    with pytest.raises(ShapeError, match="can be chained"):
        figures.gap(report)


def test_a_device_panel_can_be_explored() -> None:
    control = ManualControl(Toy(), ToyTwin())
    answer, swept = control.measure(), control.sweep("x[3]", points=5, repeats=2)
    figure = explored(figures.device_panel(control, answer, swept))
    drive, *_ = figure.data
    assert np.allclose(drive.y, control.x)
    assert np.allclose(named(figure, "twin")[0].y, answer.modelled)
    (changes,) = [trace for trace in figure.data if trace.type == "heatmap"]
    mean = swept["mean"].values[0]
    assert np.allclose(changes.z, mean - mean[0])
    single = ManualControl(Toy(inputs=1, outputs=1))
    patches = drawn(figures.device_panel(single, None, None)).axes[0].patches
    assert patches[0].get_path().get_extents().width == 1  # one element is seen too


# --- the numbers behind them ---------------------------------------------------------


def judged(x: torch.Tensor, y: torch.Tensor, modelled: torch.Tensor) -> TwinReport:
    nothing = torch.zeros(1, 1)
    return TwinReport(
        system="toy",
        twin="twin",
        nmse=0.0,
        floor=characterize.nmse_floor(y),
        verdict="usable",
        gradient=GradientAgreement(
            cosine=1.0,
            ceiling=1.0,
            relative_error=0.0,
            device=nothing,
            twin=nothing,
            device_passes=0,
        ),
        gap=None,
        held=MeasuredShots(x, x, y),
        modelled=modelled,
    )


@pytest.fixture(scope="module")
def noisy() -> TwinReport:
    """A perfect twin of a device with noise of 0.03, and errors where the last input is high."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2000, 3, generator=generator)
    noise = 0.03 * torch.randn(2, 2000, 2, generator=generator)
    wrong = 0.2 * (x[:, 2:] > 0.875)
    return judged(x, x[:, :2] + noise, x[:, :2] + wrong)


def test_a_few_of_many() -> None:
    assert spread(5, 10) == [0, 1, 2, 3, 4]
    assert spread(101, 5) == [0, 25, 50, 75, 100]
    assert spread(0, 5) == []
    x = np.arange(64_000).reshape(1000, 64)
    dots = Points("some", x, x, ("shot", "output"))
    chosen, _, where = dots.some(1000)
    assert len(np.unique(chosen)) == 1000
    assert len(np.unique(chosen % 64)) == 64  # a stride of 64 would show one output only
    assert np.array_equal(x[where[:, 0], where[:, 1]], chosen)
    assert np.array_equal(chosen, dots.some(1000)[0])
    assert np.array_equal(dots.some(64_000)[0], x.ravel())


def test_the_liveliest_outputs_come_first() -> None:
    mean = xr.DataArray(
        [[0.0, 0.0, 0.0], [0.1, 1.0, 0.5]], dims=("value", "output"), coords={"output": [4, 5, 6]}
    )
    assert figures.liveliest(mean, "value", 2) == [5, 6]


def test_noise_is_that_of_one_read_out(noisy: TwinReport) -> None:
    assert noisy.noise.shape == (2,)
    assert figures.read_out_noise(noisy) == pytest.approx(0.03, rel=0.05)
    single = judged(noisy.held.x, noisy.held.y[:1], noisy.modelled)
    assert single.noise.isnan().all()
    assert figures.read_out_noise(single) == 0


def test_residuals_are_found_where_they_are(noisy: TwinReport) -> None:
    rms, shots = figures.rms_by_input(noisy)
    assert shots.sum(1).tolist() == [2000] * 3
    assert np.allclose(rms[2, :7], 0.03, rtol=0.1)
    assert rms[2, 7] == pytest.approx(0.2, rel=0.1)
    assert rms[:2].max() < 0.1  # the other inputs have no part in it
    rms_by_output = figures.residuals_by_output(noisy).plots[0].marks[1].y
    assert rms_by_output == pytest.approx([0.077, 0.077], rel=0.1)
    still = judged(torch.ones(4, 1), torch.zeros(1, 4, 2), torch.ones(4, 2))
    rms, shots = figures.rms_by_input(still)
    assert np.isnan(rms[0, :7]).all()
    assert (rms[0, 7], shots[0, 7]) == (1, 4)


@pytest.mark.browser
@needs_chromium
def test_a_visitor_chooses_and_points(toy: Measured, tmp_path: Path) -> None:
    script = (Path(plotly.__file__).parent / "package_data" / "plotly.min.js").as_uri()
    drawn = [
        figure.to_html(full_html=False, include_plotlyjs=False)
        for figure in (
            figures.repeatability(toy.repeated).explore(),
            figures.response(toy.swept).explore(),
        )
    ]
    path = tmp_path / "page.html"
    head = f"<!doctype html><meta charset=utf-8><title>Figures</title><script src={script}>"
    path.write_text(head + "</script>" + "".join(drawn), encoding="utf-8")
    with lab_page(path.as_uri()) as lab:
        page = lab.page
        page.goto(lab.address)
        shots, sweeps = page.locator(".js-plotly-plot").all()
        shots.locator(".legendtoggle").nth(5).click()
        page.wait_for_function("plot => plot.data[5].visible === true", arg=shots.element_handle())
        sweeps.locator(".x2title", has_text="theta[7] (fraction of range)").wait_for()
        shots.evaluate("plot => Plotly.Fx.hover(plot, [{curveNumber: 5, pointNumber: 3}])")
        said = shots.locator(".hoverlayer").text_content()
        y, sd = (float(toy.repeated[name][5, 3]) for name in ("mean", "deviation"))
        value = f"{y:.4g}".replace("-", "−")
        label = "read-out y (fraction of full scale)"
        assert said == f"shot 5output: 3{label}: {value} ± {2 * sd:.2g} (2 SD)"
        assert not lab.errors
        assert not lab.outside
