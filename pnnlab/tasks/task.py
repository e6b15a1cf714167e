"""`Task` and `Split`: what the networks learn, divided before anything is tuned.

And `DataFiles` that the user brings: where they are looked for, and whether their hash is right.
"""

import gzip
import hashlib
import math
import os
import zlib
from collections.abc import Mapping, Sized
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast, final

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.utils.data import Dataset

from pnnlab.errors import DataError, RangeError, ShapeError
from pnnlab.physical_system import check_unit_range
from pnnlab.plain import seeded
from pnnlab.storage import explained, user_path


@dataclass(frozen=True)
class Split:
    """Examples with what is wanted for them.

    Attributes
    ----------
    x : Tensor, (n, features), float32, in [0, 1]
    targets : Tensor, (n,), int64, or (n, values), floating point
        Classes, numbered from 0, of whatever type of whole numbers; or the values of a regression.
    """

    x: Tensor
    targets: Tensor

    def __post_init__(self) -> None:
        x = self.x
        if not isinstance(x, Tensor) or not x.is_floating_point():
            kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise ShapeError(
                f"x is {kind}; give a floating-point tensor in [0, 1], as in "
                "torch.tensor(x, dtype=torch.float32), divided by its full scale (255 for bytes)."
            )
        if x.ndim != 2:
            raise ShapeError(
                f"x has shape {tuple(x.shape)}; give a row of features for each example, as "
                "x.flatten(1) makes of images."
            )
        check_unit_range("x", x)
        object.__setattr__(self, "targets", _checked_targets(self.targets, len(self.x)))

    def __len__(self) -> int:
        return len(self.x)

    def first(self, n: int) -> "Split":
        return Split(self.x[:n], self.targets[:n])

    def take(self, rows: Tensor) -> "Split":
        """The examples at ``rows``, (m,), int64, in that order."""
        return Split(self.x[rows], self.targets[rows])

    def divided(self, sizes: tuple[int, ...], seed: int) -> list["Split"]:
        """Shuffle the examples and divide them into parts of these sizes, and the rest."""
        rows = torch.randperm(len(self), generator=seeded(seed))
        return [self.take(part) for part in rows.split([*sizes, len(self) - sum(sizes)])]


