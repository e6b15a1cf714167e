"""What lasts of a training run: journal, checkpoints, resume and provenance, in one folder."""

from pnnlab.runs.exporting import export_network
from pnnlab.runs.journal import EventRow, RunInfo, list_runs, read_journal, read_run
from pnnlab.runs.run import Run, run_folder, train

__all__ = [
    "EventRow",
    "Run",
    "RunInfo",
    "export_network",
    "list_runs",
    "read_journal",
    "read_run",
    "run_folder",
    "train",
]
