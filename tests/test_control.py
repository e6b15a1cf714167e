"""The study of controllers: its parts on exact answers, and that it goes on where it was."""

from pathlib import Path

import pytest
import torch
from torch import nn

from pnnlab.errors import RunError
from pnnlab.gradients import ideal
from pnnlab.layers import calibrate, on_device
from pnnlab.plants import Pendulum
from pnnlab.results import control
from pnnlab.results.control import (
    BOX,
    Amplifier,
    Balance,
    Controller,
    Exact,
    Samples,
    cost,
    read_study,
    study,
)


@pytest.fixture
def balance(monkeypatch: pytest.MonkeyPatch) -> Balance:
    monkeypatch.setattr(control, "UPRIGHT", 120)
    return Balance(0)


def constant(volts: float) -> nn.Module:
    """A controller that gives one voltage whatever the state is."""
    amplifier = Amplifier(4, 1)
    nn.init.zeros_(amplifier.weight)
    nn.init.constant_(amplifier.bias, volts / 6)
    return amplifier


def test_samples_span_the_box_and_clamp_beyond() -> None:
    plant = Pendulum()
    box = torch.tensor(BOX) * torch.tensor([[-1.0], [0.0], [0.5], [1.0], [2.0]])
    samples = Samples(plant, 2)(plant.scaled(box))
    assert samples.shape == (5, 8)
    assert torch.allclose(samples[:, 0], torch.tensor([0.0, 0.5, 0.75, 1.0, 1.0]))
    assert torch.allclose(samples, samples[:, :1].expand_as(samples), atol=1e-6)


def test_the_exact_controller_is_the_law_within_the_limit(balance: Balance) -> None:
    states = torch.tensor([[0.1, 0.02, 0.0, -0.1], [0.0, 0.4, 0.0, 0.0]])
    commands = Exact(balance.plant, balance.law)(balance.plant.scaled(states))
    assert torch.allclose(commands[0], -states[0] @ balance.gains[0], atol=1e-4)
    assert commands[1] == 6
    assert balance.law_error(Exact(balance.plant, balance.law)) < 1e-4


def test_the_error_of_a_law_is_in_volts(balance: Balance) -> None:
    targets = balance.task.test.targets
    expected = float((targets - 2).square().mean().sqrt())
    assert balance.law_error(constant(2.0)) == pytest.approx(expected, rel=1e-5)


def test_the_cost_is_that_of_the_law() -> None:
    states, commands = torch.tensor([[1.0, 2.0, 0.0, 3.0]]), torch.tensor([[2.0]])
    assert float(cost(states, commands)) == pytest.approx(5 + 4 + 0.45 + 0.2)


def test_who_does_nothing_survives_no_push_and_the_law_some(balance: Balance) -> None:
    assert balance.largest_push(constant(0.0), 1) == 0
    assert 1.5 <= balance.largest_push(Exact(balance.plant, balance.law), 1) <= 6
    fallen = balance.measure(constant(0.0), 4)
    assert fallen.upright < 1
    assert balance.measure(Exact(balance.plant, balance.law), 4).upright == 1


def test_a_fitted_amplifier_is_the_best_one(balance: Balance) -> None:
    network = balance.controller(ideal)
    calibrate(network, balance.task.train.x[:128])
    before = balance.law_error(network)
    balance.fit_amplifier(network)
    assert balance.law_error(network) < before
    *first, amplifier = network
    x, targets = balance.task.train.x[:500], balance.task.train.targets[:500]
    with torch.no_grad(), on_device(network):
        h = nn.Sequential(*first).eval()(x)
        error = amplifier(h) - targets
    assert float(error.mean().abs()) < 0.2
    assert float(torch.corrcoef(torch.cat([h, error], 1).T)[-1, :-1].abs().max()) < 0.2


def test_a_study_goes_on_with_the_next_unit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, balance: Balance
) -> None:
    asked: list[int] = []

    def controllers(balance: Balance) -> list[tuple[str, Controller]]:
        asked.append(balance.unit)
        if asked == [0, 1]:
            raise OSError("the disk is full")
        return [("nothing", Controller(constant(0.0), 7, 1.5))]

    monkeypatch.setattr(control, "controllers", controllers)
    monkeypatch.setattr(control, "STARTS", 2)
    monkeypatch.setattr(control, "PUSHES", (1.0,))
    path = tmp_path / "control.json"
    with pytest.raises(OSError, match="full"):
        study(path, range(2))
    assert [row["unit"] for row in read_study(path)] == [0]
    study(path, range(3))
    assert asked == [0, 1, 1, 2]
    rows = read_study(path)
    assert [row["unit"] for row in rows] == [0, 1, 2]
    assert {(row["passes"], row["plant_s"], row["method"]) for row in rows} == {(7, 1.5, "nothing")}
    assert study(path, range(3)) == path
    assert asked == [0, 1, 1, 2]


def test_the_stored_study_names_its_code() -> None:
    rows = read_study(Path(__file__).parents[1] / "notebooks" / "control.json")
    assert {row["method"] for row in rows} >= {"PAT", "noise-aware, fitted", "exact law, digital"}
    assert all(len(row["commit"]) == 40 for row in rows)


def test_a_damaged_study_is_refused(tmp_path: Path) -> None:
    stored = Path(__file__).parents[1] / "notebooks" / "control.json"
    path = tmp_path / "control.json"
    path.write_text(
        stored.read_text(encoding="utf-8").replace("0.4749", "0.0749"), encoding="utf-8"
    )
    with pytest.raises(RunError, match=r"checksum is wrong.* run notebook 11 again"):
        read_study(path)
