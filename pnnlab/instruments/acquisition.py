"""The contract of whatever turns waveforms into records, and the device that is driven by it.

VISA instruments and sound fulfil it; a recording stands in the place of the `Bench` itself.
"""

import atexit
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, Self, TypeAlias, final

import numpy as np
import torch
from torch import Tensor

from pnnlab.instruments.programme import Programme
from pnnlab.physical_system import Group, PhysicalSystem
from pnnlab.systems.analog import Volts

Waves: TypeAlias = Callable[[slice], Any]
"""Gives the waveforms of some shots, (shots, samples), V."""
Read: TypeAlias = Callable[[slice, Volts], None]
"""Takes the records of some shots, (shots, samples), V."""


class Check(Protocol):
    """What a self-check found; its text is for a person."""

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong and what to do about it; empty if the bench can be used."""


class Tally(NamedTuple):
    """What a bench did."""

    shots: int  # taken and accepted
    retaken: Mapping[str, int]  # shots by what was wrong, such as "link" or "slip"
    zero_v: float = 0.0  # how far an oscilloscope's zero has moved since the self-check; subtracted


class Acquisition(ABC):
    """Plays waveforms to a device and records its answers, and vouches for each record.

    It checks the bench when it is made, and raises `InstrumentError` where that finds a problem.
    """

    check: Check

    def __init__(self) -> None:
        self._shots = 0
        self._retaken: Counter[str] = Counter()
        self._zero = 0.0
        self._lock = threading.RLock()
        atexit.register(self.close)

    @property
    def tally(self) -> Tally:
        """What was done so far."""
        return Tally(self._shots, dict(self._retaken), self._zero)

    @abstractmethod
    def at_once(self, samples: int) -> int:
        """How many shots of so many samples go out in one record, or `RangeError`."""

    @abstractmethod
    def take(self, shots: int, samples: int, waves: Waves, read: Read) -> None:
        """Play waveforms one after the other, with a rest after each, until all are accepted.

        ``read`` is called with answers at the end of each sample, in memory that is used again. A
        `LimitError` means that nothing was sent; after an `InstrumentError` the output is off.
        """

    @abstractmethod
    def rearm(self) -> None:
        """Let the output be switched on again after a trip; look at the instruments before."""

    @abstractmethod
    def close(self) -> None:
        """Switch the output off and release the instruments; may be repeated."""


@final
class Bench(PhysicalSystem):
    """A device on a bench, driven by a programme. Use it in a ``with`` statement, or close it."""

    def __init__(self, acquisition: Acquisition, programme: Programme) -> None:
        super().__init__(programme.input_dim, programme.param_dim, programme.output_dim)
        self.programme = programme
        self._acquisition = acquisition

    @property
    def name(self) -> str:
        return self.programme.name

    def theta_groups(self) -> tuple[Group, ...]:
        return self.programme.theta_groups()

    @property
    def self_check(self) -> Check:
        """Result of the self-check."""
        return self._acquisition.check

    @property
    def tally(self) -> Tally:
        """What was done so far, with all programmes."""
        return self._acquisition.tally

    def reprogrammed(self, *, replays: int, output_dim: int) -> "Bench":
        """Program the same device otherwise; the instruments are shared."""
        return Bench(self._acquisition, self.programme.reprogrammed(replays, output_dim))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Switch the output off and release the instruments, for all programmes."""
        self._acquisition.close()

    def rearm(self) -> None:
        """Let the output be switched on again after a trip; look at the instruments before."""
        self._acquisition.rearm()

    def waveforms(self, volts: Volts) -> Volts:
        """Play waveforms of your own, as shots, and return the answers.

        Both are (shots, samples), V, the answers float32, of the end of each sample; errors are
        those of `Acquisition.take`.
        """
        answers = np.empty(volts.shape, np.float32)
        shots, samples = volts.shape
        self._acquisition.take(shots, samples, volts.__getitem__, answers.__setitem__)
        return answers

    def _measure(self, x: Tensor, theta: Tensor) -> Tensor:
        y = x.new_empty(len(x), self.output_dim)

        def waves(rows: slice) -> Volts:
            own = theta[rows] if theta.ndim == 2 else theta
            return self.programme.encode(x[rows], own).numpy()

        def read(rows: slice, record: Volts) -> None:
            y[rows] = self.programme.decode(torch.from_numpy(record))

        self._acquisition.take(len(x), self.programme.samples, waves, read)
        return y
