"""Second-harmonic generation: the bench, its units, its twins, and the conformance suite."""

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from conformance import SystemConformance
from torch import Tensor

from pnnlab import characterize, twins
from pnnlab.errors import RangeError, ShapeError, TwinError
from pnnlab.gradients import physics_aware
from pnnlab.layers import PhysicalLayer, deep_pnn
from pnnlab.systems.shg import (
    BAND_THZ,
    BANDS,
    PIXELS,
    SHG,
    Crystal,
    MaskProgramme,
    SHGImperfections,
    bands_of_pixels,
    fabricate,
    frequencies,
    propagate,
    read,
    respond,
    shaped,
    shaper,
    spectrometer,
)
from pnnlab.twins import Mlp, NeuralSettings, NeuralTwin, PhysicsTwin, SHGEquations

PERFECT = SHGImperfections(
    crosstalk=0, calibration=0, chirp=0, cubic=0, kerr=0, jitter=0, saturation=0
)


class TestConformance(SystemConformance):
    def make_system(self):
        return SHG(3)


class TestConformanceWithoutNoise(SystemConformance):
    def make_system(self):
        return SHG(1, input_dim=12, output_dim=7, noise=False, drift=False)


class TestConformanceWithTheDataBetweenTheParameters(SystemConformance):
    def make_system(self):
        return SHG(2, input_dim=12, trained="amplitudes").reprogrammed(input_dim=25, output_dim=10)


