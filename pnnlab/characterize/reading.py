"""Measurements from a file of one's own: checked, scaled to [0, 1], in the form of `collect`."""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias, final

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

import pnnlab
from pnnlab.characterize.datasets import SPLITS, UNITS
from pnnlab.errors import DataError
from pnnlab.physical_system import LARGEST_READOUT
from pnnlab.provenance import commit, utc_now
from pnnlab.storage import user_path

Numbers: TypeAlias = NDArray[np.float64]

FEWEST = 20  # shots: of every ten, one is for validation and one for testing
_IN_BRACKETS = re.compile(r"[(\[]([^()\[\]]+)[)\]]\s*$")


@final
@dataclass(frozen=True, eq=False)
class Scaling:
    """How numbers in [0, 1] become physical ones, for each column of x, theta or y."""

    names: tuple[str, ...]
    units: tuple[str, ...]
    low: Numbers  # (columns,), in these units: what 0 stands for
    high: Numbers  # what 1 stands for

    @classmethod
    def of(cls, dataset: xr.Dataset, dim: str) -> "Scaling":
        """Scaling of ``"input"``, ``"parameter"`` or ``"output"``; [0, 1] if none is recorded."""
        size = dataset.sizes[dim]
        if f"{dim}_low" not in dataset:
            names = tuple(f"{dim} {number}" for number in range(size))
            return cls(names, ("1",) * size, np.zeros(size), np.ones(size))
        low, high, units = (dataset[f"{dim}_{one}"].values for one in ("low", "high", "unit"))
        return cls(tuple(map(str, dataset[dim].values)), tuple(map(str, units)), low, high)

    def physical(self, scaled: ArrayLike) -> Numbers:
        """Give (..., columns) in the units of the file."""
        return self.low + np.asarray(scaled, np.float64) * (self.high - self.low)

    def scaled(self, physical: ArrayLike) -> Numbers:
        """Give (..., columns) as fractions of the ranges."""
        fractions: Numbers = (np.asarray(physical, np.float64) - self.low) / (self.high - self.low)
        return fractions

    def coordinates(self, dim: str) -> dict[str, Any]:
        """Write it as coordinates of a data set, to be read by `of`."""
        columns = {"low": self.low, "high": self.high, "unit": np.array(self.units, str)}
        named = {f"{dim}_{key}": (dim, value) for key, value in columns.items()}
        return {dim: np.array(self.names, str), **named}


def read_measurements(
    source: Path | str | Mapping[str, ArrayLike],
    *,
    x: Sequence[str],
    theta: Sequence[str] = (),
    y: Sequence[str],
    repeats: str | None = None,
    units: Mapping[str, str] | None = None,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    name: str = "device",
) -> xr.Dataset:
    """Read what was measured of a device, check it, and scale it to [0, 1].

    Nothing is repaired: what is wrong is refused, by column and row.

    Parameters
    ----------
    source : path or mapping
        A file ``.csv``, ``.tsv`` or ``.txt`` with one header line, ``.npz``, netCDF (``.nc``) or
        ``.zarr``; or the columns by their names. A row is a shot. In files of arrays a name may
        stand for several columns, (shots, columns), and ``y`` may be (repeats, shots, columns).
    x, theta, y : sequence of str
        Names of the columns of inputs, parameters (if there are any) and read-outs.
    repeats : str, optional
        Name of the column that numbers the read-outs of one drive; all drives need equally many.
    units : mapping, optional
        Units by name, ``"1"`` for a number without one. Otherwise they are those of the file, or
        stand behind the name: ``"V1 (V)"``, ``"I [mA]"``.
    ranges : mapping, optional
        By name, the physical values (low, high) that become 0 and 1; by default the smallest and
        the largest in the file, so that no trained network leaves what was measured.
    name : str
        Of the device.

    Returns
    -------
    Dataset
        As of `collect`, float32; `Scaling.of` gives the ranges and units of each column.

    Raises
    ------
    DataError
        A column is missing, is no column of finite numbers, never changes, has no unit or leaves
        its range; shots are too few, or measured twice without a number of the repeat.
    """
    arrays, known = _read(source)
    known |= units or {}
    given = {"x": tuple(x), "theta": tuple(theta), "y": tuple(y)}
    wanted = [*given["x"], *given["theta"], *given["y"], *([repeats] if repeats else [])]
    _check_names(wanted, arrays, [*(units or {}), *(ranges or {})])
    columns = {role: _stacked(names, arrays, role == "y") for role, names in given.items()}
    rows = {values.shape[-2] for values in columns.values() if values.shape[-1]}
    if len(rows) > 1 or not given["x"] or not given["y"]:
        shapes = ", ".join(f"{role} {values.shape}" for role, values in columns.items())
        raise DataError(f"{shapes}: give at least one x and y, and one row of each a shot.")
    drives = np.concatenate([columns["x"], _rows(columns["theta"], *rows)], axis=1)
    first, shot = _distinct(drives)
    readouts = columns["y"]
    if repeats is not None:
        readouts = _by_repeat(readouts, shot, _numbers(repeats, arrays[repeats]), repeats)
    elif len(first) < len(drives):
        again = int(np.flatnonzero(first[shot] != np.arange(len(drives)))[0])
        raise DataError(
            f"row {again + 1} drives the device as row {first[shot[again]] + 1} does: name the "
            "column that numbers the repeats, repeats=..., or leave one of them out."
        )
    least = max(FEWEST, 1 + drives.shape[1])
    if len(first) < least:
        raise DataError(
            f"{len(first)} different shots of {drives.shape[1]} inputs and parameters are too few "
            f"for any twin; measure at least {least}, better a thousand."
        )
    parts = {"x": columns["x"][first], "theta": drives[first, len(columns["x"][0]) :]}
    parts["y"] = readouts if readouts.ndim == 3 else readouts[None]
    scalings = {
        role: _scaling(given[role], arrays, parts[role], known, ranges or {}) for role in given
    }
    dims = {"x": "input", "theta": "parameter", "y": "output"}
    numbers = np.arange(len(first))
    coordinates: dict[str, Any] = {
        "shot": numbers,
        "split": ("shot", [SPLITS[i % len(SPLITS)] for i in numbers]),
    }
    for role, dim in dims.items():
        coordinates |= scalings[role].coordinates(dim)
    variables = {
        role: (
            ("repeat", "shot", dim)[3 - parts[role].ndim :],
            scalings[role].scaled(parts[role]).astype(np.float32),
            UNITS,
        )
        for role, dim in dims.items()
    }
    return xr.Dataset(
        variables,
        coordinates,
        {
            "pnnlab": pnnlab.__version__,
            "commit": commit() or "",
            "measurement": "own measurements",
            "source": "columns" if isinstance(source, Mapping) else user_path(source).name,
            "system": name,
            "input_dim": len(scalings["x"].names),
            "param_dim": len(scalings["theta"].names),
            "output_dim": len(scalings["y"].names),
            "repeats": len(parts["y"]),
            "device_passes": len(parts["y"]) * len(first),
            "time_utc": utc_now(),
        },
    )


