"""Manual control: a drive is changed by hand, checked, and repeated by the code."""

import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from toy import Toy, ToyTwin, toy_response

from pnnlab.characterize.manual_control import ManualControl, presets
from pnnlab.errors import RangeError, ShapeError
from pnnlab.physical_system import PhysicalSystem
from pnnlab.systems import SHG, Circuit, Oscillators, Plate

SMALL: dict[str, Callable[[], PhysicalSystem]] = {
    "circuit": lambda: Circuit(3, input_dim=8, replays=2, output_dim=4),
    "shg": lambda: SHG(2, trained="amplitudes", input_dim=20, output_dim=10),
    "plate": lambda: Plate(3, input_dim=8, output_dim=4, tolerance=0.02),
    "oscillators": lambda: Oscillators(5, unit=3, output_dim=2, high=0.5),
}


def test_it_begins_in_the_middle_and_copies_what_it_gives() -> None:
    control = ManualControl(Toy())
    assert (control.x == 0.5).all()
    assert (control.theta == 0.5).all()
    control.x[0] = 1.0
    assert control.x[0] == 0.5
    x = torch.rand(6)
    begun = ManualControl(Toy(), x=x)
    x[0] = 2.0
    assert begun.x[0] <= 1


def test_a_look_tells_mean_noise_and_twin_and_counts_its_shots() -> None:
    system = Toy(noise=0.05, drift=0)
    control = ManualControl(system, ToyTwin(), repeats=400)
    control.draw("x", 2, torch.tensor([0.9]))
    control.draw("theta", 3, torch.tensor([0.1, 0.9]))
    seen = control.measure()
    truth = toy_response(control.x[None], control.theta, 1.1)[0]
    np.testing.assert_allclose(seen.mean, truth, atol=5 * 0.05 / 20)
    assert seen.noise == pytest.approx(0.05, rel=0.1)
    modelled = toy_response(control.x[None], control.theta, 1.0)[0]
    np.testing.assert_allclose(seen.modelled, modelled, rtol=1e-6)
    assert seen.gap == pytest.approx(float((modelled - seen.mean).square().mean().sqrt()))
    assert control.passes == system.passes == seen.shots == 400


def test_without_a_twin_there_is_no_gap() -> None:
    assert np.isnan(ManualControl(Toy()).measure().gap)


@pytest.mark.parametrize(
    "refused",
    [
        lambda control: control.draw("x", 1, torch.tensor([1.01])),
        lambda control: control.draw("theta", 1, torch.tensor([-0.01])),
        lambda control: control.draw("x", 1, torch.tensor([float("nan")])),
        lambda control: control.draw("x", 4, torch.tensor([0.1, 0.2, 0.3])),
        lambda control: control.draw("x", -1, torch.tensor([0.1])),
        lambda control: control.sweep("x[6]"),
        lambda control: control.sweep("z[0]"),
        lambda control: control.begin("x", torch.rand(7)),
        lambda control: control.exchange(Toy(inputs=5)),
    ],
)
def test_what_is_refused_changes_nothing_and_drives_nothing(refused) -> None:
    system = Toy()
    control = ManualControl(system)
    with pytest.raises((RangeError, ShapeError)):
        refused(control)
    assert (control.x == 0.5).all()
    assert (control.theta == 0.5).all()
    assert control.system is system
    assert system.passes == 0


def test_a_sweep_is_a_response_curve_with_the_twin_beside_it() -> None:
    control = ManualControl(
        Toy(noise=0, drift=0), ToyTwin(), x=torch.linspace(0, 1, 6), theta=torch.rand(36)
    )
    seen = control.sweep("x[2]", points=5, repeats=3)
    assert seen.attrs["device_passes"] == control.passes == 15
    x = control.x.repeat(5, 1)
    x[:, 2] = torch.linspace(0, 1, 5)
    for name, strength in (("mean", 1.1), ("modelled", 1.0)):
        expected = toy_response(x, control.theta, strength)
        np.testing.assert_allclose(seen[name].sel(element="x[2]"), expected, rtol=1e-5)
    assert "modelled" not in ManualControl(Toy()).sweep("theta[35]", points=2, repeats=2)


