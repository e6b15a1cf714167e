"""Intervals that allow for seeds and for the size of the test set, and verdicts on pairs."""

import base64
import math
from collections.abc import Sequence
from statistics import fmean, variance
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from pnnlab.errors import RangeError
from pnnlab.results.rows import Row

MARGIN = 0.01
"""Difference of accuracies within which two methods are called equal."""

MANY = 1e6  # degrees of freedom of a normal distribution, as it were


def packed(correct: Sequence[bool] | NDArray[Any]) -> str:
    """Write which test samples were classified right as text, eight samples a byte, base64."""
    return base64.b64encode(np.packbits(np.asarray(correct, bool)).tobytes()).decode("ascii")


def unpacked(text: str, n: int) -> NDArray[np.bool_]:
    """Read `packed` text of ``n`` samples, or raise a `RangeError`."""
    try:
        bits = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
    except ValueError as error:
        raise RangeError(f"{text[:20]!r} is not the base64 text of test samples.") from error
    if len(bits) != math.ceil(n / 8):
        raise RangeError(f"this text is of {8 * len(bits)} samples or a few fewer, not of {n}.")
    return np.unpackbits(bits, count=n).astype(bool)


class Estimate(NamedTuple):
    """A mean over seeds and test samples with its 95 % interval."""

    mean: float
    low: float
    high: float


def mean_interval(accuracies: Sequence[float], n: int | None) -> Estimate:
    """Mean accuracy over seeds, each on ``n`` samples, with its 95 % interval for new ones of both.

    Its variance is that of the seeds, and that of as many samples, which all seeds share; since
    seeds do not all fail on the same samples this is at most a little too wide. The interval is
    Wilson's (J. Am. Stat. Assoc. 22, 209, 1927) for a number of samples with this variance. Of one
    seed it does not cover how seeds differ, and without ``n`` only that. Raises a `RangeError`.
    """
    seeds, p = len(accuracies), fmean(accuracies) if accuracies else math.nan
    if not seeds or (seeds == 1 and not n) or not 0 <= p <= 1:
        raise RangeError(
            f"{seeds} accuracies {tuple(accuracies)} of {n} samples have no interval; give "
            "fractions in [0, 1], and the number of test samples."
        )
    by_seed = variance(accuracies) / seeds if seeds > 1 else 0.0
    by_sample = p * (1 - p) / n if n else 0.0
    total = by_seed + by_sample
    # That of the samples follows from the mean: it has no degrees of freedom of its own.
    freedom = (seeds - 1) * (total / by_seed) ** 2 if by_seed else MANY
    size = p * (1 - p) / total if total and 0 < p < 1 else n or math.inf
    t = float(stdtrit(min(freedom, MANY), 0.975))
    share = t**2 / size
    centre, half = p + share / 2, t * math.sqrt(p * (1 - p) / size + share / (4 * size))
    low, high = ((centre + sign * half) / (1 + share) for sign in (-1, 1))
    return Estimate(p, max(0.0, min(p, low)), min(1.0, max(p, high)))


def difference_interval(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> Estimate:
    """Difference of two accuracies, paired by seed and test sample, with its 95 % interval.

    ``first`` and ``second`` have shape (seeds, samples). Both are random: two-way random effects
    without repeats, variance (MS_seed + MS_sample - MS_rest) / (seeds * samples), degrees of
    freedom by F. E. Satterthwaite, Biometrics Bull. 2, 110 (1946).
    """
    a, b = (np.atleast_2d(np.asarray(one, float)) for one in (first, second))
    if a.shape != b.shape or a.shape[1] < 2:
        raise RangeError(
            f"a pair needs the same seeds and test samples, at least 2; these are {a.shape} and "
            f"{b.shape}."
        )
    values = a - b
    seeds, n = values.shape
    by_seed, by_sample, mean = values.mean(1), values.mean(0), float(values.mean())
    of_samples = total = float(by_sample.var(ddof=1)) * seeds
    freedom = n - 1.0
    if seeds > 1:
        of_seeds = float(by_seed.var(ddof=1)) * n
        rest = float(np.square(values - by_sample - by_seed[:, None] + mean).sum())
        # Neither part can be below what the rest alone makes of it.
        total = of_seeds + of_samples - rest / ((seeds - 1) * (n - 1))
        total = max(total, of_seeds, of_samples)
        parts = of_seeds**2 / (seeds - 1) + of_samples**2 / (n - 1)
        freedom = total**2 / parts if parts else freedom
    # A difference that was never seen may be there: as of one sample more, either way.
    half = float(stdtrit(freedom, 0.975)) * math.sqrt(max(total / (seeds * n), 1 / n**2))
    return Estimate(mean, mean - half, mean + half)


def paired(first: Sequence[Row], second: Sequence[Row]) -> Estimate:
    """Difference of the accuracies of two methods as they are used, by `difference_interval`.

    Raises a `RangeError` if rows are of other seeds or do not say which samples were right.
    """
    by_seed = [{row.seed: row for row in rows} for rows in (first, second)]
    seeds = list(by_seed[0])
    if not seeds or set(seeds) != set(by_seed[1]):
        raise RangeError(f"these methods have the seeds {[list(one) for one in by_seed]}.")

    def right(row: Row) -> NDArray[np.bool_]:
        text = row.recalibrated_correct or row.correct
        if text is None or row.n_test is None:
            raise RangeError(f"the row of {row.method} does not say which samples were right.")
        return unpacked(text, row.n_test)

    return difference_interval(*(np.stack([right(one[s]) for s in seeds]) for one in by_seed))


def verdict(difference: Estimate) -> Literal["better", "worse", "equal", "not known"]:
    """Say what a difference shows: the first better, worse, equal within `MARGIN`, or not known."""
    if difference.low > -MARGIN and difference.high < MARGIN:
        return "equal"  # it may be real, and is too small to matter
    if difference.low > 0:
        return "better"
    if difference.high < 0:
        return "worse"
    return "not known"
