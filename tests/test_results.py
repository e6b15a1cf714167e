"""From summaries to one file and one table: nothing measured is lost, nothing hidden."""

import json
import shlex
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from small_notebooks import write_notebook

from pnnlab.errors import RangeError, RunError
from pnnlab.results import Row, Summary, mean_interval
from pnnlab.results.gathering import Results, Trained, command, gather
from pnnlab.results.notebooks import assign, choose, read_variants
from pnnlab.results.rows import packed
from pnnlab.results.tables import BEGIN, END, with_section

PAT = Row(
    system="circuit, 10% parts",
    task="mnist",
    method="PAT",
    twin="physics, fitted",
    layers=3,
    seed=0,
    split="test",
    n_test=10_000,
    accuracy=0.97,
    accuracy_on_twin=0.6,
    digital_baseline=0.971,
    linear_baseline=0.926,
    chance=0.11349999904632568,
    published=0.93,
    parameters=7080,
    device_passes=2_600_000,
    seconds=321.0,
    commit="abc",
)
IN_SILICO = replace(
    PAT,
    method="in silico",
    accuracy=0.3,
    accuracy_on_twin=0.976,
    recalibrated_accuracy=0.7,
    device_passes=150_000,
)
IDEAL = replace(PAT, method="ideal", twin=None, accuracy=0.972, accuracy_on_twin=None)
PARAMETERS = {"scale": "paper", "out": "/somewhere", "seed": 0, "methods": ["PAT", "in silico"]}
CODE = {"commit": "def", "versions": {"pnnlab": "1"}, "written": "2030-01-01T00:00:00+00:00"}


def summary(*rows: Row, **changes: Any) -> Summary:
    fields = {"scale": "paper", "parameters": PARAMETERS, "seconds": 1.0, "provenance": CODE}
    return Summary(**{"notebook": "06_images", **fields, **changes}, rows=rows)


def taken(folder: Path, *rows: Row, **changes: Any) -> tuple[Trained, ...]:
    summary(*rows, **changes).write(folder)
    return tuple(gather([folder], folder)[0])


def merged(*gathered: Iterable[Trained]) -> Results:
    """One after the other."""
    table = Results()
    for trainings in gathered:
        table, _ = table.merged(trainings)
    return table


def at(day: int) -> dict[str, object]:
    return {**CODE, "written": f"2030-01-{day:02}T00:00:00+00:00"}


def cells(text: str, place: int = 0) -> list[dict[str, str]]:
    """The body of the first or second table, by title."""
    lines = text.split("\n\n")[place].splitlines()
    split = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [dict(zip(split[0], line, strict=True)) for line in split[2:]]


# --- gathering ---


def test_only_trainings_of_the_scale_on_the_test_split_are_taken_and_the_rest_is_counted(
    tmp_path: Path,
) -> None:
    kinds = [
        PAT,
        replace(PAT, seed=1, split="validation"),
        replace(PAT, seed=None),
        replace(PAT, seed=2, accuracy=None),
    ]
    summary(*kinds).write(tmp_path / "a" / "b")
    summary(PAT, scale="quick", notebook="05_x").write(tmp_path)
    [one], report = gather([tmp_path], tmp_path)
    assert one.row.seed == 0
    assert report == (
        "1 trainings in 2 summaries; left out: 1 summaries of other scales; left out: 3 rows of "
        "other kinds"
    )
    assert len(gather([tmp_path], tmp_path, scale="quick")[0]) == 1


def test_a_training_keeps_nothing_of_its_machine(tmp_path: Path) -> None:
    [one] = taken(tmp_path, PAT)
    assert one.row.seconds is None
    assert one.row.chance == 0.1135  # what float32 added is gone
    assert (one.measured, one.versions) == (CODE["written"], {"pnnlab": "1"})
    assert "/somewhere" not in Results("paper", (one,)).text()


def test_the_commit_is_that_of_the_training_or_else_of_the_summary(tmp_path: Path) -> None:
    trained = taken(tmp_path, PAT, replace(PAT, seed=1, commit=None))
    assert [one.row.commit for one in trained] == ["abc", "def"]


def test_a_missing_folder_and_a_damaged_summary_are_errors(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"not a folder.*--out"):
        gather([tmp_path / "nowhere"], tmp_path)
    (tmp_path / "06.summary.json").write_text('{"provenance": 3}', encoding="utf-8")
    with pytest.raises(RunError, match="is not a summary"):
        gather([tmp_path], tmp_path)


# --- the command ---


