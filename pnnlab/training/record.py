"""What one training step showed."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Record:
    """What one training step showed.

    The fields from ``device_accuracy`` on are None in steps without an evaluation; those of the
    twin also where there is none. A network without physical layers runs on the computer itself,
    and its accuracy is the ``device_accuracy``.

    Attributes
    ----------
    step, steps : int
        Steps done, this one included, and steps of the whole run.
    loss, batch_accuracy : float
        Cross-entropy with range penalty, and accuracy, of this batch.
    clamped : tuple of float
        Fraction of clamped inputs, by physical layer.
    device_passes : int
        Shots taken by all systems of the network since the run began, evaluations included.
    seconds, seconds_left, steps_per_second : float
        Wall time spent in steps so far, and what it promises.
    learning_rate : float
        Adam's, of this step; NaN in journals from before it was kept.
    gap : tuple of float
        By physical layer, mean squared difference of device and twin at the device's inputs,
        relative to the variance of the device's output.
    theta_at_limits : tuple of float
        By physical layer, fraction of its parameters at or beyond 0 or 1.
    stuck : tuple of float
        By physical layer, fraction of its read-outs on the validation split that stick at an end
        of what their output ever showed: saturation.
    """

    step: int
    steps: int
    epoch: int
    loss: float
    batch_accuracy: float
    clamped: tuple[float, ...]
    device_passes: int
    seconds: float
    seconds_left: float
    steps_per_second: float
    learning_rate: float = math.nan
    device_accuracy: float | None = None
    device_loss: float | None = None
    twin_accuracy: float | None = None
    twin_loss: float | None = None
    gap: tuple[float, ...] | None = None
    theta_at_limits: tuple[float, ...] | None = None
    stuck: tuple[float, ...] | None = None
