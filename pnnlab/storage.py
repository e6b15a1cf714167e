"""Files: written whole or not at all, with checksums that reading verifies; nothing is executed."""

import hashlib
import json
import marshal
import math
import os
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeAlias, TypeVar, final

from pnnlab.errors import PnnlabError

T = TypeVar("T")
Buffer: TypeAlias = bytes | bytearray | memoryview


def user_path(path: str | Path) -> Path:
    """Give a path that a person wrote; ``~`` and ``~name`` at its beginning are home folders."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise PnnlabError(
            f"{path} begins with the home folder of an unknown user; write the path "
            f"without ~, or ./{path} for a folder of that name."
        ) from error


@contextmanager
def explained(error: type[PnnlabError], problem: str, advice: str) -> Iterator[None]:
    """Turn an error of the system or of SQLite into ``error``, which says what to do."""
    try:
        yield
    except (OSError, UnicodeDecodeError, sqlite3.Error) as cause:
        raise error(f"{problem} ({cause}): {advice}") from cause


def checksum(*parts: Buffer) -> bytes:
    """Digest of bytes."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.digest()


def checksum_of_json(content: Any) -> str:
    """Checksum of what JSON holds, however it is laid out."""
    return checksum(json.dumps(content, sort_keys=True).encode()).hex()


def write(path: Path, *content: Buffer | str, keep: Path | None = None) -> None:
    """Write a file beside ``path``, make sure that it is on the disk, and rename it to ``path``.

    The file that was there goes to ``keep``. Whatever goes wrong, such as an `OSError` of a full
    disk, the files there were stay. A symbolic link is replaced, not followed.
    """
    # A path that the system did not name in UTF-8 has no UTF-8 either; JSON reads it back so.
    parts = [p.encode("utf-8", "backslashreplace") if isinstance(p, str) else p for p in content]
    beside = aside(path)
    try:
        beside.unlink(missing_ok=True)
        with beside.open("x+b") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
            file.seek(0)
            if any(file.read(len(part)) != part for part in parts):
                raise OSError("the disk has not kept what was written")
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


