"""Whatever ends the program that drives a bench, the generator's output goes off."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest
import torch
from records import wait_until

from pnnlab.errors import InstrumentError, LimitError
from pnnlab.instruments.bench import open_bench
from pnnlab.instruments.generator import Limits
from pnnlab.instruments.link import Link
from pnnlab.instruments.programme import CableProgramme
from pnnlab.instruments.shutdown import TripError
from pnnlab.systems.analog import cable
from pnnlab.virtual_bench import VirtualBench

LIMITS = Limits(low_v=-2, high_v=2)
CLIENT = """
import signal, sys
import torch
from pnnlab.instruments.generator import Limits
from pnnlab.instruments.bench import open_bench
from pnnlab.instruments.programme import CableProgramme

signal.signal(signal.SIGINT, signal.default_int_handler)  # a test in the background ignores it
bench = open_bench(*sys.argv[1:3], CableProgramme(12), limits=Limits(-2, 2))
print("open", flush=True)
while True:
    bench(torch.rand(4, 12), torch.zeros(0))
"""


@pytest.fixture
def there() -> Iterator[VirtualBench]:
    with VirtualBench(cable()) as there:
        yield there


def is_on(there: VirtualBench) -> bool:
    with Link(there.generator) as link:
        return link.ask("OUTP1?") == "1"


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")
@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM", "SIGINT", "SIGSTOP"])
def test_the_output_goes_off_however_the_client_ends(there, how):
    """Killed, told to end, interrupted, or hung: then nothing beats any more."""
    with subprocess.Popen(
        [sys.executable, "-c", CLIENT, there.generator, there.oscilloscope],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as client:
        try:
            assert client.stdout is not None
            assert client.stdout.readline() == "open\n"
            assert is_on(there)
            client.send_signal(getattr(signal, how))
            wait_until(lambda: not is_on(there), 15)
        finally:
            client.kill()


def test_an_exception_switches_the_output_off(there):
    with open_bench(
        there.generator, there.oscilloscope, CableProgramme(12), limits=LIMITS, guarded=False
    ) as bench:
        assert is_on(there)
        with pytest.raises(LimitError, match="Nothing was sent"):
            bench.waveforms(torch.full((1, 12), 3.0).numpy())
        assert not is_on(there)
        bench(torch.rand(1, 12), torch.zeros(0))
        assert is_on(there)
    assert not is_on(there)
    bench.close()  # once more does no harm
    with pytest.raises(InstrumentError, match="closed"):
        bench(torch.rand(1, 12), torch.zeros(0))


def test_ctrl_c_in_the_middle_of_a_record_switches_the_output_off(there, monkeypatch):
    with open_bench(
        there.generator, there.oscilloscope, CableProgramme(12), limits=LIMITS, guarded=False
    ) as bench:
        with monkeypatch.context() as patch:
            scope = type(bench._acquisition.oscilloscope)
            patch.setattr(scope, "wait", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                bench(torch.rand(1, 12), torch.zeros(0))
        assert not is_on(there)
        assert bench.passes == 0


def test_what_leaves_the_limits_in_one_sample_of_a_batch_is_refused_as_a_whole(there):
    with open_bench(
        there.generator, there.oscilloscope, CableProgramme(12), limits=LIMITS, guarded=False
    ) as bench:
        volts = torch.zeros(5, 12)
        for bad in (2.5, float("nan"), float("inf")):
            volts[3, 7] = bad
            with pytest.raises(LimitError):
                bench.waveforms(volts.numpy())
        assert bench.tally.shots == 0


def silent(there: VirtualBench) -> bool:
    """Whether nothing comes out without another trigger: no clock, and a rest of zero volts."""
    emission = there._source.emission(1)
    playing = there._source.plays_freely(1)
    return emission is None or (not playing and abs(emission.volts[0]) < 2e-3)


@contextmanager
def client_of(there: VirtualBench) -> Iterator["tuple[subprocess.Popen[str], psutil.Process]"]:
    """A client in a process of its own, and its shutdown process."""
    with subprocess.Popen(
        [sys.executable, "-c", CLIENT, there.generator, there.oscilloscope],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as client:
        try:
            assert client.stdout is not None
            assert client.stdout.readline() == "open\n"
            (guard,) = psutil.Process(client.pid).children()
            yield client, guard
        finally:
            client.kill()


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("generator", ["keysight", "tektronix"])
def test_the_output_is_silent_when_client_and_shutdown_process_die_at_once(how, generator):
    """Nothing sends an OFF any more: bursts end, and what is left is the rest between them."""
    with VirtualBench(cable(), generator=generator) as there, client_of(there) as both:
        for _ in range(10):  # amid a load, a burst, a read-out
            for process in both:
                process.send_signal(signal.SIGSTOP)
            assert is_on(there)
            assert silent(there)
            if how == signal.SIGSTOP:
                for process in reversed(both):
                    process.send_signal(signal.SIGCONT)
                time.sleep(0.031)
        for process in both:
            process.kill()
        assert is_on(there)
        assert silent(there)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")
def test_after_a_suspension_the_output_goes_off_and_never_on_again_unasked(there):
    with client_of(there) as both:
        for process in both:
            process.send_signal(signal.SIGSTOP)
        time.sleep(4)  # longer than the heartbeat may be missing
        for process in both:
            process.send_signal(signal.SIGCONT)
        wait_until(lambda: not is_on(there), 15)
        _, errors = both[0].communicate(timeout=30)
        assert "TripError" in errors
        assert not is_on(there)


@pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")
def test_a_tripped_bench_goes_on_after_rearm_alone(there):
    with open_bench(there.generator, there.oscilloscope, CableProgramme(12), limits=LIMITS) as it:
        guard = it._acquisition._guard
        guard._process.kill()
        guard._process.wait()
        for _ in range(2):
            with pytest.raises(TripError, match="its process has ended"):
                it(torch.rand(1, 12), torch.zeros(0))
            assert not is_on(there)
        it.rearm()
        it(torch.rand(1, 12), torch.zeros(0))
        assert is_on(there)
    assert not is_on(there)
