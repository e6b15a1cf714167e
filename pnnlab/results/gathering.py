"""Take finished trainings out of the summaries that notebooks wrote."""

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from pnnlab.errors import RunError
from pnnlab.series import read_notebook
from pnnlab.storage import user_path
from pnnlab.summary import FRACTIONS, SUFFIX, Row, Summary

EMBEDDED_TASKS = frozenset({"digits", "mnist-5000", "vowels"})
"""Tasks that come with installed packages; all others read files below ``PNNLAB_DATA``."""
DIGITS = 6
"""Of a fraction: more than a test split of 10 000 samples can tell apart."""

Key = tuple[str, str, int, str, str, int]


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
    kept = [(summary, row) for summary, row in rows if is_training(row)]
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


def is_training(row: Row) -> bool:
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
