"""Train a network on its devices, evaluate it, and follow its devices and twins meanwhile.

What needs a device here drives it at once: during a training, hand it to
`pnnlab.background.Session.do`, which carries it out between two steps.
"""

from pnnlab.training.alignment import Alignment, alignment, alignment_passes
from pnnlab.training.cost import Estimate, estimate, passes_per_example
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
    Confusion,
    accuracy,
    confusion,
    evaluate,
    scores,
)
from pnnlab.training.inference import Journey, Stage, journey, layer_drives
from pnnlab.training.objectives import CLASSIFICATION, REGRESSION, Labels, Objective
from pnnlab.training.records import Curves, Floats, History, Record
from pnnlab.training.training import FitSettings, MakeOptimizer, Training

__all__ = [
    "CLASSIFICATION",
    "REGRESSION",
    "Alignment",
    "Confusion",
    "Curves",
    "DriftNow",
    "Estimate",
    "FitSettings",
    "Floats",
    "History",
    "Journey",
    "Labels",
    "MakeOptimizer",
    "Objective",
    "Record",
    "Reference",
    "Refit",
    "Stage",
    "Training",
    "accuracy",
    "alignment",
    "alignment_passes",
    "confusion",
    "estimate",
    "evaluate",
    "journey",
    "layer_drives",
    "passes_per_example",
    "refit",
    "refit_passes",
    "remember",
    "remembering_passes",
    "scores",
]
