"""Time multiplexing: how one physical node gets many inputs, and what it is driven with.

The generator replays the input several times. Each replay has its own scale and offset for each
element; both are trainable. The computer forms this waveform, so systems and twins share it.

Source: Wright, Onodera et al., Nature 601, 549 (2022), the electronic PNN, whose parameters are
an element-wise scale and offset of the drive.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pnnlab.physical_system import Group

DRIVE_RANGE = 2.0  # the drive reaches from minus to plus this


def param_dim(input_dim: int, replays: int) -> int:
    """Length of theta: a scale and an offset for each sample of the drive."""
    return 2 * input_dim * replays


def theta_groups(input_dim: int, replays: int) -> tuple[Group, ...]:
    """Scales, then offsets, replay by replay."""
    names = [f"{what}, replay {i + 1}" for what in ("scale", "offset") for i in range(replays)]
    return tuple(Group(name, i * input_dim, (i + 1) * input_dim) for i, name in enumerate(names))


def drive(x: Tensor, theta: Tensor, replays: int) -> Tensor:
    r"""Waveform that drives the node: :math:`u = (2 \theta_s - 1)\, x + (2 \theta_o - 1)`.

    Parameters
    ----------
    x : Tensor, (batch, input_dim), in [0, 1]
    theta : Tensor, (2 * replays * input_dim,) or (batch, ...), in [0, 1]
        First all scales, replay by replay, then all offsets.
    replays : int

    Returns
    -------
    Tensor, (replays * input_dim, batch)
        Drive in [-2, 2], time first. Differentiable.
    """
    batch, width = x.shape
    signed = 2 * theta - 1
    if theta.ndim == 1:
        scale, offset = signed.view(2, replays, width, 1)
    else:
        scale, offset = signed.view(batch, 2, replays, width).permute(1, 2, 3, 0)
    # Time first and contiguous: the integrator works on whole batches sample by sample.
    return torch.addcmul(offset, scale, x.T.contiguous()).reshape(replays * width, batch)


def quantised(u: NDArray[Any], codes: int) -> NDArray[Any]:
    """The drive behind a converter of so many codes over its range; 0 for an ideal one."""
    if not codes:
        return u
    step = 2 * DRIVE_RANGE / codes
    return np.rint(u / step) * step


def segment_means(wave: Tensor, outputs: int) -> Tensor:
    """Read-out: means over equal segments of a waveform.

    Parameters
    ----------
    wave : Tensor, (samples, batch)
    outputs : int
        Divides the number of samples.

    Returns
    -------
    Tensor, (batch, outputs)
    """
    samples, batch = wave.shape
    return wave.view(outputs, samples // outputs, batch).mean(1).T
