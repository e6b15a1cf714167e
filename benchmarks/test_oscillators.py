"""A step of physics-aware training beside the way of the authors' code, both torch, in one run."""

import statistics
import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pnnlab.gradients import physics_aware
from pnnlab.systems.oscillators import OscillatorImperfections, Oscillators, coupling_matrix, split
from pnnlab.twins import OscillatorEquations, PhysicsTwin

Slope = Callable[[Tensor, Tensor, Tensor], Tensor]
DEVIATION = 0.2  # of the plain machine's couplings, as in `OscillatorImperfections`


def slope(scale: float, errors: Tensor | None) -> Slope:
    """The right side in the manner of the authors' code: Q anew in each stage, q and p stacked."""

    def rate(z: Tensor, couplings: Tensor, biases: Tensor) -> Tensor:
        matrix = (couplings + couplings.T) / 2
        matrix = matrix - torch.diag(matrix.diagonal()) - torch.diag(matrix.sum(0))
        sine = torch.sin(scale * z[..., 0])
        pull = sine @ matrix - sine + biases
        if errors is not None:
            pull = pull + sine @ errors
        return torch.stack([z[..., 1], pull], -1)

    return rate


def runge_kutta(
    rate: Slope, z: Tensor, couplings: Tensor, biases: Tensor, steps: int = 5
) -> Tensor:
    h = 0.5 / steps
    for _ in range(steps):
        k1 = rate(z, couplings, biases)
        k2 = rate(z + h / 2 * k1, couplings, biases)
        k3 = rate(z + h / 2 * k2, couplings, biases)
        k4 = rate(z + h * k3, couplings, biases)
        z = z + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return z


class PlainAware(torch.autograd.Function):
    """Forward through one, backward through `torch.autograd.functional.vjp` of the other."""

    @staticmethod
    def forward(ctx, system, twin, *arguments):
        ctx.twin = twin
        ctx.save_for_backward(*arguments)
        return system(*arguments)

    @staticmethod
    def backward(ctx, grad):
        with torch.enable_grad():
            _, found = torch.autograd.functional.vjp(ctx.twin, ctx.saved_tensors, v=grad)
        return None, None, *found


def plain_step(n: int, start: Tensor, theta: Tensor, errors: Tensor) -> Callable[[], Tensor]:
    couplings, biases = split(theta, n)
    device, model = slope(1.1, errors), slope(1.0, None)

    def step() -> Tensor:
        leaf = couplings.clone().requires_grad_()
        z = torch.stack([start, torch.zeros_like(start)], -1)
        end = PlainAware.apply(
            lambda *a: runge_kutta(device, *a), lambda *a: runge_kutta(model, *a), z, leaf, biases
        )
        end[..., 0].sum().backward()
        assert leaf.grad is not None
        return leaf.grad

    return step


def own_step(n: int, x: Tensor, theta: Tensor, steps: int) -> Callable[[], Tensor]:
    system = Oscillators(n, steps=steps)
    respond = physics_aware(system, PhysicsTwin(system, OscillatorEquations(n, steps=steps)))

    def step() -> Tensor:
        leaf = theta.clone().requires_grad_()
        respond(x, leaf).sum().backward()
        assert leaf.grad is not None
        return leaf.grad

    return step


@pytest.mark.parametrize(
    ("n", "batch", "least"), [(206, 32, 2.5), (206, 256, 1.8), (1610, 32, 4.0), (1610, 256, 1.8)]
)
def test_a_step_is_faster_than_the_authors_way(benchmark, n, batch, least):
    """Processor time, interleaved, one thread; ours also draws noise and checks ranges.

    What is saved: Q once in place of once a stage, two stages in one product, no velocity stacked.
    """
    torch.set_num_threads(1)
    random = torch.Generator().manual_seed(0)
    x = torch.rand(batch, n, generator=random)
    theta = Oscillators(n).weak_theta()
    errors = coupling_matrix(DEVIATION * torch.randn(n, n, generator=random))
    plain = plain_step(n, x, theta, errors)
    own, coarse = own_step(n, x, theta, 5), own_step(n, x, theta, 2)
    repeats, rounds = (5, 5) if n < 1000 else (1, 3)
    ratios: list[float] = []
    coarse_ratios: list[float] = []
    for _ in range(rounds):
        took = []
        for step in (plain, own, coarse):
            began = time.process_time()
            for _ in range(repeats):
                step()
            took.append(time.process_time() - began)
        ratios.append(took[0] / took[1])
        coarse_ratios.append(took[0] / took[2])
    benchmark.extra_info[f"n {n}, batch {batch}: times faster, RK4 x 5"] = round(
        statistics.median(ratios), 1
    )
    benchmark.extra_info[f"n {n}, batch {batch}: times faster, RK4 x 2"] = round(
        statistics.median(coarse_ratios), 1
    )
    benchmark.pedantic(own, rounds=rounds)
    assert statistics.median(ratios) >= least


def test_both_compute_the_same():
    """Without imperfections the two are one function, and so are their gradients."""
    n, random = 30, torch.Generator().manual_seed(0)
    x, theta = torch.rand(4, n, generator=random), torch.rand(n * n + n, generator=random)
    couplings, biases = split(theta, n, 1.0)
    z = torch.stack([x, torch.zeros_like(x)], -1)
    expected = runge_kutta(slope(1.0, None), z, couplings, biases)[..., 0]
    perfect = OscillatorImperfections(0.0, 0.0, 0.0)
    system = Oscillators(n, coupling_range=1.0, imperfections=perfect)
    assert torch.allclose(system(x, theta), expected, atol=1e-5)
