"""Record a session with a device, and replay it where there is none.

What is recorded is what was asked and what was answered, shot by shot, so that a workshop can study
a real device without it. How the file is made: `pnnlab.instruments.shotfile`.
"""

import json
import sqlite3
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self, final

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from pnnlab.characterize.datasets import UNITS
from pnnlab.characterize.drives import SPLITS
from pnnlab.errors import DataError, InstrumentError, RangeError
from pnnlab.instruments import shotfile
from pnnlab.instruments.shotfile import DATABASE, Recorded
from pnnlab.physical_system import Cost, Group, PhysicalSystem, State
from pnnlab.provenance import commit, utc_now, versions
from pnnlab.storage import insert, transaction, user_path


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
        The file cannot be written, or is a recording of something else. By a call: its shots were
        taken, and those before it are in the file.
    RangeError
        The settings hold what JSON cannot.
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
        self.recorded = Recorded(
            name=system.name,
            input_dim=system.input_dim,
            param_dim=system.param_dim,
            output_dim=system.output_dim,
            identity=identity,
            settings=_as_json(settings or {}),
        )
        with DATABASE.explained(self.path):
            self._connection = DATABASE.connect(self.path, create=True)
        try:
            with DATABASE.explained(self.path), transaction(self._connection):
                self._session = self._begin()
        except BaseException:
            self._connection.close()
            raise

    @property
    def name(self) -> str:
        """Name of the recorded system."""
        return self.system.name

    def cost(self) -> Cost:
        """Cost of the recorded system."""
        return self.system.cost()

    def theta_groups(self) -> tuple[Group, ...]:
        """Groups of the recorded system."""
        return self.system.theta_groups()

    def state(self) -> State:
        """State of the recorded system."""
        return self.system.state()

    def restore(self, state: State) -> None:
        """Take the recorded system back to a state; what was recorded stays."""
        self.system.restore(state)

    def close(self) -> None:
        """Close the file. It is a single one then, to be copied and read anywhere."""
        with suppress(sqlite3.Error):  # somebody reads it, or it was closed before
            self._connection.execute("PRAGMA journal_mode = DELETE")
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _measure(self, x: Tensor, theta: Tensor) -> Tensor:
        y = self.system(x, theta)
        now = time.time()
        rows, settings, answers = (shotfile.floats(tensor) for tensor in (x, theta, y))
        digests, of_theta = shotfile.digests(rows, settings)
        distinct = dict(zip(of_theta, np.atleast_2d(settings), strict=True))
        each = of_theta * len(rows) if theta.ndim == 1 else of_theta
        with DATABASE.explained(self.path), transaction(self._connection):
            self._connection.executemany(
                "INSERT OR IGNORE INTO theta (digest, value) VALUES (?, ?)",
                ((digest, value.tobytes()) for digest, value in distinct.items()),
            )
            self._connection.executemany(
                "INSERT INTO shot (session, time, digest, theta, x, y) VALUES (?, ?, ?, ?, ?, ?)",
                (
                    (self._session, now, digest, of, row.tobytes(), answer.tobytes())
                    for digest, of, row, answer in zip(digests, each, rows, answers, strict=True)
                ),
            )
        return y

    def _begin(self) -> int:
        """Describe the file or check whose it is, and note who goes on from here."""
        began, there = utc_now(), shotfile.described(self._connection, self.path)
        if there is None:
            DATABASE.describe(self._connection, began=began, description=self.recorded.as_text())
        elif there != self.recorded:
            ours = vars(self.recorded)
            changed = [key for key, value in vars(there).items() if ours[key] != value]
            raise DataError(
                f"{self.path} is a recording of {there.name} with another "
                f"{', '.join(changed)}; record to a new file, so that one file was measured "
                "under one set of conditions."
            )
        told = json.dumps({**versions(), "commit": commit()})
        return insert(self._connection, "session", began=began, provenance=told)


