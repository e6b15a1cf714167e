"""Twins: equations find their constants, networks learn, reports tell good twins from bad."""

import math
import pickle
import subprocess
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from runners import assert_equal
from torch import Tensor
from torch.nn import functional
from toy import Toy, toy_response

import pnnlab.twins
from pnnlab import characterize, twins
from pnnlab.errors import DataError, RangeError, TwinError
from pnnlab.gradients import physics_aware
from pnnlab.layers import PhysicalLayer
from pnnlab.physical_system import PhysicalSystem, device
from pnnlab.storage import Kind, packed, unpacked
from pnnlab.systems import SHG, Circuit, Oscillators, Plate, Resonators, multiplex, plate
from pnnlab.systems.circuit import CircuitConstants, CircuitImperfections, fabricate, oscillate
from pnnlab.twins import (
    CircuitEquations,
    FilterBank,
    Forces,
    Mlp,
    NeuralSettings,
    NeuralTwin,
    OscillatorEquations,
    PhysicsTwin,
    PlateEquations,
    ResonatorEquations,
    SHGEquations,
    Temporal,
)
from pnnlab.twins.neural import Architecture, Core
from pnnlab.twins.physics import Equations
from pnnlab.twins.report import INVISIBLE
from pnnlab.twins.twin import Described

PERFECT = CircuitImperfections(
    drive_time_constant=0, drive_codes=0, stray_capacitance=0, channel_capacitance=0,
    heating=0, codes=2**40, jitter=0,
)  # fmt: skip


def circuit(unit: int = 0, **options: object) -> Circuit:
    """A small one: 24 inputs, replayed twice, 12 segments of four samples."""
    return Circuit(unit, **({"input_dim": 24, "replays": 2, "output_dim": 12} | options))  # type: ignore[arg-type]


class Exact(twins.Twin):
    """The toy's own equation, times a factor."""

    def __init__(self, system: PhysicalSystem, factor: float = 1.0) -> None:
        super().__init__(system)
        self.factor = factor

    @property
    def label(self) -> str:
        return "exact twin"

    def model(self, x: Tensor, theta: Tensor) -> Tensor:
        return self.factor * toy_response(x, theta, 1.1)


