"""Rows, summaries on disk, intervals and the table."""

import errno
import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from pnnlab.errors import RangeError, RunError
from pnnlab.results import Row, Summary, results_table

ROW = Row(
    system="circuit",
    task="mnist",
    method="physics-aware",
    twin="neural",
    layers=3,
    seed=0,
    split="test",
    n_test=10_000,
    accuracy=0.96,
    accuracy_on_twin=0.965,
    digital_baseline=0.963,
    chance=0.1,
    device_passes=1_200_000,
    seconds=240.0,
)


def summary(*rows: Row, notebook: str = "04_pat", scale: str = "quick") -> Summary:
    return Summary(notebook, scale, {"seed": 0}, 12.5, rows)


def cells(table: str) -> list[list[str]]:
    """The body of a table, cell by cell."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


# --- rows ---


@pytest.mark.parametrize("value", [float("nan"), -0.01, 1.01, 96.0, float("inf"), "0.9"])
@pytest.mark.parametrize("name", ["accuracy", "recalibrated_accuracy", "chance"])
def test_an_accuracy_is_a_fraction(name: str, value: object) -> None:
    with pytest.raises(RangeError, match=rf"{name} .*fraction in \[0, 1\]"):
        replace(ROW, **{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [("n_test", 0.5), ("layers", -1), ("seed", float("nan")), ("seconds", float("inf"))],
)
def test_counts_and_times_are_checked(name: str, value: float) -> None:
    with pytest.raises(RangeError, match=name):
        replace(ROW, **{name: value})


@pytest.mark.parametrize("name", ["system", "task", "method"])
def test_a_row_has_names(name: str) -> None:
    with pytest.raises(RangeError, match=name):
        replace(ROW, **{name: ""})


def test_a_row_from_numpy_equals_the_plain_one() -> None:
    row = replace(ROW, accuracy=np.float64(0.96), n_test=np.int64(10_000), seed=np.int32(0))
    assert row == ROW
    assert type(row.n_test) is int
    assert type(row.accuracy) is float


# --- summaries ---


def test_a_summary_comes_back_as_it_was(tmp_path: Path) -> None:
    written = summary(ROW, replace(ROW, seed=1, accuracy=None))
    path = written.write(tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "04_pat.summary.json"
    assert Summary.read(path) == written
    assert sorted(p.name for p in path.parent.iterdir()) == [path.name]


def test_the_file_has_the_agreed_form(tmp_path: Path) -> None:
    data = json.loads(
        summary(Row(system="s", task="t", method="m")).write(tmp_path).read_text(encoding="utf-8")
    )
    assert list(data) == [
        "notebook",
        "scale",
        "parameters",
        "seconds",
        "rows",
        "provenance",
        "checksum",
    ]
    assert list(data["rows"][0]) == [
        *("system", "task", "method", "twin", "layers", "seed", "split", "n_test", "accuracy"),
        *("accuracy_on_twin", "recalibrated_accuracy", "digital_baseline", "linear_baseline"),
        *("accuracy_without_physics", "chance", "published", "parameters", "device_passes"),
        *("seconds", "commit", "settings", "trials", "correct", "recalibrated_correct", "unit"),
        "steps",
    ]
    assert data["rows"][0]["twin"] is None


def test_a_summary_says_which_code_made_it_and_when_but_not_where(tmp_path: Path) -> None:
    data = json.loads(summary(ROW).write(tmp_path).read_text(encoding="utf-8"))["provenance"]
    assert list(data) == ["commit", "versions", "written"]
    assert list(data["versions"]) == ["pnnlab", "python", "torch", "numba", "numpy"]
    assert datetime.now(UTC) - datetime.fromisoformat(data["written"]) < timedelta(minutes=1)


def test_a_summary_of_before_is_still_read(tmp_path: Path) -> None:
    path = summary(ROW).write(tmp_path)
    data = json.loads(path.read_text(encoding="utf-8"))
    del data["provenance"], data["checksum"]
    later = ("linear_baseline", "accuracy_without_physics", "published", "parameters", "commit")
    for name in later:
        del data["rows"][0][name]
    path.write_text(json.dumps(data), encoding="utf-8")
    assert Summary.read(path).rows == (ROW,)
    assert Summary.read(path).provenance == {}  # not that of whoever reads it


def test_a_path_that_the_system_did_not_name_in_utf8_is_kept(tmp_path: Path) -> None:
    out = os.fsdecode(b"M\xfcller")  # of a folder named on another system
    written = Summary("04_pat", "smoke", {"out": out}, 1.0, ())
    assert Summary.read(written.write(tmp_path)).parameters == {"out": out}


def test_parameters_may_be_numpy_scalars_and_paths(tmp_path: Path) -> None:
    parameters = {"rate": np.float32(0.5), "out": tmp_path, "sizes": [1, 2]}
    path = Summary("05_x", "smoke", parameters, 1.0, ()).write(tmp_path)
    assert Summary.read(path).parameters == {"rate": 0.5, "out": str(tmp_path), "sizes": [1, 2]}


@pytest.mark.parametrize("value", [object(), float("nan")])
def test_a_parameter_without_json_form_is_refused(tmp_path: Path, value: object) -> None:
    with pytest.raises(RunError, match="JSON"):
        Summary("05_x", "smoke", {"p": value}, 1.0, ()).write(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "a/b", "../04_pat"])
def test_a_summary_stays_in_its_folder(name: str) -> None:
    with pytest.raises(RangeError, match="bare file name"):
        summary(ROW, notebook=name)


def test_an_unknown_scale_is_refused() -> None:
    with pytest.raises(RangeError, match="smoke, quick, paper"):
        summary(ROW, scale="huge")


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(RunError, match="--out"):
        summary(ROW).write(tmp_path / "file" / "results")


def test_a_full_disk_leaves_the_earlier_summary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = summary(ROW).write(tmp_path)
    before = path.read_bytes()

    def no_room(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", no_room)
    with pytest.raises(RunError, match=r"No space left.*make room"):
        summary(replace(ROW, accuracy=0.1)).write(tmp_path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"rows": 3}',
        '{"notebook": "x", "scale": "quick", "parameters": {}, "seconds": 1, "rows": [{"a": 1}]}',
        '{"notebook": 7, "scale": "quick", "parameters": {}, "seconds": 1, "rows": []}',
    ],
)
def test_a_damaged_or_foreign_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "04_pat.summary.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RunError, match=r"04_pat\.summary\.json is not a summary"):
        Summary.read(path)


def test_a_missing_file_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="pnnlab run"):
        Summary.read(tmp_path / "04_pat.summary.json")


# --- the table ---


def test_seeds_are_averaged_in_an_interval_for_seeds_and_samples() -> None:
    rows = [replace(ROW, seed=s, accuracy=a) for s, a in enumerate((0.95, 0.96, 0.97))]
    [line] = cells(table := results_table([summary(*rows)]))
    # Seeds alone: t(0.975, 2) · 0.01 / √3 = 2.48 %; the 10 000 samples add little, and Wilson's
    # interval is longer on the side of 1/2.
    assert line == [
        *("04", "circuit", "mnist", "physics-aware", "neural", "3"),
        *("96.0", "92.7–97.9", "3", "96.5", "–", "96.3", "–", "10.0", "1,200,000"),
    ]
    assert "for new seeds and new test samples" in table
    assert "One seed" not in table


def test_one_seed_has_the_interval_of_its_samples() -> None:
    [line] = cells(table := results_table([summary(replace(ROW, accuracy=0.9, n_test=100))]))
    assert line[6:9] == ["90.0", "82.6–94.5 †", "1"]
    assert "† One seed" in table
    assert "for new seeds" not in table


def test_an_interval_over_seeds_stays_inside_0_to_100() -> None:
    rows = [replace(ROW, seed=s, accuracy=a) for s, a in enumerate((0.9, 1.0))]
    assert cells(results_table([summary(*rows)]))[0][7] == "9.5–100.0"


def test_a_seed_given_twice_counts_once() -> None:
    rows = [replace(ROW, accuracy=a) for a in (0.9, 1.0)]
    assert cells(results_table([summary(*rows)]))[0][6:9] == ["95.0", "94.6–95.4 †", "1"]


def test_runs_of_one_notebook_with_other_seeds_are_taken_together() -> None:
    one, two = summary(ROW), summary(replace(ROW, seed=1))
    assert cells(results_table([one, two]))[0][8] == "2"


@pytest.mark.parametrize(
    "other",
    [
        {"system": "plate"},
        {"task": "digits"},
        {"method": "in silico"},
        {"twin": "physics"},
        {"layers": 1},
        {"split": "validation"},
        {"unit": 1},
    ],
)
def test_what_differs_has_its_own_line(other: dict[str, object]) -> None:
    assert len(cells(results_table([summary(ROW, replace(ROW, seed=1, **other))]))) == 2


def test_validation_never_passes_for_test() -> None:
    [line] = cells(results_table([summary(replace(ROW, split="validation"))]))
    assert line[2] == "mnist (validation)"


def test_notebooks_and_scales_are_not_mixed() -> None:
    tour = summary(ROW, notebook="00_tour")
    assert [line[0] for line in cells(results_table([tour, summary(ROW)]))] == ["00", "04"]
    paper = summary(ROW, scale="paper")
    table = results_table([summary(ROW), paper])
    assert [line[0] for line in cells(table)] == ["04 quick", "04 paper"]


def test_fields_that_do_not_apply_are_dashes() -> None:
    [line] = cells(results_table([summary(Row(system="s", task="t", method="m"))]))
    assert line == ["04", "s", "t", "m", "–", "–", "–", "–", "1", *6 * ["–"]]


def test_columns_line_up_and_bars_in_names_do_not_break_them() -> None:
    table = results_table([summary(ROW, replace(ROW, system="a|b", accuracy=1.0))])
    lines = [line for line in table.splitlines() if line.startswith("|")]
    assert len({len(line) for line in lines}) == 1
    assert "a\\|b" in table


def test_nothing_to_show_is_said() -> None:
    assert results_table([]).startswith("No results")
    assert results_table([summary()]).startswith("No results")
