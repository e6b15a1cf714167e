"""What trainings come to: means over seeds, one line a system, task, depth and twin."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, final

from pnnlab.results.gathering import DIGITS, Trained
from pnnlab.summary import Row, student_interval

_BESIDE = ("digital_baseline", "linear_baseline", "accuracy_without_physics", "chance")


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
class Line:
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


def summed_up(trainings: Iterable[Trained]) -> tuple[Line, ...]:
    """What trainings come to, in their order."""
    places: dict[tuple[str, str, int], list[Trained]] = {}
    for one in trainings:
        places.setdefault(one.key[:3], []).append(one)
    return tuple(
        _line([one for one in place if one.row.twin in (twin, None)], twin)
        for place in places.values()
        for twin in sorted({one.row.twin for one in place if one.row.twin}) or (None,)
    )


def _line(trainings: Sequence[Trained], twin: str | None) -> Line:
    rows = [one.row for one in trainings]
    latest = [one.row for one in sorted(trainings, key=lambda one: one.measured, reverse=True)]
    methods: dict[str, list[Row]] = {}
    for row in rows:
        methods.setdefault(row.method, []).append(row)
    versions = {json.dumps(one.versions): one.versions for one in trainings if one.versions}
    return Line(
        system=rows[0].system,
        task=rows[0].task,
        layers=rows[0].layers,
        twin=twin,
        n_test=_first(latest, "n_test"),
        parameters=_first(latest, "parameters"),
        published=_first(latest, "published"),
        **{name: _mean(_values(rows, name)) for name in _BESIDE},
        methods={name: _method(methods[name]) for name in sorted(methods)},
        commands=tuple(sorted({one.command for one in trainings})),
        commits=tuple(sorted({row.commit for row in rows if row.commit})),
        versions=tuple(versions[key] for key in sorted(versions)),
    )


def _method(rows: Sequence[Row]) -> Method:
    accuracy = _score(rows, "accuracy")
    assert accuracy is not None, "a row without one is not taken in"
    passes = [row.device_passes for row in rows if row.device_passes is not None]
    return Method(
        seeds=tuple(row.seed for row in rows if row.seed is not None),
        accuracy=accuracy,
        accuracy_on_twin=_score(rows, "accuracy_on_twin"),
        recalibrated_accuracy=_score(rows, "recalibrated_accuracy"),
        device_passes=round(fmean(passes)) if passes else None,
    )


def _score(rows: Sequence[Row], name: str) -> Score | None:
    values = _values(rows, name)
    known = [value for value in values if value is not None]
    if not known:
        return None
    interval = None
    if len(known) > 1:
        low, high = student_interval(known)
        interval = (round(low, DIGITS), round(high, DIGITS))
    return Score(mean=round(fmean(known), DIGITS), interval=interval, values=tuple(values))


def _values(rows: Iterable[Row], name: str) -> list[float | None]:
    return [getattr(row, name) for row in rows]


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(fmean(known), DIGITS) if known else None


def _first(rows: Iterable[Row], name: str) -> Any:
    return next((value for row in rows if (value := getattr(row, name)) is not None), None)
