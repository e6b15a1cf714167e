"""Pictures of characterization and twins: they show the numbers they were given, in words."""

import io
import math

import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from toy import Toy

from pnnlab import characterize, twins
from pnnlab.errors import ShapeError
from pnnlab.twins import Mlp, NeuralRecord, NeuralSettings, NeuralTwin, TwinReport
from pnnlab.views import reports
from pnnlab.views.style import Picture


def drawn(picture: Picture) -> Figure:
    """What every picture must have: a PNG, and words at every axis that carries numbers."""
    with Image.open(io.BytesIO(picture._repr_png_())) as image:
        assert image.size[0] > 400
    for axes in picture.figure.axes:
        if axes.get_label() != "<colorbar>":
            assert axes.get_title() or axes.get_title("left")
            assert axes.get_xlabel()
    assert any(axes.get_ylabel() for axes in picture.figure.axes)
    return picture.figure


@pytest.fixture(scope="module")
def system() -> Toy:
    return Toy(noise=0.03)


@pytest.fixture(scope="module")
def judged(system: Toy) -> tuple[TwinReport, TwinReport, list[NeuralRecord]]:
    data = characterize.collect(system, 300, seed=0)
    twin = NeuralTwin(system, Mlp((16,)))
    raw = twins.report(system, twin, data)
    records = list(twins.fitting_neural(twin, data, NeuralSettings(epochs=3)))
    return raw, twins.report(system, twin, data), records


def test_measurements_are_drawn(system: Toy) -> None:
    generator = torch.Generator().manual_seed(0)
    x, theta = torch.rand(8, 6, generator=generator), torch.rand(36, generator=generator)
    seen = characterize.repeatability(system, x, theta, repeats=4)
    left, right = drawn(reports.repeatability_figure(seen, shot=2)).axes
    assert left.lines[0].get_ydata().tolist() == seen["mean"][2].values.tolist()
    assert f"{float(seen.signal_to_noise):.3g}" in right.get_title("left")

    seen = characterize.drift(system, x[0], theta, shots=1000, every=100)
    (axes,) = drawn(reports.drift_figure(seen)).axes
    assert len(axes.lines) == 4
    assert axes.lines[0].get_xdata()[-1] == 1000

    seen = characterize.memory(system, x, theta)
    _, fading, _ = drawn(reports.memory_figure(seen)).axes
    assert f"memory: {int(seen.length)}" in [t.get_text() for t in fading.get_legend().get_texts()]


def test_response_curves_are_drawn(system: Toy) -> None:
    x, theta = torch.full((6,), 0.5), torch.full((36,), 0.6)
    seen = characterize.response_curves(system, x, theta, inputs=[1], parameters=[7], points=5)
    first, second = drawn(reports.response_figure(seen)).axes
    assert (first.get_xlabel()[:4], second.get_xlabel()[:8]) == ("x[1]", "theta[7]")
    assert "output 1" in [t.get_text() for t in second.get_legend().get_texts()]  # 7 = 6 + 1
    chosen = drawn(reports.response_figure(seen, outputs=[0])).axes[0]
    assert len(chosen.lines) == 1
    mapped = drawn(reports.surface_figure(seen, "theta[7]")).axes[0]
    assert "theta[7]" in mapped.get_title("left")
    values = mapped.collections[0].get_array()
    assert values.ravel().tolist() == seen["mean"].sel(element="theta[7]").values.ravel().tolist()
    with pytest.raises(ShapeError, match=r"x\[9\] was not swept; choose from x\[1\], theta\[7\]"):
        reports.surface_figure(seen, "x[9]")


def test_reports_are_drawn_side_by_side(
    judged: tuple[TwinReport, TwinReport, list[NeuralRecord]],
) -> None:
    raw, fitted, records = judged
    for draw in (reports.parity_figure, reports.residual_figure, reports.gradient_figure):
        assert len(drawn(draw(raw, fitted)).axes) == 2
        assert len(drawn(draw(fitted)).axes) == 1
    cosine = drawn(reports.gradient_figure(raw, fitted)).axes[1].get_title("left")
    assert f"{fitted.gradient.cosine:.3f}" in cosine
    free, local = drawn(reports.gap_figure(raw, fitted)).axes
    assert fitted.gap is not None
    assert free.lines[1].get_ydata().tolist() == list(fitted.gap.free)
    assert local.lines[1].get_ydata().tolist() == list(fitted.gap.local)
    (axes,) = drawn(reports.fitting_figure(records, fitted.ceiling)).axes
    assert axes.lines[1].get_ydata().tolist() == [r.validation for r in records]
    with pytest.raises(ShapeError, match="no report"):
        reports.parity_figure()
    with pytest.raises(ShapeError, match="chained"):
        reports.gap_figure()


def test_a_report_without_a_ceiling_can_be_drawn() -> None:
    system = Toy(inputs=3, outputs=2)
    data = characterize.collect(system, 50, seed=0, repeats=1)
    report = twins.report(system, NeuralTwin(system, Mlp((4,))), data)
    assert math.isnan(report.ceiling)
    drawn(reports.residual_figure(report))
    drawn(reports.parity_figure(report))
