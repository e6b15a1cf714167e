"""Damaged, edited and hostile files are refused, and files that a kill left are not."""

import sqlite3
import time
import tracemalloc
from contextlib import closing
from pathlib import Path

import h5netcdf
import pytest
import runners
import torch
from damaging import KINDS, Made, journal, look_at_journal
from hypothesis import example, given, settings
from hypothesis import strategies as st
from runners import finish, start, toy_training
from toy import Toy

from pnnlab import characterize, twins
from pnnlab.errors import DataError, RunError, TwinError
from pnnlab.instruments.recording import Recorder, Replay
from pnnlab.runs import Run, list_runs, read_journal
from pnnlab.runs.journal import JOURNAL
from pnnlab.runs.run import LOCK
from pnnlab.storage import Kind


@pytest.fixture(scope="module", params=KINDS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(request.param, tmp_path_factory.mktemp(request.param))


@settings(deadline=None, max_examples=50)
@example(place=3644, bit=0)  # of the schema: the key of the records
@given(place=st.integers(0, 2**24), bit=st.integers(0, 7))
def test_a_flipped_bit_is_refused_or_is_of_no_account(made: Made, place: int, bit: int) -> None:
    assert made.flipped(place, bit) in ("refused", "equal")


def test_a_flipped_bit_where_data_stand_is_refused(made: Made) -> None:
    at = {"journal.sqlite": b"two toys", "bench.sqlite": b"volt"}.get(made.path.name)
    place = made.whole.index(at) if at else len(made.whole) // 2
    assert [made.flipped(place, bit) for bit in range(8)] == ["refused"] * 8


# --- edited ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "edit",
    [
        "UPDATE record SET loss = 0 WHERE step = 20",
        "UPDATE record SET step = 1000000000 WHERE step = 42",
        "UPDATE record SET gap = '[0.1, ' WHERE step = 20",
        "DELETE FROM record WHERE step = 20",
        "DELETE FROM record WHERE step > 40",
        "UPDATE run SET identity = '{'",
        "UPDATE session SET provenance = NULL",
        "DELETE FROM event",
    ],
)
def test_an_edited_journal_is_refused_and_hides_no_other(tmp_path: Path, edit: str) -> None:
    for name in ("edited", "other"):
        (tmp_path / name).mkdir()
        journal(tmp_path / name)
    with closing(sqlite3.connect(tmp_path / "edited" / JOURNAL)) as file, file:
        file.execute(edit)
    with pytest.raises(RunError, match=r"damaged or edited, and is not used: .* Use a copy"):
        look_at_journal(tmp_path / "edited" / JOURNAL)
    found = {run.folder.name: run for run in list_runs(tmp_path)}
    good, bad = found["other"], found["edited"]
    assert (good.step, good.problem) == (runners.STEPS, "")
    assert "damaged or edited" in bad.problem or "WHERE step = 20" in edit


def test_files_of_the_formats_before_are_named(tmp_path: Path) -> None:
    for path, table in ((tmp_path / JOURNAL, "run"), (tmp_path / "bench.sqlite", "recording")):
        with closing(sqlite3.connect(path)) as file, file:
            file.execute(f"CREATE TABLE {table} (format INTEGER, began TEXT)")
            file.execute(f"INSERT INTO {table} VALUES (1, '2026')")
    with pytest.raises(RunError, match="has format 1 and this pnnlab reads 3: open it with the"):
        Run.open(tmp_path, toy_training())
    assert "has format 1" in list_runs(tmp_path)[0].problem
    with pytest.raises(DataError, match="has format 1 and this pnnlab reads 2"):
        Replay(tmp_path / "bench.sqlite")
    with pytest.raises(DataError, match="has format 1 and this pnnlab reads 2"):
        Recorder(Toy(), tmp_path / "bench.sqlite")
    torch.save({"pnnlab_twin": 1}, tmp_path / "twin.pt")
    with pytest.raises(TwinError, match="of a format before twin 2"):
        twins.load(tmp_path / "twin.pt")


def test_a_data_set_that_claims_more_than_it_holds_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "large.nc"
    with h5netcdf.File(path, "w") as file:
        file.dimensions = {"shot": 40_000_000_000}
        for name in ("shot", "y"):
            file.create_variable(name, ("shot",), "f4", chunks=(1000,))
    content = path.read_bytes()
    Kind(name="dataset", format=2, error=DataError, remedy="").write(path, content)
    tracemalloc.start()
    with pytest.raises(DataError, match="its header claims 320000000000 bytes"):
        characterize.load(path)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


# --- links ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [JOURNAL, f"{JOURNAL}-wal", "checkpoint.pt", LOCK])
def test_a_link_in_a_run_folder_is_not_followed(tmp_path: Path, name: str) -> None:
    run, victim = Run.open(tmp_path / "run", toy_training()), tmp_path / "victim"
    path = run.folder / name
    if path.exists():
        path.rename(victim)
    before = victim.read_bytes() if victim.exists() else None
    path.symlink_to(victim)
    for use in (
        lambda: Run.open(run.folder, toy_training()),
        lambda: next(run.records()),
        lambda: read_journal(run.folder),
    ):
        with pytest.raises(RunError, match="is a symbolic link, which is not followed"):
            use()
    assert "symbolic link" in list_runs(tmp_path)[0].problem
    assert (victim.read_bytes() if victim.exists() else None) == before


# --- killed ---------------------------------------------------------------------------------------


def test_who_reads_while_a_run_is_written_and_killed_sees_no_damage(tmp_path: Path) -> None:
    folder, looks = tmp_path / "run", 0
    for reached in (5, 15, 30):
        process = start(runners.dawdle, folder, 0.002)
        seen = 0
        while seen < reached:
            assert process.is_alive()
            infos = list_runs(tmp_path)
            for info in infos:
                assert "damaged" not in info.problem
                if not info.problem:
                    looks += 1
                    seen = len(read_journal(folder))
            time.sleep(0.001)
        process.kill()
        assert finish(process) == -9
        assert len(read_journal(folder)) >= seen
    assert looks > 10


def test_a_journal_without_its_log_does_not_go_on_behind_its_checkpoint(tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    copied.mkdir()
    run = Run.open(tmp_path / "run", toy_training(), checkpoint_every=10)
    for record in run.records():
        if record.step == 15:
            for name in (JOURNAL, "checkpoint.pt"):
                (copied / name).write_bytes((run.folder / name).read_bytes())
            break
    with pytest.raises(RunError, match=r"ends at step 0, before the checkpoint of step 10: .*-wal"):
        Run.open(copied, toy_training())
