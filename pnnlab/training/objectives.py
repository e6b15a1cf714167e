"""Objectives: what a training minimises, and what its evaluations report."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from torch import Tensor
from torch.nn import functional


@final
@dataclass(frozen=True, kw_only=True)
class Labels:
    """Names of a loss and a metric, with their units, in plots and tables.

    Attributes
    ----------
    percent : bool
        Whether the metric is a fraction, shown in per cent.
    """

    loss: str = "cross-entropy (nat)"
    metric: str = "accuracy"
    percent: bool = True

    @property
    def factor(self) -> float:
        """What a metric is multiplied with to be shown."""
        return 100.0 if self.percent else 1.0

    def text(self, value: float | None) -> str:
        """Write a value of the metric; a dash for None."""
        if value is None:
            return "–"
        return f"{100 * value:.1f} %" if self.percent else f"{value:.3g}"


@final
@dataclass(frozen=True, kw_only=True)
class Objective:
    """A loss to train on and a metric to report.

    Parameters
    ----------
    name : str
        Tells objectives apart: a run is resumed with the one it began with.
    loss : callable
        (outputs, targets) to a differentiable scalar, a mean over the examples.
    metric : callable
        (outputs, targets) to a scalar; larger is better.
    labels : Labels
    """

    name: str
    loss: Callable[[Tensor, Tensor], Tensor]
    metric: Callable[[Tensor, Tensor], Tensor]
    labels: Labels


def _accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.argmax(1) == targets).double().mean()


def _r2(outputs: Tensor, targets: Tensor) -> Tensor:
    """Coefficient of determination over all outputs: 1 is perfect, 0 the constant mean."""
    error = (outputs - targets).double().square().sum()
    return 1 - error / (targets - targets.mean(0)).double().square().sum()


CLASSIFICATION = Objective(
    name="classification", loss=functional.cross_entropy, metric=_accuracy, labels=Labels()
)
REGRESSION = Objective(
    name="regression",
    loss=functional.mse_loss,
    metric=_r2,
    labels=Labels(loss="mean squared error", metric="R²", percent=False),
)
