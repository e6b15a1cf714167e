"""A run lasts: killed, stopped, without space or without its folder, nothing is lost."""

import copy
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias

import numpy as np
import pytest
import runners
import torch
from runners import (
    CHECKPOINT_EVERY,
    STEPS,
    assert_equal,
    finish,
    full_disk,
    lasting,
    start,
    toy_training,
    untimed,
)
from torch import nn
from toy import Toy, ToyTwin

from pnnlab.errors import RangeError, RunError, TrainingError
from pnnlab.gradients import in_silico, physics_aware
from pnnlab.layers import PhysicalLayer
from pnnlab.physical_system import PhysicalSystem, State
from pnnlab.runs import Run, list_runs, read_journal, read_run, run, run_folder
from pnnlab.runs.journal import JOURNAL, reading
from pnnlab.runs.run import DAMAGED, NEWEST, PREVIOUS, load_checkpoint
from pnnlab.storage import aside
from pnnlab.systems import Circuit
from pnnlab.training import FitSettings, Record, Training

End: TypeAlias = tuple[dict[str, Any], list[Record]]


@pytest.fixture(scope="module")
def end(tmp_path_factory: pytest.TempPathFactory) -> End:
    """State and records of a training that nothing disturbed."""
    out = tmp_path_factory.mktemp("end") / "end.pt"
    assert finish(start(runners.undisturbed, out)) == 0
    state, records = torch.load(out, weights_only=True)
    return state, untimed([Record(**record) for record in records])


@pytest.fixture
def begun(tmp_path: Path) -> Run:
    return Run.open(tmp_path / "run", toy_training(), checkpoint_every=CHECKPOINT_EVERY)


def take(records: Iterator[Record], count: int) -> list[Record]:
    return [record for _, record in zip(range(count), records, strict=False)]


def rows(folder: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / JOURNAL)) as connection:
        return connection.execute(query).fetchall()


# --- killed ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "number", "resumed_from"),
    [
        ("record", 1, 0),
        ("record", 7, 0),
        ("record", 10, 10),
        ("record", 23, 20),
        ("record", 42, 40),
        ("in a step", 30, 10),
        ("in a half-written checkpoint", 3, 10),
        ("before a rename", 3, 10),  # two renames a checkpoint: the third is the second's first
        ("after a rename", 3, 10),  # no newest checkpoint at all
        ("after a rename", 4, 20),
        ("before a commit", 17, 10),
    ],
)
def test_killed_and_resumed_run_ends_like_an_undisturbed_one(
    tmp_path: Path,
    end: End,
    place: str,
    number: int,
    resumed_from: int,
) -> None:
    folder, out = tmp_path / "run", tmp_path / "end.pt"
    assert finish(start(runners.begin, folder, place, number)) == -9
    before = read_journal(folder)

    assert finish(start(runners.resume, folder, out)) == 0

    state, records = end
    assert_equal(torch.load(out, weights_only=True), state)
    assert untimed(read_journal(folder)) == records
    assert rows(folder, "SELECT step FROM session ORDER BY id") == [(0,), (resumed_from,)]
    superseded = rows(folder, "SELECT step FROM superseded WHERE before_session = 2 ORDER BY step")
    assert superseded == [(record.step,) for record in before[resumed_from:]]
    assert untimed(before) == records[: len(before)]
    assert sorted(path.name for path in folder.iterdir()) == [PREVIOUS, NEWEST, JOURNAL, run.LOCK]


def test_run_killed_from_outside_at_any_time_ends_like_an_undisturbed_one(
    tmp_path: Path, end: End
) -> None:
    folder, out = tmp_path / "run", tmp_path / "end.pt"
    for reached in (3, 16, 24):
        process = start(runners.dawdle, folder, 0.01)
        while not (folder / JOURNAL).exists() or len(read_when_made(folder)) < reached:
            assert process.is_alive()
            time.sleep(0.005)
        process.kill()
        assert finish(process) == -9

    assert finish(start(runners.resume, folder, out)) == 0

    assert_equal(torch.load(out, weights_only=True), end[0])
    assert untimed(read_journal(folder)) == end[1]
    assert len(rows(folder, "SELECT * FROM session")) == 4


def read_when_made(folder: Path) -> list[Record]:
    try:
        return read_journal(folder)
    except RunError:  # between the making of the file and of its contents
        return []


