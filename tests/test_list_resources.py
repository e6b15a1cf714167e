"""DeviceAction the bench who is there, over real sockets."""

import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import pyvisa

from pnnlab.errors import InstrumentError
from pnnlab.instruments.link import Resource, list_resources

IDENTITY = "pnnlab,Test Bench,0,1.0"


class Talkative(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            if line.strip() == b"*IDN?":
                self.wfile.write(f"{IDENTITY}\n".encode())


class Silent(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.rfile.read()


@contextmanager
def instrument(handler: type[socketserver.BaseRequestHandler]) -> Iterator[str]:
    """A resource name behind which a handler listens."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"TCPIP::127.0.0.1::{server.server_address[1]}::SOCKET"
        finally:
            server.shutdown()
            thread.join()


def test_an_instrument_introduces_itself() -> None:
    with instrument(Talkative) as name:
        assert list_resources(names=[name]) == (Resource(name, identity=IDENTITY),)


def test_a_silent_or_absent_one_does_not_hide_the_others() -> None:
    with instrument(Talkative) as gone:
        pass
    with instrument(Silent) as silent, instrument(Talkative) as there:
        started = time.monotonic()
        found = list_resources(names=[silent, gone, "no such name", there])
        seconds = time.monotonic() - started
    assert [resource.identity for resource in found] == [None, None, None, IDENTITY]
    assert "timeout" in str(found[0].error).lower()
    assert all(resource.error for resource in found[:3])
    assert seconds < 10


def test_serial_ports_are_left_alone() -> None:
    [port] = list_resources(names=["ASRL/dev/ttyS0::INSTR"])
    assert port.identity is None
    assert "not asked" in str(port.error)


def test_found_resources_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with instrument(Talkative) as name:
        monkeypatch.setattr(pyvisa.ResourceManager, "list_resources", lambda _: (name,))
        assert list_resources() == (Resource(name, identity=IDENTITY),)


def test_a_search_that_fails_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(_: pyvisa.ResourceManager) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(pyvisa.ResourceManager, "list_resources", unreachable)
    with pytest.raises(InstrumentError, match=r"Network is unreachable.*Check the network"):
        list_resources()


@pytest.mark.parametrize("library", ["@nosuchbackend", "/no/such/libvisa.so"])
def test_a_library_that_cannot_be_loaded_says_what_to_do(library: str) -> None:
    with pytest.raises(InstrumentError, match=r"cannot be loaded .*pip install pyvisa-py"):
        list_resources(library)