def _read(source: Path | str | Mapping[str, ArrayLike]) -> tuple[dict[str, Any], dict[str, str]]:
    """Columns of a source, and the units that it names."""
    if isinstance(source, Mapping):
        return dict(source), {}
    path = user_path(source)
    suffix = path.suffix.lower()
    if not path.exists():
        raise DataError(f"there is no {path}; give the path of a file of measurements.")
    try:
        if suffix in (".csv", ".tsv", ".txt"):
            return _csv(path.read_text(encoding="utf-8-sig")), {}
        if suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                return dict(file), {}
        if suffix == ".zarr" and find_spec("zarr") is None:
            raise DataError(f"{path} is read by zarr, which is not installed: pip install zarr")
        if suffix in (".nc", ".nc4", ".zarr"):
            with (
                xr.open_zarr(path, chunks=None, consolidated=False, decode_times=False)
                if suffix == ".zarr"
                else xr.open_dataset(path, decode_times=False)
            ) as opened:
                found = opened.load().variables
            known = {str(n): str(v.attrs["units"]) for n, v in found.items() if "units" in v.attrs}
            return {str(n): v.values for n, v in found.items()}, known
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path} cannot be read ({error}); write it anew.") from error
    raise DataError(f"{path} is of no known kind; give .csv, .tsv, .txt, .npz, .nc or .zarr.")


def _csv(text: str) -> dict[str, list[str]]:
    """Columns of a table by what its header calls them; fields are parted as in the header."""
    lines = text.splitlines()
    header = lines[0] if lines else ""
    delimiter = max(",;\t", key=header.count)
    names, *rows = [[*map(str.strip, row)] for row in csv.reader(lines, delimiter=delimiter) if row]
    for number, row in enumerate(rows, 1):
        if len(row) != len(names):
            raise DataError(
                f"row {number} has {len(row)} fields and the header names {len(names)} columns: "
                "write one field for each, numbers with a decimal point."
            )
    if len(set(names)) < len(names):
        raise DataError(f"the header names a column twice ({header}); give each its own name.")
    return {name: [row[place] for row in rows] for place, name in enumerate(names)}


def _check_names(wanted: Sequence[str], arrays: Mapping[str, Any], others: Sequence[str]) -> None:
    listed = ", ".join(map(repr, arrays))
    for name in [*wanted, *others]:
        if name not in arrays:
            raise DataError(f"there is no column {name!r}; there are {listed}.")
    if twice := sorted({name for name in wanted if wanted.count(name) > 1}):
        raise DataError(f"column {twice[0]!r} is named twice; it is x, theta, y or repeats.")


