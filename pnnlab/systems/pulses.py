"""Shaping a pulse and reading a spectrum: what stands before and behind the crystal.

A shaper spreads the pulse's colours over a mask of bands; each band has an amplitude and a phase.
The spot of one colour on the mask is a little wider than a band, so that a band's edge is not
sharp and the shaped pulse stays short. A spectrometer reads the harmonic with pixels and a
resolution of its own. The mask and the binning are done by the computer and shared by
systems and twins.

Source: A. M. Weiner, Rev. Sci. Instrum. 71, 1929 (2000), for the shaper and its spot.
"""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import erf
from torch import Tensor

from pnnlab.errors import RangeError, ShapeError
from pnnlab.plain import make_plain, whole

Array: TypeAlias = NDArray[np.float64]

BANDS = 50
BAND_THZ = 0.24  # 12 THz in all
SPOT_THZ = 0.28  # full width at half maximum of one colour on the mask
LASER_THZ = 12.0  # full width at half maximum of the laser's power spectrum
CHIRP_FS2 = 1000.0  # fs², on the mask beside theta; see `MaskProgramme.mask`
PIXELS = 50
PIXEL_THZ = 0.16  # 8 THz in all: beyond, the harmonic is not phase-matched
RESOLUTION_THZ = 0.24  # full width at half maximum of a sharp line on the camera


@dataclass(frozen=True)
class MaskProgramme:
    """What the bands of the mask carry.

    Parameters
    ----------
    trained : {"phases", "amplitudes"}
        With ``"phases"`` the input sets the amplitudes of all bands and theta their phases. With
        ``"amplitudes"`` input and theta alternate from band to band, both as amplitudes, as in
        the authors' experiment; all phases are zero.
    phase_range : float
        Theta from 0 to 1 is a phase from minus to plus this, rad.
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
        input_dim, output_dim = whole("input_dim", input_dim), whole("output_dim", output_dim)
        if not 1 <= input_dim <= self.param_dim:
            raise ShapeError(
                f"input_dim is {input_dim}; the mask has {self.param_dim} bands for the input, "
                "and each element needs at least one."
            )
        if not 1 <= output_dim <= PIXELS:
            raise ShapeError(
                f"output_dim is {output_dim}; the camera has {PIXELS} pixels, and each output "
                "needs at least one."
            )

    def mask(self, x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Amplitudes in [0, 1] and phases, rad, of the bands, (batch, 50) or (1, 50) each.

        An input shorter than the bands is repeated over neighbours: element n of d has the bands
        b with ``b * d // bands == n``.

        The mask also carries a chirp of its own. Without it the opposite of all phases, which is
        the pulse run backwards, would have nearly the same spectrum: at the middle of theta's
        range the read-out would not answer to theta at all.

        Parameters
        ----------
        x : Tensor, (batch, input_dim), in [0, 1]
        theta : Tensor, (param_dim,) or (batch, param_dim), in [0, 1]
        """
        width, bands = x.shape[1], self.param_dim
        data = x if width == bands else x[:, torch.arange(bands) * width // bands]
        rows = theta if theta.ndim == 2 else theta[None]
        omega = torch.arange(BANDS, dtype=x.dtype) - (BANDS - 1) / 2
        chirp = 0.5 * CHIRP_FS2 * (2e-3 * math.pi * BAND_THZ * omega).square()
        if self.trained == "phases":
            return data, self.phase_range * (2 * rows - 1) + chirp
        return torch.stack([data, rows.expand_as(data)], 2).flatten(1), chirp[None]


def shaper(f: Array, shift: float = 0.0) -> Array:
    """What one band lets through of each frequency, (bands, frequencies), dimensionless.

    In units of the field of the unshaped pulse at its peak: the sum over everything is 1.

    Parameters
    ----------
    f : array, (frequencies,)
        Relative to the laser's centre, THz.
    shift : float
        Of the colours on the mask, THz.
    """
    centres = (np.arange(BANDS) - (BANDS - 1) / 2) * BAND_THZ
    laser = np.exp(-2 * math.log(2) * (f / LASER_THZ) ** 2)
    response: Array = _smooth_box(f + shift - centres[:, None], BAND_THZ, SPOT_THZ) * laser
    response /= response.sum()
    return response


def spectrometer(f: Array) -> Array:
    """Response of each pixel to light of each frequency, (frequencies, pixels).

    Parameters
    ----------
    f : array, (frequencies,)
        Relative to twice the laser's centre, THz.
    """
    centres = (np.arange(PIXELS) - (PIXELS - 1) / 2) * PIXEL_THZ
    return _smooth_box(f[:, None] - centres, PIXEL_THZ, RESOLUTION_THZ)


def bands_of_pixels(pixels: Tensor, output_dim: int) -> Tensor:
    """Means over neighbouring pixels, (batch, output_dim); pixel p belongs to p * d // pixels."""
    if output_dim == PIXELS:
        return pixels
    owner = torch.arange(PIXELS) * output_dim // PIXELS
    share = torch.nn.functional.one_hot(owner, output_dim).to(pixels.dtype)
    return pixels @ (share / share.sum(0))


def _smooth_box(distance: Array, width: float, fwhm: float) -> Array:
    """A box of a width, smoothed by a Gaussian."""
    scale = fwhm / (2 * math.sqrt(math.log(2)))
    box: Array = erf((distance + width / 2) / scale) - erf((distance - width / 2) / scale)
    return 0.5 * box