def test_a_run_killed_while_it_was_made_can_be_made_anew(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / JOURNAL).touch()
    with pytest.raises(RunError, match="begin it anew"):
        read_journal(folder)
    Run.open(folder, toy_training())
    assert Run.open(folder, toy_training()).training.step == 0


# --- stopped --------------------------------------------------------------------------------------


def test_run_trains_as_fit_does(begun: Run, end: End) -> None:
    records = list(begun.records())
    assert untimed(records) == end[1]
    assert records == read_journal(begun.folder)
    assert_equal(lasting(begun.training), end[0])


def test_finished_run_can_be_looked_at_again(begun: Run) -> None:
    list(begun.records())
    again = Run.open(begun.folder, toy_training(born=5))
    assert list(again.records()) == []
    assert_equal(lasting(again.training), lasting(begun.training))
    assert len(read_journal(begun.folder)) == STEPS


@pytest.mark.parametrize("count", [1, 13, CHECKPOINT_EVERY])
def test_stopped_and_resumed_run_ends_like_an_undisturbed_one(
    begun: Run, end: End, count: int
) -> None:
    records = begun.records()
    take(records, count)
    records.close()
    assert len(read_journal(begun.folder)) == count

    resumed = Run.open(begun.folder, toy_training(born=5))
    assert resumed.training.step == count
    list(resumed.records())

    assert_equal(lasting(resumed.training), end[0])
    assert untimed(read_journal(begun.folder)) == end[1]
    assert rows(begun.folder, "SELECT * FROM superseded") == []


def test_what_a_training_notes_stands_in_the_journal_once(begun: Run) -> None:
    records = begun.records()
    take(records, 3)
    begun.training.scale_rate(0.5)
    take(records, 1)
    records.close()
    resumed = Run.open(begun.folder, begun.training)
    resumed.training.note("the twin of physical layer 1 was refitted")
    rates = [record.learning_rate for record in resumed.records()]
    assert rates[0] == 0.5 * resumed.training.settings.rate(4, STEPS)
    first, second = read_run(begun.folder).events
    assert (first.session, first.step) == (1, 3)
    assert first.message.startswith("learning rate × 0.5")
    assert (second.session, second.step) == (2, 4)
    assert second.message == "the twin of physical layer 1 was refitted"


def test_stopped_run_goes_on_in_place(begun: Run, end: End) -> None:
    for count in (5, 12):
        for record in begun.records():
            if record.step == count:
                break
    list(begun.records())
    assert_equal(lasting(begun.training), end[0])
    assert untimed(read_journal(begun.folder)) == end[1]


class Interrupted(BaseException):
    """As a KeyboardInterrupt, but not one that could end the test session."""


