"""The guard: whatever becomes of a client, its outputs end switched off."""

import os
import queue
import signal
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, ClassVar

import pytest

from pnnlab.errors import InstrumentError, RangeError
from pnnlab.instruments import shutdown
from pnnlab.instruments.shutdown import BEAT, GOODBYE, Guard

OFF = ("OUTPut1 OFF", "OUTPut2 OFF")
LONG = 30.0  # s; nothing here takes so long, however busy the computer
posix = pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")


SWITCHED_OFF = ["*CLS", *OFF, "*OPC?", ":SYST:ERR?"]


class Output(socketserver.ThreadingTCPServer):
    """An instrument with one output. It drops as many connections as it is told to."""

    def __init__(self, drops: int = 0, mute: bool = False, refuses: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), Commands)
        self.resource = f"TCPIP::127.0.0.1::{self.server_address[1]}::SOCKET"
        self.drops = drops
        self.mute = mute
        self.refuses = refuses
        self.heard: list[str] = []
        self.off = threading.Event()

    def guard(self, **options: Any) -> Guard:
        return Guard(self.resource, OFF, **options)


class Commands(socketserver.StreamRequestHandler):
    server: Output

    def handle(self) -> None:
        if self.server.drops:
            self.server.drops -= 1
            return
        with suppress(ConnectionError):
            for line in self.rfile:
                self.server.heard.append(line.decode().strip())
                if line == b"*OPC?\n" and not self.server.mute:
                    self.wfile.write(b"1\n")
                if line == b":SYST:ERR?\n":
                    refused = b'-113,"Undefined header"\n'
                    self.wfile.write(refused if self.server.refuses else b'+0,"No error"\n')
                    self.server.off.set()


@contextmanager
def output(drops: int = 0, *, mute: bool = False, refuses: bool = False) -> Iterator[Output]:
    with Output(drops, mute, refuses) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def instrument() -> Iterator[Output]:
    with output() as server:
        yield server


CLIENT = """
import os, signal, sys, time
from pnnlab.instruments.shutdown import Guard

signal.signal(signal.SIGINT, signal.default_int_handler)  # a test in the background ignores it

resource, patience, then = sys.argv[1:]
off = ["OUTPut1 OFF", "OUTPut2 OFF"]
guard = Guard(resource, off, timeout_s=float(patience))
print("guarded", flush=True)
exec(then)
"""
WAIT = "sys.stdin.readline()"
# A signal that comes just before a blocking read would be heeded only after it.
WORK = "while True: time.sleep(0.01)"


