"""Results as Markdown tables that read well in a terminal too, and the statistics in them."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from pnnlab.errors import RunError
from pnnlab.results.rows import MARGIN, Row, Summary, mean_interval

BEGIN, END = "<!-- begin: pnnlab results -->", "<!-- end: pnnlab results -->"
_FILE = "notebooks/results.json"
_ABSENT = "–"
ONE_SEED = "†"
_ONE_SEED_NOTE = (
    f"{ONE_SEED} One seed: 95 % for new test samples; it does not say how seeds differ."
)
POWERS = {"clamp only": 1, "clamp, square": 2}
"""Methods without a device: the power of its input that a hybrid network has in its place."""
UNTRAINED = "untrained"
"""A layer whose parameters are as it was made: a digital linear read-out of it is trained alone."""

_RIVALS = ("noise-aware", "in silico", "ideal")

Line = dict[str, Any]
"""Trainings of one system, task, depth and twin; see `pnnlab.results.gathering.Results.lines`."""


def known(rows: Iterable[Row], name: str) -> list[Any]:
    """The values of a field, of those rows that have one."""
    return [value for row in rows if (value := getattr(row, name)) is not None]


def _percent(fraction: float | None) -> str:
    return _ABSENT if fraction is None else f"{100 * fraction:.1f}"


def _range(low: float, high: float) -> str:
    return f"{_percent(low)}–{_percent(high)}"


def _count(number: float | None) -> str:
    return _ABSENT if number is None else f"{round(number):,}"


def _table(lines: Sequence[Mapping[str, str]], texts: int, optional: Sequence[str]) -> str:
    # The first `texts` columns are left-aligned; optional ones are left out if nothing is known.
    columns = []
    for place, title in enumerate(lines[0]):
        cells = [line[title].replace("|", "\\|") for line in lines]
        if title in optional and set(cells) == {_ABSENT}:
            continue
        width = max(map(len, (title, *cells)))
        rule = "-" * width if place < texts else "-" * (width - 1) + ":"
        laid_out = str.ljust if place < texts else str.rjust
        columns.append([laid_out(cell, width) for cell in (title, rule, *cells)])
    return "\n".join(f"| {' | '.join(line)} |" for line in zip(*columns, strict=True))


def _listed(notes: Iterable[str]) -> str:
    return "\n".join(f"- {note}" for note in notes)


# --- a line for each method: what notebooks and `pnnlab run` show ---


def results_table(results: Iterable[Summary | Row]) -> str:
    """Lay results out as a Markdown table that also reads well in a terminal.

    One line per notebook, system, unit, task, method, twin and depth, averaged over seeds. Splits,
    test splits of other sizes and scales are never averaged together. Rows alone have no notebook
    to name.
    """
    results = tuple(results)
    scales = {one.scale: None for one in results if isinstance(one, Summary) and one.rows}
    groups: dict[tuple[object, ...], list[Row]] = {}
    for one in results:
        name, label, rows = "", _ABSENT, (one,) if isinstance(one, Row) else one.rows
        if isinstance(one, Summary):
            name = one.notebook
            number, _, rest = name.partition("_")
            label = number if number.isdigit() and rest else name
            label += f" {one.scale}" if len(scales) > 1 else ""
        for row in rows:
            key = (row.device, row.task, row.n_test, row.method, row.twin, row.layers, row.split)
            groups.setdefault((label, name, *key), []).append(row)
    if not groups:
        return "No results: no notebook wrote a summary with rows."
    lines = [_method_line(str(label), rows) for (label, *_), rows in groups.items()]
    intervals = [line["interval"] for line in lines]
    scale = f"Scale: {', '.join(scales)}. " if scales else ""
    notes = [f"{scale}Accuracies in %, on the system itself, mean over seeds."]
    if any(text != _ABSENT and not text.endswith(ONE_SEED) for text in intervals):
        notes.append("Interval: 95 %, for new seeds and new test samples.")
    if any(text.endswith(ONE_SEED) for text in intervals):
        notes.append(_ONE_SEED_NOTE)
    notes.append(
        "On twin: the same network on its own twin. Recalib.: its normalisation measured "
        "again on the system. Digital: an MLP with as many parameters; linear: a digital linear "
        "classifier. Passes: how often the system was driven, mean per training."
    )
    return f"{_table(lines, 5, ('nb',))}\n\n{_listed(notes)}"


def _method_line(label: str, rows: Sequence[Row]) -> dict[str, str]:
    first = rows[0]
    seeds: dict[object, list[Row]] = {}
    for row in rows:  # each row without a seed counts as one
        seeds.setdefault(object() if row.seed is None else row.seed, []).append(row)

    def means(name: str) -> list[float]:  # of each seed that has it: one given twice counts once
        return [fmean(values) for same in seeds.values() if (values := known(same, name))]

    def mean(name: str) -> float | None:
        return fmean(means(name)) if means(name) else None

    accuracies = means("accuracy")
    size = min(filter(None, known(rows, "n_test")), default=None)
    interval = _ABSENT
    if len(accuracies) > 1 or (accuracies and size):
        found = mean_interval(accuracies, size)
        mark = "" if len(accuracies) > 1 else f" {ONE_SEED}"
        interval = f"{_range(found.low, found.high)}{mark}"
    return {
        "nb": label,
        "system": first.device,
        "task": first.task if first.split in (None, "test") else f"{first.task} ({first.split})",
        "method": first.method,
        "twin": first.twin or _ABSENT,
        "layers": _count(first.layers),
        "accuracy": _percent(mean("accuracy")),
        "interval": interval,
        "seeds": str(len(seeds)),
        "on twin": _percent(mean("accuracy_on_twin")),
        "recalib.": _percent(mean("recalibrated_accuracy")),
        "digital": _percent(mean("digital_baseline")),
        "linear": _percent(mean("linear_baseline")),
        "chance": _percent(mean("chance")),
        "passes": _count(mean("device_passes")),
    }


# --- methods side by side: what README and `pnnlab results` show ---


def _score(line: Line, method: str, name: str = "accuracy") -> dict[str, Any]:
    return line["methods"].get(method, {}).get(name) or {"mean": None, "interval": None}


def _cell(line: Line, method: str, name: str = "accuracy") -> str:
    score = _score(line, method, name)
    interval = f" ({_range(*score['interval'])})" if score["interval"] else ""
    mark = _mark(line, method) if interval else ""
    return f"{_percent(score['mean'])}{interval}{mark}"


def _mark(line: Line, method: str) -> str:
    return f" {ONE_SEED}" if len(line["methods"][method]["seeds"]) == 1 else ""


def _cells(line: Line) -> dict[str, str]:
    methods = line["methods"]
    seeds = [len(methods[n]["seeds"]) for n in ("PAT", *_RIVALS) if n in methods]
    if len(set(seeds)) == 1:
        seeds = seeds[:1]
    pairs = line["pairs"]
    found = [f"{pairs[n]}{_mark(line, n)}" if n in pairs else _ABSENT for n in _RIVALS]
    return {
        "nb": line["notebook"].partition("_")[0],
        "system, task": f"{line['system']}, {line['task']}",
        "twin": line["twin"] or _ABSENT,
        "layers": _count(line["layers"]),
        "PAT": _cell(line, "PAT"),
        "noise-aware": _cell(line, "noise-aware", "recalibrated_accuracy"),
        "in silico, as trained": _cell(line, "in silico"),
        "recalibrated": _cell(line, "in silico", "recalibrated_accuracy"),
        "on its twin": _cell(line, "in silico", "accuracy_on_twin"),
        "ideal": _cell(line, "ideal"),
        "PAT against these": _ABSENT if {*found} == {_ABSENT} else " / ".join(found),
        "seeds": "/".join(map(str, seeds)) or _ABSENT,
        "PAT passes": _count(methods.get("PAT", {}).get("device_passes")),
    }


def _cells_beside(line: Line) -> dict[str, str]:
    return {
        "nb": line["notebook"].partition("_")[0],
        "system, task": f"{line['system']}, {line['task']}",
        "layers": _count(line["layers"]),
        "PAT": _percent(_score(line, "PAT")["mean"]),
        "linear": _percent(line["linear_baseline"]),
        "MLP": _percent(line["digital_baseline"]),
        "digital alone": _percent(line["accuracy_without_physics"]),
        **{name: _cell(line, name) for name in (*POWERS, UNTRAINED)},
        "chance": _percent(line["chance"]),
        "paper": _percent(line["published"]),
    }


def lines_table(lines: Sequence[Line]) -> str:
    """Lay lines out as two tables, methods and what stands beside them, with notes below.

    An empty line divides each from the next. The second has one line for all twins of a system, in
    which PAT is with the last of them: the equations.
    """
    if not lines:
        return "No results yet."
    trained = [line for line in lines if {*line["methods"]} - {UNTRAINED}]
    names = ("notebook", "system", "task", "n_test", "layers")
    places = {tuple(line[name] for name in names): line for line in lines}
    tables = []
    if trained:
        tables.append(_table([*map(_cells, trained)], 3, ("noise-aware", "PAT against these")))
    optional = ("PAT", "digital alone", *POWERS, UNTRAINED)
    tables.append(_table([*map(_cells_beside, places.values())], 2, optional))
    return "\n\n".join((*tables, _listed(_notes(lines))))


def with_section(document: str, section: str) -> str:
    """Put a new text between the two markers of a Markdown document."""
    start, stop = document.find(BEGIN), document.find(END)
    if document.count(BEGIN) != 1 or document.count(END) != 1 or stop < start:
        raise RunError(
            f"The table has no place: put a line {BEGIN} where it belongs and {END} below it, "
            "once each."
        )
    return f"{document[:start]}{BEGIN}\n\n{section}\n\n{document[stop:]}"


def _notes(lines: Sequence[Line]) -> Iterable[str]:
    sizes = sorted({line["n_test"] for line in lines if line["n_test"]})
    tested = f" of {', '.join(f'{n:,}' for n in sizes)} samples" if sizes else ""
    notes = [
        (
            f"Accuracy in % on the test split{tested}, on the simulated device itself unless said "
            "otherwise: mean over seeds and, in brackets, its 95 % interval for new seeds and new "
            "test samples. A dash: not measured."
        ),
        _ONE_SEED_NOTE
        * any(len(one["seeds"]) == 1 for line in lines for one in line["methods"].values()),
        (
            "In silico: trained on the twin alone, which has no noise, then run on the device as "
            "trained, and again after its normalisation was measured there; on its twin: the same "
            "network where it was trained. Ideal: trained with the device's own gradient, which "
            "only a simulation has."
        ),
        (
            "Noise-aware: in silico with the noise of the device in the twin, a fresh sample each "
            "step, then recalibrated."
        )
        * any("noise-aware" in line["methods"] for line in lines),
        "Untrained: a linear digital read-out of a device with random parameters."
        * any(UNTRAINED in line["methods"] for line in lines),
        (
            "Digital alone: the digital layers of a hybrid network, trained without the device and "
            "without the clamp to [0, 1] of its physical layers, so that nothing but linear "
            "layers is left. Clamp only; clamp, square: with this clamp, or its square, in place "
            "of the device."
        )
        * any(line["accuracy_without_physics"] is not None for line in lines),
        (
            "Digital, beside them: a linear classifier, and an MLP with at most as many parameters "
            "as the physical network, trained by the same loop, the learning rate chosen on the "
            "validation split. Chance: always naming the class that is most frequent in training."
        ),
        (
            "Seeds: of PAT/noise-aware/in silico/ideal where their numbers differ. PAT passes: how "
            "often PAT drove the device, evaluations included but not the shots its twin was "
            "fitted to. Paper: the published figure for such a system and task, on hardware of its "
            "own."
        ),
        _above(lines),
        _verdicts(lines),
        f"Commands, seeds, commits and versions are in [`{_FILE}`]({_FILE}).",
    ]
    return [note for note in notes if note]


def _above(lines: Sequence[Line]) -> str:
    higher: dict[str, list[bool]] = {name: [] for name in _beside(lines[0])}
    for line in lines:
        pat = _score(line, "PAT")["mean"]
        for name, other in _beside(line).items():
            if other is not None and pat is not None:
                higher[name].append(other > pat)
    counted = [f"{name} in {sum(found)} of {len(found)}" for name, found in higher.items() if found]
    if not counted:
        return "PAT stands beside nothing here."
    return f"Higher than PAT, by the means: {'; '.join(counted)}."


def _beside(line: Line) -> dict[str, float | None]:
    return {
        "the linear classifier": line["linear_baseline"],
        "the MLP": line["digital_baseline"],
        "the digital layers alone": line["accuracy_without_physics"],
        **{f"{name} in place of the device": _score(line, name)["mean"] for name in POWERS},
        "the untrained device": _score(line, UNTRAINED)["mean"],
        "noise-aware, recalibrated": _score(line, "noise-aware", "recalibrated_accuracy")["mean"],
        "in silico as trained": _score(line, "in silico")["mean"],
        "in silico recalibrated": _score(line, "in silico", "recalibrated_accuracy")["mean"],
        "the ideal": _score(line, "ideal")["mean"],
        "the paper's figure": line["published"],
    }


def _verdicts(lines: Sequence[Line]) -> str:
    if not any(line["pairs"] for line in lines):
        return ""
    text = (
        f"PAT against these: {' / '.join(_RIVALS)}, the first two recalibrated; paired by seed and "
        f"test sample, 95 %; equal: within {100 * MARGIN:g} point."
    )
    for name in sorted({name for line in lines for name in line["pairs"]} - {*_RIVALS}):
        own = [line for line in lines if name in line["pairs"]]
        found = "; ".join(
            f"{line['system']}: {line['pairs'][name]}{_mark(line, name)}" for line in own
        )
        text += f" PAT against {name}, likewise: {found}."
    return text
