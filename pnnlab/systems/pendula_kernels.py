r"""The compiled core of `pnnlab.systems.pendula`: all of a Runge-Kutta step but matrix products.

Arrays are pendulum-major, (n, batch), so that the inner loops run over shots. Stages of a step
that are computed together stand side by side, (n, 2 * batch), so that one matrix product serves
both. Arithmetic stays in the data type of the arrays. The kernels release Python's lock.

With a step h and accelerations :math:`a_1 \dots a_4` at the angles of the four stages,

.. math::
   q, \quad q + \tfrac h2 p, \quad q + \tfrac h2 p + \tfrac{h^2}4 a_1, \quad
   q + h p + \tfrac{h^2}2 a_2,

the classical Runge-Kutta method for :math:`\ddot q = a(q)` arrives at the angles
:math:`q + h p + \tfrac{h^2}6 (a_1 + a_2 + a_3)` and the velocities
:math:`p + \tfrac h6 (a_1 + 2 a_2 + 2 a_3 + a_4)`. The second stage does not need the first, nor
the fourth the third: hence the pairs. A single stage instead of the first two stands for both, as
it may at rest; a third without a fourth gives no velocities.
"""

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pnnlab.compiling import compiled

Array = NDArray[Any]

# Order of the constants: length of the step; what the sine's angle is multiplied with; for sine and
# cosine 2/pi, pi/2 in three parts, the first two so short that a multiple of them is exact, and the
# Taylor series of both in the square of an angle within ±pi/4, the highest power first.
H, SCALE, TURNS, PART_1, PART_2, PART_3, SINE, COSINE = 0, 1, 2, 3, 4, 5, 6, 13
_SERIES = (
    *(2 / math.pi, 1.5703125, 4.837512969970703125e-4, 7.54978995489188216e-8),
    *((-1) ** m / math.factorial(2 * m + 1) for m in range(7, 0, -1)),
    *((-1) ** m / math.factorial(2 * m) for m in range(8, 1, -1)),
)


def constants(h: float, scale: float, kind: Any) -> Array:
    """What the kernels take as ``k``, of data type ``kind``."""
    return np.array((h, scale, *_SERIES), kind)


@njit(inline="always", error_model="numpy", fastmath={"contract"})
def _respond(sine: Array, cosine: Array, k: Array) -> None:
    """Replace angles by the sines of the scaled angles; derivatives of these go beside.

    Without branches, so that the compiler works on many angles at a time. The error is below two
    units in the last place of 1 for angles up to 10⁴ rad.
    """
    one, half, scale = k.dtype.type(1), k.dtype.type(0.5), k[SCALE]
    skip = 3 if np.finfo(k.dtype).eps > 1e-12 else 0  # terms that single precision does not see
    for n in range(len(sine)):
        x = scale * sine[n]
        turns = np.rint(x * k[TURNS])
        x = x - turns * k[PART_1] - turns * k[PART_2] - turns * k[PART_3]
        z = x * x
        p, q = k[SINE + skip], k[COSINE + skip]
        for m in range(skip + 1, COSINE - SINE):
            p, q = p * z + k[SINE + m], q * z + k[COSINE + m]
        s, c = p * z * x + x, q * z * z - half * z + one
        quarter = np.int32(turns)
        if quarter & 1:
            s, c = c, -s
        if quarter & 2:
            s, c = -s, -c
        sine[n] = s
        cosine[n] = scale * c


@compiled(fastmath={"contract"})
def begin(
    q: Array, p: Array, k: Array, sines: Array, cosines: Array, first: int, last: int
) -> None:
    """Write what the first two stages of a step respond.

    Parameters
    ----------
    q, p : array, (n, batch)
        Angles and velocities.
    k : array
        Of `constants`.
    sines, cosines : array, (n, columns), changed
        Sines of the scaled angles, and their derivatives by the angles.
    first, last : int
        The stages' columns.
    """
    batch = q.shape[1]
    half = k[H] * k.dtype.type(0.5)
    for i in range(len(q)):
        angles, speeds, to = q[i], p[i], sines[i, first : first + batch]
        for b in range(batch):
            to[b] = angles[b]
        if last - first > batch:
            to = sines[i, last - batch : last]
            for b in range(batch):
                to[b] = angles[b] + half * speeds[b]
        _respond(sines[i, first:last], cosines[i, first:last], k)


@compiled(fastmath={"contract"})
def begin_adjoint(
    by_q: Array, by_p: Array, k: Array, cosines: Array, back: Array, first: int, last: int
) -> None:
    """Pull gradients back through `begin`.

    Parameters
    ----------
    by_q, by_p : array, (n, batch), changed
        Gradients by the angles and velocities.
    k, cosines, first, last
        As given to and filled by `begin`.
    back : array, (n, last - first)
        Gradients by the sines.
    """
    batch = by_q.shape[1]
    half = k[H] * k.dtype.type(0.5)
    for i in range(len(by_q)):
        angles, speeds = by_q[i], by_p[i]
        cosine, grad = cosines[i, first : first + batch], back[i, :batch]
        for b in range(batch):
            angles[b] += cosine[b] * grad[b]
        if last - first > batch:
            cosine, grad = cosines[i, last - batch : last], back[i, -batch:]
            for b in range(batch):
                angles[b] += cosine[b] * grad[b]
            for b in range(batch):
                speeds[b] += half * cosine[b] * grad[b]


