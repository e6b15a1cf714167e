"""The plate: its equations against exact answers, its units, its twins, the conformance suite."""

import itertools
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from conformance import SystemConformance
from scipy.integrate import solve_ivp

from pnnlab import characterize
from pnnlab.errors import RangeError, ShapeError, TwinError
from pnnlab.systems.plate import (
    FLOOR,
    MODES,
    TAIL,
    Modes,
    Plate,
    PlateConstants,
    PlateImperfections,
    fabricate,
    log_energy,
    solve_modes,
    through_speaker,
    vibrate,
    waveform,
)
from pnnlab.twins import (
    Mlp,
    NeuralSettings,
    NeuralTwin,
    PhysicsTwin,
    PlateEquations,
    fit_neural,
    fit_physics,
)

LINEAR = replace(solve_modes(PlateConstants()), alpha=0.0)
STRONG = replace(solve_modes(PlateConstants()), alpha=0.3)
PERFECT = PlateImperfections(resonance=0.0, microphone_time=0.0, noise=0.0, codes=0)


class PlateConformance(SystemConformance):
    """An energy does not know the sign of a drive, which 1 - theta would turn round."""

    def moved(self, theta):
        return theta.flip(0)


class TestConformance(PlateConformance):
    def make_system(self):
        return Plate(3, input_dim=24, replays=3, output_dim=12)


class TestConformanceWithoutNoise(PlateConformance):
    def make_system(self):
        return Plate(1, input_dim=16, replays=2, output_dim=8, noise=False, drift=False)


class TestConformanceReshaped(PlateConformance):
    def make_system(self):
        return Plate(0, input_dim=24, replays=3, output_dim=12).reprogrammed(
            replays=4, output_dim=7
        )


@pytest.fixture
def drive():
    generator = torch.Generator().manual_seed(0)
    return 4 * torch.rand(60, 5, generator=generator, dtype=torch.float64) - 2


@pytest.fixture
def programme():
    generator = torch.Generator().manual_seed(1)
    return torch.rand(7, 16, generator=generator), torch.rand(64, generator=generator)


def one_mode(frequency: float, loss: float) -> Modes:
    each = [np.array([value]) for value in (frequency, loss, 1.0, 1.0)]
    return Modes(*each, alpha=0.0, tau=1.0)


@pytest.mark.parametrize("substeps", [1, 2, 3])
def test_adjoint_of_the_plate_agrees_with_finite_differences(drive, substeps):
    u = drive[:12, :3].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda u: vibrate(u, STRONG, substeps=substeps), (u,))


def test_adjoints_of_speaker_and_microphone_agree_with_finite_differences(drive):
    u = drive[:20, :3].clone().requires_grad_()
    parts = replace(PERFECT, resonance=0.3, sag=0.5, microphone_time=0.5)
    assert torch.autograd.gradcheck(lambda u: through_speaker(u, parts), (u,))
    noise = np.random.default_rng(0).standard_normal((3, 20))
    assert torch.autograd.gradcheck(lambda u: log_energy(u, 6, parts, noise=noise), (u,))


def test_without_tension_each_mode_is_a_damped_oscillator_exactly():
    """The velocity after a kick of a constant force, in closed form, in one step a sample."""
    w, g = 0.7, 0.03
    u = torch.full((80, 1), 1.3, dtype=torch.float64)
    t = torch.arange(1, 81, dtype=torch.float64)
    ringing = math.sqrt(w**2 - g**2)
    exact = 1.3 * torch.exp(-g * t) * torch.sin(ringing * t) / ringing
    wave = vibrate(u, one_mode(w, g), substeps=1)
    assert torch.allclose(wave[:, 0], exact, atol=1e-12)


def test_modes_add_up_and_the_linear_plate_needs_no_substeps(drive):
    wave = vibrate(drive, LINEAR, substeps=1)
    each = torch.zeros_like(wave)
    for m in range(MODES):
        fields = {
            name: value[m : m + 1] if isinstance(value, np.ndarray) else value
            for name, value in asdict(LINEAR).items()
        }
        each += vibrate(drive, Modes(**fields), substeps=1)
    assert torch.allclose(wave, each, atol=1e-12)
    assert torch.allclose(wave, vibrate(drive, LINEAR, substeps=7), atol=1e-12)


def test_a_creeping_mode_does_not_ring():
    wave = vibrate(torch.ones(60, 1, dtype=torch.float64), one_mode(0.1, 0.5))
    assert (wave > 0).all()


