"""What is measured of a device: drives to fit a twin to, repeatability, response, memory, drift."""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
CERTAIN = 4.0  # standard errors above which a response is believed
STEP = 0.25  # by which `memory` moves an input either way

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
            "x": (("shot", "input"), x.detach().numpy(), UNITS),
            "theta": (("shot", "parameter")[2 - theta.ndim :], theta.detach().numpy(), UNITS),
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

    def to(self, place: Tensor) -> "MeasuredShots":
        """Take them where a tensor is, in its data type."""
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


def _dataset(
    variables: Mapping[str, tuple[str, Any]],
    coordinates: Mapping[str, Any],
    record: dict[str, str | int | float],
) -> xr.Dataset:
    """Make a data set of variables as fractions of full scale; number what has no coordinate."""
    dataset = xr.Dataset(
        {name: (dims.split(), np.asarray(one), UNITS) for name, (dims, one) in variables.items()},
        coordinates,
        record,
    )
    rest = dataset.sizes.keys() - dataset.coords.keys()
    return dataset.assign_coords({dim: np.arange(dataset.sizes[dim]) for dim in rest})


def repeatability(
    system: PhysicalSystem, x: Tensor, theta: Tensor, repeats: int = 16
) -> xr.Dataset:
    """Take the same shots again and again.

    Parameters
    ----------
    x : Tensor, (shots, input_dim)
        At least two different inputs, or there is no signal to compare with.
    theta : Tensor, (param_dim,) or (shots, param_dim)

    Returns
    -------
    Dataset
        ``mean`` and ``deviation`` over the repeats, (shot, output); scalars ``noise_floor``, the
        rms deviation, ``signal``, the rms over outputs of the standard deviation over shots
        without the noise's share, ``signal_to_noise`` and ``nmse_floor``.
    """
    repeats = whole("repeats", repeats, 2)
    whole("shots", len(x), 2)
    before = system.passes
    y = repeated(system, x, theta, repeats).double()
    mean, variance = y.mean(0), y.var(0)
    noise = variance.mean()
    signal = (mean.var(0).mean() - noise / repeats).clamp_min(0).sqrt()
    variables = {
        "mean": ("shot output", mean),
        "deviation": ("shot output", variance.sqrt()),
        "noise_floor": ("", noise.sqrt()),
        "signal": ("", signal),
        "signal_to_noise": ("", signal / noise.sqrt()),
        "nmse_floor": ("", nmse_floor(y)),
    }
    return _dataset(variables, {}, attributes(system, before, "repeatability", repeats=repeats))


def nmse(modelled: Tensor, measured: Tensor) -> float:
    """Divide the squared error by the squared deviation of each output from its mean over shots.

    Both are (..., shots, outputs). 0 is perfect; 1 is what the constant mean would reach.
    """
    modelled, measured = modelled.double(), measured.double()
    error = (modelled - measured).square().sum()
    return float(error / (measured.var(-2, correction=0).sum() * measured.shape[-2]))


def nmse_floor(y: Tensor) -> float:
    """Find the lowest `nmse` that a model without noise can reach against one noisy read-out.

    It is the noise's share of the variance of ``y``, (repeats, shots, outputs); NaN with one
    repeat.
    """
    if len(y) < 2:
        return math.nan
    y = y.double()
    return float(y.var(0).mean() / y.var(1, correction=0).mean())


def response_curves(
    system: PhysicalSystem,
    x: Tensor,
    theta: Tensor,
    *,
    inputs: Sequence[int] = (),
    parameters: Sequence[int] = (),
    points: int = 21,
    repeats: int = 8,
) -> xr.Dataset:
    """Sweep one element after the other from 0 to 1, the others resting at a working point.

    Parameters
    ----------
    x, theta : Tensor, (input_dim,) and (param_dim,)
        The working point.
    inputs, parameters : sequence of int
        Which elements of ``x`` and ``theta`` to sweep.

    Returns
    -------
    Dataset
        ``mean`` and ``deviation`` over the repeats, (element, value, output); the coordinate
        ``element`` reads ``"x[3]"`` or ``"theta[7]"``.
    """
    repeats = whole("repeats", repeats, 2)
    points = whole("points", points, 1)
    whole("swept elements", len(inputs) + len(parameters), 1)
    before = system.passes
    values = torch.linspace(0, 1, points, dtype=x.dtype)
    names, curves = [], []
    for side, element in [("x", i) for i in inputs] + [("theta", i) for i in parameters]:
        swept = {"x": x.repeat(points, 1), "theta": theta.repeat(points, 1)}
        swept[side][:, element] = values
        names.append(f"{side}[{element}]")
        curves.append(repeated(system, swept["x"], swept["theta"], repeats).double())
    y, dims = torch.stack(curves), "element value output"
    return _dataset(
        {"mean": (dims, y.mean(1)), "deviation": (dims, y.std(1))},
        {"element": names, "value": values.numpy()},
        attributes(system, before, "response curves", repeats=repeats),
    )


