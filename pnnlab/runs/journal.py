"""The journal of a run: an SQLite file that outlives a killed process and opens in any shell.

Tables: ``run`` (one row), ``session`` (one row each time the run was begun or resumed), ``record``
(one row a training step), ``superseded`` (rows that a resumed run measured again), ``event``.
"""

import json
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from pnnlab.errors import RunError
from pnnlab.provenance import provenance, utc_now
from pnnlab.storage import Database, insert, writable
from pnnlab.training import Record

Row: TypeAlias = dict[str, Any]

JOURNAL = "journal.sqlite"
COLUMNS = [field.name for field in fields(Record)]

_NAMES = ", ".join(COLUMNS)
_OTHERS = ", ".join(name for name in COLUMNS if name != "step")
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
CREATE TABLE IF NOT EXISTS record (step INTEGER PRIMARY KEY, {_OTHERS});
CREATE TABLE IF NOT EXISTS superseded (before_session INTEGER, step INTEGER, {_OTHERS});
CREATE TABLE IF NOT EXISTS event (session INTEGER, time TEXT, step INTEGER, message TEXT);
""",
)


class EventRow(NamedTuple):
    """Something that a person should know later of a run; the time is UTC, ISO 8601."""

    session: int
    time: str
    step: int
    message: str


class NoRunError(RunError):
    """A folder holds no run, or none that has begun."""


class Journal:
    """An open journal, to be closed by its user; it raises the errors of `sqlite3`."""

    def __init__(self, folder: Path, *, create: bool = False) -> None:
        self.path = folder / JOURNAL
        self.writable = create or writable(self.path.resolve())
        self.connection = _DATABASE.connect(self.path, create=create)

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    def run(self) -> Row | None:
        """The row of the run, or None if its creation was cut short."""
        row = _DATABASE.described(self.connection, self.path)
        return None if row is None else row | {"identity": json.loads(row["identity"])}

    def begin_run(self, row: Row) -> None:
        """Write the one row of the run."""
        values = row | {"identity": json.dumps(row["identity"])}
        _DATABASE.describe(self.connection, **values)

    def begin_session(self, step: int) -> int:
        """Begin a session of this process at ``step``, and move later records aside."""
        session = insert(
            self.connection,
            "session",
            began=utc_now(),
            step=step,
            process=os.getpid(),
            provenance=json.dumps(provenance()),
        )
        self.connection.execute(
            f"INSERT INTO superseded (before_session, {_NAMES})"
            f" SELECT ?, {_NAMES} FROM record WHERE step > ?",
            (session, step),
        )
        self.connection.execute("DELETE FROM record WHERE step > ?", (step,))
        return session

    def sessions(self) -> list[Row]:
        """All sessions, oldest first."""
        rows = self.connection.execute("SELECT * FROM session ORDER BY id")
        return [{**row, "provenance": json.loads(row["provenance"])} for row in rows]

    def note(self, session: int, step: int, message: str) -> None:
        """Write an event."""
        insert(
            self.connection, "event", session=session, time=utc_now(), step=step, message=message
        )

    def events(self) -> list[EventRow]:
        """All events, oldest first."""
        names = ", ".join(EventRow._fields)
        rows = self.connection.execute(f"SELECT {names} FROM event ORDER BY rowid")
        return [EventRow(*row) for row in rows]

    def write(self, records: Sequence[Record]) -> None:
        """Add records, replacing those of the same step."""
        self.connection.executemany(
            f"INSERT OR REPLACE INTO record ({_NAMES}) VALUES ({', '.join('?' * len(COLUMNS))})",
            ([_cell(getattr(record, name)) for name in COLUMNS] for record in records),
        )

    def records(self, after: int = 0) -> Iterator[Record]:
        """The records of the steps beyond ``after``, in order."""
        return self._records("WHERE step > ? ORDER BY step", after)

    def last(self, column: str) -> Record | None:
        """The last record in which ``column`` is not None."""
        return next(self._records(f"WHERE {column} IS NOT NULL ORDER BY step DESC LIMIT 1"), None)

    def _records(self, which: str, *given: int) -> Iterator[Record]:
        for row in self.connection.execute(f"SELECT {_NAMES} FROM record {which}", given):
            yield Record(**dict(zip(COLUMNS, map(_value, row), strict=True)))


@contextmanager
def reading(folder: Path) -> Iterator[tuple[Journal, Row]]:
    """Open the journal of an existing run, and read the row of the run."""
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


def _cell(value: Any) -> Any:
    """A value as SQLite keeps it. Tuples, and NaN, which SQLite would make NULL, become JSON."""
    if isinstance(value, tuple) or (isinstance(value, float) and math.isnan(value)):
        return json.dumps(value)
    return value


def _value(cell: Any) -> Any:
    value = json.loads(cell) if isinstance(cell, str) else cell
    return tuple(value) if isinstance(value, list) else value