def test_solves_its_equations_as_a_general_solver_does(drive):
    modes, u = STRONG, drive[:30, :1]
    stiffness = modes.frequency**2

    def slopes(t: float, state: np.ndarray) -> np.ndarray:
        q, v = state.reshape(2, MODES)
        strain = modes.alpha * (stiffness * q * q).sum()
        tension = strain / math.sqrt(1 + (strain / modes.tau) ** 2)
        force = modes.driven * float(u[min(int(t), 29)])
        return np.concatenate([v, force - 2 * modes.loss * v - stiffness * (1 + tension) * q])

    state, expected = np.zeros(2 * MODES), []
    for n in range(len(u)):
        inside = n + 1e-12, n + 1 - 1e-12  # the force jumps at the ends of a sample
        state = solve_ivp(slopes, inside, state, rtol=1e-9, atol=1e-11).y[:, -1]
        expected.append(modes.heard @ state[MODES:])
    wave = vibrate(u, modes, substeps=256)[:, 0].numpy()
    assert np.abs(wave - expected).max() < 1e-3 * np.abs(expected).max()


def test_integrator_converges_with_second_order(drive):
    exact = vibrate(drive, STRONG, substeps=1024)
    errors = [
        float((vibrate(drive, STRONG, substeps=n) - exact).square().mean().sqrt())
        for n in (8, 16, 32)
    ]
    orders = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert all(1.8 < order < 2.2 for order in orders), orders


def test_default_step_is_accurate_in_the_read_out():
    generator = torch.Generator().manual_seed(2)
    x = torch.rand(8, 196, generator=generator, dtype=torch.float64)
    theta = 0.25 + 0.5 * torch.rand(392, generator=generator, dtype=torch.float64)
    u = waveform(x, theta, 1)
    modes = solve_modes(PlateConstants())
    error = log_energy(vibrate(u, modes), 10) - log_energy(vibrate(u, modes, substeps=64), 10)
    assert error.square().mean().sqrt() < 2e-3


def test_tension_matters_and_stiffens():
    """A slow mode, pushed hard by a constant force, yields less than a linear one."""
    u = torch.full((400, 1), 2.0, dtype=torch.float64)
    soft = vibrate(u, LINEAR).square().sum()
    stiff = vibrate(u, solve_modes(PlateConstants())).square().sum()
    assert stiff < 0.9 * soft


def test_a_free_plate_loses_energy_as_its_losses_say():
    """With one loss for all modes the kinetic energy falls by exp(-2 g t), over many periods."""
    g = 0.01
    modes = replace(LINEAR, loss=np.full(MODES, g))
    u = torch.zeros(900, 1, dtype=torch.float64)
    u[:100] = 2 * torch.rand(100, 1, generator=torch.Generator().manual_seed(0)).double() - 1
    energy = torch.zeros(900, dtype=torch.float64)
    for m in range(MODES):
        single = np.eye(MODES)[m]
        energy += vibrate(u, replace(modes, heard=single))[:, 0].square()
    early, late = energy[100:500].mean(), energy[500:900].mean()
    assert float(early / late) == pytest.approx(math.exp(2 * g * 400), rel=0.1)


def test_a_lossless_plate_keeps_its_energy_under_tension():
    modes = replace(STRONG, loss=np.full(MODES, 1e-9), tau=1e6, alpha=0.01)
    u = torch.zeros(2000, 1, dtype=torch.float64)
    u[:40] = 2 * torch.rand(40, 1, generator=torch.Generator().manual_seed(0)).double() - 1
    energy = torch.zeros(2000, dtype=torch.float64)
    for m in range(MODES):
        energy += vibrate(u, replace(modes, heard=np.eye(MODES)[m]), substeps=8)[:, 0].square()
    first, second = energy[100:1000].mean(), energy[1100:2000].mean()
    assert float(second / first) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("period", [2, 3, 8, 26, 52, 1000])
def test_no_drive_makes_it_diverge(period):
    n = torch.arange(1500)
    u = torch.where((n // max(period // 2, 1)) % 2 == 0, 2.0, -2.0)[:, None]
    for modes in (solve_modes(PlateConstants()), fabricate(0, 0.15)):
        wave = vibrate(u, modes)
        assert wave.isfinite().all()
        assert wave.abs().max() < 10


def test_single_and_double_precision_agree(drive):
    modes = solve_modes(PlateConstants())
    single = vibrate(drive.float(), modes)
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), vibrate(drive, modes), atol=1e-4)


