"""Sessions: what is asked happens between two steps, and nothing trained is lost."""

import asyncio
import copy
import logging
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from records import Scripted, record, wait_until
from torch import Tensor, nn
from toy import Toy, ToyTwin

from pnnlab.background import History, Session
from pnnlab.errors import DeviceError, InstrumentError, RunError, TrainingError
from pnnlab.gradients import physics_aware
from pnnlab.layers import PhysicalLayer, Rescale
from pnnlab.runs import Run, read_journal
from pnnlab.training import FitSettings, Record, Training


class Steps:
    """Records that come one by one, slowly enough to be interrupted, and know their end."""

    def __init__(self, steps: int = 10_000, seconds: float = 0.002) -> None:
        self.steps, self.seconds = steps, seconds
        self.taken = 0
        self.closed_after: int | None = None
        self.closed_in = ""

    def __iter__(self) -> "Steps":
        return self

    def __next__(self) -> Record:
        if self.taken == self.steps:
            raise StopIteration
        time.sleep(self.seconds)
        self.taken += 1
        return record(self.taken, self.steps)

    def close(self) -> None:
        self.closed_after = self.taken
        self.closed_in = threading.current_thread().name


@pytest.fixture
def steps() -> Steps:
    return Steps()


@pytest.fixture
def session(steps: Steps) -> Iterator[Session]:
    session = Session(Scripted(steps))
    yield session
    session.stop()
    session.join()


def toy_training(epochs: int = 3, system: Toy | None = None) -> Training:
    torch.manual_seed(0)
    x = torch.rand(120, 6)
    split = SimpleNamespace(x=x, targets=(x.sum(1) > 3).long())
    layer = PhysicalLayer(system or Toy(), ToyTwin(), physics_aware, encoding=Rescale(6))
    network = nn.Sequential(layer, nn.Linear(6, 2))
    return Training(
        network,
        SimpleNamespace(train=split, validation=split),
        FitSettings(epochs=epochs, batch_size=20, evaluations=3),
    )


