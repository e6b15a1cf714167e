"""A scripted instrument: what it expects to be sent, byte by byte, and what it answers.

It listens on a real socket, so that the bytes on the wire are what is tested. Anything else than
the script fails, and so does a script that is not played to its end.
"""

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

Pair: TypeAlias = tuple[bytes, bytes | None]

OK = b'+0,"No error"\n'
HANG_UP = b"\x00hang up"  # in place of an answer

_TICK_S = 0.02
_PATIENCE_S = 10.0


def group(*messages: str, error: str = "") -> tuple[Pair, ...]:
    """A command group with the question for errors behind it, and one error if any."""
    sent = "".join(f"{message}\n" for message in (*messages, ":SYST:ERR?")).encode()
    if not error:
        return ((sent, OK),)
    return ((sent, f"{error}\n".encode()), (b":SYST:ERR?\n", OK))


def question(message: str, answer: str | None) -> Pair:
    """A query, and its answer if any."""
    return (f"{message}\n".encode(), None if answer is None else f"{answer}\n".encode())


def hello(identity: str) -> tuple[Pair, ...]:
    """What every session begins with."""
    return (question("*IDN?", identity), *group("*CLS"))


def block(data: bytes) -> bytes:
    """A definite-length block with the nine digits of most makes."""
    return b"#9%09d" % len(data) + data


@contextmanager
def expected_protocol(*pairs: Pair) -> Iterator[str]:
    """Play a script; yields the resource name at which it is played."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        script = _Script(server, pairs)
        script.start()
        try:
            yield f"TCPIP::127.0.0.1::{server.getsockname()[1]}::SOCKET"
        except BaseException as error:
            script.finish()
            if script.problem:  # the cause of what the client noticed
                raise AssertionError(script.problem) from error
            raise
        script.finish()
    assert not script.problem, script.problem
    assert not script.left, f"never sent: {[pair[0] for pair in script.left]}"


class _Script(threading.Thread):
    def __init__(self, server: socket.socket, pairs: Sequence[Pair]) -> None:
        super().__init__()
        self.left = list(pairs)
        self.problem = ""
        self._server = server
        self._finished = threading.Event()

    def finish(self) -> None:
        self._finished.set()
        self.join()

    def run(self) -> None:
        with self._server:  # a client that went wrong need not wait for its timeouts
            self._play()

    def _play(self) -> None:
        self._server.settimeout(_TICK_S)
        while not self.problem:
            try:
                connection, _ = self._server.accept()
            except TimeoutError:
                if self._finished.is_set():
                    return
                continue
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection.settimeout(_TICK_S)
                self._converse(connection)

    def _converse(self, connection: socket.socket) -> None:
        """Until either side hangs up, or something else than expected is sent."""
        while self.left:
            expected, answer = self.left[0]
            got = self._receive(connection, expected)
            if got is None:
                return
            if got != expected:
                self.problem = f"{expected[:200]!r} was expected, {got[:200]!r} was sent"
                return
            del self.left[0]
            if answer == HANG_UP:
                return
            if answer is not None:
                connection.settimeout(_PATIENCE_S)
                connection.sendall(answer)
                connection.settimeout(_TICK_S)
        got = self._receive(connection, b"\x00")
        if got is not None:
            self.problem = f"nothing more was expected, {got[:200]!r} was sent"

    def _receive(self, connection: socket.socket, expected: bytes) -> bytes | None:
        """As many bytes as are expected, or the first that differ; None: the client is gone."""
        got = b""
        while len(got) < len(expected) and expected.startswith(got):
            try:
                data = connection.recv(len(expected) - len(got))
            except TimeoutError:
                if self._finished.is_set():
                    return got or None
                continue
            except ConnectionResetError:
                data = b""
            if not data:
                return got or None
            got += data
        return got
