r"""A driven plate in forty modes, stiffened by its own tension, between speaker and microphone.

.. math::
   \ddot q_m + 2 \gamma_m \dot q_m + \omega_m^2 (1 + T)\, q_m = b_m u, \qquad
   p = \sum_m c_m \dot q_m,

.. math::
   T = \frac{\alpha S}{\sqrt{1 + (\alpha S / \tau)^2}}, \qquad S = \sum_m \omega_m^2 q_m^2 :

a plate that bends is stretched, and the tension stiffens all its modes at once (Berger). Where
it would more than about double the stiffness (tau = 1), the edges slip in their mount. The modes
are those of a simply supported strip, :math:`\omega_{jk} = w_x j^2 + w_y k^2`, driven at one point
and heard at another by the shape :math:`\sin(j \pi x) \sin(k \pi y)`; losses rise with frequency,
:math:`\gamma = \gamma_0 + \gamma_1 \omega`. Time is counted in samples of 20 µs, so the modes lie
between 0.95 and 18 kHz; displacement is in units in which alpha = 0.02. The microphone's samples
are squared and averaged in windows, and the computer takes the logarithm.

What is idealised: the tension acts on every mode in proportion to its own stiffness; Berger's
plate would weigh slow modes more. The microphone hears velocities, as right above a plate, and no
room. The plate is at rest before each shot.

The compiled core propagates displacement and velocity of each mode exactly between two steps, under
a constant force; at each step, h, the tension kicks the velocities:
:math:`v_m \leftarrow v_m - h\, \omega_m^2\, T\, q_m`. A half kick before the first step and after
the last makes the scheme symmetric and of second order (Strang); the read-out is taken between two
halves of a kick. Arrays are (samples, batch), padded to (samples, blocks * LANES) in the core.

Source: the mechanical PNN of Wright, Onodera et al., Nature 601, 549 (2022), a titanium plate on
a loudspeaker with a microphone; H. M. Berger, J. Appl. Mech. 22, 465 (1955); the constants are
ours.
"""

import math
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pnnlab.compiling import compiled
from pnnlab.systems import multiplex
from pnnlab.systems.analog import Volts
from pnnlab.systems.units import Adjoint, Array, with_adjoint

MODES = 40
TAIL = 64  # samples of silence at the end of a shot, in which the plate rings on
FLOOR = 1e-4  # mean square, of full scale, from which on the logarithm is one: 40 dB are shown
SAMPLE_S = 20e-6  # s
SHOT_S = 18e-3  # s, the pace at which drift counts shots
DRIVE_V, FULL_SCALE_V = 1.0, 1.0  # V, units of the drive and of the microphone
SUBSTEPS = 2  # of the integrator, a sample
LANES = 32  # shots of a block, whose state stays in the fastest cache

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class PlateConstants:
    """Constants of the plate's equations; rates are per sample of 20 µs."""

    w_x: float = 0.0125  # rad: modal frequencies are w_x j² + w_y k²
    w_y: float = 0.1075
    loss: float = 0.006  # decay rates are loss + loss_slope times the frequency
    loss_slope: float = 0.012
    alpha: float = 0.02  # tension by strain, and where it ends
    tau: float = 1.0
    gain: float = 0.5  # of the drive
    sensitivity: float = 0.06  # of the microphone, full scale for a unit of velocity
    x_drive: float = 0.37  # where the plate is driven and heard, of its sides
    y_drive: float = 0.42
    x_heard: float = 0.29
    y_heard: float = 0.61


@dataclass(frozen=True)
class Modes:
    """The modes of one plate, what its equations are solved with; arrays are (modes,)."""

    frequency: Vector  # rad a sample
    loss: Vector  # nepers a sample
    driven: Vector  # coupling b to the drive
    heard: Vector  # coupling c to the microphone
    alpha: float
    tau: float


