"""`Task` and `Split`: what the networks learn, divided before anything is tuned."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pnnlab.plain import seeded


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

    @property
    def chance(self) -> float:
        """Accuracy on the test split of always naming the most frequent training class."""
        return float((self.test.labels == self.train.labels.mode().values).float().mean())


def shuffled(n: int, seed: int) -> Tensor:
    """The numbers below ``n`` in an order that the seed alone sets; (n,), int64."""
    return torch.randperm(n, generator=seeded(seed))