@final
class Replay(PhysicalSystem):
    """A recorded device: it answers the shots that were recorded, and no others.

    A shot that was recorded several times is answered in the order of the recording, and then
    from the first again. ``x`` and ``theta`` must be those of the recording to the last bit.

    Parameters
    ----------
    path : path
        What a `Recorder` wrote.

    Raises
    ------
    DataError
        There is no recording, it holds no shots, or it cannot be read.
    InstrumentError
        By a call, for a shot that was never recorded.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = user_path(path)
        with shotfile.reading(self.path) as (connection, recorded):
            if connection.execute("SELECT 1 FROM shot LIMIT 1").fetchone() is None:
                raise DataError(f"{path} holds no shots yet; record some first.")
        super().__init__(recorded.input_dim, recorded.param_dim, recorded.output_dim)
        self.recorded = recorded
        self._given: dict[bytes, int] = {}  # the row given last, of shots recorded several times

    @property
    def name(self) -> str:
        """Name of the recorded system."""
        return self.recorded.name

    def state(self) -> State:
        """Which of the repeated shots come next."""
        return {"given": json.dumps({name.hex(): row for name, row in self._given.items()})}

    def restore(self, state: State) -> None:
        """Go back to a `state`."""
        if set(state) != {"given"}:
            raise RangeError(
                f"a replay cannot be taken back to {sorted(state)}: this checkpoint was written "
                "with another system."
            )
        given = json.loads(str(state["given"]))
        self._given = {bytes.fromhex(name): int(row) for name, row in given.items()}

    def _measure(self, x: Tensor, theta: Tensor) -> Tensor:
        rows, settings = shotfile.floats(x), shotfile.floats(theta)
        given, answers, missing = dict(self._given), [], []
        with shotfile.reading(self.path) as (connection, _):
            for number, digest in enumerate(shotfile.digests(rows, settings)[0]):
                found = connection.execute(
                    "SELECT id, y FROM shot WHERE digest = ? AND id > ? ORDER BY id LIMIT 2",
                    (digest, given.pop(digest, 0)),
                ).fetchall()
                if not found:
                    missing.append(number)
                    continue
                if len(found) == 2:  # after the last one, the first is next
                    given[digest] = found[0][0]
                answers.append(shotfile.array(found[0][1], self.output_dim))
            if missing:
                first = missing[0]
                setting = settings if settings.ndim == 1 else settings[first]
                row, in_x, in_theta = shotfile.nearest(connection, rows[first], setting)
                raise InstrumentError(
                    f"{len(missing)} of these {len(rows)} shots were never recorded; the nearest "
                    f"to the first of them, row {first}, is shot {row} of the recording, "
                    f"{in_x:.3g} away in x and {in_theta:.3g} in theta (rms). A replay knows only "
                    "what was asked when it was recorded: to try anything else, fit a twin to "
                    f"recording_dataset({str(self.path)!r}), or ask the device itself."
                )
        self._given = given
        if not answers:
            return x.new_empty(0, self.output_dim)
        return torch.from_numpy(np.stack(answers)).to(x.dtype)


def _as_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    try:
        kept: dict[str, Any] = json.loads(json.dumps(dict(settings)))
    except (TypeError, ValueError) as error:
        raise RangeError(
            f"settings cannot be written down ({error}); give numbers, text, lists and mappings, "
            "as dataclasses.asdict does."
        ) from error
    return kept


def recording_dataset(path: Path | str, *, repeats: int | None = None) -> xr.Dataset:
    """Recorded shots in the form of `characterize.collect`, to fit a twin to or to look at.

    Parameters
    ----------
    path : path
        What a `Recorder` wrote.
    repeats : int, optional
        Take the shots that were recorded at least so often, with so many read-outs of each, the
        first ones; by default as many as there are of every shot.

    Returns
    -------
    Dataset
        ``x``, (shot, input), ``theta``, (shot, parameter), or (parameter,) if it never changed,
        ``y``, (repeat, shot, output), and the coordinate ``split``. Its attributes tell where the
        shots come from, and how many read-outs were ``left_out``.

    Raises
    ------
    DataError
        There is no recording, it cannot be read, or it holds no shot so often.
    """
    with shotfile.reading(user_path(path)) as (connection, recorded):
        counts: dict[bytes, int] = dict(
            connection.execute("SELECT digest, COUNT(*) FROM shot GROUP BY digest ORDER BY MIN(id)")
        )
        least = min(counts.values(), default=1) if repeats is None else repeats
        chosen = [digest for digest, count in counts.items() if count >= least]
        if least < 1 or not chosen:
            raise DataError(
                f"no shot of {path} was recorded {least} times, and at most "
                f"{max(counts.values(), default=0)} times; ask for 1 or more repeats and no more "
                "than that, or record again."
            )
        x, theta, y = shotfile.gather(connection, recorded, chosen, least)
        began, provenance = connection.execute(
            "SELECT began, provenance FROM session ORDER BY id LIMIT 1"
        ).fetchone()
    origin, taken = json.loads(provenance), sum(counts.values())
    return xr.Dataset(
        {
            "x": (("shot", "input"), x, UNITS),
            "theta": (("shot", "parameter")[2 - theta.ndim :], theta, UNITS),
            "y": (("repeat", "shot", "output"), y, UNITS),
        },
        {
            "shot": np.arange(len(x)),
            "split": ("shot", [SPLITS[i % len(SPLITS)] for i in range(len(x))]),
        },
        {
            "pnnlab": origin["pnnlab"],
            "measurement": "recording",
            "system": recorded.name,
            "input_dim": recorded.input_dim,
            "param_dim": recorded.param_dim,
            "output_dim": recorded.output_dim,
            "device_passes": taken,
            "left_out": taken - least * len(x),
            "repeats": least,
            "time_utc": began,
            "commit": origin["commit"] or "",
            "identity": recorded.identity,
            "settings": json.dumps(recorded.settings),
        },
    )
