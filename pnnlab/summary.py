"""What a notebook hands on: a few rows of results, written as JSON, and the table made of them.

A :class:`Row` is one training run: its accuracy on the system beside everything needed to judge
it (its own twin, a recalibration, the digital baseline, chance, the cost in device passes). A
:class:`Summary` is the rows of one notebook. :func:`results_table` averages them over seeds.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from statistics import NormalDist, fmean, stdev
from typing import Self, final

from pnnlab.errors import RangeError, RunError
from pnnlab.provenance import commit, utc_now, versions
from pnnlab.storage import user_path, write

SUFFIX = ".summary.json"
SCALES = ("smoke", "quick", "paper")

_Z95 = NormalDist().inv_cdf(0.975)
FRACTIONS = (
    "accuracy",
    "accuracy_on_twin",
    "recalibrated_accuracy",
    "digital_baseline",
    "linear_baseline",
    "accuracy_without_physics",
    "chance",
    "published",
)
_COUNTS = ("layers", "seed", "n_test", "parameters", "device_passes")


@final
@dataclass(frozen=True, kw_only=True)
class Row:
    """One result. ``None`` where a field does not apply.

    Attributes
    ----------
    system, task, method : str
        What was trained, on what, and by which gradient rule.
    twin : str or None
        The kind of twin that gave the gradients.
    layers : int or None
        Depth of the physical network.
    seed : int or None
        Seed of this training.
    split : str or None
        The samples behind the accuracies, such as ``"test"`` or ``"validation"``.
    n_test : int or None
        How many they are.
    accuracy : float or None
        Fraction of them read right by the system itself, in [0, 1]; so are the next seven.
    accuracy_on_twin : float or None
        The same network, run on its own twin.
    recalibrated_accuracy : float or None
        On the system, after its normalisation was measured again there.
    digital_baseline : float or None
        A digital network (MLP) with at most as many parameters, trained by the same loop.
    linear_baseline : float or None
        A linear digital classifier, trained by the same loop.
    accuracy_without_physics : float or None
        The digital layers of a hybrid network, trained without the physical ones.
    chance : float or None
        Guessing.
    published : float or None
        The figure that a paper gives for this system and task.
    parameters : int or None
        Trainable numbers in the network.
    device_passes : int or None
        How often the system was driven, summed over samples, training and test.
    seconds : float or None
        Wall-clock time of this training, in seconds.
    commit : str or None
        Source revision with which the training began; it ends in ``-dirty`` where there were
        uncommitted changes.

    Raises
    ------
    RangeError
        If an accuracy is NaN or outside [0, 1], or a count or a time is negative.
    """

    system: str
    task: str
    method: str
    twin: str | None = None
    layers: int | None = None
    seed: int | None = None
    split: str | None = None
    n_test: int | None = None
    accuracy: float | None = None
    accuracy_on_twin: float | None = None
    recalibrated_accuracy: float | None = None
    digital_baseline: float | None = None
    linear_baseline: float | None = None
    accuracy_without_physics: float | None = None
    chance: float | None = None
    published: float | None = None
    parameters: int | None = None
    device_passes: int | None = None
    seconds: float | None = None
    commit: str | None = None

    def __post_init__(self) -> None:
        for name in ("system", "task", "method"):
            text = getattr(self, name)
            if not isinstance(text, str) or not text:
                raise RangeError(f"{name} of a row is {text!r}; give its name.")
        for name in FRACTIONS:
            self._set_number(name, float, 1.0, "a fraction in [0, 1], not a percentage")
        for name in _COUNTS:
            self._set_number(name, int, math.inf, "a whole number of at least 0")
        self._set_number("seconds", float, math.inf, "a finite time of at least 0 s")

    def _set_number(self, name: str, kind: type[float] | type[int], top: float, want: str) -> None:
        value = getattr(self, name)
        if value is None:
            return
        try:
            number = math.nan if isinstance(value, str) else float(value)
        except (TypeError, ValueError) as error:
            raise RangeError(f"{name} of a row is {value!r}; give {want}.") from error
        whole = kind is float or number.is_integer()
        # `not (a <= b)` also catches NaN, which compares false with everything.
        if not (0.0 <= number <= top) or math.isinf(number) or not whole:
            raise RangeError(f"{name} of a row is {value!r}; give {want}.")
        # Plain Python numbers, so that a row from numpy or torch equals the one read back.
        object.__setattr__(self, name, kind(value))


def provenance() -> dict[str, object]:
    """Source revision, versions and the time (UTC, ISO 8601); nothing of the machine."""
    return {
        "commit": commit(),
        "versions": versions(),
        "written": utc_now(),
    }


@final
@dataclass(frozen=True)
class Summary:
    """The results of one notebook.

    Attributes
    ----------
    notebook : str
        Its file name without the ending, such as ``"04_physics_aware_training"``.
    scale : str
        The size at which it ran: ``"smoke"``, ``"quick"`` or ``"paper"``.
    parameters : Mapping
        The values of its parameter cell.
    seconds : float
        Wall-clock time of the notebook, in seconds.
    rows : tuple of Row
        The results, in the order in which they should be read.
    provenance : Mapping
        See the function `provenance`; empty in summaries that were written before it was noted.
    """

    notebook: str
    scale: str
    parameters: Mapping[str, object]
    seconds: float
    rows: tuple[Row, ...]
    provenance: Mapping[str, object] = field(default_factory=provenance)

    def __post_init__(self) -> None:
        if not self.notebook or Path(self.notebook).name != self.notebook:
            raise RangeError(
                f"The notebook of a summary is {self.notebook!r}; give a bare file name "
                "such as '04_physics_aware_training'."
            )
        if self.scale not in SCALES:
            raise RangeError(
                f"The scale of a summary is {self.scale!r}; give one of {', '.join(SCALES)}."
            )
        object.__setattr__(self, "rows", tuple(self.rows))

    def write(self, folder: str | Path) -> Path:
        """Write ``<folder>/<notebook>.summary.json`` and return its path.

        The file is written aside and renamed, so a reader (and an earlier summary) never meets a
        half-written one.

        Raises
        ------
        RunError
            If the folder cannot be written, or a parameter has no JSON form.
        """
        target = user_path(folder) / f"{self.notebook}{SUFFIX}"
        try:
            text = json.dumps(
                asdict(self), indent=1, default=_plain, allow_nan=False, ensure_ascii=False
            )
        except (TypeError, ValueError) as error:
            raise RunError(
                f"The summary of {self.notebook} has a value without a JSON form ({error}); "
                "keep its parameters to text, finite numbers and lists of them."
            ) from error
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            write(target, text + "\n")
        except OSError as error:
            raise RunError(
                f"Cannot write the summary {target} ({error.strerror or error}); make room or "
                "choose another folder with the parameter `out` (--out on the command line)."
            ) from error
        return target

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a summary back.

        Raises
        ------
        RunError
            If the file is missing, damaged or not a summary.
        """
        try:
            data = json.loads(user_path(path).read_text(encoding="utf-8"))
            rows = tuple(Row(**row) for row in data.pop("rows"))
            data["provenance"] = dict(data.get("provenance", {}))  # never that of this process
            return cls(rows=rows, **data)
        except OSError as error:
            raise RunError(
                f"Cannot read the summary {path} ({error.strerror or error}); run its notebook "
                "with `pnnlab run`."
            ) from error
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise RunError(
                f"{path} is not a summary ({error}); delete it and run its notebook again."
            ) from error


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
    if not 0.0 <= accuracy <= 1.0:
        raise RangeError(f"The accuracy is {accuracy!r}; give a fraction in [0, 1].")
    if n < 1:
        raise RangeError(f"An interval over {n} samples does not exist; give at least 1.")
    z2 = _Z95**2
    centre = (accuracy + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z95 / (1 + z2 / n) * math.sqrt(accuracy * (1 - accuracy) / n + z2 / (4 * n * n))
    # The ends touch 0 and 1 exactly at accuracy 0 and 1; rounding would leave them just beside.
    low = 0.0 if accuracy == 0.0 else max(0.0, centre - half)
    high = 1.0 if accuracy == 1.0 else min(1.0, centre + half)
    return low, high


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
    from scipy.special import stdtrit  # here, because most readers of a row need no scipy

    n = len(values)
    if n < 2:
        raise RangeError(f"An interval over {n} seeds does not exist; give at least 2.")
    half = float(stdtrit(n - 1, 0.975)) * stdev(values) / math.sqrt(n)
    return max(0.0, fmean(values) - half), min(1.0, fmean(values) + half)


def results_table(summaries: Iterable[Summary]) -> str:
    """Lay the results out as a Markdown table that also reads well in a terminal.

    One line per notebook, system, task, method, twin and depth, averaged over seeds. Splits and
    scales are never averaged together.

    Parameters
    ----------
    summaries : iterable of Summary
        Several of one notebook (one a seed, say) are taken together.

    Returns
    -------
    str
        The table and the footnotes that say how to read it, or one sentence where there is
        nothing to show.
    """
    summaries = tuple(summaries)
    groups: dict[tuple[object, ...], list[Row]] = {}
    for summary in summaries:
        for row in summary.rows:
            line = (row.system, row.task, row.method, row.twin, row.layers, row.split)
            groups.setdefault((summary.notebook, summary.scale, *line), []).append(row)
    if not groups:
        return "No results: no notebook wrote a summary with rows."

    scales = list(dict.fromkeys(summary.scale for summary in summaries if summary.rows))
    lines = [
        (_label(str(name), str(scale), len(scales) > 1), *_line(rows))
        for (name, scale, *_), rows in groups.items()
    ]
    return _with_notes(("nb", *_HEADER), lines, f"Scale: {', '.join(scales)}. ")


def rows_table(rows: Iterable[Row]) -> str:
    """Lay rows out like `results_table`, one line per system, task, method, twin and depth."""
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        key = (row.system, row.task, row.method, row.twin, row.layers, row.split)
        groups.setdefault(key, []).append(row)
    return _with_notes(_HEADER, [_line(group) for group in groups.values()])


def _with_notes(header: Sequence[str], lines: Sequence[tuple[str, ...]], scale: str = "") -> str:
    intervals = [line[header.index("interval")] for line in lines]
    notes = [f"{scale}Accuracies in %, on the system itself, mean over seeds."]
    if any(text != ABSENT and not text.endswith(_ONE_SEED) for text in intervals):
        notes.append("Interval: 95 %, over seeds (Student t).")
    if any(text.endswith(_ONE_SEED) for text in intervals):
        notes.append(
            f"{_ONE_SEED} One seed: 95 % over the test samples (Wilson); it does not say how "
            "seeds differ."
        )
    notes.append(
        "On twin: the same network on its own twin. Recalib.: its normalisation measured "
        "again on the system. Digital: an MLP with as many parameters; linear: a digital linear "
        "classifier. Passes: how often the system was driven, mean per training."
    )
    table = markdown_table(header, lines, text_columns=header.index("layers"))
    return "\n".join((table, "", *(f"- {note}" for note in notes)))


_ONE_SEED = "†"
ABSENT = "–"
_HEADER = (
    *("system", "task", "method", "twin"),
    *("layers", "accuracy", "interval", "seeds", "on twin", "recalib."),
    *("digital", "linear", "chance", "passes"),
)
_SHOWN = (
    *("accuracy_on_twin", "recalibrated_accuracy"),
    *("digital_baseline", "linear_baseline", "chance"),
)


def _label(notebook: str, scale: str, say_scale: bool) -> str:
    number, _, rest = notebook.partition("_")
    name = number if number.isdigit() and rest else notebook
    return f"{name} {scale}" if say_scale else name


def _line(rows: Sequence[Row]) -> tuple[str, ...]:
    first = rows[0]
    task = first.task if first.split in (None, "test") else f"{first.task} ({first.split})"
    return (
        first.system,
        task,
        first.method,
        first.twin or ABSENT,
        ABSENT if first.layers is None else str(first.layers),
        percent(_mean(rows, "accuracy")),
        _interval(rows),
        str(len(_by_seed(rows))),
        *(percent(_mean(rows, name)) for name in _SHOWN),
        _count(_mean(rows, "device_passes")),
    )


def _by_seed(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows of one seed together; without a seed, each row stands for itself."""
    seeds: dict[object, list[Row]] = {}
    for index, row in enumerate(rows):
        seeds.setdefault(("row", index) if row.seed is None else row.seed, []).append(row)
    return list(seeds.values())


def _means(rows: Sequence[Row], name: str) -> list[float]:
    """Mean of a field for each seed that has it, so a seed given twice counts once."""
    per_seed = ([getattr(row, name) for row in group] for group in _by_seed(rows))
    known = ([value for value in values if value is not None] for values in per_seed)
    return [fmean(values) for values in known if values]


def _mean(rows: Sequence[Row], name: str) -> float | None:
    means = _means(rows, name)
    return fmean(means) if means else None


def _interval(rows: Sequence[Row]) -> str:
    """The interval over seeds, or else (marked) over the test samples of the only one."""
    accuracies = _means(rows, "accuracy")
    sizes = [row.n_test for row in rows if row.n_test]
    if len(accuracies) > 1:
        low, high = student_interval(accuracies)
        return f"{percent(low)}–{percent(high)}"
    if accuracies and sizes:
        low, high = wilson_interval(accuracies[0], min(sizes))
        return f"{percent(low)}–{percent(high)} {_ONE_SEED}"
    return ABSENT


def percent(fraction: float | None) -> str:
    """A fraction as a percentage with one decimal, without the sign; a dash for None."""
    return ABSENT if fraction is None else f"{100 * fraction:.1f}"


def _count(number: float | None) -> str:
    return ABSENT if number is None else f"{round(number):,}"


def markdown_table(
    header: Sequence[str], lines: Iterable[Sequence[str]], *, text_columns: int
) -> str:
    """Pad every column: the first ``text_columns`` to the left, and numbers to the right."""
    cells = [tuple(text.replace("|", "\\|") for text in line) for line in (header, *lines)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    rule = [
        "-" * width if index < text_columns else "-" * (width - 1) + ":"
        for index, width in enumerate(widths)
    ]
    padded = (
        [
            text.ljust(width) if index < text_columns else text.rjust(width)
            for index, (text, width) in enumerate(zip(line, widths, strict=True))
        ]
        for line in cells
    )
    head, *body = padded
    return "\n".join(f"| {' | '.join(line)} |" for line in chain((head, rule), body))


def _plain(value: object) -> object:
    """Give numpy and torch scalars, and paths, a form that JSON knows."""
    if isinstance(value, Path):
        return str(value)
    item = getattr(value, "item", None)
    if callable(item):
        return item()
    raise TypeError(f"{type(value).__name__} {value!r}")