@dataclass(frozen=True)
class PlateImperfections:
    """What no twin models; what is marked customary is of the usual size, from no page."""

    # Speaker. Customary of small full-range drivers: a resonance of 200 Hz with Q = 0.8.
    # W. Klippel, J. Audio Eng. Soc. 54, 907 (2006): at the excursion that counts as the largest,
    # the force factor has fallen to 82 %; a steady drive of 1 is taken to reach half of that.
    resonance: float = 2 * math.pi * 200 * SAMPLE_S  # rad a sample; 0 for an ideal speaker
    quality: float = 0.8
    sag: float = 0.18 * 0.5**2
    # Microphone: InvenSense INMP441 data sheet DS-INMP441-00, table 1: 3 dB down at 15 kHz, taken
    # as one pole. Its equivalent noise is 33 dBA SPL; a laboratory's fans are louder, customary
    # 50 dB SPL, where full scale is 100 dB SPL.
    microphone_time: float = 1 / (2 * math.pi * 15e3 * SAMPLE_S)  # samples
    noise: float = math.hypot(10 ** (-50 / 20), 10 ** (-67 / 20))  # of full scale, rms, a sample
    # Customary: an audio interface of 16 bits either way.
    codes: int = 2**16
    # Customary, the room: 1 K rms, drifting over 5e4 shots (a quarter of an hour). Titanium's
    # modulus falls by 500 ppm/K, so frequencies by 250; losses rise by 1 %/K; copper's resistance,
    # and with it the voice coil's current, changes by 0.39 %/K.
    temperature: float = 1.0  # K, rms
    temperature_time: float = 5e4  # shots


def solve_modes(constants: PlateConstants) -> Modes:
    """Modes of a strip with these constants: those that are the 40 lowest of the nominal plate."""
    c, nominal = constants, PlateConstants()
    # Half waves along both sides.
    j, k = (grid.ravel() for grid in np.meshgrid(np.arange(1.0, 20.0), np.arange(1.0, 8.0)))
    lowest = np.argsort(nominal.w_x * j**2 + nominal.w_y * k**2, kind="stable")[:MODES]
    j, k = j[lowest], k[lowest]
    frequency = c.w_x * j**2 + c.w_y * k**2
    drive = np.sin(np.pi * j * c.x_drive) * np.sin(np.pi * k * c.y_drive)
    heard = np.sin(np.pi * j * c.x_heard) * np.sin(np.pi * k * c.y_heard)
    return Modes(
        frequency=frequency,
        loss=c.loss + c.loss_slope * frequency,
        driven=c.gain * drive,
        heard=c.sensitivity * heard,
        alpha=c.alpha,
        tau=c.tau,
    )


IDEAL = PlateImperfections(resonance=0.0, microphone_time=0.0, codes=0)


def fabricate(unit: int, tolerance: float) -> Modes:
    """Draw the modes of one built copy, whose number is the seed.

    The tolerance, a fraction either way with equal chance, is that of the sheet's thickness, which
    all frequencies share; both sides are cut ten times better. The rest is customary, and scales
    with it: frequencies scatter by a fifth (uneven thickness, mass of the mount), losses by four
    times (a mount's are hardly known), couplings by twice of the largest (nodal lines that lie
    elsewhere), the tension by twice and the speaker's gain by once.
    """
    random = np.random.default_rng((unit, 11))
    thickness, length, width, tension, gain = tolerance * random.uniform(-1, 1, 5)
    each = tolerance * random.uniform(-1, 1, (4, MODES))
    nominal = PlateConstants()
    built = solve_modes(
        replace(
            nominal,
            w_x=nominal.w_x * (1 + thickness) / (1 + length / 10) ** 2,
            w_y=nominal.w_y * (1 + thickness) / (1 + width / 10) ** 2,
            alpha=nominal.alpha * (1 + 2 * tension),
            gain=nominal.gain * (1 + gain),
        )
    )
    return replace(
        built,
        frequency=built.frequency * (1 + each[0] / 5),
        loss=built.loss * (1 + 4 * each[1]),
        driven=built.driven + 2 * each[2] * nominal.gain,
        heard=built.heard + 2 * each[3] * nominal.sensitivity,
    )


