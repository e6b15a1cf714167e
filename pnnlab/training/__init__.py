"""`fit`: a generator of records. It plots nothing and writes nothing; who iterates drives."""

from pnnlab.training.evaluation import Evaluation, Examples, accuracy, evaluate, logits
from pnnlab.training.limits import at_limits, stuck
from pnnlab.training.record import Record
from pnnlab.training.settings import FitSettings
from pnnlab.training.training import Training, fit

__all__ = [
    "Evaluation",
    "Examples",
    "FitSettings",
    "Record",
    "Training",
    "accuracy",
    "at_limits",
    "evaluate",
    "fit",
    "logits",
    "stuck",
]
