"""Looking into run folders: their records, a list of them, and labelled netCDF to share."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from pnnlab.errors import RunError
from pnnlab.plain import whole
from pnnlab.runs.journal import JOURNAL, EventRow, Row, reading
from pnnlab.storage import Kind, user_path
from pnnlab.training import Labels, Record

if TYPE_CHECKING:
    import xarray

EXPORT = "journal.nc"
_EXPORTED = Kind(name="export", format=1, error=RunError, remedy="export the run again")


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
    """Read the records of a run beyond a step, also while it goes on in another process.

    Raises
    ------
    RunError
        There is no run in ``folder``, or its journal is damaged or cannot be read.
    """
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
            events=tuple(journal.events()),
        )


def list_runs(root: str | Path) -> list[RunInfo]:
    """All runs in ``root`` and the folders below it, newest first, with damaged ones at the end."""
    runs = []
    for journal in sorted(user_path(root).rglob(JOURNAL)):
        try:
            runs.append(read_run(journal.parent))
        except RunError as error:
            runs.append(RunInfo(folder=journal.parent, problem=str(error)))
        except Exception as error:  # noqa: BLE001 - a stranger's file must not hide the others
            problem = f"it is no journal of pnnlab ({error!r})"
            runs.append(RunInfo(folder=journal.parent, problem=problem))
    return sorted(runs, key=lambda run: str(run.began), reverse=True)


def export(folder: str | Path) -> Path:
    """Write the journal of a run as labelled netCDF, ``journal.nc`` in its folder.

    Its dimensions are ``step`` and ``layer``. It holds NaN where a step had no evaluation, and the
    provenance of every session as JSON in its attributes. Errors as of `read_journal`.
    """
    folder = user_path(folder)
    with reading(folder) as (journal, run):
        dataset = _dataset(list(journal.records()), run, journal.sessions())
    # Through memory: the HDF5 library brings the process down when a disk fills under it.
    return _EXPORTED.save(folder / EXPORT, dataset.to_netcdf(engine="h5netcdf"))


def _dataset(records: list[Record], run: Row, sessions: list[Row]) -> "xarray.Dataset":
    import numpy as np  # these two take as long to import as all the rest; only an export pays
    import xarray as xr

    layers = max((len(record.clamped) for record in records), default=0)
    columns: dict[str, Any] = {}
    hints = get_type_hints(Record, include_extras=True)
    del hints["steps"]  # the same in every record: an attribute of the whole
    for name, hint in hints.items():
        meaning, unit = (*hint.__metadata__, "1")[:2]
        values = [getattr(record, name) for record in records]
        dims: tuple[str, ...] = ("step",)
        if "tuple" in str(hint.__origin__):
            dims = ("step", "layer")
            values = [(np.nan,) * layers if value is None else value for value in values]
        kind = np.int64 if hint.__origin__ is int else float
        array = np.array(values, dtype=kind).reshape(len(records), *[layers] * (len(dims) - 1))
        columns[name] = dims, array, {"long_name": meaning, "units": unit}
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
