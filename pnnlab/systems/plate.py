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

Source: the mechanical PNN of Wright, Onodera et al., Nature 601, 549 (2022), a titanium plate on
a loudspeaker with a microphone; H. M. Berger, J. Appl. Mech. 22, 465 (1955); the constants are
ours.
"""

import copy
import math
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pnnlab.errors import RangeError, ShapeError
from pnnlab.physical_system import Cost, Group, sampled_cost
from pnnlab.plain import real, whole
from pnnlab.systems import multiplex
from pnnlab.systems import plate_kernels as kernels
from pnnlab.systems.adjoint import Adjoint, Array, with_adjoint
from pnnlab.systems.analog import AnalogPorts, Volts
from pnnlab.systems.units import BuiltSystem, Drift, RandomStream

MODES = 40
TAIL = 64  # samples of silence at the end of a shot, in which the plate rings on
FLOOR = 1e-4  # mean square, of full scale, from which on the logarithm is one: 40 dB are shown
SAMPLE_S = 20e-6  # s
SHOT_S = 18e-3  # s, the pace at which drift counts shots
DRIVE_V, FULL_SCALE_V = 1.0, 1.0  # V, units of the drive and of the microphone
SUBSTEPS = 2  # of the integrator, a sample

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class PlateConstants:
    """Constants of the plate's equations; rates are per sample of 20 µs.

    Attributes
    ----------
    w_x, w_y : float
        Modal frequencies are ``w_x`` j² + ``w_y`` k², rad.
    loss, loss_slope : float
        Decay rates are ``loss`` + ``loss_slope`` times the frequency.
    alpha, tau : float
        Tension by strain, and where it ends.
    gain : float
        Of the drive.
    sensitivity : float
        Of the microphone, full scale for a unit of velocity.
    x_drive, y_drive, x_heard, y_heard : float
        Where the plate is driven and heard, of its sides.
    """

    w_x: float = 0.0125
    w_y: float = 0.1075
    loss: float = 0.006
    loss_slope: float = 0.012
    alpha: float = 0.02
    tau: float = 1.0
    gain: float = 0.5
    sensitivity: float = 0.06
    x_drive: float = 0.37
    y_drive: float = 0.42
    x_heard: float = 0.29
    y_heard: float = 0.61


@dataclass(frozen=True)
class Modes:
    """The modes of one plate: what its equations are solved with.

    Attributes
    ----------
    frequency, loss : array, (modes,)
        Rad and nepers a sample.
    driven, heard : array, (modes,)
        Couplings b to the drive and c to the microphone.
    alpha, tau : float
    """

    frequency: Vector
    loss: Vector
    driven: Vector
    heard: Vector
    alpha: float
    tau: float


@dataclass(frozen=True)
class PlateImperfections:
    """What a plate on a bench adds to its equations; no physics twin has any of it.

    What is marked customary is of the usual size, from no particular page. A sample is 20 µs.
    """

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


def fabricate(unit: int, tolerance: float) -> Modes:
    """Modes of one built copy.

    The tolerance is that of the sheet's thickness, which all frequencies share; both sides are cut
    ten times better. The rest is customary, and scales with it: frequencies scatter by a fifth
    of it (uneven thickness, mass of the mount), losses by four times (a mount's losses are hardly
    known), couplings by twice of the largest (nodal lines that lie elsewhere), the tension by
    twice and the speaker's gain by once.

    Parameters
    ----------
    unit : int, >= 0
        Serial number; it is the seed.
    tolerance : float
        Half width of every band, relative.

    Raises
    ------
    RangeError
        No such unit or tolerance.
    """
    if unit < 0 or not 0 <= tolerance < 0.2:
        raise RangeError(
            f"unit is {unit} and tolerance {tolerance}: a unit is numbered from 0, and the "
            "tolerance of a plate is a fraction below 0.2, such as 0.05."
        )
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


class Plate(BuiltSystem):
    """The simulated mechanical PNN layer: replays its input through one plate.

    Parameters
    ----------
    unit : int
        Which fabricated copy.
    input_dim : int
        Elements of the input, one sample each.
    replays : int
        How often a shot replays the input, each time with its own scale and offset; a tail of
        64 silent samples follows.
    output_dim : int
        Windows, as equal as can be, whose log energies are read out.
    tolerance : float
        Of the sheet's thickness, 0.05 for 5 %.
    noise, drift : bool
        Whether the microphone's noise, and the room's temperature, are there.
    imperfections : PlateImperfections
        Physics that no twin models.
    seed : int
        Of noise and drift.

    Raises
    ------
    ShapeError
        There are fewer samples than windows.
    RangeError
        No such unit or tolerance.
    """

    _what, _drift_name = "a plate", "warmth"
    _drift: Drift

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
        self.unit = unit = whole("unit", unit)
        self.tolerance = tolerance = real("tolerance", tolerance)
        self._owner = {"unit": unit, "tolerance": tolerance}
        self._built = fabricate(unit, tolerance)
        self._imperfections = parts = imperfections or PlateImperfections()
        self._noise = RandomStream(unit, seed, 0, on=noise)
        size, time = parts.temperature, parts.temperature_time
        self._drift = Drift(unit, seed, 1, size=size, time=time, on=drift)
        self._shape(input_dim, replays, output_dim)

    def _shape(self, input_dim: int, replays: int, output_dim: int) -> None:
        input_dim, output_dim = whole("input_dim", input_dim), whole("output_dim", output_dim)
        self.replays = replays = whole("replays", replays)
        samples = replays * input_dim + TAIL
        if replays < 1 or not 1 <= output_dim <= samples:
            raise ShapeError(
                f"{replays} replays of {input_dim} samples and a tail of {TAIL} cannot be read out "
                f"in {output_dim} windows: choose from 1 to {samples} windows and at least one "
                "replay."
            )
        super().__init__(input_dim, multiplex.param_dim(input_dim, replays), output_dim)

    def reprogrammed(
        self, *, replays: int, output_dim: int, input_dim: int | None = None
    ) -> "Plate":
        """Programme the same bench otherwise: plate, temperature and noise are shared."""
        other = copy.copy(self)
        inputs = self.input_dim if input_dim is None else input_dim
        other._shape(inputs, replays, output_dim)
        return other

    def cost(self) -> Cost:
        """Cost of a shot at the sample rate of the simulation."""
        samples = self.replays * self.input_dim + TAIL
        return sampled_cost(samples, SAMPLE_S, "the plate as pnnlab simulates it: 50 kS/s")

    def theta_groups(self) -> tuple[Group, ...]:
        """Scales and offsets of the replays."""
        return multiplex.theta_groups(self.input_dim, self.replays)

    def analog_ports(self) -> AnalogPorts:
        """Give the same plate as it is between two cables; its temperature is shared."""
        return _PlatePorts(self)

    def _sound(self, u: Tensor, shots: float, codes: int = 0) -> Tensor:
        """Let the time of some shots pass, and return the sound pressure that ``u`` makes."""
        parts, built, warmth = self._imperfections, self._built, self._drift.pass_shots(shots)
        force = through_speaker(
            u, resonance=parts.resonance, quality=parts.quality, sag=parts.sag, codes=codes
        )
        modes = replace(
            built,
            frequency=built.frequency * (1 - 250e-6 * warmth),
            loss=built.loss * (1 + 0.01 * warmth),
            driven=built.driven * (1 - 0.0039 * warmth),
        )
        return vibrate(force, modes)

    def _hiss(self, shots: int, samples: int, dtype: torch.dtype) -> Array:
        """Noise of the microphone and the room, (shots, samples)."""
        hiss = self._noise.rows(shots, samples, dtype)
        hiss *= self._imperfections.noise
        return hiss

    def _simulate(self, x: Tensor, theta: Tensor) -> Tensor:
        parts, u = self._imperfections, waveform(x, theta, self.replays)
        return log_energy(
            self._sound(u, len(x), parts.codes),
            self.output_dim,
            noise=self._hiss(len(x), len(u), x.dtype),
            microphone_time=parts.microphone_time,
            codes=parts.codes,
        )


@final
class _PlatePorts(AnalogPorts):
    """A plate with its speaker and microphone; the converters are those of the instruments."""

    sample_s = SAMPLE_S

    def __init__(self, plate: Plate) -> None:
        self._plate = plate

    def respond(self, volts: Volts) -> Volts:
        plate, samples = self._plate, len(volts)
        u = torch.from_numpy(np.asarray(volts, np.float64) / DRIVE_V)
        pressure = plate._sound(u.unsqueeze(1), samples * SAMPLE_S / SHOT_S).numpy()
        hiss = plate._hiss(1, samples, u.dtype)
        keep = _kept(plate._imperfections.microphone_time)
        heard, energy = np.empty_like(pressure), np.empty((1, 1))
        kernels.listen(pressure, hiss, keep, 0, window_edges(samples, 1), heard, energy)
        return heard[:, 0] * FULL_SCALE_V


def waveform(x: Tensor, theta: Tensor, replays: int) -> Tensor:
    """Drive of `multiplex.drive` with the silent tail, (replays * input_dim + 64, batch)."""
    return functional.pad(multiplex.drive(x, theta, replays), (0, 0, 0, TAIL))


def through_speaker(
    u: Tensor, *, resonance: float, quality: float, sag: float, codes: int = 0
) -> Tensor:
    r"""Force that a speaker makes of a voltage: a resonance below the band, and a weaker magnet.

    The coil's excursion x obeys :math:`x'' + (w/Q) x' + w^2 x = w^2 u (1 - s x^2)`, and the plate
    feels its acceleration over w². The force is held constant over a sample.

    Parameters
    ----------
    u : Tensor, (samples, batch), float32 or float64
        Voltage, in [-2, 2].
    resonance, quality, sag : float
        w, Q and s; a resonance of 0 is an ideal speaker.
    codes : int
        Of the converter in front; 0 for none. Its rounding passes gradients on.

    Returns
    -------
    Tensor, (samples, batch)
    """

    def solve(given: Array, _: bool) -> tuple[Array, Adjoint]:
        drive = multiplex.quantised(given, codes)
        if resonance == 0:
            return drive.copy(), np.copy
        w = np.array([resonance])
        qq, qv, vq, vv = (float(a[0]) for a in _propagator(w, w / (2 * quality), 1.0))
        # The rate is counted per radian of the resonance, the force in excursion at rest.
        scaled = [qq, qv * resonance, 1 - qq, vq / resonance, vv, -vq / resonance, 1 / quality]
        table, weakening = np.array(scaled, drive.dtype), drive.dtype.type(sag)
        force = np.empty_like(drive)
        path = np.empty((len(drive) + 1, 2, drive.shape[1]), drive.dtype)
        kernels.push(drive, table, weakening, force, path)

        def adjoint(grad_force: Array) -> Array:
            grad_u = np.empty_like(drive)
            kernels.push_adjoint(drive, table, weakening, path, grad_force, grad_u)
            return grad_u

        return force, adjoint

    return with_adjoint(u, solve)


def vibrate(force: Tensor, modes: Modes, *, substeps: int = SUBSTEPS) -> Tensor:
    """Sound pressure over a plate that a force drives; differentiable in the force.

    Parameters
    ----------
    force : Tensor, (samples, batch), float32 or float64
        Time first.
    modes : Modes
    substeps : int
        Steps of the integrator a sample; without tension one is exact.

    Returns
    -------
    Tensor, (samples, batch)
        Sound pressure at the end of each sample, of full scale.
    """

    def solve(given: Array, keep: bool) -> tuple[Array, Adjoint]:
        samples, batch = given.shape
        blocks, lanes = -(-batch // kernels.LANES), kernels.LANES
        table = _table(modes, 1 / substeps, given.dtype)
        stretch = np.array([modes.alpha, modes.tau**-2], given.dtype)

        def in_blocks(array: Array) -> Array:
            padded = np.zeros((samples, blocks * lanes), array.dtype)
            padded[:, :batch] = array
            return padded

        wave = np.empty((samples, blocks * lanes), given.dtype)
        rows = (blocks, samples * substeps + 1) if keep else (1, 2)
        path = np.empty((*rows, len(table), lanes), given.dtype)
        sums = np.empty((*rows, 3, lanes), given.dtype)
        kernels.vibrate(in_blocks(given), table, stretch, substeps, wave, path, sums)

        def adjoint(grad_wave: Array) -> Array:
            grad_force = np.empty_like(wave)
            kernels.vibrate_adjoint(table, substeps, path, sums, in_blocks(grad_wave), grad_force)
            return grad_force[:, :batch]

        # Contiguous whatever the batch: the microphone is compiled for that.
        return np.ascontiguousarray(wave[:, :batch]), adjoint

    return with_adjoint(force, solve)


def log_energy(
    wave: Tensor,
    windows: int,
    *,
    noise: NDArray[Any] | None = None,
    microphone_time: float = 0.0,
    codes: int = 0,
) -> Tensor:
    """Read-out: energies in windows on a scale of 40 dB, ln(1 + E / floor) / ln(1 + 1 / floor).

    With the keyword arguments left alone the microphone and its converter are ideal.

    Parameters
    ----------
    wave : Tensor, (samples, batch)
        Pressure, of full scale.
    windows : int
    noise : array, (batch, samples)
        Added to the pressure.
    microphone_time : float
        Time constant, samples.
    codes : int
        Of a converter from -1 to 1; 0 for none. Its rounding passes gradients on.

    Returns
    -------
    Tensor, (batch, windows)
        From 0, in silence, to 1 at full scale.
    """
    keep, edges = _kept(microphone_time), window_edges(len(wave), windows)

    def solve(pressure: Array, _: bool) -> tuple[Array, Adjoint]:
        rows = np.zeros((0, 0), pressure.dtype) if noise is None else noise
        heard = np.empty_like(pressure)
        energy = np.empty((pressure.shape[1], windows), pressure.dtype)
        kernels.listen(pressure, rows, keep, codes, edges, heard, energy)

        def adjoint(grad_energy: Array) -> Array:
            grad_wave = np.empty_like(heard)
            kernels.listen_adjoint(heard, keep, edges, grad_energy, grad_wave)
            return grad_wave

        return energy, adjoint

    return torch.log1p(with_adjoint(wave, solve) / FLOOR) / math.log1p(1 / FLOOR)


def _kept(time_constant: float) -> float:
    """What is left of a step one sample later, behind a pole with a time constant in samples."""
    return math.exp(-1 / time_constant) if time_constant > 0 else 0.0


def window_edges(samples: int, windows: int) -> NDArray[np.int64]:
    """Where windows begin and end that share the samples as equally as can be, (windows + 1,)."""
    return np.arange(windows + 1) * samples // windows


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
    """Columns in the order of `plate_kernels`."""
    stiffness = modes.frequency**2
    qq, qv, vq, vv = _propagator(modes.frequency, modes.loss, step)
    rest = modes.driven / stiffness  # where a constant unit force would hold it
    columns = [qq, qv, (1 - qq) * rest, vq, vv, -vq * rest, step * stiffness, stiffness]
    return np.ascontiguousarray(np.stack([*columns, modes.heard], axis=1).astype(kind))
