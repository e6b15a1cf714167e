"""Drift and refitting, on toys whose change is known exactly."""

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from toy import Toy, ToyTwin, toy_response

from pnnlab import characterize
from pnnlab.errors import InstrumentError, RangeError, TwinError
from pnnlab.gradients import physics_aware
from pnnlab.layers import PhysicalLayer, Shots
from pnnlab.training import (
    Reference,
    advice,
    reference_passes,
    refit,
    refit_passes,
    take_references,
)
from pnnlab.twins import Mlp, NeuralSettings, NeuralTwin, PhysicsTwin, Twin, fit_neural
from pnnlab.twins.physics import Equations
from pnnlab.twins.twin import Described


@dataclass(frozen=True)
class ToyConstants:
    strength: float = 1.0


@dataclass(frozen=True)
class ToyEquations(Equations):
    """The toy's own equation: its strength is the one constant."""

    nominal: ClassVar[ToyConstants] = ToyConstants()
    free: ClassVar[tuple[str, ...]] = ("strength",)

    def check(self, system: Described) -> None:
        pass

    def __call__(self, x: Tensor, theta: Tensor, constants: Any, output_dim: int) -> Tensor:
        return toy_response(x, theta, constants.strength)


def drives(n: int, system: Toy) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(n, system.input_dim, generator=generator), torch.rand(
        system.param_dim, generator=generator
    )


def make_layer(system: Toy, twin: Twin) -> PhysicalLayer:
    return PhysicalLayer(system, twin, physics_aware, seed=4)


# --- drift ----------------------------------------------------------------------------------------


def test_drift_without_noise_is_the_change_itself() -> None:
    system = Toy(noise=0.0, drift=0.0)
    x, theta = drives(50, system)
    reference = Reference.take(system, x, theta, repeats=2)
    assert system.passes == 100
    same = reference.compare()
    assert (same.rms, same.nmse, same.device_passes) == (0.0, 0.0, 100)
    assert not same.significant

    system.drift, system.shots = 1e-9, 300_000_000  # 0.3 more, and none while it is measured
    then, now = (toy_response(x, theta, strength).double() for strength in (1.1, 1.4))
    moved = reference.compare()
    assert moved.rms == pytest.approx(float((now - then).square().mean().sqrt()), rel=1e-4)
    spread = then.var(0, correction=0).mean()
    assert moved.nmse == pytest.approx(float((now - then).square().mean() / spread), rel=1e-4)
    assert moved.significant


def test_noise_is_not_taken_for_drift() -> None:
    looks = []
    for seed in range(20):
        system = Toy(noise=0.05, drift=0.0, seed=seed)
        reference = Reference.take(system, *drives(50, system))
        looks.append(reference.compare())
    assert not any(look.significant for look in looks)
    assert all(look.detectable < 0.05 for look in looks)

    system.drift = 1e-3  # a gain that rises by 0.2 while it is looked at, and has by 0.4 before
    system.shots = 400
    assert reference.compare().significant


def test_a_reference_keeps_its_place_when_the_parameters_move_on() -> None:
    system = Toy(noise=0.0, drift=0.0)
    x, theta = drives(10, system)
    reference = Reference.take(system, x, theta)
    theta += 0.1
    x.zero_()
    assert reference.compare().rms == 0.0


def test_every_layer_of_a_network_is_remembered_where_it_works() -> None:
    systems = Toy(4, 2, 0.0, 0.0), Toy(6, 5, 0.0, 0.0)
    layers = [PhysicalLayer(s, ToyTwin(s.input_dim, s.output_dim), physics_aware) for s in systems]
    network = nn.Sequential(Shots(layers[0], 3), nn.Sigmoid(), layers[1])
    x = torch.rand(10, 12, generator=torch.Generator().manual_seed(0))
    first, second = take_references(network, x, repeats=3)
    assert sum(system.passes for system in systems) == reference_passes(network, 10, repeats=3)
    assert torch.equal(first.x, x.reshape(30, 4)[::3])
    assert torch.equal(second.x, torch.sigmoid(network[0](x)).detach())
    assert (first.system, second.system) == systems
    assert second.y.shape == (3, 10, 5)
    assert second.compare().rms == 0.0


def test_a_reference_needs_shots_and_repeats() -> None:
    system = Toy()
    x, theta = drives(10, system)
    for n, repeats in ((1, 4), (10, 1)):
        with pytest.raises(RangeError, match="at least two of each"):
            Reference.take(system, x[:n], theta, repeats=repeats)
    assert system.passes == 0


# --- refitting ------------------------------------------------------------------------------------


