"""The mask, the shaper and the spectrometer."""

import numpy as np
import pytest
import torch

from pnnlab.errors import RangeError, ShapeError
from pnnlab.systems.pulses import (
    BAND_THZ,
    BANDS,
    PIXELS,
    MaskProgramme,
    bands_of_pixels,
    shaper,
    spectrometer,
)


def test_an_input_as_long_as_the_mask_sets_the_amplitudes_and_theta_the_phases():
    x, theta = torch.rand(3, BANDS), torch.rand(BANDS)
    amplitude, phase = MaskProgramme(phase_range=0.5).mask(x, theta)
    assert torch.equal(amplitude, x)
    flat = MaskProgramme(phase_range=0.5).mask(x, torch.full((BANDS,), 0.5))[1]
    assert torch.allclose(phase - flat, theta[None] - 0.5, atol=1e-6)
    each = MaskProgramme(phase_range=0.5).mask(x, theta.expand(3, -1))[1]
    assert torch.equal(each, phase.expand(3, -1))


@pytest.mark.parametrize("width", [1, 7, 12, 25, 49])
def test_a_short_input_is_repeated_over_neighbours_as_evenly_as_they_go(width):
    amplitude, _ = MaskProgramme().mask(torch.arange(1.0, width + 1)[None], torch.rand(BANDS))
    counts = [int((amplitude == n).sum()) for n in range(1, width + 1)]
    assert (amplitude.diff() >= 0).all()
    assert sum(counts) == BANDS
    assert max(counts) - min(counts) <= 1


def test_input_and_parameters_can_alternate_as_amplitudes():
    programme = MaskProgramme("amplitudes")
    x, theta = torch.rand(3, 25), torch.rand(25)
    amplitude, phase = programme.mask(x, theta)
    assert torch.equal(amplitude[:, ::2], x)
    assert torch.equal(amplitude[:, 1::2], theta.expand(3, -1))
    assert phase.shape == (1, BANDS)


def test_the_opposite_phases_are_no_longer_the_pulse_run_backwards():
    """The mask's own chirp breaks that symmetry."""
    phase = MaskProgramme().mask(torch.rand(1, BANDS), torch.full((BANDS,), 0.5))[1]
    assert phase.max() > 0.5


def test_the_shaper_adds_up_to_the_laser():
    """Bands lie side by side: together they let everything through but at the aperture's ends."""
    f = np.arange(-50, 51) * 0.1
    laser = np.exp(-2 * np.log(2) * (f / 12) ** 2)
    total = shaper(f).sum(0)
    assert np.allclose(total / total[50], laser, atol=1e-3)
    assert shaper(np.arange(-100, 101) * 0.1).sum() == pytest.approx(1)


def test_a_band_reaches_its_neighbours_and_no_further():
    f = (np.arange(BANDS) - (BANDS - 1) / 2) * BAND_THZ
    response = shaper(f)
    middle = response[25] / response[25, 25]
    assert 0.1 < middle[26] < 0.3
    assert middle[28] < 1e-3
    moved = shaper(f, BAND_THZ)
    assert np.argmax(moved[25]) == 24  # the colours moved up, so that a lower one meets the band


def test_the_spectrometer_counts_all_light_in_its_window():
    f = np.array([-3.0, -1.03, 0.0, 0.5, 2.9])
    assert np.allclose(spectrometer(f).sum(1), 1, atol=1e-6)
    assert spectrometer(np.array([6.0])).sum() < 1e-6
    assert np.argmax(spectrometer(np.array([3.92]))) == PIXELS - 1


def test_outputs_are_means_over_neighbouring_pixels():
    pixels = torch.rand(4, PIXELS)
    assert torch.equal(bands_of_pixels(pixels, PIXELS), pixels)
    assert torch.allclose(bands_of_pixels(pixels, 10), pixels.view(4, 10, 5).mean(2))
    assert torch.allclose(bands_of_pixels(torch.ones(2, PIXELS), 7), torch.ones(2, 7))


def test_what_cannot_be_programmed_is_refused():
    with pytest.raises(ShapeError, match="50 bands"):
        MaskProgramme().check(51, 50)
    with pytest.raises(ShapeError, match="25 bands"):
        MaskProgramme("amplitudes").check(26, 50)
    with pytest.raises(ShapeError, match="50 pixels"):
        MaskProgramme().check(50, 51)
    with pytest.raises(RangeError, match="trained"):
        MaskProgramme("both")  # type: ignore[arg-type]
    with pytest.raises(RangeError, match="phase_range"):
        MaskProgramme(phase_range=4.0)
