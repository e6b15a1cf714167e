"""Trainings out of the summaries that notebooks wrote, kept in ``notebooks/results.json``."""

import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self, final

from pnnlab.errors import PnnlabError, RunError
from pnnlab.results.notebooks import read_notebook
from pnnlab.results.rows import FRACTIONS, SUFFIX, Row, Summary, check_scale, read_text
from pnnlab.results.statistics import DIGITS, ResultLine, Trained, summed_up
from pnnlab.results.tables import markdown
from pnnlab.storage import user_path

SCHEMA = 1
FILE = "results.json"
EMBEDDED_TASKS = frozenset({"digits", "mnist-5000", "vowels"})
"""Tasks that come with installed packages; all others read files below ``PNNLAB_DATA``."""


@final
@dataclass(frozen=True, kw_only=True)
class Gathered:
    """Trainings found in summaries, and what was left out: other scales, rows of other kinds."""

    trainings: tuple[Trained, ...] = ()
    summaries: int = 0
    other_scales: int = 0
    other_rows: int = 0


def gather(folders: Iterable[str | Path], notebooks: Path, *, scale: str = "paper") -> Gathered:
    """Take in every summary below some folders: in their order, and in each by its clocks.

    Parameters
    ----------
    folders : iterable of path
    notebooks : Path
        Where the notebooks lie; what is said in a command is what differs from their defaults.
    scale : str
        Summaries of other scales are left out, and so are rows that are not of the test split,
        or have no seed or no accuracy.

    Raises
    ------
    RunError
        A folder is not there, or a summary is damaged.
    """
    summaries: list[Summary] = []
    for folder in map(user_path, folders):
        if not folder.is_dir():
            raise RunError(
                f"{folder} is not a folder; name one that `pnnlab run --out` wrote its results to."
            )
        below = [Summary.read(path) for path in sorted(folder.rglob(f"*{SUFFIX}"))]
        summaries += sorted(below, key=lambda one: str(one.provenance.get("written", "")))
    chosen = [summary for summary in summaries if summary.scale == scale]
    rows = [(summary, row) for summary in chosen for row in summary.rows]
    kept = [(summary, row) for summary, row in rows if _is_training(row)]
    return Gathered(
        trainings=tuple(_trained(row, summary, notebooks) for summary, row in kept),
        summaries=len(summaries),
        other_scales=len(summaries) - len(chosen),
        other_rows=len(rows) - len(kept),
    )


def command(summary: Summary, task: str, defaults: Mapping[str, object]) -> str:
    """The command that makes a summary with rows of this task.

    Parameters
    ----------
    summary : Summary
    task : str
    defaults : Mapping
        Of the notebook's parameters; those equal to their defaults are not said, nor is ``out``.
    """
    words = ["pnnlab", "run", summary.notebook]
    for name, value in summary.parameters.items():
        if name != "out" and (name not in defaults or defaults[name] != value):
            words += ["-p", name, value if isinstance(value, str) else _literal(value)]
    data = "" if task in EMBEDDED_TASKS else "PNNLAB_DATA=DIR "
    return data + shlex.join(words)


def _literal(value: object) -> str:
    """A parameter as the command line reads it: Python, which mostly is JSON, with its quotes."""
    text = json.dumps(value, ensure_ascii=False)
    return repr(value) if re.search(r"\b(true|false|null)\b", text) else text


def _is_training(row: Row) -> bool:
    """Whether a row can stand in the table: of the test split, with a seed and an accuracy."""
    return row.split in (None, "test") and row.seed is not None and row.accuracy is not None


def _trained(row: Row, summary: Summary, notebooks: Path) -> Trained:
    path = notebooks / f"{summary.notebook}.ipynb"
    defaults = read_notebook(path).parameters if path.is_file() else {}
    told: Any = summary.provenance
    fractions = {
        name: round(value, DIGITS)
        for name in FRACTIONS
        if (value := getattr(row, name)) is not None
    }
    commit = row.commit or told.get("commit")
    return Trained(
        row=replace(row, seconds=None, commit=commit, **fractions),
        command=command(summary, row.task, defaults),
        versions=dict(told.get("versions", {})),
        measured=told.get("written", ""),
    )


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
        check_scale(self.scale)
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
    def lines(self) -> tuple[ResultLine, ...]:
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
    if not _is_training(training.row):
        raise ValueError("a training in it has no seed, no accuracy or is not of the test split")
    return training


def _damaged(path: str | Path, error: Exception) -> str:
    return f"{path} does not hold results ({error}); get it back with `git checkout`."


def _listed(texts: Sequence[str]) -> str:
    return "[\n  " + ",\n  ".join(texts) + "\n ]" if texts else "[]"
