"""How to train."""

import math
from dataclasses import dataclass

from pnnlab.errors import RangeError
from pnnlab.plain import make_plain


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """How to train. Every number here belongs to the record of a run.

    Parameters
    ----------
    epochs : int
    batch_size : int
        What does not fill a batch is left out of an epoch; each epoch shuffles anew.
    learning_rate : float
        Peak of Adam's rate; it falls to zero along a cosine over the run.
    warmup : float
        Fraction of the steps in which the rate rises linearly from zero.
    penalty : float
        Weight of the soft range penalty.
    evaluations : int
        Evaluations on the validation split, spread evenly; the last is at the last step.
    seed : int
        Of the order of the examples.
    """

    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 0.01
    warmup: float = 0.02
    penalty: float = 1.0
    evaluations: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        make_plain(self)
        for name in ("epochs", "batch_size", "evaluations"):
            if getattr(self, name) < 1:
                raise RangeError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        for name in ("learning_rate", "penalty"):
            if not 0 <= getattr(self, name) < math.inf:
                raise RangeError(f"{name} is {getattr(self, name)}; it must be a number >= 0.")
        if not 0 <= self.warmup <= 1:
            raise RangeError(f"warmup is {self.warmup}; it is a fraction of the steps, 0 to 1.")

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of ``step`` (from 0) of ``steps``."""
        warmup = self.warmup * steps
        rising = (step + 1) / warmup if step + 1 < warmup else 1.0
        return self.learning_rate * rising * 0.5 * (1 + math.cos(math.pi * step / steps))
