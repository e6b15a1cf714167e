"""The crystal's solver beside a plain Runge-Kutta integration of equal error, in one run."""

import math
import statistics
import time

import numpy as np
import torch
from torch import Tensor

from pnnlab.systems.shg import Crystal, frequencies, propagate, propagators, read, shaper


def runge_kutta(field: Tensor, crystal: Crystal, steps: int) -> Tensor:
    """Fourth order on the equations as they stand, linear terms inside."""
    delta = [torch.from_numpy(d).to(field.real.dtype) for d in propagators(crystal, frequencies())]
    linear = torch.stack(delta)[:, None]
    h = crystal.length / steps

    def slopes(state: Tensor) -> Tensor:
        first, second = torch.fft.ifft(state, norm="forward")
        source = torch.stack([second * first.conj(), first.square()])
        return 1j * (linear * state + crystal.coupling * torch.fft.fft(source, norm="forward"))

    state = torch.stack([field, torch.zeros_like(field)])
    for _ in range(steps):
        k1 = slopes(state)
        k2 = slopes(state + h / 2 * k1)
        k3 = slopes(state + h / 2 * k2)
        k4 = slopes(state + h * k3)
        state = state + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return state[1]


def test_solver_is_four_times_a_plain_one_of_equal_error(benchmark):
    """Batch 64, one thread, interleaved."""
    torch.set_num_threads(1)
    random, crystal = np.random.default_rng(0), Crystal()
    mask = random.random((64, 50)) * np.exp(1j * random.uniform(-0.8, 0.8, (64, 50)))
    exact_field = torch.from_numpy(mask @ shaper(frequencies()))
    field = exact_field.to(torch.complex64)
    exact = read(propagate(exact_field, crystal, nodes=60)[1])

    def error(harmonic: Tensor) -> float:
        return float((read(harmonic) - exact).square().mean().sqrt() / exact.square().mean().sqrt())

    ours = error(propagate(field, crystal)[1])
    # The fewest steps that are stable and as good.
    steps = next(n for n in range(3, 200) if error(runge_kutta(field, crystal, n)) <= ours)
    leaf = field.clone().requires_grad_()

    def both_ways() -> None:
        leaf.grad = None
        propagate(leaf, crystal)[1].abs().square().sum().backward()

    ratios, backward = [], []
    for _ in range(9):
        start = time.perf_counter()
        runge_kutta(field, crystal, steps)
        middle = time.perf_counter()
        for _ in range(5):
            propagate(field, crystal)
        end = time.perf_counter()
        for _ in range(5):
            both_ways()
        ours_each = (end - middle) / 5
        ratios.append((middle - start) / ours_each)
        backward.append((time.perf_counter() - end) / 5 / ours_each - 1)
    benchmark.extra_info["error"] = ours
    benchmark.extra_info["steps of Runge and Kutta for that"] = steps
    benchmark.extra_info["times faster"] = round(statistics.median(ratios), 1)
    benchmark.extra_info["backward over forward"] = round(statistics.median(backward), 2)
    benchmark(propagate, field, crystal)
    assert ours < 5e-4
    assert math.isfinite(ours)
    assert statistics.median(ratios) >= 4
