"""One instrument over one VISA session: questions, command groups, blocks, and failures.

After every command group the instrument's error queue (``SYST:ERR?``, SCPI-99 volume 2, section
21.8) is read to its end. An answer that did not come in time may still come later, and would then
be taken for the answer to the next question. So after any failure of the link its session is
closed, and the next use opens a new one, makes sure that the same instrument answers, and clears
its status (``*CLS``, IEEE 488.2).
"""

import re
import select
import socket
import threading
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Self, TypeVar, final

import numpy as np
import pyvisa
from numpy.typing import DTypeLike, NDArray
from pyvisa.constants import StatusCode
from pyvisa.resources import MessageBasedResource

from pnnlab.errors import InstrumentError, LinkError

_ERRORS = ":SYST:ERR?"
_ERROR = re.compile(r'([+-]?\d+)\s*,\s*".*"')
_DEEPEST_QUEUE = 100
_REPEATS = 2
_SEARCH_S = 1.0  # for each instrument that is asked for its identity
_PIECE = 1 << 21  # bytes that must pass within one timeout
_PACKET = 1 << 16
_LONGEST_LINE = 1 << 16
_FAILURES = (pyvisa.Error, OSError, RuntimeError, ValueError)

_Answer = TypeVar("_Answer")


@final
class Scratch:
    """Memory for one array at a time, used again: new pages take longer to get than to fill."""

    def __init__(self) -> None:
        self._bytes = np.empty(0, np.uint8)

    def array(self, count: int, dtype: DTypeLike) -> NDArray[Any]:
        """Return an array (count,) of any content, valid until the next call."""
        size = count * np.dtype(dtype).itemsize
        if len(self._bytes) < size:
            self._bytes = np.empty(size, np.uint8)
        return self._bytes[:size].view(dtype)


class Wire(ABC):
    """Bytes to and from an instrument. Methods raise `OSError`, `RuntimeError` or `pyvisa.Error`.

    Silence for longer than the timeout raises `TimeoutError`. Close a wire after any error: what
    was asked before may still be answered.
    """

    @abstractmethod
    def write(self, *messages: str) -> None:
        """Send program messages, one after the other."""

    @abstractmethod
    def write_block(
        self, before: Sequence[str], head: str, payload: memoryview, after: Sequence[str]
    ) -> None:
        """Send messages, then one that ends in binary data, then further ones."""

    @abstractmethod
    def read_line(self) -> str:
        """Read one answer, without the end of its line."""

    @abstractmethod
    def read_into(self, data: memoryview) -> None:
        """Read as many bytes as there is room for, whatever they are."""

    @final
    def read_exactly(self, count: int) -> bytearray:
        """Read so many bytes, whatever they are."""
        data = bytearray(count)
        self.read_into(memoryview(data))
        return data

    @abstractmethod
    def close(self) -> None:
        """End the session."""


def open_wire(resource: str, library: str, timeout_s: float) -> Wire:
    """Open a session with one instrument.

    Raises
    ------
    OSError, RuntimeError, ValueError, pyvisa.Error
        If there is no such instrument or no such library.
    """
    milliseconds = max(1, round(1e3 * timeout_s))
    manager = pyvisa.ResourceManager(library)
    try:
        session = manager.open_resource(
            resource, open_timeout=milliseconds, resource_pyclass=MessageBasedResource
        )
    except (OSError, RuntimeError, ValueError, pyvisa.Error):
        raise
    except Exception as error:  # pyvisa-py raises nothing more special where no host answers
        raise ConnectionError(str(error)) from error
    if not isinstance(session, MessageBasedResource):
        session.close()
        raise ValueError("it takes no messages")
    session.timeout = milliseconds
    if resource.upper().endswith("::SOCKET"):
        # A socket has no other end of message; without it every answer would time out.
        session.read_termination = session.write_termination = "\n"
    connection = _socket_of(session)
    return _VisaWire(session) if connection is None else _SocketWire(session, connection, timeout_s)


def _socket_of(session: MessageBasedResource) -> socket.socket | None:
    """The socket inside a session of pyvisa-py."""
    inner = getattr(session.visalib, "sessions", {}).get(session.session)
    connection = getattr(inner, "interface", None)
    return connection if isinstance(connection, socket.socket) else None


