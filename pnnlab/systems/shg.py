"""Broadband second-harmonic generation: a shaped pulse, a crystal, a spectrometer.

A shaper writes the input and the parameters onto the bands of an ultrafast pulse, a crystal
makes its second harmonic (`pnnlab.systems.waves`), and a camera behind a grating reads the
harmonic's spectrum. Every colour of the harmonic is made by all pairs of colours that add up to
it, so the spectrum is a nonlinear function of all bands, amplitudes and phases.

What is idealised: plane waves; the spectrometer reads one pulse at a time; the camera never
overflows.

Source: the optical PNN of Wright, Onodera et al., Nature 601, 549 (2022): a femtosecond laser,
a pulse shaper and a BBO crystal. The constants are ours.
"""

import copy
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pnnlab.errors import RangeError
from pnnlab.plain import whole
from pnnlab.systems import pulses
from pnnlab.systems.pulses import BANDS, PIXELS, MaskProgramme
from pnnlab.systems.units import BuiltSystem, Drift, RandomStream
from pnnlab.systems.waves import SPACING_THZ, Crystal, Kerr, frequencies, propagate

# Squared field per THz, summed over the brightest pixel, on paper, when all bands are in phase at
# half amplitude: the unit of the read-out.
FULL_SCALE = 1.506e-4


@dataclass(frozen=True)
class SHGImperfections:
    """What a built bench adds to its equations; no physics twin has any of it.

    What is marked customary is of the usual size, from no particular page.
    """

    # Customary: fringing fields blur some 10 µm, the thickness of a liquid-crystal layer, of a
    # pixel of 100 µm; half of that on either side. Model and measurements: S. Moser et al., Opt.
    # Express 27, 25046 (2019).
    crosstalk: float = 0.05  # of a band's neighbours, each
    # Customary: each band's modulation curve is calibrated to a few per cent.
    calibration: float = 0.03  # of amplitude, rms
    # Customary: what remains when a compressor was set for the most harmonic. 1 mm of fused
    # silica has 36 fs² and 28 fs³.
    chirp: float = 300.0  # fs², at most, either way
    cubic: float = 5000.0  # fs³, at most, either way
    # n₂ = 5e-20 m²/W of BBO along the ordinary axis (M. Bache et al., Opt. Mater. Express 3, 357
    # (2013)), against d = 2 pm/V at 800 nm and a refractive index of 1.66: γ / κ², both of one
    # power. The harmonic has twice the frequency; waves of crossed polarisation act 2/3 as much.
    kerr: float = 0.0097  # mm
    # Customary: data sheets of amplified Ti:sapphire lasers state 0.5 % rms of energy.
    jitter: float = 0.005  # of pulse energy, rms, each shot
    # Linear cameras deviate by up to 5 % (D. Nehir et al., Sensors 19, 2833 (2019)).
    saturation: float = 0.05  # less signal at full scale
    noise: float = 0.01  # of full scale, rms, each pixel: a small camera at short exposure
    # Customary, the room: a beam that drifts by a tenth of a mask pixel and the pulse energy by
    # 1 %, rms and together, over 10^6 shots (a quarter of an hour at 1 kHz).
    pointing: float = 0.1  # of a band
    power: float = 0.01  # of pulse energy
    alignment_time: float = 1e6  # shots


# How far one built bench may be from paper, each with equal chance anywhere between.
# The length: DIEN TECH and other makers cut BBO below 2.5 mm to 0.1 mm.
LENGTH_TOLERANCE = 0.1
# Customary: pulse energy and beam size, each known to 5 %, squared; half of it in the field.
COUPLING_TOLERANCE = 0.1
# Customary: Sellmeier equations of different authors.
DISPERSION_TOLERANCE = 0.03
# Customary: a crystal turned by hand to the most harmonic, to a twentieth of its bandwidth.
CENTRE_TOLERANCE_THZ = 0.25


