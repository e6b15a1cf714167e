"""Training through a bench on which everything goes wrong that can."""

import socket
from contextlib import suppress
from dataclasses import replace
from itertools import islice, takewhile
from types import SimpleNamespace

import pytest
import torch
from records import wait_until
from torch import nn

from pnnlab.background import Session
from pnnlab.errors import InstrumentError, LinkError
from pnnlab.gradients import physics_aware
from pnnlab.instruments.bench import Bench, open_bench
from pnnlab.instruments.generator import Limits
from pnnlab.instruments.programme import CircuitProgramme
from pnnlab.layers import PhysicalLayer, Rescale, physical_layers
from pnnlab.runs import Run, read_journal
from pnnlab.systems import Circuit
from pnnlab.systems.circuit import CircuitImperfections
from pnnlab.training import FitSettings, Training
from pnnlab.twins import CircuitEquations, PhysicsTwin
from pnnlab.virtual_bench import Faults, VirtualBench
from pnnlab.virtual_bench.bench import FaultKind

PROGRAMME = CircuitProgramme(input_dim=16, replays=2, outputs=8)
LIMITS = Limits(low_v=-10, high_v=10)
MENDABLE = ("drop", "stall", "truncate", "late", "error", "hole", "saturate")

# Without noise, a converter gives some outputs of a small batch the same code: that is told.
pytestmark = pytest.mark.filterwarnings("ignore:circuit. of its outputs:RuntimeWarning")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def bench_on(there: VirtualBench, faults: Faults | None = None) -> Bench:
    """Open a bench; faults that wait begin when it is open."""
    settings = {"limits": LIMITS, "timeout_s": 0.1, "guarded": False}
    names = (there.generator, there.oscilloscope)
    for _ in range(100):  # the timeout of a fault is short for a machine that is busy
        with suppress(LinkError):
            bench = open_bench(*names, PROGRAMME, **settings)
            break
    else:
        pytest.fail("no bench could be opened")
    if faults is not None:
        faults.start()
    return bench


def virtual(*, noise: bool, faults: Faults | None = None) -> VirtualBench:
    # A shot that is taken again follows another pilot, whose heat, a microvolt of the answer, turns
    # a code of the converter over in one of two trainings: without heat the same is the same.
    cool = replace(CircuitImperfections(), heating=0.0)
    circuit = Circuit(0, noise=noise, drift=False, imperfections=cool)
    return VirtualBench(circuit.analog_ports(), noise=noise, faults=faults)


def training(bench: Bench, epochs: int) -> Training:
    # Of its own: torch's random numbers may be set by a thread of another test.
    random = torch.Generator().manual_seed(0)
    x = torch.rand(400, 16, generator=random)
    split = SimpleNamespace(x=x, targets=(x[:, :8].sum(1) > x[:, 8:].sum(1)).long())
    twin = PhysicsTwin(bench, CircuitEquations(replays=2))
    layer = PhysicalLayer(bench, twin, physics_aware, encoding=Rescale(16))
    network = nn.Sequential(layer, nn.BatchNorm1d(8), nn.Linear(8, 2))
    for part in network[2].parameters():
        nn.init.uniform_(part, -0.3, 0.3, generator=random)
    settings = FitSettings(epochs=epochs, batch_size=20, learning_rate=0.02, evaluations=2)
    return Training(network, SimpleNamespace(train=split, validation=split), settings)


