"""What is measured inside a kernel, where widgets have a page to talk to: see test_views.py."""

import asyncio
import math
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from types import SimpleNamespace

import anywidget
import numpy as np
import torch
import traitlets
from torch import nn
from toy import Toy, ToyTwin

from pnnlab.background import Session
from pnnlab.gradients import physics_aware
from pnnlab.layers import PhysicalLayer, Rescale
from pnnlab.training import FitSettings, Floats, Training
from pnnlab.views import Plot, PlotGrid, Series, TrainingDashboard

POINTS = 1000
UPDATES = 2000
BATCH = 200  # updates in a row, so that the cores are as awake as they are beside a training
PAIRS = 120  # of turns: in each, the machine's own speed differs by several per cent
BLOCK = 1.0  # seconds; some updates, few enough that the machine stays as it is
SETTLED = 0.8  # seconds after a dashboard was made, whose first updates follow each other fast


def training() -> Training:
    """Three small physical layers: steps of milliseconds, far shorter than a device's."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x = torch.rand(200, 6)
    split = SimpleNamespace(x=x, targets=(x[:, :3].sum(1) > x[:, 3:].sum(1)).long())
    layers = [PhysicalLayer(Toy(), ToyTwin(), physics_aware, encoding=Rescale(6)) for _ in range(3)]
    settings = FitSettings(epochs=200_000, batch_size=20, evaluations=20_000)
    return Training(
        nn.Sequential(*layers, nn.Linear(6, 2)),
        SimpleNamespace(train=split, validation=split),
        settings,
    )


class Bare(anywidget.AnyWidget):
    """The same points, sent as they are: no widget can do it for less."""

    _esm = "export default { render() {} };"
    points = traitlets.Bytes(b"").tag(sync=True)


def update_cost() -> dict[str, float]:
    """Processor time of an update of two traces, in ms, in turn with a bare widget's.

    Of the whole process, whose own thread sends, and of the thread that updates. Two traces are
    one panel: alone, or one of the four of a dashboard, that are updated at once.
    """
    alone, board, bare = PlotGrid(), PlotGrid(), Bare()
    x = np.arange(float(POINTS))
    values = np.random.default_rng(0).random((UPDATES, 2, POINTS))

    def panel(device: Floats, twin: Floats) -> Plot:
        lines = [Series("device", x, device), Series("twin", x, twin)]
        return Plot("Response", "step", "y (V)", lines)

    def send(device: Floats, twin: Floats) -> None:
        bare.points = np.concatenate((x, device, x, twin)).astype("<f4").tobytes()

    ways: dict[str, tuple[int, Callable[[Floats, Floats], None]]] = {
        "of a dashboard": (4, lambda *traces: board.show([panel(*traces) for _ in range(4)])),
        "alone": (1, lambda *traces: alone.show([panel(*traces)])),
        "of a bare widget": (1, send),
    }
    spent: dict[str, list[float]] = defaultdict(list)
    for first in range(0, UPDATES, BATCH):
        for name, (panels, way) in ways.items():
            each = 1e3 / BATCH / panels
            began, own = time.process_time(), time.thread_time()
            for device, twin in values[first : first + BATCH]:
                way(device, twin)
            spent[f"{name}, in its thread"].append(each * (time.thread_time() - own))
            time.sleep(0.3)  # the thread that sends has sent
            spent[name].append(each * (time.process_time() - began))
    return {name: statistics.median(times) for name, times in spent.items()}


async def slowdown(pairs: int = PAIRS, block: float = BLOCK) -> dict[str, float]:
    """A running training with a dashboard and without, in turn: ratios of the time of a step."""
    running = training()
    session = Session(running).start()
    while running.step < 300:
        await asyncio.sleep(0.01)

    async def step_times() -> tuple[float, float]:
        await asyncio.sleep(SETTLED)
        wall, processor, step = time.perf_counter(), time.process_time(), running.step
        await asyncio.sleep(block)
        steps = max(1, running.step - step)
        return (time.perf_counter() - wall) / steps, (time.process_time() - processor) / steps

    async def watched() -> tuple[float, float]:
        dashboard = TrainingDashboard(session)
        taken = await step_times()
        dashboard.close()
        return taken

    with_it: list[tuple[float, float]] = []
    alone: list[tuple[float, float]] = []
    for pair in range(pairs):
        for is_watched in (True, False) if pair % 2 else (False, True):
            (with_it if is_watched else alone).append(
                await (watched() if is_watched else step_times())
            )
    session.stop()
    await session.done()
    wall, processor = ratios(with_it, alone, 0), ratios(with_it, alone, 1)
    low, *_, high = statistics.quantiles(processor, n=6)
    return {
        "wall time": statistics.median(wall),
        "processor time": statistics.median(processor),
        "its standard error": 1.25 * (high - low) / 2 / math.sqrt(pairs),
        "part of a core that the kernel got": statistics.median(p / w for w, p in alone),
    }


def ratios(
    ones: list[tuple[float, float]], others: list[tuple[float, float]], which: int
) -> list[float]:
    return [one[which] / other[which] for one, other in zip(ones, others, strict=True)]