def central_difference(
    system: PhysicalSystem,
    x: Tensor,
    theta: Tensor,
    dx: Tensor,
    dtheta: Tensor,
    step: float,
    repeats: int,
) -> Tensor:
    """Measure the derivative along a direction, (repeats, shots, outputs), float64.

    The working points are at least ``step`` times the direction inside [0, 1].
    """
    up, down = (
        repeated(system, x + h * dx, theta + h * dtheta, repeats).double() for h in (step, -step)
    )
    return (up - down) / (2 * step)


def memory(
    system: PhysicalSystem,
    x: Tensor,
    theta: Tensor,
    *,
    elements: Sequence[int] | None = None,
    repeats: int = 8,
    fraction: float = 0.01,
) -> xr.Dataset:
    """Measure how long one element of the input acts on the outputs.

    Each element moves up and down by a quarter around every working point; the response is the
    central difference, its variance from noise taken off. Element ``i`` of ``n`` acts in slot
    ``i``, output ``k`` of ``m`` is complete in slot ``(k + 1) n / m - 1``, and the lag is the
    difference, in input elements. For a device that replays its input, programme one replay and as
    many outputs as inputs: the lag is then in samples, without echoes.

    Parameters
    ----------
    x : Tensor, (points, input_dim)
        Working points; the response is the rms over them.
    theta : Tensor, (param_dim,) or (points, param_dim)
    elements : sequence of int, optional
        Which inputs to move; by default eight, spread over the first half.
    fraction : float
        Of the largest response, below which an element counts as forgotten.

    Returns
    -------
    Dataset
        ``jacobian``, (element, output), rms over the working points of dy/dx; ``response`` and
        ``certain``, (lag,), its rms and the smallest response distinguishable from noise; scalar
        ``length``: the first lag from which on nothing above ``fraction`` and above the noise is
        left. If it is ``limited_by`` the ``"noise"``, more points or repeats may find more.
    """
    repeats = whole("repeats", repeats, 2)
    before, n, m = system.passes, system.input_dim, system.output_dim
    chosen = list(range(0, max(n // 2, 1), max(n // 16, 1)) if elements is None else elements)
    squares, errors = torch.zeros(2, len(chosen), m, dtype=torch.float64)
    still = torch.zeros_like(theta)
    for row, element in enumerate(chosen):
        centre, direction = x.clone(), torch.zeros_like(x[0])
        centre[:, element] = x[:, element].clamp(STEP, 1 - STEP)
        direction[element] = 1
        slope = central_difference(system, centre, theta, direction, still, STEP, repeats)
        error = slope.var(0) / repeats
        squares[row], errors[row] = (slope.mean(0).square() - error).mean(0), error.mean(0)
    slots = (torch.arange(1, m + 1) * n) // m - 1
    lags = slots - torch.tensor(chosen)[:, None]
    last = int(lags.max()) + 1
    response, certain = torch.full((2, max(last, 1)), math.nan, dtype=torch.float64)
    for lag in range(last):
        here = lags == lag
        if here.any():
            response[lag] = squares[here].mean().clamp_min(0).sqrt()
            # The mean of k squares of normal errors scatters by sqrt(2 / k) of their variance.
            scatter = errors[here].mean() * math.sqrt(2 / (len(x) * int(here.sum())))
            certain[lag] = (CERTAIN * scatter).sqrt()
    peak = response.nan_to_num().max()
    present = (response > fraction * peak) & (response > certain)
    length = int(present.nonzero().max()) + 1 if present.any() else 0
    limited_by = "noise" if (certain[length:] > fraction * peak).any() else "fraction"
    variables = {
        "jacobian": ("element output", squares.clamp_min(0).sqrt()),
        "response": ("lag", response),
        "certain": ("lag", certain),
        "length": ("", length),
    }
    record = attributes(system, before, "memory", repeats=repeats, step=STEP, fraction=fraction)
    dataset = _dataset(variables, {"element": chosen}, record | {"limited_by": limited_by})
    for name, variable in dataset.data_vars.items():
        variable.attrs["units"] = "input elements" if name == "length" else "output per input"
    return dataset


def drift(
    system: PhysicalSystem, x: Tensor, theta: Tensor, *, shots: int = 100_000, every: int = 1_000
) -> xr.Dataset:
    """Repeat one reference shot for long, and separate slow change from noise.

    Parameters
    ----------
    x, theta : Tensor, (input_dim,) and (param_dim,)
    shots, every : int
        Shots in all, and shots averaged into one point of the record.

    Returns
    -------
    Dataset
        ``mean``, (shots, output), at the number of shots taken so far; scalars ``noise``, rms of
        single read-outs within a point, and ``drift``, rms over outputs of the points' standard
        deviation, without the noise's share.
    """
    every = whole("every", every, 2)
    points = whole("shots / every", shots // every, 2)
    before = system.passes
    rows = x.expand(every, -1)
    mean, variance = [], []
    for _ in range(points):
        y = system(rows, theta).double()
        mean.append(y.mean(0))
        variance.append(y.var(0))
    record, noise = torch.stack(mean), torch.stack(variance).mean()
    slow = (record.var(0).mean() - noise / every).clamp_min(0).sqrt()
    return _dataset(
        {"mean": ("shots output", record), "noise": ("", noise.sqrt()), "drift": ("", slow)},
        {"shots": every * np.arange(1, points + 1)},
        attributes(system, before, "drift", every=every),
    )
