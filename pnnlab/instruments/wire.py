"""Bytes to and from one instrument: whole messages, whole blocks, and an end to all waiting.

A session of pyvisa-py on a socket needs help. It leaves Nagle's algorithm on (40 ms a question),
waits forever where an instrument takes no more bytes, spins until the timeout where one has hung
up, and moves 4 kB at a time. So there the socket inside the session is used directly, and
everywhere else PyVISA itself.
"""

import select
import socket
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import final

import pyvisa
from pyvisa.constants import StatusCode
from pyvisa.resources import MessageBasedResource

_PIECE = 1 << 21  # bytes that must pass within one timeout
_PACKET = 1 << 16
_LONGEST_LINE = 1 << 16


class Wire(ABC):
    """An open session. Its methods raise `OSError`, `RuntimeError` or an error of PyVISA.

    Silence for longer than the timeout raises `TimeoutError`. After any error what comes next over
    the wire cannot be trusted: close it.
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
    return VisaWire(session) if connection is None else SocketWire(session, connection, timeout_s)


def _socket_of(session: MessageBasedResource) -> socket.socket | None:
    """The socket inside a session of pyvisa-py."""
    inner = getattr(session.visalib, "sessions", {}).get(session.session)
    connection = getattr(inner, "interface", None)
    return connection if isinstance(connection, socket.socket) else None


@final
class SocketWire(Wire):
    """The socket of a session of pyvisa-py.

    Parameters
    ----------
    session : MessageBasedResource
        The session; it is closed with the wire.
    connection : socket
        The socket inside it.
    timeout_s : float
        The longest silence, s.
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
        """Send program messages, one after the other."""
        self._expect_silence()
        # In one packet: a message and the question that follows it cost one round trip.
        self._socket.sendall("".join(f"{message}\n" for message in messages).encode("ascii"))

    def write_block(
        self, before: Sequence[str], head: str, payload: memoryview, after: Sequence[str]
    ) -> None:
        """Send messages, then one that ends in binary data, then further ones."""
        self._expect_silence()
        opening = "\n".join((*before, head)).encode("ascii")
        self._socket.sendall(b"".join((opening, payload[:_PACKET])))
        for start in range(_PACKET, len(payload), _PIECE):
            self._socket.sendall(payload[start : start + _PIECE])
        self._socket.sendall("\n".join(("", *after, "")).encode("ascii"))

    def read_line(self) -> str:
        """Read one answer, without the end of its line."""
        while (end := self._received.find(b"\n")) < 0:
            if len(self._received) > _LONGEST_LINE:
                raise OSError(f"an answer of more than {_LONGEST_LINE} bytes has no end")
            self._receive()
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        return line.decode("latin-1").strip()

    def read_into(self, data: memoryview) -> None:
        """Read as many bytes as there is room for, whatever they are."""
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
        """End the session."""
        self._session.close()

    def _receive(self) -> None:
        data = self._socket.recv(_PACKET)
        if not data:
            raise ConnectionResetError("it hung up")
        self._received += data

    def _expect_silence(self) -> None:
        """Bytes before a question would be taken for its answer."""
        if self._received or select.select([self._socket], [], [], 0)[0]:
            if not self._received:
                self._receive()
            raise OSError(f"it says what nobody asked for: {bytes(self._received[:40])!r}")


@final
class VisaWire(Wire):
    """A session of any VISA library over any interface.

    Parameters
    ----------
    session : MessageBasedResource
        The session; it is closed with the wire.
    """

    def __init__(self, session: MessageBasedResource) -> None:
        self._session = session
        self._termination = session.read_termination

    def write(self, *messages: str) -> None:
        """Send program messages, one after the other."""
        for message in messages:
            # One by one: over USB and GPIB the end of a transfer is the end of a message.
            self._session.write_raw(f"{message}\n".encode("ascii"))

    def write_block(
        self, before: Sequence[str], head: str, payload: memoryview, after: Sequence[str]
    ) -> None:
        """Send messages, then one that ends in binary data, then further ones."""
        self.write(*before)
        self._session.write_raw(b"".join((head.encode("ascii"), payload, b"\n")))
        self.write(*after)

    def read_line(self) -> str:
        """Read one answer, without the end of its line."""
        try:
            return self._session.read_raw().decode("latin-1").strip()
        except pyvisa.VisaIOError as error:
            raise _as_timeout(error) from error

    def read_into(self, data: memoryview) -> None:
        """Read as many bytes as there is room for, whatever they are."""
        # Each byte 0x0A would end a read of the library, were it told of a termination.
        self._session.read_termination = None
        try:
            data[:] = self._session.read_bytes(len(data), chunk_size=min(len(data), _PIECE))
        except pyvisa.VisaIOError as error:
            raise _as_timeout(error) from error
        finally:
            self._session.read_termination = self._termination

    def close(self) -> None:
        """End the session."""
        self._session.close()


def _as_timeout(error: pyvisa.VisaIOError) -> Exception:
    return TimeoutError("timed out") if error.error_code == StatusCode.error_timeout else error
