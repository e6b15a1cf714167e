"""The smart microphone: resonators against exact answers, the adjoint, the twin, conformance."""

import numpy as np
import pytest
import torch
from conformance import SystemConformance
from scipy.signal import cont2discrete, dlsim

from pnnlab.characterize import measured
from pnnlab.errors import RangeError, ShapeError, TwinError
from pnnlab.systems import Plate, Resonators, resonators
from pnnlab.systems.resonators import NOMINAL, RESONATORS, ResonatorImperfections
from pnnlab.twins import PhysicsTwin, ResonatorEquations, fit_physics

PERFECT = ResonatorImperfections(conductance=0.0, knee=0.0, crosstalk=0.0, noise=0.0)
FRAME = 64
RATE, LOWEST = resonators.RATE_HZ, resonators.LOWEST_HZ


class TestConformance(SystemConformance):
    def make_system(self):
        return Resonators(3, input_dim=256, output_dim=3)

    def other(self, x):
        return 0.5 + 0.5 * (x - 0.5)  # an energy does not tell a wave from its negative


class TestConformanceWithoutNoise(TestConformance):
    def make_system(self):
        return Resonators(input_dim=128, noise=False)


class TestConformanceWithSlowNodes(TestConformance):
    def make_system(self):
        return Resonators(3, input_dim=256, output_dim=2, hidden=4, full_drive=40.0)


def table_of(bank=NOMINAL):
    return resonators.amplitudes_table(torch.full((1, RESONATORS), 0.5).double(), bank)


def tone(hz: float, samples: int = 4096, size: float = 0.05):
    time = torch.arange(samples, dtype=torch.float64) / resonators.RATE_HZ
    return 0.5 + size * torch.sin(2 * torch.pi * hz * time).unsqueeze(0)


def test_a_resonator_rings_as_the_damped_oscillator_that_it_is():
    random = np.random.default_rng(0)
    drive = random.standard_normal(2 * FRAME)
    k, step = 7, 1 / resonators.RATE_HZ
    omega = 2 * np.pi * resonators.frequencies()[k]
    gamma = omega / (2 * resonators.QUALITY)
    gain = gamma * resonators.frequencies()[k] / resonators.EMPHASIS_HZ
    matrix = np.array([[0.0, 1.0], [-(omega**2 + gamma**2), -2 * gamma]])
    continuous = (matrix, np.array([[0.0], [gain]]), np.eye(2), np.zeros((2, 1)))
    held = cont2discrete(continuous, step)[:4]
    # Behind the last sample: dlsim gives the state before each.
    _, states, _ = dlsim((*held, step), np.append(drive, 0.0))
    place, speed = states[1:].T
    size = np.hypot(speed + gamma * place, omega * place)
    got = resonators.envelopes(torch.from_numpy(drive)[None], table_of(), 0.0)[0, :, k]
    np.testing.assert_allclose(got, size.reshape(2, FRAME).mean(1), rtol=1e-9)


def test_a_ringing_decays_with_its_loss():
    drive = torch.zeros(1, 4 * FRAME, dtype=torch.float64)
    drive[0, 0] = 1.0
    rings = resonators.envelopes(drive, table_of(), 0.0)[0]
    gamma = np.pi * resonators.frequencies() / resonators.QUALITY
    expected = np.exp(-gamma * FRAME / resonators.RATE_HZ)
    np.testing.assert_allclose(rings[2] / rings[1], expected, rtol=1e-9)


def test_a_detector_is_square_law_below_its_knee_and_linear_above():
    drive = torch.ones(1, FRAME, dtype=torch.float64)
    small, large = (resonators.envelopes(size * drive, table_of(), 0.3) for size in (1e-4, 1e4))
    torch.testing.assert_close(
        resonators.envelopes(2e-4 * drive, table_of(), 0.3), 4 * small, rtol=1e-6, atol=0
    )
    torch.testing.assert_close(
        resonators.envelopes(2e4 * drive, table_of(), 0.3), 2 * large, rtol=1e-3, atol=0
    )


def test_gradients_are_those_of_the_kernel():
    random = torch.Generator().manual_seed(0)
    drive = torch.randn(2, 2 * FRAME, generator=random, dtype=torch.float64)
    table = table_of()[..., :3].repeat(2, 1, 1).contiguous()
    drive.requires_grad_()
    table.requires_grad_()
    assert torch.autograd.gradcheck(resonators.envelopes, (drive, table))


@pytest.mark.parametrize("hidden", [0, 3])
def test_gradients_by_theta_reach_tunings_conductances_and_biases(hidden):
    system = Resonators(2, input_dim=FRAME, noise=False, hidden=hidden)
    x = torch.rand(1, FRAME, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    theta = torch.linspace(0.2, 0.8, system.param_dim, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda t: system.differentiable(x, t), theta)
    for group in system.theta_groups():
        (grad,) = torch.autograd.grad(system.differentiable(x, theta).sum(), theta)
        assert grad[group.start : group.stop].abs().max() > 1e-5
    assert system.theta_groups()[-1].stop == system.param_dim


def test_a_slow_node_is_a_resistor_and_a_capacitor():
    frame = FRAME / RATE
    wave = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 20, 2)))
    matrix = np.array([[-1 / resonators.SLOW_S]])
    held = cont2discrete((matrix, -matrix, np.eye(1), np.zeros((1, 1))), frame)[:4]
    for n in range(2):
        _, states, _ = dlsim((*held, frame), np.append(wave[0, :, n].numpy(), 0.0))
        np.testing.assert_allclose(resonators.slow(wave)[0, :, n], states[1:, 0], rtol=1e-6)


