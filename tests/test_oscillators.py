"""Coupled pendula: the solver against exact answers, the gap, the twins, the conformance suite."""

import itertools
import math

import pytest
import torch
from conformance import SystemConformance
from torch import Tensor

from pnnlab.characterize import collect, nmse
from pnnlab.characterize import shots as shots_of
from pnnlab.errors import RangeError, ShapeError, TwinError
from pnnlab.systems.oscillators import (
    OscillatorImperfections,
    Oscillators,
    coupling_matrix,
    release,
    split,
    swing,
    trajectory,
)
from pnnlab.twins import (
    Forces,
    NeuralSettings,
    NeuralTwin,
    OscillatorEquations,
    PhysicsTwin,
    fit_neural,
    fit_physics,
)
from pnnlab.twins.twin import predict

PERFECT = OscillatorImperfections(angle=0.0, coupling=0.0, release=0.0)


def steeper(q: Tensor) -> Tensor:
    """What a built pendulum has in place of the sine of its angle."""
    return (1.1 * q).sin()


class TestConformance(SystemConformance):
    def make_system(self):
        return Oscillators(8, unit=3, input_dim=5, output_dim=3)


class TestConformanceWithoutNoise(SystemConformance):
    def make_system(self):
        return Oscillators(6, low=-1.5, high=1.5, noise=False)


@pytest.fixture
def network():
    """Angles, couplings and biases of four shots of six pendula."""
    random = torch.Generator().manual_seed(0)
    shapes = (4, 6), (6, 6), (6,)
    return [torch.randn(s, generator=random, dtype=torch.float64) for s in shapes]


@pytest.fixture
def errors():
    random = torch.Generator().manual_seed(1)
    return coupling_matrix(0.2 * torch.randn(6, 6, generator=random, dtype=torch.float64))


def test_a_lone_pendulum_keeps_its_energy():
    start = torch.tensor([[0.3, 1.5, 3.0]], dtype=torch.float64)
    free = torch.zeros(3, 3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    q, p = trajectory(start, *free, steps=4000, duration=20.0)
    energy = p.square() / 2 + 1 - q.cos()
    assert (energy - energy[0]).abs().max() < 1e-9
    assert (q.amin(0) < -0.29).all()  # it did swing


def test_coupled_pendula_released_alike_swing_as_one():
    together = torch.full((1, 6), 1.2, dtype=torch.float64)
    couplings = torch.rand(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    couplings.fill_diagonal_(0)
    none = torch.zeros(6, dtype=torch.float64)
    expected = swing(together, torch.zeros_like(couplings), none)
    assert torch.allclose(swing(together, couplings, none), expected, atol=1e-12)


@pytest.mark.parametrize("duration", [0.5, 3.0])
def test_small_swings_are_the_exact_normal_modes(network, duration):
    """For small angles q(t) = cos(sqrt(-G) t) (q(0) - q*) + q*, with G q* = -e."""
    start, couplings, biases = network
    couplings = 0.2 * couplings
    squares, modes = torch.linalg.eigh(
        torch.eye(6, dtype=torch.float64) - coupling_matrix(couplings)
    )
    assert (squares > 0).all()
    size = 1e-4
    rest = (biases @ modes) / squares
    expected = ((start @ modes - rest) * torch.cos(squares.sqrt() * duration) + rest) @ modes.T
    found = swing(size * start, couplings, size * biases, steps=200, duration=duration) / size
    assert torch.allclose(found, expected, atol=1e-7)


def test_a_step_has_fourth_order(network):
    exact = swing(*network, steps=400)
    wrong = [float((swing(*network, steps=n) - exact).abs().max()) for n in (5, 10, 20)]
    orders = [math.log2(a / b) for a, b in itertools.pairwise(wrong)]
    assert all(3.7 < order < 4.4 for order in orders), orders


def test_all_points_of_a_trajectory_end_where_a_swing_does(network):
    q, p = trajectory(*network, steps=5)
    assert torch.equal(q[0], network[0])
    assert not p[0].any()
    assert torch.allclose(q[-1], swing(*network, steps=5), atol=1e-13)


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("each", [False, True], ids=["shared", "one a shot"])
def test_gradients_agree_with_finite_differences(network, errors, steps, each):
    start, couplings, biases = (value.requires_grad_() for value in network)
    if each:
        scatter = torch.linspace(0.8, 1.2, 4, dtype=torch.float64)
        couplings, biases = scatter[:, None, None] * couplings, scatter[:, None] * biases
        couplings, biases = (value.detach().requires_grad_() for value in (couplings, biases))

    def moved(*arguments: Tensor) -> Tensor:
        return swing(*arguments, errors=errors, sine=steeper, steps=steps, duration=0.9)

    assert torch.autograd.gradcheck(moved, (start, couplings, biases))


def test_couplings_of_its_own_for_each_shot_are_the_shared_ones_repeated(network, errors):
    start, couplings, biases = network
    shared = swing(start, couplings, biases, errors=errors)
    each = swing(start, couplings.expand(4, 6, 6), biases.expand(4, 6), errors=errors)
    mixed = swing(start, couplings, biases.expand(4, 6), errors=errors)
    assert torch.allclose(each, shared, atol=1e-13)
    assert torch.allclose(mixed, shared, atol=1e-13)


def test_single_and_double_precision_agree(network):
    single = swing(*(value.float() for value in network))
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), swing(*network), atol=1e-5)


