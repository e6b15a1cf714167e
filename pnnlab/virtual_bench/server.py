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
from io import BufferedReader
from typing import Any, final

from pnnlab.errors import InstrumentError
from pnnlab.virtual_bench.faults import Faults
from pnnlab.virtual_bench.instrument import SimulatedInstrument
from pnnlab.virtual_bench.messages import ScpiError, read_message

_TIMEOUT_S = 5.0


def answers(
    instrument: SimulatedInstrument, stream: BufferedReader, faults: Faults | None = None
) -> Iterator[bytes]:
    """Carry out what one client sends, message by message, and yield each answer."""
    execute = partial(faults.execute, instrument) if faults else instrument.execute
    while (message := read_message(stream, instrument.memory_bytes)) is not None:
        if isinstance(message, ScpiError):
            instrument.report(message)
        elif answer := execute(message):
            yield answer


class _Handler(socketserver.BaseRequestHandler):
    server: "InstrumentServer"
    request: socket.socket

    def handle(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A client that goes away in the middle is no error of the server's.
        with suppress(OSError), self.request.makefile("rb") as stream:
            for answer in answers(self.server.instrument, stream, self.server.faults):
                self.request.sendall(answer)


@final
class InstrumentServer(socketserver.ThreadingTCPServer):
    """Serve an instrument from a thread until it is closed; any free port by default.

    An address beyond this machine gives a warning; one that cannot be listened at raises
    `InstrumentError`.
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
        self.instrument, self.faults = instrument, faults
        self._clients: dict[socket.socket, threading.Thread] = {}
        try:
            if not ipaddress.ip_address(socket.gethostbyname(host)).is_loopback:
                warnings.warn(
                    f"The virtual bench listens at {host}: whoever reaches this machine may use "
                    "it.",
                    stacklevel=3,
                )
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
