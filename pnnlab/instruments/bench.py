"""A device between a generator and an oscilloscope, as a `PhysicalSystem`.

A batch goes out as one waveform and comes back as one record, wherever the instruments' memories
allow: then the link is the limit, and not the round trip.
"""

from typing import Self, final

import numpy as np
import torch
from torch import Tensor

from pnnlab.instruments.programme import Programme
from pnnlab.instruments.selfcheck import SelfCheck
from pnnlab.instruments.trust import Tally, Trust
from pnnlab.protocols import PhysicalSystem
from pnnlab.systems.terminals import Volts


@final
class Bench(PhysicalSystem):
    """A device on a bench.

    Use it in a ``with`` statement, or close it.

    Parameters
    ----------
    trust : Trust
        The instruments.
    programme : Programme
        How shots become waveforms, and records read-outs.
    """

    def __init__(self, trust: Trust, programme: Programme) -> None:
        super().__init__(programme.input_dim, programme.param_dim, programme.output_dim)
        self.programme = programme
        self._trust = trust

    @property
    def name(self) -> str:
        """The word for the device in reports."""
        return self.programme.name

    @property
    def self_check(self) -> SelfCheck:
        """What the self-check found."""
        return self._trust.check

    @property
    def tally(self) -> Tally:
        """What was done so far, with all programmes."""
        return self._trust.tally

    def reshaped(self, programme: Programme) -> "Bench":
        """Programme the same device otherwise; the instruments are shared."""
        return Bench(self._trust, programme)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Switch the output off and let the instruments go, for all programmes."""
        self._trust.close()

    def waveforms(self, volts: Volts) -> Volts:
        """Play waveforms of your own, as shots.

        Parameters
        ----------
        volts : array, (shots, samples), floating point
            V.

        Returns
        -------
        array, (shots, samples), float32
            What the device answers at the end of each sample, V.

        Raises
        ------
        LimitError
            They exceed the limits; nothing was sent.
        InstrumentError
            They cannot be had.
        """
        most = self._trust.at_once(volts.shape[1])
        parts = range(0, len(volts), most)
        taken = [self._trust.take(volts[start : start + most]) for start in parts]
        if len(taken) == 1:  # as nearly always
            return taken[0]
        return np.concatenate([np.empty((0, volts.shape[1]), np.float32), *taken])

    def _measure(self, x: Tensor, theta: Tensor) -> Tensor:
        volts = self.waveforms(self.programme.encode(x, theta).numpy())
        return self.programme.decode(torch.from_numpy(volts)).to(x.dtype)
