"""Train a network on its devices, evaluate it, and follow its devices and twins meanwhile.

What needs a device here drives it at once: during a training, hand it to
`pnnlab.background.Session.do`, which carries it out between two steps.
"""

from pnnlab.training.advice import (
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
from pnnlab.training.cost import Estimate, estimate, passes_per_example
from pnnlab.training.evaluation import (
    CLASSIFICATION,
    REGRESSION,
    Confusion,
    Inference,
    Labels,
    LayerResponse,
    Objective,
    accuracy,
    confusion,
    evaluate,
    infer,
    layer_drives,
    scores,
)
from pnnlab.training.training import (
    Curves,
    FitSettings,
    Floats,
    History,
    Options,
    Record,
    Training,
)

__all__ = ["FitSettings", "Options", "Training"]
__all__ += ["CLASSIFICATION", "REGRESSION", "Labels", "Objective"]
__all__ += ["Curves", "Floats", "History", "Record"]
__all__ += ["Confusion", "accuracy", "confusion", "evaluate", "scores"]
__all__ += ["Inference", "LayerResponse", "infer", "layer_drives"]
__all__ += ["Estimate", "estimate", "passes_per_example"]
__all__ += ["Alignment", "Refit", "alignment", "alignment_passes", "refit", "refit_passes"]
__all__ += ["Drift", "Reference", "reference_passes", "take_references"]
