"""A simulated device between two cables: driven by a waveform in volts, and read in volts."""

from abc import ABC, abstractmethod
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

Volts = NDArray[np.floating[Any]]


class AnalogPorts(ABC):
    """The analog input and output of a simulated device.

    Attributes
    ----------
    sample_s : float
        Time between two samples of the drive, s.
    """

    sample_s: float

    @abstractmethod
    def respond(self, volts: Volts) -> Volts:
        """Drive the device from rest.

        Parameters
        ----------
        volts : array, (samples,), float64
            What drives it, V, each held for one sample.

        Returns
        -------
        array, (samples,), float64
            What comes out at the end of each sample, V.
        """


@final
class Cable(AnalogPorts):
    """A cable in the place of a device: the output is the input.

    Parameters
    ----------
    sample_s : float
        Time between two samples, s.
    """

    def __init__(self, sample_s: float = 1e-6) -> None:
        self.sample_s = sample_s

    def respond(self, volts: Volts) -> Volts:
        """Give back what came in."""
        return volts.copy()
