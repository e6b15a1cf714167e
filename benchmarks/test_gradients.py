"""What a step of physics-aware training costs over its two unavoidable parts.

The unit is a plain step on the twin plus a forward pass of the device; beside it stands the way
of the authors' helper, ``torch.autograd.functional.vjp`` inside a Function. All in one run,
interleaved, one thread.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pnnlab.gradients import Response, in_silico, physics_aware
from pnnlab.physical_system import PhysicalSystem
from pnnlab.systems import Circuit
from pnnlab.twins import CircuitEquations, PhysicsTwin


class Wide(nn.Module):
    """A neural twin of the size that the authors used for their optics: 196 inputs to 196."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(392, 500), nn.SiLU(), nn.Linear(500, 1000), nn.SiLU(), nn.Linear(1000, 196)
        )

    def forward(self, x: Tensor, theta: Tensor) -> Tensor:
        y: Tensor = self.net(torch.cat([x, theta[: x.shape[1]].expand(len(x), -1)], 1))
        return y


def through_vjp(system: PhysicalSystem, twin: nn.Module) -> Response:
    class Vjp(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, theta: Tensor) -> Tensor:
            ctx.save_for_backward(x, theta)
            return system(x, theta)

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Any:
            return torch.autograd.functional.vjp(twin, ctx.saved_tensors, v=grad)[1]

    apply: Response = Vjp.apply
    return apply


def step(respond: Response, x: Tensor, theta: Tensor) -> Callable[[], None]:
    def once() -> None:
        leaf, parameters = x.clone().requires_grad_(), theta.clone().requires_grad_()
        respond(leaf, parameters).square().sum().backward()

    return once


@pytest.mark.parametrize("kind", ["physics twin", "neural twin"])
@pytest.mark.parametrize(("batch", "limit"), [(32, 1.2), (256, 1.1)])
def test_pat_costs_little_over_its_parts(benchmark, kind, batch, limit):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    system = Circuit(0)
    twin = (
        PhysicsTwin(system, CircuitEquations(replays=4)) if kind == "physics twin" else Wide()
    ).requires_grad_(False)
    x, theta = torch.rand(batch, 196), torch.rand(system.param_dim)
    ours = step(physics_aware(system, twin), x, theta)
    theirs = step(through_vjp(system, twin), x, theta)
    plain = step(in_silico(system, twin), x, theta)
    ways = {
        "ours": ours,
        "vjp": theirs,
        "parts": lambda: (plain(), system(x, theta)),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(60):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            times[name].append(time.perf_counter() - start)
    pairs = list(zip(times["ours"], times["vjp"], times["parts"], strict=True))[5:]
    ratio = statistics.median(o / p for o, _, p in pairs)
    benchmark.extra_info["over its parts"] = round(ratio, 3)
    benchmark.extra_info["autograd.functional.vjp"] = round(
        statistics.median(v / p for _, v, p in pairs), 3
    )
    benchmark(ours)
    assert ratio <= limit
