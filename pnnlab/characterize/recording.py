"""How measurements are described, written and read back: netCDF, with their provenance."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import xarray as xr

import pnnlab
from pnnlab.errors import DataError, ShapeError
from pnnlab.paths import user_path
from pnnlab.plain import whole
from pnnlab.protocols import PhysicalSystem

UNITS = {"units": "1"}  # x, theta and y are fractions of a full range


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write to a temporary file beside ``path`` that takes its place once it is complete.

    Whatever goes wrong in between, ``path`` is left as it was.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def save(dataset: xr.Dataset, path: Path | str) -> Path:
    """Write a data set as netCDF, or leave what was there before.

    Raises
    ------
    DataError
        The file cannot be written.
    """
    path = user_path(path)
    try:
        with replacing(path) as part:
            dataset.to_netcdf(part, engine="h5netcdf")
    except (OSError, RuntimeError) as error:  # h5py reports a full disk as either
        raise DataError(
            f"{path} cannot be written ({error}); the data are still in memory: free some space, "
            "or save them to another folder."
        ) from error
    return path


def load(path: Path | str) -> xr.Dataset:
    """Read a data set that `save` wrote.

    Raises
    ------
    DataError
        The file is missing, damaged, or not one of pnnlab's.
    """
    path = user_path(path)
    try:
        dataset = xr.load_dataset(path, engine="h5netcdf")
    except FileNotFoundError as error:
        raise DataError(f"there is no {path}; measure it, and save it there.") from error
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise DataError(
            f"{path} cannot be read ({error}): it is damaged or not netCDF. Use a copy, or measure "
            "again."
        ) from error
    if "pnnlab" not in dataset.attrs:
        raise DataError(f"{path} was not written by pnnlab: it does not say which system it is of.")
    return dataset


def at_least(name: str, value: int, least: int) -> int:
    """Return a whole number, or raise `ShapeError` if it is too small."""
    value = whole(name, value)
    if value < least:
        raise ShapeError(f"{name}: {value}; there must be at least {least}.")
    return value


def counting(**sizes: int) -> dict[str, object]:
    """Coordinates that number the elements of dimensions from 0."""
    return {name: np.arange(size) for name, size in sizes.items()}


def provenance(
    system: PhysicalSystem, before: int, what: str, **settings: float
) -> dict[str, str | int | float]:
    """Where the numbers come from, as netCDF attributes.

    Parameters
    ----------
    before : int
        Passes of the system before the measurement.
    what : str
        Name of the measurement.
    settings
        What it was told.
    """
    return {
        "pnnlab": pnnlab.__version__,
        "measurement": what,
        "system": system.name,
        "input_dim": system.input_dim,
        "param_dim": system.param_dim,
        "output_dim": system.output_dim,
        "device_passes": system.passes - before,
        "time_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        **settings,
    }
