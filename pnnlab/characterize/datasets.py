"""How measurements are described, written and read back: netCDF, with their provenance."""

from pathlib import Path

import numpy as np
import xarray as xr

import pnnlab
from pnnlab.errors import DataError
from pnnlab.physical_system import PhysicalSystem
from pnnlab.provenance import commit, utc_now
from pnnlab.storage import user_path, write

UNITS = {"units": "1"}  # x, theta and y are fractions of a full range


def save(dataset: xr.Dataset, path: Path | str) -> Path:
    """Write a data set as netCDF, or leave what was there before.

    Raises
    ------
    DataError
        The file cannot be written.
    """
    path = user_path(path)
    # Through memory: the HDF5 library brings the process down when a disk fills under it.
    content = dataset.to_netcdf(engine="h5netcdf")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, content)
    except OSError as error:
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


def counting(**sizes: int) -> dict[str, object]:
    """Coordinates that number the elements of dimensions from 0."""
    return {name: np.arange(size) for name, size in sizes.items()}


def attributes(
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
        "commit": commit() or "",
        "measurement": what,
        "system": system.name,
        "input_dim": system.input_dim,
        "param_dim": system.param_dim,
        "output_dim": system.output_dim,
        "device_passes": system.passes - before,
        "time_utc": utc_now(),
        **settings,
    }