def shots(n: int, system: SHG, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(n, system.input_dim, generator=generator)
    return x, torch.rand(n, system.param_dim, generator=generator)


def quiet(**options: object) -> SHG:
    return SHG(0, noise=False, drift=False, **options)  # type: ignore[arg-type]


def difference(first: Tensor, second: Tensor) -> float:
    return float((first - second).square().mean().sqrt() / second.std())


# --- the mask, the shaper and the spectrometer


def test_an_input_as_long_as_the_mask_sets_the_amplitudes_and_theta_the_phases():
    x, theta = torch.rand(3, BANDS), torch.rand(BANDS)
    amplitude, phase = MaskProgramme(phase_range=0.5).mask(x, theta)
    assert torch.equal(amplitude, x)
    flat = MaskProgramme(phase_range=0.5).mask(x, torch.full((BANDS,), 0.5))[1]
    assert torch.allclose(phase - flat, theta[None] - 0.5, atol=1e-6)
    each = MaskProgramme(phase_range=0.5).mask(x, theta.expand(3, -1))[1]
    assert torch.equal(each, phase.expand(3, -1))


@pytest.mark.parametrize("width", [1, 7, 12, 25, 49])
def test_a_short_input_is_repeated_over_neighbours_as_evenly_as_they_go(width):
    amplitude, _ = MaskProgramme().mask(torch.arange(1.0, width + 1)[None], torch.rand(BANDS))
    counts = [int((amplitude == n).sum()) for n in range(1, width + 1)]
    assert (amplitude.diff() >= 0).all()
    assert sum(counts) == BANDS
    assert max(counts) - min(counts) <= 1


def test_input_and_parameters_can_alternate_as_amplitudes():
    programme = MaskProgramme("amplitudes")
    x, theta = torch.rand(3, 25), torch.rand(25)
    amplitude, phase = programme.mask(x, theta)
    assert torch.equal(amplitude[:, ::2], x)
    assert torch.equal(amplitude[:, 1::2], theta.expand(3, -1))
    assert phase.shape == (1, BANDS)


def test_the_opposite_phases_are_no_longer_the_pulse_run_backwards():
    """The mask's own chirp breaks that symmetry."""
    phase = MaskProgramme().mask(torch.rand(1, BANDS), torch.full((BANDS,), 0.5))[1]
    assert phase.max() > 0.5


def test_the_shaper_adds_up_to_the_laser():
    """Bands lie side by side: together they let everything through but at the aperture's ends."""
    f = np.arange(-50, 51) * 0.1
    laser = np.exp(-2 * np.log(2) * (f / 12) ** 2)
    total = shaper(f).sum(0)
    assert np.allclose(total / total[50], laser, atol=1e-3)
    assert shaper(np.arange(-100, 101) * 0.1).sum() == pytest.approx(1)


def test_a_band_reaches_its_neighbours_and_no_further():
    f = (np.arange(BANDS) - (BANDS - 1) / 2) * BAND_THZ
    response = shaper(f)
    middle = response[25] / response[25, 25]
    assert 0.1 < middle[26] < 0.3
    assert middle[28] < 1e-3
    moved = shaper(f, BAND_THZ)
    assert np.argmax(moved[25]) == 24  # the colours moved up, so that a lower one meets the band


def test_the_spectrometer_counts_all_light_in_its_window():
    f = np.array([-3.0, -1.03, 0.0, 0.5, 2.9])
    assert np.allclose(spectrometer(f).sum(1), 1, atol=1e-6)
    assert spectrometer(np.array([6.0])).sum() < 1e-6
    assert np.argmax(spectrometer(np.array([3.92]))) == PIXELS - 1


def test_outputs_are_means_over_neighbouring_pixels():
    pixels = torch.rand(4, PIXELS)
    assert torch.equal(bands_of_pixels(pixels, PIXELS), pixels)
    assert torch.allclose(bands_of_pixels(pixels, 10), pixels.view(4, 10, 5).mean(2))
    assert torch.allclose(bands_of_pixels(torch.ones(2, PIXELS), 7), torch.ones(2, 7))


def test_what_cannot_be_programmed_is_refused():
    with pytest.raises(ShapeError, match="50 bands"):
        MaskProgramme().check(51, 50)
    with pytest.raises(ShapeError, match="25 bands"):
        MaskProgramme("amplitudes").check(26, 50)
    with pytest.raises(ShapeError, match="50 pixels"):
        MaskProgramme().check(50, 51)
    with pytest.raises(RangeError, match="trained"):
        MaskProgramme("both")  # type: ignore[arg-type]
    with pytest.raises(RangeError, match="phase_range"):
        MaskProgramme(phase_range=4.0)


# --- the read-out


def test_full_scale_is_the_brightest_pixel_of_the_pulse_at_half_amplitude():
    half, flat = torch.full((1, BANDS), 0.5), torch.zeros(1, BANDS)
    pulse = shaped(half.double(), flat.double(), shaper(frequencies()))
    assert float(read(propagate(pulse, Crystal())[1]).max()) == pytest.approx(1, abs=1e-3)


def test_a_tenth_of_the_power_is_converted_at_random_drive():
    x, theta = torch.rand(200, BANDS), torch.rand(200, BANDS)
    pulse = shaped(*MaskProgramme().mask(x, theta), shaper(frequencies()))
    harmonic = propagate(pulse, Crystal())[1]
    efficiency = harmonic.abs().square().sum(1) / pulse.abs().square().sum(1)
    assert 0.09 < efficiency.mean() < 0.13


def test_a_dark_pulse_gives_no_light():
    assert quiet()(torch.zeros(2, BANDS), torch.rand(BANDS)).abs().max() == 0


def test_half_the_amplitude_gives_a_sixteenth_of_weak_light():
    x, theta = 0.02 * torch.rand(1, BANDS), torch.rand(BANDS)
    system = quiet()
    assert difference(16 * system(x / 2, theta), system(x, theta)) < 2e-3


def test_a_short_input_drives_the_bands_that_it_is_repeated_over():
    system = quiet()
    short = system.reprogrammed(input_dim=12)
    x, theta = shots(3, short)
    assert torch.equal(short(x, theta), system(x[:, torch.arange(50) * 12 // 50], theta))


def test_few_outputs_are_means_of_the_pixels():
    system = quiet()
    x, theta = shots(3, system)
    seven = system.reprogrammed(output_dim=7)(x, theta)
    assert torch.allclose(seven, bands_of_pixels(system(x, theta), 7))


# --- the unit


def test_a_perfect_unit_with_the_nominal_crystal_is_its_equations(monkeypatch):
    built = Crystal(), np.ones(BANDS), 0.0, 0.0
    monkeypatch.setattr("pnnlab.systems.shg.fabricate", lambda *_: built)
    system = quiet(imperfections=PERFECT)
    x, theta = shots(7, system)
    assert torch.allclose(
        system(x, theta), respond(x, theta, Crystal(), MaskProgramme(), PIXELS), atol=1e-6
    )


def test_units_differ_within_tolerance_and_a_unit_is_always_the_same():
    crystals = [fabricate(unit, SHGImperfections())[0] for unit in (0, 0, 1)]
    assert crystals[0] == crystals[1]
    first, second = (asdict(crystal) for crystal in crystals[1:])
    assert all(first[name] != second[name] for name in first)
    for unit in range(50):
        crystal, *_ = fabricate(unit, SHGImperfections())
        assert abs(crystal.length - 1) <= 0.1
        assert abs(crystal.coupling / 1.6 - 1) <= 0.1
        assert abs(crystal.centre - 6) <= 0.25
    gains = np.stack([fabricate(unit, SHGImperfections())[1] for unit in range(50)])
    assert gains.std() == pytest.approx(0.03, rel=0.1)


@pytest.mark.parametrize(
    "name", ["crosstalk", "calibration", "chirp", "cubic", "kerr", "saturation"]
)
def test_each_imperfection_moves_the_answer(name):
    one = quiet(imperfections=replace(PERFECT, **{name: getattr(SHGImperfections(), name)}))
    none = quiet(imperfections=PERFECT)
    x, theta = shots(5, one)
    moved = difference(one(x, theta), none(x, theta))
    assert 1e-3 < moved < 0.5
    assert torch.equal(none(x, theta), quiet(imperfections=PERFECT)(x, theta))


def test_crosstalk_lends_a_band_to_its_neighbours():
    """As if a mask without it had been given amplitudes and phases already mixed."""
    blurred, sharp = (
        quiet(imperfections=replace(PERFECT, crosstalk=0.1)),
        quiet(imperfections=PERFECT),
    )
    x, theta = shots(5, blurred)
    mixed = [torch.nn.functional.pad(value[:, None], (1, 1), "replicate") for value in (x, theta)]
    kernel = torch.tensor([[[0.1, 0.8, 0.1]]])
    x_mixed, theta_mixed = (torch.nn.functional.conv1d(value, kernel)[:, 0] for value in mixed)
    assert difference(blurred(x, theta), sharp(x, theta)) > 0.05
    assert difference(blurred(x, theta), sharp(x_mixed, theta_mixed)) < 0.005


def test_saturation_takes_its_part_at_full_scale():
    bent = quiet(imperfections=replace(PERFECT, saturation=0.05))
    straight = quiet(imperfections=PERFECT)
    x, theta = shots(5, bent)
    light = straight(x, theta)
    assert torch.allclose(bent(x, theta), light / (1 + 0.05 * light), atol=1e-6)


def test_noise_has_its_size():
    system = SHG(0, drift=False, imperfections=SHGImperfections(jitter=0))
    x, theta = shots(1, system)
    spread = system(x.expand(3000, -1), theta[0]).std(0)
    assert float(spread.mean()) == pytest.approx(0.01, rel=0.05)


def test_jitter_moves_all_pixels_together():
    """Energy twice over: the harmonic's relative deviation is twice the pulse's, less depletion."""
    system = SHG(0, drift=False, imperfections=SHGImperfections(noise=0))
    x, theta = shots(1, system)
    y = system(x.expand(2000, -1), theta[0])
    bright = y.mean(0) > 0.1
    relative = (y.std(0) / y.mean(0))[bright]
    assert ((relative > 0.006) & (relative < 0.011)).all()
    assert np.corrcoef(y[:, bright].numpy().T).min() > 0.99


def test_misalignment_moves_the_answer_as_a_shifted_spectrum_does():
    system = SHG(0, noise=False)
    x, theta = shots(4, system)
    before = system(x, theta)
    state = dict(system.state())
    state["misalignment"] = 2.0
    system.restore(state)
    assert 0.01 < difference(system(x, theta), before) < 0.5


def test_one_by_one_is_a_batch_noise_and_all():
    together, apart = SHG(0, drift=False), SHG(0, drift=False)
    x, theta = shots(6, together)
    rows = torch.cat([apart(x[n : n + 1], theta[n]) for n in range(6)])
    assert torch.allclose(together(x, theta), rows, atol=1e-6)


def test_impossible_benches_are_refused():
    with pytest.raises(ShapeError, match="bands"):
        SHG(0, input_dim=51)
    with pytest.raises(RangeError, match="unit"):
        SHG(-1)


# --- the twins


def test_gradients_of_the_equations_agree_with_finite_differences():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    theta = torch.rand(BANDS, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x, theta: respond(x, theta, Crystal(), MaskProgramme(), 5),
        (x, theta),
        fast_mode=True,
    )


def test_the_fit_finds_the_crystal_of_a_bench_without_imperfections():
    system = quiet(imperfections=PERFECT)
    data = characterize.collect(system, 100, seed=0)
    fit = twins.fit_physics(PhysicsTwin(system, SHGEquations()), data)
    built, found = fabricate(0, PERFECT)[0], fit.twin.constants
    # Only what the crystal does in all its length can be told.
    assert found.coupling == pytest.approx(built.coupling * built.length, rel=5e-3)
    assert found.gvm == pytest.approx(built.gvm * built.length, rel=5e-3)
    assert found.centre == pytest.approx(built.centre, abs=0.02)
    assert fit.fault == ""
    assert fit.nmse < 1e-4 < fit.nmse_before


def test_the_fit_helps_on_a_real_bench_and_does_not_reach_its_noise():
    system = SHG(0)
    data = characterize.collect(system, 200, seed=0)
    nominal = PhysicsTwin(system, SHGEquations())
    fit = twins.fit_physics(nominal, data)
    assert 0.03 < fit.nmse_before < 0.5
    assert fit.nmse < 0.2 * fit.nmse_before
    assert fit.twin.label == "physics twin, fitted"
    held = characterize.shots(data, "validation")
    noise = float(held.y.var(0).mean() / held.y.mean(0).var())
    assert fit.nmse > noise
    moved = fit.twin.reprogrammed(system.reprogrammed(input_dim=12, output_dim=7))
    assert moved(torch.rand(3, 12), torch.rand(BANDS)).shape == (3, 7)
    assert moved.constants == fit.twin.constants


def test_a_neural_twin_learns_it():
    system = SHG(0, input_dim=12, output_dim=7)
    data = characterize.collect(system, 1500, seed=0)
    twin = NeuralTwin(system, Mlp((64,)))
    fitted = twins.fit_neural(twin, data, NeuralSettings(epochs=10))
    twin, last = fitted.twin, fitted.records[-1]
    assert twin.fault == ""
    assert last.best < 0.5


def test_equations_of_another_programme_are_refused():
    with pytest.raises(TwinError, match="25 parameters"):
        PhysicsTwin(SHG(0, input_dim=12), SHGEquations("amplitudes"))


def test_layers_chain_and_train():
    bench = quiet(phase_range=0.5)
    systems = [bench.reprogrammed(input_dim=12), bench, bench.reprogrammed(output_dim=7)]
    equations = SHGEquations(phase_range=0.5)
    net = deep_pnn(systems, [PhysicsTwin(s, equations) for s in systems], physics_aware)
    logits = net(torch.rand(8, 12))
    assert logits.shape == (8, 7)
    logits.square().sum().backward()
    layers = [layer for layer in net if isinstance(layer, PhysicalLayer)]
    assert all(layer.theta.grad.abs().max() > 0 for layer in layers)
