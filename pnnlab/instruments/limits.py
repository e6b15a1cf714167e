"""Limits of what is sent to a device. A waveform beyond them is refused, and never clipped."""

import math
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from pnnlab.errors import LimitError, RangeError

_AT_REST = 1e-3  # of the permitted range, either way
_ROUNDING = 1e-9  # of doubles, relative


@final
@dataclass(frozen=True)
class Limits:
    """Limits of a waveform.

    Attributes
    ----------
    low_v, high_v : float
        Lowest and highest voltage.
    slew_v_per_s : float
        Largest change from one sample to the next, and from the last to the first.
    duty : float
        Largest fraction of the samples that may be away from rest.
    power_w : float
        Largest mean power in the load.
    load_ohm : float
        The load.
    rest_v : float
        The voltage at rest.

    Raises
    ------
    RangeError
        If these limits make no sense, such as ``low_v >= high_v``.
    """

    low_v: float
    high_v: float
    slew_v_per_s: float = math.inf
    duty: float = 1.0
    power_w: float = math.inf
    load_ohm: float = math.inf
    rest_v: float = 0.0

    def __post_init__(self) -> None:
        if not -math.inf < self.low_v < self.high_v < math.inf:
            raise RangeError(
                f"low_v is {self.low_v} and high_v {self.high_v}; give two voltages, the lower "
                "first."
            )
        if not self.low_v <= self.rest_v <= self.high_v:
            raise RangeError(f"rest_v is {self.rest_v}, outside [{self.low_v}, {self.high_v}].")
        if not 0 < self.duty <= 1:
            raise RangeError(f"duty is {self.duty}; a fraction lies in (0, 1].")
        for name in ("slew_v_per_s", "power_w", "load_ohm"):
            if not getattr(self, name) > 0:
                raise RangeError(f"{name} is {getattr(self, name)}, not above 0.")
        if math.isfinite(self.power_w) and math.isinf(self.load_ohm):
            raise RangeError(f"power_w is {self.power_w}; give the load_ohm that it is put into.")

    @property
    def range_alone(self) -> bool:
        """Whether nothing else is limited."""
        return self.duty == 1 and math.isinf(self.slew_v_per_s) and math.isinf(self.power_w)

    def check(self, volts: NDArray[np.floating[Any]], sample_rate_hz: float) -> None:
        """Raise `LimitError` unless a waveform, (samples,), V, is within the limits.

        Nothing beyond them is forgiven, nor is NaN. Between two triggers a generator rests at the
        first sample.
        """
        self.check_range(volts)
        if not math.isinf(self.slew_v_per_s):
            jump = float(max(np.abs(np.diff(volts)).max(initial=0), abs(volts[0] - volts[-1])))
            if jump * sample_rate_hz > self.slew_v_per_s * (1 + _ROUNDING):
                raise LimitError(
                    f"The waveform changes by {jump * sample_rate_hz:.6g} V/s; permitted are "
                    f"{self.slew_v_per_s:.6g} V/s. Nothing was sent. Smooth the drive, end it "
                    "where it begins, or lower its sample rate."
                )
        if self.duty < 1:
            away = np.abs(volts - self.rest_v) > _AT_REST * (self.high_v - self.low_v)
            duty = np.count_nonzero(away) / len(volts)
            if away[0]:
                raise LimitError(
                    f"The first sample is {float(volts[0]):.6g} V, where the generator stays "
                    f"between triggers, but with a duty of {self.duty} it must be at rest, "
                    f"{self.rest_v:.6g} V. Nothing was sent. Begin with rest."
                )
            if duty > self.duty:
                raise LimitError(
                    f"The waveform is away from rest for {duty:.4g} of its length; permitted are "
                    f"{self.duty:.4g}. Nothing was sent. Put longer rests between the shots."
                )
        if not math.isinf(self.power_w):
            mean_square = np.mean(np.square(volts, dtype=np.float64))
            power = max(mean_square, float(volts[0]) ** 2) / self.load_ohm
            if power > self.power_w:
                raise LimitError(
                    f"The waveform puts {power:.4g} W into {self.load_ohm:.6g} ohm; permitted are "
                    f"{self.power_w:.4g} W. Nothing was sent. Lower the drive, or let it rest "
                    "longer."
                )

    def check_range(self, volts: NDArray[np.floating[Any]]) -> None:
        """Raise `LimitError` unless all samples are within the range; see `check`."""
        if volts.ndim != 1 or len(volts) == 0:
            raise LimitError(f"A waveform is (samples,), not {volts.shape}; nothing was sent.")
        low, high = float(volts.min()), float(volts.max())
        slack = _ROUNDING * (self.high_v - self.low_v)
        if low >= self.low_v - slack and high <= self.high_v + slack:  # false of NaN too
            return
        if not (math.isfinite(low) and math.isfinite(high)):
            count = int(np.count_nonzero(~np.isfinite(volts)))
            raise LimitError(
                f"{count} of {len(volts)} samples are NaN or infinite; nothing was sent. Look for "
                "a division by zero, or a training step that diverged."
            )
        raise LimitError(
            f"The waveform goes from {low:.6g} to {high:.6g} V; permitted are {self.low_v:.6g} to "
            f"{self.high_v:.6g} V. Nothing was sent. Scale the drive."
        )
