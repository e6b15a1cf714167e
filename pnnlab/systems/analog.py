"""A simulated device between two cables: driven by a waveform in volts, and read in volts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Volts: TypeAlias = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class AnalogPorts:
    """The analog input and output of a simulated device.

    ``respond`` drives it from rest with (samples,) float64, V, each held for ``sample_s`` seconds,
    and returns what comes out at the end of each, V.
    """

    sample_s: float
    respond: Callable[[Volts], Volts]


def cable(sample_s: float = 1e-6) -> AnalogPorts:
    """Put a cable in the place of a device: the output is the input."""
    return AnalogPorts(sample_s, np.copy)