@dataclass(frozen=True, eq=False)
class Built:
    """Hidden parts of one copy."""

    crystal: Crystal
    gains: NDArray[np.float64]  # (bands,), of amplitude
    polynomial: tuple[float, float]  # from -1 to 1 each, of chirp and cubic phase


def fabricate(unit: int, imperfections: SHGImperfections) -> Built:
    """Parts of one built copy.

    Parameters
    ----------
    unit : int, >= 0
        Serial number; it is the seed.
    """
    if unit < 0:
        raise RangeError(f"unit is {unit}: units are numbered from 0.")
    random = np.random.default_rng((unit, 11))
    length, coupling, gvm, gvd_1, gvd_2, centre, chirp, cubic = random.uniform(-1, 1, 8).tolist()
    nominal = Crystal()
    crystal = Crystal(
        length=nominal.length * (1 + LENGTH_TOLERANCE * length),
        coupling=nominal.coupling * (1 + COUPLING_TOLERANCE * coupling),
        gvm=nominal.gvm * (1 + DISPERSION_TOLERANCE * gvm),
        gvd_1=nominal.gvd_1 * (1 + DISPERSION_TOLERANCE * gvd_1),
        gvd_2=nominal.gvd_2 * (1 + DISPERSION_TOLERANCE * gvd_2),
        centre=nominal.centre + CENTRE_TOLERANCE_THZ * centre,
    )
    gains = 1 + imperfections.calibration * random.standard_normal(BANDS)
    return Built(crystal, gains, (chirp, cubic))


class SHG(BuiltSystem):
    """Second-harmonic generation, built.

    Parameters
    ----------
    unit : int
        Which copy. Copies differ; the same number is always the same copy.
    input_dim : int
        Length of x, at most the number of bands that carry it; each element is repeated over
        neighbouring bands as evenly as they go.
    output_dim : int
        Length of y, at most 50; each output is a mean over neighbouring pixels.
    trained : {"phases", "amplitudes"}
        What theta sets, see `pulses.MaskProgramme`.
    phase_range : float
        Theta from 0 to 1 is a phase from minus to plus this, rad.
    noise : bool
        Detector noise and energy jitter.
    drift : bool
        Slow misalignment.
    imperfections : SHGImperfections, optional
        Of the bench; the default is what data sheets say.
    seed : int
        Of noise and drift.

    Raises
    ------
    ShapeError
        Input or output are longer than bands or pixels.
    RangeError
        A negative unit, or a phase range outside (0, π].
    """

    _what, _drift_name = "an SHG bench", "misalignment"
    _drift: Drift

    def __init__(
        self,
        unit: int = 0,
        *,
        input_dim: int = 50,
        output_dim: int = 50,
        trained: Literal["phases", "amplitudes"] = "phases",
        phase_range: float = 0.8,
        noise: bool = True,
        drift: bool = True,
        imperfections: SHGImperfections | None = None,
        seed: int = 0,
    ) -> None:
        self.unit = unit = whole("unit", unit)
        self.programme = MaskProgramme(trained, phase_range)
        self._owner = {"unit": unit}
        self._imperfections = parts = imperfections or SHGImperfections()
        self._built = built = fabricate(unit, parts)
        self._noise = RandomStream(unit, seed, 0, on=noise)
        # The alignment is in units of its rms.
        self._drift = Drift(unit, seed, 1, size=1.0, time=parts.alignment_time, on=drift)
        gamma = parts.kerr * built.crystal.coupling**2
        self._kerr = Kerr(gamma, 2 * gamma, 2 / 3) if gamma else Kerr()
        f = frequencies()
        omega = 2e-3 * math.pi * f  # rad/fs
        chirp, cubic = built.polynomial
        phase = chirp * parts.chirp * omega**2 / 2 + cubic * parts.cubic * omega**3 / 6
        self._residual = np.exp(1j * phase)
        near = np.eye(BANDS, k=1) + np.eye(BANDS, k=-1)
        self._crosstalk = np.eye(BANDS) + parts.crosstalk * (near - np.diag(near.sum(0)))
        # The spectrum shifts by so little that one derivative tells it.
        step = 0.5 * parts.pointing * pulses.BAND_THZ
        self._shift = pulses.shaper(f, step) - pulses.shaper(f, -step)
        self._shape(input_dim, output_dim)

    def _shape(self, input_dim: int, output_dim: int) -> None:
        self.programme.check(input_dim, output_dim)
        super().__init__(input_dim, self.programme.param_dim, output_dim)

    def reprogrammed(self, *, input_dim: int | None = None, output_dim: int | None = None) -> "SHG":
        """Programme the same bench otherwise: parts, alignment and noise are shared."""
        other = copy.copy(self)
        inputs = self.input_dim if input_dim is None else input_dim
        other._shape(inputs, self.output_dim if output_dim is None else output_dim)
        return other

    def _simulate(self, x: Tensor, theta: Tensor) -> Tensor:
        parts, misalignment = self._imperfections, self._drift.pass_shots(len(x))
        # Pixels, then energy.
        random = torch.from_numpy(self._noise.rows(len(x), PIXELS + 1, x.dtype))
        amplitude, phase = self.programme.mask(x, theta)
        blur = torch.from_numpy(self._crosstalk).to(x.dtype)
        gains = torch.from_numpy(self._built.gains).to(x.dtype)
        energy = (1 + parts.jitter * random[:, -1:]) * (1 + parts.power * misalignment)
        amplitude = (amplitude @ blur) * gains * energy.sqrt()
        field = shaped(amplitude, phase @ blur, _paper_shaper() + misalignment * self._shift)
        field = field * torch.from_numpy(self._residual).to(field.dtype)
        _, harmonic = propagate(field, self._built.crystal, kerr=self._kerr)
        light = read(harmonic)
        signal = light / (1 + parts.saturation * light)
        return pulses.bands_of_pixels(signal + parts.noise * random[:, :-1], self.output_dim)


