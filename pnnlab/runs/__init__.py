"""What lasts of a training run: journal, checkpoints, resume and provenance, in one folder.

Iterating `Run.records` trains. A process may be killed at any moment;
`Run.open` goes on from the newest checkpoint, and a simulated run ends bit-equal to one that was
never interrupted.
"""

from pnnlab.runs.archive import RunInfo, export, list_runs, read_journal, read_run
from pnnlab.runs.exporting import export_network
from pnnlab.runs.journal import EventRow
from pnnlab.runs.run import Run, run_folder, train

__all__ = [
    "EventRow",
    "Run",
    "RunInfo",
    "export",
    "export_network",
    "list_runs",
    "read_journal",
    "read_run",
    "run_folder",
    "train",
]