def test_a_session_trains_exactly_as_the_loop_does() -> None:
    alone, driven = toy_training(), toy_training()
    last = list(alone.records())[-1]
    session = Session(driven).start()
    session.join()

    assert session.status == "finished"
    assert session.latest is not None
    assert session.latest.loss == last.loss
    assert session.latest.device_metric == last.device_metric
    assert len(session.evaluations) == 3
    for ours, theirs in zip(driven.network.parameters(), alone.network.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_pause_holds_the_steps_and_resume_lets_them_go(session: Session, steps: Steps) -> None:
    session.start()
    wait_until(lambda: steps.taken > 5)
    session.pause()
    assert wait_until(lambda: session.status == "paused") < 0.3
    held = steps.taken
    time.sleep(0.05)
    assert steps.taken == held
    assert session.latest is not None
    assert session.latest.step == held
    session.resume()
    assert wait_until(lambda: steps.taken > held) < 0.3
    assert session.status == "running"
    assert steps.closed_after is None


@pytest.mark.parametrize("paused", [False, True])
def test_stop_closes_the_records_in_their_own_thread(
    session: Session, steps: Steps, paused: bool
) -> None:
    session.start()
    wait_until(lambda: steps.taken > 3)
    if paused:
        session.pause()
        wait_until(lambda: session.status == "paused")
    session.stop()
    assert wait_until(lambda: session.status == "stopped") < 0.3
    session.join()
    assert steps.closed_after == steps.taken < steps.steps
    assert steps.closed_in == "pnnlab-training_0"


def test_a_stopped_training_goes_on_in_a_new_session() -> None:
    whole, parts = toy_training(), toy_training()
    list(whole.records())
    gate = threading.Event()

    def until_the_gate() -> Iterator[Record]:
        for taken in parts.records():
            if taken.step == 4:
                gate.set()
                wait_until(lambda: "stop" in first.requests)
            yield taken

    first = Session(Scripted(until_the_gate())).start()
    assert gate.wait(5)
    first.stop()
    first.join()
    assert (first.status, parts.step) == ("stopped", 4)
    second = Session(parts).start()
    second.join()
    assert second.status == "finished"
    for ours, theirs in zip(parts.network.parameters(), whole.network.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_stopping_before_the_start_closes_the_records(steps: Steps) -> None:
    session = Session(Scripted(steps))
    session.stop()
    session.join()
    assert session.status == "stopped"
    assert steps.closed_after == 0
    with pytest.raises(RunError, match=r"is stopped .* Make a new one"):
        session.start()


def test_a_stop_that_comes_with_the_last_step_is_a_finish() -> None:
    def one_step() -> Iterator[Record]:
        session.stop()
        yield record(1, 1)

    session = Session(Scripted(one_step()))
    session.start().join()
    assert session.status == "finished"


@pytest.mark.parametrize("paused", [False, True])
def test_a_checkpoint_is_written_between_two_steps(steps: Steps, paused: bool) -> None:
    written: list[tuple[int, str]] = []

    def checkpoint() -> None:
        written.append((steps.taken, threading.current_thread().name))

    session = Session(Scripted(steps, checkpoint)).start()
    wait_until(lambda: steps.taken > 3)
    if paused:
        session.pause()
        wait_until(lambda: session.status == "paused")
    session.request_checkpoint()
    assert wait_until(lambda: "written at step" in session.notice) < 0.3
    assert len(written) == 1
    step, thread = written[0]
    assert session.notice == f"checkpoint written at step {step}"
    assert thread == "pnnlab-training_0"
    wait_until(lambda: session.status == ("paused" if paused else "running"))
    session.stop()
    session.join()


def test_a_checkpoint_that_cannot_be_written_does_not_end_the_training(steps: Steps) -> None:
    def full_disk() -> None:
        raise OSError(28, "No space left on device")

    session = Session(Scripted(steps, full_disk)).start()
    session.request_checkpoint()
    wait_until(lambda: "No space left" in session.notice)
    assert "the training goes on" in session.notice
    after = steps.taken
    wait_until(lambda: steps.taken > after + 3)
    session.stop()
    session.join()
    assert session.status == "stopped"


def test_a_checkpoint_needs_a_place_and_an_active_session(session: Session, steps: Steps) -> None:
    with pytest.raises(RunError, match=r"Session\(Run\.open"):
        session.request_checkpoint()
    with pytest.raises(RunError, match="is ready"):
        Session(Scripted(steps, lambda: None)).request_checkpoint()


def failing() -> Iterator[Record]:
    yield record(1)
    raise TrainingError("the loss of step 2 is nan")


def test_an_error_is_kept_and_raised_in_whoever_waits() -> None:
    session = Session(Scripted(failing())).start()
    with pytest.raises(TrainingError, match="step 2"):
        session.join()
    with pytest.raises(TrainingError, match="step 2"):
        asyncio.run(session.done())
    assert session.status == "failed"
    assert isinstance(session.error, TrainingError)
    assert session.latest is not None
    assert session.latest.step == 1


class LooseCable(Toy):
    """A system whose cable slips out at one shot, and stays out until someone pushes it in."""

    def __init__(self, slips_at: float = 200, error: BaseException | None = None) -> None:
        super().__init__()
        self.slips_at, self.refused = slips_at, 0
        self.error = error or InstrumentError(
            "the oscilloscope does not answer: look at its cable."
        )

    def _simulate(self, x: Tensor, theta: Tensor) -> Tensor:
        if self.shots >= self.slips_at:
            self.refused += 1
            raise self.error
        return super()._simulate(x, theta)


@pytest.mark.parametrize("kept", [True, False])
def test_an_instrument_that_fails_pauses_and_resuming_loses_nothing(
    tmp_path: Path, kept: bool
) -> None:
    undisturbed = toy_training(system=LooseCable(slips_at=math.inf))
    losses = [record.loss for record in undisturbed.records()]

    system = LooseCable()
    training = toy_training(system=system)
    session = Session(Run.open(tmp_path, training) if kept else training).start()
    for refusals in (1, 2):  # resumed before anybody looked at the cable, it pauses again
        wait_until(lambda n=refusals: system.refused == n and session.status == "paused")
        assert session.notice == "Paused: the oscilloscope does not answer: look at its cable."
        assert session.latest is not None
        assert training.step == session.latest.step
        if kept:
            written = [record.loss for record in read_journal(tmp_path)]
            assert written == losses[: session.latest.step]  # all of it is on disk already
        system.slips_at = system.slips_at if refusals == 1 else math.inf
        session.resume()
    session.join()
    assert session.curves().loss.tolist() == losses


FAULTS = [
    TimeoutError("no trigger within 5 s"),
    OSError(5, "Input/output error"),
    ZeroDivisionError("float division by zero"),
    StopIteration("the driver's queue is empty"),
    MemoryError(),
]


@pytest.mark.parametrize("slips_at", [0, 120, 300])  # the first step, an evaluation, a step
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_any_error_of_a_device_pauses_with_the_step_undone(
    fault: Exception, slips_at: float
) -> None:
    undisturbed = toy_training(system=LooseCable(slips_at=math.inf))
    losses = [record.loss for record in undisturbed.records()]

    system = LooseCable(slips_at, fault)
    training = toy_training(system=system)
    begun = copy.deepcopy(training.state())
    random = torch.get_rng_state()
    session = Session(training).start()
    wait_until(lambda: session.status == "paused")
    assert session.notice.startswith("Paused: loosecable failed with ")
    assert type(fault).__name__ in session.notice
    assert str(fault) in session.notice
    if slips_at == 0:
        assert same(training.state(), begun)
    else:
        part = toy_training(system=LooseCable(slips_at=math.inf))
        for _ in range(training.step):
            next(part.records())
        assert same(training.state(), part.state())
    assert torch.equal(torch.get_rng_state(), random)
    system.slips_at = math.inf
    session.resume()
    session.join()
    assert session.curves().loss.tolist() == losses
    assert same(training.state(), undisturbed.state())


def test_what_is_done_while_a_device_fails_is_kept_when_the_session_is_stopped(
    tmp_path: Path,
) -> None:
    session = Session(Run.open(tmp_path, toy_training(system=LooseCable()))).start()
    wait_until(lambda: session.status == "paused")
    session.scale_rate(0.25).result()
    session.stop()
    session.join()
    assert Run.open(tmp_path, toy_training(system=LooseCable(math.inf))).training.rate_scale == 0.25


def same(ours: object, theirs: object) -> bool:
    """Whether two states are equal to the last bit, but for the time they took."""
    if isinstance(ours, Tensor) and isinstance(theirs, Tensor):
        return torch.equal(ours, theirs)
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(
            key == "seconds" or same(value, theirs[key]) for key, value in ours.items()
        )
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    return ours == theirs


def test_a_mistake_in_the_network_is_no_fault_of_the_device() -> None:
    class Mistaken(nn.Module):
        mistaken = False

        def forward(self, x: Tensor) -> Tensor:
            if self.mistaken:
                raise KeyError("no such head")
            return x

    training, layer = toy_training(), Mistaken()
    training.network.append(layer)
    layer.mistaken = True
    session = Session(training).start()
    with pytest.raises(KeyError, match="no such head"):
        session.join()
    assert session.status == "failed"


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), SystemExit()])
def test_what_is_no_error_passes_a_device_as_it_is(fault: BaseException) -> None:
    with pytest.raises(type(fault)) as caught:
        LooseCable(0, fault)(torch.rand(2, 6), torch.rand(36))
    assert caught.value is fault
    broken = OSError(5, "Input/output error")
    with pytest.raises(DeviceError, match="Input/output error") as wrapped:
        LooseCable(0, broken)(torch.rand(2, 6), torch.rand(36))
    assert wrapped.value.__cause__ is broken


