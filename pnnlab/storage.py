"""Files: written whole or not at all, read without executing anything; SQLite for what grows."""

import io
import os
import sqlite3
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, final

from pnnlab.errors import PnnlabError


def user_path(path: str | Path) -> Path:
    """Give a path that a person wrote; ``~`` and ``~name`` at its beginning are home folders."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise PnnlabError(
            f"{path} begins with the home folder of an unknown user; write the path "
            f"without ~, or ./{path} for a folder of that name."
        ) from error


def write(
    path: Path,
    content: bytes | memoryview | str,
    *,
    keep: Path | None = None,
    check: Callable[[Path], object] | None = None,
) -> None:
    """Write a file beside ``path``, make sure that it is on the disk, and rename it to ``path``.

    Before that ``check`` may refuse it by any exception, and the file that was there goes to
    ``keep``. Whatever goes wrong, such as an `OSError` of a full disk, the files there were stay.
    """
    if isinstance(content, str):
        # A path that the system did not name in UTF-8 has no UTF-8 either; JSON reads it back so.
        content = content.encode("utf-8", "backslashreplace")
    beside = aside(path)
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if check is not None:
            check(beside)
        if keep is not None and path.exists():
            path.replace(keep)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    if os.name == "posix":  # elsewhere a folder cannot be synced
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # so that the renames survive a power cut
        finally:
            os.close(folder)


def aside(path: Path) -> Path:
    """Where this process writes a file before it is renamed."""
    return path.with_name(f".{path.name}.{os.getpid()}.part")


class UnreadableError(PnnlabError, TypeError):
    """Data could not be read again once they were written; the error names them."""


def write_tensors(
    path: Path,
    content: dict[str, Any],
    name: str,
    *,
    check: Callable[[Any], object] | None = None,
    keep: Path | None = None,
) -> None:
    """Write tensors and plain data as `write` does, and read them back before the file is renamed.

    ``name`` is what errors call the content; ``check`` is given what was read back. Raises an
    `OSError`, or an `UnreadableError` that names what in ``content`` cannot be read again.
    """
    import torch  # commands that need no tensors start without it

    def read_back(written: Path) -> None:
        try:
            again = read_tensors(written)
        except ValueError as error:
            if what := "; ".join(unreadable(content, name)):
                raise UnreadableError(what) from error
            raise OSError(f"what was written cannot be read: {error}") from error
        if check is not None:
            check(again)

    buffer = io.BytesIO()  # torch's own file writer hides why a write failed
    try:
        torch.save(content, buffer)
    except Exception as error:  # whatever an object raises when it is pickled
        raise UnreadableError("; ".join(unreadable(content, name)) or str(error)) from error
    write(path, buffer.getbuffer(), keep=keep, check=read_back)


def read_tensors(path: Path) -> Any:
    """Read what `write_tensors` wrote into the memory of the CPU; nothing in it is executed.

    Raises an `OSError`, or a `ValueError` where the file is damaged or holds anything else.
    """
    import torch

    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch.load itself does not look at the checksums
        if not damaged:
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # whatever garbage makes the readers raise, the file is no good
        raise ValueError(
            f"{path} is damaged, or holds more than tensors and plain data; none of it was executed"
        ) from error
    raise ValueError(f"{path} is damaged: its part {damaged} fails its checksum")


def unreadable(value: Any, at: str) -> Iterator[str]:
    """Name what is in ``value``, which is called ``at``, that `read_tensors` could not read."""
    import torch

    buffer = io.BytesIO()
    with suppress(Exception):  # whatever the writer or the reader fails of
        torch.save(value, buffer)
        buffer.seek(0)
        torch.load(buffer, weights_only=True)
        return
    parts: Iterable[Any] = enumerate(value) if isinstance(value, list | tuple) else ()
    if isinstance(value, dict):
        parts = chain(value.items(), ((f"key {key!r}", key) for key in value))
    inside = [text for key, part in parts for text in unreadable(part, f"{at}[{key!r}]")]
    yield from inside or [f"{at} is a {type(value).__module__}.{type(value).__qualname__}"]


@final
@dataclass(frozen=True, kw_only=True)
class Database:
    """A kind of SQLite file, which a killed process leaves whole."""

    table: str  # its one row describes the file; among its columns is ``format``
    format: int
    schema: str  # makes the tables where they are not there yet
    # FULL: what was written survives a power cut too. NORMAL: the last of it may be lost, and no
    # write waits for the disk.
    synchronous: str
    error: type[PnnlabError]  # raised where a file cannot be used

    def connect(self, path: Path, *, create: bool = False) -> sqlite3.Connection:
        """Open a file, which the caller closes; make it if it is to be made and not there."""
        path = path.resolve()
        # Read-write even for readers: the last one to leave folds the write-ahead log back in.
        mode = "rwc" if create else "rw" if writable(path) else _read_only(path)
        # A training, and what it writes to, may be begun in one thread and go on in another.
        connection = sqlite3.connect(
            f"{path.as_uri()}?mode={mode}", uri=True, isolation_level=None, check_same_thread=False
        )
        connection.row_factory = sqlite3.Row
        try:
            if create:
                self.described(connection, path)  # a file of another kind is left as it is
                connection.execute("PRAGMA journal_mode = WAL")
                connection.executescript(self.schema)
            connection.execute(f"PRAGMA synchronous = {self.synchronous}")
        except BaseException:
            connection.close()
            raise
        return connection

    def described(self, connection: sqlite3.Connection, path: Path) -> dict[str, Any] | None:
        """Read the row that describes the file; None if its making was cut short.

        A file of another kind or format raises ``error``.
        """
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        if tables and self.table not in tables:
            raise self.error(f"{path} is a database of something else; choose another file.")
        row = connection.execute(f"SELECT * FROM {self.table}").fetchone() if tables else None
        if row is None:
            return None
        if row["format"] != self.format:
            raise self.error(
                f"{path} has format {row['format']} and this pnnlab reads {self.format}: open it "
                "with the version that wrote it."
            )
        return {key: row[key] for key in row.keys() if key != "format"}  # noqa: SIM118

    def describe(self, connection: sqlite3.Connection, **values: object) -> None:
        """Write the row that describes the file."""
        insert(connection, self.table, format=self.format, **values)

    @contextmanager
    def explained(self, path: Path) -> Iterator[None]:
        """Turn an error of SQLite into one that says what to do."""
        try:
            yield
        except sqlite3.Error as error:
            raise self.error(
                f"{path} cannot be read or written ({error}). See that its folder is there, that "
                "the disk has space, and that no other program holds the file; if you may not "
                "write there, copy the folder to where you may; of a damaged file, sqlite3's "
                ".recover command saves what can be saved."
            ) from error


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Make all that is written inside part of the file, or nothing of it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def insert(connection: sqlite3.Connection, table: str, **values: object) -> int:
    """Add a row, and return its number."""
    marks = ", ".join("?" * len(values))
    row = connection.execute(
        f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})", tuple(values.values())
    ).lastrowid
    assert row is not None
    return row


def writable(path: Path) -> bool:
    """Whether this process may write a file, and make others beside it."""
    effective = os.access in os.supports_effective_ids
    return all(os.access(one, os.W_OK, effective_ids=effective) for one in (path.parent, path))


def _read_only(path: Path) -> str:
    """How SQLite opens a file beside which it may not make others."""
    log = path.with_name(f"{path.name}-wal")
    # An immutable file is read without its write-ahead log. Where a killed process has left one,
    # its records are in there, and SQLite needs the index that was left with it.
    return "ro" if log.exists() and log.stat().st_size else "ro&immutable=1"
