"""What a bench is: a programme, what plays and records it, and the device that both make.

A programme is the computer's part: how shots become waveforms, and records become read-outs. It
also solves the nominal equations of its device, for the self-check to compare with. VISA
instruments and sound play and record; a recording stands in the place of the `Bench` itself.
"""

import atexit
import math
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, Protocol, Self, TypeAlias, final

import numpy as np
import torch
from torch import Tensor

from pnnlab.errors import RangeError, ShapeError
from pnnlab.physical_system import Group, PhysicalSystem
from pnnlab.plain import make_plain
from pnnlab.systems import circuit, multiplex, plate, room
from pnnlab.systems.analog import Volts


class Programme(ABC):
    """Encoding of shots as waveforms, and decoding of records, for one kind of device.

    Unless a subclass says otherwise, a device has no parameters, and a shot has one sample an input
    and one read-out a sample.
    """

    name: str  # of the device, in reports
    input_dim: int
    sample_rate_hz: float
    rest: int  # silent samples before the next shot, in which the device forgets the last one
    drive_v: float  # largest voltage of the drive, either way
    low_v: float  # what the oscilloscope must be able to show
    high_v: float
    pilot: ClassVar[float] = 0.2  # of the drive, by which the bench is tested: 4 % of its power

    @property
    def param_dim(self) -> int:
        """Length of theta."""
        return 0

    @property
    def output_dim(self) -> int:
        """Length of y."""
        return self.input_dim

    @property
    def samples(self) -> int:
        """Samples of the waveform of a shot."""
        return self.input_dim

    def theta_groups(self) -> tuple[Group, ...]:
        """Named groups of the parameters; see `PhysicalSystem.theta_groups`."""
        return ()

    def reprogrammed(self, replays: int, outputs: int) -> "Programme":
        """The same drive with other replays and outputs, or `ShapeError` if it has no replays."""
        raise ShapeError(
            f"a {self.name} does not replay its input, so it cannot be given {replays} replays "
            f"and {outputs} outputs; make a bench with another programme."
        )

    @abstractmethod
    def encode(self, x: Tensor, theta: Tensor) -> Tensor:
        """Waveforms of shots, (batch, samples), V."""

    @abstractmethod
    def decode(self, volts: Tensor) -> Tensor:
        """Read-outs (batch, output_dim) of recorded shots, (batch, samples), V."""

    @abstractmethod
    def expected(self, volts: Volts) -> Volts:
        """What a device with nominal constants answers to a waveform, (samples,), V."""


@dataclass(frozen=True)
class Multiplexed(Programme):
    """The drive of `pnnlab.systems.multiplex`: the input, replayed with other scales and offsets.

    The numbers are those of the simulated device, whose ``output_dim`` is ``outputs``. So many
    samples have so many outputs, or `ShapeError`.
    """

    input_dim: int
    replays: int
    outputs: int

    tail: ClassVar[int] = 0  # silent samples of a shot that are still read
    equal: ClassVar[bool] = False  # whether each output is of equally many samples
    of_outputs: ClassVar[str]  # what the outputs are

    def __post_init__(self) -> None:
        make_plain(self)
        read = self.replays * self.input_dim + self.tail
        excess = read % max(self.outputs, 1) if self.equal else self.outputs > read
        if min(self.input_dim, self.replays, self.outputs) < 1 or excess:
            raise ShapeError(
                f"{self.replays} replays of {self.input_dim} samples cannot be read out as "
                f"{self.outputs} {self.of_outputs}: choose another number of outputs."
            )

    @property
    def param_dim(self) -> int:
        return multiplex.param_dim(self.input_dim, self.replays)

    @property
    def output_dim(self) -> int:
        return self.outputs

    @property
    def samples(self) -> int:
        return self.replays * self.input_dim + self.tail

    def theta_groups(self) -> tuple[Group, ...]:
        return multiplex.theta_groups(self.input_dim, self.replays)

    def reprogrammed(self, replays: int, outputs: int) -> "Multiplexed":
        return replace(self, replays=replays, outputs=outputs)


@final
@dataclass(frozen=True)
class CircuitProgramme(Multiplexed):
    """The drive and read-out of `pnnlab.systems.Circuit`; see `Multiplexed`."""

    input_dim: int = 196
    replays: int = 4
    outputs: int = 196
    sample_rate_hz: float = 1 / circuit.SAMPLE_S  # a million with the circuit's own parts
    rest: int = 100  # after which the loop's current has fallen to 5e-6
    drive_v: float = multiplex.DRIVE_RANGE * circuit.FULL_SCALE_V
    low_v: float = circuit.SCREEN[0] * circuit.FULL_SCALE_V
    high_v: float = circuit.SCREEN[1] * circuit.FULL_SCALE_V
    name: str = "circuit"

    equal: ClassVar[bool] = True
    of_outputs: ClassVar[str] = "equal segments"

    def encode(self, x: Tensor, theta: Tensor) -> Tensor:
        return multiplex.drive(x, theta, self.replays).T * circuit.FULL_SCALE_V

    def decode(self, volts: Tensor) -> Tensor:
        return multiplex.segment_means(volts.T.contiguous(), self.outputs) / circuit.FULL_SCALE_V

    def expected(self, volts: Volts) -> Volts:
        u = torch.from_numpy(np.asarray(volts, np.float64) / circuit.FULL_SCALE_V)
        wave = circuit.oscillate(u.unsqueeze(1), circuit.CircuitConstants()).squeeze(1)
        return wave.numpy() * circuit.FULL_SCALE_V


