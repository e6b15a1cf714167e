"""What trainings come to: intervals, and means over seeds for each system, task, depth and twin."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any, final

from pnnlab.errors import RangeError
from pnnlab.results.rows import Row

DIGITS = 6
"""Of a fraction: more than a test split of 10 000 samples can tell apart."""
_BESIDE = ("digital_baseline", "linear_baseline", "accuracy_without_physics", "chance")

Key = tuple[str, str, int, str, str, int]


def wilson_interval(accuracy: float, n: int) -> tuple[float, float]:
    """Give the 95 % confidence interval of an accuracy measured on ``n`` samples.

    Parameters
    ----------
    accuracy : float
        Fraction of samples read right, in [0, 1].
    n : int
        Number of samples, at least 1.

    Returns
    -------
    low, high : float
        Wilson's score interval (J. Am. Stat. Assoc. 22, 209, 1927), inside [0, 1].

    Raises
    ------
    RangeError
        If ``accuracy`` is NaN or outside [0, 1], or ``n`` is below 1.
    """
    from scipy.stats import binomtest  # here, because most readers of a row need no scipy

    if not 0.0 <= accuracy <= 1.0:
        raise RangeError(f"The accuracy is {accuracy!r}; give a fraction in [0, 1].")
    if n < 1:
        raise RangeError(f"An interval over {n} samples does not exist; give at least 1.")
    low, high = binomtest(round(accuracy * n), n).proportion_ci(method="wilson")
    return float(low), float(high)


def student_interval(values: Sequence[float]) -> tuple[float, float]:
    """Give the 95 % confidence interval of the mean of accuracies, by Student's t.

    Parameters
    ----------
    values : sequence of float
        One a seed, at least two, in [0, 1].

    Returns
    -------
    low, high : float
        Cut off at 0 and 1.

    Raises
    ------
    RangeError
        If there are fewer than two values.
    """
    from scipy.special import stdtrit

    n = len(values)
    if n < 2:
        raise RangeError(f"An interval over {n} seeds does not exist; give at least 2.")
    half = float(stdtrit(n - 1, 0.975)) * stdev(values) / math.sqrt(n)
    return max(0.0, fmean(values) - half), min(1.0, fmean(values) + half)


@final
@dataclass(frozen=True, kw_only=True)
class Trained:
    """One training on the test split, and what it takes to do it again.

    Attributes
    ----------
    row : Row
        With seed and accuracy, and without its wall-clock time, which is a machine's.
    command : str
        Gives this row, among others.
    versions : Mapping
        Of what it was evaluated with; the row itself names the commit that it was trained with.
    measured : str
        When, UTC, ISO 8601, by the clock of its machine; empty if the summary does not say.
    replaced : tuple of (str, float)
        What it has replaced: when each was measured, and its accuracy.
    """

    row: Row
    command: str
    versions: Mapping[str, str]
    measured: str
    replaced: tuple[tuple[str, float], ...] = ()

    @property
    def mark(self) -> tuple[str, float]:
        """Tells repeats of one training apart."""
        assert self.row.accuracy is not None
        return self.measured, self.row.accuracy

    @property
    def key(self) -> Key:
        """Two trainings with one key are repeats, of which one counts; see `Results.merged`."""
        row = self.row
        assert row.seed is not None
        layers = -1 if row.layers is None else row.layers
        return row.system, row.task, layers, row.twin or "", row.method, row.seed


@final
@dataclass(frozen=True, kw_only=True)
class Score:
    """An accuracy over seeds.

    Attributes
    ----------
    mean : float
    interval : tuple of float or None
        95 %, Student's t; None for one seed.
    values : tuple of (float or None)
        By seed; None where a seed has none.
    """

    mean: float
    interval: tuple[float, float] | None
    values: tuple[float | None, ...]


@final
@dataclass(frozen=True, kw_only=True)
class Method:
    """What one gradient rule came to: accuracies over its seeds, and shots in the mean."""

    seeds: tuple[int, ...]
    accuracy: Score
    accuracy_on_twin: Score | None
    recalibrated_accuracy: Score | None
    device_passes: int | None


@final
@dataclass(frozen=True, kw_only=True)
class ResultLine:
    """A system, task, depth and twin. Fractions that stand beside it are means over trainings.

    Trainings that need no twin, such as the ideal, stand in the lines of every twin.
    """

    system: str
    task: str
    layers: int | None
    twin: str | None
    n_test: int | None
    parameters: int | None
    published: float | None
    digital_baseline: float | None
    linear_baseline: float | None
    accuracy_without_physics: float | None
    chance: float | None
    methods: Mapping[str, Method]
    commands: tuple[str, ...]
    commits: tuple[str, ...]
    versions: tuple[Mapping[str, str], ...]

    def score(self, method: str, name: str = "accuracy") -> Score | None:
        """One of the accuracies of a method."""
        found = self.methods.get(method)
        return getattr(found, name) if found else None


def summed_up(trainings: Iterable[Trained]) -> tuple[ResultLine, ...]:
    """What trainings come to, in their order."""
    places: dict[tuple[str, str, int], list[Trained]] = {}
    for one in trainings:
        places.setdefault(one.key[:3], []).append(one)
    return tuple(
        _line([one for one in place if one.row.twin in (twin, None)], twin)
        for place in places.values()
        for twin in sorted({one.row.twin for one in place if one.row.twin}) or (None,)
    )


def _line(trainings: Sequence[Trained], twin: str | None) -> ResultLine:
    rows = [one.row for one in trainings]
    latest = [one.row for one in sorted(trainings, key=lambda one: one.measured, reverse=True)]
    versions = {json.dumps(one.versions): one.versions for one in trainings if one.versions}
    beside: dict[str, Any] = {
        name: score.mean if (score := _score(rows, name)) else None for name in _BESIDE
    }
    for name in ("n_test", "parameters", "published"):
        beside[name] = next(iter(known(latest, name)), None)
    return ResultLine(
        system=rows[0].system,
        task=rows[0].task,
        layers=rows[0].layers,
        twin=twin,
        methods={
            name: _method([row for row in rows if row.method == name])
            for name in sorted({row.method for row in rows})
        },
        commands=tuple(sorted({one.command for one in trainings})),
        commits=tuple(sorted({row.commit for row in rows if row.commit})),
        versions=tuple(versions[key] for key in sorted(versions)),
        **beside,
    )


def _method(rows: Sequence[Row]) -> Method:
    accuracy = _score(rows, "accuracy")
    assert accuracy is not None, "a row without one is not taken in"
    passes = known(rows, "device_passes")
    return Method(
        seeds=tuple(row.seed for row in rows if row.seed is not None),
        accuracy=accuracy,
        accuracy_on_twin=_score(rows, "accuracy_on_twin"),
        recalibrated_accuracy=_score(rows, "recalibrated_accuracy"),
        device_passes=round(fmean(passes)) if passes else None,
    )


def _score(rows: Sequence[Row], name: str) -> Score | None:
    values = known(rows, name)
    if not values:
        return None
    interval = None
    if len(values) > 1:
        low, high = student_interval(values)
        interval = (round(low, DIGITS), round(high, DIGITS))
    return Score(
        mean=round(fmean(values), DIGITS),
        interval=interval,
        values=tuple(getattr(row, name) for row in rows),
    )


def known(rows: Iterable[Row], name: str) -> list[Any]:
    """The values of a field, of those rows that have one."""
    return [value for row in rows if (value := getattr(row, name)) is not None]
