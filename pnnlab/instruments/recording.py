"""Record a session with a device, and replay it where there is none.

Every shot is recorded with its answer, so that a workshop can study a real device without it. A
recording is one SQLite file, in write-ahead mode while it grows. Tables: ``recording`` (one row),
``session`` (one row each time it was gone on with), ``theta`` (each setting of the parameters
once), ``shot`` (one row a shot; ``time``: when its batch had arrived, UTC, s since 1970). x, theta
and y are little-endian floats, of four or eight bytes as they were given.
"""

import json
import math
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Self, TypeAlias, final

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from pnnlab.characterize import measured
from pnnlab.errors import DataError, InstrumentError, RangeError
from pnnlab.physical_system import Cost, Group, PhysicalSystem, State
from pnnlab.provenance import commit, utc_now, versions
from pnnlab.storage import Database, checksum, user_path
from pnnlab.twins.twin import Signature


@final
class _Recording(Database):
    format = 2
    error = DataError
    # A killed process loses nothing. A power cut may cost the last shots and no more, where FULL
    # would wait for the disk after every batch.
    synchronous = "NORMAL"
    tables: ClassVar = {
        "recording": "began, description, format",
        "session": "id INTEGER PRIMARY KEY, began, provenance",
        "theta": "digest PRIMARY KEY, value",
        "shot": "id INTEGER PRIMARY KEY, session, time, digest, theta, x, y",
    }
    index = "CREATE INDEX IF NOT EXISTS asked ON shot (digest)"


_COUNTS = """
SELECT MIN(taken), MAX(taken), SUM(taken)
FROM (SELECT COUNT(*) AS taken FROM shot GROUP BY digest)
"""
_REPEATED = """
SELECT x, value FROM shot JOIN theta ON theta.digest = shot.theta
WHERE id IN (SELECT MIN(id) FROM shot GROUP BY digest HAVING COUNT(*) >= ?) ORDER BY id
"""
_Rows: TypeAlias = NDArray[np.floating[Any]]


