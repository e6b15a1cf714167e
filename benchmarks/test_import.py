"""What `import pnnlab` costs beside `import torch`, in fresh interpreters taken in turn."""

import statistics
import subprocess
import sys

ROUNDS = 7
MOST = 1.2  # times the import of torch


def import_seconds(module: str) -> float:
    """Time an import in a fresh interpreter, without the start of the interpreter itself."""
    code = (
        "from time import perf_counter; start = perf_counter(); "
        f"import {module}; print(perf_counter() - start)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


def test_import_costs_no_more_than_torch(benchmark):
    torch_seconds: list[float] = []
    pnnlab_seconds: list[float] = []

    benchmark.pedantic(
        lambda: pnnlab_seconds.append(import_seconds("pnnlab")),
        setup=lambda: torch_seconds.append(import_seconds("torch")),
        rounds=ROUNDS,
        warmup_rounds=1,
    )

    pairs = zip(pnnlab_seconds[-ROUNDS:], torch_seconds[-ROUNDS:], strict=True)
    ratio = statistics.median(ours / theirs for ours, theirs in pairs)
    benchmark.extra_info["ratio to import torch"] = round(ratio, 4)
    benchmark.extra_info["at most"] = MOST
    assert ratio <= MOST