def test_a_command_says_what_differs_from_the_defaults_and_can_be_given_back(
    tmp_path: Path,
) -> None:
    cell = 'scale = "quick"\nout = "results"\nseed = 0\nmethods = ["PAT"]\nflags = []\nrate = 0.1'
    path = write_notebook(tmp_path, "06_images", parameters=cell)
    values = {
        "scale": "paper",
        "out": "/somewhere",
        "seed": 0,
        "rate": 0.05,
        "methods": ["PAT", "in silico"],
        "flags": [True, None],
    }
    [notebook] = read_variants(path)
    said = command(summary(PAT, parameters=values), "mnist", notebook.parameters)
    data, *words = shlex.split(said)
    assert data.startswith("PNNLAB_DATA=")
    assert words[:3] == ["pnnlab", "run", "06_images"]
    assert words[3::3] == ["-p"] * 4
    assert "seed" not in words
    given = list(zip(words[4::3], words[5::3], strict=True))
    [again] = assign([notebook], given, Path("/somewhere"))
    assert {**notebook.parameters, **again} == values


def test_a_task_that_comes_with_the_packages_needs_no_data() -> None:
    assert command(summary(PAT), "digits", PARAMETERS) == "pnnlab run 06_images"


def test_without_its_notebook_a_command_says_every_parameter(tmp_path: Path) -> None:
    [one] = taken(tmp_path, PAT)
    assert one.command == (
        "PNNLAB_DATA=DIR pnnlab run 06_images -p scale paper -p seed 0 "
        """-p methods '["PAT", "in silico"]'"""
    )


def test_the_command_of_a_variant_is_that_of_its_name(tmp_path: Path) -> None:
    cell = 'scale = "quick"\nout = "results"\nsystem = "a"\nmethods = ["x"]'
    path = write_notebook(tmp_path, "06_images", parameters=cell)
    notebook: Any = nbformat.read(path, as_version=4)
    made = {"a": {}, "b": {"methods": ["x", "y"]}}
    notebook.metadata["pnnlab"] = {"variants": {"system": made}}
    nbformat.write(notebook, path)
    values = {"scale": "paper", "out": "/somewhere", "system": "b", "methods": ["x", "y"]}
    [one] = taken(tmp_path, PAT, notebook="06_images_b", parameters=values)
    assert one.command == "PNNLAB_DATA=DIR pnnlab run 06_images_b -p scale paper"
    [again] = taken(tmp_path / "c", PAT, notebook="06_images_c", parameters=values)
    assert "-p system b" in again.command  # there is no such notebook any more


def test_the_stored_commands_of_the_images_can_be_given() -> None:
    """Those of notebooks that are gone name their variants, which give the same rows."""
    folder = Path(__file__).parent.parent / "notebooks"
    paths = sorted(folder.glob("*.ipynb"))
    commands = {one.command for one in Results.read(folder / "results.json").trainings}
    words = [shlex.split(one) for one in commands if "06_images" in one]
    assert words
    for *_, name in (one[: one.index("run") + 2] for one in words):
        assert name.startswith("06_images_")
    for one in words:
        name, *rest = one[one.index("run") + 1 :]
        given = list(zip(rest[1::3], rest[2::3], strict=True))
        [chosen] = choose(paths, [name], given)
        [values] = assign([chosen], given, Path("/out"))
        assert {"scale", "system"} <= values.keys()


# --- merging ---


def test_trainings_split_over_commands_come_together_and_stay(tmp_path: Path) -> None:
    table = merged(
        taken(tmp_path / "a", PAT, replace(PAT, seed=1)),
        taken(tmp_path / "b", IN_SILICO),
        taken(tmp_path / "c", IDEAL),
    )
    assert [(one.row.method, one.row.seed) for one in table.trainings] == [
        ("ideal", 0),
        ("PAT", 0),
        ("PAT", 1),
        ("in silico", 0),
    ]
    assert len(table.lines) == 1


def test_trainings_of_another_notebook_are_no_repeats(tmp_path: Path) -> None:
    """It trains with settings of its own, and pairs are of one notebook."""
    right = {"n_test": 8, "correct": packed([True] * 8)}
    rows = [replace(PAT, **right), replace(IN_SILICO, **right, recalibrated_correct=None)]
    table = merged(
        taken(tmp_path / "a", *rows, notebook="04_one"), taken(tmp_path / "b", *rows[:1])
    )
    assert len(table.trainings) == 3
    assert [line["notebook"] for line in table.lines] == ["04_one", "06_images"]
    assert [list(line["pairs"]) for line in table.lines] == [["in silico"], []]
    assert [line["nb"] for line in cells(table.markdown())] == ["04", "06"]
    assert [line["nb"] for line in cells(table.markdown(), 1)] == ["04", "06"]