def test_a_shot_does_not_depend_on_its_neighbours():
    u = torch.randn(50, 70, generator=torch.Generator().manual_seed(0))
    modes = solve_modes(PlateConstants())
    assert torch.equal(vibrate(u, modes)[:, 64:65], vibrate(u[:, 64:65].contiguous(), modes))


def test_the_speaker_blocks_slow_drives_and_passes_fast_ones():
    stiff = replace(PERFECT, resonance=0.025, sag=0.0)
    n = torch.arange(2000, dtype=torch.float64)[:, None]
    for w, lowest, highest in ((0.001, 0.0, 0.01), (1.0, 0.98, 1.02)):
        force = through_speaker(torch.sin(w * n), stiff)
        assert lowest <= float(force[1000:].abs().max()) <= highest
    assert torch.equal(through_speaker(n, PERFECT), n)


def test_a_magnet_that_weakens_distorts():
    """A slow excursion weakens a fast tone by about s x²."""
    n = torch.arange(4000, dtype=torch.float64)[:, None]
    u = 1.0 + 0.1 * torch.sin(2.0 * n)
    tones = [
        through_speaker(u, replace(PERFECT, resonance=0.025, sag=sag))[2000:].std()
        for sag in (0.0, 0.1)
    ]
    assert float(tones[1] / tones[0]) == pytest.approx(1 - 0.1, abs=0.02)


def test_read_out_is_a_logarithm_of_energies_in_windows():
    wave = torch.zeros(26, 2, dtype=torch.float64)
    wave[:13, 0] = 0.1
    y = log_energy(wave, 2)
    assert float(y[0, 0]) == pytest.approx(math.log1p(0.01 / FLOOR) / math.log1p(1 / FLOOR))
    assert y[0, 1] == y[1, 0] == 0
    assert float(log_energy(torch.ones(4, 1), 1)) == pytest.approx(1)


def test_windows_share_the_samples():
    wave = torch.ones(260, 1, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda wave: log_energy(wave, 11)[0], wave)
    felt = jacobian[..., 0] != 0
    assert felt.sum(0).tolist() == [1] * 260
    assert set(felt.sum(1).tolist()) == {23, 24}


def test_a_converter_rounds_and_clips():
    wave = torch.tensor([[0.3, 5.0]]).double()
    coarse = (
        torch.expm1(log_energy(wave, 1, replace(PERFECT, codes=8)) * math.log1p(1 / FLOOR)) * FLOOR
    )
    assert coarse[0].item() == pytest.approx(0.25**2)
    assert coarse[1].item() == pytest.approx(0.75**2)


def test_the_nominal_plate_has_forty_modes_in_the_audible_band():
    modes = solve_modes(PlateConstants())
    assert modes.frequency.shape == (MODES,)
    assert modes.frequency.min() == pytest.approx(0.12)
    assert 2.1 < modes.frequency.max() < 2.3
    assert len(np.unique(modes.frequency.round(6))) == MODES
    assert np.allclose(modes.loss, 0.012 * (0.5 + modes.frequency))


def test_units_differ_within_tolerance_and_a_unit_is_always_the_same():
    nominal = solve_modes(PlateConstants())
    first, again, second = fabricate(0, 0.05), fabricate(0, 0.05), fabricate(1, 0.05)
    assert np.array_equal(first.frequency, again.frequency)
    assert not np.isclose(first.frequency, second.frequency, rtol=1e-6).any()
    ratio = first.frequency / nominal.frequency
    assert abs(ratio - 1).max() < 0.05 * 1.5
    assert 0.001 < ratio.std() < 0.05 / 5
    assert abs(first.loss / nominal.loss - 1).max() > 0.05
    same = fabricate(5, 0.0)
    assert np.allclose(same.frequency, nominal.frequency, rtol=1e-12)
    assert np.array_equal(same.driven, nominal.driven)


def test_a_perfect_unit_is_its_equations(programme):
    x, theta = programme
    options = {"input_dim": 16, "replays": 2, "output_dim": 8}
    system = Plate(0, **options, tolerance=0.0, drift=False, imperfections=PERFECT)
    expected = log_energy(vibrate(waveform(x, theta, 2), solve_modes(PlateConstants())), 8)
    assert torch.equal(system(x, theta), expected)
    twin = PhysicsTwin(system, PlateEquations(2))
    assert torch.equal(twin(x, theta), expected)