def test_a_physics_twin_finds_the_constant_of_its_device() -> None:
    system = Toy(noise=0.0, drift=0.0)
    layer = make_layer(system, PhysicsTwin(system, ToyEquations()))
    twin, theta = layer.twin, layer.theta.detach().clone()
    found = refit(layer, shots=40, x=torch.ones(3, 6))
    assert layer.twin is twin
    assert isinstance(twin, PhysicsTwin)
    assert twin.constants.strength == pytest.approx(1.1, abs=1e-5)
    assert found.nmse_before > 1e-3
    assert found.nmse_after < 1e-9
    assert found.floor == 0
    assert found.device_passes == refit_passes(40) == system.passes == 80
    assert "80 device passes" in str(found)
    assert torch.equal(layer.theta, theta)
    assert not any(parameter.requires_grad for parameter in twin.parameters())


def test_a_device_of_very_many_parameters_is_driven_at_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A million parameters for each shot fill the memory."""
    monkeypatch.setattr(advice, "MOST_PARAMETERS", 40 * 36 - 1)
    shapes = []

    class Watched(Toy):
        def _simulate(self, x: Tensor, theta: Tensor) -> Tensor:
            shapes.append(theta.shape)
            return super()._simulate(x, theta)

    system = Watched(noise=0.0, drift=0.0)
    layer = make_layer(system, PhysicsTwin(system, ToyEquations()))
    assert refit(layer, shots=40).nmse_after < 1e-9
    assert set(shapes) == {(36,)}


def test_a_neural_twin_goes_on_from_its_weights() -> None:
    system = Toy(3, 2, noise=0.005, drift=0.0)
    twin = NeuralTwin(system, Mlp((32,)))
    data = characterize.collect(system, 200, seed=0)
    twin = fit_neural(twin, data, NeuralSettings(epochs=20, learning_rate=0.01)).twin
    layer = make_layer(system, twin)
    system.drift, system.shots = 1e-9, 400_000_000  # a gain of 1.5 from now on
    found = refit(layer, seed=3)
    assert found.nmse_after < 0.5 * found.nmse_before
    assert found.nmse_after > found.floor > 0
    assert not twin.fault
    assert not any(parameter.requires_grad for parameter in twin.parameters())
    assert layer.system.passes == 400 + found.device_passes


def test_a_twin_that_is_right_keeps_its_constants() -> None:
    """Sixteen very noisy shots can only lead it astray."""
    system = Toy(noise=0.5, drift=0.0)
    layer = make_layer(system, PhysicsTwin(system, ToyEquations(), ToyConstants(1.1)))
    layer.twin.fault = "as before"
    with pytest.raises(TwinError, match="the twin is as it was"):
        refit(layer, shots=20, seed=1)
    assert layer.twin.constants.strength == 1.1
    assert layer.twin.fault == "as before"


class Unplugged(Toy):
    """A toy that answers its first calls alone."""

    calls = 0

    def _simulate(self, x: Tensor, theta: Tensor) -> Tensor:
        self.calls += 1
        if self.calls > 1:
            raise InstrumentError("the oscilloscope does not answer")
        return super()._simulate(x, theta)


def test_a_device_that_fails_leaves_the_twin_alone() -> None:
    system = Unplugged()
    layer = make_layer(system, PhysicsTwin(system, ToyEquations()))
    with pytest.raises(InstrumentError):
        refit(layer)
    assert layer.twin.constants.strength == 1.0


def test_what_cannot_be_refitted_is_refused_before_anything_is_driven() -> None:
    system = Toy()
    with pytest.raises(TwinError, match="PhysicsTwin or a NeuralTwin"):
        refit(PhysicalLayer(system, ToyTwin(), physics_aware))
    layer = make_layer(system, PhysicsTwin(system, ToyEquations()))
    with pytest.raises(RangeError, match="shots is 19; it must be at least 20"):
        refit(layer, shots=19)
    assert system.passes == 0


def test_fresh_shots_stay_near_the_parameters_of_the_layer() -> None:
    seen: list[tuple[Tensor, Tensor]] = []

    class Watched(Toy):
        def _simulate(self, x: Tensor, theta: Tensor) -> Tensor:
            seen.append((x, theta))
            return super()._simulate(x, theta)

    system = Watched(noise=0.0, drift=0.0)
    layer = make_layer(system, PhysicsTwin(system, ToyEquations()))
    layer.theta.data[0] = 1.3
    given = torch.full((2, 6), 0.25)
    refit(layer, shots=40, x=given)
    (x, theta), (again, _) = seen
    assert torch.equal(x, again)
    centre = layer.theta.detach().clamp(0, 1)
    assert float((theta - centre).abs().max()) <= 0.1 + 1e-6
    assert theta.std(0)[1:].min() > 0.02
    assert 10 <= int((x == 0.25).all(1).sum()) <= 30
