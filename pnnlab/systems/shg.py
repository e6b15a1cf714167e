r"""Broadband second-harmonic generation: a shaped pulse, a crystal, a spectrometer.

A shaper spreads the colours of an ultrafast pulse over a mask of bands; each band has an amplitude
and a phase, which carry the input and the parameters. The spot of one colour on the mask is a
little wider than a band, so that a band's edge is not sharp and the shaped pulse stays short. A
crystal makes the pulse's second harmonic, and a camera behind a grating reads its spectrum. Every
colour of the harmonic is made by all pairs of colours that add up to it, so the spectrum is a
nonlinear function of all bands, amplitudes and phases.

In the crystal the fundamental and its second harmonic are coupled,

.. math::
   \partial_z A_1 &= i D_1 A_1 + i\kappa A_2 A_1^*
       + i\gamma_1 (|A_1|^2 + c|A_2|^2) A_1, \\
   \partial_z A_2 &= i D_2 A_2 + i\kappa A_1^2
       + i\gamma_2 (|A_2|^2 + c|A_1|^2) A_2,

in the frame of the fundamental. The linear operators are exact in frequency,

.. math::
   D_1(f) = \tfrac12 \beta_1 (2\pi f)^2, \qquad
   D_2(f) = 2\pi v (f - f_0) + \tfrac12 \beta_2 (2\pi f)^2 .

Conversion is weak and both products vary smoothly along the crystal once the phases of the
linear operators are taken out. So the products are interpolated by cubics through a few nodes,
whose integrals against the exact phases are computed beforehand for each frequency (an exponential
multistep method with Filon's quadrature). A node costs four Fourier transforms.

What is idealised: plane waves, no absorption, no walk-off in space; the spectrometer reads one
pulse at a time; the camera never overflows.

Source: the optical PNN of Wright, Onodera et al., Nature 601, 549 (2022): a femtosecond laser,
a pulse shaper and a BBO crystal. A. M. Weiner, Rev. Sci. Instrum. 71, 1929 (2000), for the shaper
and its spot. Textbooks (Boyd, Nonlinear Optics, ch. 2) for the coupled waves, with the
group-velocity terms of pulses. The constants are ours.
"""

import copy
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeAlias, final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import erf
from torch import Tensor

from pnnlab.errors import RangeError, ShapeError
from pnnlab.plain import make_plain, whole
from pnnlab.systems import wave_kernels as kernels
from pnnlab.systems.units import Adjoint, Array, BuiltSystem, Drift, RandomStream, with_adjoint

Real: TypeAlias = NDArray[np.float64]

BANDS = 50
BAND_THZ = 0.24  # 12 THz in all
SPOT_THZ = 0.28  # full width at half maximum of one colour on the mask
LASER_THZ = 12.0  # full width at half maximum of the laser's power spectrum
CHIRP_FS2 = 1000.0  # fs², on the mask beside theta; see `MaskProgramme.mask`
PIXELS = 50
PIXEL_THZ = 0.16  # 8 THz in all: beyond, the harmonic is not phase-matched
RESOLUTION_THZ = 0.24  # full width at half maximum of a sharp line on the camera
GRID = 128  # points, 21.5 THz: the harmonic folds over outside the camera's range
SPACING_THZ = 0.168  # a window of 6 ps
NODES = 8  # intervals along the crystal: with the grid, 3e-4 of the converged spectrum
DEGREE = 3  # of the polynomials through the nodes
QUADRATURE = 12  # points behind each weight and interval
# Squared field per THz, summed over the brightest pixel, on paper, when all bands are in phase at
# half amplitude: the unit of the read-out.
FULL_SCALE = 1.506e-4


@dataclass(frozen=True)
class Crystal:
    """Constants of the equations; the defaults are the nominal ones."""

    coupling: float = 1.6  # κ, per mm and unit of field
    gvm: float = 0.19  # v, group-velocity mismatch, ps/mm
    # Where the harmonic is phase-matched, THz above the low edge of a band of 12; 6 is the middle.
    centre: float = 6.0
    length: float = 1.0  # mm
    gvd_1: float = 75.0  # β₁ and β₂, group-velocity dispersion of both waves, fs²/mm
    gvd_2: float = 200.0


