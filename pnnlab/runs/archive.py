"""Looking into run folders: their records, a list of them, and labelled netCDF to share."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from pnnlab.errors import RunError
from pnnlab.plain import whole
from pnnlab.runs.journal import JOURNAL, EventRow, Row, reading
from pnnlab.storage import user_path, write
from pnnlab.training import Labels, Record

if TYPE_CHECKING:
    import xarray

EXPORT = "journal.nc"
_LAYERED = ("clamped", "gap", "theta_at_limits", "stuck")


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """A run at a glance.

    Attributes
    ----------
    began : str
        UTC, ISO 8601.
    step, steps : int
        Steps in the journal, and of the whole run; 0 where no step has been taken.
    device_metric : float or None
        Of the last evaluation, on the validation split.
    labels : Labels
        Names of the loss and the metric.
    provenance : dict
        How it began: versions, source revision and command.
    events : tuple of EventRow
        What a person should know of it: changed learning rates, refitted twins, warnings.
    problem : str
        Why the journal cannot be read; empty if it can.
    """

    folder: Path
    description: str = ""
    began: str = ""
    step: int = 0
    steps: int = 0
    device_metric: float | None = None
    labels: Labels = field(default_factory=Labels)
    provenance: dict[str, Any] = field(default_factory=dict)
    events: tuple[EventRow, ...] = ()
    problem: str = ""


def read_journal(folder: str | Path, after: int = 0) -> list[Record]:
    """Read the records of a run beyond a step, also while it goes on in another process.

    Raises
    ------
    RunError
        There is no run in ``folder``, or its journal cannot be read.
    """
    with reading(user_path(folder)) as (journal, _):
        return list(journal.records(whole("after", after)))


def read_run(folder: str | Path) -> RunInfo:
    """Read a run at a glance. Errors as of `read_journal`."""
    folder = user_path(folder)
    with reading(folder) as (journal, run):
        last = journal.last("step")
        evaluated = journal.last("device_metric")
        labels = {key: text for key, text in run["identity"]["objective"].items() if key != "name"}
        return RunInfo(
            folder=folder,
            description=run["description"],
            began=run["began"],
            step=last.step if last else 0,
            steps=last.steps if last else 0,
            device_metric=evaluated.device_metric if evaluated else None,
            labels=Labels(**labels),
            provenance=journal.sessions()[0]["provenance"],
            events=tuple(journal.events()),
        )


def list_runs(root: str | Path) -> list[RunInfo]:
    """All runs in ``root`` and the folders below it, newest first."""
    runs = []
    for journal in sorted(user_path(root).rglob(JOURNAL)):
        try:
            runs.append(read_run(journal.parent))
        except RunError as error:
            runs.append(RunInfo(folder=journal.parent, problem=str(error)))
    return sorted(runs, key=lambda run: run.began, reverse=True)


def export(folder: str | Path) -> Path:
    """Write the journal of a run as labelled netCDF, ``journal.nc`` in its folder.

    Its dimensions are ``step`` and ``layer``. It holds NaN where a step had no evaluation, and the
    provenance of every session as JSON in its attributes. Errors as of `read_journal`.
    """
    folder = user_path(folder)
    with reading(folder) as (journal, run):
        dataset = _dataset(list(journal.records()), run, journal.sessions())
    path = folder / EXPORT
    # Through memory: the HDF5 library brings the process down when a disk fills under it.
    content = dataset.to_netcdf(engine="h5netcdf")
    try:
        write(path, content)
    except OSError as error:
        raise RunError(
            f"{path} cannot be written ({error}); the journal itself is untouched. Free some space "
            "and export again."
        ) from error
    return path


def _dataset(records: list[Record], run: Row, sessions: list[Row]) -> "xarray.Dataset":
    import numpy as np  # these two take as long to import as all the rest; only an export pays
    import xarray as xr

    layers = max((len(record.clamped) for record in records), default=0)
    absent = (float("nan"),) * layers
    columns: dict[str, Any] = {}
    hints = get_type_hints(Record, include_extras=True)
    del hints["steps"]  # the same in every record: an attribute of the whole
    for name, hint in hints.items():
        values = [getattr(record, name) for record in records]
        meaning, unit = (*hint.__metadata__, "1")[:2]
        attributes = {"long_name": meaning, "units": unit}
        if name in _LAYERED:
            rows = [absent if value is None else value for value in values]
            array = np.array(rows, dtype=float).reshape(len(rows), layers)
            columns[name] = ("step", "layer"), array, attributes
        else:
            kind = np.int64 if hint.__origin__ is int else float
            columns[name] = "step", np.array(values, dtype=kind), attributes
    return xr.Dataset(
        columns,
        coords={"layer": ("layer", np.arange(layers), {"long_name": "physical layer"})},
        attrs={
            "title": run["description"] or f"training run of {run['began']}",
            "began": run["began"],
            "steps": records[-1].steps if records else 0,
            "network": run["network"],
            "identity": json.dumps(run["identity"]),
            "sessions": json.dumps(sessions),
        },
    )