@final
class _SocketWire(Wire):
    """The socket inside a session of pyvisa-py, which the session itself uses badly.

    It leaves Nagle's algorithm on, moves 4 kB at a time, waits forever where an instrument takes no
    more bytes, and spins until the timeout where one has hung up. A block of 2 MB goes to another
    process in 5 ms instead of 47, and comes back in 7 ms instead of 89.
    """

    def __init__(
        self, session: MessageBasedResource, connection: socket.socket, timeout_s: float
    ) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(timeout_s)
        self._session = session
        self._socket = connection
        self._received = bytearray()

    def write(self, *messages: str) -> None:
        self._expect_silence()
        # In one packet: a message and the question that follows it cost one round trip.
        self._socket.sendall("".join(f"{message}\n" for message in messages).encode("ascii"))

    def write_block(
        self, before: Sequence[str], head: str, payload: memoryview, after: Sequence[str]
    ) -> None:
        self._expect_silence()
        opening = "\n".join((*before, head)).encode("ascii")
        self._socket.sendall(b"".join((opening, payload[:_PACKET])))
        for start in range(_PACKET, len(payload), _PIECE):
            self._socket.sendall(payload[start : start + _PIECE])
        self._socket.sendall("\n".join(("", *after, "")).encode("ascii"))

    def read_line(self) -> str:
        while (end := self._received.find(b"\n")) < 0:
            if len(self._received) > _LONGEST_LINE:
                raise OSError(f"an answer of more than {_LONGEST_LINE} bytes has no end")
            self._receive()
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        return line.decode("latin-1").strip()

    def read_into(self, data: memoryview) -> None:
        while len(self._received) < min(len(data), _PACKET):
            self._receive()
        ready = min(len(data), len(self._received))
        data[:ready] = self._received[:ready]
        del self._received[:ready]
        rest = data[ready:]
        while rest:
            got = self._socket.recv_into(rest)
            if not got:
                raise ConnectionResetError(f"it hung up {len(rest)} bytes before the end")
            rest = rest[got:]

    def close(self) -> None:
        self._session.close()

    def _receive(self) -> None:
        data = self._socket.recv(_PACKET)
        if not data:
            raise ConnectionResetError("it hung up")
        self._received += data

    def _expect_silence(self) -> None:
        """Raise `OSError` on bytes that would be taken for the next answer."""
        if self._received or select.select([self._socket], [], [], 0)[0]:
            if not self._received:
                self._receive()
            raise OSError(f"it says what nobody asked for: {bytes(self._received[:40])!r}")


@final
class _VisaWire(Wire):
    """A session of any VISA library over any interface."""

    def __init__(self, session: MessageBasedResource) -> None:
        self._session = session
        self._termination = session.read_termination

    def write(self, *messages: str) -> None:
        for message in messages:
            # One by one: over USB and GPIB the end of a transfer is the end of a message.
            self._session.write_raw(f"{message}\n".encode("ascii"))

    def write_block(
        self, before: Sequence[str], head: str, payload: memoryview, after: Sequence[str]
    ) -> None:
        self.write(*before)
        self._session.write_raw(b"".join((head.encode("ascii"), payload, b"\n")))
        self.write(*after)

    def read_line(self) -> str:
        try:
            return self._session.read_raw().decode("latin-1").strip()
        except pyvisa.VisaIOError as error:
            raise _as_timeout(error) from error

    def read_into(self, data: memoryview) -> None:
        # With a termination set, each byte 0x0A would end a read of the library.
        self._session.read_termination = None
        try:
            data[:] = self._session.read_bytes(len(data), chunk_size=min(len(data), _PIECE))
        except pyvisa.VisaIOError as error:
            raise _as_timeout(error) from error
        finally:
            self._session.read_termination = self._termination

    def close(self) -> None:
        self._session.close()


def _as_timeout(error: pyvisa.VisaIOError) -> Exception:
    return TimeoutError("timed out") if error.error_code == StatusCode.error_timeout else error


