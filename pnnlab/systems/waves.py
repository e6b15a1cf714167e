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
linear operators are taken out. So instead of steps, the crystal has nodes: the products are
polynomials through the nodes passed so far, and their integrals against the exact phases are
known beforehand for each frequency (exponential collocation, of Filon's kind). Each node costs
four Fourier transforms, and the harmonic at the end face one evaluation of all nodes together.

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
NODES = 8  # intervals along the crystal: 2e-4 of the converged spectrum
CHUNK = 64  # shots solved together, so that their fields stay in the cache
QUADRATURE = 32  # Gauss-Legendre points behind each weight

Array: TypeAlias = NDArray[Any]


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


def frequencies(grid: int = GRID, spacing: float = SPACING_THZ) -> NDArray[np.float64]:
    """Frequencies of a grid relative to the carrier, in the order of a transform, THz."""
    return np.asarray(np.fft.fftfreq(grid, 1 / (grid * spacing)), np.float64)


def propagators(crystal: Crystal, f: NDArray[np.float64]) -> tuple[Array, Array]:
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
    constants: Array  # in the order of the kernels
    kerr: bool
    phases: list[Array]  # (grid,): what the linear operator does to A₁ up to a node
    carried: list[Array]  # (node,): weights of the products that change A₁
    driven: list[Array]  # (node + 1, grid): weights of the sources of A₂


@lru_cache(maxsize=64)
def _plan(
    crystal: Crystal, kerr: Kerr, nodes: int, grid: int, spacing: float, kind: torch.dtype
) -> _Plan:
    number: Any = np.complex64 if kind == torch.complex64 else np.complex128
    first, second = propagators(crystal, frequencies(grid, spacing))
    points, weights = np.polynomial.legendre.leggauss(QUADRATURE)
    places = crystal.length * np.arange(nodes + 1) / nodes
    square = (1j * crystal.coupling) ** 2
    phases, carried, driven = [], [], []
    for j, place in enumerate(places):
        z, dz = place * (points + 1) / 2, place * weights / 2
        sources = _lagrange(places[: j + 1], z)
        remaining = np.exp(1j * np.outer(place - z, second))
        driven.append((sources * dz) @ remaining)
        # The product that changes A₁ is N(0) + z p(z); p(0) = N'(0) is known at the front face:
        # there is no harmonic yet, and it grows as iκ A₁². Both are multiples of |A₁|² A₁.
        inner = (_lagrange(places[:j], z) * z) @ dz if j else np.zeros(0)
        slopes = inner[1:] / places[1:j]
        start = 1j * kerr.fundamental * (place - slopes.sum())
        carried.append(np.array([square * inner[0] + start, *slopes]) if j else inner)
        phases.append(np.exp(1j * first * place))
    kerrs = 1j * kerr.fundamental, 1j * kerr.harmonic
    return _Plan(
        nodes=nodes,
        constants=np.array([1j * crystal.coupling, *kerrs, kerr.cross], number),
        kerr=kerr != Kerr(),
        phases=[value.astype(number) for value in phases],
        carried=[value.astype(number) for value in carried],
        driven=[value.astype(number) for value in driven],
    )


def _lagrange(places: NDArray[np.float64], z: NDArray[np.float64]) -> NDArray[np.float64]:
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


class _Propagate(torch.autograd.Function):
    """The nodes one after the other, and their exact adjoint in the opposite order.

    A gradient in time is kept times the number of grid points: then the same two transforms
    carry gradients back.
    """

    @staticmethod
    def forward(ctx: Any, field: Tensor, plan: _Plan) -> tuple[Tensor, Tensor]:
        e = field.detach().contiguous()
        last, coupling = plan.nodes, plan.constants[kernels.COUPLING]
        sources = np.empty((last + 1, *e.shape), plan.constants.dtype)
        products = np.empty((last, *e.shape), plan.constants.dtype)
        a, b, on_a, on_b = (torch.empty_like(e) for _ in range(4))
        own = None
        path: list[tuple[Tensor, Tensor]] = []
        for j in range(last + 1):
            kernels.advance(e.numpy(), products, plan.carried[j], plan.phases[j], a.numpy())
            wave = _to_time(a)
            square = wave * wave
            np.multiply(_to_frequency(square).numpy(), coupling, out=sources[j])
            if j == 0:
                products[0] = _to_frequency(square * wave.conj()).numpy()
                path.append((wave, wave))
                continue
            if own is not None:
                # The newest node's own Kerr term needs the harmonic there: that of the node
                # before stands in until it is known.
                sources[j] += own
            kernels.gather(sources, plan.driven[j], b.numpy())
            if j == last:
                path.append((wave, wave))
                break
            second = _to_time(b)
            path.append((wave, second))
            kernels.react(wave.numpy(), second.numpy(), plan.constants, on_a.numpy(), on_b.numpy())
            np.multiply(_to_frequency(on_a).numpy(), plan.phases[j].conj(), out=products[j])
            if plan.kerr:
                newest = _to_frequency(on_b).numpy()
                sources[j] += newest if own is None else newest - own
                own = newest
        if ctx.needs_input_grad[0]:
            ctx.kept = plan, path
        return a, b

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_a: Tensor, grad_b: Tensor) -> tuple[Tensor, None]:
        plan, path = ctx.kept
        last, back = plan.nodes, np.conj(plan.constants[kernels.COUPLING])
        shape = tuple(grad_a.shape)
        sources = np.zeros((last + 1, *shape), plan.constants.dtype)
        products = np.zeros((last, *shape), plan.constants.dtype)
        start = torch.zeros_like(grad_a)
        to_a, to_b = torch.empty_like(start), torch.empty_like(start)
        on_b = torch.zeros_like(start)
        spectrum, harmonic = grad_a.clone(), grad_b.contiguous()
        for j in range(last, -1, -1):
            wave, second = path[j]
            to_wave = torch.zeros(())
            if 0 < j < last:
                on_a = _to_time(torch.from_numpy(products[j] * plan.phases[j]))
                if plan.kerr:
                    early = np.conj(plan.driven[j + 1][j + 1]) * harmonic.numpy()
                    on_b = _to_time(torch.from_numpy(sources[j] + early))
                fields = wave.numpy(), second.numpy()
                grads = on_a.numpy(), on_b.numpy(), to_a.numpy(), to_b.numpy()
                kernels.react_adjoint(*fields, plan.constants, *grads)
                harmonic, to_wave = _to_frequency(to_b), to_a
            if j > 0:
                kernels.gather_adjoint(harmonic.numpy(), plan.driven[j], sources)
            else:
                cube = _to_time(torch.from_numpy(products[0]))
                to_wave = 2 * wave.abs().square() * cube + wave.square() * cube.conj()
            to_square = _to_time(torch.from_numpy(sources[j]))
            to_wave = to_wave + to_square * wave.conj() * complex(2 * back)
            here = _to_frequency(to_wave)
            if j == last:
                here = here + spectrum
            kernels.advance_adjoint(
                here.numpy(), plan.carried[j], plan.phases[j], start.numpy(), products
            )
        return start, None
