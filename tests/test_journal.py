"""The journal: what goes in comes out, for pnnlab, the sqlite3 shell and xarray."""

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
import xarray as xr
from runners import STEPS, full_disk, toy_training
from torch import nn

from pnnlab.errors import RunError
from pnnlab.runs import Run, RunInfo, export, list_runs, read_journal
from pnnlab.runs.archive import EXPORT
from pnnlab.runs.journal import JOURNAL, Journal
from pnnlab.storage import aside
from pnnlab.training import FitSettings, Record, Training

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
    for look in (read_journal, export):
        with pytest.raises(RunError, match="there is no run in"):
            look(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_journal_of_another_version(finished: Path) -> None:
    with closing(Journal(finished)) as journal:
        journal.execute("UPDATE run SET format = 99")
    with pytest.raises(RunError, match=r"format 99 .* with the version that wrote it"):
        read_journal(finished)


def test_export_is_labelled_and_complete(finished: Path) -> None:
    path = export(finished)
    assert path == finished / EXPORT
    records = read_journal(finished)
    with xr.open_dataset(path, engine="h5netcdf") as dataset:
        assert dict(dataset.sizes) == {"step": STEPS, "layer": 2}
        assert dataset["loss"].values.tolist() == [record.loss for record in records]
        assert dataset["clamped"].values.tolist() == [list(record.clamped) for record in records]
        evaluated = dataset.dropna("step", subset=["gap"])
        assert evaluated["step"].values.tolist() == [
            record.step for record in records if record.gap is not None
        ]
        assert all("long_name" in dataset[name].attrs for name in dataset.variables)
        assert dataset["seconds"].attrs["units"] == "s"
        assert dataset.attrs["title"] == "two toys"
        (session,) = json.loads(dataset.attrs["sessions"])
    assert session["provenance"]["pnnlab"]


def test_export_of_a_run_without_layers_or_steps(tmp_path: Path) -> None:
    data = toy_training()
    digital = Training(nn.Linear(6, 3), data, FitSettings(epochs=1))
    run = Run.open(tmp_path / "run", digital)
    with xr.open_dataset(export(run.folder), engine="h5netcdf") as dataset:
        assert dict(dataset.sizes) == {"step": 0, "layer": 0}
    for _ in run.records():
        pass
    with xr.open_dataset(export(run.folder), engine="h5netcdf") as dataset:
        assert bool(dataset["device_metric"].isel(step=-1).notnull())
        assert bool(dataset["twin_metric"].isnull().all())


def test_export_on_a_full_disk_leaves_the_old_one(finished: Path) -> None:
    before = export(finished).read_bytes()
    with (
        full_disk(),
        pytest.raises(RunError, match=r"No space left .* nothing is lost"),
    ):
        export(finished)
    assert (finished / EXPORT).read_bytes() == before
    assert not aside(finished / EXPORT).exists()


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