@contextmanager
def client(
    instrument: Output, then: str, timeout_s: float = 60.0
) -> Iterator["subprocess.Popen[str]"]:
    """A process with a guard, in a process group of its own as a kernel is."""
    arguments = [instrument.resource, str(timeout_s), then]
    with subprocess.Popen(
        [sys.executable, "-W", "ignore::ResourceWarning", "-c", CLIENT, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "guarded\n"
            yield process
        finally:
            process.kill()


# --- the ends of a client -------------------------------------------------------------------------


@posix
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_client_leaves_no_output_on(instrument, end):
    with client(instrument, WORK) as process:
        assert instrument.heard == []
        os.killpg(process.pid, end)  # as a terminal does on Ctrl-C, and Jupyter to its kernels
        assert instrument.off.wait(LONG)
        assert process.wait(LONG) != 0
    assert instrument.heard == SWITCHED_OFF


def test_an_exit_without_a_goodbye_is_none(instrument):
    with client(instrument, "sys.exit()") as process:
        assert instrument.off.wait(LONG)
        assert process.wait(LONG) == 0


@posix
def test_a_client_that_hangs_finds_its_outputs_off_and_is_told_so(instrument):
    then = f"""
{WAIT}
print(guard.alive, flush=True)
for _ in sys.stdin:
    try:
        guard.check()
    except Exception as error:
        print(error, flush=True)
        guard.close()
"""
    with client(instrument, then, timeout_s=1.0) as process:
        os.kill(process.pid, signal.SIGSTOP)
        assert instrument.off.wait(LONG)
        os.kill(process.pid, signal.SIGCONT)
        print("alive?", file=process.stdin, flush=True)
        assert process.stdout.readline() == "False\n"
        print("why?", file=process.stdin, flush=True)
        assert "has switched the outputs off: no heartbeat for 1 s" in process.stdout.readline()


@posix
def test_a_child_that_holds_the_pipe_open_does_not_deceive_the_guard(instrument):
    # A worker that was forked keeps the client's end of the pipe, but has no heart.
    then = "if os.fork(): os.kill(os.getpid(), 9)\nelse: sys.stdin.readline()"
    with client(instrument, then, timeout_s=1.0) as process:
        assert process.wait(LONG) == -signal.SIGKILL
        assert instrument.off.wait(LONG)


# --- in the client's own process ------------------------------------------------------------------


def test_a_goodbye_leaves_the_outputs_alone(instrument):
    with instrument.guard() as guard:
        assert guard.alive
        guard.check()
    assert not guard.alive
    assert instrument.heard == []
    with pytest.raises(InstrumentError, match="Nobody guards the outputs"):
        guard.check()
    guard.close()
    assert guard._process.returncode == 0
    assert instrument.heard == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_trips_it(instrument, error):
    with pytest.raises(error), instrument.guard() as guard:
        raise error
    assert instrument.off.is_set()
    with pytest.raises(InstrumentError, match=f"off: tripped by {error.__name__}"):
        guard.check()


def test_tripped_on_demand_it_has_done_its_work_when_it_returns(instrument):
    with instrument.guard() as guard:
        guard.trip()
        assert instrument.off.is_set()
        assert not guard.alive
        guard.trip()
    assert instrument.heard.count("*OPC?") == 1


@posix
def test_a_guard_that_is_killed_is_missed(instrument):
    with instrument.guard() as guard:
        os.kill(guard._process.pid, signal.SIGKILL)
        os.waitid(os.P_PID, guard._process.pid, os.WEXITED | os.WNOWAIT)
        assert not guard.alive
        with pytest.raises(InstrumentError, match="its process has ended"):
            guard.check()
        with pytest.raises(InstrumentError, match="may still be on"):
            guard.trip()


@posix
def test_a_computer_that_shuts_down_ends_the_guard_last(instrument):
    with instrument.guard() as guard:
        os.kill(guard._process.pid, signal.SIGTERM)
        assert instrument.off.wait(LONG)
        guard.close()
        with pytest.raises(InstrumentError, match="the guard was asked to end"):
            guard.check()


@posix
def test_a_guard_that_was_held_up_itself_does_not_blame_the_client(instrument):
    with instrument.guard(timeout_s=1.5) as guard:
        os.kill(guard._process.pid, signal.SIGSTOP)
        time.sleep(2.0)  # what is tested is that this time passes
        os.kill(guard._process.pid, signal.SIGCONT)
        assert guard.alive
    assert instrument.heard == []


def test_what_cannot_be_guarded_is_said_at_once(instrument):
    with pytest.raises(InstrumentError, match=r"nosuchbackend.*switch no output on"):
        instrument.guard(library="@nosuchbackend")


def test_nonsense_is_refused(instrument):
    for timeout_s in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(RangeError, match="timeout_s"):
            instrument.guard(timeout_s=timeout_s)
    for off in ((), ("",), "OUTPut OFF"):
        with pytest.raises(RangeError, match="commands that switch the outputs"):
            Guard(instrument.resource, off)


def test_an_output_that_may_still_be_on_is_said_loudly_and_tried_on(monkeypatch):
    """The process outlives its guard; in the end the instrument answers."""
    monkeypatch.setattr(shutdown, "CONFIRM_S", 1.5)
    with output(mute=True) as mute:
        still_on = rf"may still be on.*goes on trying.*{mute.resource}: .*at the instrument"
        with pytest.raises(InstrumentError, match=still_on), mute.guard() as guard:
            raise KeyboardInterrupt
        assert guard.acting
        mute.mute = False
        assert mute.off.wait(LONG)
        shutdown._insisting.pop().wait(LONG)


# --- the parts of the shutdown process ------------------------------------------------------------


@pytest.mark.parametrize("word", ["tripped on demand", "bea", "", "{"])
def test_all_but_beats_and_a_goodbye_is_a_reason_to_act(word):
    words: queue.SimpleQueue[str] = queue.SimpleQueue()
    for heard in (BEAT, BEAT, word, GOODBYE):
        words.put(heard)
    assert shutdown.watch(words, LONG) == word
    assert shutdown.watch(words, LONG) is None


def test_silence_is_a_reason_to_act():
    words: queue.SimpleQueue[str] = queue.SimpleQueue()
    words.put(BEAT)
    started = time.monotonic()
    assert shutdown.watch(words, 0.3) == "no heartbeat for 0.3 s"
    assert 0.3 <= time.monotonic() - started < LONG / 3


def test_beats_that_were_read_late_count():
    class Late:
        said: ClassVar = [queue.Empty, BEAT, queue.Empty, GOODBYE]

        def get(self, timeout: float) -> str:
            word = self.said.pop(0)
            if word is queue.Empty:
                raise word
            return word

    assert shutdown.watch(Late(), 1.0) is None
    assert Late.said == []


def test_it_insists_until_an_instrument_answers():
    with output(drops=3) as instrument:
        assert shutdown.switch_off(instrument.resource, "@py", OFF) == ""
        assert instrument.heard == SWITCHED_OFF


def test_it_gives_up_one_that_resists_and_says_why(monkeypatch):
    monkeypatch.setattr(shutdown, "INSIST_S", 1.5)
    with output(mute=True) as mute:
        assert shutdown.switch_off(mute.resource, "@py", OFF) == "timed out"
        assert mute.heard.count("OUTPut1 OFF") >= 2


def test_a_command_that_the_instrument_refuses_is_no_confirmation(monkeypatch):
    monkeypatch.setattr(shutdown, "INSIST_S", 0.5)
    with output(refuses=True) as strict:
        said = shutdown.switch_off(strict.resource, "@py", OFF)
    assert said == """it refused 'OUTPut1 OFF; OUTPut2 OFF': -113,"Undefined header\""""


def test_the_shutdown_process_loads_little():
    code = "import pnnlab.instruments.shutdown, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "pyvisa" in loaded
    assert not loaded & {"torch", "numba", "xarray", "scipy"}