@pytest.mark.parametrize("part", ["resonance", "sag", "microphone_time"])
def test_every_imperfection_is_felt(part):
    x = torch.rand(7, 196, generator=torch.Generator().manual_seed(1))
    theta = torch.full((392,), 0.8)
    quiet = {"noise": False, "drift": False}
    with_it = Plate(0, **quiet)(x, theta)
    without = Plate(0, **quiet, imperfections=replace(PlateImperfections(), **{part: 0.0}))(
        x, theta
    )
    assert (with_it - without).abs().max() > 1e-4


def test_a_quiet_plate_hears_the_room():
    """Without a drive the read-out is that of the noise's energy."""
    system = Plate(0, input_dim=136, output_dim=1, drift=False)
    x, theta = torch.zeros(400, 136), torch.full((272,), 0.5)
    energy = torch.expm1(system(x, theta) * math.log1p(1 / FLOOR)) * FLOOR
    assert float(energy.mean()) == pytest.approx(PlateImperfections().noise ** 2, rel=0.05)


def test_the_read_out_does_not_know_the_sign_of_the_drive(programme):
    x, theta = programme
    system = Plate(0, input_dim=16, replays=2, output_dim=8, noise=False, drift=False)
    assert torch.allclose(system(x, 1 - theta), system(x, theta), atol=1e-5)


def test_impossible_plates_are_refused():
    with pytest.raises(ShapeError, match="windows"):
        Plate(0, input_dim=10, replays=1, output_dim=10 + TAIL + 1)
    with pytest.raises(ShapeError, match="replay"):
        Plate(0, replays=0)
    with pytest.raises(RangeError, match="unit"):
        Plate(-1)
    with pytest.raises(RangeError, match="tolerance"):
        Plate(0, tolerance=0.5)


def test_twins_of_another_programme_are_refused():
    with pytest.raises(TwinError, match="number of replays"):
        PhysicsTwin(Plate(0, replays=2), PlateEquations(3))
    equations = PlateEquations(1)
    narrow = Plate(0, input_dim=196, output_dim=261 - 1)
    assert PhysicsTwin(narrow, equations).output_dim == 260


def test_the_fit_finds_the_constants_of_a_plate_without_imperfections():
    system = Plate(0, tolerance=0.0, drift=False, imperfections=PERFECT)
    twin = PhysicsTwin(system, PlateEquations(1), replace(PlateConstants(), w_x=0.0127, loss=0.008))
    fit = fit_physics(twin, characterize.collect(system, 60, repeats=1, seed=0))
    assert not fit.fault
    assert fit.constants == pytest.approx(fit.nominal, rel=1e-3)


def test_the_fitted_twin_is_nearer_to_a_built_plate():
    system = Plate(0)
    fit = fit_physics(
        PhysicsTwin(system, PlateEquations(1)), characterize.collect(system, 150, seed=0)
    )
    assert not fit.fault
    held = characterize.shots(characterize.collect(system, 100, seed=9), "train")
    target = held.y.mean(0)
    errors = [
        characterize.nmse(twin(held.x, held.theta), target)
        for twin in (PhysicsTwin(system, PlateEquations(1)), fit.twin)
    ]
    assert errors[1] < 0.7 * errors[0]


def test_constants_serve_in_another_programme(programme):
    x, theta = programme
    first = Plate(0, input_dim=16, replays=1, output_dim=4)
    twin = PhysicsTwin(first, PlateEquations(1), replace(PlateConstants(), gain=0.4))
    second = first.reprogrammed(replays=2, output_dim=8)
    other = twin.reprogrammed(second, replays=2)
    assert other.constants.gain == 0.4
    assert other(x, theta).shape == (7, 8)


@pytest.mark.slow
def test_a_perceptron_learns_a_small_plate():
    system = Plate(0, input_dim=8, replays=1, output_dim=4)
    data = characterize.collect(system, 4000, seed=0)
    twin = NeuralTwin(system, Mlp((64, 64)))
    fitted = fit_neural(twin, data, NeuralSettings(epochs=20, batch_size=32))
    twin, record = fitted.twin, fitted.records[-1]
    assert not twin.fault
    assert record.best < 0.15