@dataclass(frozen=True)
class Kerr:
    """Third-order coefficients: γ₁, γ₂ per mm and unit of power, and the cross factor c."""

    fundamental: float = 0.0
    harmonic: float = 0.0
    cross: float = 0.0


@final
@dataclass(frozen=True)
class MaskProgramme:
    """What the bands of the mask carry.

    With ``"phases"`` trained, the input sets the amplitudes of all bands and theta their phases,
    from minus to plus ``phase_range``, rad. With ``"amplitudes"`` input and theta alternate from
    band to band, both as amplitudes, as in the authors' experiment; all phases are zero.
    """

    trained: Literal["phases", "amplitudes"] = "phases"
    phase_range: float = 0.8

    def __post_init__(self) -> None:
        make_plain(self)
        if self.trained not in ("phases", "amplitudes"):
            raise RangeError(f'trained is {self.trained!r}; it is "phases" or "amplitudes".')
        if not 0 < self.phase_range <= math.pi:
            raise RangeError(f"phase_range is {self.phase_range}; give up to π, such as 0.8 rad.")

    @property
    def param_dim(self) -> int:
        """Length of theta: as many as there are bands that carry the input."""
        return BANDS if self.trained == "phases" else BANDS // 2

    def check(self, input_dim: int, output_dim: int) -> None:
        """Raise `ShapeError` unless input and output can be spread over the bands and pixels."""
        for name, length, most, what in (
            ("input_dim", input_dim, self.param_dim, "bands for the input"),
            ("output_dim", output_dim, PIXELS, "pixels"),
        ):
            if not 1 <= whole(name, length) <= most:
                raise ShapeError(f"{name} is {length}; there are {most} {what}: give 1 to {most}.")

    def mask(self, x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Amplitudes in [0, 1] and phases, rad, of the bands, (batch, 50) or (1, 50) each.

        An input that is shorter than the bands is repeated over neighbours: element n of d has the
        bands b with ``b * d // bands == n``. The mask also carries a chirp of its own. Without it
        the opposite of all phases, which is the pulse run backwards, would have nearly the same
        spectrum: at the middle of theta's range the read-out would not depend on theta at all.
        """
        width, bands = x.shape[1], self.param_dim
        data = x if width == bands else x[:, torch.arange(bands) * width // bands]
        rows = theta if theta.ndim == 2 else theta[None]
        omega = torch.arange(BANDS, dtype=x.dtype) - (BANDS - 1) / 2
        chirp = 0.5 * CHIRP_FS2 * (2e-3 * math.pi * BAND_THZ * omega).square()
        if self.trained == "phases":
            return data, self.phase_range * (2 * rows - 1) + chirp
        return torch.stack([data, rows.expand_as(data)], 2).flatten(1), chirp[None]


@dataclass(frozen=True)
class SHGImperfections:
    """What no twin models; what is marked customary is of the usual size, from no page."""

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


# How far one built bench may be from paper, a fraction either way, with equal chance.
TOLERANCES = {
    "length": 0.1,  # DIEN TECH and other makers cut BBO below 2.5 mm to 0.1 mm
    # Customary: pulse energy and beam size, each known to 5 %, squared; half of it in the field.
    "coupling": 0.1,
    **dict.fromkeys(("gvm", "gvd_1", "gvd_2"), 0.03),  # customary: Sellmeier equations differ
}
# Customary: a crystal turned by hand to the most harmonic, to a twentieth of its bandwidth.
CENTRE_TOLERANCE_THZ = 0.25


def fabricate(unit: int, imperfections: SHGImperfections) -> tuple[Crystal, Real, float, float]:
    """Draw crystal, gains of the bands, chirp, fs², and cubic phase, fs³, of one built copy."""
    random = np.random.default_rng((unit, 11))
    *drawn, centre, chirp, cubic = random.uniform(-1, 1, 8).tolist()
    nominal = Crystal()
    built = {
        name: getattr(nominal, name) * (1 + tolerance * part)
        for (name, tolerance), part in zip(TOLERANCES.items(), drawn, strict=True)
    }
    crystal = Crystal(**built, centre=nominal.centre + CENTRE_TOLERANCE_THZ * centre)
    gains = 1 + imperfections.calibration * random.standard_normal(BANDS)
    return crystal, gains, imperfections.chirp * chirp, imperfections.cubic * cubic


@final
class SHG(BuiltSystem):
    """The simulated optical PNN layer: a shaped pulse, a crystal and a spectrometer.

    Parameters
    ----------
    input_dim, output_dim : int
        Lengths of x, at most the number of bands that carry it, and of y, at most 50: an element
        is repeated over neighbouring bands, and an output is a mean over neighbouring pixels.
    trained, phase_range
        What theta sets, see `MaskProgramme`.
    unit, noise, drift, imperfections, seed
        As of `pnnlab.systems.Circuit`; the drift is a slow misalignment.
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
        self.unit = unit = whole("unit", unit, 0)
        self.programme = MaskProgramme(trained, phase_range)
        self._owner = {"unit": unit}
        self._imperfections = parts = imperfections or SHGImperfections()
        self._crystal, self._gains, chirp, cubic = fabricate(unit, parts)
        self._noise = RandomStream(unit, seed, 0, on=noise)
        # The alignment is in units of its rms.
        self._drift = Drift(unit, seed, 1, size=1.0, time=parts.alignment_time, on=drift)
        gamma = parts.kerr * self._crystal.coupling**2
        self._kerr = Kerr(gamma, 2 * gamma, 2 / 3) if gamma else Kerr()
        f = frequencies()
        omega = 2e-3 * math.pi * f  # rad/fs
        self._residual = np.exp(1j * (chirp * omega**2 / 2 + cubic * omega**3 / 6))
        near = np.eye(BANDS, k=1) + np.eye(BANDS, k=-1)
        self._crosstalk = np.eye(BANDS) + parts.crosstalk * (near - np.diag(near.sum(0)))
        # The spectrum shifts by so little that one derivative is enough.
        step = 0.5 * parts.pointing * BAND_THZ
        self._shift = shaper(f, step) - shaper(f, -step)
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
        gains = torch.from_numpy(self._gains).to(x.dtype)
        energy = (1 + parts.jitter * random[:, -1:]) * (1 + parts.power * misalignment)
        amplitude = (amplitude @ blur) * gains * energy.sqrt()
        field = shaped(amplitude, phase @ blur, _PAPER_SHAPER + misalignment * self._shift)
        field = field * torch.from_numpy(self._residual).to(field.dtype)
        _, harmonic = propagate(field, self._crystal, kerr=self._kerr)
        light = read(harmonic)
        signal = light / (1 + parts.saturation * light)
        return bands_of_pixels(signal + parts.noise * random[:, :-1], self.output_dim)


def respond(
    x: Tensor, theta: Tensor, crystal: Crystal, programme: MaskProgramme, output_dim: int
) -> Tensor:
    """Read-outs of a perfect bench, (batch, output_dim), in units of full scale; differentiable."""
    amplitude, phase = programme.mask(x, theta)
    _, harmonic = propagate(shaped(amplitude, phase, _PAPER_SHAPER), crystal)
    return bands_of_pixels(read(harmonic), output_dim)


def shaped(amplitude: Tensor, phase: Tensor, response: Real) -> Tensor:
    """Spectrum, (batch, grid), of a mask (batch, bands) behind a ``response`` (bands, grid)."""
    through = torch.from_numpy(response).to(amplitude.dtype)
    # Two real products are half the work of a complex one.
    real, imaginary = amplitude * phase.cos(), amplitude * phase.sin()
    return torch.complex(real @ through, imaginary @ through)


def read(harmonic: Tensor) -> Tensor:
    """Pixels of a perfect spectrometer, (batch, pixels), in units of full scale."""
    power = torch.view_as_real(harmonic).square().sum(2)
    return power @ torch.from_numpy(_SPECTROMETER).to(power.dtype)


def shaper(f: Real, shift: float = 0.0) -> Real:
    """Transmission of each band at each frequency, THz from the laser's; the sum is 1."""
    centres = (np.arange(BANDS) - (BANDS - 1) / 2) * BAND_THZ
    laser = np.exp(-2 * math.log(2) * (f / LASER_THZ) ** 2)
    response: Real = _smooth_box(f + shift - centres[:, None], BAND_THZ, SPOT_THZ) * laser
    response /= response.sum()
    return response


def spectrometer(f: Real) -> Real:
    """Response of each pixel to frequencies, THz from twice the laser's, (frequencies, pixels)."""
    centres = (np.arange(PIXELS) - (PIXELS - 1) / 2) * PIXEL_THZ
    return _smooth_box(f[:, None] - centres, PIXEL_THZ, RESOLUTION_THZ)


def bands_of_pixels(pixels: Tensor, output_dim: int) -> Tensor:
    """Means over neighbouring pixels, (batch, output_dim); pixel p belongs to p * d // pixels."""
    if output_dim == PIXELS:
        return pixels
    owner = torch.arange(PIXELS) * output_dim // PIXELS
    share = torch.nn.functional.one_hot(owner, output_dim).to(pixels.dtype)
    return pixels @ (share / share.sum(0))


def _smooth_box(distance: Real, width: float, fwhm: float) -> Real:
    """A box of a width, smoothed by a Gaussian."""
    scale = fwhm / (2 * math.sqrt(math.log(2)))
    box: Real = erf((distance + width / 2) / scale) - erf((distance - width / 2) / scale)
    return 0.5 * box


def frequencies(grid: int = GRID, spacing: float = SPACING_THZ) -> Real:
    """Frequencies of a grid relative to the carrier, in the order of a transform, THz."""
    return np.asarray(np.fft.fftfreq(grid, 1 / (grid * spacing)), np.float64)


def propagators(crystal: Crystal, f: Real) -> tuple[Array, Array]:
    """The linear operators D₁ and D₂ at the frequencies ``f``, rad/mm."""
    omega = 2 * math.pi * f  # rad/ps
    offset = 2 * math.pi * (crystal.centre - 6.0)
    first = 0.5e-6 * crystal.gvd_1 * omega**2
    return first, crystal.gvm * (omega - offset) + 0.5e-6 * crystal.gvd_2 * omega**2


def propagate(
    field: Tensor,
    crystal: Crystal,
    *,
    kerr: Kerr | None = None,
    nodes: int = NODES,
    spacing: float = SPACING_THZ,
) -> tuple[Tensor, Tensor]:
    """Send a fundamental through the crystal; differentiable in the field.

    Takes the spectrum at the front face, (batch, grid), complex: field in time is the sum of its
    lines. The grid is a power of 2, ``spacing`` THz apart; ``nodes`` are intervals along the
    crystal. Returns the spectra of fundamental and harmonic at the end face.
    """
    if (grid := field.shape[1]) & (grid - 1):
        raise ShapeError(f"a grid of {grid} points: it must be a power of 2, such as {GRID}.")
    tables = _tables(crystal, kerr or Kerr(), nodes, grid, spacing, field.dtype)

    def solve(front: Array, keep: bool) -> tuple[Array, Adjoint]:
        ends = np.empty((2, *front.shape), front.dtype)
        chunks = math.ceil(len(front) / kernels.LANES) if keep else 0
        path = np.empty((chunks, nodes + 1, 2, 2 * grid * kernels.LANES), front.real.dtype)
        kernels.cross(_reals(front), tables, _reals(ends), path)
        return ends, lambda grad_ends, grad: kernels.cross_adjoint(
            _reals(grad_ends), tables, path, _reals(grad)
        )

    fundamental, harmonic = with_adjoint(field, solve)
    return fundamental, harmonic


def _reals(numbers: Array) -> Array:
    """The same memory as real numbers, both parts in turn along the last axis."""
    return numbers.view(numbers.real.dtype)


@lru_cache(maxsize=64)
def _tables(
    crystal: Crystal, kerr: Kerr, nodes: int, grid: int, spacing: float, kind: torch.dtype
) -> kernels.Tables:
    number: Any = np.float32 if kind == torch.complex64 else np.float64
    first, second = propagators(crystal, frequencies(grid, spacing))
    places = crystal.length * np.arange(nodes + 1) / nodes
    carried = np.zeros((nodes + 1, nodes + 1))
    driven = np.zeros((nodes + 1, nodes + 1, grid), complex)
    for j in range(1, nodes + 1):
        driven[j, : j + 1] = 1j * _source_weights(places[: j + 1], second)
        # There is no harmonic yet at the front face: the product N(0) is all Kerr, N'(0) comes
        # of the harmonic's growth, iκ A₁², and both are multiples of |A₁|² A₁.
        carried[j, : j + 1] = _product_weights(places[: j + 1])
    carried[:, 0] *= kerr.fundamental
    carried[:, 1] *= crystal.coupling**2
    phase = np.exp(1j * np.outer(places, first))
    constants = crystal.coupling, kerr.fundamental, kerr.harmonic, kerr.cross, 1 / grid
    return kernels.Tables(
        np.array(constants, number),
        _reals(phase).reshape(*phase.shape, 2).astype(number),
        carried.astype(number),
        _reals(driven).reshape(*driven.shape, 2).astype(number),
        kernels.twiddles(grid, number),
    )


def _source_weights(places: Real, delta: Real) -> Array:
    """Weights w of ∫ exp(iΔ (z_j - z)) S(z) dz = Σ w S(z_m) up to the last place, (places, f)."""
    last = len(places) - 1
    weights = np.zeros((last + 1, len(delta)), complex)
    for i in range(last):
        near = _nearest(i, last)
        z, dz, polynomials = _interval(places[i], places[i + 1], *places[near])
        remaining = np.exp(1j * np.outer(places[last] - z, delta))
        weights[near] += (polynomials * dz) @ remaining
    return weights


def _product_weights(places: Real) -> Real:
    """Weights of ∫ N(z) dz up to the last place, from N(0), N'(0) and N at the nodes between.

    Where N(0) is among the nodes of an interval's polynomial, it is N(0) + z p(z).
    """
    last = len(places) - 1
    weights = np.zeros(last + 1) if last else np.zeros(2)
    for i in range(last):
        near = _nearest(i, last - 1)
        z, dz, polynomials = _interval(places[i], places[i + 1], *places[near])
        if near[0] > 0:
            weights[near + 1] += polynomials @ dz
            continue
        slopes = (polynomials * z) @ dz
        later = slopes[1:] / places[near[1:]]
        weights[near[1:] + 1] += later
        weights[1] += slopes[0]
        weights[0] += dz.sum() - later.sum()
    return weights


def _nearest(interval: int, last: int) -> NDArray[np.int64]:
    """The nodes up to ``last`` that are nearest to an interval, one more than the degree."""
    low = min(max(interval - (DEGREE - 1) // 2, 0), max(0, last - DEGREE))
    return np.arange(low, min(low + DEGREE, last) + 1)


@lru_cache(maxsize=1024)  # fits and draws of constants leave the length as it is
def _interval(start: float, end: float, *places: float) -> tuple[Real, Real, Real]:
    """Points and weights of Gauss and Legendre between two places, and polynomials at the points.

    Each of them, (places, points), is 1 at one of the ``places`` and 0 at the others.
    """
    points, weights = _GAUSS_LEGENDRE
    z = start + (end - start) * (points + 1) / 2
    others = [np.array([*places[:i], *places[i + 1 :]]) for i in range(len(places))]
    pairs = zip(places, others, strict=True)
    found = [np.prod((z[:, None] - rest) / (here - rest), axis=1) for here, rest in pairs]
    return z, (end - start) * weights / 2, np.array(found)


_GAUSS_LEGENDRE = np.polynomial.legendre.leggauss(QUADRATURE)
_PAPER_SHAPER = shaper(frequencies())
_SPECTROMETER = spectrometer(frequencies()) / (FULL_SCALE * SPACING_THZ)
