r"""Two pulses coupled along a crystal: a fundamental and its second harmonic.

.. math::
   \partial_z A_1 &= i D_1 A_1 + i\kappa A_2 A_1^*
       + i\gamma_1 (|A_1|^2 + c|A_2|^2) A_1, \\
   \partial_z A_2 &= i D_2 A_2 + i\kappa A_1^2
       + i\gamma_2 (|A_2|^2 + c|A_1|^2) A_2,

in the frame of the fundamental. The linear operators are exact in frequency,

.. math::
   D_1(f) = \tfrac12 \beta_1 (2\pi f)^2, \qquad
   D_2(f) = 2\pi v (f - f_0) + \tfrac12 \beta_2 (2\pi f)^2 .

Conversion is weak and both products vary smoothly along the crystal once the phases of the
linear operators are taken out. So the products are told by cubics through a few nodes along the
crystal, and the integrals of these against the exact phases are known beforehand for each
frequency (an exponential multistep method with Filon's quadrature). The harmonic at a node
follows from the fundamental there, so that each node costs four Fourier transforms and no
iteration: a Runge-Kutta step costs sixteen.

Source: the coupled-wave equations of textbooks (Boyd, Nonlinear Optics, ch. 2) with the
group-velocity terms of pulses. Idealised: plane waves, no absorption, no walk-off in space.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from pnnlab.systems import wavekernels as kernels

GRID = 160  # points; fewer would let the harmonic's edges fold over
SPACING_THZ = 0.14  # a window of 7 ps
NODES = 7  # intervals along the crystal: 3e-4 of the converged spectrum
DEGREE = 3  # of the polynomials through the nodes
CHUNK = 64  # shots solved together, so that their fields stay in the cache
QUADRATURE = 12  # points behind each weight and interval

Array: TypeAlias = NDArray[Any]
Real: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Crystal:
    """Constants of the equations; the defaults are the nominal ones.

    Attributes
    ----------
    coupling : float
        κ, per mm and unit of field.
    gvm : float
        v, group-velocity mismatch, ps/mm.
    centre : float
        Frequency at which the harmonic is phase-matched, THz above the low edge of a band of
        12 THz; at 6 it is the middle.
    length : float
        mm.
    gvd_1, gvd_2 : float
        β₁ and β₂, group-velocity dispersion of fundamental and harmonic, fs²/mm.
    """

    coupling: float = 1.6
    gvm: float = 0.19
    centre: float = 6.0
    length: float = 1.0
    gvd_1: float = 75.0
    gvd_2: float = 200.0


@dataclass(frozen=True)
class Kerr:
    """Third-order coefficients: γ₁, γ₂ per mm and unit of power, and the cross factor c."""

    fundamental: float = 0.0
    harmonic: float = 0.0
    cross: float = 0.0


def frequencies(grid: int = GRID, spacing: float = SPACING_THZ) -> Real:
    """Frequencies of a grid relative to the carrier, in the order of a transform, THz."""
    return np.asarray(np.fft.fftfreq(grid, 1 / (grid * spacing)), np.float64)


def propagators(crystal: Crystal, f: Real) -> tuple[Array, Array]:
    """The linear operators D₁ and D₂ at the frequencies ``f``, rad/mm."""
    omega = 2 * math.pi * f  # rad/ps
    offset = 2 * math.pi * (crystal.centre - 6.0)
    first = 0.5e-6 * crystal.gvd_1 * omega**2
    return first, crystal.gvm * (omega - offset) + 0.5e-6 * crystal.gvd_2 * omega**2


def propagate(
    field: Tensor,
    crystal: Crystal,
    *,
    kerr: Kerr | None = None,
    nodes: int = NODES,
    spacing: float = SPACING_THZ,
) -> tuple[Tensor, Tensor]:
    """Send a fundamental through the crystal; differentiable in the field.

    Parameters
    ----------
    field : Tensor, (batch, grid), complex64 or complex128
        Spectrum at the front face: field in time is the sum of its lines.
    crystal : Crystal
    kerr : Kerr, optional
        What only a built crystal has; none by default.
    nodes : int
        Intervals along the crystal.
    spacing : float
        Of the grid, THz.

    Returns
    -------
    fundamental, harmonic : Tensor, (batch, grid)
        Spectra at the end face.
    """
    plan = _plan(crystal, kerr or Kerr(), nodes, field.shape[1], spacing, field.dtype)
    ends = [_Propagate.apply(part, plan) for part in field.split(CHUNK)]
    first, second = zip(*ends, strict=True)
    return torch.cat(first), torch.cat(second)


@dataclass(frozen=True, eq=False)
class _Plan:
    """Everything known before the field is: of each node its phase and the weights behind it."""

    nodes: int
    kerr: bool
    constants: Array  # in the order of the kernels
    phases: list[Array]  # (2 * grid,): what the linear operator does to A₁ up to a node
    returns: list[Array]  # (2 * grid,): and the way back
    carried: list[Array]  # (node + 1,), none at the front face: weights of what changes A₁
    driven: list[Array]  # (node + 1, 2, 2 * grid): weights of the sources of A₂


@lru_cache(maxsize=64)
def _plan(
    crystal: Crystal, kerr: Kerr, nodes: int, grid: int, spacing: float, kind: torch.dtype
) -> _Plan:
    number: Any = np.float32 if kind == torch.complex64 else np.float64
    first, second = propagators(crystal, frequencies(grid, spacing))
    places = crystal.length * np.arange(nodes + 1) / nodes
    phases, returns, carried, driven = [], [], [], []
    for j, place in enumerate(places):
        complete = _source_weights(places[: j + 1], second)
        driven.append(np.stack([complete.real, complete.imag], 1).repeat(2, axis=2).astype(number))
        # There is no harmonic yet at the front face: the product N(0) is all Kerr, N'(0) comes
        # of the harmonic's growth, iκ A₁², and both are multiples of |A₁|² A₁.
        of_value, of_slope, *later = _product_weights(places[: j + 1])
        start = kerr.fundamental * of_value, crystal.coupling**2 * of_slope
        carried.append(np.array([*start, *later] if j else [], number))
        line = np.exp(1j * first * place)
        phases.append(np.stack([line.real, line.imag], 1).flatten().astype(number))
        returns.append(np.stack([line.real, -line.imag], 1).flatten().astype(number))
    constants = (crystal.coupling, kerr.fundamental, kerr.harmonic, kerr.cross)
    vector = np.array(constants, number)
    return _Plan(nodes, kerr != Kerr(), vector, phases, returns, carried, driven)


def _source_weights(places: Real, delta: Real) -> Array:
    """Weights w of ∫ exp(iΔ (z_j - z)) S(z) dz = Σ w S(z_m) up to the last place, (places, f).

    S is a polynomial on each interval, through its ends and the nodes nearest to them.
    """
    last = len(places) - 1
    weights = np.zeros((last + 1, len(delta)), complex)
    for i in range(last):
        z, dz = _quadrature(places[i], places[i + 1])
        near = _nearest(i, last)
        remaining = np.exp(1j * np.outer(places[last] - z, delta))
        weights[near] += (_lagrange(places[near], z) * dz) @ remaining
    return weights


def _product_weights(places: Real) -> Real:
    """Weights of ∫ N(z) dz up to the last place from what is known before it.

    These are N(0), N'(0) and N at the nodes between. Where N(0) is among the nodes of an
    interval's polynomial, it is N(0) + z p(z).
    """
    last = len(places) - 1
    weights = np.zeros(last + 1) if last else np.zeros(2)
    for i in range(last):
        z, dz = _quadrature(places[i], places[i + 1])
        near = _nearest(i, last - 1)
        if near[0] > 0:
            weights[near + 1] += _lagrange(places[near], z) @ dz
            continue
        slopes = (_lagrange(places[near], z) * z) @ dz
        later = slopes[1:] / places[near[1:]]
        weights[near[1:] + 1] += later
        weights[1] += slopes[0]
        weights[0] += dz.sum() - later.sum()
    return weights


def _quadrature(start: float, end: float) -> tuple[Real, Real]:
    """Points and weights of Gauss and Legendre."""
    points, weights = np.polynomial.legendre.leggauss(QUADRATURE)
    return start + (end - start) * (points + 1) / 2, (end - start) * weights / 2


def _nearest(interval: int, last: int) -> NDArray[np.int64]:
    """The nodes up to ``last`` that are nearest to an interval, one more than the degree."""
    low = min(max(interval - (DEGREE - 1) // 2, 0), max(0, last - DEGREE))
    return np.arange(low, min(low + DEGREE, last) + 1)


def _lagrange(places: Real, z: Real) -> Real:
    """Polynomials that are 1 at one of the places and 0 at the others, (places, z)."""
    rows = []
    for i, here in enumerate(places):
        others = np.delete(places, i)
        rows.append(np.prod((z[:, None] - others) / (here - others), axis=1))
    return np.array(rows)


def _to_time(spectrum: Tensor) -> Tensor:
    wave: Tensor = torch.fft.ifft(spectrum, norm="forward")
    return wave


def _to_frequency(wave: Tensor) -> Tensor:
    spectrum: Tensor = torch.fft.fft(wave, norm="forward")
    return spectrum


def _reals(field: Tensor) -> Array:
    """The memory of a complex tensor, (batch, grid), as real numbers, (batch, 2 * grid)."""
    memory: Array = field.view(field.real.dtype).numpy()
    return memory


class _Propagate(torch.autograd.Function):
    """The nodes one after the other, and their exact adjoint in the opposite order.

    A gradient in time is kept times the number of grid points: then the same two transforms
    carry gradients back.
    """

    @staticmethod
    def forward(ctx: Any, field: Tensor, plan: _Plan) -> tuple[Tensor, Tensor]:
        field = field.detach().contiguous()
        start, last, kind = _reals(field), plan.nodes, plan.constants.dtype
        sources = np.empty((last + 1, 2, *start.shape), kind)
        # i |A₁|² A₁ at the front face and the same times i, then the product at each inner node.
        products = np.empty((last + 1, *start.shape), kind)
        a, b, on_a, on_b = (torch.empty_like(field) for _ in range(4))
        early = None  # Kerr term of A₂ at the node before
        path = []
        for j in range(last + 1):
            kernels.advance(start, products, plan.carried[j], plan.phases[j], _reals(a))
            first = _to_time(a)
            square = first * first
            source = _to_frequency(square)
            source *= float(plan.constants[kernels.COUPLING])
            if early is not None:
                # That of this node needs A₂ here; until then, the one before stands in.
                source += early
            kernels.turn(_reals(source), sources[j])
            if j == 0:
                kernels.turn(_reals(_to_frequency(square * first.conj())), products[:2])
                path.append((first, first))
                continue
            kernels.gather(sources, plan.driven[j], _reals(b))
            if j == last:
                path.append((first, first))
                break
            second = _to_time(b)
            path.append((first, second))
            fields = _reals(first), _reals(second)
            kernels.react(*fields, plan.constants, _reals(on_a), _reals(on_b))
            product = _reals(_to_frequency(on_a))
            kernels.advance(product, products, plan.carried[0], plan.returns[j], products[j + 1])
            if plan.kerr:
                own = _to_frequency(on_b)
                source += own if early is None else own - early
                kernels.turn(_reals(source), sources[j])
                early = own
        if ctx.needs_input_grad[0]:
            ctx.kept = plan, path
        return a, b

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_a: Tensor, grad_b: Tensor) -> tuple[Tensor, None]:
        plan, path = ctx.kept
        last, kind = plan.nodes, plan.constants.dtype
        shape = len(grad_a), 2 * grad_a.shape[1]
        sources = np.zeros((last + 1, *shape), kind)
        products = np.zeros((last + 1, *shape), kind)
        grad = torch.zeros_like(grad_a, memory_format=torch.contiguous_format)
        on_a, to_first, to_second = (torch.empty_like(grad) for _ in range(3))
        on_b = torch.zeros_like(grad)
        harmonic = grad_b.contiguous()
        for j in range(last, -1, -1):
            first, second = path[j]
            to_first = torch.zeros_like(grad)
            if 0 < j < last:
                none = plan.carried[0]
                kernels.advance(products[j + 1], products, none, plan.phases[j], _reals(on_a))
                if plan.kerr:
                    early = np.zeros((1, *shape), kind)
                    weights = plan.driven[j + 1][j + 1 :]
                    kernels.gather_adjoint(_reals(harmonic), weights, early)
                    on_b = _to_time(_complex(sources[j] + early[0])) * -1j
                fields, grads = (
                    (_reals(first), _reals(second)),
                    (_reals(to_first), _reals(to_second)),
                )
                sent = _reals(_to_time(on_a)), _reals(on_b)
                kernels.react_adjoint(*fields, plan.constants, *sent, *grads)
                harmonic = _to_frequency(to_second)
            if j > 0:
                kernels.gather_adjoint(_reals(harmonic), plan.driven[j], sources)
            else:
                cube = _to_time(_complex(products[0]) * -1j - _complex(products[1]))
                to_first = 2 * first.abs().square() * cube + first.square() * cube.conj()
            factor = -2j * float(plan.constants[kernels.COUPLING])
            to_first += _to_time(_complex(sources[j])) * first.conj() * factor
            here = _to_frequency(to_first)
            if j == last:
                here += grad_a
            kernels.advance_adjoint(
                _reals(here), plan.carried[j], plan.phases[j], _reals(grad), products
            )
        return grad, None


def _complex(reals: Array) -> Tensor:
    """The complex tensor, (batch, grid), in the memory of real numbers, (batch, 2 * grid)."""
    memory = torch.from_numpy(reals)
    return memory.view(torch.complex64 if memory.dtype == torch.float32 else torch.complex128)
