"""Data files that the user brings: where they are looked for, and whether their hash is right."""

import gzip
import hashlib
import math
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pnnlab.errors import DataError
from pnnlab.storage import user_path


def data_root() -> Path | None:
    """Folder that ``PNNLAB_DATA`` names, or None."""
    root = os.environ.get("PNNLAB_DATA", "").strip()
    return user_path(root) if root else None


def find_file(root: Path | None, *names: str) -> Path | None:
    """First of ``names``, paths below ``root``, that is a file; or None."""
    paths = (root / name for name in names) if root is not None else ()
    return next((path for path in paths if path.is_file()), None)


@dataclass(frozen=True)
class IdxFiles:
    """A set of images in four files of the IDX format, plain or gzipped."""

    name: str
    folders: tuple[str, ...]  # below PNNLAB_DATA, best place first: torchvision's
    md5: Mapping[str, str]  # of each uncompressed file: one compressed anew is still the same
    alternative: str  # to the files

    def find(self, root: Path | None) -> Path | None:
        """Folder below ``root`` that holds all four files, or None."""
        places = [root / folder for folder in self.folders] if root is not None else []
        return next((p for p in places if all(_locate(p, name) for name in self.md5)), None)

    def read(self, folder: Path, part: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Images, (n, rows, columns), and labels, (n,), of ``part``: ``"train"`` or ``"t10k"``."""
        images, labels = f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"
        return self._read(folder, images), self._read(folder, labels)

    def _read(self, folder: Path, name: str) -> NDArray[np.uint8]:
        path = _locate(folder, name)
        if path is None:
            raise DataError(f"{folder} holds no {name} of {self.name}; fetch it again.")
        content = read_bytes(path)
        try:  # by what it holds: some programs unpack a file and leave its name, or the other way
            raw = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
        except (OSError, EOFError, zlib.error) as error:
            raise damaged(path, str(error)) from error
        md5 = self.md5[name]
        if hashlib.md5(raw, usedforsecurity=False).hexdigest() != md5:
            right = f"MD5 {md5} is that of {self.name}'s {name}"
            raise damaged(path, f"{_length(raw)}; {right}")
        shape, begin = _layout(raw)
        return np.frombuffer(raw, np.uint8, offset=begin).reshape(shape)


def read_bytes(path: Path) -> bytes:
    """All of a file; raises `DataError` where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error}); check its permissions.") from error


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
    return find_file(folder, name, f"{name}.gz")