@pytest.mark.parametrize("where", ["here", "elsewhere"])
@pytest.mark.parametrize("moment", ["forward", "half of the weights", "weights", "evaluation"])
def test_step_cut_short_is_taken_again(
    begun: Run, end: End, moment: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = begun.training
    records = begun.records()
    assert take(records, 16)[-1].device_metric is None  # the evaluation is in the next step

    def cut(*arguments: object) -> None:
        raise Interrupted

    def tear() -> None:
        with torch.no_grad():
            next(training.network.parameters()).add_(1.0)
        raise Interrupted

    with monkeypatch.context() as patch:
        if moment == "forward":
            patch.setattr("pnnlab.training.methods.range_penalty", cut)
        elif moment == "half of the weights":
            patch.setattr(training.optimizer, "step", tear)
        elif moment == "weights":
            patch.setattr(training, "_note_problems", cut)
        else:
            patch.setattr("pnnlab.training.evaluation.on_twin", cut)
        with pytest.raises(Interrupted):
            next(records)
    assert training.step == 16

    going_on = begun if where == "here" else Run.open(begun.folder, toy_training(born=5))
    assert going_on.training.step == 16
    list(going_on.records())
    assert_equal(lasting(going_on.training), end[0])
    assert untimed(read_journal(begun.folder)) == end[1]


def test_diverged_training_is_kept_as_it_was_before(begun: Run) -> None:
    records = begun.records()
    take(records, 3)
    with torch.no_grad():
        list(begun.training.network.parameters())[-1].fill_(float("inf"))
    with pytest.raises(TrainingError):
        next(records)
    assert len(read_journal(begun.folder)) == 3
    assert Run.open(begun.folder, toy_training()).training.step == 3


def test_checkpoints_come_by_steps_and_by_the_clock(
    begun: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = begun.folder / NEWEST
    seen = []
    for record in begun.records():
        seen.append((record.step, newest.stat().st_mtime_ns))
        if record.step == 34:
            monkeypatch.setattr(run, "CHECKPOINT_SECONDS", 0.0)
    written = [step for (_, before), (step, now) in pairwise(seen) if now > before]
    assert written == [10, 20, 30, *range(35, 43)]


def test_journal_can_be_read_while_the_run_goes_on(
    begun: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "COMMIT_SECONDS", 0.0)
    for record in begun.records():
        assert read_journal(begun.folder, after=record.step - 1) == [record]
        assert begun._pending == []  # what has been written is not kept in memory


# --- two at once ----------------------------------------------------------------------------------


def test_a_folder_is_iterated_by_one_run_alone(begun: Run, tmp_path: Path) -> None:
    records = begun.records()
    next(records)
    with pytest.raises(RunError, match="being iterated already"):
        next(begun.records())
    with pytest.raises(RunError, match="going on elsewhere"):
        Run.open(begun.folder, toy_training())
    assert finish(start(runners.resume, begun.folder, tmp_path / "end.pt")) == 1
    assert len(rows(begun.folder, "SELECT * FROM session")) == 1
    assert len(list(records)) == STEPS - 1


def test_whoever_resumed_last_owns_the_run(begun: Run) -> None:
    next(begun.records())
    later = Run.open(begun.folder, toy_training())
    for act in (begun.checkpoint, lambda: next(begun.records())):
        with pytest.raises(RunError, match="resumed elsewhere"):
            act()
    assert len(list(later.records())) == STEPS - 1


# --- no space, no folder --------------------------------------------------------------------------


def test_full_disk_at_a_checkpoint_loses_nothing(begun: Run, end: End) -> None:
    records = begun.records()
    take(records, 12)
    with full_disk(), pytest.raises(RunError, match=r"No space left .* in memory at step 20"):
        take(records, STEPS)
    assert not aside(begun.folder / NEWEST).exists()
    assert checkpointed_step(begun) == 10

    begun.checkpoint()
    assert checkpointed_step(begun) == 20
    list(begun.records())
    assert_equal(lasting(begun.training), end[0])
    assert untimed(read_journal(begun.folder)) == end[1]


def test_full_disk_at_a_record_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "COMMIT_SECONDS", 0.0)
    settings = replace(runners.SETTINGS, evaluations=STEPS)  # long records: they take several pages
    undisturbed = toy_training(settings=settings)
    expected = untimed(list(undisturbed.records()))
    begun = Run.open(tmp_path / "run", toy_training(settings=settings))
    records = begun.records()
    next(records)
    assert begun._journal is not None
    begun._journal.execute("PRAGMA max_page_count = 1")  # not one page more
    with pytest.raises(RunError, match="database or disk is full"):
        take(records, STEPS)
    step = begun.training.step
    assert 1 < step < STEPS
    assert len(read_journal(begun.folder)) == step - 1

    begun.checkpoint()
    assert len(read_journal(begun.folder)) == step
    list(begun.records())
    assert_equal(lasting(begun.training), lasting(undisturbed))
    assert untimed(read_journal(begun.folder)) == expected


def test_full_disk_when_a_run_is_made(tmp_path: Path) -> None:
    with full_disk(), pytest.raises(RunError, match=r"No space left .* the disk has space"):
        Run.open(tmp_path, toy_training())
    assert Run.open(tmp_path, toy_training()).training.step == 0  # there is space again


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="choose another folder"):
        Run.open(tmp_path / "file" / "run", toy_training())


def test_folder_that_vanishes(begun: Run) -> None:
    records = begun.records()
    take(records, 3)
    shutil.rmtree(begun.folder)
    with pytest.raises(RunError, match=r"cannot be written .* intact in memory at step 10"):
        take(records, STEPS)
    with pytest.raises(RunError, match="is gone"):
        begun.checkpoint()
    assert begun.training.step == 10


# --- what can be kept -----------------------------------------------------------------------------


