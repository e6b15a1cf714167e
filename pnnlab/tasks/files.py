"""Data files that the user brings: where they are looked for, and whether their hash is right."""

import gzip
import hashlib
import math
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from pnnlab.errors import DataError
from pnnlab.storage import explained, user_path


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
