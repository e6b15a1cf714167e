"""Intervals that allow for seeds and for the size of the test set, and verdicts on pairs."""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from pnnlab.errors import RangeError

MARGIN = 0.01
"""Difference of accuracies within which two methods are called equal."""

Verdict = Literal["better", "worse", "equal", "not known"]


def packed(correct: Sequence[bool] | NDArray[Any]) -> str:
    """Write which test samples were classified right as text, eight samples a byte, base64."""
    return base64.b64encode(np.packbits(np.asarray(correct, bool)).tobytes()).decode("ascii")


def unpacked(text: str, n: int) -> NDArray[np.bool_]:
    """Read `packed` text of ``n`` samples.

    Raises
    ------
    RangeError
        The text is not of so many samples.
    """
    try:
        bits = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
    except ValueError as error:
        raise RangeError(f"{text[:20]!r} is not the base64 text of test samples.") from error
    if len(bits) != math.ceil(n / 8):
        raise RangeError(f"this text is of {8 * len(bits)} samples or a few fewer, not of {n}.")
    return np.unpackbits(bits, count=n).astype(bool)


@final
@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and test samples with its 95 % interval."""

    mean: float
    low: float
    high: float


def _variance(values: NDArray[np.float64]) -> tuple[float, float]:
    """Variance of the mean of (seeds, samples), both random, and its degrees of freedom.

    Two-way random effects without repeats: (MS_seed + MS_sample - MS_rest) / (seeds * samples),
    degrees of freedom by F. E. Satterthwaite, Biometrics Bull. 2, 110 (1946).
    """
    seeds, n = values.shape
    by_sample = values.mean(0)
    samples = float(by_sample.var(ddof=1)) * seeds
    if seeds == 1:
        return samples / n, n - 1.0
    by_seed = float(values.mean(1).var(ddof=1)) * n
    rest = values - by_sample - values.mean(1, keepdims=True) + values.mean()
    noise = float(np.square(rest).sum()) / ((seeds - 1) * (n - 1))
    total = by_seed + samples - noise
    # Neither part can be below what the rest alone makes of it.
    total = max(total, by_seed, samples)
    parts = (by_seed**2 / (seeds - 1), samples**2 / (n - 1))
    freedom = total**2 / sum(parts) if sum(parts) else n - 1.0
    return total / (seeds * n), freedom


def _quantile(freedom: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.975))


def accuracy_interval(correct: NDArray[np.bool_]) -> Estimate:
    """Accuracy with the 95 % interval for new seeds and new test samples.

    Wilson's score interval (J. Am. Stat. Assoc. 22, 209, 1927) for as many samples as have the
    variance that seeds and samples have together.

    Parameters
    ----------
    correct : array, (seeds, samples), bool
        All seeds on the same test samples.
    """
    values = np.atleast_2d(np.asarray(correct, float))
    n = values.shape[1]
    if n < 2:
        raise RangeError(f"An interval over {n} test samples does not exist; give at least 2.")
    p = float(values.mean())
    variance, freedom = _variance(values)
    size = min(p * (1 - p) / variance, n * len(values)) if variance else float(n)
    t = _quantile(freedom)
    centre = (p + t**2 / (2 * size)) / (1 + t**2 / size)
    half = t / (1 + t**2 / size) * math.sqrt(p * (1 - p) / size + (t / (2 * size)) ** 2)
    return Estimate(p, max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half)))


def difference_interval(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> Estimate:
    """Difference of two accuracies, paired by seed and test sample, with its 95 % interval.

    Parameters
    ----------
    first, second : array, (seeds, samples), bool

    Raises
    ------
    RangeError
        They are not of the same seeds and samples.
    """
    a, b = (np.atleast_2d(np.asarray(one, float)) for one in (first, second))
    if a.shape != b.shape or a.shape[1] < 2:
        raise RangeError(
            f"a pair needs the same seeds and test samples, at least 2; these are {a.shape} and "
            f"{b.shape}."
        )
    mean = float((a - b).mean())
    variance, freedom = _variance(a - b)
    # A difference that was never seen may be there: as of one sample more, either way.
    half = _quantile(freedom) * math.sqrt(max(variance, 1 / a.shape[1] ** 2))
    return Estimate(mean, mean - half, mean + half)


def verdict(difference: Estimate, margin: float = MARGIN) -> Verdict:
    """Say what a difference shows: the first better or worse, both equal within a margin, or not.

    An interval that excludes 0 and lies within the margin is called equal: such a difference is
    real, and too small to matter.
    """
    if -margin < difference.low and difference.high < margin:
        return "equal"
    if difference.low > 0:
        return "better"
    if difference.high < 0:
        return "worse"
    return "not known"
