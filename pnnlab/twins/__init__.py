"""Twins: differentiable digital models of a device, how to fit them, and how good they are."""

from pnnlab.twins.neural import (
    FilterBank,
    Forces,
    Mlp,
    NeuralFit,
    NeuralRecord,
    NeuralSettings,
    NeuralTwin,
    Temporal,
    fit_neural,
    fitting_neural,
)
from pnnlab.twins.physics import (
    CircuitEquations,
    OscillatorEquations,
    PhysicsFit,
    PhysicsTwin,
    PlateEquations,
    ResonatorEquations,
    SHGEquations,
    fit_physics,
    refined,
)
from pnnlab.twins.report import (
    DepthGap,
    GradientAgreement,
    TwinReport,
    gap_by_depth,
    gradient_agreement,
    report,
)
from pnnlab.twins.storing import fit_twin, load, save
from pnnlab.twins.twin import Signature, Twin, predict, stand_in

__all__ = ["Signature", "Twin", "load", "predict", "save", "stand_in"]
__all__ += ["CircuitEquations", "OscillatorEquations", "PlateEquations"]
__all__ += ["ResonatorEquations", "SHGEquations"]
__all__ += ["PhysicsFit", "PhysicsTwin", "fit_physics", "refined"]
__all__ += ["FilterBank", "Forces", "Mlp", "Temporal"]
__all__ += ["NeuralFit", "NeuralRecord", "NeuralSettings", "NeuralTwin"]
__all__ += ["fit_neural", "fit_twin", "fitting_neural"]
__all__ += ["DepthGap", "GradientAgreement", "TwinReport"]
__all__ += ["gap_by_depth", "gradient_agreement", "report"]