@final
class Recorder(PhysicalSystem):
    """A system that passes shots on to another, and writes each down with its answer.

    Close it in the end, or use it as a context manager. A recording that is there already is gone
    on with, if it is of the same system, set up the same.

    Parameters
    ----------
    system : PhysicalSystem
        Whose shots are recorded.
    path : path
        Of the recording, such as ``"bench.sqlite"``.
    identity : str
        Who the instruments are.
    settings : mapping, optional
        How they are set up: what JSON can hold.

    Raises
    ------
    DataError
        The file cannot be written, or is a recording of something else. By a call, as the cause of
        a `DeviceError`: its shots were taken, and those before it are in the file.
    """

    def __init__(
        self,
        system: PhysicalSystem,
        path: Path | str,
        *,
        identity: str = "",
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(system.input_dim, system.param_dim, system.output_dim)
        self.system = system
        self.path = user_path(path)
        try:
            description = json.dumps(
                asdict(Signature.of(system))
                | {"identity": identity, "settings": dict(settings or {})}
            )
        except (TypeError, ValueError) as error:
            raise RangeError(
                f"settings cannot be written down ({error}); give numbers, text, lists and "
                "mappings, as dataclasses.asdict does."
            ) from error
        with _Recording.explained(self.path), ExitStack() as opened:
            self._file = _Recording(self.path, create=True)
            opened.callback(self._file.close)
            with self._file.transaction():
                self._session = self._begin(description)
            opened.pop_all()

    @property
    def name(self) -> str:
        return self.system.name

    def cost(self) -> Cost:
        return self.system.cost()

    def theta_groups(self) -> tuple[Group, ...]:
        return self.system.theta_groups()

    def state(self) -> State:
        return self.system.state()

    def restore(self, state: State) -> None:
        """Take the recorded system back to a state; what was recorded stays."""
        self.system.restore(state)

    def close(self) -> None:
        """Close the file. It is a single one then, to be copied and read anywhere."""
        with suppress(sqlite3.Error):  # somebody reads it, or it was closed before
            self._file.execute("PRAGMA journal_mode = DELETE")
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _measure(self, x: Tensor, theta: Tensor) -> Tensor:
        y = self.system(x, theta)
        now = time.time()
        rows, settings, answers = (_floats(tensor) for tensor in (x, theta, y))
        digests, of_theta = _digests(rows, settings)
        each = np.broadcast_to(settings, (len(x), self.param_dim))
        distinct = dict(zip(of_theta, each, strict=True))
        with _Recording.explained(self.path), self._file.transaction():
            kept = zip(distinct, map(bytes, distinct.values()), strict=True)
            self._file.add("theta", kept, "IGNORE")
            blobs = zip(digests, of_theta, map(bytes, rows), map(bytes, answers), strict=True)
            self._file.add("shot", ((self._session, now, *shot) for shot in blobs))
        return y

    def _begin(self, description: str) -> int:
        """Describe the file or check whose it is, and note who goes on from here."""
        began, there = utc_now(), self._file.about
        if there is None:
            self._file.describe(began=began, description=description)
        else:
            theirs, ours = json.loads(there["description"]), json.loads(description)
            changed = [key for key, value in theirs.items() if ours[key] != value]
            if changed:
                raise DataError(
                    f"{self.path} is a recording of {theirs['name']} with another "
                    f"{', '.join(changed)}; record to a new file, so that one file was measured "
                    "under one set of conditions."
                )
        self._file.add("session", [(began, json.dumps({**versions(), "commit": commit()}))])
        return len(list(self._file.read("session")))


@final
class Replay(PhysicalSystem):
    """A device that a `Recorder` recorded: it answers those shots, and no others.

    A shot that was recorded several times is answered in the order of the recording, and then
    from the first again. ``x`` and ``theta`` must be those of the recording to the last bit.
    ``recorded`` holds name and dimensions of the system, identity and settings.

    Raises
    ------
    DataError
        There is no recording, it holds no shots, or it is damaged.
    InstrumentError
        By a call, for a shot that was never recorded.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = user_path(path)
        with _reading(self.path) as (file, recorded):
            if file.execute("SELECT 1 FROM shot LIMIT 1").fetchone() is None:
                raise DataError(f"{path} holds no shots yet; record some first.")
            file.verify()
        super().__init__(recorded["input_dim"], recorded["param_dim"], recorded["output_dim"])
        self.recorded = recorded
        self._given: dict[bytes, int] = {}  # the row given last, of shots recorded several times

    @property
    def name(self) -> str:
        return str(self.recorded["name"])

    def state(self) -> State:
        """Which of the repeated shots come next."""
        return {"given": json.dumps({digest.hex(): row for digest, row in self._given.items()})}

    def restore(self, state: State) -> None:
        if set(state) != {"given"}:
            raise RangeError(
                f"a replay cannot be taken back to {sorted(state)}: this checkpoint was written "
                "with another system."
            )
        given = json.loads(str(state["given"]))
        self._given = {bytes.fromhex(digest): int(row) for digest, row in given.items()}

    def _measure(self, x: Tensor, theta: Tensor) -> Tensor:
        rows, settings = _floats(x), _floats(theta)
        y = x.new_empty(len(x), self.output_dim)
        given, missing = dict(self._given), []
        with _reading(self.path) as (file, _):
            for shot, digest in enumerate(_digests(rows, settings)[0]):
                which = "WHERE digest = ? AND rowid > ? ORDER BY rowid LIMIT 2"
                after = given.pop(digest, 0)
                found = list(file.read("shot", which, digest, after, gapless=False))
                if not found:
                    missing.append(shot)
                    continue
                if len(found) == 2:  # after the last one, the first is next
                    given[digest] = found[0]["number"]
                y[shot] = torch.from_numpy(_array(found[0]["y"], self.output_dim))
            if missing:
                first = missing[0]
                setting = settings if settings.ndim == 1 else settings[first]
                row, in_x, in_theta = _nearest(file, rows[first], setting)
                raise InstrumentError(
                    f"{len(missing)} of these {len(rows)} shots were never recorded; the nearest "
                    f"to the first of them, row {first}, is shot {row} of the recording, "
                    f"{in_x:.3g} away in x and {in_theta:.3g} in theta (rms). A replay knows only "
                    "what was asked when it was recorded: to try anything else, fit a twin to "
                    f"recording_dataset({str(self.path)!r}), or ask the device itself."
                )
        self._given = given
        return y


def recording_dataset(path: Path | str, *, repeats: int | None = None) -> xr.Dataset:
    """Recorded shots in the form of `characterize.collect`, to fit a twin to or to look at.

    ``repeats`` takes the shots that were recorded at least so often, with so many read-outs of
    each, the first ones; by default as many as there are of every shot. Parameters that never
    changed are (parameter,). The attributes give the provenance, and how many read-outs were
    ``left_out``. `DataError`: there is no recording, it is damaged, or it holds no shot so often.
    """
    with _reading(user_path(path)) as (file, recorded):  # the `Replay` below verifies it
        fewest, most, taken = file.execute(_COUNTS).fetchone()
        least = (fewest or 1) if repeats is None else repeats
        if not 1 <= least <= (most or 0):
            raise DataError(
                f"no shot of {path} was recorded {least} times, and at most {most or 0} times; ask "
                "for 1 or more repeats and no more than that, or record again."
            )
        rows = file.execute(_REPEATED, (least,)).fetchall()
        began, provenance = file.execute("SELECT began, provenance FROM session").fetchone()
    x = np.stack([_array(one, recorded["input_dim"]) for one, _ in rows])
    theta = np.stack([_array(one, recorded["param_dim"]) for _, one in rows])
    if (theta == theta[0]).all():
        theta = theta[0]
    code = json.loads(provenance)
    dataset = measured(Replay(path), torch.from_numpy(x), torch.from_numpy(theta), repeats=least)
    return dataset.assign_attrs(
        pnnlab=code["pnnlab"],
        commit=code["commit"] or "",
        measurement="recording",
        device_passes=taken,
        left_out=taken - least * len(x),
        time_utc=began,
        identity=recorded["identity"],
        settings=json.dumps(recorded["settings"]),
    )


@contextmanager
def _reading(path: Path) -> Iterator[tuple[Database, dict[str, Any]]]:
    """Open an existing recording, with what describes it."""
    if not path.is_file():
        raise DataError(f"there is no recording {path}; make one with Recorder(system, path).")
    with _Recording.explained(path), closing(_Recording(path)) as file:
        if file.about is None:
            raise DataError(f"{path} is empty; record to it with Recorder(system, path).")
        yield file, json.loads(file.about["description"])


def _floats(tensor: Tensor) -> _Rows:
    """Values as they are kept: in eight bytes if they were given so, else in four."""
    kind, name = (torch.float64, "<f8") if tensor.dtype == torch.float64 else (torch.float32, "<f4")
    values: _Rows = tensor.to(kind).numpy().astype(name, copy=False)
    return values


def _array(blob: bytes, length: int) -> _Rows:
    """Values that were kept, in memory of their own."""
    return np.frombuffer(bytearray(blob), "<f8" if len(blob) == 8 * length else "<f4")


def _digests(x: _Rows, theta: _Rows) -> tuple[list[bytes], list[bytes]]:
    """Digests of shots, and of the parameters of each, whatever their data type."""
    # Equal numbers in equal bytes: -0.0 is 0.0.
    of_theta = [checksum(setting.tobytes()) for setting in np.atleast_2d(theta).astype("<f8") + 0.0]
    each = of_theta * len(x) if theta.ndim == 1 else of_theta
    of_shots = zip(x.astype("<f8") + 0.0, each, strict=True)
    return [checksum(setting, row.tobytes()) for row, setting in of_shots], each


def _nearest(file: Database, x: _Rows, theta: _Rows) -> tuple[int, float, float]:
    """Find the recorded shot that differs least, and how much: row, rms of x and rms of theta."""
    nearest = math.inf, 0, 0.0, 0.0
    rows = file.execute("SELECT id, x, value FROM shot JOIN theta ON theta.digest = shot.theta")
    for number, *blobs in rows:
        pairs = zip(blobs, (x.astype(np.float64), theta.astype(np.float64)), strict=True)
        in_x, in_theta = (float(np.square(_array(b, len(own)) - own).sum()) for b, own in pairs)
        nearest = min(nearest, (in_x + in_theta, number, in_x, in_theta))
    _, row, in_x, in_theta = nearest
    return row, math.sqrt(in_x / len(x)), math.sqrt(in_theta / max(len(theta), 1))
