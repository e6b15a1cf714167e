"""Looking into run folders: their records, and a list of them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pnnlab.errors import RunError
from pnnlab.plain import whole
from pnnlab.runs.journal import JOURNAL, EventRow, reading
from pnnlab.storage import user_path
from pnnlab.training import Labels, Record


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
    """Read the records of a run beyond a step, also while it goes on, or raise a `RunError`."""
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
        except Exception as error:  # noqa: BLE001 - a stranger's file must not hide the others
            strange = f"it is no journal of pnnlab ({error!r})"
            problem = str(error) if isinstance(error, RunError) else strange
            runs.append(RunInfo(folder=journal.parent, problem=problem))
    return sorted(runs, key=lambda run: str(run.began), reverse=True)