@final
@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of file that is written and read as a whole.

    Its last line is ``pnnlab KIND FORMAT CHECKSUM``, which other programs ignore behind netCDF.
    """

    name: str
    format: int
    error: type[PnnlabError]  # raised where a file cannot be used
    remedy: str  # what makes another one, in the imperative

    def save(self, path: Path, *content: Buffer) -> Path:
        """Write a file where a user wants it."""
        advice = "nothing is lost: free some space, or choose another folder, and save it again."
        with explained(self.error, f"{path} cannot be written", advice):
            path.parent.mkdir(parents=True, exist_ok=True)
            self.write(path, *content)
        return path

    def write(self, path: Path, *content: Buffer, keep: Path | None = None) -> None:
        """Write a file as `write` does, with its last line; raises an `OSError`."""
        label = f"\npnnlab {self.name} {self.format} ".encode()
        write(path, *content, label, checksum(*content, label).hex() + "\n", keep=keep)

    def read(self, path: Path, decode: Callable[[memoryview], T]) -> T:
        """Read a file, and decode what is in it if its checksum is right."""
        another = f"use a copy, or {self.remedy}."
        with explained(self.error, f"{path} cannot be read", another):
            if not path.is_file():
                raise self.error(f"there is no {path}; {self.remedy}, and save it there.")
            content = memoryview(path.read_bytes())
        last = re.search(rb"(\npnnlab (\w+) (\d+) )(\w+)\n\Z", bytes(content[-200:]))
        if last is None:
            raise self.error(
                f"{path} has no checksum at its end: it is cut short, damaged, of another program, "
                f"or of a format before {self.name} {self.format}; {another}"
            )
        body = content[: len(content) - len(last[0])]
        if last[4].decode() != checksum(body, last[1]).hex():
            raise self.error(f"{path} is damaged or edited, its checksum is wrong; {another}")
        if (name := last[2].decode()) != self.name:
            raise self.error(f"{path} holds a {name}, not a {self.name}; {another}")
        if int(last[3]) != self.format:
            raise self.error(_foreign(path, int(last[3]), self.format))
        try:
            return decode(body)
        except PnnlabError as error:
            raise self.error(f"{path} cannot be read: {error}") from error
        except Exception as error:  # whatever a file of a stranger makes a reader raise
            raise self.error(
                f"{path} holds no {self.name} that this version can read ({error!r}); {another}"
            ) from error


def _foreign(path: Path, found: object, read: int) -> str:
    return (
        f"{path} has format {found} and this pnnlab reads {read}: open it with the version that "
        "wrote it."
    )


def raw(tensor: Any) -> Buffer:
    """The bytes of a tensor, element after element."""
    import torch  # commands that need no tensors start without it

    flat = tensor.detach().cpu().resolve_conj().contiguous().reshape(-1)
    data: Buffer = flat.view(torch.uint8).numpy().data
    return data


class UnreadableError(PnnlabError, TypeError):
    """Data could not be read again once they were written; the error names them."""


def packed(content: Any, name: str) -> list[Buffer]:
    """Write tensors and plain data as a line of JSON and the bytes of the tensors.

    ``name`` is what errors call the content: an `UnreadableError` names all that is neither tensor,
    text nor number, nor a list, tuple or dictionary of them.
    """
    import torch  # commands that need no tensors start without it

    tensors: list[Buffer] = []
    problems = []

    def described(value: Any, at: str) -> Any:
        if value is None or type(value) in (bool, int, float, str):
            return value
        if isinstance(value, dict):
            items = [
                (described(key, f"{at}[key {key!r}]"), described(one, f"{at}[{key!r}]"))
                for key, one in value.items()
            ]
            return {"dict": items}
        if type(value) in (list, tuple, torch.Size):
            inside = [described(one, f"{at}[{number}]") for number, one in enumerate(value)]
            return inside if type(value) is list else {"tuple": inside}
        if isinstance(value, torch.Tensor) and value.layout is torch.strided and not value.is_meta:
            tensors.append(raw(value))
            return {str(value.dtype).removeprefix("torch."): list(value.shape)}
        problems.append(f"{at} is a {type(value).__module__}.{type(value).__qualname__}")
        return None

    line = json.dumps(described(content, name)).encode() + b"\n"
    if problems:
        raise UnreadableError("; ".join(problems))
    return [line, *tensors]


def unpacked(content: Buffer) -> Any:
    """Read what `packed` wrote into the memory of the CPU; raises whatever of anything else."""
    import torch

    content = memoryview(content)
    start = bytes(content).index(b"\n") + 1

    def made(value: Any) -> Any:
        nonlocal start
        if isinstance(value, list):
            return [made(one) for one in value]
        if not isinstance(value, dict):
            return value
        ((kind, inside),) = value.items()
        if kind == "tuple":
            return tuple(made(inside))
        if kind == "dict":
            return {made(key): made(one) for key, one in inside}
        dtype = getattr(torch, kind)
        data = bytearray(content[start : start + math.prod(inside) * dtype.itemsize])
        start += len(data)
        if not data:
            return torch.empty(0, dtype=dtype).reshape(inside)
        return torch.frombuffer(data, dtype=torch.uint8).view(dtype).reshape(inside)

    found = made(json.loads(bytes(content[:start])))
    if start != len(content):
        raise ValueError("more is in it than it describes")
    return found


class Database(sqlite3.Connection):
    """An open SQLite file, to be closed by its user; subclasses are the kinds there are.

    A killed process leaves it whole. Every row has a checksum, and beside them stand the ends of
    each table, so that no row can be missing. Errors of `sqlite3` pass, see `explained`.
    """

    format: ClassVar[int]
    # Their columns, without types, so that SQLite converts nothing behind a checksum. The one row
    # of the first table describes the file, its ``format`` included.
    tables: ClassVar[dict[str, str]]
    index: ClassVar[str] = ""
    # FULL: what was written survives a power cut too. NORMAL: the last of it may be lost, and no
    # write waits for the disk.
    synchronous: ClassVar[str]
    error: ClassVar[type[PnnlabError]]  # raised where a file cannot be used

    def __init__(self, path: Path, *, create: bool = False) -> None:
        self.path = path
        real = path.resolve()
        # Read-write even for readers: the last one to leave folds the write-ahead log back in.
        mode = "rwc" if create else "rw"
        if not create and not writable(real):
            log = real.with_name(f"{real.name}-wal")
            # An immutable file is read without its write-ahead log. Where a killed process has left
            # one, its records are in there, and SQLite needs the index that was left with it.
            mode = "ro" if log.exists() and log.stat().st_size else "ro&immutable=1"
        # A training, and what it writes to, may be begun in one thread and go on in another.
        super().__init__(
            f"{real.as_uri()}?mode={mode}", uri=True, isolation_level=None, check_same_thread=False
        )
        self._first = next(iter(self.tables))
        # An expression of SQL: the numbers of the first and last row of each table, as text.
        ends = [f"(SELECT {end}(rowid) FROM {t})" for t in self.tables for end in ("MIN", "MAX")]
        self._ends = " || ' ' || ".join(f"IFNULL({end}, '-')" for end in ends)
        try:
            # By version 2 of marshal equal cells are equal bytes.
            self.create_function(
                "checksum", -1, lambda *cells: checksum(marshal.dumps(cells, 2)), deterministic=True
            )
            self.about = self._about()  # a file of another kind is left as it is
            if create:
                self.execute("PRAGMA journal_mode = WAL")
                tables = self.tables | {"ends": "id INTEGER PRIMARY KEY, at"}
                for table, columns in tables.items():
                    self.execute(f"CREATE TABLE IF NOT EXISTS {table} ({columns}, checksum)")
                self.execute(self.index)
            self.execute(f"PRAGMA synchronous = {self.synchronous}")
        except BaseException:
            self.close()
            raise

    @classmethod
    def explained(cls, path: Path) -> AbstractContextManager[None]:
        """Turn an error of SQLite or the system into one that says what to do."""
        return explained(
            cls.error,
            f"{path} cannot be read or written",
            "check that its folder is there, that the disk has space, and that no other program "
            "holds the file; if you may not write there, choose another folder, or copy the folder "
            "to another place; of a damaged file, sqlite3's .recover command saves what can be "
            "saved.",
        )

    def _columns(self, table: str) -> list[str]:
        columns = self.tables[table].split(", ")
        return [one.split()[0] for one in columns if one != "id INTEGER PRIMARY KEY"]

    def _about(self) -> dict[str, Any] | None:
        tables = {name for (name,) in self.execute("SELECT name FROM sqlite_master")}
        if tables and self._first not in tables:
            raise self.error(f"{self.path} is a database of something else; choose another file.")
        row = self.execute(f"SELECT format FROM {self._first}").fetchone() if tables else None
        if row is None:
            return None
        if row[0] != self.format:
            raise self.error(_foreign(self.path, row[0], self.format))
        # One statement, for another process may write between two.
        same = f"SELECT at = {self._ends} AND checksum = checksum(at) FROM ends"
        if self.execute(same).fetchall() != [(1,)]:
            raise self.damaged("rows are missing at an end of its tables")
        (about,) = self.read(self._first)
        return about

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make all that is written inside part of the file, or nothing of it."""
        self.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.execute(
                "INSERT OR REPLACE INTO ends (id, at, checksum)"
                f" SELECT 1, at, checksum(at) FROM (SELECT {self._ends} AS at)"
            )
            self.execute("COMMIT")
        except BaseException:
            if self.in_transaction:
                self.execute("ROLLBACK")
            raise

    def describe(self, **values: object) -> None:
        """Write the row that describes the file, within a transaction."""
        values["format"] = self.format
        self.add(self._first, [[values[name] for name in self._columns(self._first)]])

    def add(self, table: str, rows: Iterable[Sequence[object]], clash: str = "REPLACE") -> None:
        """Add rows within a transaction; where one is there already, REPLACE or IGNORE it."""
        names = self._columns(table)
        marks = ", ".join(f"?{number}" for number in range(1, len(names) + 1))
        self.executemany(
            f"INSERT OR {clash} INTO {table} ({', '.join(names)}, checksum)"
            f" VALUES ({marks}, checksum('{table}', {marks}))",
            rows,
        )

    def read(
        self, table: str, which: str = "ORDER BY rowid", *given: object, gapless: bool = True
    ) -> Iterator[dict[str, Any]]:
        """Read rows, each with its number, as long as they are whole and none is missing."""
        names = self._columns(table)
        rows = self.execute(
            f"SELECT checksum IS checksum('{table}', {', '.join(names)}), rowid, "
            f"{', '.join(names)} FROM {table} {which}",
            given,
        )
        before = None
        for whole, number, *cells in rows:
            if not whole:
                raise self.damaged(f"the checksum of row {number} of {table} is wrong")
            if gapless and before is not None and abs(number - before) != 1:
                raise self.damaged(f"rows are missing in {table} beside row {before}")
            before = number
            # Named here, for a damaged file may write its columns in capitals.
            yield {"number": number, **dict(zip(names, cells, strict=True))}

    def verify(self) -> None:
        """Read the whole file, so that no damage in it is passed over."""
        (problem,) = self.execute("PRAGMA integrity_check(1)").fetchone()
        if problem != "ok":
            raise self.damaged(problem)
        for table in self.tables:
            for _ in self.read(table):
                pass

    def damaged(self, how: str) -> PnnlabError:
        return self.error(
            f"{self.path} is damaged or edited, and is not used: {how}. Use a copy; sqlite3's "
            ".recover command saves what can be saved."
        )


def writable(path: Path) -> bool:
    """Whether this process may write a file, and make others beside it."""
    effective = os.access in os.supports_effective_ids
    return all(os.access(one, os.W_OK, effective_ids=effective) for one in (path.parent, path))
