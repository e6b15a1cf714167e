"""The compiled sums and products between the Fourier transforms of `pnnlab.systems.waves`.

Fields are complex64 or complex128, (batch, grid); a stack of them has the node first. Every
constant comes in an array of the fields' own type, so that nothing is promoted. The kernels
release Python's lock.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]

# Order of the constants that `react` takes: coupling, and the Kerr coefficients of the
# fundamental and of the harmonic, each times i; how much stronger one wave acts on the other.
COUPLING, KERR_1, KERR_2, CROSS = range(4)


@njit(cache=True, error_model="numpy", nogil=True)
def advance(start: Array, stack: Array, c: Array, phase: Array, out: Array) -> None:
    """``out = phase * (start + sum over m of c[m] * stack[m])``."""
    batch, grid = start.shape
    for b in range(batch):
        for n in range(grid):
            out[b, n] = start[b, n]
        for m in range(len(c)):
            factor = c[m]
            for n in range(grid):
                out[b, n] += factor * stack[m, b, n]
        for n in range(grid):
            out[b, n] *= phase[n]


@njit(cache=True, error_model="numpy", nogil=True)
def advance_adjoint(grad: Array, c: Array, phase: Array, start: Array, stack: Array) -> None:
    """Add to the gradients of ``start`` and ``stack`` what `advance` passes back."""
    batch, grid = grad.shape
    for b in range(batch):
        for n in range(grid):
            grad[b, n] *= np.conj(phase[n])
            start[b, n] += grad[b, n]
        for m in range(len(c)):
            factor = np.conj(c[m])
            for n in range(grid):
                stack[m, b, n] += factor * grad[b, n]


@njit(cache=True, error_model="numpy", nogil=True)
def gather(stack: Array, w: Array, out: Array) -> None:
    """``out = sum over m of w[m] * stack[m]``, with ``w`` (nodes, grid)."""
    batch, grid = out.shape
    for b in range(batch):
        for n in range(grid):
            out[b, n] = w[0, n] * stack[0, b, n]
        for m in range(1, len(w)):
            for n in range(grid):
                out[b, n] += w[m, n] * stack[m, b, n]


@njit(cache=True, error_model="numpy", nogil=True)
def gather_adjoint(grad: Array, w: Array, stack: Array) -> None:
    """Add to the gradients of ``stack`` what `gather` passes back."""
    batch, grid = grad.shape
    for b in range(batch):
        for m in range(len(w)):
            for n in range(grid):
                stack[m, b, n] += np.conj(w[m, n]) * grad[b, n]


@njit(cache=True, error_model="numpy", nogil=True)
def react(a: Array, b: Array, k: Array, on_a: Array, on_b: Array) -> None:
    """What both waves do to each other: the source of each but for ``i coupling a²``, in time."""
    kappa, kerr_1, kerr_2, cross = k[COUPLING], k[KERR_1], k[KERR_2], k[CROSS].real
    for r in range(a.shape[0]):
        for n in range(a.shape[1]):
            f, h = a[r, n], b[r, n]
            ff = f.real * f.real + f.imag * f.imag
            hh = h.real * h.real + h.imag * h.imag
            on_a[r, n] = kappa * h * np.conj(f) + kerr_1 * (ff + cross * hh) * f
            on_b[r, n] = kerr_2 * (hh + cross * ff) * h


@njit(cache=True, error_model="numpy", nogil=True)
def react_adjoint(
    a: Array, b: Array, k: Array, on_a: Array, on_b: Array, grad_a: Array, grad_b: Array
) -> None:
    """Pull gradients ``on_a`` and ``on_b`` of what `react` gives back to ``a`` and ``b``."""
    kappa, kerr_1, kerr_2, cross = k[COUPLING], k[KERR_1], k[KERR_2], k[CROSS].real
    for r in range(a.shape[0]):
        for n in range(a.shape[1]):
            f, h, p, q = a[r, n], b[r, n], on_a[r, n], on_b[r, n]
            ff = f.real * f.real + f.imag * f.imag
            hh = h.real * h.real + h.imag * h.imag
            # d(|f|² f) = 2 |f|² df + f² df*, and the same of h
            of_f = np.conj(kerr_1) * (ff + ff + cross * hh) * p + kerr_1 * f * f * np.conj(p)
            of_h = np.conj(kerr_2) * (hh + hh + cross * ff) * q + kerr_2 * h * h * np.conj(q)
            through_f = (np.conj(kerr_1 * f) * p).real * cross
            through_h = (np.conj(kerr_2 * h) * q).real * cross
            grad_a[r, n] = kappa * h * np.conj(p) + of_f + (through_h + through_h) * f
            grad_b[r, n] = np.conj(kappa) * f * p + of_h + (through_f + through_f) * h
