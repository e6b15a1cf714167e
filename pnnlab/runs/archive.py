"""Looking into run folders: their records, a list of them, and labelled netCDF to share."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pnnlab.errors import RunError
from pnnlab.plain import whole
from pnnlab.runs.journal import JOURNAL, EventRow, RunRow, SessionRow, reading
from pnnlab.storage import user_path, write
from pnnlab.training import Labels, Record

if TYPE_CHECKING:
    import xarray

EXPORT = "journal.nc"

_LAYERED = ("clamped", "gap", "theta_at_limits", "stuck")
_COUNTS = ("step", "epoch", "device_passes")
_UNITS = {"seconds": "s", "seconds_left": "s", "steps_per_second": "1/s"}
_MEANINGS = {
    "step": "steps done",
    "epoch": "epoch of the step",
    "layer": "physical layer",
    "loss": "loss of the objective with range penalty, of the batch",
    "batch_metric": "metric on the batch, before the step",
    "clamped": "fraction of clamped inputs",
    "device_passes": "shots taken since the run began, evaluations included",
    "seconds": "wall time spent in steps",
    "seconds_left": "wall time to the end, at the speed so far",
    "steps_per_second": "mean speed since the run began",
    "learning_rate": "learning rate of this step",
    "device_metric": "metric on the validation split, on the device",
    "device_loss": "loss on the validation split, on the device",
    "twin_metric": "metric on the validation split, on the twin",
    "twin_loss": "loss on the validation split, on the twin",
    "gap": "mean squared difference of device and twin over the variance of the device",
    "theta_at_limits": "fraction of parameters at or beyond 0 or 1",
    "stuck": "fraction of read-outs that stick at an end of their range",
}


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """A run at a glance.

    Attributes
    ----------
    folder : Path
    description : str
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
    """Read the records of a run, also while it goes on in another process.

    Parameters
    ----------
    folder : path
    after : int
        Only the steps beyond this one.

    Raises
    ------
    RunError
        There is no run in ``folder``, or its journal cannot be read.
    """
    with reading(user_path(folder)) as (journal, _):
        return list(journal.records(whole("after", after)))


def read_run(folder: str | Path) -> RunInfo:
    """Read a run at a glance.

    Raises
    ------
    RunError
        There is no run in ``folder``, or its journal cannot be read.
    """
    folder = user_path(folder)
    with reading(folder) as (journal, run):
        last = journal.last("step")
        evaluated = journal.last("device_metric")
        labels = {key: text for key, text in run.identity["objective"].items() if key != "name"}
        return RunInfo(
            folder=folder,
            description=run.description,
            began=run.began,
            step=last.step if last else 0,
            steps=last.steps if last else 0,
            device_metric=evaluated.device_metric if evaluated else None,
            labels=Labels(**labels),
            provenance=journal.sessions()[0].provenance,
            events=tuple(journal.events()),
        )


def list_runs(root: str | Path) -> list[RunInfo]:
    """All runs in ``root`` and the folders below it, newest first."""
    folders = sorted(path.parent for path in user_path(root).rglob(JOURNAL))
    runs = []
    for folder in folders:
        try:
            runs.append(read_run(folder))
        except RunError as error:
            runs.append(RunInfo(folder=folder, problem=str(error)))
    return sorted(runs, key=lambda run: run.began, reverse=True)


def export(folder: str | Path) -> Path:
    """Write the journal of a run as labelled netCDF, ``journal.nc`` in its folder.

    Returns
    -------
    Path
        Of a file with dimensions ``step`` and ``layer``, NaN where a step had no evaluation, and
        the provenance of every session as JSON in its attributes.

    Raises
    ------
    RunError
        There is no run in ``folder``, or the folder cannot be written.
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


def _dataset(records: list[Record], run: RunRow, sessions: list[SessionRow]) -> "xarray.Dataset":
    import numpy as np  # these two take as long to import as all the rest; only an export pays
    import xarray as xr

    layers = max((len(record.clamped) for record in records), default=0)
    absent = (float("nan"),) * layers

    def column(name: str) -> Any:
        values = [getattr(record, name) for record in records]
        if name in _LAYERED:
            rows = [absent if value is None else value for value in values]
            return ("step", "layer"), np.array(rows, dtype=float).reshape(len(rows), layers)
        return "step", np.array(values, dtype=np.int64 if name in _COUNTS else float)

    names = [name for name in _MEANINGS if name not in ("step", "layer")]
    dataset = xr.Dataset(
        {name: column(name) for name in names},
        coords={"step": column("step"), "layer": np.arange(layers)},
        attrs={
            "title": run.description or f"training run of {run.began}",
            "began": run.began,
            "steps": records[-1].steps if records else 0,
            "network": run.network,
            "identity": json.dumps(run.identity),
            "sessions": json.dumps([asdict(session) for session in sessions]),
        },
    )
    for name, meaning in _MEANINGS.items():
        dataset[name].attrs = {"long_name": meaning, "units": _UNITS.get(name, "1")}
    return dataset