def respond(
    x: Tensor, theta: Tensor, crystal: Crystal, programme: MaskProgramme, output_dim: int
) -> Tensor:
    """Read-outs of a perfect bench with some crystal; differentiable in ``x`` and ``theta``.

    These are the equations that a physics twin knows.

    Returns
    -------
    Tensor, (batch, output_dim)
        In units of full scale.
    """
    amplitude, phase = programme.mask(x, theta)
    _, harmonic = propagate(shaped(amplitude, phase, _paper_shaper()), crystal)
    return pulses.bands_of_pixels(read(harmonic), output_dim)


def shaped(amplitude: Tensor, phase: Tensor, response: NDArray[np.float64]) -> Tensor:
    """Spectrum of the pulse behind the shaper, (batch, grid), complex.

    Parameters
    ----------
    amplitude, phase : Tensor, (batch, bands) or (1, bands)
        Of the mask.
    response : array, (bands, grid)
        Of `pulses.shaper`.
    """
    through = torch.from_numpy(response).to(amplitude.dtype)
    # Two real products are half the work of a complex one.
    real, imaginary = amplitude * phase.cos(), amplitude * phase.sin()
    return torch.complex(real @ through, imaginary @ through)


def read(harmonic: Tensor) -> Tensor:
    """Pixels of a perfect spectrometer, (batch, pixels), in units of full scale."""
    power = torch.view_as_real(harmonic).square().sum(2)
    return power @ torch.from_numpy(_spectrometer()).to(power.dtype)


@lru_cache(maxsize=1)
def _paper_shaper() -> NDArray[np.float64]:
    return pulses.shaper(frequencies())


@lru_cache(maxsize=1)
def _spectrometer() -> NDArray[np.float64]:
    return pulses.spectrometer(frequencies()) / (FULL_SCALE * SPACING_THZ)