@final
@dataclass(frozen=True)
class PlateProgramme(Multiplexed):
    """The drive and read-out of `pnnlab.systems.Plate`; see `Multiplexed`."""

    input_dim: int = 196
    replays: int = 1
    outputs: int = 10
    sample_rate_hz: float = 1 / plate.SAMPLE_S  # one sample of the drive is 20 µs
    rest: int = 800  # after which the slowest mode's energy has fallen to 1e-5
    drive_v: float = multiplex.DRIVE_RANGE * plate.DRIVE_V
    low_v: float = -1.25 * plate.FULL_SCALE_V
    high_v: float = 1.25 * plate.FULL_SCALE_V
    name: str = "plate"

    tail: ClassVar[int] = plate.TAIL
    of_outputs: ClassVar[str] = "windows"

    def encode(self, x: Tensor, theta: Tensor) -> Tensor:
        return plate.waveform(x, theta, self.replays).T * plate.DRIVE_V

    def decode(self, volts: Tensor) -> Tensor:
        return plate.log_energy(volts.T.contiguous() / plate.FULL_SCALE_V, self.outputs)

    def expected(self, volts: Volts) -> Volts:
        force = torch.from_numpy(np.asarray(volts, np.float64) / plate.DRIVE_V)
        modes = plate.solve_modes(plate.PlateConstants())
        return plate.vibrate(force.unsqueeze(1), modes).squeeze(1).numpy() * plate.FULL_SCALE_V


REMEMBERED = 88  # pulses


@final
@dataclass(frozen=True)
class SoundProgramme(Multiplexed):
    """The drive and read-out of `pnnlab.systems.Room`, for any device that is driven by sound.

    Read-outs are energies of segments, from which the nonlinearity comes, or with ``linear`` the
    amplitudes of the carrier. Sound is counted in parts of full scale, and a record as if its
    device answered an impulse with unit energy. See `Multiplexed`.
    """

    input_dim: int = 64
    replays: int = 4
    outputs: int = 10
    pulse: int = room.PULSE  # samples a number, see `pnnlab.systems.room`
    rest: int = room.RoomConstants().length
    linear: bool = False
    sample_rate_hz: float = room.RATE_HZ
    drive_v: float = multiplex.DRIVE_RANGE * room.DRIVE  # largest sound, of full scale
    low_v: float = -1.0
    high_v: float = 1.0
    name: str = "room"

    tail: ClassVar[int] = room.TAIL
    of_outputs: ClassVar[str] = "segments"

    @classmethod
    def within(
        cls,
        band_hz: tuple[float, float],
        memory_s: float,
        rate_hz: float = room.RATE_HZ,
        **shape: Any,
    ) -> Self:
        """Choose pulses in a measured band, and a rest as long as the measured memory.

        The memory is at most `REMEMBERED` pulses, which a twin can learn, if the band permits.
        `RangeError`: the band is too narrow for pulses, which need a factor of three.
        """
        low, high = band_hz
        slow = min(math.ceil(memory_s * rate_hz / REMEMBERED), int(rate_hz / 2 / low))
        pulse = max(math.ceil(1.5 * rate_hz / high), slow)
        if rate_hz / pulse / 2 < low:
            raise RangeError(
                f"a band from {low:.0f} to {high:.0f} Hz is too narrow: pulses need {high / 3:.0f} "
                "to the same upper end. Use another loudspeaker or microphone, or another place."
            )
        rest = math.ceil(memory_s * rate_hz)
        return cls(pulse=max(4, pulse), rest=rest, sample_rate_hz=rate_hz, **shape)

    @property
    def samples(self) -> int:
        return super().samples * self.pulse

    def encode(self, x: Tensor, theta: Tensor) -> Tensor:
        u = multiplex.drive(x, theta, self.replays)
        return room.pulses(u, self.pulse) * (self.drive_v / multiplex.DRIVE_RANGE)

    def decode(self, volts: Tensor) -> Tensor:
        heard = volts * (multiplex.DRIVE_RANGE / self.drive_v)
        return room.read_out(heard, self.outputs, self.pulse, linear=self.linear)

    def expected(self, volts: Volts) -> Volts:
        taps = room.response(room.RoomConstants())
        sound = torch.from_numpy(np.asarray(volts, np.float64)).unsqueeze(0)
        return room.reverberate(sound, taps).squeeze(0).numpy()


@final
@dataclass(frozen=True)
class CableProgramme(Programme):
    """A cable in the device's place: read-outs are the inputs. To check a bench with."""

    input_dim: int = 100
    sample_rate_hz: float = 1e6
    rest: int = 0
    drive_v: float = 1.0
    low_v: float = -1.25
    high_v: float = 1.25
    name: str = "cable"

    def encode(self, x: Tensor, theta: Tensor) -> Tensor:
        """From minus to plus a volt."""
        del theta
        return x.mul(2).sub_(1)

    def decode(self, volts: Tensor) -> Tensor:
        return volts.add(1).div_(2)

    def expected(self, volts: Volts) -> Volts:
        return volts


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
