"""Twins: differentiable digital models of a device, how to fit them, and how good they are."""

from pnnlab.twins.equations import (
    CircuitEquations,
    Forces,
    OscillatorEquations,
    PlateEquations,
    SHGEquations,
)
from pnnlab.twins.fitting import (
    NeuralFit,
    NeuralRecord,
    NeuralSettings,
    fit_neural,
    fit_twin,
    fitting_neural,
)
from pnnlab.twins.neural import Mlp, NeuralTwin, Temporal
from pnnlab.twins.physics import PhysicsFit, PhysicsTwin, fit_physics, refined
from pnnlab.twins.report import (
    DepthGap,
    GradientAgreement,
    TwinReport,
    gap_by_depth,
    gradient_agreement,
    report,
)
from pnnlab.twins.storing import load, save
from pnnlab.twins.twin import Signature, Twin, predict

__all__ = [
    "CircuitEquations",
    "DepthGap",
    "Forces",
    "GradientAgreement",
    "Mlp",
    "NeuralFit",
    "NeuralRecord",
    "NeuralSettings",
    "NeuralTwin",
    "OscillatorEquations",
    "PhysicsFit",
    "PhysicsTwin",
    "PlateEquations",
    "SHGEquations",
    "Signature",
    "Temporal",
    "Twin",
    "TwinReport",
    "fit_neural",
    "fit_physics",
    "fit_twin",
    "fitting_neural",
    "gap_by_depth",
    "gradient_agreement",
    "load",
    "predict",
    "refined",
    "report",
    "save",
]
