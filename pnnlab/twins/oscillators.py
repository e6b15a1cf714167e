"""What twins of the coupled pendula know."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from pnnlab.errors import TwinError
from pnnlab.systems.oscillators import BIAS_RANGE, COUPLING_RANGE, release, split
from pnnlab.systems.pendula import DURATION, STEPS, coupling_matrix, swing
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
        matrix = coupling_matrix(couplings) + self.unprogrammed - torch.eye(design.n)
        biases = biases.expand(len(x), -1)

        def accelerate(q: Tensor) -> Tensor:
            force: Tensor = q.sin() + self.correction(q.unsqueeze(-1)).squeeze(-1)
            if matrix.ndim == 2:
                return force @ matrix + biases
            return torch.bmm(force.transpose(0, 1), matrix).transpose(0, 1) + biases

        q, p = release(x, design.n, design.low, design.high), None
        for number in range(design.steps):
            last = number == design.steps - 1
            q, p = step(accelerate, q, p, DURATION / design.steps, last=last)
        read = q[:, design.n - self.distinct :]
        standard: Tensor = (read - HASTE * self.offset) * torch.exp(HASTE * self.gain)
        return standard


def step(
    accelerate: Callable[[Tensor], Tensor], q: Tensor, p: Tensor | None, h: float, *, last: bool
) -> tuple[Tensor, Tensor | None]:
    r"""One step of the classical Runge-Kutta method for :math:`\ddot q = a(q)`.

    The angles' derivative is the velocity, so only accelerations are computed, and in pairs: the
    second stage does not need the first, nor the fourth the third. At rest the first two fall
    together, and the last stage of the last step moves no angle.

    Parameters
    ----------
    accelerate : callable
        Tells the accelerations at angles (stages, batch, n), for one or two stages.
    q, p : Tensor, (batch, n)
        Angles and velocities; ``p`` is None at rest.
    h : float
        Length of the step.
    last : bool
        Whether nobody asks for the velocities any more; they are None then.
    """
    if p is None:
        middle = end = q
        (first,) = accelerate(q.unsqueeze(0))
        second = first
    else:
        middle, end = torch.add(q, p, alpha=h / 2), torch.add(q, p, alpha=h)
        first, second = accelerate(torch.stack([q, middle]))
    third_angle = torch.add(middle, first, alpha=h * h / 4)
    if last:
        (third,) = accelerate(third_angle.unsqueeze(0))
        return torch.add(end, first + second + third, alpha=h * h / 6), None
    fourth_angle = torch.add(end, second, alpha=h * h / 2)
    third, fourth = accelerate(torch.stack([third_angle, fourth_angle]))
    inner = second + third
    push = torch.add(first, fourth).add(inner, alpha=2)
    arrived = torch.add(end, inner.add(first), alpha=h * h / 6)
    return arrived, push.mul(h / 6) if p is None else torch.add(p, push, alpha=h / 6)
