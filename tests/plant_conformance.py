"""One suite that every plant passes, simulated or real.

Subclass `PlantConformance` in a test module and supply `make_plant`. A real plant supplies a
`command` that is safe for it.
"""

from abc import ABC, abstractmethod

import pytest
import torch
from torch import Tensor

from pnnlab.errors import LimitError, PlantError, RangeError, ReadoutError, ShapeError
from pnnlab.plants import Plant


class PlantConformance(ABC):
    """What may be relied on of any plant."""

    simulated = True
    steps = 20

    @abstractmethod
    def make_plant(self) -> Plant:
        """A plant as a session finds it; twice the same, if simulated."""

    @pytest.fixture
    def plant(self) -> Plant:
        return self.make_plant()

    @pytest.fixture
    def seeds(self, plant: Plant) -> range:
        return range(plant.most_rows or 3)

    def command(self, plant: Plant, state: Tensor) -> Tensor:
        """Commands that keep a plant within its limits for a few steps."""
        return torch.zeros(len(state), len(plant.commands))

    def test_it_starts_and_goes_on_within_its_limits(self, plant, seeds):
        state = plant.reset(seeds)
        for _ in range(self.steps):
            assert state.shape == (len(seeds), len(plant.quantities))
            assert state.dtype == torch.float32
            assert state.isfinite().all()
            state = plant.step(self.command(plant, state))
        assert plant.inside.all()
        assert plant.passes == self.steps * len(seeds)
        plant.stop()

    def test_a_seed_is_a_start(self, plant):
        if not self.simulated:
            return
        other = self.make_plant()
        one, same = plant.reset([3, 4, 3]), other.reset([3, 4, 3])
        assert torch.equal(one, same)
        assert torch.equal(one[0], one[2])
        assert not torch.equal(one[0], one[1])
        for _ in range(self.steps):
            command = self.command(plant, one)
            one, same = plant.step(command), other.step(command)
            assert torch.equal(one, same)

    def test_rows_do_not_know_of_each_other(self, plant):
        if plant.most_rows is not None:
            return
        alone = self.make_plant()
        both, single = plant.reset([1, 2]), alone.reset([2])
        for _ in range(self.steps):
            command = self.command(plant, both)
            both, single = plant.step(command), alone.step(command[1:])
            assert torch.allclose(both[1:], single, atol=1e-6)

    def test_what_it_gave_is_not_changed_by_the_next_step(self, plant, seeds):
        state = plant.reset(seeds)
        kept = state.clone()
        plant.step(self.command(plant, state) + plant.limits.command / 10)
        assert torch.equal(state, kept)

    def test_it_takes_a_command_at_its_limit(self, plant, seeds):
        state = plant.reset(seeds)
        plant.step(torch.full_like(self.command(plant, state), plant.limits.command))
        plant.stop()

    @pytest.mark.parametrize(
        ("spoiled", "error"),
        [
            (lambda command: command + float("nan"), LimitError),
            (lambda command: command - float("inf"), LimitError),
            (lambda command: command + 1e3, LimitError),
            (lambda command: command[:, :0], ShapeError),
            (lambda command: torch.cat([command, command]), ShapeError),
            (lambda command: command.long(), ShapeError),
        ],
        ids=["nan", "infinite", "too large", "no column", "rows", "whole numbers"],
    )
    def test_a_bad_command_is_not_sent_and_stops_it(
        self, plant, seeds, monkeypatch, spoiled, error
    ):
        state, calls = plant.reset(seeds), []
        monkeypatch.setattr(plant, "_step", lambda _: pytest.fail("sent"))
        monkeypatch.setattr(plant, "_stop", lambda: calls.append("stop"))
        with pytest.raises(error):
            plant.step(spoiled(self.command(plant, state)))
        assert calls == ["stop"]
        with pytest.raises(PlantError, match="reset it"):
            plant.step(self.command(plant, state))

    def test_it_does_nothing_before_a_reset_and_after_a_stop(self, plant, seeds):
        plant.stop()
        with pytest.raises(PlantError, match="reset it"):
            plant.step(torch.zeros(0, len(plant.commands)))
        state = plant.reset(seeds)
        plant.stop()
        plant.stop()
        with pytest.raises(PlantError, match="reset it"):
            plant.step(self.command(plant, state))
        assert plant.passes == 0

    @pytest.mark.parametrize("seeds", [[], [-1], [0.5]])
    def test_bad_seeds_move_nothing(self, plant, seeds):
        with pytest.raises(RangeError):
            plant.reset(seeds)
        assert not plant.inside.any()

    def test_a_row_that_leaves_its_limits_gets_no_command(self, plant, seeds, monkeypatch):
        state, sent = plant.reset(seeds), []
        outside = state * 0.9
        outside[-1] = 2 * state.new_tensor(plant.limits.state)

        def step(command: Tensor) -> Tensor:
            sent.append(command)
            return outside

        monkeypatch.setattr(plant, "_step", step)
        driven = self.command(plant, state) + plant.limits.command / 10
        answer = plant.step(driven)
        assert torch.equal(answer, outside)
        assert plant.inside.tolist() == [True] * (len(seeds) - 1) + [False]
        assert plant.quantities[0] in plant.why_outside(len(seeds) - 1)
        outside = outside * float("nan")  # what a row outside measures does not matter
        outside[:-1] = state[:-1]
        if len(seeds) > 1:
            assert torch.equal(plant.step(driven)[-1], answer[-1])
            assert not sent[1][-1].any()
            assert sent[1][:-1].all()

    def test_a_frozen_sensor_stops_it(self, plant, seeds, monkeypatch):
        state = plant.reset(seeds)
        monkeypatch.setattr(plant, "_step", lambda _: state.clone())
        command = torch.full((len(seeds), len(plant.commands)), plant.limits.moves)
        for _ in range(plant.limits.frozen - 1):
            plant.step(command)
        with pytest.raises(ReadoutError, match="frozen"):
            plant.step(command)
        assert not plant.inside.any()

    def test_limits_span_the_unit_interval(self, plant):
        ends = torch.tensor(plant.limits.state) * torch.tensor([[-1.0], [0.0], [1.0]])
        assert torch.allclose(
            plant.scaled(ends), torch.tensor([[0.0], [0.5], [1.0]]).expand_as(ends)
        )

    def test_global_random_numbers_are_not_touched(self, plant, seeds):
        before = torch.get_rng_state()
        plant.step(self.command(plant, plant.reset(seeds)))
        assert torch.equal(torch.get_rng_state(), before)