@final
class Plate(multiplex.ReplayingSystem):
    """The simulated mechanical PNN layer: replays its input through one plate.

    Parameters
    ----------
    output_dim : int
        Windows, as equal as can be, whose log energies are read out. A tail of 64 silent samples
        follows the replays.
    tolerance : float
        Of the sheet's thickness, 0.05 for 5 %.
    unit, input_dim, replays, noise, drift, imperfections, seed
        As of `pnnlab.systems.Circuit`; the noise is the microphone's.
    """

    _what, _sample_s = "a plate", SAMPLE_S
    _cost_source = "the plate as pnnlab simulates it: 50 kS/s"
    _tail, _unequal = TAIL, True
    _tolerable = 0.2
    _outputs = "windows: choose at least one replay, and no more windows than samples"

    def __init__(
        self,
        unit: int = 0,
        *,
        input_dim: int = 196,
        replays: int = 1,
        output_dim: int = 10,
        tolerance: float = 0.05,
        noise: bool = True,
        drift: bool = True,
        imperfections: PlateImperfections | None = None,
        seed: int = 0,
    ) -> None:
        self._imperfections = parts = imperfections or PlateImperfections()
        super().__init__(unit, tolerance, noise, drift, seed, parts)
        self._built = fabricate(self.unit, self.tolerance)
        self._shape(input_dim, replays, output_dim)

    def _sound(self, u: Tensor, shots: float, parts: PlateImperfections) -> tuple[Tensor, Array]:
        """Let the time of some shots pass; return the pressure after ``u``, and the noise."""
        built, warmth = self._built, self._drift.pass_shots(shots)
        modes = replace(
            built,
            frequency=built.frequency * (1 - 250e-6 * warmth),
            loss=built.loss * (1 + 0.01 * warmth),
            driven=built.driven * (1 - 0.0039 * warmth),
        )
        pressure = vibrate(through_speaker(u, parts), modes)
        return pressure, parts.noise * self._noise.rows(u.shape[1], len(u), u.dtype)

    def _simulate(self, x: Tensor, theta: Tensor) -> Tensor:
        parts = self._imperfections
        pressure, noise = self._sound(waveform(x, theta, self.replays), len(x), parts)
        return log_energy(pressure, self.output_dim, parts, noise=noise)

    def _respond(self, volts: Volts) -> Volts:
        # With speaker and microphone; the converters are those of the instruments.
        u = torch.from_numpy(np.asarray(volts, np.float64) / DRIVE_V).unsqueeze(1)
        parts = replace(self._imperfections, codes=0)
        pressure, noise = self._sound(u, len(volts) * SAMPLE_S / SHOT_S, parts)
        return _hear(pressure.numpy(), noise, parts)[:, 0] * FULL_SCALE_V


def waveform(x: Tensor, theta: Tensor, replays: int) -> Tensor:
    """Drive of `multiplex.drive` with the silent tail, (replays * input_dim + 64, batch)."""
    return functional.pad(multiplex.drive(x, theta, replays), (0, 0, 0, TAIL))


def through_speaker(u: Tensor, parts: PlateImperfections) -> Tensor:
    r"""Force that a speaker makes of a voltage, both (samples, batch).

    The coil's excursion x obeys :math:`x'' + (w/Q) x' + w^2 x = w^2 u (1 - s x^2)`, with resonance
    w, quality Q and sag s, and the plate feels its acceleration over w², held over a sample.
    """
    resonance, quality = parts.resonance, parts.quality

    def solve(given: Array, _: bool) -> tuple[Array, Adjoint]:
        drive = multiplex.quantised(given, parts.codes)
        if resonance == 0:
            return drive.copy(), lambda grad, by: np.copyto(by, grad)
        w = np.array([resonance])
        qq, qv, vq, vv = (float(a[0]) for a in _propagator(w, w / (2 * quality), 1.0))
        # The rate is counted per radian of the resonance, the force in excursion at rest.
        scaled = [qq, qv * resonance, 1 - qq, vq / resonance, vv, -vq / resonance, 1 / quality]
        table, weakening = np.array(scaled, drive.dtype), drive.dtype.type(parts.sag)
        force = np.empty_like(drive)
        path = np.empty((len(drive) + 1, 2, drive.shape[1]), drive.dtype)
        _speaker(drive, table, weakening, force, path)
        return force, partial(_speaker_adjoint, drive, table, weakening, path)

    return with_adjoint(u, solve)


