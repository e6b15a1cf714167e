"""Ten thousand calls of several clients on one bench, and three thousand random loads."""

import pytest
from shared_bench import fight, loads

CALLS = 10_000
LOADS = 3_000


@pytest.mark.parametrize("clients", [2, 8])
def test_no_client_gets_the_shots_of_another(benchmark, clients: int):
    found = benchmark.pedantic(fight, args=(clients, CALLS), rounds=1)
    benchmark.extra_info |= dict(found)
    assert found.total() == CALLS
    assert found["wrong"] == 0
    assert found["right"] > 0


@pytest.mark.parametrize(
    ("make", "float32"), [("keysight", False), ("keysight", True), ("tektronix", False)]
)
def test_no_load_leaves_the_limits(benchmark, make: str, float32: bool):
    beyond = benchmark.pedantic(loads, args=(LOADS, make, float32), rounds=1)
    benchmark.extra_info["beyond"] = beyond
    assert beyond == 0
