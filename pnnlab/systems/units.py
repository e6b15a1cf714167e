"""What built units are made of: noise, a slow drift, a state, compiled equations with an adjoint.

A row of numbers is drawn for each shot: a batch has the noise of its shots one by one, bit for bit.
"""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeAlias, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from pnnlab.errors import RangeError
from pnnlab.physical_system import SimulatedSystem, State
from pnnlab.plain import real, whole

Array: TypeAlias = NDArray[Any]
Adjoint: TypeAlias = Callable[[Array, Array], object]


@final
class RandomStream:
    """A seeded stream of standard normal numbers; its rows are zeros where it is not ``on``."""

    def __init__(self, *seed: int, on: bool = True) -> None:
        self.on = on
        self._generator = np.random.Generator(np.random.SFC64([whole("seed", s, 0) for s in seed]))

    def rows(self, shots: int, width: int, dtype: torch.dtype) -> Array:
        """Draw the numbers of the next shots, (shots, width), for tensors of ``dtype``."""
        kind: Any = np.float32 if dtype == torch.float32 else np.float64
        if not self.on:
            return np.zeros((shots, width), kind)
        return self._generator.standard_normal((shots, width), dtype=kind)

    def number(self) -> float:
        """Draw the next number, in double precision."""
        return float(self._generator.standard_normal())

    def state(self) -> str:
        return json.dumps(self._generator.bit_generator.state, default=np.ndarray.tolist)

    def restore(self, saved: str) -> None:
        state = json.loads(saved)
        state["state"]["state"] = np.array(state["state"]["state"], dtype=np.uint64)
        self._generator.bit_generator.state = state


@final
class Drift:
    """A slow random change about zero: an Ornstein-Uhlenbeck process, exact from call to call.

    Its rms is ``size``, and 1/e of its value is left after ``time`` shots.
    """

    def __init__(self, *seed: int, size: float, time: float, on: bool) -> None:
        self.value = 0.0
        self.size, self.time, self.on = size, time, on
        self.noise = RandomStream(*seed)

    def pass_shots(self, shots: float) -> float:
        """Let the time of some shots pass, and return the value after it."""
        if self.on:
            keep = math.exp(-shots / self.time)
            kick = self.size * math.sqrt(1 - keep**2) * self.noise.number()
            self.value = keep * self.value + kick
        return self.value


class BuiltSystem(SimulatedSystem):
    """A simulated device of which units are built; ``_owner`` identifies this one in a state."""

    _what: ClassVar[str]
    _tolerable: ClassVar[float]  # what the tolerance of the parts is below
    _noise_name: ClassVar[str] = "read_out"
    _drift_name: ClassVar[str]
    _owner: Mapping[str, int | float]
    _noise: RandomStream
    _drift: Drift | None = None

    def _identify(self, unit: int, tolerance: float) -> None:
        """Note which unit this is, and the tolerance of its parts."""
        self.unit, self.tolerance = whole("unit", unit, 0), real("tolerance", tolerance)
        if not 0 <= self.tolerance < self._tolerable:
            raise RangeError(
                f"tolerance is {self.tolerance}: that of {self._what} is a fraction below "
                f"{self._tolerable:g}, such as 0.05."
            )
        self._owner = {"unit": self.unit, "tolerance": self.tolerance}

    @final
    def state(self) -> State:
        state = {**self._owner, self._noise_name: self._noise.state()}
        if self._drift is not None:
            state |= {self._drift_name: self._drift.value, "room": self._drift.noise.state()}
        return state

    @final
    def restore(self, state: State) -> None:
        if missing := [key for key in self.state() if key not in state]:
            raise RangeError(f"this is no state of {self._what}: {', '.join(missing)} is missing.")
        if theirs := {key: state[key] for key, own in self._owner.items() if state[key] != own}:
            ours = {key: self._owner[key] for key in theirs}
            raise RangeError(
                f"this is the state of {self._what} with {_listed(theirs)}, and here is one with "
                f"{_listed(ours)}: make the device that the run began with."
            )
        self._noise.restore(str(state[self._noise_name]))
        if self._drift is not None:
            self._drift.value = float(state[self._drift_name])
            self._drift.noise.restore(str(state["room"]))


def _listed(values: Mapping[str, object]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())


def with_adjoint(value: Tensor, solve: Callable[[Array, bool], tuple[Array, Adjoint]]) -> Tensor:
    """Apply a function of arrays that brings its own vector-Jacobian product; differentiable once.

    ``solve`` takes ``value`` as a contiguous array that it must not change, and whether the adjoint
    will be called. It returns an array of its own and the adjoint, which takes the gradient by that
    array and an array to fill with the gradient by ``value``.
    """
    answer: Tensor = _Operation.apply(value, solve)
    return answer


class _Operation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, solve: Callable[..., tuple[Array, Adjoint]]) -> Tensor:
        given = _array(value)
        answer, ctx.adjoint = solve(given, ctx.needs_input_grad[0])
        ctx.given = given.shape, given.dtype
        return torch.from_numpy(answer)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        by_value = np.empty(*ctx.given)
        ctx.adjoint(_array(grad), by_value)
        return torch.from_numpy(by_value), None


def _array(value: Tensor) -> Array:
    return np.ascontiguousarray(value.detach().resolve_conj().numpy())
