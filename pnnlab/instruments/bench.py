"""A device between a generator and an oscilloscope, as a `PhysicalSystem`.

A batch goes out as one waveform and comes back as one record, wherever the instruments' memories
allow, so that the rate of the link is the limit, and not its round trips.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Self, TypeVar, final

import numpy as np
import torch
from torch import Tensor

from pnnlab.errors import InstrumentError
from pnnlab.instruments.acquisition import Acquisition, Tally
from pnnlab.instruments.dialects import (
    INFINIIVISION,
    KEYSIGHT_33500,
    RIGOL_DS1000Z,
    TEKTRONIX_AFG3000,
    GeneratorDialect,
    ScopeDialect,
)
from pnnlab.instruments.generator import Generator
from pnnlab.instruments.guard import Guard, GuardTarget
from pnnlab.instruments.limits import Limits
from pnnlab.instruments.link import Link
from pnnlab.instruments.oscilloscope import Oscilloscope
from pnnlab.instruments.programme import Programme
from pnnlab.instruments.selfcheck import SelfCheck
from pnnlab.physical_system import Group, PhysicalSystem
from pnnlab.systems.analog import Volts

GENERATORS = (KEYSIGHT_33500, TEKTRONIX_AFG3000)
OSCILLOSCOPES = (INFINIIVISION, RIGOL_DS1000Z)

_PIECE = 1 << 15  # samples to be encoded or decoded at once: less than torch divides among threads


Dialect = TypeVar("Dialect", GeneratorDialect, ScopeDialect)


@final
class Bench(PhysicalSystem):
    """A device on a bench.

    Use it in a ``with`` statement, or close it.

    Parameters
    ----------
    acquisition : Acquisition
        The instruments.
    programme : Programme
        How shots become waveforms, and records read-outs.
    """

    def __init__(self, acquisition: Acquisition, programme: Programme) -> None:
        super().__init__(programme.input_dim, programme.param_dim, programme.output_dim)
        self.programme = programme
        self._acquisition = acquisition

    @property
    def name(self) -> str:
        """Name of the device in reports."""
        return self.programme.name

    def theta_groups(self) -> tuple[Group, ...]:
        """Return the groups of the programme."""
        return self.programme.theta_groups()

    @property
    def self_check(self) -> SelfCheck:
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
            No record was accepted.
        """
        shots, samples = volts.shape
        answers = np.empty(volts.shape, np.float32)
        with self._acquisition.lock:
            for part in _parts(shots, self._acquisition.at_once(samples)):
                write = partial(np.copyto, src=volts[part])
                answers[part] = self._acquisition.take(len(volts[part]), samples, write)
        return answers

    def _measure(self, x: Tensor, theta: Tensor) -> Tensor:
        samples = self.programme.samples
        y = x.new_empty(len(x), self.output_dim)
        with self._acquisition.lock:
            for part in _parts(len(x), self._acquisition.at_once(samples)):
                own = theta[part] if theta.ndim == 2 else theta
                write = partial(self._write, x[part], own)
                self._read(self._acquisition.take(len(x[part]), samples, write), y[part])
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


def open_bench(
    generator: str,
    oscilloscope: str,
    programme: Programme,
    *,
    limits: Limits,
    library: str = "@py",
    channels: tuple[int, int] = (1, 1),
    timeout_s: float = 10.0,
    delay_s: float = 0.0,
    guarded: bool = True,
) -> Bench:
    """Open both instruments and check the cabling between them.

    The generator's channel drives the device, the oscilloscope's looks at it, and the generator's
    Sync or Trigger output goes to the oscilloscope's external trigger input.

    Parameters
    ----------
    generator, oscilloscope : str
        VISA addresses, such as ``"TCPIP::192.168.0.7::5025::SOCKET"``.
    programme : Programme
        What the device is driven with.
    limits : Limits
        No waveform that exceeds them is sent.
    library : str
        ``"@py"`` for pyvisa-py, ``"@ivi"`` for the VISA of an instrument maker.
    channels : tuple of int
        Of generator and oscilloscope.
    timeout_s : float
        The longest silence of an instrument, s.
    delay_s : float
        How late an answer arrives: `SelfCheck.late_s` of a `CableProgramme`, measured with a cable
        in the device's place.
    guarded : bool
        Whether a second process switches the output off should this one die or hang.

    Returns
    -------
    Bench

    Raises
    ------
    InstrumentError
        An instrument does not answer or is of no known dialect, or the self-check found a problem.
    LimitError
        The programme's drive exceeds the limits.
    """
    with ExitStack() as opened:
        player = opened.enter_context(Link(generator, library=library, timeout_s=timeout_s))
        viewer = opened.enter_context(Link(oscilloscope, library=library, timeout_s=timeout_s))
        dialect = spoken_by(player, GENERATORS)
        off = f"{dialect.output.header.format(channel=channels[0])} OFF"
        target = GuardTarget(generator, library, (off,))
        acquisition = Acquisition(
            Generator(player, dialect, channel=channels[0], limits=limits),
            Oscilloscope(viewer, spoken_by(viewer, OSCILLOSCOPES), channel=channels[1]),
            programme,
            delay_s=delay_s,
            guard=partial(Guard, [target]) if guarded else None,
        )
        opened.pop_all()  # the acquisition closes them from here on
    return Bench(acquisition, programme)


def spoken_by(link: Link, dialects: Sequence[Dialect]) -> Dialect:
    """Return the dialect of the instrument at the other end.

    Raises
    ------
    InstrumentError
        It is none of these.
    """
    for dialect in dialects:
        if any(model in link.identity for model in dialect.models):
            return dialect
    known = ", ".join(dialect.name for dialect in dialects)
    raise InstrumentError(
        f"{link} introduces itself as {link.identity!r} and is none of {known}. A dialect is data: "
        "make one in the manner of pnnlab.instruments.dialects, and build an Acquisition with it."
    )