def test_a_session_that_waits_for_an_instrument_can_be_stopped() -> None:
    training = toy_training(system=LooseCable())
    session = Session(training).start()
    wait_until(lambda: session.status == "paused")
    session.stop()
    session.join()
    assert session.status == "stopped"


def test_an_error_of_closing_is_not_lost(steps: Steps) -> None:
    def close() -> None:
        raise OSError("read-only file system")

    steps.close = close  # type: ignore[method-assign]
    session = Session(Scripted(steps)).start()
    wait_until(lambda: steps.taken > 1)
    session.stop()
    with pytest.raises(OSError, match="read-only"):
        session.join()
    assert session.status == "failed"


def test_waiting_for_a_session_that_never_began_says_so(session: Session) -> None:
    with pytest.raises(RunError, match=r"session\.start\(\)"):
        session.join()
    with pytest.raises(RunError, match=r"session\.start\(\)"):
        asyncio.run(session.done())
    session.start()
    with pytest.raises(RunError, match="is running"):
        session.start()


def test_an_awaiting_cell_leaves_the_event_loop_free(session: Session) -> None:
    async def cell() -> int:
        waiting = asyncio.create_task(session.start().done())
        ticks = 0
        while ticks < 20:
            await asyncio.sleep(0.005)
            ticks += 1
        assert not waiting.done()
        session.stop()
        await asyncio.wait_for(waiting, 1)
        return ticks

    assert asyncio.run(cell()) == 20


