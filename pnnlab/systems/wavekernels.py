"""The compiled sums and products between the Fourier transforms of `pnnlab.systems.waves`.

Every field comes as its real numbers: (batch, 2 * grid), real and imaginary parts in turn. A
complex weight times a field is then two real products, one with the field and one with the field
times i, which is kept beside it: that, and only that, fills the lanes of vector registers. The
kernels release Python's lock.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]

# Order of the constants that `react` takes: coupling, Kerr coefficients of fundamental and
# harmonic, and how much stronger one wave acts on the other.
COUPLING, KERR_1, KERR_2, CROSS = range(4)


@njit(cache=True, error_model="numpy", nogil=True, fastmath={"contract"})
def turn(field: Array, out: Array) -> None:
    """Write ``i * field`` and, beside it, the same times i: (2, batch, 2 * grid)."""
    batch, width = field.shape
    for b in range(batch):
        row, once, twice = field[b], out[0, b], out[1, b]
        for n in range(width // 2):
            x, y = row[2 * n], row[2 * n + 1]
            once[2 * n], once[2 * n + 1] = -y, x
            twice[2 * n], twice[2 * n + 1] = -x, -y


@njit(cache=True, error_model="numpy", nogil=True, fastmath={"contract"})
def advance(start: Array, stack: Array, c: Array, phase: Array, out: Array) -> None:
    """``out = phase * (start + sum over m of c[m] * stack[m])``, with real ``c``."""
    batch, width = start.shape
    for b in range(batch):
        row = out[b]
        row[:] = start[b]
        for m in range(len(c)):
            factor, other = c[m], stack[m, b]
            for n in range(width):
                row[n] += factor * other[n]
        for n in range(width // 2):
            x, y, p, q = row[2 * n], row[2 * n + 1], phase[2 * n], phase[2 * n + 1]
            row[2 * n], row[2 * n + 1] = p * x - q * y, p * y + q * x


@njit(cache=True, error_model="numpy", nogil=True, fastmath={"contract"})
def advance_adjoint(grad: Array, c: Array, phase: Array, start: Array, stack: Array) -> None:
    """Add to the gradients of ``start`` and ``stack`` what `advance` passes back."""
    batch, width = grad.shape
    for b in range(batch):
        row, first = grad[b], start[b]
        for n in range(width // 2):
            x, y, p, q = row[2 * n], row[2 * n + 1], phase[2 * n], phase[2 * n + 1]
            row[2 * n], row[2 * n + 1] = p * x + q * y, p * y - q * x
        for n in range(width):
            first[n] += row[n]
        for m in range(len(c)):
            factor, other = c[m], stack[m, b]
            for n in range(width):
                other[n] += factor * row[n]


@njit(cache=True, error_model="numpy", nogil=True, fastmath={"contract"})
def gather(stack: Array, w: Array, out: Array) -> None:
    """Sum over m of complex weights times a stack of what `turn` wrote.

    Parameters
    ----------
    stack : array, (nodes, 2, batch, 2 * grid)
    w : array, (nodes, 2, 2 * grid)
        Real parts of the weights, each twice, and imaginary parts likewise.
    out : array, (batch, 2 * grid), output
    """
    batch, width = out.shape
    for b in range(batch):
        row = out[b]
        row[:] = 0
        for m in range(len(w)):
            real, imaginary, once, twice = w[m, 0], w[m, 1], stack[m, 0, b], stack[m, 1, b]
            for n in range(width):
                row[n] += real[n] * once[n] + imaginary[n] * twice[n]


@njit(cache=True, error_model="numpy", nogil=True, fastmath={"contract"})
def gather_adjoint(grad: Array, w: Array, stack: Array) -> None:
    """Add to the gradients of the sources, (nodes, batch, 2 * grid), what `gather` passes back."""
    batch, width = grad.shape
    turned = np.empty(width, grad.dtype)
    for b in range(batch):
        row = grad[b]
        for n in range(width // 2):
            turned[2 * n], turned[2 * n + 1] = row[2 * n + 1], -row[2 * n]
        for m in range(len(w)):
            real, imaginary, source = w[m, 0], w[m, 1], stack[m, b]
            for n in range(width):
                source[n] += real[n] * row[n] + imaginary[n] * turned[n]


@njit(cache=True, error_model="numpy", nogil=True, fastmath={"contract"})
def react(a: Array, b: Array, k: Array, on_a: Array, on_b: Array) -> None:
    """What both waves do to each other, in time: the sources but for ``i coupling a²``.

    The source of ``b`` is given over i.
    """
    kappa, kerr_1, kerr_2, cross = k[COUPLING], k[KERR_1], k[KERR_2], k[CROSS]
    for r in range(len(a)):
        one, two, to_one, to_two = a[r], b[r], on_a[r], on_b[r]
        for n in range(len(one) // 2):
            fx, fy, hx, hy = one[2 * n], one[2 * n + 1], two[2 * n], two[2 * n + 1]
            ff, hh = fx * fx + fy * fy, hx * hx + hy * hy
            p, q = kerr_1 * (ff + cross * hh), kerr_2 * (hh + cross * ff)
            to_one[2 * n] = kappa * (hx * fy - hy * fx) - p * fy
            to_one[2 * n + 1] = kappa * (hx * fx + hy * fy) + p * fx
            to_two[2 * n] = q * hx
            to_two[2 * n + 1] = q * hy


@njit(cache=True, error_model="numpy", nogil=True, fastmath={"contract"})
def react_adjoint(
    a: Array, b: Array, k: Array, on_a: Array, on_b: Array, grad_a: Array, grad_b: Array
) -> None:
    """Pull gradients ``on_a`` and ``on_b`` of what `react` gives back to ``a`` and ``b``."""
    kappa, kerr_1, kerr_2, cross = k[COUPLING], k[KERR_1], k[KERR_2], k[CROSS]
    for r in range(len(a)):
        one, two, from_one, from_two = a[r], b[r], on_a[r], on_b[r]
        to_one, to_two = grad_a[r], grad_b[r]
        for n in range(len(one) // 2):
            fx, fy, hx, hy = one[2 * n], one[2 * n + 1], two[2 * n], two[2 * n + 1]
            ux, uy = from_one[2 * n], from_one[2 * n + 1]
            vx, vy = from_two[2 * n], from_two[2 * n + 1]
            ff, hh = fx * fx + fy * fy, hx * hx + hy * hy
            p, q = kerr_1 * (ff + cross * hh), kerr_2 * (hh + cross * ff)
            # How p and q themselves answer: d(|f|²) = 2 Re(f* df)
            by_p = kerr_1 * (fx * uy - fy * ux)
            by_q = kerr_2 * (hx * vx + hy * vy)
            by_f, by_h = by_p + cross * by_q, by_q + cross * by_p
            by_f, by_h = by_f + by_f, by_h + by_h
            to_one[2 * n] = kappa * (hx * uy - hy * ux) + p * uy + by_f * fx
            to_one[2 * n + 1] = kappa * (hx * ux + hy * uy) - p * ux + by_f * fy
            to_two[2 * n] = kappa * (fx * uy + fy * ux) + q * vx + by_h * hx
            to_two[2 * n + 1] = kappa * (fy * uy - fx * ux) + q * vy + by_h * hy
