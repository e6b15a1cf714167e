"""Who is on the bench: the instruments that a VISA library finds, and how each introduces itself.

Without a word to the instruments beyond ``*IDN?`` (IEEE 488.2), which changes no setting. Still,
do not ask while a measurement runs: an answer would land between its own.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import pyvisa
from pyvisa.resources import MessageBasedResource

from pnnlab.errors import InstrumentError

_TIMEOUT_MS = 1000


@final
@dataclass(frozen=True)
class Resource:
    """A VISA resource.

    Attributes
    ----------
    name : str
        Its address, such as ``"USB0::0x0957::0x2807::MY57401328::INSTR"``.
    identity : str or None
        Its answer to ``*IDN?``: maker, model, serial number, firmware.
    error : str or None
        Why there is none.
    """

    name: str
    identity: str | None = None
    error: str | None = None


def list_resources(
    library: str = "@py", names: Sequence[str] | None = None
) -> tuple[Resource, ...]:
    """Find instruments and ask each who it is, within about a second for each.

    Parameters
    ----------
    library : str
        ``"@py"`` for pyvisa-py, ``"@ivi"`` for the VISA of an instrument maker, or the path of
        a VISA library.
    names : sequence of str, optional
        Ask these addresses instead of those that the library finds. Sockets, such as
        ``"TCPIP::192.168.0.7::5025::SOCKET"``, are never found, only named.

    Returns
    -------
    tuple of Resource
        An instrument that does not answer stands in it with its error.

    Raises
    ------
    InstrumentError
        If the library cannot be loaded or cannot search.
    """
    try:
        manager = pyvisa.ResourceManager(library)
    except (OSError, ValueError) as error:
        raise InstrumentError(
            f"The VISA library {library!r} cannot be loaded ({_first_line(error)}). "
            "`pip install pyvisa-py` gives '@py', which needs no driver; '@ivi' needs the VISA of "
            "National Instruments, Keysight or Rohde & Schwarz."
        ) from error
    if names is None:
        names = _search(manager, library)
    return tuple(_ask(manager, name) for name in names)


def _search(manager: pyvisa.ResourceManager, library: str) -> tuple[str, ...]:
    try:
        with warnings.catch_warnings():
            # pyvisa-py warns of each optional package that would let it find more, and leaves
            # the sockets of its search to the garbage collector.
            warnings.simplefilter("ignore")
            return tuple(manager.list_resources())
    except (pyvisa.Error, OSError, ValueError, RuntimeError) as error:
        raise InstrumentError(
            f"The VISA library {library!r} cannot search for instruments "
            f"({_first_line(error)}). Check the network and its drivers, or name an instrument by "
            "its address."
        ) from error


def _ask(manager: pyvisa.ResourceManager, name: str) -> Resource:
    if name.upper().startswith("ASRL"):
        return Resource(name, error="not asked: who knows what a byte does on a serial port")
    try:
        with manager.open_resource(
            name, open_timeout=_TIMEOUT_MS, resource_pyclass=MessageBasedResource
        ) as resource:
            if not isinstance(resource, MessageBasedResource):
                return Resource(name, error="not asked: it takes no messages")
            resource.timeout = _TIMEOUT_MS
            # A socket has no other end of message; without it every query would time out.
            if name.upper().endswith("::SOCKET"):
                resource.read_termination = resource.write_termination = "\n"
            return Resource(name, identity=resource.query("*IDN?").strip())
    except (pyvisa.Error, OSError, ValueError, RuntimeError) as error:
        return Resource(name, error=_first_line(error))


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return (text[0].rstrip(":") if text else "") or type(error).__name__
