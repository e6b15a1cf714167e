"""The results as Markdown: one table, and what must be said for it to be read rightly."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pnnlab.errors import RunError
from pnnlab.results.lines import Line, Score
from pnnlab.summary import ABSENT, markdown_table, percent

BEGIN, END = "<!-- begin: pnnlab results -->", "<!-- end: pnnlab results -->"
RESULTS = "notebooks/results.json"
METHODS = ("PAT", "in silico", "ideal")


@dataclass(frozen=True)
class _Column:
    """A title, and what stands below it: the cell of a line, a dash where there is nothing."""

    title: str
    cell: Callable[[Line], str]
    optional: bool = False

    def known(self, line: Line) -> bool:
        return self.cell(line) != ABSENT


def _of(line: Line, method: str, name: str = "accuracy") -> Score | None:
    found = line.methods.get(method)
    return getattr(found, name) if found else None


def _score_text(score: Score | None) -> str:
    if score is None or score.interval is None:
        return percent(score.mean if score else None)
    return f"{percent(score.mean)} ({'–'.join(map(percent, score.interval))})"


def _seeds(line: Line) -> str:
    """How many: one number, or by method where they differ."""
    counts = [len(line.methods[name].seeds) for name in METHODS if name in line.methods]
    return str(counts[0]) if len(set(counts)) == 1 else "/".join(map(str, counts)) or ABSENT


def _passes(line: Line) -> str:
    passes = line.methods["PAT"].device_passes if "PAT" in line.methods else None
    return ABSENT if passes is None else f"{passes:,}"


_TEXT_COLUMNS = 2
_COLUMNS = (
    _Column("system, task", lambda line: f"{line.system}, {line.task}"),
    _Column("twin", lambda line: line.twin or ABSENT),
    _Column("layers", lambda line: ABSENT if line.layers is None else str(line.layers)),
    _Column("PAT", lambda line: _score_text(_of(line, "PAT"))),
    _Column("in silico, as trained", lambda line: _score_text(_of(line, "in silico"))),
    _Column(
        "recalibrated", lambda line: _score_text(_of(line, "in silico", "recalibrated_accuracy"))
    ),
    _Column("on its twin", lambda line: _score_text(_of(line, "in silico", "accuracy_on_twin"))),
    _Column("ideal", lambda line: _score_text(_of(line, "ideal"))),
    _Column("linear", lambda line: percent(line.linear_baseline)),
    _Column("MLP", lambda line: percent(line.digital_baseline)),
    _Column("no physics", lambda line: percent(line.accuracy_without_physics), optional=True),
    _Column("chance", lambda line: percent(line.chance)),
    _Column("seeds", _seeds),
    _Column("PAT passes", _passes),
    _Column("paper", lambda line: percent(line.published)),
)


def markdown(lines: Sequence[Line]) -> str:
    """Lay lines out as a table, with the notes that it takes to read it."""
    if not lines:
        return "No results yet."
    columns = [one for one in _COLUMNS if not one.optional or any(map(one.known, lines))]
    cells = [tuple(column.cell(line) for column in columns) for line in lines]
    titles = [column.title for column in columns]
    table = markdown_table(titles, cells, text_columns=_TEXT_COLUMNS)
    return "\n".join((table, "", *(f"- {note}" for note in _notes(lines))))


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


def _notes(lines: Sequence[Line]) -> list[str]:
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
        f"Commands, seeds, commits and versions are in [`{RESULTS}`]({RESULTS}).",
    ]
    if any(line.accuracy_without_physics is not None for line in lines):
        without = (
            "No physics: the digital layers of a hybrid network, trained without the device and "
            "without the clamp to [0, 1] of its physical layers, so that nothing but linear "
            "layers is left."
        )
        notes.insert(3, without)
    return notes


def _above(lines: Sequence[Line]) -> str:
    """Where other columns beat PAT, counted, so that nobody has to look for it."""
    others: tuple[tuple[str, Callable[[Line], float | None]], ...] = (
        ("the linear classifier", lambda line: line.linear_baseline),
        ("the MLP", lambda line: line.digital_baseline),
        ("the digital layers alone", lambda line: line.accuracy_without_physics),
        ("in silico as trained", lambda line: _mean_of(line, "in silico", "accuracy")),
        (
            "in silico recalibrated",
            lambda line: _mean_of(line, "in silico", "recalibrated_accuracy"),
        ),
        ("the ideal", lambda line: _mean_of(line, "ideal", "accuracy")),
        ("the paper's figure", lambda line: line.published),
    )
    counted = []
    for name, value in others:
        pairs = [(_mean_of(line, "PAT", "accuracy"), value(line)) for line in lines]
        known = [(pat, other) for pat, other in pairs if pat is not None and other is not None]
        if known:
            above = sum(other > pat for pat, other in known)
            counted.append(f"{name} in {above} of {len(known)}")
    if not counted:
        return "PAT stands beside nothing here."
    return f"Higher than PAT, by the means: {'; '.join(counted)}."


def _mean_of(line: Line, method: str, name: str) -> float | None:
    score = _of(line, method, name)
    return score.mean if score else None
