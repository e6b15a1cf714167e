"""Random drives and what a device answered to them: what a twin is fitted to, as netCDF."""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5netcdf
import numpy as np
import torch
import xarray as xr
from torch import Tensor

import pnnlab
from pnnlab.errors import DataError, RangeError
from pnnlab.physical_system import PhysicalSystem
from pnnlab.plain import seeded, whole
from pnnlab.provenance import commit, utc_now
from pnnlab.storage import Kind, user_path

CHUNK = 256  # drives between two reports of progress
SPLITS = ("train",) * 8 + ("validation", "test")  # of every ten drives in turn: drift is in all
UNITS = {"units": "1"}  # x, theta and y are fractions of a full range

_DATASET = Kind(name="dataset", format=2, error=DataError, remedy="measure it again")


def save(dataset: xr.Dataset, path: Path | str) -> Path:
    """Write a data set as netCDF; after a `DataError` what was there before is still there."""
    # Through memory: the HDF5 library brings the process down when a disk fills under it.
    return _DATASET.save(user_path(path), dataset.drop_encoding().to_netcdf(engine="h5netcdf"))


def load(path: Path | str) -> xr.Dataset:
    """Read a data set that `save` wrote; raises `DataError` if there is none."""

    def decode(content: memoryview) -> xr.Dataset:
        with h5netcdf.File(io.BytesIO(content)) as file:
            sizes = [math.prod(v.shape) * v.dtype.itemsize for v in file.variables.values()]
        if sum(sizes) > len(content):  # nothing is allocated yet
            raise ValueError(f"its header claims {sum(sizes)} bytes")
        return xr.load_dataset(io.BytesIO(content), engine="h5netcdf")

    return _DATASET.read(user_path(path), decode)


def attributes(
    system: PhysicalSystem, before: int, measurement: str, **settings: float
) -> dict[str, str | int | float]:
    """Write the provenance of data as netCDF attributes; ``before`` are the passes before them."""
    return {
        "pnnlab": pnnlab.__version__,
        "commit": commit() or "",
        "measurement": measurement,
        "system": system.name,
        "input_dim": system.input_dim,
        "param_dim": system.param_dim,
        "output_dim": system.output_dim,
        "device_passes": system.passes - before,
        "time_utc": utc_now(),
        **settings,
    }


def repeated(system: PhysicalSystem, x: Tensor, theta: Tensor, repeats: int) -> Tensor:
    """Measure a batch several times, (repeats, shots, outputs)."""
    return torch.stack([system(x, theta) for _ in range(repeats)])


def random_drives(shots: int, width: int, smooth: float, generator: torch.Generator) -> Tensor:
    """Draw inputs (shots, width), uniform in [0, 1], that are white or slow along their elements.

    A twin needs both: white drives never pull a slow device far from rest. Every shot has
    its own correlation length, log-uniform from one element (white) to ``smooth``.

    Source: "uniform or low-pass uniform" inputs of the authors' published code for the optical
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


def measured(
    system: PhysicalSystem,
    x: Tensor,
    theta: Tensor,
    *,
    repeats: int = 2,
    first: int = 0,
    **settings: float,
) -> xr.Dataset:
    """Measure drives (shots, input_dim), in the form that `collect` returns.

    The ``settings``, which say how they were drawn, are kept; ``first`` is the first shot's number.
    """
    before = system.passes
    y = repeated(system, x, theta, repeats)
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
        Read-outs of each drive; the noise is known from two on.
    theta : Tensor, (param_dim,), optional
        Keep the parameters there; by default each shot has its own.
    smooth : float
        Longest correlation along the elements, see `random_drives`; 1 for white drives alone.
    progress : callable, optional
        Called with the number of drives done and ``n`` after each chunk; it may raise to stop.
    path : path, optional
        Where to `save` the data, also what has been measured when something stops the collection.

    Returns
    -------
    Dataset
        ``x``, (shot, input), ``theta``, (shot, parameter) or (parameter,), ``y``, (repeat, shot,
        output), and the coordinate ``split``: ``"train"``, ``"validation"`` or ``"test"``.
    """
    n, seed, repeats = whole("n", n, 1), whole("seed", seed), whole("repeats", repeats, 1)
    if smooth < 1:
        raise RangeError(f"smooth is {smooth}; a correlation length is at least 1, one element.")
    settings = {"smooth": smooth, "seed": seed, "requested": n}
    parts: list[xr.Dataset] = []
    try:
        for start in range(0, n, CHUNK):
            size = min(CHUNK, n - start)
            generator = seeded(seed * 1_000_003 + start)
            x = random_drives(size, system.input_dim, smooth, generator)
            at = theta
            if at is None:
                at = random_drives(size, system.param_dim, smooth, generator)
            parts.append(measured(system, x, at, repeats=repeats, first=start, **settings))
            if progress is not None:
                progress(start + size, n)
    finally:
        if path is not None and parts:
            save(_joined(parts), path)
    return _joined(parts)


def _joined(parts: list[xr.Dataset]) -> xr.Dataset:
    """Put chunks together; the record counts the passes of all."""
    passes = sum(int(part.attrs["device_passes"]) for part in parts)
    joined = xr.concat(
        parts, "shot", data_vars="minimal", coords="minimal", compat="override", join="override"
    )
    return joined.assign_attrs(parts[0].attrs | {"device_passes": passes})


@dataclass(frozen=True)
class MeasuredShots:
    """Measured shots as tensors: x (n, inputs), theta (n, parameters), y (repeats, n, outputs)."""

    x: Tensor
    theta: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.x)

    def first(self, n: int) -> "MeasuredShots":
        return MeasuredShots(self.x[:n], self.theta[:n], self.y[:, :n])

    def to(self, place: torch.device) -> "MeasuredShots":
        """Take them to the CPU or to a GPU."""
        return MeasuredShots(self.x.to(place), self.theta.to(place), self.y.to(place))


def shots(dataset: xr.Dataset, split: str) -> MeasuredShots:
    """Get the shots of one split; raises `DataError` if there are none."""
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
