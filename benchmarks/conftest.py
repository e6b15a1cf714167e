"""Show beside the table of times what each benchmark is about: its `extra_info`, mostly ratios."""

import statistics
import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

NOTES = pytest.StashKey[list[tuple[str, dict[str, object]]]]()


def pytest_configure(config):
    config.stash[NOTES] = []


@pytest.fixture(autouse=True)
def _keep_notes(request):
    uses = "benchmark" in request.fixturenames
    info = request.getfixturevalue("benchmark").extra_info if uses else {}
    yield
    request.config.stash[NOTES].append((request.node.name, info))


def pytest_terminal_summary(terminalreporter, config):
    for name, info in config.stash[NOTES]:
        for label, value in info.items():
            terminalreporter.write_line(f"{name}: {label} = {value}")


@pytest.fixture
def times_faster(benchmark):
    """How many times faster than a torch loop a compiled integrator of the same drive is.

    Forward and backward, one thread, interleaved; the two must agree within ``atol``, and their
    gradients within ten times that.
    """

    def both_ways(integrate: Callable[[Tensor], Tensor], u: Tensor) -> Tensor:
        leaf = u.clone().requires_grad_()
        integrate(leaf).sum().backward()
        assert leaf.grad is not None
        return leaf.grad

    def compare(
        compiled: Callable[[Tensor], Tensor],
        loop: Callable[[Tensor], Tensor],
        u: Tensor,
        atol: float,
    ) -> float:
        torch.set_num_threads(1)
        assert torch.allclose(compiled(u), loop(u), atol=atol)
        assert torch.allclose(both_ways(compiled, u), both_ways(loop, u), atol=10 * atol)
        ratios = []
        for _ in range(7):
            start = time.perf_counter()
            both_ways(loop, u)
            middle = time.perf_counter()
            for _ in range(20):
                both_ways(compiled, u)
            ratios.append((middle - start) / ((time.perf_counter() - middle) / 20))
        median = statistics.median(ratios)
        benchmark.extra_info["times faster, forward and backward"] = round(median)
        benchmark(both_ways, compiled, u)
        return median

    return compare