class Counting(Toy):
    """A toy whose state has NumPy's numbers, tensors and lists in it, as a user may write it."""

    def state(self) -> State:
        return {
            **super().state(),
            "gain": np.float32(1.5),
            "dead": [np.int64(3), (np.bool_(False), np.array(2.5))],
            "map": {"offsets": torch.arange(3.0), np.str_("name"): np.str_("toy")},
            "times": np.arange(2)[1],
        }

    def restore(self, state: State) -> None:
        super().restore(state)
        self.restored = {key: state[key] for key in ("gain", "dead", "map", "times")}


def counted_training(system: PhysicalSystem, **settings: Any) -> Training:
    layer = PhysicalLayer(system, ToyTwin(), physics_aware)
    split = toy_training().train
    chosen = FitSettings(**{"epochs": 2, "batch_size": 56} | settings)
    task = SimpleNamespace(train=split, validation=split)
    return Training(nn.Sequential(layer, nn.Linear(6, 3)), task, chosen)


def test_numbers_of_numpy_are_kept_and_read_again(tmp_path: Path) -> None:
    settings = {
        "learning_rate": np.logspace(-3, -1, 3)[1],
        "epochs": np.int64(2),
        "batch_size": np.array(28),
        "seed": np.arange(5)[4],
        "warmup": torch.tensor(0.25),
    }
    begun = Run.open(
        tmp_path, counted_training(Counting(), **settings), checkpoint_every=np.int8(1)
    )  # type: ignore[arg-type]
    records = begun.records()
    take(records, 3)
    begun.training.scale_rate(np.float64(0.5))
    take(records, 2)
    records.close()
    system = Counting(seed=9)
    resumed = Run.open(tmp_path, counted_training(system, **settings))
    assert resumed.training.step == 5
    assert_equal(lasting(resumed.training), lasting(begun.training))
    assert_equal(
        system.restored,
        {
            "gain": 1.5,
            "dead": [3, (False, 2.5)],
            "map": {"offsets": torch.arange(3.0), "name": "toy"},
            "times": 1,
        },
    )
    assert len(list(resumed.records())) == 3


class Schedule(FitSettings):
    """A user's own, in NumPy."""

    def rate(self, step: int, steps: int) -> float:
        return np.float64(0.01) * np.cos(step / steps)  # type: ignore[no-any-return]


def test_a_schedule_in_numpy_is_kept_and_read_again(tmp_path: Path) -> None:
    training = counted_training(Toy())
    training.settings = Schedule(epochs=2, batch_size=56)
    list(Run.open(tmp_path, training).records())
    assert Run.open(tmp_path, training).training.step == 4


@pytest.mark.parametrize("number", [*np.arange(2)[1:], *np.uint8([1]), torch.tensor(1)])
def test_a_unit_of_numpy_is_kept_and_read_again(tmp_path: Path, number: Any) -> None:
    def made(unit: Any) -> Training:
        circuit = Circuit(unit, input_dim=6, replays=3, output_dim=6)
        return counted_training(circuit, epochs=1, batch_size=112)

    list(Run.open(tmp_path, made(number)).records())
    assert Run.open(tmp_path, made(1)).training.step == 1


class Hoarding(Toy):
    """A toy that will not say when its state becomes something that cannot be kept."""

    hoard: Any = 0

    def state(self) -> State:
        return {**super().state(), "hoard": {"it": [self.hoard]}}

    def restore(self, state: State) -> None:
        super().restore(state)


@pytest.mark.parametrize("hoard", [np.zeros(2), lambda: 0, {1}.__iter__(), Path("x"), Record])
def test_what_cannot_be_kept_is_said_before_a_step_is_taken(tmp_path: Path, hoard: Any) -> None:
    system = Hoarding()
    system.hoard = hoard
    with pytest.raises(RunError, match=r"\['systems'\]\[0\]\['hoard'\]\['it'\]\[0\] is a "):
        Run.open(tmp_path, counted_training(system))
    assert system.passes == 0
    system.hoard = 1
    assert len(list(Run.open(tmp_path, counted_training(system)).records())) == 4


def test_what_cannot_be_read_never_takes_the_place_of_what_can(tmp_path: Path) -> None:
    system = Hoarding()
    begun = Run.open(tmp_path, counted_training(system), checkpoint_every=1)
    records = begun.records()
    next(records)
    kept = {path.name: path.read_bytes() for path in tmp_path.glob("checkpoint*")}
    system.hoard = np.zeros(2)
    with pytest.raises(RunError, match=r"\['it'\]\[0\] is a numpy\.ndarray"):
        next(records)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("checkpoint*")} == kept
    assert Run.open(tmp_path, counted_training(Hoarding())).training.step == 1
    system.hoard = 2
    again = Run.open(tmp_path, counted_training(system))
    assert len(list(again.records())) == 3


