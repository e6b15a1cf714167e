"""Training in closed loop: gradients through time are exact where the twin is, and guards hold."""

import copy
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from pnnlab.errors import DeviceError, RangeError, ReadoutError
from pnnlab.gradients import physics_aware
from pnnlab.layers import Rescale, calibrate
from pnnlab.plants import Plant, PlantLimits
from pnnlab.training import FitSettings, Training
from pnnlab.training.closed_loop import ClosedLoop, mean_cost, roll_out, starts
from pnnlab.training.training import MakeOptimizer

A = torch.tensor([[1.0, 0.1], [0.05, 0.95]])
B = torch.tensor([[0.0], [0.2]])


def linear(state: Tensor, command: Tensor) -> Tensor:
    return state @ A.T + command @ B.T


class Cart(Plant):
    """A linear plant that measures its state exactly."""

    quantities = "position (m)", "speed (m/s)"
    commands = ("force (N)",)
    step_s = 0.01
    real_time = False
    most_rows = None

    def __init__(self) -> None:
        super().__init__(PlantLimits(command=5.0, state=(4.0, 4.0), moves=1.0, frozen=3))
        self.sent: list[Tensor] = []
        self.stops = 0
        self.answer = linear

    def _reset(self, seeds: list[int]) -> Tensor:
        self.now = torch.tensor([[0.1 * (seed % 7) - 0.3, 0.1] for seed in seeds])
        return self.now.clone()

    def _step(self, command: Tensor) -> Tensor:
        self.sent.append(command)
        self.now = self.answer(self.now, command)
        return self.now.clone()

    def _stop(self) -> None:
        self.stops += 1


def quadratic(states: Tensor, commands: Tensor) -> Tensor:
    return states.square().sum(1) + 0.1 * commands.square().sum(1)


def controller(seed: int = 0) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(2, 1)


@pytest.mark.parametrize(("steps", "truncation"), [(1, None), (12, None), (12, 5)])
def test_gradients_through_time_are_those_of_the_plant_itself(
    steps: int, truncation: int | None
) -> None:
    plant, network = Cart(), controller()
    found = roll_out(network, plant, range(4), steps, twin=linear, truncation=truncation)
    sum(
        quadratic(s, u).mean() for s, u in zip(found.states[1:], found.commands, strict=True)
    ).backward()
    measured = [p.grad.clone() for p in network.parameters()]
    network.zero_grad()
    state, total = plant.reset(range(4)), torch.zeros(())
    for step in range(steps):
        if truncation and step % truncation == 0:
            state = state.detach()
        command = network(plant.scaled(state))
        state = linear(state, command)
        total = total + quadratic(state, command).mean()
    total.backward()
    for found_slope, parameter in zip(measured, network.parameters(), strict=True):
        assert torch.allclose(found_slope, parameter.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("raised", "seen"), [(KeyboardInterrupt, KeyboardInterrupt), (OSError, DeviceError)]
)
def test_a_step_that_fails_stops_the_plant(
    raised: type[BaseException], seen: type[BaseException]
) -> None:
    def fail(_state: Tensor, _command: Tensor) -> Tensor:
        raise raised

    plant = Cart()
    plant.reset(range(2))
    plant.answer, before = fail, plant.stops
    with pytest.raises(seen):
        plant.step(torch.zeros(2, 1))
    assert plant.stops > before
    assert not plant.inside.any()


def test_a_reset_that_fails_stops_the_plant(monkeypatch: pytest.MonkeyPatch) -> None:
    plant = Cart()
    monkeypatch.setattr(plant, "_reset", lambda seeds: torch.full((len(seeds), 2), float("nan")))
    with pytest.raises(ReadoutError):
        plant.reset(range(2))
    assert plant.stops == 2  # before the reset, and after it failed


def loop(
    network: nn.Module, plant: Plant, optimizer: MakeOptimizer = torch.optim.Adam, clip: float = 1.0
) -> Training:
    """A training in closed loop from four starts."""
    settings = FitSettings(epochs=12, batch_size=4, learning_rate=0.05, warmup=0, seed=1)
    method = partial(ClosedLoop, plant=plant, twin=linear, cost=quadratic, steps=8, clip=clip)
    law = nn.Linear(2, 1)
    task = starts(plant, 4, lambda s: law(s).detach())
    return Training(network, task, settings, method=method, optimizer=optimizer)


def test_with_one_step_it_is_physics_aware_training() -> None:
    """The same slopes as `physics_aware`, of a plant that its twin does not describe exactly."""

    def curved(state: Tensor, command: Tensor) -> Tensor:
        return linear(state, command) + 0.1 * state.sin()

    plant, network = Cart(), controller()
    plant.answer = curved
    found = roll_out(network, plant, range(4), 1, twin=linear)
    found.states[1].square().sum().backward()
    slopes = [p.grad.clone() for p in network.parameters()]
    network.zero_grad()
    state = plant.reset(range(4))
    value = physics_aware(curved, linear)(state, network(plant.scaled(state)))
    assert torch.equal(value, found.states[1])
    value.square().sum().backward()
    for slope, parameter in zip(slopes, network.parameters(), strict=True):
        assert torch.allclose(slope, parameter.grad, rtol=1e-6)