@pytest.mark.parametrize("each", [False, True], ids=["shared", "one a shot"])
def test_everything_stays_on_the_device_of_the_arguments(network, errors, each):
    """On "meta", where there are shapes and no numbers: a CPU tensor among them is an error."""
    start, couplings, biases, errors = (value.to("meta") for value in (*network, errors))
    if each:
        couplings, biases = couplings.expand(4, 6, 6), biases.expand(4, 6)
    assert swing(start, couplings, biases, errors=errors).device.type == "meta"
    system = Oscillators(6, input_dim=5)
    x, theta = (torch.rand(4, width, device="meta") for width in (5, 42))
    twin = PhysicsTwin(system, OscillatorEquations(6))
    learnt = NeuralTwin(system, Forces(6)).to("meta")
    for model in (twin, learnt):
        assert model.model(x, theta if each else theta[0]).device.type == "meta"


class TestAuthorsCode:
    """What their public code gives (float32, commit of 2022) for inputs from these formulas.

    https://github.com/mcmahon-lab/Physics-Aware-Training: ``ode_utils.make_ode_map`` with the
    equations of example 2, and ``pat.make_pat_func`` of both.
    """

    k = torch.arange(49.0).view(7, 7)
    couplings = 2 * torch.sin(3 * k + 1)
    errors = coupling_matrix(0.3 * torch.cos(5 * k))
    biases = torch.cos(torch.arange(7.0))
    start = torch.sin(torch.arange(14.0) ** 2).view(2, 7)
    model = (
        (-0.024925, 0.717557, -0.508366, 0.024299, -0.28479, 0.141679, -0.725025),
        (-0.663415, 1.074555, -0.682664, -0.833817, 0.810353, -0.449512, -0.215002),
    )
    machine = (
        (-0.03922, 0.708924, -0.481897, 0.038771, -0.264505, 0.156565, -0.758636),
        (-0.635036, 1.131324, -0.636119, -0.817666, 0.788608, -0.462828, -0.191977),
    )
    by_start = (0.700922, 0.484026, -0.456929, -1.072233, -0.3468, 0.043474, 0.842955)
    by_row_2 = (-0.036012, -0.150445, -0.103495, 0.035728, -0.079042, -0.037847, 0.003568)
    by_biases = (0.209769, 0.047274, -0.168604, -0.231289, -0.073716, 0.130221, 0.226548)

    def test_same_angles_without_the_gap(self):
        found = swing(self.start, self.couplings, self.biases)
        assert torch.allclose(found, torch.tensor(self.model), atol=1e-5)

    def test_same_angles_with_the_gap(self):
        found = swing(self.start, self.couplings, self.biases, errors=self.errors, sine=steeper)
        assert torch.allclose(found, torch.tensor(self.machine), atol=1e-5)

    def test_same_gradients_as_their_physics_aware_training(self):
        given = [v.clone().requires_grad_() for v in (self.start, self.couplings, self.biases)]
        found = swing(*given)
        weights = torch.cos(torch.arange(14.0)).view(2, 7)
        by_start, by_couplings, by_biases = torch.autograd.grad((found * weights).sum(), given)
        assert torch.allclose(by_start[0], torch.tensor(self.by_start), atol=1e-5)
        assert torch.allclose(by_couplings[2], torch.tensor(self.by_row_2), atol=1e-5)
        assert torch.allclose(by_biases, torch.tensor(self.by_biases), atol=1e-5)


