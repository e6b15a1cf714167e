"""An instrument on a socket, as it stands on a bench's network.

Several clients may be connected; all talk to the one instrument. SCPI knows no password: whoever
reaches the socket may do anything, so it listens on this machine alone unless told otherwise.
"""

import ipaddress
import os
import socket
import socketserver
import threading
import warnings
from collections.abc import Iterator
from contextlib import suppress
from typing import final

from pnnlab.errors import InstrumentError
from pnnlab.virtual_bench.faults import Dropped, Faults
from pnnlab.virtual_bench.instrument import SimulatedInstrument
from pnnlab.virtual_bench.messages import Framer, Message, ScpiError

_CHUNK = 2**18
_PATIENCE_S = 5.0


@final
class Conversation:
    """What one client says to an instrument.

    Parameters
    ----------
    instrument : SimulatedInstrument
        Whom it talks to.
    faults : Faults, optional
        What goes wrong on the way.
    """

    def __init__(self, instrument: SimulatedInstrument, faults: Faults | None = None) -> None:
        self._instrument = instrument
        self._faults = faults
        self._framer = Framer(instrument.memory_bytes)

    def hear(self, data: bytes) -> Iterator[bytes]:
        """Take in bytes, and yield each answer to a message that is now whole.

        Raises
        ------
        Dropped
            A fault: the connection is to be closed.
        """
        for heard in self._framer.feed(data):
            if isinstance(heard, ScpiError):
                self._instrument.report(heard)
            elif answer := self._answer(heard):
                yield answer

    def _answer(self, message: Message) -> bytes:
        if self._faults is None:
            return self._instrument.execute(message)
        return self._faults.execute(self._instrument, message)

    def close(self) -> None:
        """The client has gone."""
        error = self._framer.close()
        if error is not None:
            self._instrument.report(error)


class _Handler(socketserver.BaseRequestHandler):
    server: "_Server"
    request: socket.socket

    def handle(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        conversation = Conversation(self.server.instrument, self.server.faults)
        with self.server.connected(self.request):
            # A client that goes away in the middle is no error of the server's.
            with suppress(OSError, Dropped):
                while data := self.request.recv(_CHUNK):
                    for answer in conversation.hear(data):
                        self.request.sendall(answer)
            conversation.close()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = os.name == "posix"  # on Windows it would let two servers share a port

    def __init__(
        self, instrument: SimulatedInstrument, host: str, port: int, faults: Faults | None
    ) -> None:
        self.instrument = instrument
        self.faults = faults
        self._open: set[socket.socket] = set()
        self._changed = threading.Condition()
        super().__init__((host, port), _Handler)

    def connected(self, connection: socket.socket) -> "_Connected":
        return _Connected(self._open, self._changed, connection)

    def hang_up(self) -> None:
        """End every conversation, and wait until its thread has seen it."""
        with self._changed:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            self._changed.wait_for(lambda: not self._open, _PATIENCE_S)


@final
class _Connected:
    """Keeps a connection in the list of those that are open."""

    def __init__(
        self, opened: set[socket.socket], changed: threading.Condition, connection: socket.socket
    ) -> None:
        self._opened, self._changed, self._connection = opened, changed, connection

    def __enter__(self) -> None:
        with self._changed:
            self._opened.add(self._connection)

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._opened.discard(self._connection)
            self._changed.notify_all()


@final
class InstrumentServer:
    """Serves an instrument from a thread until it is closed.

    Parameters
    ----------
    instrument : SimulatedInstrument
        Which.
    host : str
        Address to listen at; one beyond this machine gives a warning.
    port : int
        0: any that is free.
    faults : Faults, optional
        What goes wrong.

    Raises
    ------
    InstrumentError
        The address cannot be listened at.
    """

    def __init__(
        self,
        instrument: SimulatedInstrument,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        faults: Faults | None = None,
    ) -> None:
        if not _loopback(host):
            warnings.warn(
                f"The virtual bench listens at {host}: whoever reaches this machine may use it.",
                stacklevel=3,
            )
        try:
            self._server = _Server(instrument, host, port, faults)
        except (OSError, OverflowError) as error:
            raise InstrumentError(
                f"No instrument can be served at {host}, port {port} ({error}). Port 0 takes any "
                "that is free."
            ) from error
        self._host = host
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """The port it listens at."""
        return int(self._server.server_address[1])

    @property
    def resource(self) -> str:
        """Its name for VISA."""
        host = socket.gethostname() if self._host in ("", "0.0.0.0") else self._host
        return f"TCPIP::{host}::{self.port}::SOCKET"

    def close(self) -> None:
        """Stop listening, and end all conversations."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._server.hang_up()


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