@final
class Link:
    """Messages to and from one instrument; may be shared by threads.

    Parameters
    ----------
    resource : str
        VISA address, such as ``"TCPIP::192.168.0.7::5025::SOCKET"``.
    library : str
        ``"@py"`` for pyvisa-py, ``"@ivi"`` for the VISA of an instrument maker, or the path of
        a VISA library.
    timeout_s : float
        The longest silence of the instrument, s, also while it processes a large waveform.
    models : sequence of str
        One of these must be part of the identity; empty: any instrument.

    Raises
    ------
    LinkError
        If nobody answers at this address.
    InstrumentError
        If another model answers.

    Attributes
    ----------
    identity : str
        The answer to ``*IDN?``: maker, model, serial number, firmware.
    lock : threading.RLock
        Hold it for a sequence that no other thread may interrupt.
    reopened : int
        How often the session was opened anew.
    round_trips : int
        How often the instrument's answer was awaited.
    """

    def __init__(
        self,
        resource: str,
        *,
        library: str = "@py",
        timeout_s: float = 5.0,
        models: Sequence[str] = (),
    ) -> None:
        self.resource = resource
        self.library = library
        self.timeout_s = timeout_s
        self.lock = threading.RLock()
        self.reopened = 0
        self.round_trips = 0
        self.identity = ""
        self._wire: Wire | None = None
        self._closed = False
        self.identity = self._connect()
        if models and not any(model in self.identity for model in models):
            self.close()
            raise InstrumentError(
                f"{self} is none of {', '.join(models)}. Check the address, or choose the dialect "
                "that this instrument speaks."
            )

    def __str__(self) -> str:
        maker_and_model = " ".join(self.identity.split(",")[:2])
        return f"{maker_and_model} at {self.resource}" if self.identity else self.resource

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def broken(self) -> bool:
        """Whether the session was lost; the next use opens another."""
        return self._wire is None

    def send(self, *messages: str) -> None:
        """Send a command group and read the error queue to its end. Never repeated.

        Raises
        ------
        InstrumentError
            If the instrument queued an error.
        LinkError
            If the link broke; whether the group was carried out is not known then.
        """
        with self._session(messages[0]) as wire:
            wire.write(*messages, _ERRORS)
            self._report(wire, "; ".join(messages))

    def send_block(
        self,
        header: str,
        payload: bytes | bytearray | memoryview,
        *,
        before: Sequence[str] = (),
        after: Sequence[str] = (),
    ) -> None:
        """Send a definite-length block (IEEE 488.2, 7.7.6), with commands around it, as one group.

        Parameters
        ----------
        header : str
            Command and what stands before the block, such as ``"DATA:ARB:DAC name,"``.
        payload : bytes-like
            The data.
        before, after : sequence of str
            Commands that go before it and after it.

        Raises
        ------
        InstrumentError, LinkError
            As `send` does.
        """
        data = memoryview(payload).cast("B")
        head = f"{header}#{len(str(len(data)))}{len(data)}"
        with self._session(header) as wire:
            wire.write_block(before, head, data, (*after, _ERRORS))
            self._report(wire, "; ".join((*before, f"{header}({len(data)} bytes)", *after)))

    def ask(self, message: str) -> str:
        """Ask a question; repeat it up to two times after failures of the link.

        Raises
        ------
        InstrumentError
            If the instrument does not know the question.
        LinkError
            If there is no answer in the end.
        """
        with self.lock:
            for _ in range(_REPEATS):
                with suppress(LinkError):
                    return self._ask(message)
            return self._ask(message)

    def ask_block(
        self, message: str, most_bytes: int, scratch: Scratch | None = None
    ) -> memoryview:
        """Ask for a definite-length block. Never repeated: a second answer may differ.

        Parameters
        ----------
        message : str
            The question.
        most_bytes : int
            A longer block raises `LinkError`.
        scratch : Scratch, optional
            Where the data may lie.

        Returns
        -------
        memoryview
            The data alone.

        Raises
        ------
        InstrumentError
            If the instrument queued an error instead of answering.
        LinkError
            If the answer is no block, is too long or too short, or did not come.
        """
        with self._session(message) as wire:
            wire.write(message)
            start = self._await(wire, message, lambda: wire.read_exactly(2))
            if start[:1] != b"#" or start[1:] not in b"123456789":
                raise LinkError(f"{self} answered {message!r} with {bytes(start)!r}, not a block.")
            digits = wire.read_exactly(int(start[1:]))
            if not digits.isdigit() or int(digits) > most_bytes:
                raise LinkError(
                    f"{self} answered {message!r} with a block of {bytes(digits)!r} bytes; at most "
                    f"{most_bytes} were expected."
                )
            data = (scratch or Scratch()).array(int(digits) + 1, np.uint8).data
            wire.read_into(data)
            if data[-1] != ord("\n"):
                raise LinkError(f"{self}: the block that {message!r} asked for does not end.")
            return data[:-1]

    def reopen(self) -> None:
        """Close the session, open another, and make sure that the same instrument answers.

        Its settings may be lost if it was switched off: apply them again.

        Raises
        ------
        LinkError
            If nobody answers.
        InstrumentError
            If another instrument does, or the link was closed for good.
        """
        with self.lock:
            self._drop()
            identity = self._connect()
            if identity != self.identity:
                self._drop()
                raise InstrumentError(
                    f"{self} is gone: {identity!r} answers at its address instead of "
                    f"{self.identity!r}. Check the addresses."
                )
            self.reopened += 1

    def close(self) -> None:
        """End the session for good. The instrument stays as it is."""
        with self.lock:
            self._closed = True
            self._drop()

    @contextmanager
    def _session(self, doing: str) -> Iterator[Wire]:
        """Lend the wire, and turn failures of the link into `LinkError`."""
        with self.lock:
            try:
                yield self._wire or self._renewed()
            except InstrumentError as error:
                if isinstance(error, LinkError):
                    self._drop()
                raise
            except _FAILURES as error:
                self._drop()
                raise LinkError(
                    f"{self}: {doing!r} failed ({_reason(error)}). Check that the instrument is "
                    "on, its cable and its address; the next use tries a new session."
                ) from error
            except BaseException:  # Ctrl-C: an answer may still be under way
                self._drop()
                raise

    def _renewed(self) -> Wire:
        self.reopen()
        if self._wire is None:
            raise LinkError(f"{self} was lost as soon as it was found.")
        return self._wire

    def _connect(self) -> str:
        """Open a session, clear the error queue, and return the identity."""
        if self._closed:
            raise InstrumentError(f"The link to {self} is closed. Make a new one.")
        try:
            self._wire = open_wire(self.resource, self.library, self.timeout_s)
        except _FAILURES as error:
            raise LinkError(
                f"{self} cannot be opened ({_reason(error)}). Check the address, that the "
                f"instrument is on, and that {self.library!r} is a VISA library."
            ) from error
        with self._session("*IDN?") as wire:
            wire.write("*IDN?")
            identity = self._line(wire)
            wire.write("*CLS", _ERRORS)
            self._report(wire, "*CLS")
            return identity

    def _ask(self, message: str) -> str:
        with self._session(message) as wire:
            wire.write(message)
            return self._await(wire, message, wire.read_line)

    def _await(self, wire: Wire, message: str, read: Callable[[], _Answer]) -> _Answer:
        """Read an answer; where none comes, ask the error queue why."""
        self.round_trips += 1
        try:
            return read()
        except TimeoutError:
            wire.write(_ERRORS)
            errors = self._queued(wire)
            if not errors:
                raise
        # The answer may still come.
        self._drop()
        raise InstrumentError(
            f"{self} did not answer {message!r} but queued {'; '.join(errors)}. -113 means that "
            "it does not know the command: choose the dialect that it speaks."
        )

    def _line(self, wire: Wire) -> str:
        self.round_trips += 1
        return wire.read_line()

    def _report(self, wire: Wire, group: str) -> None:
        errors = self._queued(wire)
        if errors:
            raise InstrumentError(f"{self} refused {group!r}: {'; '.join(errors)}.")

    def _queued(self, wire: Wire) -> list[str]:
        """Read the error queue, whose first entry has been asked for, to its end."""
        errors: list[str] = []
        while len(errors) < _DEEPEST_QUEUE:
            line = self._line(wire)
            found = _ERROR.fullmatch(line)
            if found is None:
                raise LinkError(f"{self} answered {_ERRORS!r} with {line[:60]!r}: out of step.")
            if int(found[1]) == 0:
                return errors
            errors.append(line)
            wire.write(_ERRORS)
        raise LinkError(f"{self}: its error queue has no end, last {errors[-1]}.")

    def _drop(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            with suppress(*_FAILURES):  # a session that cannot be closed is lost anyway
                wire.close()


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
    """Find instruments and ask each for its identity, within about a second.

    They are asked ``*IDN?`` (IEEE 488.2) alone, which changes no setting. Do not ask while a
    measurement runs: an answer would come between its own.

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
        Those that do not answer have an error.

    Raises
    ------
    InstrumentError
        If the library cannot be loaded or cannot search.
    """
    try:
        manager = pyvisa.ResourceManager(library)
    except (OSError, ValueError) as error:
        raise InstrumentError(
            f"The VISA library {library!r} cannot be loaded ({_reason(error)}). "
            "`pip install pyvisa-py` gives '@py', which needs no driver; '@ivi' needs the VISA of "
            "National Instruments, Keysight or Rohde & Schwarz."
        ) from error
    if names is None:
        try:
            with warnings.catch_warnings():
                # pyvisa-py warns of each optional package that would let it find more, and leaves
                # the sockets of its search to the garbage collector.
                warnings.simplefilter("ignore")
                names = manager.list_resources()
        except _FAILURES as error:
            raise InstrumentError(
                f"The VISA library {library!r} cannot search for instruments ({_reason(error)}). "
                "Check the network and its drivers, or name an instrument by its address."
            ) from error
    return tuple(_ask(library, name) for name in names)


def _ask(library: str, name: str) -> Resource:
    if name.upper().startswith("ASRL"):
        return Resource(name, error="not asked: bytes may have any effect on a serial port")
    try:
        with closing(open_wire(name, library, _SEARCH_S)) as wire:
            wire.write("*IDN?")
            return Resource(name, identity=wire.read_line())
    except TimeoutError:
        return Resource(name, error=f"timeout: no answer within {_SEARCH_S:g} s")
    except _FAILURES as error:
        return Resource(name, error=_reason(error))


def _reason(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return (text[0].rstrip(".:") if text else "") or type(error).__name__
