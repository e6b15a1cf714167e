"""What a bench adds to the blocks that it moves, and what is left of it after long use.

For times the virtual instruments are in another process, as real ones are in another box.
"""

import math
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from time import perf_counter
from types import SimpleNamespace

import psutil
import pytest
import torch
from torch import nn

from pnnlab.gradients import physics_aware
from pnnlab.instruments.bench import Bench, open_bench
from pnnlab.instruments.generator import Limits
from pnnlab.instruments.link import Link
from pnnlab.instruments.programme import CableProgramme, CircuitProgramme
from pnnlab.layers import PhysicalLayer, Rescale
from pnnlab.results import mean_interval
from pnnlab.systems import Circuit
from pnnlab.systems.analog import cable
from pnnlab.training import FitSettings, Training, accuracy
from pnnlab.twins import CircuitEquations, PhysicsTwin
from pnnlab.virtual_bench import Faults, VirtualBench
from pnnlab.virtual_bench.bench import KINDS

LIMITS = Limits(low_v=-10, high_v=10)
CABLE = CableProgramme(100)
DELAY_S = 0.04e-6  # of the virtual bench
NOTHING = torch.zeros(0)

HALF_A_CODE = 0.0032  # of 200 on a screen of 2.5 V, where 2 V are 1

LARGEST = 0  # stands for as many shots as memory holds
LEAST = 0.8  # of the rate at which the blocks alone go over the same links

SAMPLES = 10_000_000
SHOTS = 100  # in a batch
WARMING = 2200  # batches: the interpreter's free lists keep 2 000 objects of a size
MORE_MEMORY = 1.05  # at most, in the last tenth, times that of the first
MORE_TIME = 1.3

FAULTS = 200
TESTED = 1000
EPOCHS = 15


@pytest.fixture
def instruments() -> Iterator[psutil.Process]:
    """A virtual bench with a cable in it; its addresses are what it prints."""
    command = [sys.executable, "-m", "pnnlab.cli", "virtual-bench", "--system=cable", "--no-noise"]
    with psutil.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


@pytest.fixture
def bench(instruments: psutil.Process) -> Iterator[Bench]:
    addresses = [instruments.stdout.readline().split()[-1] for _ in range(2)]
    with open_bench(*addresses, CABLE, limits=LIMITS, delay_s=DELAY_S, guarded=False) as opened:
        yield opened


def seconds(call: Callable[[], object]) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start


def undisturbed(times: list[float]) -> float:
    """The first decile: what else the machine does can only add to a time."""
    return statistics.quantiles(times, n=10)[0]


def commands_and_blocks(take: Callable[[], object]) -> list[tuple[bool, Callable[[], object]]]:
    """What a batch says over its links without its questions, to be said again.

    Returns
    -------
    list of (bool, callable)
        Whether it moves a block, and how to do it.
    """
    said: list[tuple[bool, Callable[[], object]]] = []

    def noted(name: str) -> Callable[..., object]:
        through = getattr(Link, name)

        def say(*args: object, **options: object) -> object:
            moves = name == "ask_block" or any(isinstance(one, tuple) for one in args)
            said.append((moves, partial(through, *args, **options)))
            return through(*args, **options)

        return say

    with pytest.MonkeyPatch.context() as patch:
        for name in ("send", "ask_block"):
            patch.setattr(Link, name, noted(name))
        take()
    return said


@pytest.mark.parametrize("shots", [1, 16, 256, LARGEST])
def test_a_batch_moves_as_fast_as_its_blocks(benchmark, bench: Bench, shots: int):
    """Between two blocks a record has to be taken, else the second would be the last one again."""
    shots = shots or bench._acquisition.at_once(CABLE.samples)
    x = torch.rand(shots, CABLE.input_dim)
    assert (bench(x, NOTHING) - x).abs().max() < HALF_A_CODE
    said = commands_and_blocks(lambda: bench(x, NOTHING))
    assert [moves for moves, _ in said] == [True, False, False, True]  # up, arm, play, down

    blocks: list[float] = []
    alone: list[float] = []
    batches: list[float] = []
    generator = bench._acquisition.generator
    cleared = [command.format_map(generator._values) for command in generator.dialect.make_room]

    def prepare() -> None:
        generator.link.send(*cleared)  # or the name of the waveform would be taken
        pairs = [(moves, seconds(say)) for moves, say in said]
        blocks.append(sum(each for moves, each in pairs if moves))
        alone.append(sum(each for _, each in pairs))

    benchmark.pedantic(
        lambda: batches.append(seconds(lambda: bench(x, NOTHING))),
        setup=prepare,
        rounds=40 if shots > 1000 else 200,
        warmup_rounds=2,
    )
    pairs = [least / most for least, most in zip(alone, batches, strict=True)]
    rate = statistics.median(pairs)
    playing = 1 - statistics.median(blocks) / statistics.median(alone)
    note = benchmark.extra_info
    note["shots in a batch"] = shots
    note["shots per second"] = round(shots / statistics.median(batches))
    note["rate relative to the blocks alone"] = round(rate, 3)
    note["the same, of the fastest tenth"] = round(undisturbed(alone) / undisturbed(batches), 3)
    note["arming and playing, part of the blocks' time"] = round(playing, 3)
    assert rate >= (LEAST if shots > 1000 else 0)
    assert bench.tally.retaken == {}


