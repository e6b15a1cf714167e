"""`Results`: all trainings in one file that stays the same until one of them does."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self, final

from pnnlab import storage
from pnnlab.errors import PnnlabError, RangeError, RunError
from pnnlab.results.gathering import Trained, is_training
from pnnlab.results.lines import Line, summed_up
from pnnlab.results.table import markdown
from pnnlab.storage import user_path
from pnnlab.summary import SCALES, Row

SCHEMA = 1
FILE = "results.json"


@final
@dataclass(frozen=True)
class Results:
    """All trainings of one scale, in the order of their keys.

    Attributes
    ----------
    scale : str
    trainings : tuple of Trained
    """

    scale: str = "paper"
    trainings: tuple[Trained, ...] = ()

    def __post_init__(self) -> None:
        if self.scale not in SCALES:
            raise RangeError(f"There is no scale {self.scale!r}; give one of {', '.join(SCALES)}.")
        ordered = tuple(sorted(self.trainings, key=lambda one: one.key))
        object.__setattr__(self, "trainings", ordered)

    def merged(self, others: Iterable[Trained]) -> Self:
        """Add trainings. Of repeats the last one counts; one that was replaced stays so.

        That is the order in which they were gathered. The clocks of two machines tell none.
        """
        return replace(self, trainings=self._settled(others)[0])

    def repeats(self, others: Iterable[Trained]) -> tuple[str, ...]:
        """Say, one line each, what `merged` does with repeats."""
        return self._settled(others)[1]

    def _settled(self, others: Iterable[Trained]) -> tuple[tuple[Trained, ...], tuple[str, ...]]:
        held = {one.key: one for one in self.trainings}
        told = []
        for other in others:
            known = held.setdefault(other.key, other)
            if other.mark in known.replaced:
                told.append(f"{_named(other)}: left {_said(other)}, which was replaced before")
                continue
            before = known.replaced
            if other.mark != known.mark:
                told.append(f"{_named(other)}: took {_said(other)} in place of {_said(known)}")
                if other.command != known.command:
                    told[-1] += f"; by {other.command}, not {known.command}"
                before = (*before, known.mark)
            held[other.key] = replace(other, replaced=before)
        return tuple(held.values()), tuple(told)

    @property
    def lines(self) -> tuple[Line, ...]:
        """What the trainings come to."""
        return summed_up(self.trainings)

    def text(self) -> str:
        """The file: JSON with one line or training on each line of text."""
        lines = [json.dumps(asdict(line), ensure_ascii=False) for line in self.lines]
        trainings = [json.dumps(_as_data(one), ensure_ascii=False) for one in self.trainings]
        return (
            f'{{\n "schema": {SCHEMA},\n "scale": {json.dumps(self.scale)},\n'
            f' "lines": {_listed(lines)},\n "trainings": {_listed(trainings)}\n}}\n'
        )

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read the file back. Its lines are computed anew from its trainings.

        Raises
        ------
        RunError
            The file is missing, damaged, or of another schema.
        """
        text = read_text(path)
        try:
            data = json.loads(text)
            schema = data["schema"]
        except (ValueError, LookupError, TypeError) as error:
            raise RunError(_damaged(path, error)) from error
        if schema != SCHEMA:
            raise RunError(
                f"{path} has schema {schema} and this pnnlab reads {SCHEMA}; use the version of "
                "pnnlab that wrote it."
            )
        try:
            results = cls(data["scale"], tuple(map(_read_trained, data["trainings"])))
            if len({one.key for one in results.trainings}) < len(results.trainings):
                raise ValueError("a training is in it twice")
        except (ValueError, LookupError, TypeError, AttributeError, PnnlabError) as error:
            raise RunError(_damaged(path, error)) from error
        return results

    def markdown(self) -> str:
        """The table, and the notes that it takes to read it."""
        return markdown(self.lines)


def read_text(path: str | Path) -> str:
    """Read a text file.

    Raises
    ------
    RunError
        It is missing, or cannot be read.
    """
    try:
        return user_path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{path} cannot be read ({error}); check its name.") from error


def write(path: str | Path, text: str) -> None:
    """Write a file, whole or not at all.

    Raises
    ------
    RunError
        It cannot be written.
    """
    try:
        storage.write(user_path(path), text)
    except OSError as error:
        raise RunError(
            f"{path} cannot be written ({error.strerror or error}); make room, or check its folder."
        ) from error


def _named(trained: Trained) -> str:
    row = trained.row
    depth = "" if row.layers is None else f", {row.layers} layers"
    twin = "" if row.twin is None else f", {row.twin} twin"
    return f"{row.system}, {row.task}{depth}, {row.method}{twin}, seed {row.seed}"


def _said(trained: Trained) -> str:
    measured, accuracy = trained.mark
    return f"{accuracy:.2%} ({measured or 'undated'})"


def _as_data(trained: Trained) -> dict[str, Any]:
    """What is not known is left out, so that a row of tomorrow's fields changes nothing here."""
    data = asdict(trained)
    if not trained.replaced:
        del data["replaced"]
    return {**data, "row": {k: value for k, value in data["row"].items() if value is not None}}


def _read_trained(data: dict[str, Any]) -> Trained:
    replaced = tuple((time, float(accuracy)) for time, accuracy in data.get("replaced", ()))
    training = Trained(**{**data, "row": Row(**data["row"]), "replaced": replaced})
    times = (training.measured, *(time for time, _ in replaced))
    texts = (training.command, *times, *training.versions.values())
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("a command, a version or a time in it is not text")
    if not is_training(training.row):
        raise ValueError("a training in it has no seed, no accuracy or is not of the test split")
    return training


def _damaged(path: str | Path, error: Exception) -> str:
    return f"{path} does not hold results ({error}); get it back with `git checkout`."


def _listed(texts: Sequence[str]) -> str:
    return "[\n  " + ",\n  ".join(texts) + "\n ]" if texts else "[]"
