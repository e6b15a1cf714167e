"""From two addresses to a device that can be trained."""

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Protocol, TypeVar

from pnnlab.errors import InstrumentError
from pnnlab.instruments.bench import Bench
from pnnlab.instruments.dialects import (
    INFINIIVISION,
    KEYSIGHT_33500,
    RIGOL_DS1000Z,
    TEKTRONIX_AFG3000,
)
from pnnlab.instruments.generator import Generator, GeneratorSettings
from pnnlab.instruments.guard import Guard, GuardTarget
from pnnlab.instruments.limits import Limits
from pnnlab.instruments.link import Link
from pnnlab.instruments.loop import Loop
from pnnlab.instruments.oscilloscope import Oscilloscope
from pnnlab.instruments.programme import Programme
from pnnlab.instruments.trust import Trust

GENERATORS = (KEYSIGHT_33500, TEKTRONIX_AFG3000)
OSCILLOSCOPES = (INFINIIVISION, RIGOL_DS1000Z)


class _Dialect(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def models(self) -> tuple[str, ...]: ...


Spoken = TypeVar("Spoken", bound=_Dialect)


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
        What the device bears: no waveform beyond it is ever sent.
    library : str
        ``"@py"`` for pyvisa-py, ``"@ivi"`` for the VISA of an instrument maker.
    channels : tuple of int
        Of generator and oscilloscope.
    timeout_s : float
        The longest silence of an instrument, s.
    delay_s : float
        How late an answer arrives: what `SelfCheck.late_s` says of a `CableProgramme`, with a cable
        in the device's place.
    guarded : bool
        Whether a second process switches the output off should this one die or hang.

    Returns
    -------
    Bench

    Raises
    ------
    InstrumentError
        An instrument does not answer or speaks no dialect that is known here, or the self-check
        found something.
    LimitError
        The programme's drive exceeds the limits.
    """
    with ExitStack() as opened:
        player = opened.enter_context(Link(generator, library=library, timeout_s=timeout_s))
        viewer = opened.enter_context(Link(oscilloscope, library=library, timeout_s=timeout_s))
        dialect = spoken_by(player, GENERATORS)
        off = f"{dialect.output.header.format(channel=channels[0])} OFF"
        target = GuardTarget(generator, library, (off,))
        loop = Loop(
            Generator(player, dialect, channel=channels[0], limits=limits),
            Oscilloscope(viewer, spoken_by(viewer, OSCILLOSCOPES), channel=channels[1]),
            GeneratorSettings(
                sample_rate_hz=programme.sample_rate_hz, amplitude_v=programme.drive_v
            ),
            low_v=programme.low_v,
            high_v=programme.high_v,
            guard=partial(Guard, [target]) if guarded else None,
        )
        opened.pop_all()  # the loop closes them from here on
    return Bench(Trust(loop, programme, delay_s), programme)


def spoken_by(link: Link, dialects: Sequence[Spoken]) -> Spoken:
    """The dialect of the instrument at the other end.

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
        "make one in the manner of pnnlab.instruments.dialects, and build the loop with it."
    )
