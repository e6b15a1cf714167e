"""Coupled waves against closed forms, a general solver and finite differences."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from pnnlab.errors import ShapeError
from pnnlab.systems.shg import (
    GRID,
    SPACING_THZ,
    Crystal,
    Kerr,
    frequencies,
    propagate,
    propagators,
    shaper,
)

STRONG = Kerr(0.3, 0.6, 0.7)


def pulses(shots: int, grid: int = GRID, spacing: float = SPACING_THZ) -> Tensor:
    """Random amplitudes and phases on all bands, as they stand before the crystal."""
    random = np.random.default_rng(0)
    amplitude, phase = random.random((shots, 50)), random.uniform(-0.8, 0.8, (shots, 50))
    mask = amplitude * np.exp(1j * phase)
    return torch.from_numpy(mask @ shaper(frequencies(grid, spacing)))


def energy(field: Tensor) -> Tensor:
    return field.abs().square().sum(1)


def relative(first: Tensor, second: Tensor) -> float:
    return float(
        (first - second).abs().square().mean().sqrt() / second.abs().square().mean().sqrt()
    )


def spectrum(field: Tensor, spacing: float) -> Tensor:
    """Power at the frequencies that several grids share, THz⁻¹."""
    places = np.arange(-16, 17) * 0.336
    lines = np.rint(places / spacing).astype(int)
    return field[:, lines].abs().square() / spacing**2


def test_a_single_line_is_depleted_as_the_hyperbolic_tangent():
    """No bandwidth and no mismatch: A₂ = i A tanh(κ A z), A₁ = A sech(κ A z)."""
    field = torch.zeros(2, 8, dtype=torch.complex128)
    field[:, 0] = torch.tensor([0.3, 0.6])
    crystal = Crystal(coupling=1.5, length=1.2)
    first, second = propagate(field, crystal, nodes=24)
    reach = 1.5 * 1.2 * field[:, 0].real
    assert torch.allclose(second[:, 0], 1j * field[:, 0] * reach.tanh(), atol=1e-7)
    assert torch.allclose(first[:, 0].real, field[:, 0].real / reach.cosh(), atol=1e-7)
    assert second[:, 1:].abs().max() < 1e-15


def test_weak_conversion_has_the_undepleted_closed_form():
    r"""A₂ = iκ F[A²] (exp(iΔL) - 1) / (iΔ) for as long as the fundamental stays what it is."""
    crystal = Crystal(coupling=1e-4, gvd_1=0.0, centre=6.01)  # no line is matched to the last digit
    field = pulses(4)
    _, second = propagate(field, crystal)
    delta = torch.from_numpy(propagators(crystal, frequencies())[1])
    grown = torch.expm1(1j * delta * crystal.length) / (1j * delta)
    source = torch.fft.fft(torch.fft.ifft(field, norm="forward").square(), norm="forward")
    assert relative(second, 1j * crystal.coupling * source * grown) < 1e-6


@pytest.mark.parametrize("length", [0.3, 1.0, 2.0])
def test_phase_matching_is_a_squared_sinc(length):
    """A single line, detuned: the harmonic's power is sinc²(ΔL/2) of the matched one's."""
    field = torch.zeros(1, 8, dtype=torch.complex128)
    field[0, 0] = 1.0
    for detuning in (0.3, 1.1, 2.9):
        crystal = Crystal(coupling=1e-3, length=length, centre=6.0 + detuning)
        matched = replace(crystal, centre=6.0)
        ratio = energy(propagate(field, crystal)[1]) / energy(propagate(field, matched)[1])
        half = math.pi * crystal.gvm * detuning * length
        assert float(ratio) == pytest.approx((math.sin(half) / half) ** 2, rel=1e-5)


def test_group_velocities_part_the_two_pulses():
    """Linear terms alone: what the crystal delays, and by how much it spreads."""
    crystal = Crystal(coupling=0.0, gvd_1=4000.0)
    field = torch.from_numpy(shaper(frequencies()).sum(0)[None] + 0j)
    first, _ = propagate(field, crystal)
    phase = torch.from_numpy(propagators(crystal, frequencies())[0])
    assert torch.allclose(first, field * torch.exp(1j * phase), atol=1e-14)
    assert propagators(crystal, np.array([1.0]))[1] == pytest.approx(
        2 * math.pi * 0.19 + 0.5 * 200e-6 * (2 * math.pi) ** 2
    )


@pytest.mark.parametrize("kerr", [Kerr(), Kerr(0.3, 0.6, 2 / 3)], ids=["none", "strong"])
def test_energy_is_conserved(kerr):
    """Manley and Rowe: every photon of the harmonic costs two of the fundamental."""
    field = pulses(8)
    first, second = propagate(field, Crystal(), kerr=kerr, nodes=14 if kerr == Kerr() else 40)
    total = (energy(first) + energy(second)) / energy(field)
    assert (total - 1).abs().max() < 1e-4
    conversion = energy(second) / energy(field)
    assert 0.09 < conversion.mean() < 0.14


def test_a_strong_line_turns_its_own_phase():
    """Third order alone: A₁ exp(iγ|A|²z), whole energy kept."""
    field = torch.full((1, 1), 0.8, dtype=torch.complex128)
    first, _ = propagate(field, Crystal(coupling=0.0), kerr=STRONG, nodes=24)
    assert torch.allclose(first, field * np.exp(1j * 0.3 * 0.64), atol=1e-7)


@pytest.mark.parametrize("kerr", [Kerr(), STRONG], ids=["none", "strong"])
def test_agrees_with_a_general_solver(kerr):
    """The equations as they stand, linear terms inside, on a small grid."""
    grid, crystal = 16, Crystal(coupling=2.0)
    generator = torch.Generator().manual_seed(0)
    field = 0.15 * torch.randn(2, grid, dtype=torch.complex128, generator=generator)
    one, two = propagators(crystal, frequencies(grid))

    def slopes(_: float, state: np.ndarray) -> np.ndarray:
        a, b = state.view(complex).reshape(2, 2, grid)
        wave, second = np.fft.ifft(a, norm="forward"), np.fft.ifft(b, norm="forward")
        power, other = abs(wave) ** 2, abs(second) ** 2
        on_a = crystal.coupling * second * wave.conj()
        on_a = on_a + kerr.fundamental * (power + kerr.cross * other) * wave
        on_b = crystal.coupling * wave**2 + kerr.harmonic * (other + kerr.cross * power) * second
        to_a = 1j * (one * a + np.fft.fft(on_a, norm="forward"))
        to_b = 1j * (two * b + np.fft.fft(on_b, norm="forward"))
        return np.stack([to_a, to_b]).flatten().view(float)

    start = np.stack([field.numpy(), np.zeros_like(field)]).flatten().view(float)
    solved = solve_ivp(slopes, (0, crystal.length), start, rtol=1e-8, atol=1e-10).y[:, -1]
    a, b = solved.view(complex).reshape(2, 2, grid)
    first, second = propagate(field, crystal, kerr=kerr, nodes=40)
    tolerance = 1e-5 if kerr == Kerr() else 1e-3  # the Kerr term of A₂ lags by a node
    assert relative(first, torch.from_numpy(a)) < tolerance
    assert relative(second, torch.from_numpy(b)) < tolerance
    assert kerr == Kerr() or relative(second, propagate(field, crystal)[1]) > 30 * tolerance


def test_nodes_converge_with_fourth_order():
    field, crystal = pulses(16), Crystal()
    exact = propagate(field, crystal, nodes=60)[1]
    errors = [relative(propagate(field, crystal, nodes=n)[1], exact) for n in (6, 9, 12, 18)]
    orders = [
        math.log(a / b) / math.log(n / m)
        for (a, b), (m, n) in zip(
            itertools.pairwise(errors), itertools.pairwise((6, 9, 12, 18)), strict=True
        )
    ]
    assert np.mean(orders) > 4, (errors, orders)


def test_default_grid_and_nodes_are_accurate():
    """Against four times the frequencies, seven times the window and many nodes."""
    fine = 0.021
    exact = spectrum(propagate(pulses(64, 2048, fine), Crystal(), nodes=24, spacing=fine)[1], fine)
    found = spectrum(propagate(pulses(64), Crystal())[1], SPACING_THZ)
    assert relative(found, exact) < 5e-4


@pytest.mark.parametrize("kerr", [Kerr(), STRONG], ids=["none", "strong"])
def test_adjoint_agrees_with_finite_differences(kerr):
    generator = torch.Generator().manual_seed(0)
    field = 0.2 * torch.randn(3, 16, dtype=torch.complex128, generator=generator)
    field.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda field: propagate(field, Crystal(), kerr=kerr, nodes=5), (field,)
    )


def test_single_and_double_precision_agree():
    field = pulses(5)
    single = propagate(field.to(torch.complex64), Crystal())
    for one, other in zip(single, propagate(field, Crystal()), strict=True):
        assert one.dtype == torch.complex64
        assert relative(one.to(torch.complex128), other) < 1e-6


def test_takes_and_gives_memory_laid_out_in_any_way():
    field = pulses(6)
    plain = propagate(field, Crystal())
    turned = field.T.contiguous().T
    assert not turned.is_contiguous()
    mirrored = field.conj().resolve_conj().conj()
    assert mirrored.is_conj()
    for other in (turned, mirrored):
        assert all(map(torch.equal, propagate(other, Crystal()), plain))
    leaf = field.clone().requires_grad_()
    first, second = propagate(leaf, Crystal())
    (first.conj() * second).real.sum().backward()
    ours = leaf.grad.clone()
    leaf.grad = None
    first, second = propagate(leaf, Crystal())
    (first.real * second.real + first.imag * second.imag).sum().backward()
    assert torch.allclose(leaf.grad, ours, atol=1e-14)


def test_a_grid_that_cannot_be_halved_is_refused():
    with pytest.raises(ShapeError, match="power of 2"):
        propagate(torch.zeros(1, 100, dtype=torch.complex64), Crystal())


def test_many_shots_are_solved_as_few_are():
    field = pulses(150)
    together = propagate(field, Crystal())[1]
    apart = torch.cat([propagate(part, Crystal())[1] for part in field.split(31)])
    assert torch.allclose(together, apart, atol=1e-15)
