"""The journal of a run: an SQLite file that outlives a killed process and opens in any shell.

Tables: ``run`` (one row), ``session`` (one row each time the run was begun or resumed), ``record``
(one row a training step), ``superseded`` (rows that a resumed run measured again), ``event``.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeAlias, final

from pnnlab.errors import RunError
from pnnlab.plain import whole
from pnnlab.provenance import provenance, utc_now
from pnnlab.storage import Database, user_path
from pnnlab.training import Labels, Record

Row: TypeAlias = dict[str, Any]

JOURNAL = "journal.sqlite"
COLUMNS = sorted((one.name for one in fields(Record)), key=lambda name: name != "step")
_OTHERS = ", ".join(COLUMNS[1:])


class EventRow(NamedTuple):
    """Something that a person should know later of a run; the time is UTC, ISO 8601."""

    session: int
    time: str
    step: int
    message: str


@final
class Journal(Database):
    """The open journal in a run folder."""

    format = 3
    error = RunError
    synchronous = "FULL"
    tables: ClassVar = {
        "run": "began, description, network, checkpoint_every, identity, id, format",
        "session": "id INTEGER PRIMARY KEY, began, step, process, provenance",
        "record": f"step INTEGER PRIMARY KEY, {_OTHERS}",
        "superseded": f"before_session, step, {_OTHERS}",  # with the checksums of before
        "event": "session, time, step, message",
    }

    def __init__(self, folder: Path, *, create: bool = False) -> None:
        no_links(folder)
        super().__init__(folder / JOURNAL, create=create)
        # The row of the run, or None if its creation was cut short.
        self.row: Row | None = None
        if self.about is not None:
            self.row = self.about | {"identity": json.loads(self.about["identity"])}

    def begin_session(self, step: int) -> int:
        """Begin a session of this process at ``step``, and move later records aside."""
        session = len(self.sessions()) + 1
        self.add("session", [(utc_now(), step, os.getpid(), json.dumps(provenance()))])
        names = ", ".join([*COLUMNS, "checksum"])
        self.execute(
            f"INSERT INTO superseded (before_session, {names})"
            f" SELECT ?, {names} FROM record WHERE step > ?",
            (session, step),
        )
        self.execute("DELETE FROM record WHERE step > ?", (step,))
        return session

    def sessions(self) -> list[Row]:
        """All sessions, oldest first."""
        return [
            {"id": row.pop("number"), **row, "provenance": json.loads(row["provenance"])}
            for row in self.read("session")
        ]

    def reached(self) -> int:
        """The last step of all sessions."""
        steps = "SELECT step FROM record UNION ALL SELECT step FROM session"
        (step,) = self.execute(f"SELECT MAX(step) FROM ({steps})").fetchone()
        return int(step)

    def note(self, session: int, step: int, message: str) -> None:
        self.add("event", [(session, utc_now(), step, message)])

    def write(self, records: Sequence[Record]) -> None:
        """Add records, replacing those of the same step."""
        rows = ([_cell(getattr(record, name)) for name in COLUMNS] for record in records)
        self.add("record", rows)

    def records(self, after: int = 0, order: str = "ASC") -> Iterator[Record]:
        """The records of the steps beyond ``after``, in order."""
        # One more is read, so that none is missing behind it; by rowid, which no schema renames.
        for row in self.read("record", f"WHERE rowid >= ? ORDER BY rowid {order}", after):
            if row["step"] > after:
                yield Record(**{name: _value(row[name]) for name in COLUMNS})


def no_links(folder: Path) -> None:
    """Refuse symbolic links in place of a run's own files: they may lead anywhere."""
    for path in folder.glob("*"):
        if path.name.startswith(("journal.", "checkpoint.", "run.lock")) and path.is_symlink():
            raise RunError(
                f"{path} is a symbolic link, which is not followed: put the file itself there."
            )


@contextmanager
def reading(folder: Path) -> Iterator[tuple[Journal, Row]]:
    """Open the journal of an existing run, and read the row of the run."""
    if not (folder / JOURNAL).is_file():
        raise RunError(f"there is no run in {folder}: begin one there with Run.open.")
    with Journal.explained(folder / JOURNAL), closing(Journal(folder)) as journal:
        if journal.row is None:
            raise RunError(
                f"the run in {folder} was killed while it was made, before its first step: begin "
                "it anew with Run.open."
            )
        yield journal, journal.row


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """A run at a glance."""

    folder: Path
    description: str = ""
    began: str = ""  # UTC, ISO 8601
    step: int = 0  # in the journal; 0 where no step has been taken
    steps: int = 0  # of the whole run
    device_metric: float | None = None  # of the last evaluation, on the validation split
    labels: Labels = field(default_factory=Labels)  # of the loss and the metric
    provenance: dict[str, Any] = field(default_factory=dict)  # of its beginning
    events: tuple[EventRow, ...] = ()  # changed learning rates, refitted twins, warnings
    problem: str = ""  # why the journal cannot be read


def read_journal(folder: str | Path, after: int = 0) -> list[Record]:
    """Read the records of a run beyond a step, also while it goes on, or raise a `RunError`."""
    with reading(user_path(folder)) as (journal, _):
        return list(journal.records(whole("after", after)))


def read_run(folder: str | Path) -> RunInfo:
    """Read a run at a glance. Errors as of `read_journal`."""
    folder = user_path(folder)
    with reading(folder) as (journal, run):
        last = next(journal.records(order="DESC"), None)
        metrics = (record.device_metric for record in journal.records(order="DESC"))
        labels = {key: text for key, text in run["identity"]["objective"].items() if key != "name"}
        return RunInfo(
            folder=folder,
            description=run["description"],
            began=run["began"],
            step=last.step if last else 0,
            steps=last.steps if last else 0,
            device_metric=next((metric for metric in metrics if metric is not None), None),
            labels=Labels(**labels),
            provenance=journal.sessions()[0]["provenance"],
            events=tuple(EventRow(*list(row.values())[1:]) for row in journal.read("event")),
        )


def list_runs(root: str | Path) -> list[RunInfo]:
    """All runs in ``root`` and the folders below it, newest first, with damaged ones at the end."""
    runs = []
    for journal in sorted(user_path(root).rglob(JOURNAL)):
        try:
            runs.append(read_run(journal.parent))
        except Exception as error:  # noqa: BLE001 - a stranger's file must not hide the others
            strange = f"it is no journal of pnnlab ({error!r})"
            problem = str(error) if isinstance(error, RunError) else strange
            runs.append(RunInfo(folder=journal.parent, problem=problem))
    return sorted(runs, key=lambda run: str(run.began), reverse=True)


def _cell(value: Any) -> Any:
    # NaN as JSON, too: SQLite would make it NULL.
    return json.dumps(value) if isinstance(value, tuple) or value != value else value


def _value(cell: Any) -> Any:
    value = json.loads(cell) if isinstance(cell, str) else cell
    return tuple(value) if isinstance(value, list) else value
