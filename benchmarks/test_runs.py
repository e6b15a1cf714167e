"""What it costs to keep a run, beside the same steps with `fit` alone, in turn."""

from collections.abc import Iterable
from pathlib import Path
from time import perf_counter
from types import SimpleNamespace

import torch
from torch import nn
from toy import Toy, ToyTwin

from pnnlab.gradients import physics_aware
from pnnlab.layers import PhysicalLayer
from pnnlab.runs import Run
from pnnlab.training import FitSettings, Record, Training

ROUNDS = 7
MOST = 1.25  # times the bare steps; none with a real or simulated device is as short as a toy's
SETTINGS = FitSettings(epochs=40, batch_size=64, evaluations=4)  # 400 steps, two checkpoints


def training() -> Training:
    network = nn.Sequential(
        PhysicalLayer(Toy(), ToyTwin(), physics_aware),
        nn.Linear(6, 6),
        PhysicalLayer(Toy(seed=1), ToyTwin(), physics_aware),
        nn.Linear(6, 3),
    )
    examples = SimpleNamespace(x=torch.rand(640, 6), targets=torch.randint(0, 3, (640,)))
    return Training(network, SimpleNamespace(train=examples, validation=examples), SETTINGS)


def seconds(records: Iterable[Record]) -> float:
    start = perf_counter()
    for _ in records:
        pass
    return perf_counter() - start


def test_keeping_a_run_costs_little(benchmark, tmp_path: Path):
    torch.set_num_threads(1)
    bare: list[float] = []
    kept: list[float] = []

    def prepare() -> tuple[tuple[Run], dict[str, object]]:
        bare.append(seconds(training().records()))
        return (Run.open(tmp_path / f"{len(kept)}", training()),), {}

    benchmark.pedantic(
        lambda run: kept.append(seconds(run.records())),
        setup=prepare,
        rounds=ROUNDS,
        warmup_rounds=1,
    )

    ratio = min(kept) / min(bare)  # what else the machine does can only add to either
    benchmark.extra_info["ratio to fit alone"] = round(ratio, 4)
    assert ratio <= MOST
