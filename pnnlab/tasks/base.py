"""`Task` and `Split`: what the networks learn, divided before anything is tuned."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pnnlab.errors import RangeError, ShapeError
from pnnlab.protocols import check_unit_range


@dataclass(frozen=True)
class Split:
    """Examples with their classes.

    Attributes
    ----------
    x : Tensor, (n, features), float32, in [0, 1]
    labels : Tensor, (n,), int64
        Numbered from 0. Whole numbers of another type are converted.

    Raises
    ------
    ShapeError
        There is not one row of x and one whole number for each example.
    RangeError
        A value of x is NaN or outside [0, 1], or a label is negative.
    """

    x: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        _check_features(self.x)
        object.__setattr__(self, "labels", _class_numbers(self.labels, len(self.x)))

    def __len__(self) -> int:
        return len(self.x)

    def first(self, n: int) -> "Split":
        """The first ``n`` examples."""
        return Split(self.x[:n], self.labels[:n])

    def take(self, rows: Tensor) -> "Split":
        """The examples at ``rows``, (m,), int64, in that order."""
        return Split(self.x[rows], self.labels[rows])


@dataclass(frozen=True)
class Task:
    """A classification task.

    Attributes
    ----------
    train, validation, test : Split
        Settings are chosen on ``validation``; ``test`` is looked at once, at the end.
    classes : int
    side : int or None
        The images are ``side`` by ``side`` pixels; None where the examples are no images.
    source : str
        Where the examples come from.
    class_names : tuple of str
        One for each class, in order of the labels; empty where they have no names.
    feature_names : tuple of str
        One for each element of ``x``, with its unit; empty for pixels.

    Raises
    ------
    ShapeError
        The splits have examples of different lengths, or there is not one name for each.
    RangeError
        A label is not below ``classes``.
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
        for name, split in (("validation", self.validation), ("test", self.test)):
            check_width(name, split, width)
        for name in ("train", "validation", "test"):
            check_classes(name, getattr(self, name), self.classes)
        named = (("class_names", self.classes), ("feature_names", width))
        for name, count in named:
            if len(names := getattr(self, name)) not in (0, count):
                raise ShapeError(f"{len(names)} {name} for {count}; give one for each, or none.")

    @property
    def chance(self) -> float:
        """Accuracy on the test split of always naming the most frequent training class."""
        return float((self.test.labels == self.train.labels.mode().values).float().mean())


def check_width(name: str, split: Split, width: int) -> None:
    """Raise `ShapeError` unless each example of ``split`` has ``width`` features."""
    if split.x.shape[1] != width:
        raise ShapeError(
            f"the examples of the {name} split have {split.x.shape[1]} features and those of the "
            f"training split {width}: prepare both alike."
        )


def check_classes(name: str, split: Split, classes: int) -> None:
    """Raise `RangeError` unless the labels of ``split`` are below ``classes``."""
    if not len(split) or int(split.labels.max()) < classes:
        return
    low, high = (int(end) for end in split.labels.aminmax())
    raise RangeError(
        f"the labels of the {name} split go from {low} to {high}, and {classes} classes are "
        f"numbered from 0 to {classes - 1}: "
        + ("give labels - 1." if (low, high) == (1, classes) else "number them so.")
    )


def _check_features(x: Tensor) -> None:
    if not isinstance(x, Tensor) or not x.is_floating_point():
        kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise ShapeError(
            f"x is {kind}; give a floating-point tensor in [0, 1], as in "
            "torch.tensor(x, dtype=torch.float32), divided by its full scale (255 for bytes)."
        )
    if x.ndim != 2:
        raise ShapeError(
            f"x has shape {tuple(x.shape)}; give one row of features an example, as x.flatten(1) "
            "makes of images."
        )
    check_unit_range("x", x)


def _class_numbers(labels: Tensor, n: int) -> Tensor:
    """One int64 for each of ``n`` examples."""
    if not isinstance(labels, Tensor):
        raise ShapeError(
            f"labels are {type(labels).__name__}; give a tensor, as in torch.as_tensor(labels)."
        )
    if labels.shape != (n,):
        raise ShapeError(
            f"labels have shape {tuple(labels.shape)} for {n} examples; give one class number "
            "each, as labels.argmax(1) makes of one-hot rows."
        )
    if labels.is_floating_point() or labels.is_complex():
        raise ShapeError(
            f"labels are {labels.dtype}; give the class numbers as whole numbers, labels.long()."
        )
    labels = labels.long()
    if n and int(labels.min()) < 0:
        raise RangeError(
            f"labels begin at {int(labels.min())}; number the classes from 0, and leave out "
            "examples without a class."
        )
    return labels


def shuffled(n: int, seed: int) -> Tensor:
    """The numbers below ``n`` in an order that the seed alone sets; (n,), int64."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))