def _numbers(name: str, values: Any) -> Numbers:
    """Values of a column as finite numbers."""
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        place = next(i for i, value in enumerate(values) if not _is_number(value))
        raise DataError(
            f"column {name!r}, row {place + 1}: {values[place]!r} is no number; measure this shot "
            "again or leave the row out, and write decimals with a point."
        ) from None
    bad = np.argwhere(~(np.abs(numbers) < LARGEST_READOUT))
    if len(bad):
        place = bad[0][-2] if numbers.ndim > 1 else bad[0][0]
        raise DataError(
            f"column {name!r}, row {place + 1}: {numbers[tuple(bad[0])]:.4g} is no read-out, nor "
            f"are {len(bad) - 1} more (NaN, infinity or an overrange code); measure these shots "
            "again or leave the rows out."
        )
    return numbers


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _stacked(names: Sequence[str], arrays: Mapping[str, Any], repeated: bool) -> Numbers:
    """Columns side by side, (rows, columns), or (repeats, rows, columns) where that is allowed."""
    found: list[Numbers] = []
    for name in names:
        values = _numbers(name, arrays[name])
        values = values[:, None] if values.ndim == 1 else values
        if values.ndim != 2 and not (repeated and values.ndim == 3):
            raise DataError(
                f"{name!r} has shape {values.shape}; give (shots,) or (shots, columns)"
                + (", or (repeats, shots, columns)." if repeated else ".")
            )
        if found and values.shape[:-1] != found[0].shape[:-1]:
            raise DataError(
                f"{name!r} has {values.shape[:-1]} rows and {names[0]!r} {found[0].shape[:-1]}: "
                "give one row of each a shot."
            )
        found.append(values)
    return np.concatenate(found, axis=-1) if found else np.empty((0, 0))


def _rows(columns: Numbers, rows: int) -> Numbers:
    return columns if columns.size else np.empty((rows, 0))


def _distinct(drives: Numbers) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First row of each different drive, in the order of the file, and of each row its drive."""
    _, first, inverse = np.unique(drives, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return first[order], np.argsort(order)[inverse.reshape(-1)]


def _by_repeat(y: Numbers, shot: NDArray[np.int64], repeat: Numbers, name: str) -> Numbers:
    """Order read-outs as (repeats, shots, columns)."""
    if y.ndim != 2 or repeat.shape != (len(y),):
        raise DataError(f"{name!r} numbers the rows of y; give one number a row, and y by rows.")
    numbers, which = np.unique(repeat, return_inverse=True)
    count = np.zeros((len(numbers), shot.max() + 1), int)
    np.add.at(count, (which, shot), 1)
    if (count != 1).any():
        number, of = np.argwhere(count != 1)[0]
        row = int(np.flatnonzero(shot == of)[0])
        raise DataError(
            f"the drive of row {row + 1} has {count[number, of]} read-outs with {name!r} "
            f"{numbers[number]:g}, and needs one: number its repeats, and measure all drives "
            "equally often or leave the others out."
        )
    ordered = np.empty((len(numbers), count.shape[1], y.shape[1]))
    ordered[which, shot] = y
    return ordered


def _scaling(
    names: Sequence[str],
    arrays: Mapping[str, Any],
    values: Numbers,
    units: Mapping[str, str],
    ranges: Mapping[str, tuple[float, float]],
) -> Scaling:
    """Ranges and units of columns that are checked to move, and to stay in the ranges given."""
    labels: list[str] = []
    found_units: list[str] = []
    ends: list[tuple[float, float]] = []
    for name in names:
        shape = np.shape(arrays[name])
        unit = units.get(name) or (m[1] if (m := _IN_BRACKETS.search(name)) else None)
        if unit is None:
            raise DataError(
                f"the unit of column {name!r} is not known: write it behind the name, as in "
                f"'{name} (V)', or give units={{{name!r}: 'V'}}, '1' for a number without one."
            )
        for part in range(shape[-1] if len(shape) > 1 else 1):
            label = f"{name}[{part}]" if len(shape) > 1 else name
            column = values[..., len(labels)].reshape(-1, values.shape[-2])
            low, high = ranges.get(name, (column.min(), column.max()))
            if column.min() == column.max():
                raise DataError(
                    f"column {label!r} is {column[0, 0]:g} {unit} in all rows, so that nothing can "
                    "be learnt of it: leave it out, or measure with it varied."
                )
            outside = np.argwhere((column < low) | (column > high))
            if len(outside) or not low < high:
                raise DataError(
                    f"column {label!r} goes from {column.min():g} to {column.max():g} {unit}, "
                    f"and its range is {low:g} to {high:g}: give ranges that hold all of it."
                )
            labels.append(label)
            found_units.append(unit)
            ends.append((low, high))
    return Scaling(tuple(labels), tuple(found_units), *np.array(ends).reshape(-1, 2).T)