def test_what_a_killed_process_left_half_written_goes(begun: Run) -> None:
    left = begun.folder / f".{NEWEST}.1.part"
    left.write_bytes(b"half of a checkpoint")
    Run.open(begun.folder, begun.training)
    assert not left.exists()


def test_a_disk_that_does_not_keep_what_it_was_given_is_noticed(
    begun: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = (begun.folder / NEWEST).read_bytes()

    def forgetful(descriptor: int) -> None:
        os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)

    monkeypatch.setattr(os, "fsync", forgetful)
    with pytest.raises(RunError, match="the disk has not kept what was written"):
        begun.checkpoint()
    assert (begun.folder / NEWEST).read_bytes() == kept
    assert not aside(begun.folder / NEWEST).exists()


# --- named after its parameters -------------------------------------------------------------------


def test_a_run_is_begun_and_gone_on_with_by_the_same_call(tmp_path: Path, end: End) -> None:
    first = Run.open(tmp_path, toy_training(), description="it", checkpoint_every=CHECKPOINT_EVERY)
    assert first.checkpoint_every == CHECKPOINT_EVERY
    records = first.records()
    take(records, 5)
    records.close()
    second = Run.open(tmp_path, toy_training(born=5))
    assert second.training.step == 5
    list(second.records())
    assert_equal(lasting(second.training), end[0])
    assert list_runs(tmp_path)[0].description == "it"


def test_what_was_killed_while_it_was_made_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / JOURNAL).touch()
    assert Run.open(tmp_path, toy_training()).training.step == 0


def test_every_parameter_has_its_own_run(tmp_path: Path) -> None:
    these = {"method": "in silico", "tolerance": np.float64(0.1), "unit": np.int64(0), "seed": 0}

    def opened(**changed: Any) -> Run:
        return Run.open(tmp_path, toy_training(), parameters=these | changed)

    first = opened()
    assert first.folder == tmp_path / "in-silico-tolerance-0.1-unit-0-seed-0"
    take(first.records(), 3)
    for name, other in {"method": "PAT", "tolerance": 0.05, "unit": 1, "seed": 1}.items():
        run = opened(**{name: other})
        assert (run.folder != first.folder, run.training.step) == (True, 0)
    assert opened(unit=0).training.step == 3
    assert {info.description for info in list_runs(tmp_path)} == {
        path.name for path in tmp_path.iterdir()
    }
    address = Run.open(
        tmp_path, toy_training(), parameters={"at": "TCPIP::10.0.0.7::5025", "s": -1e-7}
    )
    assert address.folder.name == "TCPIP-10.0.0.7-5025-s--1e-07"


def test_a_run_of_other_parameters_is_not_gone_on_with(tmp_path: Path) -> None:
    these = {"method": "PAT", "unit": 0}
    folder = Run.open(tmp_path, toy_training(), parameters=these).folder

    def named_alike(parameters: dict[str, Any]) -> None:
        folder.rename(run_folder(tmp_path, parameters))
        try:
            Run.open(tmp_path, toy_training(), parameters=parameters)
        finally:
            run_folder(tmp_path, parameters).rename(folder)

    with pytest.raises(RunError, match=r"another training .*parameters unit: 0 then, 1 now"):
        named_alike(these | {"unit": 1})
    with pytest.raises(RunError, match="parameters rest: absent then, 2 now"):
        named_alike(these | {"rest": 2})
    with pytest.raises(RunError, match=r"parameters method: PAT then, absent now"):
        Run.open(tmp_path, toy_training(), parameters={"": "PAT-unit-0"})  # of the same name
    assert Run.open(folder, toy_training()).training.step == 0
    folder = Run.open(tmp_path / "without", toy_training()).folder
    with pytest.raises(RunError, match="parameters unit: absent then, 0 now"):
        named_alike({"unit": 0})


# --- the wrong run --------------------------------------------------------------------------------


