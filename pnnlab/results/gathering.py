"""Gather trainings from the summaries of notebooks into ``notebooks/results.json``."""

import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import Any, Self, final

from pnnlab.errors import NotebookError, PnnlabError, RangeError, RunError
from pnnlab.results.notebooks import choose, list_notebooks
from pnnlab.results.rows import (
    FRACTIONS,
    SUFFIX,
    Row,
    Summary,
    check_scale,
    mean_interval,
    paired,
    read_json,
    verdict,
)
from pnnlab.results.tables import POWERS, UNTRAINED, Line, known, lines_table
from pnnlab.storage import user_path

SCHEMA = 1
SCORES = ("accuracy", "accuracy_on_twin", "recalibrated_accuracy")
FILE = "results.json"
DIGITS = 6
"""Of a fraction: more than a test split of 10 000 samples resolves."""
EMBEDDED_TASKS = frozenset({"digits", "mnist-5000", "vowels"})
"""Tasks that come with installed packages; all others read files below ``PNNLAB_DATA``."""


@final
@dataclass(frozen=True, kw_only=True)
class Trained:
    """One training on the test split, and what it takes to do it again."""

    row: Row  # with seed and accuracy, and without wall-clock time: that is the machine's
    command: str  # gives this row, among others
    versions: Mapping[str, str]  # when evaluated; the commit in the row is that of the training
    measured: str  # UTC, ISO 8601, by the clock of its machine; empty if the summary has none
    replaced: tuple[tuple[str, float], ...] = ()  # `measurement` of each that it took the place of

    @property
    def measurement(self) -> tuple[str, float]:
        """When it was measured, and its accuracy: repeats of one training differ in them."""
        assert self.row.accuracy is not None
        return self.measured, self.row.accuracy

    @property
    def notebook(self) -> str:
        """Which one gave it: each has settings of its own."""
        return shlex.split(self.command.partition("pnnlab run ")[2])[0]

    @property
    def place(self) -> tuple[str, str, int, int, str, int]:
        """What stands in one line of the table; tasks with fewer classes have other test splits."""
        row = self.row
        layers = -1 if row.layers is None else row.layers
        # Rows of a real device, and of before there were units, have none: they are of the first.
        return row.system, row.task, layers, row.unit or 0, self.notebook, row.n_test or 0

    @property
    def key(self) -> tuple[tuple[str, str, int, int, str, int], str, str, int]:
        """Two trainings with one key are repeats, of which one counts; see `Results.merged`."""
        row = self.row
        assert row.seed is not None
        return self.place, row.twin or "", row.method, row.seed

    def __str__(self) -> str:
        row = self.row
        depth = "" if row.layers is None else f", {row.layers} layers"
        twin = "" if row.twin is None else f", {row.twin} twin"
        return f"{row.device}, {row.task}{depth}, {row.method}{twin}, seed {row.seed}"


