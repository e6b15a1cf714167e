"""What the lab asks of a device: numbers in, numbers out, nothing else."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TypeAlias, final

import torch
from torch import Tensor

from pnnlab.errors import RangeError, ShapeError

State: TypeAlias = Mapping[str, str | int | float]


class PhysicalSystem(ABC):
    """A device that turns inputs ``x`` and parameters ``theta`` into read-outs ``y``.

    Calling a system drives it once for each row of the batch. It is never differentiated: the
    call runs without a graph, whether the system is a simulation or a bench. A subclass supplies
    `_measure` and may rely on what `__call__` has checked.

    Parameters
    ----------
    input_dim, param_dim, output_dim : int
        Lengths of one ``x``, one ``theta`` and one ``y``.
    """

    def __init__(self, input_dim: int, param_dim: int, output_dim: int) -> None:
        for name, value in (("input_dim", input_dim), ("output_dim", output_dim)):
            if value < 1:
                raise ShapeError(f"{name} is {value}; a system needs at least one.")
        if param_dim < 0:
            raise ShapeError(f"param_dim is {param_dim}; it cannot be negative.")
        self.input_dim = input_dim
        self.param_dim = param_dim
        self.output_dim = output_dim
        self.passes = 0
        """Shots taken since the system was made: one for each row of each batch."""

    @property
    def name(self) -> str:
        """How the system is called in reports and results."""
        return type(self).__name__.lower()

    @final
    def __call__(self, x: Tensor, theta: Tensor) -> Tensor:
        """Drive the system.

        Parameters
        ----------
        x : Tensor, shape (batch, input_dim), floating point, in [0, 1]
            Inputs, one row a shot.
        theta : Tensor, shape (param_dim,) or (batch, param_dim), floating point, in [0, 1]
            Parameters, shared by the batch or one row a shot.

        Returns
        -------
        Tensor, shape (batch, output_dim)
            Read-outs, with the data type and on the device of ``x``, without a graph.

        Raises
        ------
        ShapeError
            Wrong shape, or not a floating-point tensor.
        RangeError
            A value is NaN or outside [0, 1]. Nothing has been driven then.
        """
        self.check(x, theta)
        with torch.no_grad():
            y = self._measure(x.detach().cpu(), theta.detach().cpu().to(x.dtype))
        self.passes += len(x)
        return y.to(x.device)

    @final
    def check(self, x: Tensor, theta: Tensor) -> None:
        """Raise what a call with these arguments would raise, without driving anything."""
        for label, value in (("x", x), ("theta", theta)):
            if not isinstance(value, Tensor) or not value.is_floating_point():
                kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
                raise ShapeError(
                    f"{label} is {kind}; give a floating-point tensor, as in torch.rand(...)."
                )
        if x.ndim != 2 or x.shape[1] != self.input_dim:
            raise ShapeError(
                f"x has shape {tuple(x.shape)}; {self.name} takes (batch, {self.input_dim}). "
                "A single input is a batch of one: x[None]."
            )
        if theta.shape not in ((self.param_dim,), (len(x), self.param_dim)):
            raise ShapeError(
                f"theta has shape {tuple(theta.shape)}; {self.name} takes ({self.param_dim},) or "
                f"({len(x)}, {self.param_dim})."
            )
        check_unit_range("x", x)
        check_unit_range("theta", theta)

    @abstractmethod
    def _measure(self, x: Tensor, theta: Tensor) -> Tensor:
        """Drive the system with checked CPU tensors and return ``y``, (batch, output_dim)."""

    def state(self) -> State:
        """What must be kept so that a simulated system goes on exactly where it stopped.

        A real device keeps its own state, and no checkpoint can put it back: the default is empty.
        """
        return {}

    def restore(self, state: State) -> None:
        """Go back to a `state`."""
        if state:
            raise RangeError(
                f"{self.name} has no state to restore, but was given {sorted(state)}: this "
                "checkpoint was written with another system."
            )


class SimulatedSystem(PhysicalSystem):
    """A system that exists as equations, and can therefore tell its own exact gradient.

    Only the `ideal` gradient rule, an upper bound that no laboratory has, makes use of that.
    """

    @final
    def differentiable(self, x: Tensor, theta: Tensor) -> Tensor:
        """Take the same shots as a call would, and keep the graph of the true dynamics."""
        self.check(x, theta)
        y = self._simulate(x, theta)
        self.passes += len(x)
        return y

    @final
    def _measure(self, x: Tensor, theta: Tensor) -> Tensor:
        return self._simulate(x, theta)

    @abstractmethod
    def _simulate(self, x: Tensor, theta: Tensor) -> Tensor:
        """Compute ``y`` from checked tensors, differentiably."""


def check_unit_range(label: str, value: Tensor) -> None:
    """Raise `RangeError` unless every element is a number in [0, 1]."""
    if value.numel() == 0:
        return
    low, high = _extremes(value)
    if low >= 0 and high <= 1:  # false of NaN too
        return
    if bool(value.isnan().any()):
        raise RangeError(
            f"{label} holds {int(value.isnan().sum())} NaN; nothing was driven. Look for a "
            "division by zero or a diverged training step before this call."
        )
    outside = int(((value < 0) | (value > 1)).sum())
    raise RangeError(
        f"{label} has {outside} of {value.numel()} values outside [0, 1] (from "
        f"{float(value.min()):.4g} to {float(value.max()):.4g}); nothing was driven. Scale it "
        "first; a PhysicalLayer does so and counts what it clamps."
    )


def _extremes(value: Tensor) -> tuple[float, float]:
    """Smallest and largest element; NaN where there is one."""
    if value.is_cpu and value.dtype != torch.bfloat16:  # which NumPy does not have
        # torch would divide a large batch among threads, which then spin for milliseconds beside
        # whatever drives the device.
        array = value.detach().numpy()
        return float(array.min()), float(array.max())
    low, high = value.aminmax()
    return float(low), float(high)
