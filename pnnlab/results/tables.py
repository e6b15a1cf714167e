"""Results as Markdown tables that read well in a terminal too, with the notes they take to read."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from pnnlab.errors import RunError
from pnnlab.results.rows import Row, Summary
from pnnlab.results.statistics import ResultLine, Score, known, student_interval, wilson_interval

BEGIN, END = "<!-- begin: pnnlab results -->", "<!-- end: pnnlab results -->"
_FILE = "notebooks/results.json"
_ABSENT = "–"
_ONE_SEED = "†"
_METHODS = ("PAT", "in silico", "ideal")


@dataclass(frozen=True)
class _Column:
    """A title, and what stands below it: a cell for each item, a dash where there is nothing.

    Text stands to the left, numbers to the right. An optional column of dashes alone is left out.
    """

    title: str
    cell: Callable[[Any], str]
    text: bool = False
    optional: bool = False


def _table(columns: Iterable[_Column], items: Sequence[object], notes: Iterable[str]) -> str:
    padded = []
    for column in columns:
        cells = [column.cell(item).replace("|", "\\|") for item in items]
        if column.optional and set(cells) == {_ABSENT}:
            continue
        width = max(map(len, (column.title, *cells)))
        pad = str.ljust if column.text else str.rjust
        rule = "-" * width if column.text else "-" * (width - 1) + ":"
        padded.append([pad(column.title, width), rule, *(pad(cell, width) for cell in cells)])
    lines = [f"| {' | '.join(line)} |" for line in zip(*padded, strict=True)]
    return "\n".join((*lines, "", *(f"- {note}" for note in notes)))


def _percent(fraction: float | None) -> str:
    return _ABSENT if fraction is None else f"{100 * fraction:.1f}"


def _range(low: float, high: float) -> str:
    return f"{_percent(low)}–{_percent(high)}"


def _count(number: float | None) -> str:
    return _ABSENT if number is None else f"{round(number):,}"


# --- a line for each method: what notebooks and `pnnlab run` show ---


@dataclass(frozen=True)
class _Group:
    """Rows that differ in their seed alone, and the notebook that they are from."""

    label: str
    rows: list[Row]

    @property
    def first(self) -> Row:
        return self.rows[0]

    @property
    def seeds(self) -> list[list[Row]]:
        """Rows of one seed together; without a seed, each row stands for itself."""
        seeds: dict[object, list[Row]] = {}
        for index, row in enumerate(self.rows):
            seeds.setdefault(("row", index) if row.seed is None else row.seed, []).append(row)
        return list(seeds.values())

    def means(self, name: str) -> list[float]:
        """Mean of a field for each seed that has it, so a seed given twice counts once."""
        return [fmean(values) for seed in self.seeds if (values := known(seed, name))]

    def mean(self, name: str) -> float | None:
        means = self.means(name)
        return fmean(means) if means else None

    @property
    def task(self) -> str:
        split = self.first.split
        return self.first.task if split in (None, "test") else f"{self.first.task} ({split})"

    @property
    def interval(self) -> str:
        """The interval over seeds, or else (marked) over the test samples of the only one."""
        accuracies = self.means("accuracy")
        if len(accuracies) > 1:
            return _range(*student_interval(accuracies))
        sizes = [row.n_test for row in self.rows if row.n_test]
        if accuracies and sizes:
            return f"{_range(*wilson_interval(accuracies[0], min(sizes)))} {_ONE_SEED}"
        return _ABSENT


def _fraction(title: str, name: str) -> _Column:
    return _Column(title, lambda group: _percent(group.mean(name)))


_GROUP_COLUMNS = (
    _Column("nb", lambda group: group.label, text=True, optional=True),
    _Column("system", lambda group: group.first.system, text=True),
    _Column("task", lambda group: group.task, text=True),
    _Column("method", lambda group: group.first.method, text=True),
    _Column("twin", lambda group: group.first.twin or _ABSENT, text=True),
    _Column("layers", lambda group: _count(group.first.layers)),
    _fraction("accuracy", "accuracy"),
    _Column("interval", lambda group: group.interval),
    _Column("seeds", lambda group: str(len(group.seeds))),
    _fraction("on twin", "accuracy_on_twin"),
    _fraction("recalib.", "recalibrated_accuracy"),
    _fraction("digital", "digital_baseline"),
    _fraction("linear", "linear_baseline"),
    _fraction("chance", "chance"),
    _Column("passes", lambda group: _count(group.mean("device_passes"))),
)


def results_table(results: Iterable[Summary | Row]) -> str:
    """Lay results out as a Markdown table that also reads well in a terminal.

    One line per notebook, system, task, method, twin and depth, averaged over seeds. Splits and
    scales are never averaged together.

    Parameters
    ----------
    results : iterable of Summary or Row
        Several summaries of one notebook (one a seed, say) are taken together. Rows alone have no
        notebook to name.

    Returns
    -------
    str
        The table and the notes that say how to read it, or one sentence where there is nothing to
        show.
    """
    results = tuple(results)
    scales = {one.scale: None for one in results if isinstance(one, Summary) and one.rows}
    groups: dict[tuple[object, ...], _Group] = {}
    for one in results:
        if isinstance(one, Summary):
            name, label, rows = one.notebook, _label(one, len(scales) > 1), one.rows
        else:
            name, label, rows = "", _ABSENT, (one,)
        for row in rows:
            line = (row.system, row.task, row.method, row.twin, row.layers, row.split)
            groups.setdefault((name, label, *line), _Group(label, [])).rows.append(row)
    if not groups:
        return "No results: no notebook wrote a summary with rows."
    notes = _group_notes([group.interval for group in groups.values()])
    if scales:
        notes[0] = f"Scale: {', '.join(scales)}. {notes[0]}"
    return _table(_GROUP_COLUMNS, tuple(groups.values()), notes)


def _label(summary: Summary, say_scale: bool) -> str:
    number, _, rest = summary.notebook.partition("_")
    name = number if number.isdigit() and rest else summary.notebook
    return f"{name} {summary.scale}" if say_scale else name


def _group_notes(intervals: Sequence[str]) -> list[str]:
    notes = ["Accuracies in %, on the system itself, mean over seeds."]
    if any(text != _ABSENT and not text.endswith(_ONE_SEED) for text in intervals):
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
    return notes


# --- methods side by side: what README and `pnnlab results` show ---


def _score(score: Score | None) -> str:
    if score is None or score.interval is None:
        return _percent(score.mean if score else None)
    return f"{_percent(score.mean)} ({_range(*score.interval)})"


def _seeds(line: ResultLine) -> str:
    """How many: one number, or by method where they differ."""
    counts = [len(line.methods[name].seeds) for name in _METHODS if name in line.methods]
    return str(counts[0]) if len(set(counts)) == 1 else "/".join(map(str, counts)) or _ABSENT


def _passes(line: ResultLine) -> str:
    return _count(line.methods["PAT"].device_passes if "PAT" in line.methods else None)


_LINE_COLUMNS = (
    _Column("system, task", lambda line: f"{line.system}, {line.task}", text=True),
    _Column("twin", lambda line: line.twin or _ABSENT, text=True),
    _Column("layers", lambda line: _count(line.layers)),
    _Column("PAT", lambda line: _score(line.score("PAT"))),
    _Column("in silico, as trained", lambda line: _score(line.score("in silico"))),
    _Column("recalibrated", lambda line: _score(line.score("in silico", "recalibrated_accuracy"))),
    _Column("on its twin", lambda line: _score(line.score("in silico", "accuracy_on_twin"))),
    _Column("ideal", lambda line: _score(line.score("ideal"))),
    _Column("linear", lambda line: _percent(line.linear_baseline)),
    _Column("MLP", lambda line: _percent(line.digital_baseline)),
    _Column("no physics", lambda line: _percent(line.accuracy_without_physics), optional=True),
    _Column("chance", lambda line: _percent(line.chance)),
    _Column("seeds", _seeds),
    _Column("PAT passes", _passes),
    _Column("paper", lambda line: _percent(line.published)),
)


def markdown(lines: Sequence[ResultLine]) -> str:
    """Lay lines out as a table, with the notes that it takes to read it."""
    return _table(_LINE_COLUMNS, lines, _line_notes(lines)) if lines else "No results yet."


def with_section(document: str, section: str) -> str:
    """A Markdown document with a new text between its two markers.

    Raises
    ------
    RunError
        The document does not hold each marker once, in their order.
    """
    start, stop = document.find(BEGIN), document.find(END)
    if document.count(BEGIN) != 1 or document.count(END) != 1 or stop < start:
        raise RunError(
            f"The table has no place: put a line {BEGIN} where it belongs and {END} below it, "
            "once each."
        )
    return f"{document[:start]}{BEGIN}\n\n{section}\n\n{document[stop:]}"


def _line_notes(lines: Sequence[ResultLine]) -> list[str]:
    sizes = sorted({line.n_test for line in lines if line.n_test})
    tested = f" of {', '.join(f'{n:,}' for n in sizes)} samples" if sizes else ""
    notes = [
        (
            f"Accuracy in % on the test split{tested}, on the simulated device itself unless said "
            "otherwise: mean over seeds and, in brackets, its 95 % interval (Student t) over "
            "these seeds; the size of the test split is not in it. A dash: not measured."
        ),
        (
            "In silico: trained on the twin alone, which has no noise, then run on the device as "
            "trained, and again after its normalisation was measured there; on its twin: the same "
            "network where it was trained. Ideal: trained with the device's own gradient, which "
            "only a simulation has."
        ),
        (
            "Digital, beside them: a linear classifier, and an MLP with at most as many parameters "
            "as the physical network, trained once, by the same loop, the learning rate chosen on "
            "the validation split. Chance: always naming the class that is most frequent in "
            "training."
        ),
        (
            "Seeds: of PAT/in silico/ideal where their numbers differ. PAT passes: how often PAT "
            "drove the device, evaluations included but not the shots its twin was fitted to. "
            "Paper: the published figure for such a system and task, on hardware of its own."
        ),
        _above(lines),
        f"Commands, seeds, commits and versions are in [`{_FILE}`]({_FILE}).",
    ]
    if any(line.accuracy_without_physics is not None for line in lines):
        without = (
            "No physics: the digital layers of a hybrid network, trained without the device and "
            "without the clamp to [0, 1] of its physical layers, so that nothing but linear "
            "layers is left."
        )
        notes.insert(3, without)
    return notes


def _mean(score: Score | None) -> float | None:
    return score.mean if score else None


_OTHERS: tuple[tuple[str, Callable[[ResultLine], float | None]], ...] = (
    ("the linear classifier", lambda line: line.linear_baseline),
    ("the MLP", lambda line: line.digital_baseline),
    ("the digital layers alone", lambda line: line.accuracy_without_physics),
    ("in silico as trained", lambda line: _mean(line.score("in silico"))),
    (
        "in silico recalibrated",
        lambda line: _mean(line.score("in silico", "recalibrated_accuracy")),
    ),
    ("the ideal", lambda line: _mean(line.score("ideal"))),
    ("the paper's figure", lambda line: line.published),
)


def _above(lines: Sequence[ResultLine]) -> str:
    """Where other columns beat PAT, counted, so that nobody has to look for it."""
    counted = []
    for name, value in _OTHERS:
        pairs = [(_mean(line.score("PAT")), value(line)) for line in lines]
        higher = [other > pat for pat, other in pairs if pat is not None and other is not None]
        if higher:
            counted.append(f"{name} in {sum(higher)} of {len(higher)}")
    if not counted:
        return "PAT stands beside nothing here."
    return f"Higher than PAT, by the means: {'; '.join(counted)}."
