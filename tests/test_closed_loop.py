"""Training in closed loop: gradients through time are exact where the twin is, and guards hold."""

import pytest
import torch
from torch import Tensor, nn

from pnnlab.errors import DeviceError, LimitError, PlantError, ReadoutError, ShapeError
from pnnlab.plants import Plant, PlantLimits
from pnnlab.training.closed_loop import roll_out

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
    ("command", "error"),
    [
        (torch.full((2, 1), 5.1), LimitError),
        (torch.full((2, 1), float("nan")), LimitError),
        (torch.zeros(3, 1), ShapeError),
    ],
)
def test_a_bad_command_is_not_sent_and_stops_the_plant(
    command: Tensor, error: type[Exception]
) -> None:
    plant = Cart()
    plant.reset(range(2))
    before = plant.stops
    with pytest.raises(error):
        plant.step(command)
    assert not plant.sent
    assert plant.stops > before
    with pytest.raises(PlantError, match="reset it"):
        plant.step(torch.zeros(2, 1))


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


def test_a_frozen_sensor_stops_the_plant() -> None:
    plant = Cart()
    plant.reset(range(2))
    plant.answer, before = (lambda state, _: state), plant.stops
    for _ in range(2):
        plant.step(torch.ones(2, 1))
    with pytest.raises(ReadoutError, match="frozen"):
        plant.step(torch.ones(2, 1))
    assert plant.stops > before


def test_a_state_that_is_not_finite_stops_the_plant() -> None:
    plant = Cart()
    plant.reset(range(2))
    plant.answer, before = (lambda state, _: state * float("nan")), plant.stops
    with pytest.raises(ReadoutError, match="not finite"):
        plant.step(torch.ones(2, 1))
    assert plant.stops > before


def test_a_reset_that_fails_stops_the_plant(monkeypatch: pytest.MonkeyPatch) -> None:
    plant = Cart()
    monkeypatch.setattr(plant, "_reset", lambda seeds: torch.full((len(seeds), 2), float("nan")))
    with pytest.raises(ReadoutError):
        plant.reset(range(2))
    assert plant.stops == 2  # before the reset, and after it failed