def calls(training: Training) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Theta and answers of each call of the device, as it is trained."""
    found: list[tuple[torch.Tensor, torch.Tensor]] = []
    (layer,) = physical_layers(training.network)
    layer.register_forward_hook(
        lambda layer, _, y: found.append((layer.theta.detach().clone(), y.detach().clone()))
    )
    return found


@pytest.mark.slow
def test_two_hundred_faults_change_no_weight():
    """Read-out noise off: every shot that was taken is the one that should have been."""
    faults = Faults(1, mean_messages=200, kinds=MENDABLE, stall_s=0.15, most=200, waiting=True)
    with virtual(noise=False, faults=faults) as there, bench_on(there, faults) as bench:
        disturbed = training(bench, 200)
        found = calls(disturbed)
        steps = sum(
            1 for _ in takewhile(lambda _: faults.injected.total() < 200, disturbed.records())
        )
        tally = bench.tally
    with virtual(noise=False) as there, bench_on(there) as bench:
        sound = training(bench, 200)
        expected = calls(sound)
        for _ in islice(sound.records(), steps + 1):  # the one that ended the other is taken too
            pass
    assert set(faults.injected) == set(MENDABLE)
    assert sum(tally.retaken.values()) > 1000
    assert steps > 500
    for n, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        assert torch.equal(ours[0], theirs[0]), f"call {n} has another theta"
        assert torch.equal(ours[1], theirs[1]), f"call {n} of one theta is answered otherwise"
    ours, theirs = disturbed.network.state_dict(), sound.network.state_dict()
    assert [name for name in theirs if not torch.equal(ours[name], theirs[name])] == []


@pytest.mark.parametrize("kind", MENDABLE)
def test_each_fault_alone_is_mended(kind):
    faults = Faults(seed=0, mean_messages=12, kinds=[kind], stall_s=0.15, most=3, waiting=True)
    x, theta = torch.rand(12, 16), torch.rand(PROGRAMME.param_dim)
    with virtual(noise=False) as there, bench_on(there) as bench:
        expected = bench(x, theta)
    with virtual(noise=False, faults=faults) as there, bench_on(there, faults) as bench:
        found = torch.cat([bench(part, theta) for part in x.split(1)])
        assert faults.injected[kind] == 3
    assert torch.equal(found, expected)


@pytest.mark.parametrize("noise", [False, True])
def test_a_zero_that_moves_is_taken_off_each_record(noise):
    kinds: tuple[FaultKind, ...] = ("drift",)
    faults = Faults(seed=0, mean_messages=20, kinds=kinds, drift_v=0.05, most=1, waiting=True)
    x, theta = torch.rand(12, 16), torch.rand(PROGRAMME.param_dim)
    with virtual(noise=noise, faults=faults) as there, bench_on(there) as bench:
        before = torch.stack([bench(x, theta) for _ in range(10)]).mean(0)
        faults.start()
        answers = torch.stack([bench(x, theta) for _ in range(30)])
        assert faults.injected["drift"] == 1
        assert abs(bench.tally.zero_v) == pytest.approx(0.05, abs=0.01)
        assert not bench.tally.retaken
    # All of a record moves together: what is left of 0.05 V, 0.01 of the read-outs, in their mean.
    assert (answers - before).mean((1, 2)).abs().max() < 0.002


def two_free_ports() -> int:
    """The first of two that follow each other."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            with suppress(OSError):
                second.bind(("127.0.0.1", port + 1))
                return port


def test_what_cannot_be_mended_pauses_the_run_and_says_why(tmp_path):
    circuit, port = Circuit(0, noise=False, drift=False), two_free_ports()
    with VirtualBench(circuit.analog_ports(), noise=False, port=port) as there:
        bench = bench_on(there)
        run = Run.open(tmp_path, training(bench, 20))
        session = Session(run).start()
        wait_until(lambda: session.latest is not None)
    # The instruments are gone. Later they are back, at their old addresses.
    wait_until(lambda: session.status == "paused", 30)
    assert f"127.0.0.1::{port}" in session.notice
    assert "switch it off at the generator itself" in session.notice
    assert session.latest is not None
    taken = session.latest.step
    assert len(read_journal(tmp_path)) == taken
    with VirtualBench(circuit.analog_ports(), noise=False, port=port):
        session.resume()
        wait_until(lambda: session.latest.step > taken + 5)
        session.stop()
        session.join()
        bench.close()


def test_an_instrument_that_never_answers_is_given_up_with_its_name():
    with virtual(noise=False) as there:
        bench = bench_on(there)
    with pytest.raises(InstrumentError, match=r"none can be trusted.*127\.0\.0\.1"):
        bench(torch.rand(1, 16), torch.rand(PROGRAMME.param_dim))
    with pytest.raises(LinkError):  # nobody knows whether its output is off
        bench.close()
