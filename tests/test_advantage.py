"""The sweep that measures when physics-aware training is worth its passes."""

import csv
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path

import pytest

from pnnlab.results import advantage
from pnnlab.results.advantage import Case, Setup, measure, read_sweep, sweep
from pnnlab.training import FitSettings


def test_both_methods_choose_their_rate_on_validation_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Setup, "settings", FitSettings(epochs=1, batch_size=64))
    monkeypatch.setattr(advantage, "RATES", (1e-6, 0.03))  # the first learns nothing
    rows = list(measure(Case("circuit"), (1,)))
    assert [row["method"] for row in rows] == ["PAT", "noise-aware"]
    assert [row["learning_rate"] for row in rows] == [0.03, 0.03]
    assert all(0.2 < float(str(row["accuracy"])) <= 1 for row in rows)
    passes = [int(str(row["passes"])) for row in rows]
    assert passes[0] > passes[1]


def test_a_sweep_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "map.csv"
    measured: list[int] = []
    full = [True]
    cases = [Case("circuit", unit) for unit in range(3)] + [Case("circuit", task="mnist")]

    def run(case: Case, depths: Sequence[int]) -> Iterable[dict[str, object]]:
        if case.unit == 1 and full:
            full.clear()
            raise OSError("the disk is full")
        measured.append(case.unit)
        own = {name: getattr(case, name) for name in ("system", "task", "unit", "noise", "twin")}
        return [{**own, "depth": depth} for depth in depths]

    monkeypatch.setattr(advantage, "measure", run)
    with pytest.raises(OSError, match="full"):
        sweep(path, cases, (1, 2))
    sweep(path, cases, (1, 2))
    sweep(path, cases, (1, 2))
    assert measured == [0, 1, 2, 0]
    with path.open(newline="", encoding="utf-8") as file:
        assert [(r["unit"], r["depth"]) for r in csv.DictReader(file)] == [
            (str(unit), str(depth)) for unit in (0, 1, 2, 0) for depth in (1, 2)
        ]


def test_what_is_best_follows_from_the_accuracies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "map.csv"
    reached = {"nominal": (0.96, 0.93), "neural 9": (0.95, 0.945), "neural 8": (0.90, 0.80)}

    def run(case: Case, depths: Sequence[int]) -> Iterable[dict[str, object]]:
        for depth, (method, accuracy) in product(
            depths, zip(("PAT", "noise-aware"), reached[case.twin], strict=True)
        ):
            yield {
                **{name: getattr(case, name) for name in ("system", "task", "unit", "noise")},
                "twin": case.twin,
                "depth": depth,
                "errors": "0.1 0.2",
                "over_noise": "3 4",
                "parameter_errors": "0.5 0.25",
                "method": method,
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
    assert [one.case.twin for one in found] == list(reached)
    assert found[0].points == pytest.approx(3)
    assert (found[0].error, found[0].passes["PAT"]) == (0.75, 107)
    assert (found[0].input_error, found[0].over_noise) == (pytest.approx(0.3), 7)
