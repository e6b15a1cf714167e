"""Fourier transforms of many shots side by side, compiled.

A field is a flat array of the real numbers ``field[n, part, lane]``: point of the grid, real or
imaginary part, shot. `LANES` shots fill the vector registers; the butterflies run along the grid.
One transform goes down from the natural order to a shuffled one, the other up from there: what is
done in time is done point by point and does not mind the order, so nothing is ever sorted.

Price: this file and `wave_kernels`, 480 lines, stand in place of 40 of torch with its own
transforms and autograd, and solve a crystal 2.4 to 5.2 times as fast (complex64, 1 to 1000 shots,
forward, and with backward, one thread). The transforms alone gain 1.2 over torch's; the rest is
that a block of shots stays in the cache between them, in a kernel that can call no torch.

Source: W. M. Gentleman, G. Sande, Proc. AFIPS 29, 563 (1966), and J. W. Cooley, J. W. Tukey,
Math. Comput. 19, 297 (1965), both in radix 4.
"""

from typing import Any

import numpy as np
from numba import njit

from pnnlab.compiling import compiled
from pnnlab.systems.adjoint import Array

LANES = 32  # shots; several registers full, so that the loop around them costs little
ROW = 2 * LANES


def twiddles(grid: int, kind: Any) -> Array:
    """Factors of all stages of a ``grid``, a power of 2, largest first.

    They are (rows, 6): cosine and sine of one, two and three turns, of the number type ``kind``.
    """
    stages = [np.zeros((0, 6))]
    size = grid
    while size >= 4:
        angle = 2 * np.pi / size * np.arange(size // 4)
        turns = [part(times * angle) for times in (1, 2, 3) for part in (np.cos, np.sin)]
        stages.append(np.stack(turns, 1))
        size //= 4
    factors: Array = np.concatenate(stages).astype(kind)
    return factors


@compiled(fastmath={"contract"})
def to_time(x: Array, w: Array) -> None:
    """Sum the lines of a spectrum at every time, in place: natural order to shuffled order."""
    grid = len(x) // ROW
    size, stage = grid, 0
    while size >= 4:
        m = size // 4
        for base in range(0, grid, size):
            for k in range(m):
                _four_down(x, (base + k) * ROW, m * ROW, w[stage + k])
        stage += m
        size = m
    if size == 2:
        _twos(x)


@compiled(fastmath={"contract"})
def to_frequency(x: Array, w: Array) -> None:
    """Go back, times the number of points, in place: shuffled order to natural order."""
    grid = len(x) // ROW
    size, stage = grid, len(w)
    while size >= 4:
        size //= 4
    if size == 2:
        _twos(x)
    while size < grid:
        m = size
        size *= 4
        stage -= m
        for base in range(0, grid, size):
            for k in range(m):
                _four_up(x, (base + k) * ROW, m * ROW, w[stage + k])


# Slices, for they show the compiler that a row holds its two parts one behind the other.


@njit(inline="always", error_model="numpy", fastmath={"contract"})
def _four_down(x: Array, start: int, step: int, w: Array) -> None:
    a, b = x[start : start + ROW], x[start + step : start + step + ROW]
    c = x[start + 2 * step : start + 2 * step + ROW]
    d = x[start + 3 * step : start + 3 * step + ROW]
    p1, q1, p2, q2, p3, q3 = w[0], w[1], w[2], w[3], w[4], w[5]
    for n in range(LANES):
        m = LANES + n
        sx, sy, tx, ty = a[n] + c[n], a[m] + c[m], a[n] - c[n], a[m] - c[m]
        ux, uy, vx, vy = b[n] + d[n], b[m] + d[m], d[m] - b[m], b[n] - d[n]  # v = i (b - d)
        a[n], a[m] = sx + ux, sy + uy
        fx, fy, gx, gy, hx, hy = tx + vx, ty + vy, sx - ux, sy - uy, tx - vx, ty - vy
        b[n], b[m] = fx * p1 - fy * q1, fx * q1 + fy * p1
        c[n], c[m] = gx * p2 - gy * q2, gx * q2 + gy * p2
        d[n], d[m] = hx * p3 - hy * q3, hx * q3 + hy * p3


@njit(inline="always", error_model="numpy", fastmath={"contract"})
def _four_up(x: Array, start: int, step: int, w: Array) -> None:
    a, b = x[start : start + ROW], x[start + step : start + step + ROW]
    c = x[start + 2 * step : start + 2 * step + ROW]
    d = x[start + 3 * step : start + 3 * step + ROW]
    p1, q1, p2, q2, p3, q3 = w[0], w[1], w[2], w[3], w[4], w[5]
    for n in range(LANES):
        m = LANES + n
        fx, fy = b[n] * p1 + b[m] * q1, b[m] * p1 - b[n] * q1
        gx, gy = c[n] * p2 + c[m] * q2, c[m] * p2 - c[n] * q2
        hx, hy = d[n] * p3 + d[m] * q3, d[m] * p3 - d[n] * q3
        sx, sy, tx, ty = a[n] + gx, a[m] + gy, a[n] - gx, a[m] - gy
        ux, uy, vx, vy = fx + hx, fy + hy, fy - hy, hx - fx  # v = -i (f - h)
        a[n], a[m] = sx + ux, sy + uy
        b[n], b[m] = tx + vx, ty + vy
        c[n], c[m] = sx - ux, sy - uy
        d[n], d[m] = tx - vx, ty - vy


@njit(inline="always", error_model="numpy", fastmath={"contract"})
def _twos(x: Array) -> None:
    for start in range(0, len(x), 2 * ROW):
        a, b = x[start : start + ROW], x[start + ROW : start + 2 * ROW]
        for n in range(ROW):
            a[n], b[n] = a[n] + b[n], a[n] - b[n]
