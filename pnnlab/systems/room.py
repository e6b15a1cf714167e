r"""A loudspeaker and a microphone in a box or a room, which is nearly linear.

.. math::
   p = h * f(u), \qquad f(u) = \frac{u}{1 + s u^2} + k u^2, \qquad y_j = \langle p^2 \rangle_j :

the loudspeaker is a little nonlinear (s, k), the room's response h is a direct sound and dense
reflections that decay exponentially, and read-outs are energies of segments. **That square is where
the nonlinearity of a nearly linear room comes from**; ``linear`` reads the amplitude of the carrier
in each segment instead, to compare with.

Sound has no constant part, so a number is the amplitude of a pulse: a raised cosine over two slots
of `pulse` samples, on a carrier with one period a slot. It fills the band from half to one and a
half times 48 kHz / `pulse`; neighbouring pulses overlap.

What is idealised: reflections are white noise under one exponential; the loudspeaker distorts
without memory; someone who walks by is a single reflection.

Source: reflections as decaying noise from J. A. Moorer, Computer Music Journal 3 (2), 13 (1979);
direct sound and reflections have equal energy at the critical distance (H. Kuttruff, Room
Acoustics). The decay is ours, that of a lined box; in furnished rooms of dwellings it takes several
tenths of a second (C. Diaz and A. Pedrero, Building Acoustics 14, 2007).
"""

import math
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pnnlab.errors import RangeError
from pnnlab.plain import make_plain, whole
from pnnlab.systems import multiplex
from pnnlab.systems.analog import Volts

RATE_HZ = 48_000.0
DRIVE = 0.05  # of full scale, unit of the drive: its largest value is 0.1
PULSE = 8  # samples
TAIL = 8  # silent slots at the end of a shot that are still read


@dataclass(frozen=True)
class RoomConstants:
    """Constants of the nominal response."""

    reverberation_s: float = 0.03  # in which reflections decay by 60 dB; there they end
    direct: float = 0.5  # of the response's energy
    low_hz: float = 200.0  # resonance of a small loudspeaker, and its quality; as of the plate's
    quality: float = 0.8
    high_hz: float = 15e3  # microphone: InvenSense INMP441 data sheet, table 1

    def __post_init__(self) -> None:
        make_plain(self)
        if not (0 < self.reverberation_s <= 2 and 0 < self.direct <= 1):
            raise RangeError("reverberation_s lies in (0, 2] s, and direct in (0, 1].")

    @property
    def length(self) -> int:
        return math.ceil(self.reverberation_s * RATE_HZ)


@dataclass(frozen=True)
class RoomImperfections:
    """What no twin models. What is marked customary is of the usual size, from no particular page.

    A drive of 1 is 80 dB SPL at the microphone, customary of a small loudspeaker nearby.
    """

    # W. Klippel, J. Audio Eng. Soc. 54, 907 (2006): at the largest excursion the force factor has
    # fallen to 82 %; a drive of 1 reaches half of that. Customary asymmetry: 1 % second harmonic.
    sag: float = 0.18 * 0.5**2
    skew: float = 0.02
    # Customary 40 dB SPL of a quiet room; the INMP441's own noise, 33 dBA SPL, beneath it.
    noise: float = math.hypot(10 ** (-40 / 20), 10 ** (-47 / 20))  # of a drive of 1, rms, a sample
    # Someone walks about from 0.7 to 3 m away at 1 m/s. Customary: half of the amplitude comes back
    # from clothes; the direct sound comes from 5 cm.
    person: float = 0.5
    # Customary, the room: 1 K rms over 5e4 shots. Sound is 0.17 %/K faster (the root of the
    # temperature), and copper's resistance, so the coil's current, changes by 0.39 %/K.
    temperature: float = 1.0
    temperature_time: float = 5e4


def response(room: RoomConstants, unit: int = -1, tolerance: float = 0.0) -> Volts:
    """Draw the response of a copy of a room, (taps,), with unit energy.

    In amplitude, ``tolerance`` of the reflections is the unit's own, and the rest that of all
    copies: 0 is the nominal room, 1 another room altogether.
    """
    time = np.arange(1, room.length)
    shared, own = (np.random.default_rng((n, 17)).standard_normal(len(time)) for n in (0, unit + 2))
    decay = np.exp(-math.log(1000) * time / (room.reverberation_s * RATE_HZ))
    tail = decay * (math.sqrt(1 - tolerance**2) * shared + tolerance * own)
    tail *= math.sqrt((1 - room.direct) / np.square(tail).sum())
    points = 2 * room.length + 4096
    frequency = np.fft.rfftfreq(points, 1 / RATE_HZ)
    low = frequency / room.low_hz
    band = -(low**2) / (1 - low**2 + 1j * low / room.quality) / (1 + 1j * frequency / room.high_hz)
    taps = np.concatenate([[math.sqrt(room.direct)], tail])
    heard = np.fft.irfft(np.fft.rfft(taps, points) * band, points)[: room.length]
    return heard / np.linalg.norm(heard)


def pulses(u: Tensor, pulse: int) -> Tensor:
    """Sound of a drive ``u``, (numbers, batch): (batch, (numbers + 8) * pulse), differentiable."""
    phase = 2 * math.pi * torch.arange(2 * pulse, dtype=u.dtype) / pulse
    shape = (1 - torch.cos(phase / 2)) / 2 * torch.cos(phase)
    sound = functional.conv_transpose1d(u.T.unsqueeze(1), shape.expand(1, 1, -1), stride=pulse)
    return functional.pad(sound.squeeze(1), (0, (TAIL - 1) * pulse))