@dataclass(frozen=True)
class Task:
    """Examples to learn from, divided into three; see `from_arrays` for one's own.

    Attributes
    ----------
    train, validation, test : Split
        Settings are chosen on ``validation``; ``test`` is used once, at the end.
    classes : int
        How many; of a regression, the number of values.
    side : int or None
        The images are ``side`` by ``side`` pixels; None where the examples are no images.
    source : str
        Where the examples come from.
    class_names : tuple of str
        One for each class, in order of their numbers; empty where they have no names.
    feature_names : tuple of str
        One for each element of ``x``, with its unit; empty for pixels.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: int
    side: int | None
    source: str
    class_names: tuple[str, ...] = ()
    feature_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        width = self.train.x.shape[1]
        for name in ("train", "validation", "test"):
            check_width(name, getattr(self, name), width)
            check_targets(name, getattr(self, name), self.classes)
        for name, count in (("class_names", self.classes), ("feature_names", width)):
            if len(names := getattr(self, name)) not in (0, count):
                raise ShapeError(f"{len(names)} {name} for {count}; give one for each, or none.")

    @classmethod
    def from_arrays(
        cls,
        x: ArrayLike | Tensor,
        targets: ArrayLike | Tensor,
        *,
        name: str = "own data",
        validation: float = 0.1,
        test: float = 0.2,
        seed: int = 0,
        side: int | None = None,
        source: str = "own arrays",
        class_names: tuple[str, ...] = (),
        feature_names: tuple[str, ...] = (),
    ) -> "Task":
        """Divide one's own examples, shuffled, into a task.

        Parameters
        ----------
        x : array or Tensor, (n, ...), in [0, 1]
            What follows the first axis is flattened.
        targets : array or Tensor, (n,) whole numbers, or (n, values) floating point
            Classes, numbered from 0, or the values of a regression.
        validation, test : float
            Fractions of the examples, each above 0 and together below 1.
        """
        if np.ma.is_masked(x) or np.ma.is_masked(targets):
            raise DataError("some readings are masked; leave out those examples, or fill them in.")
        rows, wanted = (
            given.float() if given.dtype == torch.float64 else given
            for given in (torch.as_tensor(x), torch.as_tensor(targets))
        )
        if rows.ndim < 2:
            raise ShapeError(
                f"x has shape {tuple(rows.shape)}; its first axis counts the examples: give "
                "x[:, None] if each has one feature."
            )
        everything = Split(rows.flatten(1), wanted)
        held, tested = round(validation * len(everything)), round(test * len(everything))
        if min(held, tested, len(everything) - held - tested) < 1:
            raise RangeError(
                f"validation {validation} and test {test} of {len(everything)} examples leave a "
                "split empty; give fractions that leave some of each, or more examples."
            )
        parts = everything.divided((held, tested), seed)
        values = everything.targets.is_floating_point()
        classes = everything.targets.shape[1] if values else int(everything.targets.max()) + 1
        names = class_names, feature_names
        return cls(name, parts[2], parts[0], parts[1], classes, side, source, *names)

    @classmethod
    def from_dataset(
        cls, dataset: "Dataset[tuple[Tensor, Any]]", *, name: str = "own data", seed: int = 0
    ) -> "Task":
        """Read all (x, target) pairs of a torch data set, and divide them as `from_arrays`."""
        pairs = [dataset[number] for number in range(len(cast(Sized, dataset)))]
        x, targets = (
            torch.stack([*map(torch.as_tensor, column)]) for column in zip(*pairs, strict=True)
        )
        return cls.from_arrays(x, targets, name=name, seed=seed, source=type(dataset).__name__)

    def first(self, n: int) -> "Task":
        """Only the first ``n`` examples of each split."""
        splits = {name: getattr(self, name).first(n) for name in ("train", "validation", "test")}
        return replace(self, **splits)

    @property
    def chance(self) -> float:
        """Accuracy on the test split of the most frequent training class; of values, R² 0."""
        if self.train.targets.is_floating_point():
            return 0.0
        return float((self.test.targets == self.train.targets.mode().values).float().mean())


def check_width(name: str, split: Split, width: int) -> None:
    """Raise `ShapeError` unless each example of ``split`` has ``width`` features."""
    if split.x.shape[1] != width:
        raise ShapeError(
            f"the examples of the {name} split have {split.x.shape[1]} features and those of the "
            f"training split {width}: prepare both alike."
        )


def check_targets(name: str, split: Split, outputs: int) -> None:
    """Raise an error unless a network with so many outputs can learn the targets of ``split``."""
    if split.targets.is_floating_point():
        if split.targets.shape[1] != outputs:
            raise ShapeError(
                f"the targets of the {name} split have {split.targets.shape[1]} values and there "
                f"are {outputs} outputs: give the network one output for each value."
            )
    elif len(split) and int(split.targets.max()) >= outputs:
        low, high = (int(end) for end in split.targets.aminmax())
        raise RangeError(
            f"the labels of the {name} split go from {low} to {high}, and {outputs} classes are "
            f"numbered from 0 to {outputs - 1}: "
            + ("give labels - 1." if (low, high) == (1, outputs) else "number them so.")
        )


def _checked_targets(targets: Tensor, n: int) -> Tensor:
    """Classes as int64, (n,), or values as they are, (n, values)."""
    if not isinstance(targets, Tensor):
        raise ShapeError(
            f"targets are {type(targets).__name__}; give a tensor, as in torch.as_tensor(labels)."
        )
    if targets.is_floating_point() and targets.ndim == 2 and len(targets) == n:
        if not bool(targets.isfinite().all()):
            raise RangeError("targets hold NaN or infinity; leave out examples without a value.")
        binary = ((targets == 0) | (targets == 1)).all() and (targets.sum(1) == 1).all()
        if n and targets.shape[1] > 1 and bool(binary):
            raise ShapeError("targets are one-hot rows; give class numbers, targets.argmax(1).")
        return targets
    if targets.is_floating_point() or targets.is_complex() or targets.shape != (n,):
        raise ShapeError(
            f"targets are {targets.dtype} of shape {tuple(targets.shape)} for {n} examples; give "
            "one class number each, labels.long() or, of one-hot rows, labels.argmax(1), or the "
            "values of a regression as (n, values)."
        )
    targets = targets.long()
    if n and int(targets.min()) < 0:
        raise RangeError(
            f"labels begin at {int(targets.min())}; number the classes from 0, and leave out "
            "examples without a class."
        )
    return targets


# --- files that the user brings ---


def data_root() -> Path | None:
    """Folder that ``PNNLAB_DATA`` names, or None."""
    root = os.environ.get("PNNLAB_DATA", "").strip()
    return user_path(root) if root else None


@final
@dataclass(frozen=True)
class DataFiles:
    """A file that the user brings, or a folder of files."""

    name: str
    places: tuple[str, ...]  # below PNNLAB_DATA, best place first
    missing: str  # what is said where it is in none of them
    # What a folder holds, plain or gzipped, each with the MD5, if known, of the uncompressed file:
    # one compressed anew is still the same.
    files: Mapping[str, str] = field(default_factory=dict)

    def find(self) -> Path | None:
        """Where it is under ``PNNLAB_DATA``, or None."""
        root = data_root()
        places = [root / place for place in self.places] if root is not None else []
        files = self.files or [""]  # the place itself
        return next((p for p in places if all(_locate(p, name) for name in files)), None)

    def at(self, path: str | Path | None = None) -> Path:
        """The path that a user gives, or else where it is; raises `DataError` if nowhere."""
        found = user_path(path) if path is not None else self.find()
        if found is None:
            raise DataError(self.missing)
        return found

    def read_idx(self, folder: Path, name: str) -> NDArray[np.uint8]:
        """The array in a file of the IDX format."""
        path = _locate(folder, name) or folder / name
        content = read_bytes(path)
        try:  # by what it holds: some programs unpack a file and leave its name, or the other way
            raw = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
        except (OSError, EOFError, zlib.error) as error:
            raise damaged(path, str(error)) from error
        md5 = self.files[name]
        if hashlib.md5(raw, usedforsecurity=False).hexdigest() != md5:
            right = f"MD5 {md5} is that of {self.name}'s {name}"
            raise damaged(path, f"{_length(raw)}; {right}")
        shape, begin = _layout(raw)
        return np.frombuffer(raw, np.uint8, offset=begin).reshape(shape)


def read_bytes(path: Path) -> bytes:
    """All of a file; raises `DataError` where it cannot be read."""
    with explained(DataError, f"{path} cannot be read", "check the path and its permissions."):
        return path.read_bytes()


def damaged(path: Path, why: str) -> DataError:
    """The error of a binary file that is not what it should be."""
    return DataError(f"{path} is damaged or another file ({why}): fetch it again, in binary mode.")


def _layout(raw: bytes) -> tuple[list[int], int]:
    """Shape of the array in an IDX file, and where it begins."""
    dims = raw[3]
    return np.frombuffer(raw, ">u4", dims, offset=4).tolist(), 4 + 4 * dims


def _length(raw: bytes) -> str:
    if raw.startswith(b"\0\0\x08") and len(raw) > 4 + 4 * raw[3]:
        shape, begin = _layout(raw)
        if len(raw) < (whole := begin + math.prod(shape)):
            return f"it ends after {len(raw)} of {whole} bytes"
    return f"it holds {len(raw)} bytes"


def _locate(folder: Path, name: str) -> Path | None:
    paths = (folder / name, folder / f"{name}.gz")
    return next((path for path in paths if path.is_file()), None)
