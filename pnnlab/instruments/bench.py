"""A device between a generator and an oscilloscope, as a `PhysicalSystem`.

A batch goes out as one waveform and comes back as one record, wherever the instruments' memories
allow: then the link is the limit, and not the round trip.
"""

from functools import partial
from typing import Self, final

import numpy as np
import torch
from torch import Tensor

from pnnlab.instruments.programme import Programme
from pnnlab.instruments.selfcheck import SelfCheck
from pnnlab.instruments.trust import Tally, Trust
from pnnlab.protocols import Group, PhysicalSystem
from pnnlab.systems.analog import Volts

_PIECE = 1 << 15  # samples to be encoded or decoded at once: less than torch divides among threads


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

    def theta_groups(self) -> tuple[Group, ...]:
        """Groups of the programme."""
        return self.programme.theta_groups()

    @property
    def self_check(self) -> SelfCheck:
        """What the self-check found."""
        return self._trust.check

    @property
    def tally(self) -> Tally:
        """What was done so far, with all programmes."""
        return self._trust.tally

    def reprogrammed(self, *, replays: int, output_dim: int) -> "Bench":
        """Program the same device otherwise; the instruments are shared."""
        return Bench(self._trust, self.programme.reprogrammed(replays, output_dim))

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
        shots, samples = volts.shape
        answers = np.empty(volts.shape, np.float32)
        with self._trust.lock:
            for part in _parts(shots, self._trust.at_once(samples)):
                write = partial(np.copyto, src=volts[part])
                answers[part] = self._trust.take(len(volts[part]), samples, write)
        return answers

    def _measure(self, x: Tensor, theta: Tensor) -> Tensor:
        samples = self.programme.samples
        y = x.new_empty(len(x), self.output_dim)
        with self._trust.lock:
            for part in _parts(len(x), self._trust.at_once(samples)):
                own = theta[part] if theta.ndim == 2 else theta
                write = partial(self._write, x[part], own)
                self._read(self._trust.take(len(x[part]), samples, write), y[part])
        return y

    def _write(self, x: Tensor, theta: Tensor, waves: Volts) -> None:
        for rows in _parts(len(x), max(1, _PIECE // waves.shape[1])):
            own = theta[rows] if theta.ndim == 2 else theta
            waves[rows] = self.programme.encode(x[rows], own).numpy()

    def _read(self, volts: Volts, y: Tensor) -> None:
        for rows in _parts(len(y), max(1, _PIECE // volts.shape[1])):
            y[rows] = self.programme.decode(torch.from_numpy(volts[rows]))


def _parts(count: int, most: int) -> list[slice]:
    """Slices of at most so many, one after the other."""
    return [slice(start, min(start + most, count)) for start in range(0, count, most)]
