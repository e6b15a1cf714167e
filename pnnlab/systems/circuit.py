r"""A driven resistor-coil-capacitor loop with a transistor across the capacitor.

.. math::
   i' = w_l (u - r i - v), \qquad v' = w_c (i - g q^2), \qquad y = \frac{a q^2}{1 + a q^2},

with :math:`q = \tfrac12 (z + \sqrt{z^2 + s^2})`, :math:`z = v - v_t`: a square-law transistor
with a rounded knee, mirrored into a load whose voltage saturates at the supply. Time is counted in
samples of 1 µs, voltage in units of 5 V, current in units of 5 V / 700 Ω.

What is idealised: the knee of a bare MOSFET is sharper than s = 0.2 (1 V); every circuit element
is a lumped one; the loop is at rest before each shot.

The integrator is compiled, as is its adjoint. A built circuit adds to its equations

.. math::
   v' = w_c \frac{i - g q^2}{1 + c\, q / \rho}, \qquad \rho = \sqrt{z^2 + s^2}, \qquad
   z = v - v_t + \kappa h

with the channel's temperature :math:`h`, which follows the dissipated power :math:`g q^2 v` from
sample to sample, and a drive that approaches each programmed value exponentially. Arrays are
time-major, (samples, batch): a lane of a vector register is a shot.

Source: the electronic PNN of Wright, Onodera et al., Nature 601, 549 (2022), a driven nonlinear
RLC oscillator with a transistor, sampled at about 1 MS/s; the constants are ours.
"""

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, final

import numpy as np
import torch
from numba import njit
from torch import Tensor

from pnnlab.compiling import compiled
from pnnlab.systems import multiplex
from pnnlab.systems.analog import Volts
from pnnlab.systems.units import Adjoint, Array, with_adjoint

FULL_SCALE_V = 5.0  # V, unit of voltage
SAMPLE_S = 1e-6  # s
SHOT_S = 1e-3  # s, the pace at which drift counts shots
IMPEDANCE_OHM = 700.0  # Ω, sqrt(L/C) of the nominal loop
SCREEN = (-0.05, 1.05)  # what the oscilloscope's converter spans
SUBSTEPS = 2  # Runge-Kutta steps a sample: 5e-4 of the converged read-out


@dataclass(frozen=True)
class CircuitConstants:
    """Constants of the circuit's equations, dimensionless.

    The nominal ones are those of L = 1 mH, C = 2.04 nF, a loop resistance of 245 Ω and a
    transistor with a threshold of 1.5 V and 0.23 mA/V², at 1 MS/s.
    """

    w_l: float = 0.7
    w_c: float = 0.7
    r: float = 0.35
    v_t: float = 0.3
    g: float = 0.8
    a: float = 1.5
    s: float = 0.2


@dataclass(frozen=True)
class CircuitImperfections:
    """What no twin models. A sample is 1 µs.

    What is marked customary is of the usual size, from no particular page; together it weighs far
    less than the generator's filter.
    """

    # Generator: Keysight 33500 Series help, "Waveform filters": the normal filter is 3 dB down at
    # 27 % of the sample rate; taken as one pole. 16-bit converter.
    drive_time_constant: float = 1 / (2 * math.pi * 0.27)  # samples
    drive_codes: int = 2**16
    # Customary: 11 pF of a 10:1 probe and some 14 pF of coil and board, on 2.04 nF.
    stray_capacitance: float = 0.012  # of C
    # Customary: 10 pF of gate and drain of a CMOS array appear as the channel forms.
    channel_capacitance: float = 0.005  # of C
    # Customary: of some 80 K/W of a plastic DIP-14 (Texas Instruments gives 90 for the CD4077B's)
    # a tenth acts within a shot; -2 mV/K of threshold.
    heating: float = FULL_SCALE_V / IMPEDANCE_OHM * 8.0 * 2e-3  # units of voltage a unit of power
    heating_time: float = 200.0  # samples
    # Oscilloscope: 8 bits; random noise 6 % of a division of ten (Tektronix MSO3000 user manual,
    # "Warranted specifications", 100 MHz models); at 50 MS/s its clock misses the generator's by
    # up to half a sample of 20 ns.
    noise: float = 0.006  # of full scale, rms, each sample
    codes: int = 2**8
    jitter: float = 0.01  # samples, at most, either way
    # Customary, the room: 1 K rms, drifting over 10^6 shots (a quarter of an hour at 1 kHz).
    # A Kelvin moves the threshold by -2 mV, mobility by -0.5 %, a ferrite coil by 500 ppm, a film
    # capacitor by 400 ppm and a vertical gain specified to 2 % over 10 K by 0.2 %.
    temperature: float = 1.0  # K, rms
    temperature_time: float = 1e6  # shots


IDEAL = CircuitImperfections(
    drive_time_constant=0.0, drive_codes=0, channel_capacitance=0.0, heating=0.0
)


def fabricate(unit: int, tolerance: float) -> CircuitConstants:
    """Draw the constants of one built copy, whose number is the seed.

    Each part lies anywhere in its tolerance band, a fraction either way, with equal chance, the
    customary worst case when parts are sorted into classes (IEC 60062: J is 5 %, K is 10 %).
    """
    parts = 1 + tolerance * np.random.default_rng((unit, 7)).uniform(-1, 1, 6)
    coil, capacitor, resistor, threshold, transistor, load = parts.tolist()
    nominal = CircuitConstants()
    return replace(
        nominal,
        w_l=nominal.w_l / coil,
        w_c=nominal.w_c / capacitor,
        r=nominal.r * resistor,
        v_t=nominal.v_t * threshold,
        g=nominal.g * transistor,
        a=nominal.a * transistor * load,
    )