def test_parameters_are_couplings_row_by_row_and_then_biases():
    theta = torch.linspace(0, 1, 12, dtype=torch.float64)
    couplings, biases = split(theta, 3, coupling_range=2.0, bias_range=3.0)
    assert torch.allclose(couplings.flatten(), 4 * theta[:9] - 2)
    assert torch.allclose(biases, 6 * theta[9:] - 3)
    each, _ = split(theta.expand(2, -1), 3, coupling_range=2.0)
    assert torch.equal(each[1], couplings)
    assert not split(torch.full((12,), 0.5), 3)[0].any()
    assert torch.autograd.gradcheck(lambda t: split(t, 3), (theta.requires_grad_(),))


def test_a_perfect_network_is_its_equations():
    system = Oscillators(7, input_dim=4, output_dim=3, low=-1.0, high=2.0, imperfections=PERFECT)
    random = torch.Generator().manual_seed(0)
    x, theta = torch.rand(5, 4, generator=random), torch.rand(56, generator=random)
    start = torch.cat([3 * x - 1, torch.zeros(5, 3)], 1)
    assert torch.allclose(release(x, 7, -1.0, 2.0), start)
    couplings, biases = split(theta, 7)
    assert torch.equal(system(x, theta), swing(start, couplings, biases)[:, 4:])


@pytest.mark.parametrize("name", ["angle", "coupling", "release"])
def test_each_imperfection_alone_is_seen(name):
    parts = OscillatorImperfections(**{"angle": 0.0, "coupling": 0.0, "release": 0.0, name: 0.1})
    x, theta = torch.rand(3, 8, generator=torch.Generator().manual_seed(0)), torch.full((72,), 0.5)
    y = Oscillators(8, imperfections=parts)(x, theta)
    assert (y - Oscillators(8, imperfections=PERFECT)(x, theta)).abs().max() > 1e-3
    quiet = Oscillators(8, imperfections=parts, noise=False)(x, theta)
    assert torch.equal(y, quiet) == (name != "release")


def test_the_release_trembles_as_much_as_said():
    """Uncoupled, at small angles: y = q(0) cos 0.5 in linear order."""
    system = Oscillators(10, imperfections=OscillatorImperfections(angle=0.0, coupling=0.0))
    y = system(torch.zeros(1000, 10), torch.full((110,), 0.5))
    assert float(y.std()) == pytest.approx(0.02 * math.cos(0.5), rel=0.03)


def test_units_differ_and_a_unit_is_always_the_same():
    x, theta = torch.rand(2, 6, generator=torch.Generator().manual_seed(0)), torch.full((42,), 0.5)
    first, again, second = (Oscillators(6, unit=u, noise=False)(x, theta) for u in (0, 0, 1))
    assert torch.equal(first, again)
    assert (first - second).abs().max() > 1e-2


def test_seeds_change_the_noise_alone():
    x, theta = torch.rand(2, 6, generator=torch.Generator().manual_seed(0)), torch.full((42,), 0.5)
    loud = [Oscillators(6, seed=s)(x, theta) for s in (0, 1)]
    quiet = [Oscillators(6, seed=s, noise=False)(x, theta) for s in (0, 1)]
    assert not torch.equal(*loud)
    assert torch.equal(*quiet)


