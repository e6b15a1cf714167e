"""Background sessions: a training that runs in a thread, and can be paused, saved and stopped.

A session drives any iterator of records, as `fit` or a run makes them. Between two steps it does
what was asked of it; nobody who watches can hold up a step.
"""

from pnnlab.sessions.history import BINS, EVALUATIONS, Curves, Floats, History
from pnnlab.sessions.session import Request, Session, Status
from pnnlab.sessions.task import Task

__all__ = [
    "BINS",
    "EVALUATIONS",
    "Curves",
    "Floats",
    "History",
    "Request",
    "Session",
    "Status",
    "Task",
]
