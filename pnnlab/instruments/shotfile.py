"""The file that a recording is: its tables, and how shots are found in it.

One SQLite file, in write-ahead mode while it grows, so that a killed process loses nothing.
Tables: ``recording`` (one row), ``session`` (one row each time it was gone on with), ``theta``
(each setting of the parameters once), ``shot`` (one row a shot; ``time``: when its batch had
arrived, UTC, s since 1970). x, theta and y are little-endian floats, of four or eight bytes as they
were given.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pnnlab.errors import DataError
from pnnlab.storage import Database

DATABASE = Database(
    table="recording",
    format=1,
    error=DataError,
    # A killed process loses nothing. A power cut may cost the last shots and no more, where FULL
    # would wait for the disk after every batch.
    synchronous="NORMAL",
    schema="""
CREATE TABLE IF NOT EXISTS recording (format INTEGER, began TEXT, description TEXT);
CREATE TABLE IF NOT EXISTS session (id INTEGER PRIMARY KEY, began TEXT, provenance TEXT);
CREATE TABLE IF NOT EXISTS theta (digest BLOB PRIMARY KEY, value BLOB);
CREATE TABLE IF NOT EXISTS shot (
    id INTEGER PRIMARY KEY, session INTEGER, time REAL, digest BLOB, theta BLOB, x BLOB, y BLOB
);
CREATE INDEX IF NOT EXISTS asked ON shot (digest);
""",
)
CHUNK = 1000  # rows that are looked at together

Rows: TypeAlias = NDArray[np.floating[Any]]


@final
@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What a recording says of itself.

    Attributes
    ----------
    name : str
        Of the system.
    input_dim, param_dim, output_dim : int
        Its dimensions.
    identity : str
        Who the instruments are, such as their answers to ``*IDN?``.
    settings : dict
        How they were set up, as JSON holds it.
    """

    name: str
    input_dim: int
    param_dim: int
    output_dim: int
    identity: str
    settings: dict[str, Any]

    def as_text(self) -> str:
        """As it is kept in the file."""
        return json.dumps(asdict(self))


@contextmanager
def reading(path: Path) -> Iterator[tuple[sqlite3.Connection, Recorded]]:
    """Open an existing recording.

    Raises
    ------
    DataError
        There is none, or it cannot be read.
    """
    if not path.is_file():
        raise DataError(f"there is no recording {path}; make one with Recorder(system, path).")
    with DATABASE.explained(path), closing(DATABASE.connect(path)) as connection:
        recorded = described(connection, path)
        if recorded is None:
            raise DataError(f"{path} is empty; record to it with Recorder(system, path).")
        yield connection, recorded


def described(connection: sqlite3.Connection, path: Path) -> Recorded | None:
    """What the file says of itself, or None if it is new."""
    row = DATABASE.described(connection, path)
    return None if row is None else Recorded(**json.loads(row["description"]))


def floats(tensor: Tensor) -> Rows:
    """Values as they are kept: in eight bytes if they were given so, else in four."""
    kind, name = (torch.float64, "<f8") if tensor.dtype == torch.float64 else (torch.float32, "<f4")
    values: Rows = tensor.to(kind).numpy().astype(name, copy=False)
    return values


def array(blob: bytes, length: int) -> Rows:
    """Values that were kept."""
    return np.frombuffer(blob, "<f8" if len(blob) == 8 * length else "<f4")


def digests(x: Rows, theta: Rows) -> tuple[list[bytes], list[bytes]]:
    """Names of shots, and of their settings of the parameters, whatever their data type.

    Parameters
    ----------
    x : array, (shots, input_dim)
    theta : array, (param_dim,) or (shots, param_dim)

    Returns
    -------
    two lists of bytes
        One for each shot; of settings, a single one if all share it.
    """
    of_theta = [_digest(setting) for setting in _canonical(np.atleast_2d(theta))]
    each = of_theta * len(x) if theta.ndim == 1 else of_theta
    return [_digest(row, of) for row, of in zip(_canonical(x), each, strict=True)], of_theta


def nearest(connection: sqlite3.Connection, x: Rows, theta: Rows) -> tuple[int, float, float]:
    """Find the recorded shot that differs least, and how much: row, rms of x and rms of theta."""
    best, found = np.inf, (0, np.inf, np.inf)
    rows = connection.execute("SELECT id, theta, x FROM shot")
    while some := rows.fetchmany(CHUNK):
        distinct = list({of for _, of, _ in some})
        settings = [_setting(connection, of, len(theta)) for of in distinct]
        apart = dict(zip(distinct, _squares(settings, theta), strict=True))
        in_x = _squares([array(row, len(x)) for _, _, row in some], x)
        in_theta = np.array([apart[of] for _, of, _ in some])
        n = int(np.argmin(in_x + in_theta))
        if in_x[n] + in_theta[n] < best:
            best = in_x[n] + in_theta[n]
            rms = (np.sqrt(in_x[n] / len(x)), np.sqrt(in_theta[n] / max(len(theta), 1)))
            found = (int(some[n][0]), float(rms[0]), float(rms[1]))
    return found


def gather(
    connection: sqlite3.Connection, recorded: Recorded, chosen: Sequence[bytes], repeats: int
) -> tuple[Rows, Rows, Rows]:
    """Read the first ``repeats`` answers to the chosen shots.

    Returns
    -------
    three arrays
        x (shots, inputs), theta (shots, parameters), or (parameters,) if all share it, and
        y (repeats, shots, outputs).
    """
    (widest,) = connection.execute("SELECT MAX(LENGTH(x)) FROM shot").fetchone()
    kind = array(bytes(widest), recorded.input_dim).dtype
    x = np.empty((len(chosen), recorded.input_dim), kind)
    y = np.empty((repeats, len(chosen), recorded.output_dim), kind)
    of_shot = [b""] * len(chosen)
    taken = dict.fromkeys(chosen, 0)
    number = {digest: n for n, digest in enumerate(chosen)}
    for digest, of, row, answer in connection.execute(
        "SELECT digest, theta, x, y FROM shot ORDER BY id"
    ):
        if taken.get(digest, repeats) == repeats:
            continue
        n = number[digest]
        x[n], of_shot[n] = array(row, recorded.input_dim), of
        y[taken[digest], n] = array(answer, recorded.output_dim)
        taken[digest] += 1
    settings = {of: _setting(connection, of, recorded.param_dim) for of in set(of_shot)}
    theta = np.stack([settings[of] for of in (of_shot if len(settings) > 1 else settings)])
    return x, (theta if len(settings) > 1 else theta[0]).astype(kind), y


def _setting(connection: sqlite3.Connection, digest: bytes, length: int) -> Rows:
    row = connection.execute("SELECT value FROM theta WHERE digest = ?", (digest,)).fetchone()
    return array(row[0], length)


def _canonical(rows: Rows) -> NDArray[np.float64]:
    """Equal numbers in equal bytes: -0.0 is 0.0."""
    return rows.astype("<f8") + 0.0


def _digest(row: NDArray[np.float64], before: bytes = b"") -> bytes:
    return hashlib.blake2b(before + row.tobytes(), digest_size=16).digest()


def _squares(rows: Sequence[Rows], asked: Rows) -> NDArray[np.float64]:
    squares: NDArray[np.float64] = np.square(np.stack(rows) - asked.astype(np.float64)).sum(1)
    return squares
