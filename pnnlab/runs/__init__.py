"""What lasts of a training run: journal, checkpoints, resume and provenance, in one folder.

A `Run` stands where `fit` stands: whoever iterates `Run.records` drives. A process may be killed at
any moment; `Run.resume` goes on from the newest checkpoint, and a simulated run ends bit-equal to
one that was never interrupted.
"""

from pnnlab.runs.archive import (
    RunInfo,
    export,
    list_runs,
    read_events,
    read_journal,
    read_provenance,
)
from pnnlab.runs.journal import EventRow
from pnnlab.runs.run import Run

__all__ = [
    "EventRow",
    "Run",
    "RunInfo",
    "export",
    "list_runs",
    "read_events",
    "read_journal",
    "read_provenance",
]