def gather(
    folders: Iterable[str | Path], notebooks: Path, *, scale: str = "paper"
) -> tuple[list[Trained], str]:
    """Read every summary below some folders, in their order and in each by its clocks.

    Give the trainings, and how many were left out. A command names what differs from the defaults
    of its notebook, in ``notebooks``.
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
    rows = [(row, summary) for summary in chosen for row in summary.rows]
    trainings = [_trained(*one, notebooks) for one in rows if _is_training(one[0])]
    report = f"{len(trainings)} trainings in {len(summaries)} summaries"
    if len(chosen) < len(summaries):
        report += f"; left out: {len(summaries) - len(chosen)} summaries of other scales"
    if len(trainings) < len(rows):
        report += f"; left out: {len(rows) - len(trainings)} rows of other kinds"
    return trainings, report


def update(
    file: Path, folders: Iterable[str | Path], notebooks: Path, scale: str
) -> tuple["Results", str]:
    """Add what is below some folders to the results of a file; give them, and what was done."""
    table = Results.read(file) if file.exists() else Results(scale)
    if table.scale != scale:
        raise PnnlabError(
            f"{file} holds results of scale {table.scale}; give --scale {table.scale}, or another "
            "file with --json."
        )
    trainings, report = gather(folders, notebooks, scale=scale)
    table, repeats = table.merged(trainings)
    text = f"Merged into {file}: {report}"
    if not repeats:
        return table, f"{text}."
    rule = (
        "Of repeats the one gathered last counts: folders in the order in which they are named, in "
        "one folder by its clocks, which may differ between machines. To choose another, get "
        f"{file} back with `git checkout` and name the folders in order."
    )
    return table, "\n".join((f"{text}. Repeats:", *(f"- {one}." for one in repeats), rule))


def command(summary: Summary, task: str, defaults: Mapping[str, object]) -> str:
    """Give the command that makes a summary with rows of this task, without defaults or ``out``."""

    def literal(value: object) -> str:  # JSON, or Python where they differ
        text = json.dumps(value, ensure_ascii=False)
        return repr(value) if re.search(r"\b(true|false|null)\b", text) else text

    words = ["pnnlab", "run", summary.notebook]
    for name, value in summary.parameters.items():
        if name != "out" and (name not in defaults or defaults[name] != value):
            words += ["-p", name, value if isinstance(value, str) else literal(value)]
    data = "" if task in EMBEDDED_TASKS else "PNNLAB_DATA=DIR "
    return data + shlex.join(words)


def _is_training(row: Row) -> bool:
    return row.split in (None, "test") and row.seed is not None and row.accuracy is not None


def _trained(row: Row, summary: Summary, notebooks: Path) -> Trained:
    defaults: Mapping[str, object] = {}
    with suppress(NotebookError):  # it may be gone
        defaults = choose(list_notebooks(notebooks), [summary.notebook])[0].parameters
    code: Mapping[str, Any] = summary.provenance
    changes: dict[str, Any] = {
        name: round(value, DIGITS) for name in FRACTIONS for value in known([row], name)
    }
    changes |= {"seconds": None, "commit": row.commit or code.get("commit")}
    if row.recalibrated_correct:  # which pairs are judged by
        changes["correct"] = None
    unit = summary.parameters.get("unit")
    if row.unit is None and isinstance(unit, int):  # an old row, of a notebook that sets the unit
        changes["unit"] = unit
    return Trained(
        row=replace(row, **changes),
        command=command(summary, row.task, defaults),
        versions=dict(code.get("versions", {})),
        measured=code.get("written", ""),
    )


@final
@dataclass(frozen=True)
class Results:
    """All trainings of one scale, in the order of their keys."""

    scale: str = "paper"
    trainings: tuple[Trained, ...] = ()

    def __post_init__(self) -> None:
        check_scale(self.scale)
        ordered = tuple(sorted(self.trainings, key=lambda one: one.key))
        object.__setattr__(self, "trainings", ordered)

    def merged(self, others: Iterable[Trained]) -> tuple[Self, tuple[str, ...]]:
        """Add trainings; give the results, and what was done with each repeat: the last counts."""

        def dated(one: Trained) -> str:
            measured, accuracy = one.measurement
            return f"{accuracy:.2%} ({measured or 'undated'})"

        held = {one.key: one for one in self.trainings}
        repeats = []
        for other in others:
            present = held.setdefault(other.key, other)
            if other.measurement in present.replaced:
                repeats.append(f"{other}: left {dated(other)}, which was replaced before")
                continue
            replaced = present.replaced
            if other.measurement != present.measurement:
                repeat = f"{other}: took {dated(other)} in place of {dated(present)}"
                if other.command != present.command:
                    repeat += f"; by {other.command}, not {present.command}"
                repeats.append(repeat)
                replaced = (*replaced, present.measurement)
            held[other.key] = replace(other, replaced=replaced)
        return replace(self, trainings=tuple(held.values())), tuple(repeats)

    @property
    def lines(self) -> list[Line]:
        """Means over seeds for each place and twin."""
        return [  # what needs no twin, such as the ideal, stands in the lines of every twin
            _line(twin, [one for one in place if one.row.twin in (twin, None)])
            for _, group in groupby(self.trainings, lambda one: one.place)
            for place in [tuple(group)]
            for twin in sorted({one.row.twin for one in place if one.row.twin}) or (None,)
        ]

    def text(self) -> str:
        """The file: JSON with one line or training on each line of text."""
        trainings = [asdict(one) for one in self.trainings]
        for data in trainings:  # nothing unknown: a new field of rows changes nothing in the file
            data["row"] = {key: value for key, value in data["row"].items() if value is not None}
            if not data["replaced"]:
                del data["replaced"]

        def listed(items: Sequence[Any]) -> str:
            texts = (json.dumps(item, ensure_ascii=False) for item in items)
            return "[\n  " + ",\n  ".join(texts) + "\n ]" if items else "[]"

        return (
            f'{{\n "schema": {SCHEMA},\n "scale": {json.dumps(self.scale)},\n'
            f' "lines": {listed(self.lines)},\n "trainings": {listed(trainings)}\n}}\n'
        )

    def markdown(self) -> str:
        """The table, and the notes that it takes to read it."""
        return lines_table(self.lines)

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read the file back, or raise a `RunError`. Lines are computed anew from trainings."""

        def decoded(data: dict[str, Any]) -> Self:
            if data["schema"] != SCHEMA:
                raise ValueError(f"schema {data['schema']}, where this pnnlab reads {SCHEMA}")
            results = cls(data["scale"], tuple(map(_read_trained, data["trainings"])))
            if len({one.key for one in results.trainings}) < len(results.trainings):
                raise ValueError("a training is in it twice")
            return results

        remedy = "get it back with `git checkout`, or use the version of pnnlab that wrote it"
        return read_json(path, "file of results", remedy, decoded, checked=False)


