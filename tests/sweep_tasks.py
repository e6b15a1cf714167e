"""Functions that tests sweep: workers import them from here."""

import os
import random
import time
from pathlib import Path

from pnnlab.results import Row


def short(seed: int, tolerance: float = 0.0) -> Row:
    """Some milliseconds of work whose answer depends on the values alone."""
    generator = random.Random(f"{seed} {tolerance}")
    time.sleep(0.01 + 0.02 * generator.random())
    accuracy = generator.random()
    return Row(system="toy", task="t", method="m", seed=seed, n_test=100, accuracy=accuracy)


def faulty(seed: int, folder: Path) -> Row:
    """Fails always for seed 1, and twice for seed 2; each try leaves a line."""
    with (folder / "tries").open("a", encoding="utf-8") as file:
        file.write("x\n")
    tries = len((folder / "tries").read_text(encoding="utf-8").splitlines())
    if seed == 1 or (seed == 2 and tries < 3):
        raise ValueError(f"seed {seed} is bad")
    return short(seed)


def deadly(seed: int, folder: Path) -> Row:
    """Counts to three, a file each; kills its process after the first and the second."""
    steps = len(list(folder.glob("step*")))
    (folder / f"step{steps + 1}").touch()
    if steps < 2:
        os.kill(os.getpid(), 9)
    return short(seed)


def on_bench(seed: int, needs: bool, folder: Path) -> Row:
    """Notes which process ran it; of those that need the bench one at a time."""
    if needs:
        lock = folder.parent / "bench"
        lock.touch(exist_ok=False)
        time.sleep(0.02)
        lock.unlink()
    (folder / "pid").write_text(str(os.getpid()), encoding="utf-8")
    return short(seed)


def threads(seed: int) -> Row:
    """Gives as its layers the most threads that any library would compute with."""
    import numba
    import threadpoolctl
    import torch

    pools = [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]
    most = max(torch.get_num_threads(), numba.get_num_threads(), *pools)
    return Row(system="toy", task="t", method="m", seed=seed, layers=most)


def slow(seed: int) -> Row:
    """As `short`, which it calls."""
    return short(seed)


FACTOR = 0.25


def scaled(x: float) -> float:
    return FACTOR * x


class Scaled:
    """Its method uses what no function of the sweep names."""

    def of(self, x: float) -> float:
        return scaled(x)


def nested(seed: int) -> float:
    """Uses a function inside an expression with a scope of its own."""
    return max(scaled(x) for x in (seed, 1))


def by_class(seed: int) -> float:
    """Uses a class whose method uses it."""
    return Scaled().of(seed)


def by_scale(seed: int, scale: str) -> Row:
    """Is better at paper."""
    accuracy = {"quick": 0.6, "paper": 0.9}[scale]
    return Row(system="toy", task="t", method="m", seed=seed, n_test=100, accuracy=accuracy)


def nothing(seed: int) -> None:
    """An empty task."""


def busy(seed: int) -> None:
    """About two seconds of one processor."""
    number = 0
    for step in range(40_000_000):
        number += step * seed


def half_a_minute(seed: int) -> None:
    """Uses no processor."""
    time.sleep(30)
