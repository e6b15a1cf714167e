"""Data files that the user brings: where they are looked for, and whether they are the right ones.

Nothing is ever downloaded. A file is taken for what it claims to be only if its hash says so.
"""

import gzip
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pnnlab.errors import DataError
from pnnlab.paths import user_path


def data_root(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Folder that ``PNNLAB_DATA`` names, or None."""
    root = environment.get("PNNLAB_DATA", "").strip()
    return user_path(root) if root else None


def find_file(candidates: tuple[str, ...], root: Path | None) -> Path | None:
    """First of the ``candidates``, paths below ``root``, that is a file; or None."""
    if root is None:
        return None
    return next((root / name for name in candidates if (root / name).is_file()), None)


@dataclass(frozen=True)
class IdxFiles:
    """A set of images in four files of the IDX format, plain or gzipped.

    Attributes
    ----------
    name : str
        What the set is called.
    folders : tuple of str
        Where it may lie below ``PNNLAB_DATA``; the first is torchvision's layout.
    md5 : mapping of str to str
        MD5 of each uncompressed file, so that a file compressed anew is still the same.
    """

    name: str
    folders: tuple[str, ...]
    md5: Mapping[str, str]

    def find(self, root: Path | None) -> Path | None:
        """Folder below ``root`` that holds all four files, or None."""
        if root is None:
            return None
        places = (root / folder for folder in self.folders)
        return next((p for p in places if all(_locate(p, name) for name in self.md5)), None)

    def read(self, folder: Path, part: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Images, (n, rows, columns), and labels, (n,), of ``part``: ``"train"`` or ``"t10k"``.

        Raises
        ------
        DataError
            A file cannot be read, or is not the one it claims to be.
        """
        images, labels = f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"
        return self._read(folder, images), self._read(folder, labels)

    def _read(self, folder: Path, name: str) -> NDArray[np.uint8]:
        path = _locate(folder, name)
        if path is None:
            raise DataError(f"{folder} holds no {name} of {self.name}; fetch it again.")
        try:
            raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        except (OSError, EOFError) as error:
            raise DataError(f"{path} cannot be read ({error}); fetch it again.") from error
        md5 = self.md5[name]
        if hashlib.md5(raw, usedforsecurity=False).hexdigest() != md5:
            raise DataError(
                f"{path} is not {self.name}'s {name}: its MD5 should be {md5}; fetch it again."
            )
        dims = raw[3]
        shape = np.frombuffer(raw, ">u4", dims, offset=4)
        return np.frombuffer(raw, np.uint8, offset=4 + 4 * dims).reshape(shape.tolist())


def _locate(folder: Path, name: str) -> Path | None:
    return next((p for p in (folder / name, folder / f"{name}.gz") if p.is_file()), None)