def test_tasks_with_fewer_classes_are_no_repeats(tmp_path: Path) -> None:
    """Their name is the same; their test split is another."""
    rows = [replace(PAT, n_test=n) for n in (100, 150)]
    table = merged(taken(tmp_path, *rows))
    assert [line["n_test"] for line in table.lines] == [100, 150]
    assert len(cells(table.markdown(), 1)) == 2


def test_a_repeat_counts_once_it_is_gathered_whatever_its_clock_says(tmp_path: Path) -> None:
    first = taken(tmp_path / "a", replace(PAT, accuracy=0.5), provenance=at(2))
    behind = taken(tmp_path / "b", replace(PAT, accuracy=0.9), provenance=at(1))
    undated = taken(tmp_path / "c", replace(PAT, accuracy=0.1), provenance={})
    table = merged(first)
    for repeat in (behind, undated):
        table, _ = table.merged(repeat)
        assert [one.row.accuracy for one in table.trainings] == [repeat[0].row.accuracy]
    assert table.trainings[0].replaced == ((at(2)["written"], 0.5), (at(1)["written"], 0.9))
    path = tmp_path / "results.json"
    path.write_text(table.text(), encoding="utf-8")
    assert Results.read(path) == table


def test_what_was_replaced_stays_so_however_often_it_is_met_again(tmp_path: Path) -> None:
    first = taken(tmp_path / "a", replace(PAT, accuracy=0.5), provenance=at(2))
    second = taken(tmp_path / "b", replace(PAT, accuracy=0.9), provenance=at(1))
    table = merged(first, second)
    for others in (first, second, (*first, *second), (*second, *first)):
        assert table.merged(others)[0] == table
    [said] = table.merged((*first, *second))[1]
    assert said == (
        "circuit, 10% parts, mnist, 3 layers, PAT, physics, fitted twin, seed 0: left 50.00% "
        "(2030-01-02T00:00:00+00:00), which was replaced before"
    )


def test_folders_count_in_the_order_in_which_they_are_named(tmp_path: Path) -> None:
    ahead, behind = tmp_path / "ahead", tmp_path / "behind"
    summary(replace(PAT, accuracy=0.5), provenance=at(2)).write(ahead)
    summary(replace(PAT, accuracy=0.9), provenance=at(1)).write(behind)
    for folders, expected in (([ahead, behind], 0.9), ([behind, ahead], 0.5), ([tmp_path], 0.5)):
        [one] = merged(gather(folders, tmp_path)[0]).trainings
        assert (one.row.accuracy, len(one.replaced)) == (expected, 1)


def test_what_is_done_with_repeats_is_said_and_what_is_no_repeat_is_not(tmp_path: Path) -> None:
    table = merged(taken(tmp_path / "a", PAT, IN_SILICO, provenance=at(2)))
    again = taken(tmp_path / "a", PAT, IN_SILICO, IDEAL, provenance=at(2))
    assert table.merged(again)[1] == ()
    longer = {**PARAMETERS, "epochs": 9}
    repeat = taken(tmp_path / "b", replace(PAT, accuracy=0.9), provenance=at(1), parameters=longer)
    [said] = table.merged(repeat)[1]
    assert "PAT, physics, fitted twin, seed 0: took 90.00% (2030-01-01" in said
    assert "in place of 97.00% (2030-01-02" in said
    assert "-p epochs 9, not PNNLAB_DATA" in said


def test_another_unit_is_no_repeat_and_has_its_own_line(tmp_path: Path) -> None:
    unit = {**PARAMETERS, "unit": 1}
    table = merged(
        taken(tmp_path / "a", PAT),  # of before units were noted: the first
        taken(tmp_path / "b", replace(PAT, unit=1, accuracy=0.9)),
        taken(tmp_path / "c", replace(PAT, seed=1, accuracy=0.8), parameters=unit),
        taken(tmp_path / "d", replace(PAT, unit=0)),
    )
    assert [(one.row.unit, one.row.seed) for one in table.trainings] == [(0, 0), (1, 0), (1, 1)]
    assert [line["system, task"] for line in cells(table.markdown())] == [
        "circuit, 10% parts, mnist",
        "circuit, 10% parts, unit 1, mnist",
    ]


# --- lines ---


