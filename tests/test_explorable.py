"""Figures to explore: the same numbers as the still ones, labelled, told on hover, and small."""

import inspect
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
from plotly import graph_objects as go
from toy import Toy

from pnnlab import characterize, twins
from pnnlab.characterize import Shots
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
from pnnlab.views import explorable, reports

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

    def figures(self) -> dict[str, go.Figure]:
        """Every function of `explorable`, called."""
        given = {
            "repeatability_figure": [self.repeated],
            "noise_figure": [self.repeated],
            "response_figure": [self.swept],
            "surface_figure": [self.swept],
            "memory_figure": [self.remembered],
            "drift_figure": [self.drifted],
            "fitting_figure": [self.records, 0.01],
        }
        return {
            name: getattr(explorable, name)(*given.get(name, self.judged))
            for name in explorable.__all__
        }


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
            shots=300,
            nmse=0.01,
            ceiling=0.001,
            verdict="usable",
            gradient=GradientAgreement(
                cosine=0.9, ceiling=1.0, relative_error=0.1, device=products, twin=products,
                device_passes=1,
            ),
            gap=DepthGap(free=(0.1,) * 9, local=(0.1,) * 9, noise=(0.01,) * 9, device_passes=1),
            held=Shots(x, x, y),
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
            NeuralRecord(
                epoch=n,
                epochs=1000,
                train=1 / n,
                validation=1 / n,
                best=True,
                seconds=1.0,
                seconds_left=1.0,
            )
            for n in range(1, 1001)
        ],
        judged=judged,
    )


def named(figure: go.Figure, name: str) -> list[go.Scatter]:
    return [trace for trace in figure.data if trace.name == name]


def test_every_figure_has_both_forms_under_one_name() -> None:
    assert explorable.__all__ == reports.__all__
    for name in explorable.__all__:
        still, live = (inspect.signature(getattr(room, name)) for room in (reports, explorable))
        assert still.parameters == live.parameters


def test_figures_are_labelled_and_small(toy: Measured) -> None:
    for name, figure in toy.figures().items():
        labelled(name, figure)
    for name, figure in large().figures().items():
        labelled(name, figure)
        size = len(figure.to_json())
        assert size < SMALL, f"{name} takes {size} bytes"


def labelled(name: str, figure: go.Figure) -> None:
    """A title of one line, words at every axis, and units under the pointer."""
    assert figure.layout.title.text, name
    assert "<br>" not in figure.layout.title.text
    if figure.layout.scene.xaxis.title.text:  # turned in space
        assert figure.layout.scene.zaxis.title.text
    else:
        for axis in figure.select_xaxes():
            assert axis.title.text, name
        assert next(figure.select_yaxes()).title.text, name
    for trace in figure.data:
        silent = trace.hoverinfo == "skip"
        assert silent or trace.hovertemplate.endswith("<extra></extra>"), (name, trace.name)
    assert figure.layout.template.layout.paper_bgcolor == "#FFFFFF"  # legible on every theme


def test_the_slider_changes_the_shot(toy: Measured) -> None:
    figure = explorable.repeatability_figure(toy.repeated, shot=2)
    (slider,) = figure.layout.sliders
    assert slider.steps[slider.active].label == "2"
    assert [t.name for t in figure.data if t.visible is True] == ["shot 2"]
    step = slider.steps[5]
    _, visible = step.args
    shown = [trace for trace, on in zip(figure.data, visible, strict=True) if on]
    assert [trace.name for trace in shown] == [f"shot {step.label}", "signal", "noise"]
    mean = toy.repeated["mean"].sel(shot=int(step.label))
    assert np.allclose(shown[0].y, mean)
    assert np.allclose(shown[0].error_y.array, 2 * toy.repeated["deviation"].sel(shot=5))
    assert f"{float(toy.repeated.signal_to_noise):.3g}" in figure.layout.title.text


def test_the_menu_changes_the_element(toy: Measured) -> None:
    figure = explorable.response_figure(toy.swept)
    (menu,) = figure.layout.updatemenus
    assert [button.label for button in menu.buttons] == ["x[1]", "theta[7]"]
    assert figure.layout.xaxis.title.text == "x[1] (fraction of range)"
    traces, axis = menu.buttons[1].args
    assert axis == {"xaxis.title.text": "theta[7] (fraction of range)"}
    on = [t for t, visible in zip(figure.data, traces["visible"], strict=True) if visible is True]
    assert len(on) == 3
    assert on[0].name == "output 1"  # 7 = 6 + 1: the only one that theta[7] moves
    assert np.allclose(on[0].y, toy.swept["mean"].sel(element="theta[7]", output=1))
    chosen = explorable.response_figure(toy.swept, outputs=[0])
    assert [t.name for t in chosen.data if t.visible is True] == ["output 0"]


def test_a_surface_can_be_turned(toy: Measured) -> None:
    figure = explorable.surface_figure(toy.swept, "theta[7]")
    (surface,) = figure.data
    curves = toy.swept.sel(element="theta[7]")
    assert np.allclose(surface.z, curves["mean"])
    assert np.allclose(np.transpose(surface.customdata), curves["deviation"])
    assert "theta[7]" in figure.layout.title.text
    with pytest.raises(ShapeError, match=r"x\[9\] was not swept; choose from x\[1\], theta\[7\]"):
        explorable.surface_figure(toy.swept, "x[9]")


