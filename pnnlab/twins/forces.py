"""A neural twin of coupled pendula that knows how couplings act, and learns the forces."""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from pnnlab.systems import oscillators
from pnnlab.twins.equations import check_pendula
from pnnlab.twins.neural import Architecture, Core
from pnnlab.twins.twin import Described

RATE_OF_SCALE = 5.0  # how much faster than a weight the scale of the read-outs is learnt


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
    coupling_range: float = oscillators.COUPLING_RANGE
    bias_range: float = oscillators.BIAS_RANGE
    steps: int = oscillators.STEPS
    hidden: int = 16

    learning_rate: ClassVar[float] = 0.01

    def build(self, system: Described) -> Core:
        """Make the network; raise `TwinError` if the system has not so many pendula."""
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
        n, design = self.design.n, self.design
        accelerate = oscillators.accelerations(
            self._force,
            *oscillators.split(theta, n, design.coupling_range, design.bias_range),
            self.unprogrammed,
        )
        start = oscillators.release(x, n, design.low, design.high)
        read = oscillators.integrate(accelerate, start, design.steps)[:, n - self.distinct :]
        standard: Tensor = (read - RATE_OF_SCALE * self.offset) * (RATE_OF_SCALE * self.gain).exp()
        return standard

    def _force(self, q: Tensor) -> Tensor:
        correction: Tensor = self.correction(q.unsqueeze(-1)).squeeze(-1)
        return q.sin() + correction
