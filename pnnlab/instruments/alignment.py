"""Where and how strongly a known waveform stands in a record: delay, gain and offset."""

from dataclasses import dataclass
from typing import final

import numpy as np

from pnnlab.systems.analog import Volts


@final
@dataclass(frozen=True)
class Alignment:
    """How a record compares with the waveform that was expected.

    Attributes
    ----------
    delay : float
        Samples by which the record is late.
    gain : float
        Recorded over expected; negative if the record is upside down.
    offset : float
        Recorded where nothing is expected, V.
    residual : float
        Rms of what is left, V.
    likeness : float
        Correlation, from 0 (nothing alike) to 1.
    """

    delay: float
    gain: float
    offset: float
    residual: float
    likeness: float


def align(record: Volts, expected: Volts) -> Alignment:
    """Find ``expected`` in ``record``.

    The best whole delay is that of the largest correlation, of either sign; between samples the
    record is taken to run straight, as after linear interpolation, and the fraction is found by
    least squares.

    Parameters
    ----------
    record : array, (points,)
        Longer than ``expected``: its start is where no delay would put it.
    expected : array, (samples,)
        Not constant.
    """
    record, expected = np.asarray(record, np.float64), np.asarray(expected, np.float64)
    lags = len(record) - len(expected) + 1
    shape = expected - expected.mean()
    dots = np.correlate(record, shape, "valid")
    ends = np.arange(lags), np.arange(lags) + len(expected)
    sums = np.concatenate([[0.0], np.cumsum(record)])
    squares = np.concatenate([[0.0], np.cumsum(record**2)])
    total = sums[ends[1]] - sums[ends[0]]
    energy = squares[ends[1]] - squares[ends[0]] - total**2 / len(expected)
    scale = np.sqrt(np.maximum(energy, 1e-30) * (shape @ shape))
    best = int(np.abs(dots / scale).argmax())

    fits = [_between(record, expected, lag) for lag in {best, max(best - 1, 0)}]
    return min(fits, key=lambda fit: fit.residual)


def _between(record: Volts, expected: Volts, lag: int) -> Alignment:
    """Least squares for a delay from ``lag`` to the sample after it.

    Late by a fraction f, sample k of the record is (1 - f) of the expected one and f of the one
    before.
    """
    columns = np.stack([expected[1:], expected[:-1], np.ones(len(expected) - 1)], axis=1)
    found = record[lag + 1 : lag + len(expected)]
    (now, earlier, offset), *_ = np.linalg.lstsq(columns, found, rcond=None)
    gain = now + earlier
    fraction = earlier / gain if gain else 0.0
    residual = found - columns @ (now, earlier, offset)
    spread = found.std()
    left = float(np.sqrt(np.mean(residual**2)))
    inside = -0.5 <= fraction <= 1.5  # else the two columns fight each other over noise
    return Alignment(
        delay=lag + float(fraction),
        gain=float(gain),
        offset=float(offset),
        residual=left if inside else np.inf,
        likeness=float(np.sqrt(max(0.0, 1 - (left / spread) ** 2))) if spread > 0 else 0.0,
    )
