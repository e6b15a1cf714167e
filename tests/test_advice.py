"""Errors of twins at the drives of a network, against twins whose error is known."""

import math

import pytest
import torch
from torch import Tensor, nn

import pnnlab as pnn
from pnnlab.errors import TwinError
from pnnlab.gradients import physics_aware
from pnnlab.layers import calibrate, deep_pnn
from pnnlab.training import advice
from pnnlab.training.advice import LocalErrors, local_errors
from pnnlab.training.local import measured_only

OFFSET, NOISE, SLOPE = 0.03, 0.01, 1.2


def clean(x: Tensor, theta: Tensor) -> Tensor:
    return 0.1 + 0.5 * x * theta


class Shifted(nn.Module):
    def forward(self, x: Tensor, theta: Tensor) -> Tensor:
        return clean(x, theta) + OFFSET


class Steeper(nn.Module):
    def forward(self, x: Tensor, theta: Tensor) -> Tensor:
        return 0.1 + 0.5 * SLOPE * x * theta


class Noisy(pnn.PhysicalSystem):
    def __init__(self) -> None:
        super().__init__(6, 6, 6)
        self.generator = torch.Generator().manual_seed(0)

    def _measure(self, x: Tensor, theta: Tensor) -> Tensor:
        y = clean(x, theta)
        return y + NOISE * torch.randn(y.shape, generator=self.generator)


@pytest.fixture
def inputs() -> Tensor:
    return torch.rand(4000, 6, generator=torch.Generator().manual_seed(1))


def network(
    system: pnn.PhysicalSystem, x: Tensor, layers: int = 1, twin: nn.Module | None = None
) -> nn.Module:
    made = deep_pnn(system, twin or Shifted(), physics_aware, layers=layers, classes=3)
    calibrate(made, x)
    return made


def test_errors_and_noise_are_those_of_a_twin_with_a_known_offset(inputs: Tensor) -> None:
    system = Noisy()
    made = network(system, inputs)
    found = local_errors(made, inputs)
    theta = next(p for name, p in made.named_parameters() if name.endswith("theta")).detach()
    signal = float((0.5 * theta).square().mean()) / 12  # variance of a uniform input is 1/12
    assert found.errors[0] == pytest.approx(OFFSET**2 / signal, rel=0.05)
    assert found.over_noise[0] == pytest.approx((OFFSET / NOISE) ** 2, rel=0.05)


def test_a_constant_offset_is_no_error_of_what_the_parameters_change(inputs: Tensor) -> None:
    found = local_errors(network(Noisy(), inputs), inputs)
    assert found.parameter_errors[0] < 1e-3


def test_a_wrong_slope_is_an_error_of_what_the_parameters_change(inputs: Tensor) -> None:
    found = local_errors(network(Noisy(), inputs, twin=Steeper()), inputs)
    assert found.parameter_errors[0] == pytest.approx((SLOPE - 1) ** 2, rel=0.1)


@pytest.mark.parametrize(
    ("errors", "suggested"),
    [
        ((0.25, 0.24), "in silico with noise"),
        ((0.25, 0.26), "PAT"),
        ((0.6, 0.69), "PAT"),
        ((0.6, 0.71), "a better twin first"),
        ((math.inf,), "a better twin first"),
    ],
)
def test_the_suggestion_follows_the_sum_over_the_layers(
    errors: tuple[float, ...], suggested: str
) -> None:
    assert LocalErrors(errors, errors, errors, 0).suggestion == suggested


def test_a_device_without_noise_has_no_floor(inputs: Tensor) -> None:
    made = network(pnn.device(clean, inputs=6, parameters=6, outputs=6), inputs)
    found = local_errors(made, inputs)
    assert found.over_noise == (math.inf,)


def test_each_layer_is_driven_five_times_and_the_network_is_left_as_it_is(inputs: Tensor) -> None:
    system = Noisy()
    made = network(system, inputs, layers=3)
    before = {name: value.clone() for name, value in made.state_dict().items()}
    passes = system.passes
    found = local_errors(made, inputs[:100])
    assert len(found.errors) == 3
    assert found.device_passes == system.passes - passes == 3 * 5 * 100
    assert made.training
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())


def test_shots_of_many_parameters_are_taken_a_few_at_a_time(
    inputs: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(advice, "MOST_PARAMETERS", 6 * 300)
    rows = []

    def measure(x: Tensor, theta: Tensor) -> Tensor:
        rows.append(len(theta) if theta.ndim > 1 else 0)
        return clean(x, theta)

    system = pnn.device(measure, inputs=6, parameters=6, outputs=6)
    found = local_errors(network(system, inputs, twin=Steeper()), inputs)
    assert found.parameter_errors[0] == pytest.approx((SLOPE - 1) ** 2, rel=0.01)
    assert max(rows) == 300
    assert sum(rows) == 2 * len(inputs)


def test_a_layer_without_a_twin_is_refused() -> None:
    system = pnn.device(clean, inputs=6, parameters=6, outputs=6)
    made = deep_pnn(system, None, measured_only, classes=3)
    with pytest.raises(TwinError, match="have a twin"):
        local_errors(made, torch.rand(4, 6))