@compiled(fastmath={"contract"})
def halfway(
    q: Array,
    p: Array,
    early: Array,
    biases: Array,
    k: Array,
    sines: Array,
    cosines: Array,
    first: int,
    last: int,
) -> None:
    """Write what the last two stages of a step respond; parameters as in `begin`, and these.

    Parameters
    ----------
    early : array, (n, batch or 2 * batch)
        Accelerations of the first two stages, without the torques.
    biases : array, (n, batch)
        The torques.
    """
    batch = q.shape[1]
    h, half = k[H], k[H] * k.dtype.type(0.5)
    for i in range(len(q)):
        angles, speeds, bias = q[i], p[i], biases[i]
        a, to = early[i, :batch], sines[i, first : first + batch]
        for b in range(batch):
            to[b] = angles[b] + half * (speeds[b] + half * (a[b] + bias[b]))
        if last - first > batch:
            a, to = early[i, -batch:], sines[i, last - batch : last]
            for b in range(batch):
                to[b] = angles[b] + h * (speeds[b] + half * (a[b] + bias[b]))
        _respond(sines[i, first:last], cosines[i, first:last], k)


@compiled(fastmath={"contract"})
def arrive(q: Array, p: Array, early: Array, late: Array, biases: Array, k: Array) -> None:
    """End a step.

    Parameters
    ----------
    q, p : array, (n, batch), changed
    early, late : array, (n, batch or 2 * batch)
        Accelerations of the first two and of the last two stages, without the torques.
    biases : array, (n, batch)
    k : array
    """
    batch = q.shape[1]
    h, three, six = k[H], k.dtype.type(3), k.dtype.type(6)
    sixth = h / six
    for i in range(len(q)):
        angles, speeds, bias = q[i], p[i], biases[i]
        a_1, a_2, a_3, a_4 = early[i, :batch], early[i, -batch:], late[i, :batch], late[i, -batch:]
        for b in range(batch):
            pull = a_1[b] + a_2[b] + a_3[b] + three * bias[b]
            angles[b] += h * (speeds[b] + sixth * pull)
        for b in range(batch):
            inner = a_2[b] + a_3[b]
            speeds[b] += sixth * (a_1[b] + inner + inner + a_4[b] + six * bias[b])


@compiled(fastmath={"contract"})
def arrive_adjoint(
    by_q: Array, by_p: Array, k: Array, by_stages: Array, first: int, last: int
) -> None:
    """Write the gradients by the accelerations of the last two stages of a step.

    Parameters
    ----------
    by_q, by_p : array, (n, batch)
        Gradients by the angles and velocities at its end.
    k : array
    by_stages : array, (n, columns), changed
    first, last : int
        The stages' columns.
    """
    batch = by_q.shape[1]
    h, third = k[H], k.dtype.type(1 / 3)
    sixth = h * k.dtype.type(1 / 6)
    for i in range(len(by_q)):
        angles, speeds, to = by_q[i], by_p[i], by_stages[i, first : first + batch]
        for b in range(batch):
            to[b] = h * (third * speeds[b] + sixth * angles[b])
        if last - first > batch:
            to = by_stages[i, last - batch : last]
            for b in range(batch):
                to[b] = sixth * speeds[b]


@compiled(fastmath={"contract"})
def halfway_adjoint(
    by_q: Array,
    by_p: Array,
    k: Array,
    cosines: Array,
    back: Array,
    by_stages: Array,
    begun: int,
    first: int,
    last: int,
) -> None:
    """Pull gradients back through `halfway`, and through all of a step but its stages.

    Parameters
    ----------
    by_q, by_p : array, (n, batch), changed
    k, cosines, first, last
        As given to and filled by `halfway`.
    back : array, (n, last - first), used up
        Gradients by the sines of the last two stages.
    by_stages : array, (n, columns), changed
        Gradients by all accelerations.
    begun : int
        Where those of the first two stages begin, which end at ``first``.
    """
    batch = by_q.shape[1]
    h, half, sixth = k[H], k[H] * k.dtype.type(0.5), k[H] * k.dtype.type(1 / 6)
    nothing = np.zeros(batch, k.dtype)
    for i in range(len(by_q)):
        angles, speeds = by_q[i], by_p[i]
        grad, cosine = back[i], cosines[i, first:last]
        for n in range(last - first):
            grad[n] *= cosine[n]
        near = grad[:batch]
        far = grad[batch:] if last - first > batch else nothing
        a_3, to = by_stages[i, first : first + batch], by_stages[i, first - batch : first]
        for b in range(batch):
            to[b] = a_3[b] + h * half * far[b]
        if first - begun > batch:
            to = by_stages[i, begun : begun + batch]
            for b in range(batch):
                to[b] = 0
        for b in range(batch):
            to[b] += sixth * (h * angles[b] + speeds[b]) + half * half * near[b]
        for b in range(batch):
            speeds[b] += h * (angles[b] + far[b]) + half * near[b]
        for b in range(batch):
            angles[b] += near[b] + far[b]
