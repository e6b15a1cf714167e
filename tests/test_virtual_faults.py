"""Faults come when their seed says, and each is what its name says."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np
import pytest

from pnnlab.errors import RangeError
from pnnlab.systems.analog import cable
from pnnlab.virtual_bench import Faults, VirtualBench
from pnnlab.virtual_bench.bench import KINDS
from pnnlab.virtual_bench.messages import Message
from pnnlab.virtual_bench.oscilloscope_models import InfiniiVision
from pnnlab.virtual_bench.oscilloscopes import Signal

ARM = Message(
    ":CHAN1:RANG 8;:TIM:RANG 1E-3;:TRIG:SOUR EXT;LEV 1;:TRIG:SWE NORM;:WAV:POIN:MODE RAW;"
    ":WAV:POIN 1000;FORM BYTE;:STOP;:SING"
)
READ = Message(":WAV:DATA?")
PULSE = Signal(np.ones(1), 0.0, 1e-6, pulse_s=1e-3)
WHO = Message("*IDN?")


@pytest.fixture
def scope() -> InfiniiVision:
    return InfiniiVision(noise=False)


def only(kind: str, **options: float) -> Faults:
    """One fault at the first message that can have it."""
    return Faults(kinds=(kind,), mean_messages=1, most=1, **options)  # type: ignore[arg-type]


@contextmanager
def client(resource: str) -> Iterator[socket.socket]:
    port = int(resource.split("::")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        yield connection


def test_a_dropped_connection_may_have_done_its_work_or_not(scope: InfiniiVision) -> None:
    done = set()
    for seed in range(20):
        scope.execute(Message("*RST"))
        with pytest.raises(ConnectionAbortedError):
            Faults(seed, kinds=("drop",), mean_messages=1).execute(scope, Message(":TIM:RANG 1"))
        done.add(scope.get("width"))
    assert done == {1.0, 1e-3}


def test_a_stalled_instrument_loses_the_message(scope: InfiniiVision) -> None:
    faults = only("stall", stall_s=0.05)
    started = time.monotonic()
    assert faults.execute(scope, Message(":TIM:RANG 1;*IDN?")) == b""
    assert time.monotonic() - started >= 0.05
    assert scope.get("width") == 1e-3
    assert faults.execute(scope, WHO)


def test_a_late_answer_is_whole(scope: InfiniiVision) -> None:
    faults = only("late", stall_s=0.05)
    assert faults.execute(scope, Message("*CLS")) == b""
    started = time.monotonic()
    assert faults.execute(scope, WHO) == f"{scope.identity}\n".encode()
    assert time.monotonic() - started >= 0.05
    assert faults.injected == {"late": 1}


def test_half_a_block_is_all_there_is(scope: InfiniiVision) -> None:
    faults = only("truncate")
    faults.execute(scope, ARM)
    scope.receive(PULSE)
    assert faults.execute(scope, Message("*OPC?")) == b"1\n"  # not worth cutting
    cut, whole = faults.execute(scope, READ), faults.execute(scope, READ)
    assert len(whole) == 1011
    assert whole.startswith(cut)
    assert len(cut) == 505


def test_an_error_without_a_reason(scope: InfiniiVision) -> None:
    faults = only("error")
    assert faults.execute(scope, WHO)
    assert faults.execute(scope, Message("SYST:ERR?")) == b'-240,"Hardware error"\n'


@pytest.mark.parametrize(("kind", "code"), [("hole", 0), ("saturate", 255)])
def test_a_spoilt_record_is_followed_by_a_sound_one(
    scope: InfiniiVision, kind: str, code: int
) -> None:
    faults = only(kind)
    bad = []
    for _ in range(2):
        faults.execute(scope, ARM)
        scope.receive(PULSE)
        octets = np.frombuffer(faults.execute(scope, READ)[10:-1], np.uint8)
        bad.append(int((octets == code).sum()))
    assert bad == [20, 0]


def test_a_drift_stays(scope: InfiniiVision) -> None:
    faults = only("drift", drift_v=0.5)
    faults.execute(scope, WHO)
    assert abs(scope.drift_v) == 0.5
    faults.execute(scope, Message("*RST"))
    assert abs(scope.drift_v) == 0.5


def history(seed: int) -> list[dict[str, int]]:
    """What has happened after each of many shots."""
    scope, faults = InfiniiVision(), Faults(seed, mean_messages=5, stall_s=0.0)
    happened = []
    for _ in range(100):
        for message in (ARM, WHO, READ):
            with suppress(ConnectionAbortedError):
                faults.execute(scope, message)
            scope.receive(PULSE)
        happened.append(dict(faults.injected))
    return happened


def test_the_same_seed_gives_the_same_faults() -> None:
    one, again, other = history(4), history(4), history(5)
    assert one == again != other
    assert set(one[-1]) == set(KINDS)
    assert 30 <= sum(one[-1].values()) <= 90  # of 300 messages, one in five or six


def test_no_more_than_asked_for(scope: InfiniiVision) -> None:
    faults = Faults(kinds=("error",), mean_messages=1, most=3)
    for _ in range(50):
        faults.execute(scope, WHO)
    assert faults.injected == {"error": 3}


@pytest.mark.parametrize(
    "options", [{"kinds": ("fire",)}, {"kinds": ()}, {"mean_messages": 0.5}, {"stall_s": -1.0}]
)
def test_nonsense_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(RangeError, match=r"kinds is|mean_messages"):
        Faults(**options)  # type: ignore[arg-type]


def test_a_drop_over_the_network_ends_one_conversation() -> None:
    with VirtualBench(cable(), faults=only("drop")) as bench:
        with client(bench.generator) as first:
            first.sendall(b"*IDN?\n")
            assert first.recv(100) == b""
        with client(bench.generator) as second:
            second.sendall(b"*IDN?\n")
            assert b"33522B" in second.recv(100)


def test_closing_the_bench_ends_a_stall() -> None:
    faults = only("stall", stall_s=60.0)
    bench = VirtualBench(cable(), faults=faults)
    with client(bench.generator) as connection:
        connection.sendall(b"*IDN?\n")
        while not faults.injected:
            assert threading.active_count() > 1
        started = time.monotonic()
        bench.close()
        assert time.monotonic() - started < 4
