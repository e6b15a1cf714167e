"""Train a network on its devices, evaluate it, and follow its devices and twins meanwhile.

What needs a device here drives it at once: during a training, hand it to
`pnnlab.background.Session.do`, which carries it out between two steps.
"""

from pnnlab.training.cost import Estimate, estimate, passes_per_example
from pnnlab.training.drift import (
    Alignment,
    Drift,
    Reference,
    Refit,
    alignment,
    alignment_passes,
    reference_passes,
    refit,
    refit_passes,
    take_references,
)
from pnnlab.training.evaluation import Confusion, accuracy, confusion, evaluate, scores
from pnnlab.training.inference import Inference, LayerResponse, infer, layer_drives
from pnnlab.training.objectives import CLASSIFICATION, REGRESSION, Labels, Objective
from pnnlab.training.records import Curves, Floats, History, Record
from pnnlab.training.training import FitSettings, MakeOptimizer, Training

__all__ = [
    "CLASSIFICATION",
    "REGRESSION",
    "Alignment",
    "Confusion",
    "Curves",
    "Drift",
    "Estimate",
    "FitSettings",
    "Floats",
    "History",
    "Inference",
    "Labels",
    "LayerResponse",
    "MakeOptimizer",
    "Objective",
    "Record",
    "Reference",
    "Refit",
    "Training",
    "accuracy",
    "alignment",
    "alignment_passes",
    "confusion",
    "estimate",
    "evaluate",
    "infer",
    "layer_drives",
    "passes_per_example",
    "reference_passes",
    "refit",
    "refit_passes",
    "scores",
    "take_references",
]