def test_a_line_has_means_intervals_and_values_by_seed(tmp_path: Path) -> None:
    seeds = [
        replace(PAT, seed=seed, accuracy=value, digital_baseline=0.96 + 0.01 * seed)
        for seed, value in ((2, 0.97), (0, 0.95), (1, 0.96))
    ]
    later = [
        replace(one, measured="2100", row=replace(one.row, digital_baseline=0.94))
        for one in taken(tmp_path / "later", IN_SILICO)
    ]
    [line] = Results("paper", (*taken(tmp_path, *seeds, IDEAL), *later)).lines
    pat = line["methods"]["PAT"]
    assert (pat["seeds"], pat["accuracy"]["values"]) == ([0, 1, 2], [0.95, 0.96, 0.97])
    assert pat["accuracy"]["mean"] == pytest.approx(0.96)
    found = mean_interval([0.95, 0.96, 0.97], 10_000)
    assert pat["accuracy"]["interval"] == pytest.approx([found.low, found.high], abs=1e-6)
    assert pat["device_passes"] == 2_600_000
    silico = line["methods"]["in silico"]
    assert silico["accuracy"]["interval"] == pytest.approx([0.2911, 0.3091], abs=1e-4)  # Wilson's
    assert silico["recalibrated_accuracy"]["mean"] == 0.7
    assert (line["twin"], line["parameters"], line["published"]) == ("physics, fitted", 7080, 0.93)
    newest = (0.94 + 0.97 + 0.98) / 3  # of each seed once
    assert line["digital_baseline"] == pytest.approx(newest, abs=1e-6)
    assert line["commits"] == ["abc"]


def test_the_ideal_stands_beside_every_twin(tmp_path: Path) -> None:
    rows = (PAT, replace(PAT, twin="neural", accuracy=0.9), IDEAL)
    lines = Results("paper", taken(tmp_path, *rows)).lines
    assert [line["twin"] for line in lines] == ["neural", "physics, fitted"]
    means = [[line["methods"][n]["accuracy"]["mean"] for n in ("ideal", "PAT")] for line in lines]
    assert means == [[0.972, 0.9], [0.972, 0.97]]


@pytest.mark.parametrize("other", [{"system": "plate"}, {"task": "digits"}, {"layers": 5}])
def test_what_differs_has_its_own_line(other: dict[str, Any], tmp_path: Path) -> None:
    rows = (PAT, IDEAL, replace(PAT, **other))
    lines = Results("paper", taken(tmp_path, *rows)).lines
    assert sorted(len(line["methods"]) for line in lines) == [1, 2]


# --- the file ---


