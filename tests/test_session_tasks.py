"""Tasks: what needs the device has it alone, between two steps, and never ends a training."""

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from types import SimpleNamespace

import pytest
import torch
from records import Scripted, record, wait_until

from pnnlab.background import Session
from pnnlab.errors import InstrumentError, RangeError, RunError
from pnnlab.training import FitSettings, Record, Training

THREAD = "pnnlab-training_0"


class Device:
    """Remembers who drove it, and finds fault with two at a time."""

    def __init__(self) -> None:
        self.log: list[tuple[str, str]] = []
        self._free = threading.Lock()

    def drive(self, what: str) -> str:
        assert self._free.acquire(blocking=False), f"two users at a time: {what}"
        self.log.append((what, threading.current_thread().name))
        self._free.release()
        return what


class HandCranked:
    """Records that come when the test lets them, one at a time."""

    def __init__(self, device: Device, steps: int = 1000) -> None:
        self.device, self.steps, self.taken = device, steps, 0
        self.allowed = threading.Semaphore(0)
        self.closed = False

    def __iter__(self) -> "HandCranked":
        return self

    def __next__(self) -> Record:
        self.allowed.acquire()
        if self.taken == self.steps or self.closed:
            raise StopIteration
        self.taken += 1
        self.device.drive(f"step {self.taken}")
        return record(self.taken, self.steps)

    def let(self, steps: int) -> None:
        for _ in range(steps):
            self.allowed.release()


@pytest.fixture
def device() -> Device:
    return Device()


@pytest.fixture
def steps(device: Device) -> HandCranked:
    return HandCranked(device)


@pytest.fixture
def session(steps: HandCranked) -> Iterator[Session]:
    session = Session(Scripted(steps))
    yield session
    steps.closed = True
    steps.let(1)
    session.stop()
    if session.status != "ready":
        session.join()


def test_tasks_take_turns_with_the_steps(
    session: Session, steps: HandCranked, device: Device
) -> None:
    session.start()
    first = session.do("alignment", lambda: device.drive("alignment"))
    second = session.do("look", lambda: device.drive("look"))
    assert session.actions[-1] == "look"
    steps.let(1)
    assert first.result(5) == "alignment"
    assert second.result(5) == "look"
    steps.let(1)
    wait_until(lambda: steps.taken == 2)
    third = session.do("again", lambda: device.drive("again"))
    steps.let(1)
    third.result(5)
    order = [what for what, _ in device.log]
    assert [what for what in order if not what.startswith("step")] == ["alignment", "look", "again"]
    assert {thread for _, thread in device.log} == {THREAD}
    wait_until(lambda: session.actions == ())


def test_a_paused_training_lends_its_device(
    session: Session, steps: HandCranked, device: Device
) -> None:
    session.start()
    session.pause()
    steps.let(1)
    wait_until(lambda: session.status == "paused")
    held = steps.taken
    assert session.do("look", lambda: device.drive("look")).result(5) == "look"
    assert session.status == "paused"
    assert steps.taken == held
    assert device.log[-1] == ("look", THREAD)


def test_without_a_training_a_task_runs_at_once_one_after_the_other(
    session: Session, device: Device
) -> None:
    begun, over = threading.Event(), threading.Event()

    def long() -> str:
        begun.set()
        over.wait(5)
        return device.drive("long")

    first, second = session.do("long", long), session.do("short", lambda: device.drive("short"))
    assert begun.wait(5)
    assert session.actions == ("long", "short")
    assert not second.done()
    with pytest.raises(TimeoutError):
        second.result(0)
    over.set()
    assert second.result(5) == "short"
    assert first.result() == "long"
    assert device.log == [("long", THREAD), ("short", THREAD)]
    assert session.status == "ready"


def test_a_training_that_begins_waits_for_the_task_that_has_the_device(
    session: Session, steps: HandCranked, device: Device
) -> None:
    begun, over = threading.Event(), threading.Event()

    def long() -> str:
        begun.set()
        over.wait(5)
        return device.drive("long")

    first, second = session.do("long", long), session.do("short", lambda: device.drive("short"))
    assert begun.wait(5)
    steps.let(3)
    session.start()
    assert steps.taken == 0
    over.set()
    assert first.result(5) == "long"
    second.result(5)
    wait_until(lambda: steps.taken == 3)
    assert device.log[0] == ("long", THREAD)
    assert device.log[1] == ("short", THREAD)


