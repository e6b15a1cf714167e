"""The sweep that measures when physics-aware training is worth its passes."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from pnnlab.results import advantage
from pnnlab.results.advantage import measure, sweep
from pnnlab.results.setups import Case, Setup
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


def test_a_sweep_goes_on_where_it_was(tmp_path: Path) -> None:
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

    with pytest.raises(OSError, match="full"):
        sweep(path, cases, (1, 2), run)
    sweep(path, cases, (1, 2), run)
    sweep(path, cases, (1, 2), run)
    assert measured == [0, 1, 2, 0]
    with path.open(newline="", encoding="utf-8") as file:
        assert [(r["unit"], r["depth"]) for r in csv.DictReader(file)] == [
            (str(unit), str(depth)) for unit in (0, 1, 2, 0) for depth in (1, 2)
        ]
