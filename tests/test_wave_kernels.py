"""The compiled Fourier transforms beside numpy's."""

import numpy as np
import pytest

from pnnlab.systems.wave_kernels import LANES, to_frequency, to_time, twiddles


def laid_out(field: np.ndarray, kind: type) -> np.ndarray:
    return np.stack([field.real, field.imag], 1).astype(kind).flatten()


def read(flat: np.ndarray) -> np.ndarray:
    parts = flat.reshape(-1, 2, LANES)
    return parts[:, 0] + 1j * parts[:, 1]


@pytest.mark.parametrize("grid", [1, 2, 4, 8, 128, 256])
@pytest.mark.parametrize(("kind", "tolerance"), [(np.float32, 3e-5), (np.float64, 1e-13)])
def test_a_wave_is_the_sum_of_its_lines_in_some_order(grid, kind, tolerance):
    random = np.random.default_rng(0)
    spectrum = random.standard_normal((grid, LANES)) + 1j * random.standard_normal((grid, LANES))
    flat = laid_out(spectrum, kind)
    to_time(flat, twiddles(grid, kind))
    wave = np.fft.ifft(spectrum, axis=0, norm="forward")
    # The same order for all lanes: find it with the first one.
    order = abs(read(flat)[:, :1] - wave[None, :, 0]).argmin(1)
    assert sorted(order) == list(range(grid))
    assert abs(read(flat) - wave[order]).max() < tolerance * grid


@pytest.mark.parametrize("grid", [1, 2, 4, 8, 128, 256])
def test_there_and_back_is_the_number_of_points(grid):
    flat = np.random.default_rng(0).standard_normal(grid * 2 * LANES)
    again = flat.copy()
    factors = twiddles(grid, np.float64)
    to_time(again, factors)
    to_frequency(again, factors)
    assert np.allclose(again, grid * flat, atol=1e-12 * grid)


def test_products_in_time_are_convolutions():
    """The shuffled order does not matter for what is done point by point."""
    random, grid = np.random.default_rng(0), 16
    field = random.standard_normal((grid, LANES)) + 1j * random.standard_normal((grid, LANES))
    flat = laid_out(field, np.float64)
    factors = twiddles(grid, np.float64)
    to_time(flat, factors)
    square = laid_out(read(flat) ** 2, np.float64)
    to_frequency(square, factors)
    by_hand = [sum(field[m] * field[(n - m) % grid] for m in range(grid)) for n in range(grid)]
    assert np.allclose(read(square) / grid, by_hand)
