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
from functools import partial
from typing import Any, final

from pnnlab.errors import InstrumentError
from pnnlab.virtual_bench.faults import Dropped, Faults
from pnnlab.virtual_bench.instrument import SimulatedInstrument
from pnnlab.virtual_bench.messages import Framer, ScpiError

_CHUNK = 2**18
_TIMEOUT_S = 5.0


@final
class Conversation:
    """What one client sends to an instrument, and the answers."""

    def __init__(self, instrument: SimulatedInstrument, faults: Faults | None = None) -> None:
        self._instrument = instrument
        self._execute = partial(faults.execute, instrument) if faults else instrument.execute
        self._framer = Framer(instrument.memory_bytes)

    def receive(self, data: bytes) -> Iterator[bytes]:
        """Take in bytes, and yield each answer to a message that is now whole."""
        for message in self._framer.feed(data):
            if isinstance(message, ScpiError):
                self._instrument.report(message)
            elif answer := self._execute(message):
                yield answer

    def close(self) -> None:
        """Report what the client has left unfinished."""
        if error := self._framer.close():
            self._instrument.report(error)


class _Handler(socketserver.BaseRequestHandler):
    server: "InstrumentServer"
    request: socket.socket

    def handle(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        conversation = Conversation(self.server.instrument, self.server.faults)
        # A client that goes away in the middle is no error of the server's.
        with suppress(OSError, Dropped):
            while data := self.request.recv(_CHUNK):
                for answer in conversation.receive(data):
                    self.request.sendall(answer)
        conversation.close()


@final
class InstrumentServer(socketserver.ThreadingTCPServer):
    """Serve an instrument from a thread until it is closed; any free port by default.

    Raises
    ------
    InstrumentError
        The address cannot be listened at; one beyond this machine gives a warning.
    """

    allow_reuse_address = os.name == "posix"  # on Windows it would let two servers share a port

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
        self.instrument, self.faults = instrument, faults
        self._clients: dict[socket.socket, threading.Thread] = {}
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            raise InstrumentError(
                f"No instrument can be served at {host}, port {port} ({error}). Port 0 takes any "
                "that is free."
            ) from error
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def resource(self) -> str:
        """Its name for VISA."""
        host, port = self.socket.getsockname()
        return f"TCPIP::{socket.gethostname() if host == '0.0.0.0' else host}::{port}::SOCKET"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start a thread for a client, which `close` ends."""
        thread = threading.Thread(
            target=self.process_request_thread, args=(request, client_address), daemon=True
        )
        self._clients[request] = thread
        thread.start()

    def shutdown_request(self, request: Any) -> None:
        """Forget a client that has gone."""
        self._clients.pop(request, None)
        super().shutdown_request(request)

    def close(self) -> None:
        """Stop listening, and end all conversations."""
        self.shutdown()
        self._thread.join()
        self.server_close()
        for client, thread in self._clients.copy().items():
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
            thread.join(_TIMEOUT_S)


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
