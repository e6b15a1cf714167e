"""Train a network on its devices, evaluate it, and watch what its devices do meanwhile.

What needs a device here drives it at once: during a training, hand it to
`pnnlab.background.Session.do`, which carries it out between two steps.
"""

from pnnlab.training.alignment import Alignment, alignment, alignment_passes
from pnnlab.training.confusion import Confusion, confusion
from pnnlab.training.cost import Estimate, estimate, multiply_adds
from pnnlab.training.drift import (
    DriftNow,
    Reference,
    Refit,
    refit,
    refit_passes,
    remember,
    remembering_passes,
)
from pnnlab.training.evaluation import (
    Evaluation,
    Examples,
    accuracy,
    at_limits,
    evaluate,
    outputs,
    scores,
    stuck,
)
from pnnlab.training.journey import Journey, Stage, journey
from pnnlab.training.layer_drives import LayerDrives, seeing_passes, seen, shots_per_example
from pnnlab.training.objectives import CLASSIFICATION, REGRESSION, Labels, Objective
from pnnlab.training.records import Curves, Floats, History, Record
from pnnlab.training.settings import FitSettings
from pnnlab.training.training import Training

__all__ = [
    "CLASSIFICATION",
    "REGRESSION",
    "Alignment",
    "Confusion",
    "Curves",
    "DriftNow",
    "Estimate",
    "Evaluation",
    "Examples",
    "FitSettings",
    "Floats",
    "History",
    "Journey",
    "Labels",
    "LayerDrives",
    "Objective",
    "Record",
    "Reference",
    "Refit",
    "Stage",
    "Training",
    "accuracy",
    "alignment",
    "alignment_passes",
    "at_limits",
    "confusion",
    "estimate",
    "evaluate",
    "journey",
    "multiply_adds",
    "outputs",
    "refit",
    "refit_passes",
    "remember",
    "remembering_passes",
    "scores",
    "seeing_passes",
    "seen",
    "shots_per_example",
    "stuck",
]
