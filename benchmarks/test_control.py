"""One step of a controller of two simulated circuits, in milliseconds and in times of a product.

The product, of a digital layer as wide, tells how fast the machine is.
"""

import statistics
import time
from collections.abc import Callable

import torch

from pnnlab.gradients import ideal
from pnnlab.layers import PhysicalLayer, Rescale, on_device
from pnnlab.plants import Pendulum
from pnnlab.results.control import Amplifier, Samples
from pnnlab.systems import Circuit


def controller() -> torch.nn.Sequential:
    first = Circuit(0, input_dim=16, replays=2, output_dim=32)
    second = first.reprogrammed(input_dim=32, replays=2, output_dim=8)
    return torch.nn.Sequential(
        PhysicalLayer(first, None, ideal, encoding=Samples(Pendulum())),
        PhysicalLayer(second, None, ideal, encoding=Rescale(32)),
        Rescale(8),
        Amplifier(8, 1),
    ).eval()


def median_ms(act: Callable[[], object], repeats: int = 300) -> float:
    for _ in range(20):
        act()
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        act()
        taken.append(1e3 * (time.perf_counter() - start))
    return statistics.median(taken)


def test_a_control_step(benchmark):
    torch.set_num_threads(1)
    network, state = controller(), torch.full((1, 4), 0.51)
    matrix = torch.rand(512, 512)
    with torch.no_grad(), on_device(network):
        step = median_ms(lambda: network(state))
        product = median_ms(lambda: matrix @ matrix)
        benchmark.extra_info["ms a step, median"] = round(step, 3)
        benchmark.extra_info["times a product of 512 by 512"] = round(step / product, 2)
        benchmark(network, state)