def test_a_task_that_fails_is_told_and_the_training_goes_on(
    session: Session, steps: HandCranked, caplog: pytest.LogCaptureFixture
) -> None:
    def unplugged() -> None:
        raise InstrumentError("the oscilloscope does not answer: look at its cable.")

    def broken() -> None:
        raise KeyError("x")

    session.start()
    steps.let(1)
    failed = session.do("alignment", unplugged)
    steps.let(1)
    with pytest.raises(InstrumentError, match="cable"):
        failed.result(5)
    assert session.notice == "alignment: the oscilloscope does not answer: look at its cable."
    assert isinstance(failed.exception(), InstrumentError)
    assert caplog.text == ""
    with caplog.at_level(logging.ERROR):
        bug = session.do("look", broken)
        steps.let(1)
        wait_until(bug.done)
    assert session.notice == "look: KeyError: 'x'"
    assert "in broken" in caplog.text  # what nobody raised on purpose is told with its traceback
    before = steps.taken
    steps.let(2)
    wait_until(lambda: steps.taken >= before + 2)
    assert session.status == "running"


def test_an_action_that_waits_can_be_cancelled(session: Session) -> None:
    over = threading.Event()
    first, second = session.do("long", lambda: over.wait(5)), session.do("short", lambda: 1)
    assert second.cancel()
    assert session.actions == ("long",)
    over.set()
    assert first.result(5)
    wait_until(lambda: session.actions == ())


@pytest.mark.parametrize("how", ["stopped", "failed"])
def test_a_training_that_is_stopped_or_fails_refuses_what_waits(how: str) -> None:
    begun, over = threading.Event(), threading.Event()

    def one_long_step() -> Iterator[Record]:
        begun.set()
        over.wait(5)
        if how == "failed":
            raise KeyError("burnt")
        yield record(1)

    session = Session(Scripted(one_long_step())).start()
    assert begun.wait(5)
    waiting = session.do("alignment", lambda: 1)
    if how == "stopped":
        session.stop()
    over.set()
    with pytest.raises(RunError, match=f"{how} before this began; ask for it again"):
        waiting.result(5)
    wait_until(lambda: session.status == how)
    wait_until(lambda: session.actions == ())
    assert session.do("alignment", lambda: 1).result(5) == 1  # and later ones are carried out


def test_a_training_that_finishes_leaves_what_waits_to_be_carried_out() -> None:
    asked: list[Future[str]] = []

    def last_step() -> Iterator[Record]:
        yield record(1, 1)
        asked.append(session.do("look", lambda: threading.current_thread().name))

    session = Session(Scripted(last_step()))
    session.start().join()
    assert session.status == "finished"
    assert asked[0].result(5) == THREAD


def test_observers_hear_of_beginning_and_end_and_callbacks_of_the_result(
    session: Session, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[tuple[str, ...]] = []
    session.observers.append(lambda: seen.append(session.actions))
    over = threading.Event()
    heard: list[str] = []

    def broken(task: Future[str]) -> None:
        raise ValueError("no such plot")

    def answer() -> str:
        over.wait(5)
        return "answer"

    task = session.do("look", answer)
    task.add_done_callback(broken)
    task.add_done_callback(lambda done: heard.append(done.result()))
    assert heard == []
    with caplog.at_level(logging.ERROR):
        over.set()
        assert task.result(5) == "answer"
        wait_until(lambda: heard == ["answer"])
    assert "no such plot" in caplog.text
    wait_until(lambda: seen[-1] == ())
    assert set(seen) == {("look",), ()}
    task.add_done_callback(lambda done: heard.append(f"late {done.result()}"))
    assert heard == ["answer", "late answer"]


def test_random_numbers_that_a_task_draws_do_not_change_the_training() -> None:
    def drawing(session: Callable[[], Session]) -> Iterator[Record]:
        for step in (1, 2):
            yield record(step, 2, loss=float(torch.rand(())))
            session().do("look", lambda: torch.rand(7))

    torch.manual_seed(0)
    expected = [float(torch.rand(())), float(torch.rand(()))]
    torch.manual_seed(0)
    session = Session(Scripted(drawing(lambda: session)))
    session.start().join()
    assert session.curves().loss.tolist() == expected


def test_the_learning_rate_changes_while_a_training_goes_on() -> None:
    x = torch.rand(40, 3)
    split = SimpleNamespace(x=x, targets=(x[:, 0] > 0.5).long())
    settings = FitSettings(epochs=2, batch_size=10, evaluations=1)
    training = Training(
        torch.nn.Linear(3, 2), SimpleNamespace(train=split, validation=split), settings
    )
    records: list[Record] = []

    def stepping() -> Iterator[Record]:
        while training.step < training.steps:
            records.append(training.advance())
            yield records[-1]
            if training.step == 4:
                session.scale_rate(0.5)

    session = Session(Scripted(stepping(), training=training))
    session.start().join()
    assert session.training is training
    given = [settings.rate(step, 8) for step in range(8)]
    expected = [rate * (1 if step < 5 else 0.5) for step, rate in enumerate(given)]
    assert [r.learning_rate for r in records] == expected
    refused = session.scale_rate(-1)
    with pytest.raises(RangeError, match="cannot be multiplied by -1"):
        refused.result(5)
    with pytest.raises(RunError, match=r"Session\(training\)"):
        Session(Scripted([])).scale_rate(0.5)
