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
linear operators are taken out. So the products are interpolated by cubics through a few nodes,
whose integrals against the exact phases are computed beforehand for each frequency (an exponential
multistep method with Filon's quadrature). A node costs four Fourier transforms.

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

from pnnlab.errors import ShapeError
from pnnlab.systems import wave_kernels as kernels
from pnnlab.systems.adjoint import Adjoint, Array, with_adjoint

GRID = 128  # points, 21.5 THz: the harmonic folds over outside the camera's range
SPACING_THZ = 0.168  # a window of 6 ps
NODES = 8  # intervals along the crystal: with the grid, 3e-4 of the converged spectrum
DEGREE = 3  # of the polynomials through the nodes
QUADRATURE = 12  # points behind each weight and interval

Real: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Crystal:
    """Constants of the equations; the defaults are the nominal ones."""

    coupling: float = 1.6  # κ, per mm and unit of field
    gvm: float = 0.19  # v, group-velocity mismatch, ps/mm
    # Where the harmonic is phase-matched, THz above the low edge of a band of 12; 6 is the middle.
    centre: float = 6.0
    length: float = 1.0  # mm
    gvd_1: float = 75.0  # β₁ and β₂, group-velocity dispersion of both waves, fs²/mm
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

    Takes the spectrum at the front face, (batch, grid), complex: field in time is the sum of its
    lines. The grid is a power of 2, ``spacing`` THz apart; ``nodes`` are intervals along the
    crystal. Returns the spectra of fundamental and harmonic at the end face.
    """
    if (grid := field.shape[1]) & (grid - 1):
        raise ShapeError(f"a grid of {grid} points: it must be a power of 2, such as {GRID}.")
    tables = _tables(crystal, kerr or Kerr(), nodes, grid, spacing, field.dtype)

    def solve(front: Array, keep: bool) -> tuple[Array, Adjoint]:
        ends = np.empty((2, *front.shape), front.dtype)
        chunks = math.ceil(len(front) / kernels.LANES) if keep else 0
        path = np.empty((chunks, nodes + 1, 2, 2 * grid * kernels.LANES), front.real.dtype)
        kernels.cross(_reals(front), tables, _reals(ends), path)
        return ends, lambda grad_ends, grad: kernels.cross_adjoint(
            _reals(grad_ends), tables, path, _reals(grad)
        )

    fundamental, harmonic = with_adjoint(field, solve)
    return fundamental, harmonic


def _reals(numbers: Array) -> Array:
    """The same memory as real numbers, both parts in turn along the last axis."""
    return numbers.view(numbers.real.dtype)


@lru_cache(maxsize=64)
def _tables(
    crystal: Crystal, kerr: Kerr, nodes: int, grid: int, spacing: float, kind: torch.dtype
) -> kernels.Tables:
    number: Any = np.float32 if kind == torch.complex64 else np.float64
    first, second = propagators(crystal, frequencies(grid, spacing))
    places = crystal.length * np.arange(nodes + 1) / nodes
    carried = np.zeros((nodes + 1, nodes + 1))
    driven = np.zeros((nodes + 1, nodes + 1, grid), complex)
    for j in range(1, nodes + 1):
        driven[j, : j + 1] = 1j * _source_weights(places[: j + 1], second)
        # There is no harmonic yet at the front face: the product N(0) is all Kerr, N'(0) comes
        # of the harmonic's growth, iκ A₁², and both are multiples of |A₁|² A₁.
        carried[j, : j + 1] = _product_weights(places[: j + 1])
    carried[:, 0] *= kerr.fundamental
    carried[:, 1] *= crystal.coupling**2
    phase = np.exp(1j * np.outer(places, first))
    constants = crystal.coupling, kerr.fundamental, kerr.harmonic, kerr.cross, 1 / grid
    return kernels.Tables(
        np.array(constants, number),
        _reals(phase).reshape(*phase.shape, 2).astype(number),
        carried.astype(number),
        _reals(driven).reshape(*driven.shape, 2).astype(number),
        kernels.twiddles(grid, number),
    )


def _source_weights(places: Real, delta: Real) -> Array:
    """Weights w of ∫ exp(iΔ (z_j - z)) S(z) dz = Σ w S(z_m) up to the last place, (places, f)."""
    last = len(places) - 1
    weights = np.zeros((last + 1, len(delta)), complex)
    for i in range(last):
        z, dz = _quadrature(places[i], places[i + 1])
        near = _nearest(i, last)
        remaining = np.exp(1j * np.outer(places[last] - z, delta))
        weights[near] += (_lagrange(places[near], z) * dz) @ remaining
    return weights


def _product_weights(places: Real) -> Real:
    """Weights of ∫ N(z) dz up to the last place, from N(0), N'(0) and N at the nodes between.

    Where N(0) is among the nodes of an interval's polynomial, it is N(0) + z p(z).
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


def _quadrature(start: float, end: float) -> tuple[Real, Real]:  # of Gauss and Legendre
    points, weights = np.polynomial.legendre.leggauss(QUADRATURE)
    return start + (end - start) * (points + 1) / 2, (end - start) * weights / 2


def _nearest(interval: int, last: int) -> NDArray[np.int64]:
    """The nodes up to ``last`` that are nearest to an interval, one more than the degree."""
    low = min(max(interval - (DEGREE - 1) // 2, 0), max(0, last - DEGREE))
    return np.arange(low, min(low + DEGREE, last) + 1)


def _lagrange(places: Real, z: Real) -> Real:
    """Polynomials that are 1 at one of the places and 0 at the others, (places, z)."""
    others = [np.delete(places, i) for i in range(len(places))]
    pairs = zip(places, others, strict=True)
    return np.array([np.prod((z[:, None] - rest) / (here - rest), axis=1) for here, rest in pairs])
