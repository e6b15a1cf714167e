"""Measurements from a file of one's own: checked, scaled to [0, 1], in the form of `collect`."""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias, final
from zipfile import BadZipFile

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pnnlab.characterize.measuring import measured
from pnnlab.errors import DataError
from pnnlab.physical_system import LARGEST_READOUT, device
from pnnlab.storage import user_path

Numbers: TypeAlias = NDArray[np.float64]

FEWEST = 20  # shots: of every ten, one is for validation and one for testing
_IN_BRACKETS = re.compile(r"[(\[](?!\d+[)\]])([^()\[\]]+)[)\]]\s*$")  # "y[0]" has an index there


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

    Nothing is repaired: what is wrong is refused, by column and row, counted from 1.

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
        the largest in the file, so that no trained network leaves what was measured. Read-outs of
        one unit share a range.
    name : str
        Of the device.

    Returns
    -------
    Dataset
        As of `collect`, float32, in random order; ``shot`` numbers the rows, from 0. `Scaling.of`
        gives the ranges and units of each column.

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
    _check_names(wanted, [*(units or {}), *(ranges or {})], arrays)
    if not x or not y:
        raise DataError("give the names of at least one column of x and one of y.")
    parts = {role: _stacked(names, arrays, role == "y") for role, names in given.items()}
    rows = len(parts["x"])
    if not theta:
        parts["theta"] = np.empty((rows, 0))
    if any(part.shape[-2] != rows for part in parts.values()):
        shapes = ", ".join(f"{role} {part.shape}" for role, part in parts.items())
        raise DataError(f"{shapes}: give one row of each a shot.")
    drives = np.concatenate([parts["x"], parts["theta"]], axis=1)
    first, shot = _distinct(drives)
    if repeats is not None:
        parts["y"] = _by_repeat(parts["y"], shot, _numbers(repeats, arrays[repeats]), repeats)
    elif len(first) < rows:
        again = int(np.flatnonzero(first[shot] != np.arange(rows))[0])
        raise DataError(
            f"row {again + 1} drives the device as row {first[shot[again]] + 1} does: name the "
            "column that numbers the repeats, repeats=..., or leave one of them out."
        )
    if len(first) < (least := max(FEWEST, 1 + drives.shape[1])):
        raise DataError(
            f"{len(first)} different shots of {drives.shape[1]} inputs and parameters are too few "
            f"for any twin; measure at least {least}, better a thousand."
        )
    # A sweep has an order, in which every tenth shot may be one level and the first a corner.
    order = np.random.default_rng(0).permutation(len(first))
    parts |= {"x": parts["x"][first[order]], "theta": parts["theta"][first[order]]}
    parts["y"] = (parts["y"] if parts["y"].ndim == 3 else parts["y"][None])[:, order]
    coordinates: dict[str, Any] = {}
    scaled: dict[str, Tensor] = {}
    for (role, part), dim in zip(parts.items(), ("input", "parameter", "output"), strict=True):
        scaling = _scaling(given[role], arrays, part, known, ranges or {})
        coordinates |= scaling.coordinates(dim)
        scaled[role] = torch.from_numpy(scaling.scaled(part).astype(np.float32))
    read_outs = iter(scaled["y"])
    measure = device(
        lambda *_: next(read_outs),
        inputs=scaled["x"].shape[-1],
        parameters=scaled["theta"].shape[-1],
        outputs=scaled["y"].shape[-1],
        name=name,
    )
    dataset = measured(measure, scaled["x"], scaled["theta"], repeats=len(scaled["y"]))
    file = "columns" if isinstance(source, Mapping) else user_path(source).name
    return dataset.assign_coords(coordinates | {"shot": first[order]}).assign_attrs(
        measurement="own measurements", source=file
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
            with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                return dict(file), {}
        if suffix == ".zarr" and find_spec("zarr") is None:
            raise DataError(f"{path} is read by zarr, which is not installed: pip install zarr")
        if suffix in (".nc", ".nc4", ".zarr"):
            zarr: dict[str, Any] = {"engine": "zarr", "consolidated": False}
            options = zarr if suffix == ".zarr" else {}
            with xr.open_dataset(path, decode_times=False, **options) as opened:
                found = opened.load().variables
            known = {str(n): str(v.attrs["units"]) for n, v in found.items() if "units" in v.attrs}
            return {str(n): v.values for n, v in found.items()}, known
    except (OSError, ValueError, KeyError, BadZipFile) as error:
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


def _check_names(wanted: Sequence[str], others: Sequence[str], arrays: Mapping[str, Any]) -> None:
    for name in [*wanted, *others]:
        if name not in arrays:
            there = ", ".join(map(repr, arrays))
            raise DataError(f"there is no column {name!r}; there are {there}.")
        if wanted.count(name) > 1:
            raise DataError(f"column {name!r} is named twice; it is x, theta, y or repeats.")


def _numbers(name: str, values: Any) -> Numbers:
    """Values of a column as finite numbers."""
    if np.iscomplexobj(values):
        raise DataError(f"column {name!r} is complex: give amplitude and phase as columns.")
    try:
        numbers = np.ma.filled(np.ma.asarray(values).astype(np.float64), np.nan)
    except (TypeError, ValueError):  # text among them
        numbers = np.array([_number(value) for value in values])
    bad = np.argwhere(~(np.abs(numbers) < LARGEST_READOUT))
    if len(bad):
        row = bad[0][max(numbers.ndim - 2, 0)]
        value = values[row] if numbers.ndim == 1 else f"{numbers[tuple(bad[0])]:.4g}"
        raise DataError(
            f"column {name!r}, row {row + 1}: {value!s} is no read-out but text, NaN, infinity or "
            f"an overrange code, {len(bad)} in this column; measure again or leave the rows out, "
            "and write decimals with a point."
        )
    return numbers


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return np.nan


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
    """Units and ranges of columns that move and stay in the ranges given."""
    labels: list[str] = []
    of_columns: list[str] = []
    ends: list[tuple[float, float]] = []
    for name in names:
        unit = units.get(name) or (m[1] if (m := _IN_BRACKETS.search(name)) else None)
        if unit is None:
            raise DataError(
                f"the unit of column {name!r} is not known: write it behind the name, as in "
                f"'{name} (V)', or give units={{{name!r}: 'V'}}, '1' for a number without one."
            )
        shape = np.shape(arrays[name])
        for part in range(shape[-1] if len(shape) > 1 else 1):
            label = f"{name}[{part}]" if len(shape) > 1 else name
            column = values[..., len(labels)]
            least, most = float(column.min()), float(column.max())
            if least == most:
                raise DataError(
                    f"column {label!r} is {least:g} {unit} in all rows, so that nothing can be "
                    "learnt of it: leave it out, or measure with it varied."
                )
            low, high = ranges.get(name, (least, most))
            if not low <= least < most <= high:
                raise DataError(
                    f"column {label!r} goes from {least:g} to {most:g} {unit}, and its range is "
                    f"{low:g} to {high:g}: give ranges that hold all of it."
                )
            labels.append(label)
            of_columns.append(unit)
            ends.append((low, high))
    low_high = np.array(ends).reshape(-1, 2)
    if values.ndim == 3:
        for unit in set(of_columns):
            alike = [one == unit for one in of_columns]
            low_high[alike] = low_high[alike, 0].min(), low_high[alike, 1].max()
    return Scaling(tuple(labels), tuple(of_columns), *low_high.T)
