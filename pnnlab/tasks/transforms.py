"""Splits of images made smaller or larger: fewer pixels, moved copies, mirror images.

Each function takes a split of square images and gives a new one; the old one is left as it is.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from pnnlab.errors import RangeError, ShapeError
from pnnlab.plain import seeded, whole
from pnnlab.tasks.task import Split

_CHUNK = 4096  # images moved at a time, so that the memory needed is that of the result


def shrunk(split: Split, side: int, *, subsample: bool = False) -> Split:
    """Images of ``side`` by ``side`` pixels.

    Parameters
    ----------
    split : Split
        Of square images whose side ``side`` divides.
    side : int
    subsample : bool
        Keep every n-th pixel of every n-th row, beginning with the first, as the authors'
        published example does; by default square blocks of pixels are averaged.

    Raises
    ------
    ShapeError
        The examples are no square images.
    RangeError
        ``side`` does not divide theirs.
    """
    side = check_side(side, side_of(split))
    parts = [_shrink(x, side, subsample) for x in _images(split.x)]
    return Split(torch.cat(parts).flatten(1), split.targets)


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

    Each copy is turned about its centre, scaled and then moved, each amount drawn uniformly. The
    defaults are those that the authors' public MNIST example gives to torchvision's
    ``RandomAffine``, with two differences. Pixels are interpolated bilinearly and moved by
    fractions of a pixel; theirs take the nearest pixel and whole steps. And the copies are drawn
    once, theirs anew in every epoch: so the examples can be counted and a training repeated.

    Parameters
    ----------
    split : Split
        Of square images.
    copies : int
        0 or more; the result has (1 + copies) · n images, the originals first.
    side : int or None
        Size of the result, for moved images are better made small after they were moved; by
        default the size stays.
    subsample : bool
        How they are made small; see `shrunk`.
    rotation : float
        Largest angle either way, degrees.
    shift : tuple of float
        Largest shift either way, horizontal and vertical, as a fraction of the side.
    scale : tuple of float
        Smallest and largest magnification.
    seed : int
        Of the copies.

    Raises
    ------
    ShapeError
        The examples are no square images.
    RangeError
        ``copies`` is negative, a scale is not positive, or ``side`` does not divide theirs.
    """
    copies = whole("copies", copies, 0)
    if not 0 < scale[0] <= scale[1]:
        raise RangeError(f"scale is {scale}; give the smallest and the largest, both above 0.")
    width, n = side_of(split), len(split)
    side = check_side(side or width, width)
    x = split.x.new_empty((1 + copies) * n, side * side)
    x[:n] = shrunk(split, side, subsample=subsample).x
    generator = seeded(seed)
    row = n
    for _ in range(copies):
        drawn = torch.rand(n, 4, generator=generator)
        for images, numbers in zip(_images(split.x), drawn.split(_CHUNK), strict=True):
            maps = _affine_maps(numbers, rotation, shift, scale)
            moved = _shrink(_moved(images, maps), side, subsample)
            x[row : row + len(images)] = moved.flatten(1)
            row += len(images)
    return Split(x, split.targets.repeat(1 + copies))


def flipped(split: Split) -> Split:
    """The images, followed by the mirror image of each, left and right exchanged.

    Good for clothes; a mirrored digit is another digit or none.

    Raises
    ------
    ShapeError
        The examples are no square images.
    """
    side = side_of(split)
    mirrored = split.x.view(-1, side, side).flip(-1).flatten(1)
    return Split(torch.cat([split.x, mirrored]), split.targets.repeat(2))


def side_of(split: Split) -> int:
    """Width of the square images of ``split``, pixels.

    Raises
    ------
    ShapeError
        The examples are no square images.
    """
    features = split.x.shape[1]
    side = math.isqrt(features)
    if side * side != features:
        raise ShapeError(f"{features} features an example are no square image.")
    return side


def check_side(side: int, width: int) -> int:
    """Return ``side``, or raise `RangeError` if no ``width`` pixels can be shrunk to it."""
    side = whole("side", side)
    if side < 1 or width % side:
        sizes = [str(width // n) for n in range(1, width + 1) if width % n == 0]
        listed = f"{', '.join(sizes[:-1])} or {sizes[-1]}"
        raise RangeError(f"side is {side}; {width} pixels can be shrunk to {listed}.")
    return side


def _images(x: Tensor) -> Iterator[Tensor]:
    """Chunks of the images in ``x``, (n, features); each (at most 4096, 1, side, side)."""
    side = math.isqrt(x.shape[1])
    return iter(x.view(-1, 1, side, side).split(_CHUNK))


def _shrink(images: Tensor, side: int, subsample: bool) -> Tensor:
    step = images.shape[-1] // side
    if subsample:
        return images[..., ::step, ::step]
    return functional.avg_pool2d(images, step).clamp(0, 1)


def _affine_maps(
    numbers: Tensor, rotation: float, shift: tuple[float, float], scale: tuple[float, float]
) -> Tensor:
    """Affine maps from a place in the copy to the place in the image that is seen there.

    Parameters
    ----------
    numbers : Tensor, (n, 4)
        Uniform in [0, 1]: angle, magnification, horizontal and vertical shift.

    Returns
    -------
    Tensor, (n, 2, 3)
        In torch's coordinates, in which an image reaches from -1 to 1.
    """
    angle = math.radians(rotation) * (2 * numbers[:, 0] - 1)
    magnification = scale[0] + (scale[1] - scale[0]) * numbers[:, 1]
    # The image is two units wide, and numbers reach over the whole range from -shift to shift.
    moved = 2 * torch.tensor(shift) * (2 * numbers[:, 2:] - 1)
    cos, sin = angle.cos() / magnification, angle.sin() / magnification
    turned = torch.stack([torch.stack([cos, sin], 1), torch.stack([-sin, cos], 1)], 1)
    return torch.cat([turned, -turned @ moved[:, :, None]], 2)


def _moved(images: Tensor, maps: Tensor) -> Tensor:
    """What ``maps`` make of ``images``, (n, 1, side, side); black where nothing is seen."""
    grid = functional.affine_grid(maps, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False).clamp(0, 1)