def test_the_file_comes_back_and_is_the_same_every_time(tmp_path: Path) -> None:
    rows = (PAT, replace(PAT, seed=1, accuracy=0.969), IN_SILICO, IDEAL)
    one = Results("paper", taken(tmp_path / "a", *rows))
    other = Results("paper", taken(tmp_path / "b", *reversed(rows)))
    assert one.text() == other.text()
    path = tmp_path / "results.json"
    path.write_text(one.text(), encoding="utf-8")
    assert Results.read(path) == one
    data = json.loads(one.text())
    assert list(data) == ["schema", "scale", "lines", "trainings"]
    assert "seconds" not in one.text()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: data.update(schema=2), "schema 2, .* reads 1"),
        (lambda data: data.pop("schema"), "is not a file of results"),
        (lambda data: data.update(scale="huge"), "no scale 'huge'"),
        (lambda data: data["trainings"][0].update(host="x"), "is not a file of results"),
        (lambda data: data["trainings"][0]["row"].update(accuracy=97), "fraction"),
        (lambda data: data["trainings"][0]["row"].pop("seed"), "no seed"),
        (lambda data: data["trainings"][0].update(command=None), "not text"),
        (lambda data: data["trainings"].append(data["trainings"][0]), "twice"),
        (lambda data: data["trainings"][0].update(replaced=[[1, 0.5]]), "not text"),
        (
            lambda data: data["trainings"][0].update(replaced=[["a", None]]),
            "is not a file of results",
        ),
        (lambda data: data["trainings"][0].update(replaced=[0.5]), "is not a file of results"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_refused(
    spoil: Any, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "results.json"
    data = json.loads(Results("paper", taken(tmp_path, PAT)).text())
    spoil(data)
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(RunError, match=message):
        Results.read(path)
    path.write_text("{", encoding="utf-8")
    with pytest.raises(RunError, match="git checkout"):
        Results.read(path)
    path.unlink()
    with pytest.raises(RunError, match="cannot be read"):
        Results.read(path)


def test_there_is_no_other_scale() -> None:
    with pytest.raises(RangeError, match="smoke, quick, paper"):
        Results("huge")


# --- the table ---


def test_the_table_shows_everything_beside_pat(tmp_path: Path) -> None:
    pat = [replace(PAT, seed=seed, accuracy=0.96 + 0.01 * seed) for seed in range(3)]
    table = Results("paper", taken(tmp_path, *pat, IN_SILICO, IDEAL)).markdown()
    [line] = cells(table)
    assert line == {
        "nb": "06",
        "system, task": "circuit, 10% parts, mnist",
        "twin": "physics, fitted",
        "layers": "3",
        "PAT": "97.0 (93.3–98.7)",
        "in silico, as trained": "30.0 (29.1–30.9) †",
        "recalibrated": "70.0 (69.1–70.9) †",
        "on its twin": "97.6 (97.3–97.9) †",
        "ideal": "97.2 (96.9–97.5) †",
        "seeds": "3/1/1",
        "PAT passes": "2,600,000",
    }
    [beside] = cells(table, 1)
    assert beside == {
        "nb": "06",
        "system, task": "circuit, 10% parts, mnist",
        "layers": "3",
        "PAT": "97.0",
        "linear": "92.6",
        "MLP": "97.1",
        "chance": "11.3",
        "paper": "93.0",
    }
    assert "10,000 samples" in table
    assert "the linear classifier in 0 of 1; the MLP in 1 of 1" in table
    assert "the ideal in 1 of 1" in table


def test_an_untrained_device_stands_beside_no_mlp_and_no_paper(tmp_path: Path) -> None:
    row = replace(PAT, method="untrained", twin=None, accuracy=0.8, layers=1)
    [line] = cells(Results("paper", taken(tmp_path, row)).markdown())  # and no table of methods
    shown = [line[name] for name in ("untrained", "linear", "MLP", "paper")]
    assert shown == ["80.0 (79.2–80.8) †", "92.6", "–", "–"]


def test_what_was_not_measured_is_a_dash_and_a_hybrid_shows_what_physics_adds(
    tmp_path: Path,
) -> None:
    bare = Row(system="s", task="digits", method="PAT", seed=0, accuracy=0.5)
    hybrid = replace(bare, system="h", accuracy_without_physics=0.4)
    clamp = replace(bare, system="h", method="clamp only", accuracy=0.6)
    table = Results("paper", taken(tmp_path, bare, hybrid, clamp)).markdown()
    h, s = cells(table, 1)
    assert (h["digital alone"], s["digital alone"]) == ("40.0", "–")
    assert (h["clamp only"], s["clamp only"]) == ("60.0", "–")
    assert [s[name] for name in ("layers", "linear", "MLP", "paper")] == ["–"] * 4
    assert [cells(table)[1][name] for name in ("twin", "ideal", "PAT passes")] == ["–"] * 3
    [line] = cells(Results("paper", taken(tmp_path / "b", bare)).markdown(), 1)
    assert not {"digital alone", "clamp only", "clamp, square"} & set(line)


def test_numbers_stand_to_the_right(tmp_path: Path) -> None:
    table = Results("paper", taken(tmp_path, PAT, replace(PAT, system="x", layers=10))).markdown()
    rule = table.splitlines()[1].strip("|").split(" | ")
    assert [cell.strip().endswith(":") for cell in rule] == [False] * 3 + [True] * 8


def test_nothing_to_show_is_said() -> None:
    assert Results().markdown() == "No results yet."


# --- the section of a document ---


def test_a_section_is_replaced_and_the_rest_left_alone() -> None:
    document = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    once = with_section(document, "new")
    assert once == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    assert with_section(once, "new") == once


@pytest.mark.parametrize("document", ["", BEGIN, f"{END} {BEGIN}", f"{BEGIN} {END} {END}"])
def test_a_document_without_a_place_for_it_is_an_error(document: str) -> None:
    with pytest.raises(RunError, match="once each"):
        with_section(document, "new")


def test_pairs_are_judged_where_rows_say_which_samples_were_right(tmp_path: Path) -> None:
    n = 10_000
    right = np.arange(n) < 9700
    pat = replace(PAT, correct=packed(right))
    rival = replace(
        IN_SILICO, method="noise-aware", recalibrated_correct=packed(np.arange(n) < 9500)
    )
    results = Results("paper", taken(tmp_path, pat, rival, IDEAL))
    [line] = results.lines
    assert line["pairs"] == {"noise-aware": "better"}  # the ideal says nothing of its samples
    table = results.markdown()
    assert cells(table)[0]["PAT against these"] == "better † / – / –"
    assert cells(table)[0]["noise-aware"] == "70.0 (69.1–70.9) †"
    assert table.count("† One seed: ") == 1
