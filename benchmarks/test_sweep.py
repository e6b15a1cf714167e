"""What a sweep gains by workers, and what it costs beside the tasks themselves."""

import os
from pathlib import Path
from time import perf_counter, process_time

import dask
import psutil
import sweep_tasks
from dask.distributed import Client, LocalCluster

from pnnlab.results.sweeping import Sweep, local_client

GAIN = 1.8  # least of two workers beside one
OVERHEAD = 0.05  # most, of a task of 30 s
GROWTH_MB = 60  # most, of this process with Dask's scheduler in it, by 1 000 tasks
BUSY = 0.95  # least part of the time of 200 workers in which they work


def note(benchmark, **values: float) -> None:
    benchmark.extra_info.update(values)
    benchmark.extra_info["load of the machine"] = round(os.getloadavg()[0], 1)


def seconds(sweep: Sweep) -> float:
    start = perf_counter()
    sweep.run(progress=False)
    assert not sweep.failed
    return perf_counter() - start


def test_two_workers_beside_one(benchmark, tmp_path: Path):
    times = {1: 0.0, 2: 0.0}
    for turn in range(4):  # one after the other, for the machine's own speed changes
        workers = 1 + turn % 2
        with local_client(workers) as client:
            warm = Sweep(sweep_tasks.threads, {"seed": range(8)}, tmp_path / "warm", client=client)
            warm.run(progress=False)
            out = tmp_path / str(turn)
            sweep = Sweep(sweep_tasks.busy, {"seed": range(20)}, out, client=client)
            times[workers] += seconds(sweep)
    gain = times[1] / times[2]
    note(benchmark, gain=round(gain, 2))
    benchmark.pedantic(lambda: None)
    assert gain >= GAIN


def test_overhead_of_a_task(benchmark, tmp_path: Path):
    with local_client(2) as client:
        Sweep(sweep_tasks.threads, {"seed": range(8)}, tmp_path, client=client).run(progress=False)
        sweep = Sweep(sweep_tasks.half_a_minute, {"seed": range(2)}, tmp_path, client=client)
        overhead = seconds(sweep) / 30 - 1
    note(benchmark, overhead=round(overhead, 4))
    benchmark.pedantic(lambda: None)
    assert overhead <= OVERHEAD


def test_memory_of_a_thousand_tasks(benchmark, tmp_path: Path):
    process = psutil.Process()
    with local_client(2) as client:
        first = Sweep(sweep_tasks.nothing, {"seed": range(100)}, tmp_path, client=client)
        first.run(progress=False)
        before = process.memory_info().rss
        grid = {"seed": range(100, 1100)}
        spent = seconds(Sweep(sweep_tasks.nothing, grid, tmp_path, client=client))
        growth = (process.memory_info().rss - before) / 1e6
        workers = client.run(lambda: psutil.Process().memory_info().rss / 1e6)
    most = max(workers.values())
    note(benchmark, MB=round(growth, 1), ms_a_task=round(spent), MB_of_a_worker=round(most))
    benchmark.pedantic(lambda: None)
    assert growth <= GROWTH_MB


def test_two_hundred_workers_are_busy(benchmark, tmp_path: Path):
    """All in this process, with tasks that sleep: it is the sweep and Dask that are measured.

    Each samples its threads a hundred times a second, for Dask's dashboard, in a process of its
    own. Here they share one, so that this is left out: with it they are busy for 63 % of the time.
    """
    own = {
        "distributed.worker.profile.enabled": False,
        "distributed.admin.system-monitor.interval": "10s",
    }
    with (
        dask.config.set(own),
        LocalCluster(
            n_workers=200,
            processes=False,
            threads_per_worker=1,
            memory_limit=0,
            dashboard_address=None,
        ) as cluster,
        Client(cluster) as client,
    ):
        Sweep(sweep_tasks.nothing, {"seed": range(400)}, tmp_path, client=client).run(False)
        sweep = Sweep(sweep_tasks.half_a_minute, {"seed": range(400)}, tmp_path, client=client)
        began = process_time()
        busy = 400 * 30 / (200 * seconds(sweep))
        spent = process_time() - began
    note(benchmark, busy=round(busy, 3), processor_ms_a_task=round(1000 * spent / 400))
    benchmark.pedantic(lambda: None)
    assert busy >= BUSY
