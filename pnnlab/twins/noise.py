"""The noise of read-outs: its standard deviation as a function of the mean, fitted to repeats."""

import math
from typing import final

import torch
from torch import Tensor, nn

NOISELESS = 1e-9  # spreads, which the likelihood of no noise at all stops at


@final
class Noise(nn.Module):
    """Standard deviation of a read-out as a function of its mean, log-quadratic.

    Means and deviations are standardised; beyond three standard deviations the curve is flat.
    There are ``distinct`` outputs with a level of their own; 1 if all are alike.
    """

    def __init__(self, distinct: int) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.full((distinct,), -3.0))
        self.slope = nn.Parameter(torch.zeros(2))

    def forward(self, mean: Tensor) -> Tensor:
        """Logarithm of the deviation at a standardised ``mean``, (batch, outputs)."""
        m = mean.clamp(-3, 3)
        return self.level + self.slope[0] * m + self.slope[1] * m.square()


def fit_noise(noise: Noise, mean: Tensor, y: Tensor, share: float = 1.0) -> None:
    """Fit a noise model to the scatter of repeats, by Gaussian likelihood.

    The scatter of r repeats around their own mean has (r - 1) / r of the noise's variance, and
    does not depend on the error of a twin. Without repeats nothing is fitted. Standardised are
    ``mean``, (shots, outputs), at which the model is evaluated, and the read-outs ``y``, (repeats,
    shots, outputs); ``share`` is the factor from their deviation to what the model describes.
    """
    repeats = len(y)
    if repeats < 2:
        return
    residual = (y - y.mean(0)) * math.sqrt(repeats / (repeats - 1)) * share
    squares = residual.square() + NOISELESS**2
    noise.requires_grad_(True)
    optimizer = torch.optim.LBFGS(noise.parameters(), max_iter=50, line_search_fn="strong_wolfe")
    with torch.no_grad():
        noise.slope.zero_()
        noise.level.copy_(squares.mean((0, 1)).log().mean() / 2)

    def likelihood() -> Tensor:
        optimizer.zero_grad()
        log = noise(mean)
        loss: Tensor = (log + 0.5 * squares * torch.exp(-2 * log)).mean()
        loss.backward()
        return loss

    optimizer.step(likelihood)
    noise.requires_grad_(False)
