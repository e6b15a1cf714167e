"""Random drives: what a twin is fitted to."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from pnnlab.characterize.datasets import UNITS, attributes, save
from pnnlab.errors import DataError, RangeError
from pnnlab.physical_system import PhysicalSystem
from pnnlab.plain import seeded, whole

CHUNK = 256  # drives between two signs of progress
SPLITS = ("train",) * 8 + ("validation", "test")  # of every ten drives in turn: drift is in all


def random_drives(shots: int, width: int, smooth: float, generator: torch.Generator) -> Tensor:
    """Draw inputs, uniform in [0, 1], that are white or slow along their elements.

    A twin must know both: white drives never pull a slow device far from rest. Every shot has
    its own correlation length, log-uniform from one element (white) to ``smooth``; the uniform
    values are normal ones sent through their distribution function.

    Returns
    -------
    Tensor, (shots, width), float32

    References
    ----------
    "Uniform or low-pass uniform" inputs: the authors' published experiment code for the optical
    system of Wright, Onodera et al., Nature 601, 549 (2022).
    """
    if width == 0:  # the parameters of a device that has none
        return torch.empty(shots, 0)
    length = torch.exp(torch.rand(shots, 1, generator=generator) * math.log(smooth)) - 1
    white = torch.randn(shots, width, generator=generator)
    kernel = torch.exp(-((math.pi * length * torch.fft.fftfreq(width)) ** 2) / 2)
    slow = torch.fft.ifft(torch.fft.fft(white) * kernel).real
    drives: Tensor = torch.special.ndtr(slow / kernel.square().mean(1, keepdim=True).sqrt())
    return drives


def collecting(
    system: PhysicalSystem,
    n: int,
    *,
    seed: int,
    repeats: int = 2,
    theta: Tensor | None = None,
    smooth: float = 16.0,
    chunk: int = CHUNK,
) -> Iterator[xr.Dataset]:
    """Measure random drives, chunk by chunk; whoever iterates may stop at any time.

    `join` puts chunks together. The arguments are those of `collect`.
    """
    n, seed = whole("n", n), whole("seed", seed)
    repeats, chunk = whole("repeats", repeats, 1), whole("chunk", chunk, 1)
    if smooth < 1:
        raise RangeError(f"smooth is {smooth}; a correlation length is at least 1, one element.")
    for start in range(0, n, chunk):
        size = min(chunk, n - start)
        generator = seeded(seed * 1_000_003 + start)
        x = random_drives(size, system.input_dim, smooth, generator)
        given = theta
        if given is None:
            given = random_drives(size, system.param_dim, smooth, generator)
        yield measured(
            system, x, given, repeats=repeats, first=start, smooth=smooth, seed=seed, asked=n
        )


def measured(
    system: PhysicalSystem,
    x: Tensor,
    theta: Tensor,
    *,
    repeats: int = 2,
    first: int = 0,
    **settings: float,
) -> xr.Dataset:
    """Measure drives that were drawn, in the form that `collect` returns.

    Parameters
    ----------
    x : Tensor, (shots, input_dim)
    theta : Tensor, (param_dim,) or (shots, param_dim)
    repeats : int
        Read-outs of each drive.
    first : int
        Number of the first shot; of every ten in turn, two are held out.
    settings
        How the drives were drawn, for the record.
    """
    before = system.passes
    y = torch.stack([system(x, theta) for _ in range(repeats)])
    numbers = np.arange(first, first + len(x))
    return xr.Dataset(
        {
            "x": (("shot", "input"), x.numpy(), UNITS),
            "theta": (("shot", "parameter")[2 - theta.ndim :], theta.numpy(), UNITS),
            "y": (("repeat", "shot", "output"), y.numpy(), UNITS),
        },
        {"shot": numbers, "split": ("shot", [SPLITS[i % len(SPLITS)] for i in numbers])},
        attributes(system, before, "random drives", repeats=repeats, **settings),
    )


def collect(
    system: PhysicalSystem,
    n: int,
    *,
    seed: int,
    repeats: int = 2,
    theta: Tensor | None = None,
    smooth: float = 16.0,
    progress: Callable[[int, int], object] | None = None,
    path: Path | str | None = None,
) -> xr.Dataset:
    """Measure random drives to fit a twin to.

    Parameters
    ----------
    n : int
        Drives. Of every ten in turn, eight are for training, one for validation, one for testing.
    seed : int
        Of the drives.
    repeats : int
        Read-outs of each drive; two or more tell the noise.
    theta : Tensor, (param_dim,), optional
        Keep the parameters there; by default each shot has its own.
    smooth : float
        Longest correlation along the elements, see `random_drives`; 1 for white drives alone.
    progress : callable, optional
        Called with the number of drives done and ``n`` after each chunk.
    path : path, optional
        Where to `save` the data, also what has been measured when something stops the collection.

    Returns
    -------
    Dataset
        ``x``, (shot, input), ``theta``, (shot, parameter) or (parameter,), ``y``, (repeat, shot,
        output), and the coordinate ``split``: ``"train"``, ``"validation"`` or ``"test"``.
    """
    n = whole("n", n, 1)
    parts: list[xr.Dataset] = []
    try:
        for part in collecting(system, n, seed=seed, repeats=repeats, theta=theta, smooth=smooth):
            parts.append(part)
            if progress is not None:
                progress(sum(p.sizes["shot"] for p in parts), n)
    finally:
        if path is not None and parts:
            save(join(parts), path)
    return join(parts)


def join(parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """Put chunks of `collecting` together; the record counts the passes of all."""
    passes = sum(int(part.attrs["device_passes"]) for part in parts)
    whole = xr.concat(
        parts, "shot", data_vars="minimal", coords="minimal", compat="override", join="override"
    )
    return whole.assign_attrs(parts[0].attrs | {"device_passes": passes})


@dataclass(frozen=True)
class MeasuredShots:
    """Measured shots as tensors: x (n, inputs), theta (n, parameters), y (repeats, n, outputs)."""

    x: Tensor
    theta: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.x)

    def rows(self, chosen: Tensor | slice) -> "MeasuredShots":
        """Some of the shots."""
        return MeasuredShots(self.x[chosen], self.theta[chosen], self.y[:, chosen])


def shots(dataset: xr.Dataset, split: str) -> MeasuredShots:
    """Shots of one split of a collected data set.

    Raises
    ------
    DataError
        It holds no such shots, or is not a collected data set.
    """
    try:
        part = dataset.isel(shot=np.flatnonzero(dataset["split"].values == split))
        x, theta, y = (torch.from_numpy(part[name].values) for name in ("x", "theta", "y"))
    except (KeyError, ValueError) as error:
        raise DataError(
            f"this data set has no random drives ({error}); make one with collect(system, n, "
            "seed=0)."
        ) from error
    if not len(x):
        raise DataError(f"this data set has no {split} shots; collect at least ten drives.")
    return MeasuredShots(x, theta.expand(len(x), -1), y)
