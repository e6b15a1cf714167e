"""Trainings that tests begin, kill and resume, each in a process of its own."""

import errno
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from toy import Toy, ToyTwin

from pnnlab.gradients import GradientRule, physics_aware
from pnnlab.layers import PhysicalLayer, Rescale
from pnnlab.runs import Run, run
from pnnlab.runs.journal import Journal
from pnnlab.training import FitSettings, Record, Training

STEPS = 42
CHECKPOINT_EVERY = 10
NOBODY = 65534
SETTINGS = FitSettings(epochs=6, batch_size=16, evaluations=5)

# A fresh process would import torch for seconds, and its optimizers torch._dynamo; one that is
# forked from a process that has them starts at once.
processes = get_context("forkserver")
processes.set_forkserver_preload(["torch._dynamo", "pnnlab.runs"])


def toy_training(
    born: int = 0,
    *,
    settings: FitSettings = SETTINGS,
    width: int = 6,
    rule: GradientRule = physics_aware,
    data: int = 0,
) -> Training:
    """Noisy, drifting systems between digital layers, with buffers and dropout.

    ``born`` sets the initial weights, noise and drift, which a resumed run must not depend on.
    """
    torch.manual_seed(born)
    first, second = Toy(6, width, drift=1e-5, seed=born + 10), Toy(width, 6, seed=born + 20)
    network = nn.Sequential(
        PhysicalLayer(first, ToyTwin(6, width), rule, seed=born),
        Rescale(width),
        nn.Dropout(0.1),
        PhysicalLayer(second, ToyTwin(width, 6), rule, seed=born + 1),
        nn.BatchNorm1d(6),
        nn.Linear(6, 3),
    )
    return Training(
        network,
        SimpleNamespace(train=examples(112, data), validation=examples(30, data + 1)),
        settings,
    )


def examples(number: int, seed: int) -> SimpleNamespace:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(number, 6, generator=generator)
    return SimpleNamespace(x=x, targets=x[:, :3].argmax(1))


def lasting(training: Training) -> dict[str, Any]:
    """All that must be equal at the end, however often the run was interrupted."""
    return {key: value for key, value in training.state().items() if key != "seconds"}


def untimed(records: list[Record]) -> list[Record]:
    return [replace(r, seconds=0.0, seconds_left=0.0, steps_per_second=0.0) for r in records]


def assert_equal(one: Any, other: Any, at: str = "state") -> None:
    """Compare nested containers bit by bit."""
    assert type(one) is type(other), at
    if isinstance(one, Tensor):
        assert one.dtype == other.dtype, at
        assert torch.equal(one, other), at
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), at
        for key in one:
            assert_equal(one[key], other[key], f"{at}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), at
        for number, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_equal(a, b, f"{at}[{number}]")
    else:
        assert one == other, at


def start(work: Any, *arguments: Any) -> BaseProcess:
    process = processes.Process(target=work, args=arguments)
    process.start()
    return process


def finish(process: BaseProcess) -> int:
    """Wait for a process; returns its exit code, negative for a signal."""
    process.join(60)
    assert process.exitcode is not None, "the process hangs"
    return process.exitcode


@contextmanager
def full_disk() -> Iterator[None]:
    """Let what is written not fit on the disk, as the system reports it late."""

    def refuse(descriptor: int) -> None:
        os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with patch.object(os, "fsync", refuse):
        yield


def without_rights(folder: Path, look: Callable[[Path], None]) -> None:
    """Look at a folder as someone who may read it and not write there; root may write anywhere."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    before = sorted(folder.rglob("*"))
    for path in (folder, *before):
        assert not os.access(path, os.W_OK)
    look(folder)
    assert sorted(folder.rglob("*")) == before


def undisturbed(out: Path) -> None:
    """Train with `fit` alone, and keep what a run must end with."""
    training = toy_training()
    records = list(training.records())
    torch.save((lasting(training), [vars(record) for record in records]), out)


def begin(folder: Path, place: str, number: int) -> None:
    """Begin a run and kill this process at a place, when it comes there for the n-th time."""
    run.COMMIT_SECONDS = 0.0
    begun = Run.open(folder, toy_training(), checkpoint_every=CHECKPOINT_EVERY)
    kill_at(place, number)
    for record in begun.records():
        if place == "record" and record.step == number:
            kill()


def resume(folder: Path, out: Path) -> None:
    """Resume a run in a process that was made otherwise, and train to the end."""
    training = toy_training(born=5)
    for _ in Run.open(folder, training).records():
        pass
    torch.save(lasting(training), out)


def dawdle(folder: Path, seconds: float) -> None:
    """Begin or resume a run and go slowly, so that others can kill it at any time."""
    if (folder / "journal.sqlite").exists():
        begun = Run.open(folder, toy_training(born=5))
    else:
        begun = Run.open(folder, toy_training(), checkpoint_every=CHECKPOINT_EVERY)
    run.COMMIT_SECONDS = 0.0
    for _ in begun.records():
        time.sleep(seconds)


def kill_at(place: str, number: int) -> None:
    """Arrange for this process to die when it comes to a place for the n-th time."""
    if place == "record":
        return  # whoever iterates kills
    owner, name, before, after = PLACES[place]
    real = getattr(owner, name)
    times = count(1)

    def wrapped(*arguments: Any) -> Any:
        last = next(times) == number
        if last:
            before(*arguments)
        result = real(*arguments)
        if last:
            after(*arguments)
        return result

    setattr(owner, name, wrapped)


def kill(*arguments: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def halve_and_kill(descriptor: int) -> None:
    os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
    kill()


def go_on(*arguments: Any) -> None:
    """Do nothing."""


PLACES: dict[str, tuple[Any, str, Callable[..., None], Callable[..., None]]] = {
    "in a step": (Toy, "_simulate", go_on, kill),
    "in a half-written checkpoint": (os, "fsync", halve_and_kill, go_on),
    "before a rename": (Path, "replace", kill, go_on),
    "after a rename": (Path, "replace", go_on, kill),
    "before a commit": (Journal, "write", go_on, kill),
}
