r"""The compiled core of the plate: modes propagated exactly, a kick for the tension, its adjoint.

Between two steps each mode is a damped oscillator under a constant force, whose displacement
:math:`q` and velocity :math:`v` are propagated exactly; at each step the tension kicks the
velocities:

.. math::
   v_m \leftarrow v_m - h\, \omega_m^2\, T\, q_m, \qquad
   T = \frac{\alpha S}{\sqrt{1 + (\alpha S / \tau)^2}}, \qquad S = \sum_m \omega_m^2 q_m^2 .

A half kick before the first step and after the last makes the scheme symmetric and of second order
(Strang); the read-out :math:`\sum_m c_m v_m` is taken between two halves of a kick.

Shots are computed in blocks of `LANES`, so that a block's state stays in the fastest cache. Arrays
are (samples, batch), padded to (samples, blocks * LANES) for the plate.
"""

import math

import numpy as np

from pnnlab.compiling import compiled
from pnnlab.systems.adjoint import Array

LANES = 32


@compiled(fastmath={"contract"})
def vibrate(
    u: Array, table: Array, stretch: Array, substeps: int, wave: Array, path: Array, sums: Array
) -> None:
    """Propagate all shots of a force ``u``, constant over a sample, to the read-out ``wave``.

    A row of the ``table``, (modes, 9), gives displacement and velocity after a substep from
    displacement, velocity and force, then kick, weight in S and weight in the read-out; ``stretch``
    is alpha and 1 / tau². For the adjoint, ``path``, (blocks, samples * substeps + 1, modes,
    LANES), takes displacements after each substep, and ``sums``, (..., 3, LANES), T, its derivative
    by S, and the sum of read-out weight, kick and displacement; (1, 2, ...) of either is scratch.
    """
    samples, batch = u.shape
    modes = len(table)
    keep = path.shape[1] > 2 or samples * substeps == 1
    one = u.dtype.type(1)
    half = u.dtype.type(0.5)
    nothing = u.dtype.type(0)
    alpha, yielding = stretch[0], stretch[1]
    velocity = np.empty((modes, LANES), u.dtype)
    heard = np.empty(LANES, u.dtype)
    for block in range(batch // LANES):
        at = block if keep else 0
        first = block * LANES
        velocity[:] = nothing
        path[at, 0] = nothing
        sums[at, 0] = nothing
        step = 0
        for n in range(samples):
            force = u[n, first : first + LANES]
            for _ in range(substeps):
                before = step if keep else step % 2
                after = step + 1 if keep else (step + 1) % 2
                step += 1
                old, new = path[at, before], path[at, after]
                pull = sums[at, before, 0]
                tension, slope, swing = sums[at, after, 0], sums[at, after, 1], sums[at, after, 2]
                heard[:] = nothing
                tension[:] = nothing
                swing[:] = nothing
                for m in range(modes):
                    qq, qv, qu, vq, vv, vu, kick, weight, out = table[m]
                    out_kick = out * kick
                    for b in range(LANES):
                        q = old[m, b]
                        v = velocity[m, b] - kick * pull[b] * q
                        moved = qq * q + qv * v + qu * force[b]
                        faster = vq * q + vv * v + vu * force[b]
                        new[m, b] = moved
                        velocity[m, b] = faster
                        tension[b] += weight * moved * moved
                        swing[b] += out_kick * moved
                        heard[b] += out * faster
                for b in range(LANES):
                    stretched = alpha * tension[b]
                    inverse = one / math.sqrt(one + yielding * stretched * stretched)
                    tension[b] = stretched * inverse
                    slope[b] = alpha * inverse * inverse * inverse
            for b in range(LANES):
                wave[n, first + b] = heard[b] - half * tension[b] * swing[b]


@compiled(fastmath={"contract"})
def vibrate_adjoint(
    table: Array, substeps: int, path: Array, sums: Array, grad_wave: Array, grad_u: Array
) -> None:
    """Pull a gradient of the read-out back to the force, exactly; see `vibrate`."""
    samples, batch = grad_wave.shape
    modes = len(table)
    half = grad_wave.dtype.type(0.5)
    nothing = grad_wave.dtype.type(0)
    lam_q = np.empty((modes, LANES), grad_wave.dtype)
    lam_v = np.empty((modes, LANES), grad_wave.dtype)
    lam_pull = np.empty(LANES, grad_wave.dtype)
    twice = np.empty(LANES, grad_wave.dtype)
    heard = np.empty(LANES, grad_wave.dtype)
    slack = np.empty(LANES, grad_wave.dtype)
    total = np.empty(LANES, grad_wave.dtype)
    for block in range(batch // LANES):
        first = block * LANES
        lam_q[:] = nothing
        lam_v[:] = nothing
        lam_pull[:] = nothing
        step = samples * substeps
        for n in range(samples - 1, -1, -1):
            total[:] = nothing
            for inner in range(substeps):
                old, new = path[block, step - 1], path[block, step]
                pull = sums[block, step - 1, 0]
                tension, slope = sums[block, step, 0], sums[block, step, 1]
                swing = sums[block, step, 2]
                step -= 1
                for b in range(LANES):
                    # Only the last substep of a sample is read out.
                    heard[b] = grad_wave[n, first + b] if inner == 0 else nothing
                    slack[b] = half * tension[b] * heard[b]
                    by_tension = slope[b] * (lam_pull[b] - half * swing[b] * heard[b])
                    twice[b] = by_tension + by_tension
                    lam_pull[b] = nothing
                for m in range(modes):
                    qq, qv, qu, vq, vv, vu, kick, weight, out = table[m]
                    out_kick = out * kick
                    for b in range(LANES):
                        by_v = lam_v[m, b] + out * heard[b]
                        by_q = lam_q[m, b] + weight * new[m, b] * twice[b] - out_kick * slack[b]
                        by_kicked = qv * by_q + vv * by_v
                        kicked = kick * by_kicked
                        total[b] += qu * by_q + vu * by_v
                        lam_q[m, b] = qq * by_q + vq * by_v - kicked * pull[b]
                        lam_v[m, b] = by_kicked
                        lam_pull[b] -= kicked * old[m, b]
            grad_u[n, first : first + LANES] = total


@compiled()
def speaker(u: Array, table: Array, sag: float, force: Array, path: Array) -> None:
    r"""Send a voltage through the speaker.

    The coil's excursion x and its rate v (per radian of the resonance) follow the force
    :math:`f = u (1 - s x^2)` of a magnet that weakens away from the middle. The plate feels the
    acceleration :math:`f - x - v / Q`.

    ``table``, (7,), holds excursion and rate after a sample from excursion, rate and force, and
    1 / Q. ``path``, (samples + 1, 2, batch), takes excursion and rate before each sample and at the
    end.
    """
    samples, batch = u.shape
    one = u.dtype.type(1)
    path[0] = 0
    for n in range(samples):
        for b in range(batch):
            x, v = path[n, 0, b], path[n, 1, b]
            f = u[n, b] * (one - sag * x * x)
            path[n + 1, 0, b] = table[0] * x + table[1] * v + table[2] * f
            path[n + 1, 1, b] = table[3] * x + table[4] * v + table[5] * f
            force[n, b] = f - x - table[6] * v


@compiled()
def speaker_adjoint(
    u: Array, table: Array, sag: float, path: Array, grad_force: Array, grad_u: Array
) -> None:
    """Pull a gradient of the force back to the voltage, see `speaker`."""
    samples, batch = u.shape
    one = u.dtype.type(1)
    lam = np.zeros((2, batch), u.dtype)
    for n in range(samples - 1, -1, -1):
        for b in range(batch):
            x, grad = path[n, 0, b], grad_force[n, b]
            lam_x, lam_v = lam[0, b], lam[1, b]
            by_f = grad + table[2] * lam_x + table[5] * lam_v
            bent = u[n, b] * sag * x * by_f
            grad_u[n, b] = by_f * (one - sag * x * x)
            lam[0, b] = table[0] * lam_x + table[3] * lam_v - grad - bent - bent
            lam[1, b] = table[1] * lam_x + table[4] * lam_v - table[6] * grad
