"""What twins of the coupled pendula know."""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from pnnlab.errors import TwinError
from pnnlab.systems.oscillators import (
    BIAS_RANGE,
    COUPLING_RANGE,
    STEPS,
    accelerations,
    integrate,
    release,
    split,
    swing,
)
from pnnlab.twins.base import Described
from pnnlab.twins.neural import Architecture, Core
from pnnlab.twins.physics import Equations

HASTE = 5.0  # how much faster than a weight the scale of the read-outs is learnt


@dataclass(frozen=True)
class Constants:
    """Constants of the pendula's equations.

    Parameters
    ----------
    angle : float
        What the angles are multiplied with within the sine, 1 on paper.
    """

    angle: float = 1.0


@final
@dataclass(frozen=True)
class OscillatorEquations(Equations):
    """The pendula as they were programmed: no coupling errors, no trembling release.

    Parameters
    ----------
    n : int
        How many pendula.
    low, high : float
        Angles at release of the inputs 0 and 1, rad.
    coupling_range, bias_range : float
        Largest coupling and torque either way.
    steps : int
        Runge-Kutta steps; a twin may be coarser than its system.
    """

    n: int
    low: float = 0.0
    high: float = 1.0
    coupling_range: float = COUPLING_RANGE
    bias_range: float = BIAS_RANGE
    steps: int = STEPS

    nominal: ClassVar[Constants] = Constants()
    free: ClassVar[tuple[str, ...]] = ("angle",)

    def check(self, system: Described) -> None:
        """Raise `TwinError` if the system has not so many pendula."""
        check_pendula(system, self.n)

    def __call__(self, x: Tensor, theta: Tensor, constants: Constants, output_dim: int) -> Tensor:
        """Solve the equations and read the last angles."""
        couplings, biases = split(theta, self.n, self.coupling_range, self.bias_range)
        start = release(x, self.n, self.low, self.high)
        end = swing(start, couplings, biases, scale=constants.angle, steps=self.steps)
        return end[:, self.n - output_dim :]


def check_pendula(system: Described, n: int) -> None:
    """Raise `TwinError` unless ``system`` can be a network of ``n`` pendula."""
    if system.param_dim != n * n + n or max(system.input_dim, system.output_dim) > n:
        raise TwinError(
            f"{n} pendula have {n * n + n} parameters and at most as many inputs and outputs, but "
            f"{system.name} has {system.param_dim} parameters, {system.input_dim} inputs and "
            f"{system.output_dim} outputs: give the number of pendula that it has."
        )


@final
@dataclass(frozen=True)
class Forces(Architecture):
    """Pendula whose force is learnt, and what couples them beside their programme.

    A perceptron over n² couplings would need to see each of them at work. This network is told how
    they act, and learns from the shots what the sine of an angle is in truth, and one matrix of
    couplings that nobody programmed. That matrix has n² weights of its own: enough shots for them
    can be had of tens of pendula, not of hundreds.

    Parameters
    ----------
    n, low, high, coupling_range, bias_range, steps
        As in `OscillatorEquations`.
    hidden : int
        Width of the perceptron that corrects the force.
    """

    n: int
    low: float = 0.0
    high: float = 1.0
    coupling_range: float = COUPLING_RANGE
    bias_range: float = BIAS_RANGE
    steps: int = STEPS
    hidden: int = 16

    learning_rate: ClassVar[float] = 0.01

    def build(self, system: Described) -> Core:
        """Make the network.

        Raises
        ------
        TwinError
            The system has not so many pendula.
        """
        check_pendula(system, self.n)
        return _LearntForces(self, system.output_dim)


@final
class _LearntForces(Core):
    def __init__(self, design: Forces, outputs: int) -> None:
        super().__init__()
        self.distinct = outputs
        self.design = design
        last = nn.Linear(design.hidden, 1)
        nn.init.zeros_(last.weight)  # training begins with the equations on paper
        nn.init.zeros_(last.bias)
        self.correction = nn.Sequential(nn.Linear(1, design.hidden), nn.Tanh(), last)
        self.unprogrammed = nn.Parameter(torch.zeros(design.n, design.n))
        # A twin standardises what it is told; these learn to do the same, and fast.
        self.gain = nn.Parameter(torch.zeros(outputs))
        self.offset = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor, theta: Tensor) -> Tensor:
        design = self.design
        couplings, biases = split(theta, design.n, design.coupling_range, design.bias_range)

        def respond(q: Tensor) -> Tensor:
            correction: Tensor = self.correction(q.unsqueeze(-1)).squeeze(-1)
            return q.sin() + correction

        accelerate = accelerations(respond, couplings, biases, self.unprogrammed)
        start = release(x, design.n, design.low, design.high)
        q = integrate(accelerate, start, design.steps)
        read = q[:, design.n - self.distinct :]
        standard: Tensor = (read - HASTE * self.offset) * torch.exp(HASTE * self.gain)
        return standard
