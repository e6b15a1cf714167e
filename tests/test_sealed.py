"""Runs in a folder that may not be written: on a shared drive, a disc, someone else's account."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import runners
import torch
from runners import STEPS, finish, lasting, start, toy_training, without_rights
from toy import Toy

from pnnlab.errors import RunError
from pnnlab.instruments.recording import Recorder, Replay
from pnnlab.runs import Run, list_runs, read_journal, read_run

pytestmark = pytest.mark.skipif(not hasattr(runners.os, "setuid"), reason="rights of POSIX")


def seal(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.chmod(0o555 if path.is_dir() else 0o444)
    folder.chmod(0o555)


def seen(look: object, folder: Path) -> bool:
    seal(folder)
    return finish(start(without_rights, folder, look)) == 0


def finished(folder: Path) -> Path:
    list(Run.open(folder, toy_training(), description="whole").records())
    return folder


def killed(folder: Path, *left: str) -> Path:
    """A run of 13 steps, all of them in the write-ahead log, with the files that a kill leaves."""
    begun = Run.open(folder.parent / "alive", toy_training())
    records = begun.records()
    for _ in range(13):
        next(records)
    begun._write(checkpoint=False)
    folder.mkdir()
    for path in begun.folder.iterdir():
        if path.name in ("journal.sqlite", "checkpoint.pt", *left):
            shutil.copy(path, folder)
    records.close()
    shutil.rmtree(begun.folder)
    return folder


def everything_is_read(folder: Path) -> None:
    assert [record.step for record in read_journal(folder)] == list(range(1, STEPS + 1))
    assert read_journal(folder, after=STEPS - 1)[0].device_metric is not None
    assert read_run(folder).events == ()
    assert read_run(folder).provenance["pnnlab"]
    [info] = list_runs(folder)
    assert (info.step, info.steps, info.problem) == (STEPS, STEPS, "")


def its_end_is_restored(folder: Path) -> None:
    resumed = Run.open(folder, toy_training(born=5))
    assert (resumed.training.step, resumed.folder) == (STEPS, folder)
    undisturbed = toy_training()
    list(undisturbed.records())
    runners.assert_equal(lasting(resumed.training), lasting(undisturbed))
    assert list(resumed.records()) == []
    with pytest.raises(RunError, match="cannot be written"):
        resumed.checkpoint()


def all_steps_of_the_log_are_read(folder: Path) -> None:
    assert [record.step for record in read_journal(folder)] == list(range(1, 14))
    with pytest.raises(RunError, match=r"step 0 of 42, .* copy the folder"):
        Run.open(folder, toy_training())


def it_is_said_that_a_part_is_missing(folder: Path) -> None:
    with pytest.raises(RunError, match="copy the folder to another place"):
        read_journal(folder)
    assert "unable to open" in list_runs(folder)[0].problem


def a_killed_recording_is_replayed(folder: Path) -> None:
    x, theta = torch.full((2, 6), 0.5), torch.full((36,), 0.5)
    assert Replay(folder / "bench.sqlite")(x, theta).shape == (2, 6)


@pytest.mark.parametrize("left", [(), ("-wal", "-shm")])
def test_a_recording_is_replayed_where_nothing_may_be_written(place: Path, left: Any) -> None:
    folder = place / "copied"
    folder.mkdir()
    with Recorder(Toy(), place / "bench.sqlite") as recorder:
        recorder(torch.full((2, 6), 0.5), torch.full((36,), 0.5))
        for end in ("", *left):  # as a killed process leaves it
            shutil.copy(place / f"bench.sqlite{end}", folder)
    if not left:
        shutil.copy(place / "bench.sqlite", folder)
    assert seen(a_killed_recording_is_replayed, folder)


@pytest.mark.parametrize("look", [everything_is_read, its_end_is_restored])
def test_a_finished_run_opens(place: Path, look: object) -> None:
    assert seen(look, finished(place / "run"))


def test_what_a_killed_run_left_in_its_log_is_read(place: Path) -> None:
    folder = killed(place / "run", "journal.sqlite-wal", "journal.sqlite-shm")
    assert seen(all_steps_of_the_log_are_read, folder)


def test_a_log_without_its_index_is_never_passed_over(place: Path) -> None:
    assert seen(it_is_said_that_a_part_is_missing, killed(place / "run", "journal.sqlite-wal"))