def test_ten_million_samples_leave_nothing_behind(
    benchmark, bench: Bench, instruments: psutil.Process
):
    batches = -(-SAMPLES // (SHOTS * CABLE.samples))
    x = torch.rand(SHOTS, CABLE.input_dim)
    processes = psutil.Process(), psutil.Process(instruments.pid)
    first, last = Tenth(), Tenth()

    def run() -> None:
        for number in range(batches):
            tenth = first if number < batches / 10 else last if number >= batches * 0.9 else None
            if number in (0, -(-batches * 9 // 10)):
                tracemalloc.reset_peak()
            taken = seconds(lambda: bench(x, NOTHING))
            if tenth is not None:
                tenth.times.append(taken)
                tenth.traced = max(tenth.traced, tracemalloc.get_traced_memory()[1])
                tenth.resident = [
                    max(most, process.memory_info().rss)
                    for most, process in zip(tenth.resident, processes, strict=True)
                ]

    tracemalloc.start()
    try:
        for _ in range(WARMING):
            bench(x, NOTHING)
        benchmark.pedantic(run, rounds=1)
    finally:
        tracemalloc.stop()
    ratios = {
        "memory that Python holds": last.traced / first.traced,
        "memory of this process": last.resident[0] / first.resident[0],
        "memory of the instruments": last.resident[1] / first.resident[1],
        "time of a batch": last.time / first.time,
    }
    note = benchmark.extra_info
    note["samples"] = batches * SHOTS * CABLE.samples
    for label, ratio in ratios.items():
        note[f"{label}, last tenth to first"] = round(ratio, 3)
        assert ratio < (MORE_TIME if label.startswith("time") else MORE_MEMORY)


class Tenth:
    """The most memory and the times of a tenth of the batches."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.traced = 0
        self.resident = [0, 0]

    @property
    def time(self) -> float:
        """Of a batch."""
        return undisturbed(self.times)


def trained(bench: Bench, faults: Faults | None = None) -> float:
    """Accuracy in the end; faults that wait begin with the training."""
    torch.manual_seed(0)
    split, test = examples(2000), examples(TESTED)
    twin = PhysicsTwin(bench, CircuitEquations(replays=2))
    layer = PhysicalLayer(bench, twin, physics_aware, encoding=Rescale(16))
    network = nn.Sequential(layer, nn.BatchNorm1d(8), nn.Linear(8, 2))
    settings = FitSettings(epochs=EPOCHS, batch_size=20, learning_rate=0.005, evaluations=1)
    if faults is not None:
        faults.start()
    for _ in Training(network, SimpleNamespace(train=split, validation=split), settings).records():
        pass
    return accuracy(network, test)


def examples(count: int) -> SimpleNamespace:
    """Which half has the larger sum?"""
    x = torch.rand(count, 16)
    return SimpleNamespace(x=x, targets=(x[:, :8].sum(1) > x[:, 8:].sum(1)).long())


def difference(first: float, second: float) -> tuple[float, float]:
    """95 % interval of the difference of two accuracies: Newcombe's, from those of Wilson."""
    one, other = (mean_interval([accuracy], TESTED) for accuracy in (first, second))
    return (
        first - second - math.hypot(first - one.low, other.high - second),
        first - second + math.hypot(one.high - first, second - other.low),
    )


@contextmanager
def circuit_on_a_bench(faults: Faults | None = None) -> Iterator[Bench]:
    programme = CircuitProgramme(input_dim=16, replays=2, outputs=8)
    with (
        VirtualBench(Circuit(0, drift=False).analog_ports(), faults=faults) as there,
        open_bench(
            there.generator,
            there.oscilloscope,
            programme,
            limits=LIMITS,
            timeout_s=0.1,
            guarded=False,
        ) as bench,
    ):
        yield bench


def test_two_hundred_faults_cost_no_accuracy(benchmark):
    """With noise, and with an oscilloscope whose zero moves."""
    faults = Faults(1, mean_messages=180, stall_s=0.15, drift_v=0.02, most=FAULTS, waiting=True)
    with circuit_on_a_bench(faults) as bench:
        disturbed = trained(bench, faults)
        tally = bench.tally
    with circuit_on_a_bench() as bench:
        sound = benchmark.pedantic(lambda: trained(bench), rounds=1)
    low, high = difference(disturbed, sound)
    note = benchmark.extra_info
    note["faults"] = dict(faults.injected)
    note["shots, shots taken again, zero in V"] = (
        tally.shots,
        sum(tally.retaken.values()),
        round(tally.zero_v, 3),
    )
    note["accuracy with and without"] = (disturbed, sound)
    note["95 % interval of the difference"] = (round(low, 4), round(high, 4))
    assert set(faults.injected) == set(KINDS)
    assert faults.injected.total() == FAULTS
    assert sum(tally.retaken.values()) > 1000
    assert sound > 0.9
    assert low <= 0 <= high


SILENCE_S = 0.2  # median, from SIGKILL of the client to an output that is off
CLIENT = """
import sys, torch
from pnnlab.instruments.bench import open_bench
from pnnlab.instruments.generator import Limits
from pnnlab.instruments.programme import CableProgramme

bench = open_bench(*sys.argv[1:3], CableProgramme(12), limits=Limits(-2, 2))
print("open", flush=True)
while True:
    bench(torch.rand(4, 12), torch.zeros(0))
"""


def test_a_killed_client_is_silent_at_once(benchmark):
    """The bursts end by themselves; this is how long the output stays connected."""
    times = []

    def kill() -> None:
        with VirtualBench(cable()) as there, Link(there.generator) as link:
            command = [sys.executable, "-c", CLIENT, there.generator, there.oscilloscope]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
                assert client.stdout.readline() == "open\n"
                client.kill()
                start = perf_counter()
                while link.ask("OUTP1?") == "1":
                    time.sleep(0.002)
                times.append(perf_counter() - start)

    benchmark.pedantic(kill, rounds=5)
    benchmark.extra_info["seconds to an output that is off, median"] = statistics.median(times)
    assert statistics.median(times) <= SILENCE_S