def read_out(sound: Tensor, outputs: int, pulse: int, *, linear: bool = False) -> Tensor:
    """Energies, (batch, outputs), of equal segments of a sound, or amplitudes of its carrier."""
    time = torch.arange(sound.shape[1], dtype=sound.dtype)
    value = sound * (2 * torch.cos(2 * math.pi * time / pulse) if linear else sound)
    means: Tensor = functional.adaptive_avg_pool1d(value.unsqueeze(1), outputs)
    return means.squeeze(1)


def distort(u: Tensor, parts: RoomImperfections) -> Tensor:
    """Loudspeaker without its band."""
    return u / (1 + parts.sag * u.square()) + parts.skew * u.square()


def reverberate(sound: Tensor, taps: Volts) -> Tensor:
    """Convolve sounds, (batch, samples), with a response, to the same length."""
    points = sound.shape[1] + len(taps)
    kernel = torch.from_numpy(taps).to(sound.dtype)
    spectrum = torch.fft.rfft(sound, points) * torch.fft.rfft(kernel, points)
    heard: Tensor = torch.fft.irfft(spectrum, points)[:, : sound.shape[1]]
    return heard


def delayed(sound: Tensor, delay: Tensor) -> Tensor:
    """Sounds, (batch, samples), later by as many samples, (batch, samples) or (batch, 1)."""
    at = (torch.arange(sound.shape[1], dtype=sound.dtype) - delay).clamp(min=-1)
    padded = functional.pad(sound, (1, 1))
    first = at.floor().long().expand_as(sound) + 1
    early, late = padded.gather(1, first), padded.gather(1, first + 1)
    return early + (at - at.floor()) * (late - early)


@final
class Room(multiplex.ReplayingSystem):
    """The simulated acoustic layer: plays its input through one room.

    Parameters
    ----------
    output_dim : int
        Segments, as equal as can be, whose energies are read out.
    pulse : int
        Samples a number, and a period of the carrier: 8 is 6 kHz.
    linear : bool
        Whether to read amplitudes instead of energies; only the loudspeaker is nonlinear then.
    tolerance : float
        Own part of a unit's reflections, in amplitude; see `response`.
    room : RoomConstants
        The room that all units are copies of.
    unit, input_dim, replays, noise, drift, imperfections, seed
        As of `pnnlab.systems.Circuit`; the noise is the microphone's and of someone walking by,
        who is somewhere else in each shot. A pulse arrives as loud as it is played: so the volume
        is set.
    """

    _what, _sample_s = "a room", 1 / RATE_HZ
    _cost_source = "the room as pnnlab simulates it: 48 kS/s, with a rest until it is silent"
    _tail, _unequal = TAIL, True
    _tolerable = 1.0
    _outputs = "segments: choose at least one replay, and no more segments than pulses"

    def __init__(
        self,
        unit: int = 0,
        *,
        input_dim: int = 64,
        replays: int = 4,
        output_dim: int = 10,
        pulse: int = PULSE,
        linear: bool = False,
        tolerance: float = 0.5,
        noise: bool = True,
        drift: bool = True,
        room: RoomConstants | None = None,
        imperfections: RoomImperfections | None = None,
        seed: int = 0,
    ) -> None:
        self._imperfections = parts = imperfections or RoomImperfections()
        super().__init__(unit, tolerance, noise, drift, seed, parts)
        self.linear, self._pulse = linear, whole("pulse", pulse, 4)
        taps = response(room or RoomConstants(), self.unit, self.tolerance)
        self._rest = len(taps)
        one = pulses(torch.ones(1, 1, dtype=torch.float64), self._pulse)
        whole_answer = reverberate(functional.pad(one, (0, len(taps))), taps)
        self._built = taps * float(one.norm() / whole_answer.norm())
        self._shape(input_dim, replays, output_dim)

    def _hear(self, u: Tensor, shots: float, metres: Tensor) -> Tensor:
        """Let the time of some shots pass; what is heard, but for noise, of sounds or samples."""
        parts, warmth = self._imperfections, self._drift.pass_shots(shots)
        time = np.arange(len(self._built))
        taps = np.interp(time * (1 + 0.0017 * warmth), time, self._built) * (1 - 0.0039 * warmth)
        said = distort(u, parts)
        heard = reverberate(said, taps)
        if parts.person and self._noise.on:
            back = parts.person * 0.05 / (2 * metres)
            heard = heard + back * delayed(said, 2 * metres / 343.0 * RATE_HZ)
        return heard

    def _simulate(self, x: Tensor, theta: Tensor) -> Tensor:
        u = pulses(multiplex.drive(x, theta, self.replays), self._pulse)
        random = torch.from_numpy(self._noise.rows(len(x), u.shape[1] + 1, x.dtype))
        heard = self._hear(u, len(x), 1.85 + 1.15 * random[:, -1:].tanh())
        heard = heard + self._imperfections.noise * random[:, :-1]
        return read_out(heard, self.output_dim, self._pulse, linear=self.linear)

    def _respond(self, volts: Volts) -> Volts:
        u = torch.from_numpy(np.asarray(volts, np.float64) / DRIVE).unsqueeze(0)
        shot = self._pulse * (self.replays * self.input_dim + TAIL) + self._rest
        random = torch.from_numpy(self._noise.rows(1, u.shape[1] + 1, torch.float64))
        way = 2 * random[:, -1:].tanh() + torch.arange(u.shape[1]) / RATE_HZ
        metres = 0.7 + (way % 4.6 - 2.3).abs()  # to and fro
        heard = self._hear(u, u.shape[1] / shot, metres)
        return (heard + self._imperfections.noise * random[:, :-1]).squeeze(0).numpy() * DRIVE