def test_checkpoints_need_a_distance(tmp_path: Path) -> None:
    with pytest.raises(RangeError, match="checkpoint_every"):
        Run.open(tmp_path / "run", toy_training(), checkpoint_every=0)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"settings": replace(runners.SETTINGS, learning_rate=0.02)},
            r"settings learning_rate: 0\.01 then, 0\.02 now",
        ),
        ({"width": 7}, r"tensors 0\.theta: float32\[36\] then, float32\[42\] now; .* and \d+ more"),
        ({"rule": in_silico}, "rules 0: physics_aware then, in_silico now"),
        ({"data": 8}, r"train digest: \w+ then, \w+ now"),
    ],
)
def test_another_training_is_not_resumed(begun: Run, changed: dict[str, Any], said: str) -> None:
    take(begun.records(), 12)
    other = toy_training(born=5, **changed)
    before = copy.deepcopy(lasting(other))
    with pytest.raises(RunError, match=said):
        Run.open(begun.folder, other)
    assert_equal(lasting(other), before)
    assert Run.open(begun.folder, toy_training()).training.step == 12


def test_checkpoint_of_another_run_is_not_resumed(begun: Run, tmp_path: Path) -> None:
    other = Run.open(tmp_path / "other", toy_training(settings=FitSettings(epochs=1)))
    (other.folder / NEWEST).replace(begun.folder / NEWEST)
    with pytest.raises(RunError, match=r"belongs to another run \(settings epochs: 1 then, 6 now"):
        Run.open(begun.folder, toy_training())


# --- a damaged run --------------------------------------------------------------------------------


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def test_damaged_checkpoint_gives_way_to_the_previous_one(begun: Run, end: End) -> None:
    records = begun.records()
    take(records, 25)
    del records  # stopped: the newest checkpoint is of step 25, the previous one of step 20
    cut_short(begun.folder / NEWEST)

    training = toy_training(born=5)
    with pytest.warns(RuntimeWarning, match=r"cut short.*checkpoint\.previous\.pt.* step 20"):
        resumed = Run.open(begun.folder, training)
    assert training.step == 20
    ((session, step, message),) = rows(begun.folder, "SELECT session, step, message FROM event")
    assert (session, step) == (2, 20)
    assert "cut short" in message
    assert (begun.folder / DAMAGED).exists()

    with closing(resumed.records()) as goes_on:
        next(goes_on)
    cut_short(begun.folder / NEWEST)  # the previous one must be whole still
    training = toy_training(born=5)
    with pytest.warns(RuntimeWarning, match="step 20"):
        resumed = Run.open(begun.folder, training)
    list(resumed.records())
    assert_equal(lasting(training), end[0])
    assert untimed(read_journal(begun.folder)) == end[1]
    assert len(rows(begun.folder, "SELECT * FROM superseded")) == 5 + 1


def test_no_whole_checkpoint(begun: Run) -> None:
    take(begun.records(), 12)
    cut_short(begun.folder / NEWEST)
    (begun.folder / PREVIOUS).write_bytes(b"noise")
    with pytest.raises(RunError, match=r"cannot be resumed: .*checkpoint\.pt has no checksum"):
        Run.open(begun.folder, toy_training())
    assert len(read_journal(begun.folder)) == 12


def test_damaged_journal(begun: Run) -> None:
    (begun.folder / JOURNAL).write_bytes(b"noise" * 2000)
    with pytest.raises(RunError, match=r"journal\.sqlite cannot be read .*file is not a database"):
        Run.open(begun.folder, toy_training())


# --- provenance -----------------------------------------------------------------------------------


def test_run_and_each_session_tell_where_they_come_from(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    Run.open(folder, toy_training(), description="two toys")
    Run.open(folder, toy_training())
    with reading(folder) as (journal, row):
        sessions = journal.sessions()
    assert row["description"] == "two toys"
    assert "PhysicalLayer" in row["network"]
    assert row["identity"]["settings"]["epochs"] == runners.SETTINGS.epochs
    assert [session["id"] for session in sessions] == [1, 2]
    assert all(session["provenance"]["torch"] == torch.__version__ for session in sessions)
    assert all(session["began"] >= row["began"] for session in sessions)


def checkpointed_step(begun: Run) -> int:
    with reading(begun.folder) as (_, row):
        state = load_checkpoint(begun.folder / NEWEST, row["id"], row["identity"])
    step: int = state["step"]
    return step