def test_a_controller_learns_to_bring_a_cart_to_rest() -> None:
    network, plant = controller(3), Cart()
    records = list(loop(network, plant).records())
    assert records[-1].loss < 0.8 * records[0].loss
    assert not plant.inside.any()


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_a_step_that_raises_the_cost_is_taken_back(optimizer: MakeOptimizer) -> None:
    """Afterwards the weights are those before it, moved by half of that step."""
    network, plant = controller(), Cart()
    training = loop(network, plant, optimizer=optimizer)
    before = parameters_to_vector(network.parameters()).detach().clone()
    steps = training.records()
    next(steps)
    moved = parameters_to_vector(network.parameters()).detach() - before
    assert moved.abs().min() > 0
    plant.answer = lambda state, command: 1.2 * linear(state, command)
    next(steps)
    halved = parameters_to_vector(network.parameters()).detach() - before
    rates = [training.settings.rate(step, training.steps) for step in range(2)]
    assert torch.allclose(halved, 0.5 * rates[1] / rates[0] * moved, rtol=1e-3, atol=1e-7)
    assert training.rate_scale == 0.5
    assert any("× 0.5" in message for _, message in training.notes)


def test_statistics_stay_in_closed_loop_and_gradients_are_clipped() -> None:
    network, plant = nn.Sequential(Rescale(2), controller()), Cart()
    calibrate(network, plant.scaled(plant.reset(range(6))))
    kept = {name: value.clone() for name, value in network.named_buffers()}
    training = loop(network, plant, clip=1e-3)
    next(training.records())
    slopes = [p.grad for p in network.parameters() if p.grad is not None]
    assert float(torch.stack([s.square().sum() for s in slopes]).sum().sqrt()) <= 1.001e-3
    for name, value in network.named_buffers():
        assert torch.equal(value, kept[name])


def test_a_resumed_training_ends_where_the_whole_one_does() -> None:
    whole, parts = controller(), controller()
    list(loop(whole, Cart()).records())
    first = loop(parts, Cart())
    for record in first.records():
        if record.step == 5:
            break
    saved = copy.deepcopy(first.state())
    other = controller(7)
    second = loop(other, Cart())
    second.restore(saved)
    list(second.records())
    for one, same in zip(whole.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, same)


def test_a_plant_that_fails_loses_nothing_of_a_training() -> None:
    """The plant is stopped, the weights are those of the last whole step, and it goes on."""
    network, plant = controller(), Cart()
    training = loop(network, plant)
    steps = training.records()
    next(steps)
    kept = [p.detach().clone() for p in network.parameters()]
    calls = 0

    def jam(state: Tensor, command: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return state * (float("nan") if calls > 3 else 1.0)

    plant.answer = jam
    with pytest.raises(ReadoutError, match="see to its sensors"):
        next(steps)
    assert not plant.inside.any()
    assert all(torch.equal(p, k) for p, k in zip(network.parameters(), kept, strict=True))
    plant.answer = linear
    assert [record.step for record in training.records()] == list(range(2, 13))


def test_a_row_that_left_stays_and_carries_no_gradient_on() -> None:
    """Its later states are that at which it left, so the gradient is that of a shorter roll-out."""
    grown = 3 * torch.eye(2)

    def grow(state: Tensor, command: Tensor) -> Tensor:
        return state @ grown + command @ B.T

    slopes = []
    for steps in (3, 9):
        plant, network = Cart(), controller()
        plant.answer = grow
        found = roll_out(network, plant, [0], steps, twin=grow)
        assert not found.inside[3:].any()
        assert torch.equal(found.states[3:], found.states[3].expand_as(found.states[3:]))
        assert not found.commands[3:].any()
        found.states[-1].square().sum().backward()
        slopes.append([p.grad for p in network.parameters()])
    assert all(torch.allclose(a, b) for a, b in zip(*slopes, strict=True))
    assert any(slope.abs().max() > 0 for slope in slopes[0])


def test_commands_are_clamped_to_the_limit_of_the_plant() -> None:
    plant, network = Cart(), controller()
    nn.init.constant_(network.bias, 100.0)
    found = roll_out(network, plant, [0, 1], 2)
    assert found.commands.unique().tolist() == [plant.limits.command]


def test_the_cost_is_that_of_all_steps() -> None:
    plant, network = Cart(), controller()
    found = roll_out(network, plant, [0, 1], 5)
    each = [quadratic(found.states[n + 1], found.commands[n]).mean() for n in range(5)]
    assert float(mean_cost(found, quadratic)) == pytest.approx(float(sum(each)) / 5)


def test_a_batch_of_some_starts_is_refused() -> None:
    plant = Cart()
    method = partial(ClosedLoop, plant=plant, twin=linear, cost=quadratic)
    task = starts(plant, 8, lambda s: s[:, :1])
    with pytest.raises(RangeError, match="all 8 of them"):
        Training(controller(), task, FitSettings(batch_size=4), method=method)


@pytest.mark.parametrize("given", [{"steps": 0}, {"steps": 2, "truncation": 0}])
def test_lengths_that_cannot_be_move_nothing(given: dict[str, int]) -> None:
    plant = Cart()
    with pytest.raises(RangeError):
        roll_out(controller(), plant, [0], **given)
    assert not plant.sent
