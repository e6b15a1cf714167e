"""Compiled loops of the resonators and their adjoint."""

import math
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pnnlab.compiling import compiled

Array: TypeAlias = NDArray[Any]

FRAME = 64  # samples over which a detector averages


@compiled(fastmath={"contract", "reassoc"})
def ring(drive: Array, table: Array, knee: float, path: Array, level: Array) -> None:
    """Drive resonators, (batch, samples), from rest, and detect how strongly they ring.

    The ``table``, (batch, 4, resonators), holds pole and gain, real and imaginary parts: in a
    sample an amplitude becomes pole * amplitude + gain * drive. ``level``, (batch, samples //
    FRAME, resonators), takes means of ``sqrt(|amplitude|^2 + knee^2) - knee``, and ``path``,
    (batch, samples + 1, 2, resonators), the amplitudes; one of (1, 2, 2, resonators) is scratch.
    """
    batch, samples = drive.shape
    keep = len(path) == batch and path.shape[1] == samples + 1
    threshold = level.dtype.type(knee)
    share = level.dtype.type(1 / FRAME)
    level[:] = level.dtype.type(0)
    for b in range(batch):
        rows = path[b if keep else 0]
        rows[0] = level.dtype.type(0)
        poles = table[b]
        for n in range(samples):
            old = rows[n if keep else n % 2]
            new = rows[n + 1 if keep else (n + 1) % 2]
            force, mean = drive[b, n], level[b, n // FRAME]
            for k in range(table.shape[2]):
                real = poles[0, k] * old[0, k] - poles[1, k] * old[1, k] + poles[2, k] * force
                imag = poles[1, k] * old[0, k] + poles[0, k] * old[1, k] + poles[3, k] * force
                new[0, k] = real
                new[1, k] = imag
                size = math.sqrt(real * real + imag * imag + threshold * threshold)
                mean[k] += share * (size - threshold)


@compiled(fastmath={"contract", "reassoc"})
def ring_adjoint(
    drive: Array, table: Array, knee: float, path: Array, grad: Array, by_drive: Array, by: Array
) -> None:
    """Pull the gradient ``grad`` of the levels back to the drive and the table; see `ring`."""
    batch, samples = drive.shape
    kind = grad.dtype.type
    threshold = kind(knee)
    share = kind(1 / FRAME)
    lam = np.empty((2, table.shape[2]), grad.dtype)
    sums = np.empty(table.shape[1:], grad.dtype)
    for b in range(batch):
        poles = table[b]
        sums[:] = kind(0)
        lam[:] = kind(0)
        for n in range(samples - 1, -1, -1):
            old, new = path[b, n], path[b, n + 1]
            force, wanted = drive[b, n], grad[b, n // FRAME]
            total = kind(0)
            for k in range(table.shape[2]):
                size = math.sqrt(new[0, k] ** 2 + new[1, k] ** 2 + threshold * threshold)
                pull = share * wanted[k] / size
                real = lam[0, k] + pull * new[0, k]
                imag = lam[1, k] + pull * new[1, k]
                sums[0, k] += real * old[0, k] + imag * old[1, k]
                sums[1, k] += imag * old[0, k] - real * old[1, k]
                sums[2, k] += real * force
                sums[3, k] += imag * force
                total += poles[2, k] * real + poles[3, k] * imag
                lam[0, k] = poles[0, k] * real + poles[1, k] * imag
                lam[1, k] = poles[0, k] * imag - poles[1, k] * real
            by_drive[b, n] = total
        by[b] = sums
