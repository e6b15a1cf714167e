"""Time multiplexing: how one physical node gets many inputs.

The generator replays the input; each replay has a trainable scale and offset for each element.

Source: Wright, Onodera et al., Nature 601, 549 (2022), the electronic PNN, whose parameters are
an element-wise scale and offset of the drive.
"""

import copy
from abc import abstractmethod
from typing import Any, ClassVar, Self, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pnnlab.errors import ShapeError
from pnnlab.physical_system import NO_POWER, Cost, Group
from pnnlab.plain import whole
from pnnlab.systems.analog import AnalogPorts, Volts
from pnnlab.systems.units import BuiltSystem, Drift, RandomStream

DRIVE_RANGE = 2.0  # the drive reaches from minus to plus this


def param_dim(input_dim: int, replays: int) -> int:
    """Length of theta: a scale and an offset for each sample of the drive."""
    return 2 * input_dim * replays


def theta_groups(input_dim: int, replays: int) -> tuple[Group, ...]:
    """Scales, then offsets, replay by replay."""
    names = [f"{what}, replay {i + 1}" for what in ("scale", "offset") for i in range(replays)]
    return tuple(Group(name, i * input_dim, (i + 1) * input_dim) for i, name in enumerate(names))


def drive(x: Tensor, theta: Tensor, replays: int) -> Tensor:
    r"""Form the waveform that drives the node: :math:`u = (2 \theta_s - 1)\, x + (2 \theta_o - 1)`.

    ``x`` is (batch, input_dim); ``theta``, (2 * replays * input_dim,) or (batch, ...), holds first
    all scales, replay by replay, then all offsets. The drive, in [-2, 2], is (replays * input_dim,
    batch): time first. Differentiable.
    """
    batch, width = x.shape
    signed = 2 * theta - 1
    if theta.ndim == 1:
        scale, offset = signed.view(2, replays, width, 1)
    else:
        scale, offset = signed.view(batch, 2, replays, width).permute(1, 2, 3, 0)
    # Time first and contiguous: the integrator works on whole batches sample by sample.
    return torch.addcmul(offset, scale, x.T.contiguous()).reshape(replays * width, batch)


def quantised(u: NDArray[Any], codes: int) -> NDArray[Any]:
    """Round the drive as a converter of so many codes over its range does; 0 for an ideal one."""
    if not codes:
        return u
    step = 2 * DRIVE_RANGE / codes
    return np.rint(u / step) * step


def segment_means(wave: Tensor, outputs: int) -> Tensor:
    """Average a waveform (samples, batch) over so many equal segments, to (batch, outputs)."""
    samples, batch = wave.shape
    return wave.view(outputs, samples // outputs, batch).mean(1).T


class ReplayingSystem(BuiltSystem):
    """A built device with one input and one output in volts, to which its input is replayed.

    A subclass calls `_shape` when its unit is made.
    """

    _drift_name = "warmth"
    _drift: Drift
    _sample_s: ClassVar[float]
    _cost_source: ClassVar[str]
    _tail: ClassVar[int] = 0  # silent samples at the end of a shot
    _pulse: int = 1  # samples of the waveform for one of the drive
    _rest: int = 0  # samples between two shots
    _unequal: ClassVar[bool] = False  # whether outputs may be means of more and of fewer samples
    _outputs: ClassVar[str]  # what is read out, and which number of them is possible

    def __init__(
        self, unit: int, tolerance: float, noise: bool, drift: bool, seed: int, parts: Any
    ) -> None:
        self._identify(unit, tolerance)
        self._noise = RandomStream(self.unit, seed, 0, on=noise)
        size, time = parts.temperature, parts.temperature_time
        self._drift = Drift(self.unit, seed, 1, size=size, time=time, on=drift)

    def _shape(self, input_dim: int, replays: int, output_dim: int) -> None:
        input_dim, output_dim = whole("input_dim", input_dim), whole("output_dim", output_dim)
        self.replays = replays = whole("replays", replays)
        samples = replays * input_dim + self._tail
        excess = output_dim > samples if self._unequal else samples % max(output_dim, 1)
        if min(replays, output_dim) < 1 or excess:
            tail = f" and a tail of {self._tail}" if self._tail else ""
            raise ShapeError(
                f"{replays} replays of {input_dim} samples{tail} cannot be read out as "
                f"{output_dim} {self._outputs}."
            )
        super().__init__(input_dim, param_dim(input_dim, replays), output_dim)

    @final
    def reprogrammed(self, *, replays: int, output_dim: int, input_dim: int | None = None) -> Self:
        """Programme the same unit otherwise: parts, temperature and noise are shared."""
        other = copy.copy(self)
        other._shape(self.input_dim if input_dim is None else input_dim, replays, output_dim)
        return other

    @final
    def cost(self) -> Cost:
        samples = (self.replays * self.input_dim + self._tail) * self._pulse + self._rest
        return Cost(
            seconds_per_pass=samples * self._sample_s,
            assumptions=(
                f"A shot lasts as long as its {samples} samples at {self._sample_s * 1e6:g} µs "
                f"each; loading a waveform and fetching a record take no time. {NO_POWER}"
            ),
            source=self._cost_source,
        )

    @final
    def theta_groups(self) -> tuple[Group, ...]:
        return theta_groups(self.input_dim, self.replays)

    @final
    def analog_ports(self) -> AnalogPorts:
        """Give the same unit as it is between two cables; its temperature is shared."""
        return AnalogPorts(self._sample_s, self._respond)

    @abstractmethod
    def _respond(self, volts: Volts) -> Volts: ...