def _line(twin: str | None, trainings: Sequence[Trained]) -> Line:
    rows = [one.row for one in trainings]
    latest = [one.row for one in sorted(trainings, key=lambda one: one.measured, reverse=True)]
    # Parameters, the MLP and the paper's figure of a line are those of the trained device.
    none: dict[str, Any] = {"parameters": None, "digital_baseline": None, "published": None}
    latest = [replace(r, **none) if r.method in (UNTRAINED, *POWERS) else r for r in latest]
    versions = {json.dumps(one.versions): one.versions for one in trainings if one.versions}

    pat = [row for row in rows if row.method == "PAT"]
    methods, pairs = {}, {}
    for name in sorted({row.method for row in rows}):
        own = [row for row in rows if row.method == name]
        passes = known(own, "device_passes")
        methods[name] = {
            "seeds": [row.seed for row in own],
            **{score: _score(own, score) for score in SCORES},
            "device_passes": round(fmean(passes)) if passes else None,
        }
        if name != "PAT":
            with suppress(RangeError):  # rows of before samples were kept, or of other seeds
                pairs[name] = verdict(paired(pat, own))
    newest = ("n_test", "parameters", "published")
    means = ("digital_baseline", "linear_baseline", "accuracy_without_physics", "chance")
    # All methods of a seed have the same digital networks beside them; the newest count.
    digital = {
        name: [*{row.seed: row for row in latest[::-1] if known([row], name)}.values()]
        for name in means
    }
    return {
        "notebook": trainings[0].notebook,
        "system": rows[0].device,
        "task": rows[0].task,
        "layers": rows[0].layers,
        "twin": twin,
        **{name: next(iter(known(latest, name)), None) for name in newest},
        **{name: (_score(own, name) or {"mean": None})["mean"] for name, own in digital.items()},
        "methods": methods,
        "pairs": pairs,
        "commands": sorted({one.command for one in trainings}),
        "commits": sorted({row.commit for row in rows if row.commit}),
        "versions": [versions[key] for key in sorted(versions)],
    }


def _score(rows: Sequence[Row], name: str) -> dict[str, Any] | None:
    values = known(rows, name)
    if not values:
        return None
    sizes = known(rows, "n_test")
    found = mean_interval(values, min(sizes)) if sizes else None
    return {
        "mean": round(fmean(values), DIGITS),
        "interval": [round(end, DIGITS) for end in (found.low, found.high)] if found else None,
        "values": [getattr(row, name) for row in rows],  # None where a seed has none
    }


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
