"""Delay, gain and offset of a known waveform in a record."""

import numpy as np
import pytest

from pnnlab.instruments.selfcheck import align


def waveform(seed: int = 0) -> np.ndarray:
    """Silence, four-sample levels, silence."""
    levels = np.random.default_rng(seed).uniform(-1, 1, 16)
    return np.concatenate([np.zeros(32), np.repeat(levels, 4), np.zeros(64)])


def late(wave: np.ndarray, delay: float) -> np.ndarray:
    """The wave as an oscilloscope sees it ``delay`` samples late, straight between samples."""
    n = np.arange(len(wave))
    return np.interp(n - delay, n, wave)


@pytest.mark.parametrize("delay", [0.0, 0.04, 0.5, 0.999, 7.3, -3.25, 30.9])
@pytest.mark.parametrize("gain", [1.0, 0.3, -2.0])
def test_delay_gain_and_offset_are_found_exactly(delay, gain):
    wave = waveform()
    found = align(gain * late(wave, delay) + 0.7, wave[32:128])
    assert found.delay - 32 == pytest.approx(delay, abs=1e-9)
    assert found.gain == pytest.approx(gain)
    assert found.correlation == pytest.approx(1)


def test_noise_moves_the_delay_by_less_than_a_hundredth_of_a_sample():
    wave, random = waveform(), np.random.default_rng(1)
    delays = [
        align(late(wave, 2.25) + random.normal(0, 0.01, len(wave)), wave[32:128]).delay - 32
        for _ in range(50)
    ]
    assert np.mean(delays) == pytest.approx(2.25, abs=0.005)
    assert np.std(delays) < 0.02


def test_noise_alone_resembles_nothing():
    noise = np.random.default_rng(2).normal(size=160)
    assert align(noise, waveform()[32:128]).correlation < 0.6


def test_a_flat_record_has_no_gain_and_no_correlation():
    found = align(np.full(160, 0.3), waveform()[32:128])
    assert found.gain == pytest.approx(0, abs=1e-9)
    assert found.correlation == 0


def test_without_room_to_move_the_fraction_is_still_found():
    wave = waveform()
    assert align(late(wave, 0.2)[32:128], wave[32:128]).delay == pytest.approx(0.2, abs=1e-6)