def test_a_node_adds_what_is_behind_the_slow_ones():
    theta = torch.full((resonators.param_dim(1, 2),), 0.5, dtype=torch.float64)
    theta[-3] = 1.0  # bias of the first slow node
    theta[RESONATORS * 3] = 0.75  # its conductance at the node that is read
    silence = torch.full((1, 40 * FRAME), 0.5, dtype=torch.float64)
    got = resonators.node_waves(silence, theta, NOMINAL, 1, hidden=2)[0, :, 0]
    behind = (resonators.BIAS + np.hypot(resonators.BIAS, resonators.NODE_KNEE)) / 2
    rises = 1 - np.exp(-np.arange(1, 41) * FRAME / RATE / resonators.SLOW_S)
    np.testing.assert_allclose(got, resonators.CONDUCTANCE / 2 * behind * rises, rtol=1e-6)


def test_a_weak_drive_stays_below_the_knees_and_a_strong_one_above():
    """A detector gives the power of a weak one, and the amplitude of a strong one."""
    theta = torch.full((resonators.param_dim(1),), 0.5, dtype=torch.float64)
    theta[RESONATORS : 2 * RESONATORS] = 1.0
    sound = tone(700.0, samples=512)

    def arrives(full_drive):
        return resonators.node_waves(sound, theta, NOMINAL, 1, full_drive=full_drive)

    torch.testing.assert_close(arrives(0.02), 4 * arrives(0.01), rtol=1e-2, atol=0)
    torch.testing.assert_close(arrives(2e5), 2 * arrives(1e5), rtol=1e-2, atol=0)


def test_the_node_of_the_resonator_that_a_tone_rings_wins():
    theta = torch.full((resonators.param_dim(2),), 0.5)
    tuned = np.abs(resonators.frequencies()[:, None] - [400.0, 2000.0]).argmin(0)
    for node, k in enumerate(tuned):
        theta[RESONATORS * (node + 1) + k] = 1.0
    system = Resonators(1)
    sounds = torch.cat([tone(float(resonators.frequencies()[k])) for k in tuned])
    assert system(sounds, theta).argmax(1).tolist() == [0, 1]


def test_an_energy_is_on_a_scale_of_40_db():
    theta = torch.full((resonators.param_dim(1),), 0.5)
    theta[-1] = 1.0  # the bias alone
    silence = torch.full((1, FRAME), 0.5)
    wave = resonators.BIAS
    rectified = (wave + np.hypot(wave, resonators.NODE_KNEE)) / 2
    y = resonators.respond(silence, theta, NOMINAL, 1)
    assert float(y) == pytest.approx(np.log1p(rectified**2 / 1e-4) / np.log1p(1e4), rel=1e-6)


def test_units_differ_and_a_unit_is_itself():
    one, other = (resonators.fabricate(unit, 0.05, 2) for unit in (1, 2))
    assert np.abs(one.tuning - 1).max() < 0.055
    assert np.abs(one.tuning - other.tuning).max() > 0.01
    np.testing.assert_array_equal(one.tuning, resonators.fabricate(1, 0.05, 2).tuning)


@pytest.mark.parametrize("shape", [{}, {"hidden": 3, "full_drive": 5.0}])
def test_the_nominal_twin_is_a_perfect_unit(shape):
    system = Resonators(input_dim=256, tolerance=0.0, imperfections=PERFECT, **shape)
    twin = PhysicsTwin(system, ResonatorEquations(**shape))
    random = torch.Generator().manual_seed(3)
    x, theta = torch.rand(4, 256, generator=random), torch.rand(system.param_dim, generator=random)
    torch.testing.assert_close(twin(x, theta), system(x, theta), rtol=1e-5, atol=1e-6)


def test_a_fit_finds_the_tolerances():
    random = np.random.default_rng(4)
    tuning, gain = 1 + 0.05 * random.uniform(-1, 1, (2, RESONATORS))
    system = Resonators(input_dim=512, output_dim=3, noise=False, imperfections=PERFECT)
    system._built = resonators.Bank(tuning, gain, loss=1.1, knee=0.25)
    # Tones at all resonators, or those that nothing rings could be anything.
    hz = resonators.frequencies()[:, None]
    tones = np.sin(2 * np.pi * (hz * np.arange(512) / RATE + random.random((60, RESONATORS, 1))))
    size = random.random((60, 1, RESONATORS)) * 0.1 * np.sqrt(LOWEST / hz.T)
    x = torch.from_numpy(0.5 + (size @ tones)[:, 0]).float().clamp(0, 1)
    theta = torch.from_numpy(random.random((60, system.param_dim))).float()
    fit = fit_physics(PhysicsTwin(system, ResonatorEquations()), measured(system, x, theta))
    assert not fit.fault
    found = fit.twin.constants
    names = [f"{what}_{k}" for what in ("tuning", "gain") for k in range(RESONATORS)]
    each = np.array([getattr(found, name) for name in names])
    np.testing.assert_allclose(each, [*tuning, *gain], rtol=2e-3)
    assert (found.loss, found.knee) == pytest.approx((1.1, 0.25), rel=2e-3)


def test_what_cannot_be_is_refused():
    with pytest.raises(RangeError, match="fraction below"):
        Resonators(tolerance=0.5)
    with pytest.raises(ShapeError, match="multiple of 64"):
        Resonators(input_dim=100)
    with pytest.raises(RangeError, match="above 0"):
        Resonators(full_drive=0.0)
    with pytest.raises(TwinError, match="other slow nodes"):
        PhysicsTwin(Resonators(hidden=2), ResonatorEquations())
    with pytest.raises(TwinError, match="no system of this kind"):
        PhysicsTwin(Plate(), ResonatorEquations())
