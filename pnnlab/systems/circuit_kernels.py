r"""The compiled core of the circuit: a fixed-step Runge-Kutta integrator and its adjoint.

Arrays are time-major, (samples, batch): a lane of a vector register is a shot. To the equations of
`pnnlab.systems.circuit` are added

.. math::
   v' = w_c \frac{i - g q^2}{1 + c\, q / \rho}, \qquad \rho = \sqrt{z^2 + s^2}, \qquad
   z = v - v_t + \kappa h

with the channel's temperature :math:`h`, which follows the dissipated power :math:`g q^2 v` from
sample to sample, and a drive that approaches each programmed value exponentially.
"""

import math
from typing import Any

import numpy as np
from numba import njit

from pnnlab.compiling import compiled
from pnnlab.systems.adjoint import Array

# Order of the constants that both kernels take in one vector, in the arrays' data type.
W_L, W_C, R, V_T, G, A, S2, C, KAPPA, DECAY = range(10)


@njit(inline="always", error_model="numpy")
def _slopes(i: Any, v: Any, u: Any, vt: Any, k: Array, half: Any) -> Any:
    z = v - vt
    root = math.sqrt(z * z + k[S2])
    q = half * (z + root)
    slope_i = k[W_L] * (u - k[R] * i - v)
    slope_v = k[W_C] * (i - k[G] * q * q) * root / (root + k[C] * q)  # one division, not two
    return slope_i, slope_v


@njit(inline="always", error_model="numpy")
def _pull_back(
    i: Any, v: Any, vt: Any, k: Array, grad_i: Any, grad_v: Any, half: Any, one: Any
) -> Any:
    """Transpose of the Jacobian of `_slopes` times a vector: by i, by v, and by v through q."""
    z = v - vt
    root = math.sqrt(z * z + k[S2])
    inverse = one / root
    q = half * (z + root)
    p = q * inverse  # dq/dv
    den = one / (one + k[C] * p)
    kgq = k[G] * q
    excess = (i - kgq * q) * den * k[C] * half * k[S2] * inverse * inverse * inverse
    by_q = -den * k[W_C] * (kgq * p + kgq * p + excess) * grad_v
    back_i = den * k[W_C] * grad_v - k[W_L] * k[R] * grad_i
    back_v = by_q - k[W_L] * grad_i
    return back_i, back_v, by_q


@compiled()
def oscillate(u: Array, k: Array, settle: Array, wave: Array, path: Array, slow: Array) -> None:
    """Integrate all shots of a programmed drive ``u`` from rest, to the read-out ``wave``.

    ``settle``, (2 * substeps + 1,), is what is left of a step of the drive at 0, 1/2, 1, ...
    substeps. For the adjoint, ``path``, (samples * substeps + 1, 2, batch), takes the state before
    each substep and at the end, and ``slow``, (samples + 1, 2, batch), the channel's temperature
    and the drive that is reached; one row of either keeps the last alone.
    """
    samples, batch = u.shape
    substeps = len(settle) // 2
    keep = len(path) > 1
    one = u.dtype.type(1)
    half = u.dtype.type(0.5)
    sixth = u.dtype.type(1 / 6)
    dt = one / u.dtype.type(substeps)
    state = np.zeros((2, batch), u.dtype)
    current, voltage = state[0], state[1]
    slow[0] = 0
    for n in range(samples):
        drive, now = u[n], slow[n if keep else 0]
        warm, before = now[0], now[1]
        for m in range(substeps):
            first, middle, last = settle[2 * m], settle[2 * m + 1], settle[2 * m + 2]
            if keep:
                path[n * substeps + m] = state
            for b in range(batch):
                i, v = current[b], voltage[b]
                vt = k[V_T] - k[KAPPA] * warm[b]
                step = before[b] - drive[b]
                u1 = drive[b] + step * first
                u2 = drive[b] + step * middle
                u4 = drive[b] + step * last
                i1, v1 = _slopes(i, v, u1, vt, k, half)
                i2, v2 = _slopes(i + half * dt * i1, v + half * dt * v1, u2, vt, k, half)
                i3, v3 = _slopes(i + half * dt * i2, v + half * dt * v2, u2, vt, k, half)
                i4, v4 = _slopes(i + dt * i3, v + dt * v3, u4, vt, k, half)
                current[b] = i + dt * sixth * (i1 + i2 + i2 + i3 + i3 + i4)
                voltage[b] = v + dt * sixth * (v1 + v2 + v2 + v3 + v3 + v4)
        out, rest, later = wave[n], settle[2 * substeps], slow[n + 1 if keep else 0]
        for b in range(batch):
            v = voltage[b]
            z = v - k[V_T] + k[KAPPA] * warm[b]
            q = half * (z + math.sqrt(z * z + k[S2]))
            aqq = k[A] * q * q
            out[b] = aqq / (one + aqq)
            later[0, b] = k[DECAY] * warm[b] + (one - k[DECAY]) * k[G] * q * q * v
            later[1, b] = drive[b] + (before[b] - drive[b]) * rest
    path[samples * substeps if keep else 0] = state


