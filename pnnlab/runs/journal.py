"""The journal of a run: an SQLite file that outlives a killed process and opens in any shell.

Tables: ``run`` (one row), ``session`` (one row each time the run was begun or resumed), ``record``
(one row a training step), ``superseded`` (rows that a resumed run measured again), ``event``.
"""

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pnnlab.errors import RunError
from pnnlab.provenance import utc_now
from pnnlab.storage import Database, insert, transaction, writable
from pnnlab.training import Record

JOURNAL = "journal.sqlite"
COLUMNS = tuple(field.name for field in fields(Record))

_RECORD = ", ".join(column for column in COLUMNS if column != "step")
_DATABASE = Database(
    table="run",
    format=2,
    error=RunError,
    synchronous="FULL",
    schema=f"""
CREATE TABLE IF NOT EXISTS run (
    id TEXT, format INTEGER, began TEXT, description TEXT, network TEXT,
    checkpoint_every INTEGER, identity TEXT
);
CREATE TABLE IF NOT EXISTS session (
    id INTEGER PRIMARY KEY, began TEXT, step INTEGER, process INTEGER, provenance TEXT
);
CREATE TABLE IF NOT EXISTS record (step INTEGER PRIMARY KEY, {_RECORD});
CREATE TABLE IF NOT EXISTS superseded (before_session INTEGER, step INTEGER, {_RECORD});
CREATE TABLE IF NOT EXISTS event (session INTEGER, time TEXT, step INTEGER, message TEXT);
""",
)


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """What the journal says of its run as a whole.

    Attributes
    ----------
    id : str
        Unique; the checkpoints of the run carry it too.
    began : str
        UTC, ISO 8601.
    network : str
        The network as torch prints it.
    identity : dict
        See `pnnlab.runs.identity.identity`.
    """

    id: str
    began: str
    description: str
    network: str
    checkpoint_every: int
    identity: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class SessionRow:
    """One time that the run was begun or resumed, at a step, by a process."""

    id: int
    began: str
    step: int
    process: int
    provenance: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class EventRow:
    """Something that a person should know later of a run.

    Attributes
    ----------
    session : int
    time : str
        UTC, ISO 8601.
    step : int
        After which it happened.
    """

    session: int
    time: str
    step: int
    message: str


class NoRunError(RunError):
    """A folder holds no run, or none that has begun."""


class Journal:
    """An open journal. Whoever opens it closes it; it raises the errors of `sqlite3`.

    Parameters
    ----------
    folder : Path
    create : bool
        Make the file and its tables if they are not there.

    Attributes
    ----------
    writable : bool
        Whether this process may write it. It can be read in any case.
    """

    def __init__(self, folder: Path, *, create: bool = False) -> None:
        self.path = folder / JOURNAL
        self.writable = create or writable(self.path.resolve())
        self.connection = _DATABASE.connect(self.path, create=create)

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    def transaction(self) -> AbstractContextManager[None]:
        """All that is written inside becomes part of the journal, or nothing does."""
        return transaction(self.connection)

    def run(self) -> RunRow | None:
        """The run, or None if its creation was cut short."""
        row = _DATABASE.described(self.connection, self.path)
        return None if row is None else RunRow(**_parsed(row, "identity"))

    def begin_run(self, run: RunRow) -> None:
        """Write the one row of the run."""
        values = vars(run) | {"identity": json.dumps(run.identity)}
        _DATABASE.describe(self.connection, **values)

    def begin_session(self, step: int, process: int, provenance: dict[str, Any]) -> int:
        """Note who goes on from ``step``, move later records aside, and return the session."""
        session = insert(
            self.connection,
            "session",
            began=utc_now(),
            step=step,
            process=process,
            provenance=json.dumps(provenance),
        )
        names = ", ".join(COLUMNS)
        self.connection.execute(
            f"INSERT INTO superseded (before_session, {names})"
            f" SELECT ?, {names} FROM record WHERE step > ?",
            (session, step),
        )
        self.connection.execute("DELETE FROM record WHERE step > ?", (step,))
        return session

    def sessions(self) -> list[SessionRow]:
        """All sessions, oldest first."""
        rows = self.connection.execute("SELECT * FROM session ORDER BY id")
        return [SessionRow(**_parsed(dict(row), "provenance")) for row in rows]

    def note(self, session: int, step: int, message: str) -> None:
        """Write down something that a person should know later."""
        insert(
            self.connection, "event", session=session, time=utc_now(), step=step, message=message
        )

    def events(self) -> list[EventRow]:
        """All that was noted, oldest first."""
        rows = self.connection.execute("SELECT * FROM event ORDER BY rowid")
        return [EventRow(**dict(row)) for row in rows]

    def write(self, records: Sequence[Record]) -> None:
        """Add records, replacing those of the same step."""
        self.connection.executemany(
            f"INSERT OR REPLACE INTO record ({', '.join(COLUMNS)})"
            f" VALUES ({', '.join('?' * len(COLUMNS))})",
            ([_cell(getattr(record, name)) for name in COLUMNS] for record in records),
        )

    def records(self, after: int = 0) -> Iterator[Record]:
        """The records of the steps beyond ``after``, in order."""
        yield from self._records("WHERE step > ? ORDER BY step", after)

    def last(self, column: str) -> Record | None:
        """The last record in which ``column`` is not None."""
        return next(self._records(f"WHERE {column} IS NOT NULL ORDER BY step DESC LIMIT 1"), None)

    def _records(self, which: str, *given: int) -> Iterator[Record]:
        query = f"SELECT {', '.join(COLUMNS)} FROM record {which}"
        for row in self.connection.execute(query, given):
            yield Record(**dict(zip(COLUMNS, map(_value, row), strict=True)))


@contextmanager
def reading(folder: Path) -> Iterator[tuple[Journal, RunRow]]:
    """Open the journal of an existing run.

    Raises
    ------
    RunError
        There is no run in ``folder``, or its journal cannot be read.
    """
    if not (folder / JOURNAL).is_file():
        raise NoRunError(f"there is no run in {folder}: begin one there with Run.create.")
    with _DATABASE.explained(folder / JOURNAL), closing(Journal(folder)) as journal:
        run = journal.run()
        if run is None:
            raise NoRunError(
                f"the run in {folder} was killed while it was made, before its first step: begin "
                "it anew with Run.create."
            )
        yield journal, run


def _parsed(row: dict[str, Any], column: str) -> dict[str, Any]:
    return row | {column: json.loads(row[column])}


def _cell(value: Any) -> Any:
    """A value as SQLite keeps it. Tuples, and NaN, which SQLite would make NULL, become JSON."""
    if isinstance(value, tuple) or (isinstance(value, float) and math.isnan(value)):
        return json.dumps(value)
    return value


def _value(cell: Any) -> Any:
    value = json.loads(cell) if isinstance(cell, str) else cell
    return tuple(value) if isinstance(value, list) else value
