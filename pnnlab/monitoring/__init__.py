"""What to watch while a network is trained: alignment, confusion, drift, limits, and cost.

Everything here that needs a device drives it at once: during a training, hand it to
`pnnlab.sessions.Session.do`, which carries it out between two steps.
"""

from pnnlab.monitoring.alignment import Alignment, alignment, alignment_passes
from pnnlab.monitoring.confusion import Confusion, confusion
from pnnlab.monitoring.cost import Cost, Estimate, cost_of, estimate, multiply_adds
from pnnlab.monitoring.drifting import (
    DriftNow,
    Reference,
    Refit,
    refit,
    refit_passes,
    remember,
    remembering_passes,
)
from pnnlab.monitoring.seeing import Seen, seeing_passes, seen, shots_per_example

__all__ = [
    "Alignment",
    "Confusion",
    "Cost",
    "DriftNow",
    "Estimate",
    "Reference",
    "Refit",
    "Seen",
    "alignment",
    "alignment_passes",
    "confusion",
    "cost_of",
    "estimate",
    "multiply_adds",
    "refit",
    "refit_passes",
    "remember",
    "remembering_passes",
    "seeing_passes",
    "seen",
    "shots_per_example",
]