def test_interrupting_an_awaiting_cell_stops_the_training(session: Session, steps: Steps) -> None:
    async def cell() -> None:
        waiting = asyncio.create_task(session.start().done())
        await asyncio.sleep(0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(cell())
    assert session.status == "stopped"
    assert steps.closed_after == steps.taken


def test_ctrl_c_stops_the_training_of_a_script(
    session: Session, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.start()
    plain_wait = session._ended.wait

    def wait(timeout: float | None = None) -> bool:
        if timeout is not None:
            raise KeyboardInterrupt
        return plain_wait()

    monkeypatch.setattr(session._ended, "wait", wait)
    with pytest.raises(KeyboardInterrupt):
        session.join()
    monkeypatch.undo()
    assert session.status == "stopped"
    assert steps.closed_after == steps.taken


def test_observers_hear_of_changes_and_not_of_steps(session: Session, steps: Steps) -> None:
    heard: list[str] = []
    session.observers.append(lambda: heard.append(session.status))
    session.start()
    wait_until(lambda: steps.taken > 20)
    assert heard == ["running"]
    session.pause()
    wait_until(lambda: session.status == "paused")
    wait_until(lambda: heard[-1] == "paused")
    assert len(heard) <= 3
    session.observers.clear()
    told = len(heard)
    session.stop()
    session.join()
    assert len(heard) == told


def test_a_broken_observer_is_reported_and_ends_nothing(
    session: Session, steps: Steps, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise ValueError("no such plot")

    session.observers.append(broken)
    with caplog.at_level(logging.ERROR):
        session.start()
        wait_until(lambda: steps.taken > 3)
    assert "no such plot" in caplog.text
    assert session.status == "running"


def test_requests_show_until_they_are_done() -> None:
    begun, over = threading.Event(), threading.Event()

    def one_long_step() -> Iterator[Record]:
        begun.set()
        over.wait(5)
        yield record(1)

    session = Session(Scripted(one_long_step(), checkpoint=lambda: None)).start()
    begun.wait(5)
    session.pause()
    session.request_checkpoint()
    assert session.requests == {"pause"}
    assert session.actions == ("checkpoint",)
    assert session.status == "running"
    over.set()
    wait_until(lambda: session.status == "paused")
    assert session.requests == frozenset()
    session.stop()
    session.join()


def test_a_long_history_is_bounded_and_counts_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pnnlab.training.training.BINS", 8)
    monkeypatch.setattr("pnnlab.training.training.EVALUATIONS", 6)
    history = History()
    n = 1000
    for step in range(1, n + 1):
        evaluated = {"device_metric": step / n} if step % 10 == 0 else {}
        history.add(record(step, n, loss=float(step), **evaluated))
    curves = history.curves()

    assert len(curves.step) <= 8
    assert curves.clamped.shape == (len(curves.step), 2)
    np.testing.assert_allclose(curves.loss, curves.step)
    assert np.all(np.diff(curves.step) > 0)
    # Bins of one width but the last: weighted by their width, they give back the sum of all.
    width = round(curves.step[1] - curves.step[0])
    widths = np.full(len(curves.step), width)
    widths[-1] = n - width * (len(widths) - 1)
    assert np.dot(widths, curves.loss) == pytest.approx(n * (n + 1) / 2)

    kept = [record.step for record in history.evaluations]
    assert len(kept) <= 6
    assert kept[0] == 10
    assert kept[-3:] == [980, 990, 1000]


def test_the_curves_of_a_short_run_are_the_steps_themselves() -> None:
    history = History()
    assert len(history.curves().step) == 0
    for step in (1, 2, 3):
        history.add(record(step, clamped=()))
    np.testing.assert_array_equal(history.curves().step, [1, 2, 3])
    np.testing.assert_allclose(history.curves().loss, [2, 1, 2 / 3])
    assert history.curves().clamped.shape == (3, 0)


def test_a_run_of_many_hours_stays_small() -> None:
    history, steps = History(), 200_000
    same = record(1, steps)
    for _ in range(steps):
        history.add(same)
    assert len(history._bins) <= 1024
    assert 512 <= len(history.curves().step) <= 1024
    assert history.evaluations == []


@pytest.mark.slow
def test_leaving_the_interpreter_closes_the_records() -> None:
    """A kernel that is shut down in the middle of a training still saves it."""
    script = """
import time
from records import Scripted, record
from pnnlab.runs import Run, read_journal
from pnnlab.background import Session

class Steps:
    taken = 0
    def __iter__(self):
        return self
    def __next__(self):
        time.sleep(0.001)
        self.taken += 1
        return record(self.taken, 10**6)
    def close(self):
        print("closed after", self.taken, flush=True)

session = Session(Scripted(Steps())).start()
time.sleep(0.1)
"""
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(here), str(here.parent)])},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.startswith("closed after ")
    assert done.stderr == ""
