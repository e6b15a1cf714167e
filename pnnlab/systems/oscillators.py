r"""Coupled pendula: the network of the authors' public code, with its gap.

.. math::
   \ddot q_i = -\sin q_i + \sum_j J_{ij} (\sin q_j - \sin q_i) + e_i

The input sets where the first pendula are released, the others hang at zero; half a unit of time
later the angles of the last pendula are read. Every coupling and every bias torque is a parameter.

What is idealised: the couplings act through the sines of the angles and may have either sign, the
pendula start exactly at rest, and nothing is damped within half a unit of time.

Source: Wright, Onodera et al., Nature 601, 549 (2022), and its public code,
https://github.com/mcmahon-lab/Physics-Aware-Training, examples 1 and 2.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pnnlab.errors import RangeError, ShapeError
from pnnlab.plain import real, seeded, whole
from pnnlab.protocols import Group, SimulatedSystem, State
from pnnlab.systems.pendula import STEPS, coupling_matrix, swing
from pnnlab.systems.randomness import Noise, saved_values

COUPLING_RANGE = 4.0  # the authors' trained network for MNIST uses ±3.4
BIAS_RANGE = 2.0  # and ±1.25 here


@dataclass(frozen=True)
class Imperfections:
    """What a built network adds to its equations: the gap of the authors' example 2.

    Parameters
    ----------
    angle : float
        Eta: the sine sees every angle too large by this fraction.
    coupling : float
        Standard deviation of the fixed errors of the matrix of couplings C.
    release : float
        Standard deviation of each angle at release, rad, anew in each shot.
    """

    angle: float = 0.1
    coupling: float = 0.2
    release: float = 0.02


def split(
    theta: Tensor,
    n: int,
    coupling_range: float = COUPLING_RANGE,
    bias_range: float = BIAS_RANGE,
) -> tuple[Tensor, Tensor]:
    """Couplings and biases that parameters in [0, 1] stand for; one half is none.

    Parameters
    ----------
    theta : Tensor, (n * n + n,) or (batch, n * n + n)
        First C, row by row, then the biases.

    Returns
    -------
    couplings : Tensor, (n, n) or (batch, n, n), in plus or minus ``coupling_range``
    biases : Tensor, (n,) or (batch, n), in plus or minus ``bias_range``
    """
    couplings, biases = _Split.apply(theta, n, coupling_range, bias_range)
    return couplings, biases


class _Split(torch.autograd.Function):
    """Slices and scales, without the copies that autograd makes of millions of couplings."""

    @staticmethod
    def forward(
        ctx: Any, theta: Tensor, n: int, coupling_range: float, bias_range: float
    ) -> tuple[Tensor, Tensor]:
        ctx.scales = 2 * coupling_range, 2 * bias_range
        ctx.shape = theta.shape
        couplings = theta[..., : n * n].mul(2 * coupling_range).sub_(coupling_range)
        biases = theta[..., n * n :].mul(2 * bias_range).sub_(bias_range)
        return couplings.unflatten(-1, (n, n)), biases

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, by_couplings: Tensor, by_biases: Tensor
    ) -> tuple[Tensor, None, None, None]:
        flat = by_couplings.flatten(-2)
        grad = flat.new_empty(ctx.shape)
        torch.mul(flat, ctx.scales[0], out=grad[..., : flat.shape[-1]])
        torch.mul(by_biases, ctx.scales[1], out=grad[..., flat.shape[-1] :])
        return grad, None, None, None


def release(x: Tensor, n: int, low: float, high: float) -> Tensor:
    """Angles (batch, n) at which inputs (batch, input_dim) in [0, 1] release the pendula."""
    start = x.new_zeros(len(x), n)
    start[:, : x.shape[1]] = low + (high - low) * x
    return start


class Bench:
    """One built network and its noise. Nothing outside this file reads it."""

    def __init__(
        self, n: int, imperfections: Imperfections, *, unit: int, noise: bool, seed: int
    ) -> None:
        errors = np.random.default_rng((unit, n, 5)).standard_normal((n, n))
        self.errors = torch.from_numpy(errors * imperfections.coupling)
        self.imperfections = imperfections
        self.noise = noise
        self.hand = Noise(unit, n, seed)
        self._matrices: dict[tuple[int, torch.dtype], Tensor] = {}

    def error_matrix(self, n: int, dtype: torch.dtype) -> Tensor:
        """`coupling_matrix` of the errors among the first ``n`` pendula."""
        if (n, dtype) not in self._matrices:
            self._matrices[n, dtype] = coupling_matrix(self.errors[:n, :n]).to(dtype)
        return self._matrices[n, dtype]

    def tremble(self, shots: int, n: int, dtype: torch.dtype) -> Tensor:
        """Errors of release, (shots, n): one row of random numbers a shot, in order."""
        kind = np.float32 if dtype == torch.float32 else np.float64
        return torch.from_numpy(self.hand.rows(shots, n, kind)).mul_(self.imperfections.release)


class Oscillators(SimulatedSystem):
    """A network of pendula, all coupled with all.

    Its parameters are n² couplings and n biases, see `split`. The same for the whole batch is the
    fast way; parameters of its own for each shot work too.

    Parameters
    ----------
    n : int
        How many pendula.
    unit : int
        Which built copy.
    input_dim, output_dim : int, optional
        How many of the first are released by the input and of the last are read; all by default.
    low, high : float
        Angles at release of the inputs 0 and 1, rad.
    coupling_range, bias_range : float
        Largest coupling and torque either way.
    steps : int
        Runge-Kutta steps of the simulation.
    noise : bool
        Whether the release trembles.
    imperfections : Imperfections
    seed : int
        Of the noise.

    Raises
    ------
    ShapeError
        More inputs or outputs than pendula.
    RangeError
        No such unit, range or number of steps.
    """

    def __init__(
        self,
        n: int,
        *,
        unit: int = 0,
        input_dim: int | None = None,
        output_dim: int | None = None,
        low: float = 0.0,
        high: float = 1.0,
        coupling_range: float = COUPLING_RANGE,
        bias_range: float = BIAS_RANGE,
        steps: int = STEPS,
        noise: bool = True,
        imperfections: Imperfections | None = None,
        seed: int = 0,
    ) -> None:
        self.unit, self.steps = whole("unit", unit), whole("steps", steps)
        self.coupling_range = real("coupling_range", coupling_range)
        self.bias_range = real("bias_range", bias_range)
        if unit < 0 or steps < 1:
            raise RangeError(f"unit is {unit} and steps {steps}: give 0 and 1, or more.")
        if not (0 < coupling_range < math.inf and 0 < bias_range < math.inf):
            raise RangeError(
                f"the ranges are {coupling_range} and {bias_range}; both must be above 0."
            )
        self._shape(n, input_dim, output_dim, low, high)
        self._bench = Bench(
            self.n, imperfections or Imperfections(), unit=self.unit, noise=noise, seed=seed
        )

    def _shape(
        self, n: int, input_dim: int | None, output_dim: int | None, low: float, high: float
    ) -> None:
        n = whole("n", n)
        inputs = n if input_dim is None else input_dim
        outputs = n if output_dim is None else output_dim
        if not (0 < inputs <= n and 0 < outputs <= n):
            raise ShapeError(f"{n} pendula cannot have {inputs} inputs and {outputs} outputs.")
        super().__init__(inputs, n * n + n, outputs)
        self.n, self.low, self.high = n, real("low", low), real("high", high)

    def reprogrammed(
        self,
        *,
        n: int | None = None,
        input_dim: int | None = None,
        output_dim: int | None = None,
        low: float | None = None,
        high: float | None = None,
    ) -> "Oscillators":
        """Use the same bench otherwise: the first ``n`` of its pendula, read and driven anew.

        Raises
        ------
        ShapeError
            More pendula than the bench has.
        """
        n = self.n if n is None else n
        if n > len(self._bench.errors):
            raise ShapeError(f"this bench has {len(self._bench.errors)} pendula, not {n}.")
        other = object.__new__(Oscillators)
        other.unit, other.steps = self.unit, self.steps
        other.coupling_range, other.bias_range = self.coupling_range, self.bias_range
        other._bench = self._bench
        low, high = self.low if low is None else low, self.high if high is None else high
        other._shape(n, input_dim, output_dim, low, high)
        return other

    @property
    def name(self) -> str:
        """The word for this system in reports."""
        return "oscillators"

    def weak_theta(self, seed: int = 0) -> Tensor:
        """Parameters to begin training with: couplings and biases within 1/sqrt(n) either way."""
        width = self.n**-0.5
        random = torch.rand(self.param_dim, generator=seeded(seed)) - 0.5
        random[: self.n * self.n] *= width / self.coupling_range
        random[self.n * self.n :] *= width / self.bias_range
        return random + 0.5

    def theta_groups(self) -> tuple[Group, ...]:
        """Couplings of all pairs, then biases."""
        edge = self.n**2
        return Group("couplings", 0, edge), Group("biases", edge, edge + self.n)

    def _simulate(self, x: Tensor, theta: Tensor) -> Tensor:
        bench = self._bench
        start = release(x, self.n, self.low, self.high)
        if bench.noise:
            start = start + bench.tremble(len(x), self.n, x.dtype)
        couplings, biases = split(theta, self.n, self.coupling_range, self.bias_range)
        end = swing(
            start,
            couplings,
            biases,
            errors=bench.error_matrix(self.n, x.dtype),
            scale=1 + bench.imperfections.angle,
            steps=self.steps,
        )
        return end[:, self.n - self.output_dim :]

    def state(self) -> State:
        """The noise generator, and whose it is."""
        return {**self._owner, "release": self._bench.hand.put_away()}

    def restore(self, state: State) -> None:
        """Go back to a `state`.

        Raises
        ------
        RangeError
            The state is not one of such oscillators.
        """
        saved = saved_values(state, self._owner, "oscillators", "release")
        self._bench.hand.take_up(str(saved["release"]))

    @property
    def _owner(self) -> dict[str, int | float]:
        return {"unit": self.unit, "pendula": len(self._bench.errors)}
