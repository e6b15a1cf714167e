"""The sweep that measures when physics-aware training is worth its passes."""

import csv
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

import pytest

from pnnlab.results import advantage
from pnnlab.results.advantage import METHODS, Case, Setup, read_sweep, sweep
from pnnlab.training import FitSettings


def test_all_methods_choose_their_rate_on_validation_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Setup, "settings", FitSettings(epochs=1, batch_size=64))
    monkeypatch.setattr(advantage, "RATES", (1e-6, 0.03))  # the first learns nothing
    path = sweep(tmp_path / "map.csv", [Case("circuit")], (1,))
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == list(METHODS)
    assert {float(row["learning_rate"]) for row in rows} == {0.03}
    assert all(0.2 < float(row["accuracy"]) <= 1 for row in rows)
    passes = [int(row["passes"]) for row in rows]
    # All are calibrated and recalibrated alike, and only PAT drives the device in its steps.
    assert passes[0] > passes[1]
    assert len(set(passes[1:])) == 1
    accuracy = {row["method"]: row["accuracy"] for row in rows}
    assert accuracy["noise-aware"] != accuracy["noise-aware, PAT's steps"]  # four times as many


def test_a_sweep_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "map.csv"
    measured: list[tuple[int, int, str]] = []
    full = [True]
    cases = [Case("circuit", unit) for unit in range(2)] + [
        Case("SHG", twin="neural 9", task="vowels")
    ]

    def run(setup: Setup, depth: int, methods: Sequence[str]) -> Iterator[dict[str, object]]:
        case = setup.case
        for method in methods:
            if (case.unit, depth, method) == (1, 2, "in silico") and full:
                full.clear()
                raise OSError("the disk is full")
            measured.append((case.unit, depth, method))
            own = {name: getattr(case, name) for name in advantage.CASE}
            yield {**own, "depth": depth, "method": method}

    monkeypatch.setattr(advantage, "measure", run)
    with pytest.raises(OSError, match="full"):
        sweep(path, cases, (1, 2))
    sweep(path, cases, (1, 2))
    sweep(path, cases, (1, 2))
    expected = list(product((0, 1), (1, 2), METHODS))
    # Constants of a neural twin cannot be drawn.
    expected += [(0, depth, name) for depth in (1, 2) for name in METHODS if name != "randomised"]
    assert measured == expected
    with path.open(newline="", encoding="utf-8") as file:
        rows = [(int(r["unit"]), int(r["depth"]), r["method"]) for r in csv.DictReader(file)]
    assert rows == expected


def test_what_is_best_follows_from_the_accuracies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "map.csv"
    reached = {  # on the test split, and by the rivals on the validation split
        "nominal": ((0.96, 0.93, 0.99), (0.9, 0.8)),  # chosen before the test split was seen
        "neural 9": ((0.95, 0.8, 0.945), (0.7, 0.9)),
        "neural 8": ((0.90, 0.80, 0.7), (0.9, 0.9)),
    }

    def run(setup: Setup, depth: int, _: Sequence[str]) -> Iterator[dict[str, object]]:
        case = setup.case
        test, validation = reached[case.twin]
        names = ("PAT", "noise-aware", "in silico")
        for method, accuracy, chosen in zip(names, test, (0.5, *validation), strict=True):
            yield {
                **{name: getattr(case, name) for name in advantage.CASE},
                "depth": depth,
                "errors": "0.1 0.2",
                "over_noise": "3 4",
                "parameter_errors": "0.5 0.25",
                "method": method,
                "validation": chosen,
                "accuracy": accuracy - (depth == 1) * 0.3,  # one layer: all are alike again
                "twin_passes": 100,
                "passes": 7,
            }

    monkeypatch.setattr(advantage, "measure", run)
    sweep(path, [Case("circuit", twin=twin) for twin in reached], (1, 2))
    found = read_sweep(path)
    # Only networks of the same depth say that another twin is better.
    assert [one.best for one in found[::2]] == [one.best for one in found[1::2]]
    found = found[1::2]
    assert [one.best for one in found] == ["PAT", "in silico with noise", "a better twin first"]
    assert [one.rival for one in found] == ["noise-aware", "in silico", "noise-aware"]
    assert [one.case.twin for one in found] == list(reached)
    assert found[0].points == pytest.approx(3)
    assert (found[0].error, found[0].passes["PAT"]) == (0.75, 107)
    assert (found[0].input_error, found[0].over_noise) == (pytest.approx(0.3), 7)
