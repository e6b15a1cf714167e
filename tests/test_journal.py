"""The journal: what goes in comes out, for pnnlab and the sqlite3 shell."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from runners import STEPS, toy_training

from pnnlab.errors import RunError
from pnnlab.runs import Run, RunInfo, list_runs, read_journal, read_run
from pnnlab.runs.journal import JOURNAL, Journal
from pnnlab.training import Record

RECORD = Record(
    step=1,
    steps=2,
    epoch=1,
    loss=0.1 + 0.2,
    batch_metric=0.5,
    clamped=(0.0, 1 / 3),
    device_passes=2**40,
    seconds=1e-300,
    seconds_left=float("inf"),
    steps_per_second=3.0,
    learning_rate=0.01,
)


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    run = Run.open(tmp_path / "run", toy_training(), description="two toys")
    for _ in run.records():
        pass
    return run.folder


def test_records_come_back_as_they_were(tmp_path: Path) -> None:
    evaluated = Record(**vars(RECORD) | {"step": 2, "device_loss": 0.25, "gap": (0.1, 0.2)})
    with closing(Journal(tmp_path, create=True)) as journal:
        journal.write([RECORD])
        journal.write([RECORD, evaluated])
        assert list(journal.records()) == [RECORD, evaluated]
        assert list(journal.records(after=1)) == [evaluated]
        assert list(journal.records(order="DESC")) == [evaluated, RECORD]


def test_nan_is_not_absence(tmp_path: Path) -> None:
    nan = float("nan")
    with closing(Journal(tmp_path, create=True)) as journal:
        journal.write([Record(**vars(RECORD) | {"device_loss": nan, "gap": (nan, 1.0)})])
        (record,) = journal.records()
    assert repr(record.device_loss) == "nan"
    assert repr(record.gap) == "(nan, 1.0)"


def test_a_transaction_is_all_or_nothing(tmp_path: Path) -> None:
    def fail(journal: Journal) -> None:
        with journal.transaction():
            journal.write([RECORD])
            raise KeyError

    with closing(Journal(tmp_path, create=True)) as journal:
        with pytest.raises(KeyError):
            fail(journal)
        assert list(journal.records()) == []


def test_any_sqlite_shell_reads_it(finished: Path) -> None:
    with closing(sqlite3.connect(finished / JOURNAL)) as connection:
        (best, gap) = connection.execute(
            "SELECT max(device_metric), json_extract(gap, '$[1]') FROM record"
        ).fetchone()
        (described,) = connection.execute("SELECT identity ->> '$.rules.0' FROM run").fetchone()
    assert 0 <= best <= 1
    assert gap > 0
    assert described == "physics_aware"


def test_readers_leave_no_trace(finished: Path) -> None:
    before = sorted(finished.iterdir())
    assert len(read_journal(finished)) == STEPS
    assert len(read_journal(str(finished), after=STEPS - 2)) == 2
    assert sorted(finished.iterdir()) == before


def test_no_journal(tmp_path: Path) -> None:
    for look in (read_journal, read_run):
        with pytest.raises(RunError, match="there is no run in"):
            look(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_journal_of_another_version(finished: Path) -> None:
    with closing(Journal(finished)) as journal:
        journal.execute("UPDATE run SET format = 99")
    with pytest.raises(RunError, match=r"format 99 .* with the version that wrote it"):
        read_journal(finished)


# --- a list of runs -------------------------------------------------------------------------------


def test_runs_are_listed_newest_first(finished: Path) -> None:
    root = finished.parent
    time.sleep(1.1)  # beginnings are kept to the second
    later = Run.open(root / "deeper" / "later", toy_training(), description="not begun")
    broken = root / "broken"
    broken.mkdir()
    (broken / JOURNAL).write_bytes(b"noise" * 1000)

    newest, older, unreadable = list_runs(root)

    assert newest == RunInfo(
        folder=later.folder,
        description="not begun",
        began=newest.began,
        provenance=newest.provenance,
    )
    assert (older.folder, older.step, older.steps) == (finished, STEPS, STEPS)
    assert older.device_metric == read_journal(finished)[-1].device_metric
    assert unreadable.folder == broken
    assert "not a database" in unreadable.problem


def test_no_runs(tmp_path: Path) -> None:
    assert list_runs(tmp_path) == []
    assert list_runs(tmp_path / "nowhere") == []
