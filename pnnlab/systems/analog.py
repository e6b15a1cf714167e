"""What lies between two cables: a device that is driven and read in volts.

A generator in a laboratory knows nothing of shots. It plays a waveform, the device follows, and an
oscilloscope takes down what comes out.
"""

from abc import ABC, abstractmethod
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

Volts = NDArray[np.floating[Any]]


class AnalogPorts(ABC):
    """The input and the output of a simulated device.

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
    """Nothing but a cable: what goes in comes out.

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