@final
class Circuit(multiplex.ReplayingSystem):
    """The simulated electronic PNN layer: replays its input through one fabricated circuit.

    Parameters
    ----------
    unit : int
        Which fabricated copy.
    input_dim, replays : int
        Elements of the input, one sample each, and how often a shot replays them, each time with
        scales and offsets of its own.
    output_dim : int
        Segment means that are read out; divides ``replays * input_dim``.
    tolerance : float
        Of the parts, 0.1 for 10 %.
    noise, drift : bool
        Whether read-out noise and jitter, and the room's temperature, are there.
    imperfections : CircuitImperfections
        Physics that no twin models.
    seed : int
        Of noise and drift.
    """

    _what, _sample_s = "a circuit", SAMPLE_S
    _cost_source = "Wright et al., Nature 601, 549 (2022): about 1 MS/s"
    _tolerable = 1.0
    _outputs = "equal segments: choose an output_dim that divides their product"

    def __init__(
        self,
        unit: int = 0,
        *,
        input_dim: int = 196,
        replays: int = 4,
        output_dim: int = 196,
        tolerance: float = 0.1,
        noise: bool = True,
        drift: bool = True,
        imperfections: CircuitImperfections | None = None,
        seed: int = 0,
    ) -> None:
        self._imperfections = parts = imperfections or CircuitImperfections()
        super().__init__(unit, tolerance, noise, drift, seed, parts)
        self._built = fabricate(self.unit, self.tolerance)
        self._shape(input_dim, replays, output_dim)

    def _play(self, u: Tensor, shots: float, parts: CircuitImperfections) -> tuple[Tensor, float]:
        """Let the time of some shots pass; return the waveform after ``u``, and the gain."""
        built, warmth = self._built, self._drift.pass_shots(shots)
        constants = replace(
            built,
            w_l=built.w_l / (1 + 500e-6 * warmth),
            w_c=built.w_c / (1 + 400e-6 * warmth) / (1 + parts.stray_capacitance),
            v_t=built.v_t - 2e-3 / FULL_SCALE_V * warmth,
            g=built.g * (1 - 0.005 * warmth),
            a=built.a * (1 - 0.005 * warmth),
        )
        return oscillate(u, constants, parts), 1 + 0.002 * warmth

    def _simulate(self, x: Tensor, theta: Tensor) -> Tensor:
        parts, outputs = self._imperfections, self.output_dim
        wave, gain = self._play(multiplex.drive(x, theta, self.replays), len(x), parts)
        length = len(wave) // outputs
        noise = self._noise.rows(len(x), len(wave) + 1, x.dtype)  # and the trigger
        delay = parts.jitter * np.tanh(noise[:, -1])
        noise *= parts.noise

        def digitise(given: Array, _: bool) -> tuple[Array, Adjoint]:
            y = np.empty((len(x), outputs), given.dtype)
            _acquire(given, noise, delay, gain, parts.codes, SCREEN, y)
            # The gradient takes the converter and the trigger as ideal.
            return y, lambda grad, by: np.copyto(by, np.repeat(grad.T * (gain / length), length, 0))

        return with_adjoint(wave, digitise)

    def _respond(self, volts: Volts) -> Volts:
        # With the generator's filter; converters and noise are those of the instruments.
        u = torch.from_numpy(np.asarray(volts, np.float64) / FULL_SCALE_V)
        parts = replace(self._imperfections, drive_codes=0)
        wave, gain = self._play(u.unsqueeze(1), len(volts) * SAMPLE_S / SHOT_S, parts)
        return wave.squeeze(1).numpy() * (gain * FULL_SCALE_V)


def oscillate(
    u: Tensor,
    constants: CircuitConstants,
    parts: CircuitImperfections = IDEAL,
    *,
    substeps: int = SUBSTEPS,
) -> Tensor:
    """Solve the circuit's equations from rest; differentiable in the drive.

    The drive ``u``, (samples, batch), is in units of 5 V; returns the read-out at the end of each
    sample, in [0, 1). The ``substeps`` are Runge-Kutta's, of fourth order.
    """
    w_l, w_c, r, v_t, g, a, s = vars(constants).values()  # astuple copies, which takes time
    decay = math.exp(-1 / parts.heating_time)
    channel, heating = parts.channel_capacitance, parts.heating
    vector = np.array([w_l, w_c, r, v_t, g, a, s * s, channel, heating, decay])
    settle = np.zeros(2 * substeps + 1)
    if parts.drive_time_constant > 0:
        settle = np.exp(-np.arange(2 * substeps + 1) / (2 * substeps * parts.drive_time_constant))

    def solve(given: Array, keep: bool) -> tuple[Array, Adjoint]:
        drive = multiplex.quantised(given, parts.drive_codes)
        samples, batch = drive.shape
        k, rest = vector.astype(drive.dtype), settle.astype(drive.dtype)
        wave = np.empty_like(drive)
        path = np.empty((samples * substeps + 1 if keep else 1, 2, batch), drive.dtype)
        slow = np.empty((samples + 1 if keep else 1, 2, batch), drive.dtype)
        _integrate(drive, k, rest, wave, path, slow)
        return wave, partial(_integrate_adjoint, drive, k, rest, path, slow)

    return with_adjoint(u, solve)


# Order of the constants that the compiled functions take in one vector, in the arrays' data type.
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
def _integrate(u: Array, k: Array, settle: Array, wave: Array, path: Array, slow: Array) -> None:
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
def _integrate_adjoint(
    u: Array, k: Array, settle: Array, path: Array, slow: Array, grad_wave: Array, grad_u: Array
) -> None:
    """Pull a gradient of the read-out back to the drive, exactly; see `_integrate`."""
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
def _acquire(
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
