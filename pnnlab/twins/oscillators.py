"""What twins of the coupled pendula know."""

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from pnnlab.errors import TwinError
from pnnlab.systems.oscillators import BIAS_RANGE, COUPLING_RANGE, release, split
from pnnlab.systems.pendula import STEPS, swing
from pnnlab.twins.base import Described
from pnnlab.twins.physics import Equations


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