@compiled()
def oscillate_adjoint(
    u: Array, k: Array, settle: Array, path: Array, slow: Array, grad_wave: Array, grad_u: Array
) -> None:
    """Pull a gradient of the read-out back to the drive, exactly; see `oscillate`."""
    samples, batch = u.shape
    substeps = len(settle) // 2
    one = u.dtype.type(1)
    half = u.dtype.type(0.5)
    third = u.dtype.type(1 / 3)
    sixth = u.dtype.type(1 / 6)
    dt = one / u.dtype.type(substeps)
    lam_i = np.zeros(batch, u.dtype)
    lam_v = np.zeros(batch, u.dtype)
    lam_heat = np.zeros(batch, u.dtype)
    lam_ramp = np.zeros(batch, u.dtype)
    lam_z = np.zeros(batch, u.dtype)
    rest = settle[2 * substeps]
    for n in range(samples - 1, -1, -1):
        drive, warm, before = u[n], slow[n, 0], slow[n, 1]
        grad_out, grad_in = grad_wave[n], grad_u[n]
        voltage = path[(n + 1) * substeps, 1]
        for b in range(batch):
            v = voltage[b]
            z = v - k[V_T] + k[KAPPA] * warm[b]
            root = math.sqrt(z * z + k[S2])
            q = half * (z + root)
            den = one / (one + k[A] * q * q)
            heating = (one - k[DECAY]) * k[G] * q * lam_heat[b]
            by_q = (k[A] * q * den * den * grad_out[b] + heating * v) * (q / root)
            by_q = by_q + by_q
            lam_v[b] += by_q + heating * q
            lam_z[b] = by_q
            grad_in[b] = (one - rest) * lam_ramp[b]
            lam_ramp[b] = rest * lam_ramp[b]
        for m in range(substeps - 1, -1, -1):
            first, middle, last = settle[2 * m], settle[2 * m + 1], settle[2 * m + 2]
            currents, voltages = path[n * substeps + m, 0], path[n * substeps + m, 1]
            for b in range(batch):
                i, v = currents[b], voltages[b]
                vt = k[V_T] - k[KAPPA] * warm[b]
                step = before[b] - drive[b]
                u1 = drive[b] + step * first
                u2 = drive[b] + step * middle
                i1, v1 = _slopes(i, v, u1, vt, k, half)
                i_2, v_2 = i + half * dt * i1, v + half * dt * v1
                i2, v2 = _slopes(i_2, v_2, u2, vt, k, half)
                i_3, v_3 = i + half * dt * i2, v + half * dt * v2
                i3, v3 = _slopes(i_3, v_3, u2, vt, k, half)
                i_4, v_4 = i + dt * i3, v + dt * v3

                li, lv = lam_i[b], lam_v[b]
                g4i, g4v = dt * sixth * li, dt * sixth * lv
                b4i, b4v, z4 = _pull_back(i_4, v_4, vt, k, g4i, g4v, half, one)
                g3i, g3v = dt * (third * li + b4i), dt * (third * lv + b4v)
                b3i, b3v, z3 = _pull_back(i_3, v_3, vt, k, g3i, g3v, half, one)
                g2i, g2v = dt * (third * li + half * b3i), dt * (third * lv + half * b3v)
                b2i, b2v, z2 = _pull_back(i_2, v_2, vt, k, g2i, g2v, half, one)
                g1i, g1v = dt * (sixth * li + half * b2i), dt * (sixth * lv + half * b2v)
                b1i, b1v, z1 = _pull_back(i, v, vt, k, g1i, g1v, half, one)
                lam_i[b] = li + b4i + b3i + b2i + b1i
                lam_v[b] = lv + b4v + b3v + b2v + b1v
                lam_z[b] += z4 + z3 + z2 + z1
                total = g1i + g2i + g3i + g4i
                left = first * g1i + middle * (g2i + g3i) + last * g4i
                grad_in[b] += k[W_L] * (total - left)
                lam_ramp[b] += k[W_L] * left
        for b in range(batch):
            lam_heat[b] = k[DECAY] * lam_heat[b] + k[KAPPA] * lam_z[b]


@compiled()
def acquire(
    wave: Array, noise: Array, delay: Array, gain: float, codes: int, screen: Any, out: Array
) -> None:
    """Digitise each shot and average it over equal segments, ``out``, (batch, outputs).

    The ``noise``, (batch, samples), is added before conversion; ``delay``, (batch,), is the trigger
    error in samples, and the ``codes`` are spread evenly over the ``screen``, two voltages.
    """
    samples, batch = wave.shape
    outputs = out.shape[1]
    length = samples // outputs
    low, high = screen
    step = (high - low) / (codes - 1)
    for b in range(batch):
        last = 0.0
        n = 0
        for segment in range(outputs):
            total = 0
            for _ in range(length):
                now = wave[n, b]
                value = gain * (now + delay[b] * (now - last)) + noise[b, n]
                code = math.floor((value - low) / step + 0.5)
                total += min(max(code, 0), codes - 1)
                last = now
                n += 1
            out[b, segment] = low + step * total / length