def shots(n: int, system: PhysicalSystem, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(n, system.input_dim, generator=generator)
    return x, torch.rand(n, system.param_dim, generator=generator)


# --- the physics twin


def test_the_physics_twin_is_the_nominal_equations() -> None:
    system = circuit()
    twin = PhysicsTwin(system, CircuitEquations(2))
    x, theta = shots(5, system)
    wave = oscillate(multiplex.drive(x, theta, 2), CircuitConstants())
    assert torch.equal(twin(x, theta), multiplex.segment_means(wave, 12))
    assert torch.allclose(twin(x, theta[0]), twin(x, theta[0].expand(5, -1)))
    assert twin.constants == CircuitConstants()
    assert twin.label == "physics twin, nominal"


def test_the_fit_finds_the_constants_of_a_circuit_without_imperfections() -> None:
    system = circuit(imperfections=PERFECT, noise=False, drift=False)
    data = characterize.collect(system, 200, seed=0)
    fit = twins.fit_physics(PhysicsTwin(system, CircuitEquations(2)), data)
    built, found = fabricate(0, 0.1), fit.twin.constants
    # The unit of current is free: only these combinations reach the read-out.
    for name, mine, true in (
        ("w_l", found.w_l * found.w_c, built.w_l * built.w_c),
        ("r", found.r * found.w_l, built.r * built.w_l),
        ("g", found.g * found.w_c, built.g * built.w_c),
        *((n, getattr(found, n), getattr(built, n)) for n in ("v_t", "a", "s")),
    ):
        assert mine == pytest.approx(true, rel=1e-3), name
    assert fit.fault == fit.twin.fault == ""
    assert fit.nmse < 1e-8 < fit.nmse_before
    assert fit.twin.label == "physics twin, fitted"
    assert twins.report(system, fit.twin, data).verdict == "at the noise floor"


def test_standard_errors_cover_what_noise_does() -> None:
    system = circuit(imperfections=PERFECT, drift=False)
    twin = PhysicsTwin(system, CircuitEquations(2))
    truth = fabricate(0, 0.1)
    true = {"v_t": truth.v_t, "a": truth.a, "w_l": truth.w_l * truth.w_c / 0.7}
    for seed in range(3):
        fit = twins.fit_physics(twin, characterize.collect(system, 150, seed=seed))
        for name, value in true.items():
            assert abs(fit.constants[name] - value) < 4 * fit.errors[name], name
            assert fit.errors[name] < 0.2 * value
    assert twin.constants == CircuitConstants()  # the given twin is not touched


def test_a_hopeless_fit_says_so() -> None:
    system = circuit()
    data = characterize.collect(system, 100, seed=0)
    nonsense = torch.rand(2, 1, 12, generator=torch.Generator().manual_seed(0)).numpy()
    shuffled = data.assign(y=data["y"].copy(data=np.roll(data["y"], 7, axis=1) + nonsense))
    fit = twins.fit_physics(PhysicsTwin(system, CircuitEquations(2)), shuffled)
    assert fit.fault
    assert f"failed: {fit.fault}" in str(fit)
    verdict = twins.report(system, fit.twin, data).verdict
    assert verdict == f"failed: {fit.fault}"


def test_constants_travel_to_another_programme_and_in_a_state_dict() -> None:
    system = circuit()
    twin = PhysicsTwin(system, CircuitEquations(2), replace(CircuitConstants(), a=2.0))
    other = system.reprogrammed(replays=3, output_dim=9)
    moved = twin.reprogrammed(other, replays=3)
    assert (moved.output_dim, moved.constants.a) == (9, 2.0)
    assert moved(*shots(2, other)).shape == (2, 9)
    fresh = PhysicsTwin(system, CircuitEquations(2))
    fresh.load_state_dict(twin.state_dict())
    assert fresh.constants == twin.constants


# --- the neural twin


@pytest.fixture(scope="module")
def fitted() -> tuple[Circuit, xr.Dataset, NeuralTwin, list[twins.NeuralRecord]]:
    system = circuit()
    data = characterize.collect(system, 1500, seed=0)
    twin = NeuralTwin(system, Temporal(replays=2, memory=20))
    records = list(twins.fitting_neural(twin, data, NeuralSettings(epochs=12)))
    return system, data, twin, records


def test_the_temporal_twin_learns_the_circuit(
    fitted: tuple[Circuit, xr.Dataset, NeuralTwin, list[twins.NeuralRecord]],
) -> None:
    system, data, twin, records = fitted
    assert twin.fault == ""
    assert records[-1].best == min(r.validation for r in records) < 0.02
    assert [r.epoch for r in records] == list(range(1, 13))
    report = twins.report(system, twin, data)
    nominal = twins.report(system, PhysicsTwin(system, CircuitEquations(2)), data)
    assert report.nmse < 0.3 * nominal.nmse
    assert report.gradient.cosine > 0.95
    assert not any(p.requires_grad for p in twin.parameters())


def test_the_noise_model_has_the_devices_noise(
    fitted: tuple[Circuit, xr.Dataset, NeuralTwin, list[twins.NeuralRecord]],
) -> None:
    _, data, twin, _ = fitted
    held = characterize.shots(data, "test")
    measured = float(held.y.var(0).mean().sqrt())
    deviation = twin.distribution(held.x, held.theta)[1]
    assert float(deviation.square().mean().sqrt()) == pytest.approx(measured, rel=0.1)
    generator = torch.Generator().manual_seed(0)
    samples = torch.stack([twin.sample(held.x, held.theta, generator) for _ in range(50)])
    scatter = (samples - twin(held.x, held.theta)) / deviation
    assert float(scatter.std()) == pytest.approx(1, rel=0.02)
    assert float(scatter.mean()) == pytest.approx(0, abs=0.02)


def test_one_net_serves_all_programmes_of_a_board(
    fitted: tuple[Circuit, xr.Dataset, NeuralTwin, list[twins.NeuralRecord]],
) -> None:
    system, _, twin, _ = fitted
    other = system.reprogrammed(replays=2, output_dim=3)
    coarse = twin.reprogrammed(other, replays=2)
    x, theta = shots(50, system)
    means = twin(x, theta).view(50, 3, 4).mean(2)
    assert torch.allclose(coarse(x, theta), means, atol=1e-6)
    # Noise of the mean of four independent outputs.
    assert torch.allclose(
        coarse.distribution(x, theta)[1],
        twin.distribution(x, theta)[1].square().view(50, 3, 4).mean(2).sqrt() / 2,
    )
    assert coarse.core.window is twin.core.window  # type: ignore[union-attr]
    assert twin.reprogrammed(system.reprogrammed(replays=5, output_dim=10), replays=5).fault == ""
    with pytest.raises(TwinError, match=r"hops of 4.*hop=1"):
        twin.reprogrammed(system.reprogrammed(replays=1, output_dim=24), replays=1)
    perceptron = NeuralTwin(system, Mlp())
    with pytest.raises(TwinError, match="one programme"):
        perceptron.reprogrammed(other, replays=2)


def test_the_temporal_twin_is_causal_and_forgets() -> None:
    system = circuit(output_dim=12)
    design = Temporal(replays=2, memory=6)  # a window of 4 * 2 + 4 samples
    twin = NeuralTwin(system, design).double()
    x, theta = (one.double() for one in shots(1, system))
    theta.requires_grad_()
    twin(x, theta)[0, 6].backward()
    offsets = theta.grad[0, 48:]  # type: ignore[index]
    felt = offsets.abs() > 1e-12 * offsets.abs().max()
    assert felt.nonzero().flatten().tolist() == list(range(4 * 6 - 8, 4 * 6 + 4))


def test_the_temporal_twin_weighs_the_last_samples() -> None:
    """Against its sums written out, over windows of the drive after zeros."""
    system = circuit(output_dim=12)
    for memory, hop in ((0, 1), (6, 4), (40, 2), (500, 4)):
        twin = NeuralTwin(system, Temporal(replays=2, memory=memory, hop=hop)).double()
        core = twin.core
        x, theta = (one.double() for one in shots(40, system))
        rest = torch.zeros(hop * (core.frames - 1), len(x))
        u = torch.cat([rest, multiplex.drive(x, theta, 2)])
        windows = u.unfold(0, hop * core.frames, hop)  # (hops, batch, samples)
        h = functional.silu(core.window(windows))
        for layer in core.inner:
            h = h + functional.silu(layer(h))
        torch.testing.assert_close(core(x, theta), core.last(h)[..., 0].T, atol=1e-12, rtol=0)


def test_filters_compute_the_sound_of_a_linear_plate_exactly() -> None:
    """One filter with the plate's response to an impulse; what is not linear is off."""
    modes = replace(plate.solve_modes(plate.PlateConstants()), alpha=0.0)
    memory = 2 * 16 + plate.TAIL
    impulse = torch.zeros(memory, 1, dtype=torch.float64)
    impulse[0] = 1.0
    system = Plate(input_dim=16, replays=2, output_dim=7)
    twin = NeuralTwin(system, FilterBank(replays=2, memory=memory, channels=1)).double()
    with torch.no_grad():
        twin.core.taps.weight.copy_(plate.vibrate(impulse, modes).T)
        for module in (twin.core.inner[2], twin.core.unit):
            module.weight.fill_(0.0)
            module.bias.fill_(0.0)
        twin.core.unit.weight.fill_(1.0)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(5, 16, generator=generator, dtype=torch.float64)
    theta = torch.rand(64, generator=generator, dtype=torch.float64)
    sound = plate.vibrate(plate.waveform(x, theta, 2), modes)
    assert torch.allclose(twin(x, theta), plate.log_energy(sound, 7), atol=1e-9)


def test_filters_learn_a_plate_and_serve_in_another_programme() -> None:
    system = Plate(input_dim=64, replays=1, output_dim=8)
    data = characterize.collect(system, 1000, seed=0)
    found = twins.fit_neural(NeuralTwin(system, FilterBank(replays=1)), data)
    assert found.nmse < 0.35
    other = system.reprogrammed(replays=2, output_dim=24)
    moved = found.twin.reprogrammed(other, replays=2)
    assert moved.core.taps is found.twin.core.taps
    assert twins.report(other, moved, characterize.collect(other, 200, seed=1)).nmse < 0.6
    # The fewer samples a window has, the more a log energy scatters.
    few, many = (system.reprogrammed(replays=1, output_dim=n) for n in (4, 32))
    noise = [found.twin.reprogrammed(one, replays=1).noise.level for one in (few, many)]
    assert torch.allclose(noise[1] - noise[0], torch.tensor(0.5 * math.log(8)))
    assert moved.noise is not found.twin.noise


def test_the_perceptron_learns_a_small_system() -> None:
    system = Toy(inputs=3, outputs=2, noise=0.02)
    data = characterize.collect(system, 1000, seed=0, smooth=1)
    twin = NeuralTwin(system, Mlp((64, 64)))
    fitted = twins.fit_neural(twin, data, NeuralSettings(epochs=20))
    twin, last = fitted.twin, fitted.records[-1]
    assert last.best < 0.04
    assert twins.report(system, twin, data).verdict == "usable"
    held = characterize.shots(data, "test")
    assert float(twin.distribution(held.x, held.theta)[1].mean()) == pytest.approx(0.02, rel=0.1)


def test_noise_that_grows_with_the_signal_is_learnt() -> None:
    class Shot(Toy):
        def _simulate(self, x: Tensor, theta: Tensor) -> Tensor:
            y = toy_response(x, theta, 1.0)
            scatter = torch.randn(y.shape, generator=self.generator)
            return y + 0.03 * torch.exp(1.5 * y) * scatter

    system = Shot(inputs=2, outputs=1)
    data = characterize.collect(system, 2000, seed=0, smooth=1)
    twin = NeuralTwin(system, Mlp((32, 32)))
    twin = twins.fit_neural(twin, data, NeuralSettings(epochs=15)).twin
    x, theta = shots(500, system)
    with torch.no_grad():
        ratio = twin.distribution(x, theta)[1] / (0.03 * torch.exp(1.5 * twin(x, theta)))
    middle = ratio.quantile(torch.tensor([0.05, 0.95]))
    assert 0.8 < float(middle[0]) < float(middle[1]) < 1.25


def test_without_repeats_no_noise_is_claimed() -> None:
    system = Toy(inputs=3, outputs=2)
    data = characterize.collect(system, 100, seed=0, repeats=1)
    twin = twins.fit_neural(NeuralTwin(system, Mlp((8,))), data, NeuralSettings(epochs=3)).twin
    x, theta = shots(4, system)
    assert torch.equal(twin.distribution(x, theta)[1], torch.zeros(4, 2))
    with pytest.raises(TwinError, match="measured at least twice"):
        twin.sample(x, theta)


def test_a_tail_that_parts_do_not_divide_has_the_devices_noise() -> None:
    def measure(x: Tensor, theta: Tensor) -> Tensor:
        drive = functional.pad(multiplex.drive(x, theta, 1), (0, 0, 0, 8)).T
        sound = torch.tanh(drive + 0.5 * drive.roll(1, 1))
        sound = sound + 0.1 * torch.randn(sound.shape, generator=generator)
        return functional.adaptive_avg_pool1d(sound[:, None], 20)[:, 0]

    generator = torch.Generator().manual_seed(0)
    system = device(measure, inputs=24, parameters=48, outputs=20)
    design = Temporal(replays=1, memory=3, hop=1, tail=8)
    data = characterize.collect(system, 400, seed=0)
    twin = twins.fit_neural(NeuralTwin(system, design), data, NeuralSettings(epochs=6)).twin
    x, theta = shots(400, system)
    true = torch.stack([system(x, theta) for _ in range(8)]).var(0).mean().sqrt()
    found = twin.distribution(x, theta)[1].square().mean().sqrt()
    assert float(found) == pytest.approx(float(true), rel=0.1)


def test_double_precision_is_taken_as_it_comes() -> None:
    system = Toy(inputs=3, outputs=2)
    x, theta = (torch.rand(400, n, dtype=torch.float64) for n in (3, 6))
    data = characterize.measured(system, x, theta.requires_grad_())
    assert data["y"].dtype == np.float64
    twin = twins.fit_neural(NeuralTwin(system, Mlp((32,))), data, NeuralSettings(epochs=8)).twin
    assert twin.sample(x, theta).dtype == torch.float64
    assert twins.stand_in(twin)(x, theta.detach()).dtype == torch.float64


def test_a_fit_can_be_left_and_taken_up_again() -> None:
    system = Toy(inputs=3, outputs=2)
    data = characterize.collect(system, 300, seed=0, smooth=1)
    twin = NeuralTwin(system, Mlp((32,)))
    before = characterize.shots(data, "validation")
    records = twins.fitting_neural(twin, data, NeuralSettings(epochs=50))
    first, second = next(records), next(records)
    records.close()
    assert twin.fault == ""
    reached = characterize.nmse(twins.predict(twin, before.x, before.theta), before.y.mean(0))
    assert reached == pytest.approx(min(first.validation, second.validation), rel=1e-5)
    layer = PhysicalLayer(system, twin, physics_aware)
    fitted = twins.fit_neural(twin, data, NeuralSettings(epochs=30))
    twin, again = fitted.twin, fitted.records[-1]
    assert again.best < 0.9 * second.best
    assert not any(p.requires_grad for p in twin.parameters())
    assert [p is layer.theta for p in layer.parameters() if p.requires_grad] == [True]


def test_a_fit_keeps_its_best_weights_not_its_last() -> None:
    system = Toy(inputs=3, outputs=2)
    data = characterize.collect(system, 300, seed=0, smooth=1)
    twin = NeuralTwin(system, Mlp((32,)))
    records = twins.fitting_neural(twin, data, NeuralSettings(epochs=50, patience=2))
    best = [next(records) for _ in range(5)][-1].best
    with torch.no_grad():
        for weight in twin.core.parameters():
            weight.mul_(100)  # from here on it can only be worse
    rest = list(records)
    assert [r.best for r in rest] == [best] * len(rest)
    assert len(rest) == 2  # and it does not go on in vain
    held = characterize.shots(data, "validation")
    reached = characterize.nmse(twins.predict(twin, held.x, held.theta), held.y.mean(0))
    assert reached == pytest.approx(best, rel=1e-5)


def test_a_fit_repeats_itself_from_its_seeds() -> None:
    system = Toy(inputs=3, outputs=2)
    data = characterize.collect(system, 200, seed=0)

    def weights(seed: int) -> Tensor:
        twin = NeuralTwin(system, Mlp((8,)), seed=seed)
        twin = twins.fit_neural(twin, data, NeuralSettings(epochs=2, seed=seed)).twin
        return torch.cat([p.flatten() for p in twin.parameters()])

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


def test_a_network_that_learns_nothing_says_so() -> None:
    system = Toy(inputs=3, outputs=2)
    data = characterize.collect(system, 200, seed=0)
    unfitted = NeuralTwin(system, Mlp())
    assert twins.report(system, unfitted, data).verdict == "failed: it has not been fitted"
    noise = data.assign(y=data["y"].copy(data=np.random.default_rng(0).random(data["y"].shape)))
    noise["y"] = noise["y"].astype("float32")
    unfitted = twins.fit_neural(unfitted, noise, NeuralSettings(epochs=3)).twin
    assert "no better than a constant" in unfitted.fault
    diverging = NeuralTwin(system, Mlp())
    fitted = twins.fit_neural(diverging, data, NeuralSettings(epochs=9, learning_rate=1e30))
    diverging, last = fitted.twin, fitted.records[-1]
    assert last.epoch < 9
    assert "no better than a constant" in diverging.fault
    assert all(bool(p.isfinite().all()) for p in diverging.parameters())


def test_settings_are_checked() -> None:
    with pytest.raises(RangeError, match="epochs is 0"):
        NeuralSettings(epochs=0)
    with pytest.raises(RangeError, match="learning_rate"):
        NeuralSettings(learning_rate=math.nan)


# --- the report


def test_gradients_of_an_exact_twin_agree_up_to_the_noise() -> None:
    quiet = Toy(noise=0, drift=0)
    held = characterize.shots(characterize.collect(quiet, 400, seed=0, smooth=1), "train")
    points = held.x[:64], held.theta[:64]
    exact = twins.gradient_agreement(quiet, Exact(quiet), *points)
    assert exact.cosine == pytest.approx(1, abs=1e-3)
    assert exact.ceiling == pytest.approx(1, abs=1e-6)
    assert exact.relative_error < 0.03
    larger = twins.gradient_agreement(quiet, Exact(quiet, 1.5), *points)
    assert larger.cosine == pytest.approx(exact.cosine, abs=1e-6)
    assert larger.relative_error == pytest.approx(0.5, rel=0.02)
    opposite = twins.gradient_agreement(quiet, Exact(quiet, -1), *points)
    assert opposite.cosine == pytest.approx(-exact.cosine)

    noisy = Toy(noise=0.1, drift=0)
    blurred = twins.gradient_agreement(noisy, Exact(noisy), *points, repeats=4)
    assert blurred.ceiling < 0.9
    assert blurred.cosine == pytest.approx(blurred.ceiling, abs=0.02)
    assert blurred.device_passes == noisy.passes == 2 * 4 * 4 * 64
    assert blurred.device.shape == blurred.twin.shape == (64, 64)


def test_the_gap_of_an_exact_twin_is_the_noise() -> None:
    quiet = Toy(noise=0, drift=0)
    held = characterize.shots(characterize.collect(quiet, 400, seed=0), "train")
    gap = twins.gap_by_depth(quiet, Exact(quiet), held, depth=4)
    assert max(gap.free + gap.local + gap.noise) < 1e-9
    noisy = Toy(noise=0.05, drift=0)
    gap = twins.gap_by_depth(noisy, Exact(noisy), held, depth=4)
    assert gap.noise[0] == pytest.approx(2 * gap.local[0], rel=0.15)
    assert gap.local[0] == gap.free[0]
    assert gap.device_passes == noisy.passes == 4 * 2 * 256
    wrong = twins.gap_by_depth(quiet, Exact(quiet, 1.2), held, depth=4)
    assert wrong.free[3] > wrong.local[3] > 0.001
    uneven = Toy(inputs=3, outputs=2)
    with pytest.raises(TwinError, match="3 inputs and 2 outputs"):
        twins.gap_by_depth(uneven, Exact(uneven), held)


@pytest.mark.parametrize(
    ("factor", "verdict"),
    [(1.0, "at the noise floor"), (1.3, "usable"), (2.5, "failed: NMSE"), (0.0, "failed: NMSE")],
)
def test_verdicts(factor: float, verdict: str) -> None:
    system = Toy(noise=0.05, drift=0)
    data = characterize.collect(system, 500, seed=0)
    before = system.passes
    report = twins.report(system, Exact(system, factor), data)
    assert report.verdict.startswith(verdict)
    assert report.device_passes == system.passes - before
    assert report.gap is not None
    text = str(report)
    assert report.verdict in text
    assert f"{report.floor:.4g}" in text
    assert f"{report.gap.free[-1]:.4f}" in text
    assert max(map(len, text.splitlines())) < 120


def test_gradients_that_lead_astray_fail_a_twin_with_a_small_error() -> None:
    class Flat(Exact):
        def model(self, x: Tensor, theta: Tensor) -> Tensor:
            return super().model(x, theta).detach() + 0 * x[:, :1] + 0 * theta.mean()

    system = Toy(noise=0.01, drift=0)
    report = twins.report(system, Flat(system), characterize.collect(system, 300, seed=0))
    assert report.nmse < 0.01
    assert "gradients lead astray" in report.verdict


def test_without_repeats_the_floor_is_unknown_and_not_claimed() -> None:
    system = Toy(inputs=3, outputs=2, noise=0.05)
    report = twins.report(
        system, Exact(system), characterize.collect(system, 300, seed=0, repeats=1)
    )
    assert math.isnan(report.floor)
    assert report.nmse > INVISIBLE
    assert report.verdict == "usable"
    assert report.gap is None


# --- whose twin it is


def test_a_twin_of_another_system_is_refused() -> None:
    system, other = circuit(), Toy()
    data = characterize.collect(other, 50, seed=0)
    twin = PhysicsTwin(system, CircuitEquations(2))
    with pytest.raises(TwinError, match=r"twin of circuit \(24 \+ 96 → 12\).*toy"):
        twins.report(other, twin, data)
    with pytest.raises(TwinError, match="data are of toy"):
        twins.report(system, twin, data)
    with pytest.raises(TwinError, match="data are of toy"):
        twins.fit_physics(twin, data)
    with pytest.raises(TwinError, match="data are of toy"):
        twins.fit_neural(NeuralTwin(system, Mlp()), data)
    with pytest.raises(TwinError, match="fit one for the system at hand"):
        twin(torch.rand(2, 6), torch.rand(96))
    with pytest.raises(TwinError, match="3 replays of 24 samples have 144"):
        PhysicsTwin(system, CircuitEquations(3))
    with pytest.raises(TwinError, match="another system"):
        PhysicalLayer(other, twin, physics_aware)
    with pytest.raises(DataError, match="no validation shots"):
        twins.fit_neural(NeuralTwin(other, Mlp()), data.isel(shot=slice(5)))


def test_twins_survive_the_disk(
    tmp_path: Path, fitted: tuple[Circuit, xr.Dataset, NeuralTwin, list[twins.NeuralRecord]]
) -> None:
    system, _, temporal, _ = fitted
    physics = PhysicsTwin(system, CircuitEquations(2), replace(CircuitConstants(), a=2.0))
    physics.fault = "it broke"
    x, theta = shots(4, system)
    for twin in (temporal, physics, NeuralTwin(system, Mlp((8, 4)), seed=3)):
        path = twins.save(twin, tmp_path / "new" / "twin.pt")
        back = twins.load(path, system)
        assert torch.equal(back(x, theta), twin(x, theta))
        assert (back.fault, back.label, back.signature) == (twin.fault, twin.label, twin.signature)
    assert [p.name for p in path.parent.iterdir()] == ["twin.pt"]
    with pytest.raises(TwinError, match="reprogrammed"):
        twins.load(path, system.reprogrammed(replays=1, output_dim=24))


def every_kind() -> list[PhysicsTwin | NeuralTwin]:
    pendula, optics = Oscillators(4, steps=2), SHG()
    plates = Plate(input_dim=32, replays=1, output_dim=4)
    return [
        PhysicsTwin(pendula, OscillatorEquations(4, steps=2)),
        NeuralTwin(pendula, Forces(4, steps=2)),
        PhysicsTwin(plates, PlateEquations(1)),
        PhysicsTwin(optics, SHGEquations()),
        NeuralTwin(circuit(), Mlp((8, 4))),
        NeuralTwin(circuit(), Temporal(replays=2, memory=8)),
        NeuralTwin(plates, FilterBank(replays=1, memory=8)),
        PhysicsTwin(Resonators(input_dim=64), ResonatorEquations()),
    ]


@pytest.mark.parametrize("which", range(8))
def test_every_kind_of_twin_comes_back_from_disk(tmp_path: Path, which: int) -> None:
    twin = every_kind()[which]
    found = twins.load(twins.save(twin, tmp_path / "twin.pt"))
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(3, twin.input_dim, generator=generator)
    theta = torch.rand(twin.param_dim, generator=generator)
    assert torch.equal(found(x, theta), twin(x, theta))


class Malice:
    def __reduce__(self) -> tuple[object, tuple[list[str]]]:
        return subprocess.check_call, (["touch", "executed"],)


NUMPY = {int: np.int64, float: np.float32, tuple: np.array}


@pytest.mark.parametrize("which", range(6))
def test_every_kind_of_twin_is_kept_with_numbers_of_numpy(tmp_path: Path, which: int) -> None:
    twin = every_kind()[which]
    recipe = twin.equations if isinstance(twin, PhysicsTwin) else twin.architecture
    given = {name: NUMPY.get(type(v), lambda v: v)(v) for name, v in vars(recipe).items()}
    assert any(isinstance(value, np.generic | np.ndarray) for value in given.values())
    signature = replace(twin.signature, input_dim=np.int64(twin.input_dim))
    kept = type(twin)(signature, type(recipe)(**given))  # type: ignore[arg-type]
    found = twins.load(twins.save(kept, tmp_path / "twin.pt"))
    assert_equal(asdict(found.signature), asdict(twin.signature))
    assert found(x := torch.rand(2, twin.input_dim), torch.rand(twin.param_dim)).isfinite().all()
    assert x.shape[0] == 2


@dataclass(frozen=True)
class OwnEquations(Equations):
    """Of a user, whom pnnlab does not know."""

    gain: float = 1.0
    options: object = None

    nominal = CircuitConstants()
    free = ("r",)

    def check(self, system: Described) -> None:
        """Suit any system."""

    def __call__(
        self, x: Tensor, theta: Tensor, constants: CircuitConstants, output_dim: int
    ) -> Tensor:
        return self.gain * x[:, :output_dim]


class Undecorated(OwnEquations):
    """With more than its fields tell."""

    def __init__(self, gain: float = 1.0, options: object = None, more: float = 1.0) -> None:
        super().__init__(gain, options)
        object.__setattr__(self, "more", more)

    def __call__(
        self, x: Tensor, theta: Tensor, constants: CircuitConstants, output_dim: int
    ) -> Tensor:
        return self.more * super().__call__(x, theta, constants, output_dim)


class NoDataclass(Equations):
    nominal, free = CircuitConstants(), ()

    def __post_init__(self) -> None:
        """Nothing to make plain."""

    check, __call__ = OwnEquations.check, OwnEquations.__call__  # type: ignore[assignment]


@dataclass(frozen=True)
class OwnArchitecture(Architecture):
    """Of a user; one layer."""

    learning_rate = 0.01

    def build(self, system: Described) -> Core:
        return Layer(system)


class Layer(Core):
    def __init__(self, system: Described) -> None:
        super().__init__()
        self.distinct = system.output_dim
        self.layer = torch.nn.Sequential(
            torch.nn.Linear(system.input_dim, system.output_dim), torch.nn.Dropout()
        )

    def forward(self, x: Tensor, theta: Tensor) -> Tensor:
        y: Tensor = self.layer(x)
        return y


@pytest.mark.parametrize("kind", [OwnEquations, OwnArchitecture])
def test_a_twin_of_ones_own_is_read_with_its_class(tmp_path: Path, kind: Any) -> None:
    twin: Any
    if kind is OwnEquations:
        twin = PhysicsTwin(circuit(), OwnEquations(0.5, (1, [2])), CircuitConstants(r=2.0))
    else:
        twin = NeuralTwin(circuit(), OwnArchitecture())
    path = twins.save(twin, tmp_path / "twin.pt")
    with pytest.raises(TwinError, match=rf"made with .*\.{kind.__name__}; give load that class"):
        twins.load(path)
    for wrong in (CircuitEquations, CircuitConstants, OwnEquations(), 3):
        with pytest.raises(TwinError, match="give load that class"):
            twins.load(path, recipe=wrong)  # type: ignore[arg-type]
    found: Any = twins.load(path, circuit(), recipe=kind)
    assert_equal(dict(found.state_dict()), dict(twin.state_dict()))
    x, theta = shots(4, circuit())
    assert torch.equal(found.eval()(x, theta), twin.eval()(x, theta))
    if kind is OwnEquations:
        assert found.equations == twin.equations
    moved = type(kind.__name__, (kind,), {"__module__": "moved.to.a.file"})
    assert twins.load(path, recipe=moved).signature == twin.signature


def test_a_class_of_the_same_name_is_not_mistaken_for_pnnlabs(tmp_path: Path) -> None:
    namesake = dataclass(frozen=True)(type("CircuitEquations", (OwnEquations,), {}))
    path = twins.save(PhysicsTwin(circuit(), namesake(0.5)), tmp_path / "twin.pt")
    with pytest.raises(TwinError, match="give load that class"):
        twins.load(path)
    ours = twins.save(PhysicsTwin(circuit(), CircuitEquations(2)), tmp_path / "ours.pt")
    with pytest.raises(TwinError, match="made with CircuitEquations; leave recipe out"):
        twins.load(ours, recipe=namesake)
    assert twins.load(ours, recipe=CircuitEquations).label == "physics twin, nominal"


def test_a_twin_that_could_not_be_read_again_is_not_saved(tmp_path: Path) -> None:
    path = twins.save(every_kind()[0], tmp_path / "twin.pt")
    before = path.read_bytes()
    twin = every_kind()[2]
    object.__setattr__(twin.equations, "replays", np.int64(1))  # type: ignore[union-attr]
    for unreadable, why in (
        (twin, r"twin\['recipe_fields'\]\['replays'\] is a numpy.int64"),
        (PhysicsTwin(circuit(), OwnEquations(options=print)), r"\['options'\] is a builtins"),
        (PhysicsTwin(circuit(), OwnEquations(options=Mlp())), r"\['options'\] is a pnnlab"),
        (PhysicsTwin(circuit(), Undecorated(more=2.0)), "made anew .* it answers otherwise"),
        (PhysicsTwin(circuit(), NoDataclass()), "a dataclass whose fields"),
    ):
        with pytest.raises(TwinError, match=f"(?s)is not written: .*{why}"):
            twins.save(unreadable, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_files_that_are_no_twins_are_refused_and_never_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TwinError, match="there is no"):
        twins.load("missing.pt")
    good = twins.save(PhysicsTwin(circuit(), CircuitEquations(2)), "twin.pt")
    content = unpacked(good.read_bytes().partition(b"\npnnlab ")[0])
    Path("torn.pt").write_bytes(good.read_bytes()[:300])
    Path("text.pt").write_text("no twin", encoding="utf-8")
    Path("evil.pt").write_bytes(pickle.dumps(Malice(), protocol=2))
    torch.save({"pnnlab_twin": 1, "evil": Malice()}, "evil_too.pt")
    again = Kind(name="twin", format=2, error=TwinError, remedy="")
    again.write(Path("evil_and_sealed.pt"), Path("evil_too.pt").read_bytes())
    for name, wrong in {
        "list": [1, 2],
        "unknown": content | {"recipe": "Unknown"},
        "empty": content | {"state": {}},
        "large": content | {"recipe": "Mlp", "recipe_fields": {"hidden": (200_000, 200_000)}},
    }.items():
        again.write(Path(f"{name}.pt"), *packed(wrong, "twin"))
    for path in sorted(Path().glob("*.pt")):
        if path != good:
            with pytest.raises(TwinError, match="fit the twin anew"):
                twins.load(path)
    assert not Path("executed").exists()
    with pytest.raises(TwinError, match="cannot be written"):
        twins.save(twins.load(good), good / "below a file")


def test_twins_know_nothing_of_the_inside_of_a_device() -> None:
    sources = Path(pnnlab.twins.__file__).parent.glob("*.py")
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    assert "oscillate" in text
    for secret in ("_imperfections", "_drift", "fabricate", "Imperfections"):
        assert secret not in text
    assert set(asdict(CircuitConstants())) == {"w_l", "w_c", "r", "v_t", "g", "a", "s"}