def test_another_unit_goes_on_with_the_same_drive_and_count() -> None:
    control = ManualControl(Toy(seed=0))
    control.draw("x", 0, torch.tensor([0.25]))
    control.measure()
    other = Toy(seed=1)
    control.exchange(other)
    control.measure()
    assert control.x[0] == 0.25
    assert (other.passes, control.passes) == (8, 16)


@pytest.mark.parametrize("make", SMALL.values(), ids=SMALL)
def test_the_code_repeats_what_the_hands_did_shot_for_shot(make) -> None:
    control = ManualControl(make(), x=torch.rand(make().input_dim))
    control.begin("theta", *presets(make().param_dim, seed=4)["Random"])
    control.draw("theta", 2, torch.tensor([0.25, 0.125]))
    control.draw("x", 1, torch.tensor([0.7]))
    seen = control.measure()
    again: dict[str, torch.Tensor] = {}
    exec(control.code(), again)
    assert torch.equal(again["x"], control.x)
    assert torch.equal(again["theta"], control.theta)
    # A new unit of the same number and seed: the same noise too.
    torch.testing.assert_close(again["mean"].double(), seen.mean, rtol=0, atol=1e-6)
    assert max(len(line) for line in control.code().splitlines()) <= 100


def test_the_code_of_a_sweep_sweeps() -> None:
    control = ManualControl(Circuit(1, input_dim=8, replays=1, output_dim=4, drift=False))
    seen = control.sweep("theta[5]", points=3, repeats=2)
    again: dict = {}
    exec(control.code(), again)
    np.testing.assert_allclose(again["curves"]["mean"], seen["mean"], atol=1e-6)
    assert "drift" in control.code().split("system =")[0], "what a unit does not tell is named"


def test_a_device_that_cannot_be_built_is_called_by_its_name() -> None:
    bench = Toy(noise=0, drift=0)
    control = ManualControl(bench, variable="bench")
    seen = control.measure()
    again = {"bench": bench}
    exec(control.code(), again)
    assert again["system"] is bench
    torch.testing.assert_close(again["mean"].double(), seen.mean, atol=1e-6, rtol=0)


def test_a_construction_says_only_what_differs() -> None:
    assert "\nsystem = Circuit(unit=2)\n" in ManualControl(Circuit(2)).code()
    code = ManualControl(SHG(0, phase_range=1.5)).code()
    assert "\nsystem = SHG(unit=0, phase_range=1.5)\n" in code
    assert "does not show its noise, drift, imperfections, seed:" in code
    assert "pnnlab" not in ManualControl(Toy()).code()


@pytest.mark.parametrize("width", [0, 1, 2, 50])
def test_presets_are_what_their_code_says_and_legal(width: int) -> None:
    for values, code in presets(width, seed=3).values():
        assert torch.equal(eval(code, {"torch": torch}), values)
        assert values.shape == (width,)
        assert ((values >= 0) & (values <= 1)).all()


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({}, ["x = torch.full((8,), 0.5)"]),
        ({3: 0.1}, ["x = torch.full((8,), 0.5)", "x[3] = 0.1"]),
        ({6: 0.0, 7: 0.0}, ["x = torch.full((8,), 0.5)", "x[6:8] = 0.0"]),
        (
            {0: 0.1, 1: 0.2, 4: 1.0},
            ["x = torch.full((8,), 0.5)", "x[0:2] = torch.tensor([0.1, 0.2])", "x[4] = 1.0"],
        ),
        (dict.fromkeys(range(8), 0.25), ["x = torch.full((8,), 0.25)"]),
    ],
)
def test_changes_are_written_briefly(changes: dict[int, float], lines: list[str]) -> None:
    control = ManualControl(Toy(inputs=8))
    for at, value in changes.items():
        control.draw("x", at, torch.tensor([value]))
    assert [line for line in control.code().splitlines() if re.match(r"x\W", line)] == lines


def test_numbers_of_others_are_written_whole_and_exactly() -> None:
    values = torch.rand(300, generator=torch.Generator().manual_seed(0))
    control = ManualControl(Toy(inputs=300, outputs=1), x=values)
    again = {"system": control.system}
    exec(control.code(), again)
    assert torch.equal(again["x"], values)
    assert max(map(len, control.code().splitlines())) <= 100
