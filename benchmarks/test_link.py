"""What a link adds to the bare socket of its own session, and what a capture costs in round trips.

The instrument at the other end is another process that swallows and gives blocks and does nothing
else, so that what is measured is this side.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from time import perf_counter

import numpy as np
import pytest

from pnnlab.instruments.generator import Generator, Limits
from pnnlab.instruments.link import Link
from pnnlab.instruments.oscilloscope import Oscilloscope, ScopeSettings
from pnnlab.systems.analog import cable
from pnnlab.virtual_bench.bench import VirtualBench

BYTES = 2_000_000  # a million points
ROUNDS = 400
LEAST = 0.7  # of the bare socket's rate: 0.1 ms more than its 0.4 ms; any network takes longer
MOST_ROUND_TRIPS = 11  # three of them read all settings back: one compound question each

INSTRUMENT = """
import socket, sys
size = int(sys.argv[1])
answer = b"#9%09d" % size + bytes(size) + b"\\n"
with socket.create_server(("127.0.0.1", 0)) as server:
    print(server.getsockname()[1], flush=True)
    connection, _ = server.accept()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    stream = connection.makefile("rb", buffering=1 << 16)
    sink = memoryview(bytearray(1 << 20))
    while head := stream.read(1):
        while not head.endswith((b"#", b"\\n")):
            head += stream.read(1)
        if head == b"BLOCK#":
            left = int(stream.read(int(stream.read(1)))) + 1
            while left:
                left -= stream.readinto(sink[: min(left, len(sink))])
        elif head == b":SYST:ERR?\\n":
            connection.sendall(b'+0,"No error"\\n')
        elif head == b"BLOCK?\\n":
            connection.sendall(answer)
        elif head == b"*IDN?\\n":
            connection.sendall(b"pnnlab,Sink,0,1\\n")
"""


@pytest.fixture
def link() -> Iterator[Link]:
    command = [sys.executable, "-c", INSTRUMENT, str(BYTES)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as instrument:
        try:
            port = instrument.stdout.readline().strip()
            with Link(f"TCPIP::127.0.0.1::{port}::SOCKET") as opened:
                yield opened
        finally:
            instrument.terminate()


def ratio(benchmark, bare: Callable[[], object], linked: Callable[[], object]) -> float:
    """Rate of one relative to the other, taken in turn."""
    slow: list[float] = []
    fast: list[float] = []

    def prepare() -> None:
        fast.append(seconds(bare))

    benchmark.pedantic(
        lambda: slow.append(seconds(linked)), setup=prepare, rounds=ROUNDS, warmup_rounds=2
    )
    return min(fast) / min(slow)  # what else the machine does can only add to either


def seconds(call: Callable[[], object]) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start


def test_a_block_goes_out_as_fast_as_the_socket_takes_it(benchmark, link: Link):
    data = np.arange(BYTES // 2).astype("<i2")
    message = b"BLOCK#7%07d" % data.nbytes + data.tobytes() + b"\n:SYST:ERR?\n"
    socket = link._wire._socket

    def bare() -> None:
        socket.sendall(message)
        assert socket.recv(100).endswith(b"\n")

    rate = ratio(benchmark, bare, lambda: link.send(("BLOCK", data.data)))
    benchmark.extra_info["rate relative to the bare socket"] = round(rate, 3)
    assert rate >= LEAST


def test_a_block_comes_in_as_fast_as_the_socket_gives_it(benchmark, link: Link):
    socket = link._wire._socket

    def bare() -> None:
        socket.sendall(b"BLOCK?\n")
        kept = memoryview(bytearray(BYTES + 12))
        got = 0
        while got < len(kept):
            got += socket.recv_into(kept[got:])

    rate = ratio(benchmark, bare, lambda: link.ask_block("BLOCK?", memoryview(bytearray(BYTES))))
    benchmark.extra_info["rate relative to the bare socket"] = round(rate, 3)
    assert rate >= LEAST


def noted(method: Callable[..., object], calls: list[str]) -> Callable[..., object]:
    """The method, whose calls are counted in a list."""

    def call(*args: object) -> object:
        calls.append(method.__name__)
        return method(*args)

    return call


def test_a_capture_takes_few_round_trips(benchmark):
    with ExitStack() as opened:
        there = opened.enter_context(VirtualBench(cable(), noise=False))
        generator = Generator(Link(there.generator), limits=Limits(-1, 1))
        scope = Oscilloscope(Link(there.oscilloscope))
        opened.callback(scope.close)
        opened.callback(generator.close)
        generator.apply(1e6, 1.0)
        scope.apply(ScopeSettings(-1, 1, 1e6, points=1000, delay_s=0.0))
        generator.output(True)
        volts = np.sin(np.arange(1000) / 50)

        def capture() -> None:
            generator.load(volts)
            scope.arm()
            generator.trigger()
            scope.wait(1.0)
            scope.read()
            generator.verify()
            scope.verify()

        answers: list[str] = []
        with pytest.MonkeyPatch.context() as patch:
            for kind, name in ((type(scope.link._wire), "read_line"), (Link, "ask_block")):
                patch.setattr(kind, name, noted(getattr(kind, name), answers))
            capture()
        trips = len(answers)
        benchmark.pedantic(capture, rounds=ROUNDS)
    benchmark.extra_info["round trips per capture"] = trips
    assert trips <= MOST_ROUND_TRIPS
