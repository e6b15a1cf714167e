"""The journal of a run: an SQLite file that outlives a killed process and opens in any shell.

Tables: ``run`` (one row), ``session`` (one row each time the run was begun or resumed), ``record``
(one row a training step), ``superseded`` (rows that a resumed run measured again), ``event``.
"""

import json
import math
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pnnlab.errors import RunError
from pnnlab.training import Record

JOURNAL = "journal.sqlite"
FORMAT = 2
COLUMNS = tuple(field.name for field in fields(Record))

_RECORD = ", ".join(column for column in COLUMNS if column != "step")
_SCHEMA = f"""
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
"""


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
        See `pnnlab.runs.provenance.identity`.
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
        path = (folder / JOURNAL).resolve()
        self.writable = create or all(map(_writable, (path.parent, path)))
        # Read-write even for readers: the last one to leave folds the write-ahead log back in.
        mode = "rwc" if create else "rw" if self.writable else _read_only(path)
        # A generator may be closed in another thread than the one that began it.
        self.connection = sqlite3.connect(
            f"{path.as_uri()}?mode={mode}",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            if create:
                self.connection.execute("PRAGMA journal_mode = WAL")
                self.connection.executescript(_SCHEMA)
            # With FULL, what has been committed survives a power cut too, not only a kill.
            self.connection.execute("PRAGMA synchronous = FULL")
        except sqlite3.Error:
            self.connection.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is written inside becomes part of the journal, or nothing does."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.connection.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise

    def run(self) -> RunRow | None:
        """The run, or None if its creation was cut short."""
        tables = self.connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'run'")
        if tables.fetchone() is None:
            return None
        row = self.connection.execute(
            "SELECT format, id, began, description, network, checkpoint_every, identity FROM run"
        ).fetchone()
        if row is None:
            return None
        if row[0] != FORMAT:
            raise RunError(
                f"this journal has format {row[0]} and this pnnlab reads {FORMAT}: open the run "
                "with the version that wrote it."
            )
        names = ("id", "began", "description", "network", "checkpoint_every")
        return RunRow(**dict(zip(names, row[1:6], strict=True)), identity=json.loads(row[6]))

    def begin_run(self, run: RunRow) -> None:
        """Write the one row of the run."""
        self.connection.execute(
            "INSERT INTO run (id, format, began, description, network, checkpoint_every, identity)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                run.id,
                FORMAT,
                run.began,
                run.description,
                run.network,
                run.checkpoint_every,
                json.dumps(run.identity),
            ),
        )

    def begin_session(self, step: int, process: int, provenance: dict[str, Any]) -> int:
        """Note who goes on from ``step``, move later records aside, and return the session."""
        session = self.connection.execute(
            "INSERT INTO session (began, step, process, provenance) VALUES (?, ?, ?, ?)",
            (utc_now(), step, process, json.dumps(provenance)),
        ).lastrowid
        assert session is not None
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
        rows = self.connection.execute(
            "SELECT id, began, step, process, provenance FROM session ORDER BY id"
        )
        return [
            SessionRow(
                id=row[0], began=row[1], step=row[2], process=row[3], provenance=json.loads(row[4])
            )
            for row in rows
        ]

    def note(self, session: int, step: int, message: str) -> None:
        """Write down something that a person should know later."""
        self.connection.execute(
            "INSERT INTO event (session, time, step, message) VALUES (?, ?, ?, ?)",
            (session, utc_now(), step, message),
        )

    def events(self) -> list[EventRow]:
        """All that was noted, oldest first."""
        rows = self.connection.execute("SELECT session, time, step, message FROM event")
        return [EventRow(session=r[0], time=r[1], step=r[2], message=r[3]) for r in rows]

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
    try:
        with closing(Journal(folder)) as journal:
            run = journal.run()
            if run is None:
                raise NoRunError(
                    f"the run in {folder} was killed while it was made, before its first step: "
                    "begin it anew with Run.create."
                )
            yield journal, run
    except sqlite3.Error as error:
        raise RunError(
            f"{folder / JOURNAL} cannot be read ({error}). If another program holds it, close "
            "that; if you may not write there, copy the folder to where you may; if it is damaged, "
            "sqlite3's .recover command saves what can be saved."
        ) from error


def utc_now() -> str:
    """The time, UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _writable(path: Path) -> bool:
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def _read_only(path: Path) -> str:
    """How SQLite opens a journal beside which it may not make files."""
    log = path.with_name(f"{path.name}-wal")
    # An immutable journal is read without its write-ahead log. Where a killed run has left one,
    # its records are in there, and SQLite needs the index that was left with it.
    return "ro" if log.exists() and log.stat().st_size else "ro&immutable=1"


def _cell(value: Any) -> Any:
    """A value as SQLite keeps it. Tuples, and NaN, which SQLite would make NULL, become JSON."""
    if isinstance(value, tuple) or (isinstance(value, float) and math.isnan(value)):
        return json.dumps(value)
    return value


def _value(cell: Any) -> Any:
    value = json.loads(cell) if isinstance(cell, str) else cell
    return tuple(value) if isinstance(value, list) else value
