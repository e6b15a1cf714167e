"""The compiled circuit beside a torch loop of the same integrator, in one run."""

import torch
from torch import Tensor

from pnnlab.systems.circuit import CircuitConstants, oscillate


def torch_loop(u: Tensor, k: CircuitConstants, substeps: int = 2) -> Tensor:
    def slopes(i: Tensor, v: Tensor, drive: Tensor) -> tuple[Tensor, Tensor]:
        z = v - k.v_t
        q = 0.5 * (z + torch.sqrt(z * z + k.s * k.s))
        return k.w_l * (drive - k.r * i - v), k.w_c * (i - k.g * q * q)

    i, v = torch.zeros(u.shape[1]), torch.zeros(u.shape[1])
    out, dt = [], 1 / substeps
    for drive in u:
        for _ in range(substeps):
            i1, v1 = slopes(i, v, drive)
            i2, v2 = slopes(i + dt / 2 * i1, v + dt / 2 * v1, drive)
            i3, v3 = slopes(i + dt / 2 * i2, v + dt / 2 * v2, drive)
            i4, v4 = slopes(i + dt * i3, v + dt * v3, drive)
            i = i + dt / 6 * (i1 + 2 * i2 + 2 * i3 + i4)
            v = v + dt / 6 * (v1 + 2 * v2 + 2 * v3 + v4)
        z = v - k.v_t
        q = 0.5 * (z + torch.sqrt(z * z + k.s * k.s))
        out.append(k.a * q * q / (1 + k.a * q * q))
    return torch.stack(out)


def test_compiled_is_a_hundred_times_a_torch_loop(times_faster):
    """196 samples, batch 64."""
    u = 4 * torch.rand(196, 64, generator=torch.Generator().manual_seed(0)) - 2
    constants = CircuitConstants()
    ratio = times_faster(
        lambda u: oscillate(u, constants), lambda u: torch_loop(u, constants), u, atol=1e-5
    )
    assert ratio >= 100