def test_weak_parameters_are_as_weak_as_said():
    system = Oscillators(20)
    couplings, biases = split(system.weak_theta(3), 20)
    for values in (couplings, biases):
        assert values.abs().max() <= 20**-0.5
        assert values.abs().max() > 0.8 * 20**-0.5
    assert not torch.equal(system.weak_theta(3), system.weak_theta(4))


def test_impossible_networks_are_refused():
    with pytest.raises(ShapeError, match="5 pendula cannot have 6 inputs"):
        Oscillators(5, input_dim=6)
    with pytest.raises(RangeError, match="unit is -1"):
        Oscillators(5, unit=-1)
    with pytest.raises(RangeError, match="above 0"):
        Oscillators(5, coupling_range=0.0)
    with pytest.raises(RangeError, match="with unit 1, and here is one with unit 0"):
        Oscillators(5).restore(Oscillators(5, unit=1).state())
    with pytest.raises(RangeError, match="no state of oscillators"):
        Oscillators(5).restore({"something": 1})


PROGRAMME = {"n": 6, "coupling_range": 1.0}


@pytest.fixture(scope="module")
def small():
    return Oscillators(6, input_dim=5, output_dim=4, coupling_range=1.0)


@pytest.fixture(scope="module")
def dataset(small):
    return collect(small, 700, seed=0)


class TestTwins:
    def error(self, twin, dataset):
        held = shots_of(dataset, "test")
        return nmse(predict(twin, held.x, held.theta), held.y.mean(0))

    def test_the_equations_are_those_of_a_perfect_network(self, small):
        perfect = Oscillators(
            6, input_dim=5, output_dim=4, coupling_range=1.0, imperfections=PERFECT
        )
        twin = PhysicsTwin(small, OscillatorEquations(**PROGRAMME))
        x, theta = torch.rand(3, 5), torch.rand(42)
        assert torch.equal(twin(x, theta), perfect(x, theta))

    def test_the_fit_finds_the_angle_and_cannot_find_the_coupling_errors(self, small, dataset):
        nominal = PhysicsTwin(small, OscillatorEquations(**PROGRAMME))
        found = fit_physics(nominal, dataset)
        assert not found.fault
        parts = OscillatorImperfections(coupling=0.0)
        alike = Oscillators(6, input_dim=5, output_dim=4, coupling_range=1.0, imperfections=parts)
        exact = fit_physics(nominal, collect(alike, 700, seed=0))
        assert exact.constants["angle"] == pytest.approx(1.1, abs=4 * exact.errors["angle"])
        missed, found_it = (abs(fit.constants["angle"] - 1.1) for fit in (found, exact))
        assert missed > 3 * found_it
        assert exact.nmse < 0.5 * found.nmse

    def test_learnt_forces_come_nearer_than_the_equations(self, small, dataset):
        nominal = PhysicsTwin(small, OscillatorEquations(**PROGRAMME))
        learnt = NeuralTwin(small, Forces(**PROGRAMME, steps=2))
        learnt = fit_neural(learnt, dataset, NeuralSettings(epochs=12)).twin
        assert not learnt.fault
        assert self.error(learnt, dataset) < 0.7 * self.error(nominal, dataset)

    def test_learnt_forces_begin_as_the_equations(self, small):
        fresh = NeuralTwin(small, Forces(**PROGRAMME))
        twin = PhysicsTwin(small, OscillatorEquations(**PROGRAMME))
        x, theta = torch.rand(3, 5), torch.rand(3, 42)
        assert torch.allclose(fresh(x, theta), twin(x, theta), atol=1e-6)
        assert torch.allclose(fresh(x, theta[0]), twin(x, theta[0]), atol=1e-6)

    def test_a_network_of_another_size_is_refused(self, small):
        for wrong in (OscillatorEquations(5), OscillatorEquations(7)):
            with pytest.raises(TwinError, match="number of pendula"):
                PhysicsTwin(small, wrong)
        with pytest.raises(TwinError, match="number of pendula"):
            NeuralTwin(small, Forces(7))
