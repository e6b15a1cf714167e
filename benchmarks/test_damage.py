"""A thousand damaged files of each kind: none is read as if it were whole."""

import random
from pathlib import Path

import pytest
from damaging import KINDS, Made

FILES = 1000


@pytest.mark.parametrize("kind", KINDS)
def test_no_damaged_file_is_read_silently(benchmark, kind: str, tmp_path: Path):
    made, chance = Made(kind, tmp_path), random.Random(0)

    def flipped() -> tuple[tuple[int, int], dict[str, object]]:
        return (chance.randrange(len(made.whole)), chance.randrange(8)), {}

    outcomes: list[str] = []
    benchmark.pedantic(
        lambda place, bit: outcomes.append(made.flipped(place, bit)), setup=flipped, rounds=FILES
    )
    for outcome in sorted(set(outcomes)):
        benchmark.extra_info[outcome] = outcomes.count(outcome)
    assert set(outcomes) <= {"refused", "equal"}
