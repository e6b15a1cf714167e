"""A device between a generator and an oscilloscope, as a `PhysicalSystem`.

A batch goes out as one waveform and comes back as one record, wherever the instruments' memories
allow: then the link is the limit, and not the round trip.
"""

from types import TracebackType
from typing import Self, final

import torch
from torch import Tensor

from pnnlab.instruments.programme import Programme
from pnnlab.instruments.selfcheck import SelfCheck
from pnnlab.instruments.trust import Tally, Trust
from pnnlab.protocols import PhysicalSystem


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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Switch the output off and let the instruments go, for all programmes."""
        self._trust.close()

    def _measure(self, x: Tensor, theta: Tensor) -> Tensor:
        programme = self.programme
        most = self._trust.at_once(programme.samples)
        y = [x.new_zeros(0, self.output_dim)]
        for start in range(0, len(x), most):
            part = slice(start, start + most)
            waves = programme.encode(x[part], theta if theta.ndim == 1 else theta[part])
            volts = self._trust.take(waves.numpy())
            y.append(programme.decode(torch.from_numpy(volts)).to(x.dtype))
        return torch.cat(y)