def vibrate(force: Tensor, modes: Modes, *, substeps: int = SUBSTEPS) -> Tensor:
    """Sound pressure at the end of each sample of a force, both (samples, batch)."""

    def solve(given: Array, keep: bool) -> tuple[Array, Adjoint]:
        samples, batch = given.shape
        table = _table(modes, 1 / substeps, given.dtype)
        stretch = np.array([modes.alpha, modes.tau**-2], given.dtype)
        silent = (0, 0), (0, -batch % LANES)  # shots that fill the last block
        forces = np.pad(given, silent)
        wave = np.empty_like(forces)
        rows = (forces.shape[1] // LANES, samples * substeps + 1) if keep else (1, 2)
        path = np.empty((*rows, len(table), LANES), given.dtype)
        sums = np.empty((*rows, 3, LANES), given.dtype)
        _vibrate(forces, table, stretch, substeps, wave, path, sums)

        def adjoint(grad_wave: Array, grad_force: Array) -> None:
            padded, grads = np.empty_like(forces), np.pad(grad_wave, silent)
            _vibrate_adjoint(table, substeps, path, sums, grads, padded)
            grad_force[:] = padded[:, :batch]

        return wave[:, :batch], adjoint

    return with_adjoint(force, solve)


def log_energy(
    wave: Tensor,
    windows: int,
    parts: PlateImperfections = IDEAL,
    *,
    noise: NDArray[Any] | None = None,
) -> Tensor:
    """Energies in windows on a scale of 40 dB, (batch, windows): ln(1 + E/floor) / ln(1 + 1/floor).

    The pressure ``wave`` is (samples, batch), and the ``noise`` (batch, samples).
    """
    edges = np.arange(windows + 1) * len(wave) // windows  # as equal as can be
    lengths = np.diff(edges)

    def solve(pressure: Array, _: bool) -> tuple[Array, Adjoint]:
        heard = _hear(pressure, noise, parts)
        sums = [np.square(heard[a:b]).sum(0) for a, b in pairwise(edges)]
        energy = np.stack(sums, axis=1) / lengths

        def adjoint(grad: Array, by: Array) -> None:
            # Of the converter as an ideal one.
            by_heard = heard * np.repeat((2 * grad / lengths).T, lengths, axis=0)
            by[:] = _behind_pole(by_heard[::-1], parts)[::-1]

        return energy.astype(pressure.dtype, order="C"), adjoint

    return torch.log1p(with_adjoint(wave, solve) / FLOOR) / math.log1p(1 / FLOOR)


def _hear(pressure: Array, noise: Array | None, parts: PlateImperfections) -> Array:
    """Signal of the microphone, (samples, batch), in double precision."""
    level = _behind_pole(pressure, parts)
    if noise is not None:
        level += noise.T
    if not parts.codes:
        return level
    step = 2 / parts.codes
    return np.clip(step * np.floor(level / step + 0.5), -1, 1 - step)


def _behind_pole(pressure: Array, parts: PlateImperfections) -> Array:
    from scipy.signal import lfilter  # slow to load

    keep = math.exp(-1 / parts.microphone_time) if parts.microphone_time > 0 else 0.0
    passed: Array = lfilter([1 - keep], [1, -keep], pressure.astype(np.float64), axis=0)
    return passed


def _propagator(
    frequency: Vector, loss: Vector, step: float
) -> tuple[Vector, Vector, Vector, Vector]:
    """Exact map of displacement and velocity over a step without a force: qq, qv, vq, vv."""
    ringing = np.sqrt((frequency**2 - loss**2).astype(np.complex128))  # imaginary if it creeps
    decay = np.exp(-loss * step)
    cosine = (decay * np.cos(ringing * step)).real
    sine = (decay * np.sin(ringing * step) / ringing).real
    return cosine + loss * sine, sine, -(frequency**2) * sine, cosine - loss * sine


def _table(modes: Modes, step: float, kind: Any) -> NDArray[Any]:
    """Columns in the order that `_vibrate` takes."""
    stiffness = modes.frequency**2
    qq, qv, vq, vv = _propagator(modes.frequency, modes.loss, step)
    rest = modes.driven / stiffness  # where a constant unit force would hold it
    columns = [qq, qv, (1 - qq) * rest, vq, vv, -vq * rest, step * stiffness, stiffness]
    return np.stack([*columns, modes.heard], axis=1).astype(kind)


@compiled(fastmath={"contract"})
def _vibrate(
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
def _vibrate_adjoint(
    table: Array, substeps: int, path: Array, sums: Array, grad_wave: Array, grad_u: Array
) -> None:
    """Pull a gradient of the read-out back to the force, exactly; see `_vibrate`."""
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
def _speaker(u: Array, table: Array, sag: float, force: Array, path: Array) -> None:
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
def _speaker_adjoint(
    u: Array, table: Array, sag: float, path: Array, grad_force: Array, grad_u: Array
) -> None:
    """Pull a gradient of the force back to the voltage, see `_speaker`."""
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