def test_noise_memory_and_drift_say_what_was_measured(toy: Measured) -> None:
    figure = explorable.noise_figure(toy.repeated)
    floor = float(toy.repeated["noise_floor"])
    assert f"{floor:.3g}" in figure.layout.title.text
    assert named(figure, "noise floor")[0].y == (floor, floor)
    (dots,) = named(figure, "one output of one shot")
    shot, output = dots.customdata[11]
    assert dots.x[11] == np.float32(toy.repeated["mean"][shot, output])
    assert dots.y[11] == np.float32(toy.repeated["deviation"][shot, output])

    figure = explorable.memory_figure(toy.remembered)
    assert f"Memory of {int(toy.remembered.length)} input" in figure.layout.title.text
    assert np.allclose(figure.data[0].z, toy.remembered["jacobian"])
    assert named(figure, f"memory: {int(toy.remembered.length)}")

    figure = explorable.drift_figure(toy.drifted, outputs=2)
    lines = [trace for trace in figure.data if trace.visible is True]
    assert len(lines) == 2
    assert lines[0].x[-1] == 1000
    output = int(lines[0].name.removeprefix("output "))
    change = toy.drifted["mean"] - toy.drifted["mean"][0]
    assert np.allclose(lines[0].y, change.sel(output=output))
    assert len(figure.data) == 6  # the others wait in the legend
    assert len(figure.layout.shapes) == 2


def test_twins_stand_side_by_side(toy: Measured) -> None:
    raw, fitted = toy.judged
    figure = explorable.parity_figure(raw, fitted)
    dots = [trace for trace in figure.data if trace.mode == "markers"]
    assert len(dots) == 2
    shot, output = dots[1].customdata[7]
    assert dots[1].x[7] == fitted.device[shot, output]
    assert dots[1].y[7] == fitted.modelled[shot, output]
    figure = explorable.gradient_figure(raw, fitted)
    assert f"{fitted.gradient.cosine:.3f}" in figure.layout.annotations[1].text
    figure = explorable.residual_output_figure(raw, fitted)
    by_name = {trace.name: trace for trace in figure.data}
    assert list(by_name) == ["device: signal", raw.twin, "device: noise"]  # both twins are neural
    figure = explorable.residual_input_figure(fitted)
    assert figure.data[0].z.shape == (6, 8)
    figure = explorable.gap_figure(fitted)
    assert fitted.gap is not None
    free, local, noise = figure.data
    assert np.allclose(free.y, fitted.gap.free)
    assert np.allclose(local.y, fitted.gap.local)
    assert np.allclose(noise.y, fitted.gap.noise)
    figure = explorable.fitting_figure(toy.records)
    assert np.allclose(figure.data[1].y, [record.validation for record in toy.records])
    assert len(explorable.fitting_figure(toy.records, 0.1).data) == 3


@pytest.mark.parametrize(
    "draw", [explorable.parity_figure, explorable.residual_figure, explorable.gap_figure]
)
def test_nothing_to_draw_is_refused(draw: Callable[..., go.Figure]) -> None:
    with pytest.raises(ShapeError, match="there is no report to draw"):
        draw()


def test_a_report_without_a_ceiling_can_be_drawn() -> None:
    system = Toy(inputs=3, outputs=2)
    data = characterize.collect(system, 50, seed=0, repeats=1)
    report = twins.report(system, NeuralTwin(system, Mlp((4,))), data)
    assert math.isnan(report.ceiling)
    assert "ceiling" not in explorable.parity_figure(report).layout.title.text
    assert not named(explorable.residual_figure(report), "noise alone")
    assert not named(explorable.residual_output_figure(report), "device: noise")


@pytest.mark.browser
@needs_chromium
def test_a_visitor_chooses_and_points(toy: Measured, tmp_path: Path) -> None:
    script = (Path(plotly.__file__).parent / "package_data" / "plotly.min.js").as_uri()
    drawn = [
        figure.to_html(full_html=False, include_plotlyjs=False)
        for figure in (
            explorable.repeatability_figure(toy.repeated, shot=2),
            explorable.response_figure(toy.swept),
        )
    ]
    path = tmp_path / "page.html"
    head = f"<!doctype html><meta charset=utf-8><title>Figures</title><script src={script}>"
    path.write_text(head + "</script>" + "".join(drawn), encoding="utf-8")
    with lab_page(path.as_uri()) as lab:
        page = lab.page
        page.goto(lab.address)
        shots, sweeps = page.locator(".js-plotly-plot").all()
        shots.locator(".slider-rail-touch-rect").click(position={"x": 2, "y": 5})
        shots.locator(".slider-current-value, .slider-label", has_text="shot 0").wait_for()
        shots.evaluate("plot => Plotly.Fx.hover(plot, [{curveNumber: 0, pointNumber: 3}])")
        said = shots.locator(".hoverlayer").text_content()
        assert said is not None
        assert said.startswith("output 3y = ")
        assert said.endswith("of full scale")

        sweeps.locator(".updatemenu-header").click()
        sweeps.locator(".updatemenu-dropdown-button").nth(1).click()
        sweeps.locator(".xtitle", has_text="theta[7] (fraction of range)").wait_for()
        assert not lab.errors
        assert not lab.outside
