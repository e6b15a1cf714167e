"""The contract of a device: numbers in, numbers out, nothing else."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeAlias, final

import numpy as np
import torch
from torch import Tensor

from pnnlab.errors import DeviceError, RangeError, ReadoutError, ShapeError
from pnnlab.plain import whole

State: TypeAlias = Mapping[str, Any]

LARGEST_READOUT = 1e30  # no device gives more in any unit: it is a code, perhaps scaled
OVERRANGE = {
    # SCPI-99, volume 1, 7.2.1.4 and 7.2.1.5
    9.9e37: "overrange (SCPI's code for infinity)",
    -9.9e37: "overrange (SCPI's code for minus infinity)",
    9.91e37: "no measurement (SCPI's code for not-a-number)",
    # Keysight 3458A, user's guide, OVLD
    1e38: "overload (the code of the 3458A multimeter)",
    -1e38: "overload (the code of the 3458A multimeter)",
}

NO_POWER = "What a shot takes from the wall, generator and read-out included, is not known."


@final
@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one shot of a device costs."""

    seconds_per_pass: float | None = None  # None where it is not known
    joules_per_pass: float | None = None
    assumptions: str  # what they rest on, in whole sentences
    source: str = "none found"


@final
@dataclass(frozen=True)
class Group:
    """Neighbouring parameters of one kind: ``theta[start:stop]``."""

    name: str
    start: int
    stop: int


class PhysicalSystem(ABC):
    """A device that turns inputs ``x`` and parameters ``theta`` into read-outs ``y``.

    Calling a system drives it once for each row of the batch, without a graph, whether it is a
    simulation or a bench. A subclass supplies `_measure`, whose arguments and answer are checked,
    and may give what a shot costs, by `cost`, and how its parameters are divided, by
    `theta_groups`.

    Parameters
    ----------
    input_dim, param_dim, output_dim : int
        Lengths of one ``x``, one ``theta`` and one ``y``. A reservoir has ``param_dim`` 0.
    """

    anywhere: ClassVar[bool] = False  # computes where its tensors are, such as on a GPU

    def __init__(self, input_dim: int, param_dim: int, output_dim: int) -> None:
        self.input_dim = whole("input_dim", input_dim)
        self.param_dim = whole("param_dim", param_dim)
        self.output_dim = whole("output_dim", output_dim)
        for name, least in (("input_dim", 1), ("param_dim", 0), ("output_dim", 1)):
            if getattr(self, name) < least:
                raise ShapeError(f"{name} is {getattr(self, name)}; it must be at least {least}.")
        self.retries = 0  # how often a shot that came back faulty is taken again
        self.passes = 0  # shots taken since the system was made, those taken again included
        self.retaken = 0  # shots taken again

    @property
    def name(self) -> str:
        """How the system is called in reports and results."""
        return type(self).__name__.lower()

    @final
    def __call__(self, x: Tensor, theta: Tensor) -> Tensor:
        """Drive the system.

        Parameters
        ----------
        x : Tensor, (batch, input_dim), floating point, in [0, 1]
            One row a shot.
        theta : Tensor, (param_dim,) or (batch, param_dim), floating point, in [0, 1]
            Shared by the batch or one row a shot.

        Returns
        -------
        Tensor, (batch, output_dim)
            Finite, in memory of its own, with the data type and on the device of ``x``.

        Raises
        ------
        ShapeError, RangeError
            Wrong shape or type, or a value is NaN or outside [0, 1]. Nothing has been driven then.
        DeviceError
            Its `_measure` failed, with whatever error; that error is the cause.
        ReadoutError
            The device's answer is no array of finite real numbers of shape (batch, output_dim).
        """
        given, (x, theta) = x, self._at_hand(x, theta)
        self.check(x, theta)
        retries = whole("retries", self.retries, 0)
        dtype = torch.promote_types(x.dtype, torch.float32)
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            y = self._take(x.detach().to(dtype), theta.detach().to(dtype), retries)
        return _as_given(self.name, y, given)

    def _at_hand(self, x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Both where the system takes them: from another memory together, in one transfer."""
        tensors = isinstance(x, Tensor) and isinstance(theta, Tensor)
        if not tensors or self.anywhere or (x.is_cpu and theta.is_cpu):
            return x, theta
        if x.dtype != theta.dtype or x.device != theta.device:
            return x.cpu(), theta.cpu()
        both = torch.cat([x.flatten(), theta.flatten()]).cpu()
        return both[: x.numel()].view(x.shape), both[x.numel() :].view(theta.shape)

    def _take(self, x: Tensor, theta: Tensor, retries: int) -> Tensor:
        y = self._readouts(x, theta)
        for _ in range(retries):
            faulty = _faulty(y).any(1)
            count = int(faulty.sum())
            if count == 0:
                return y
            y[faulty] = self._readouts(x[faulty], theta if theta.ndim == 1 else theta[faulty])
            self.retaken += count
        _check_finite(self.name, y)
        return y

    def _readouts(self, x: Tensor, theta: Tensor) -> Tensor:
        """Drive the system once, and copy its answer to a tensor of the right shape."""
        try:
            # A driver may scale its arguments in place, and may return the same buffer every time.
            returned = self._measure(x.clone(), theta.clone())
        except DeviceError:
            raise
        except Exception as error:
            raise DeviceError(
                f"{self.name} failed with {type(error).__name__} ({error}). Nothing has used these "
                "shots: check the device and its driver, then take them again."
            ) from error
        answer = _as_tensor(self.name, returned)
        self.passes += len(x)
        if answer.shape != (len(x), self.output_dim):
            turned = answer.shape == (self.output_dim, len(x))
            raise ReadoutError(
                f"{self.name} returned an array of shape {tuple(answer.shape)} for {len(x)} shots "
                f"of {self.output_dim} outputs, and nothing has used it: let its _measure return "
                f"({len(x)}, {self.output_dim}), one row for each shot"
                + ("; this one is transposed." if turned else ".")
            )
        return answer.detach().to(x.device, x.dtype, copy=True)

    @final
    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self  # there is one device, however many copies of a network drive it

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
    def _measure(self, x: Tensor, theta: Tensor) -> Any:
        """Drive the system with checked CPU tensors of float32 or float64, both its own.

        Return read-outs (batch, output_dim): a tensor, an array or nested lists of real numbers,
        which may be the driver's own buffer. A reading that failed is NaN.
        """

    def cost(self) -> Cost:
        """What one shot costs; of a simulated system, one of the machine that it imitates."""
        return Cost(assumptions=f"How long a shot of {self.name} takes is not known. {NO_POWER}")

    def theta_groups(self) -> tuple[Group, ...]:
        """How the parameters are divided into named groups; empty if they are all of one kind."""
        return ()

    def state(self) -> State:
        """What must be kept so that a simulated system goes on exactly where it stopped.

        It may hold tensors, text, numbers, and containers of them. No checkpoint can put a real
        device back: empty.
        """
        return {}

    def restore(self, state: State) -> None:
        if state:
            raise RangeError(
                f"{self.name} has no state to restore, but was given {sorted(state)}: this "
                "checkpoint was written with another system."
            )


def device(
    measure: Callable[[Tensor, Tensor], Any],
    *,
    inputs: int,
    parameters: int,
    outputs: int,
    name: str = "device",
) -> PhysicalSystem:
    """Make a system of a function that drives a device and returns its read-outs.

    Subclass `PhysicalSystem` for a device that has a state, a cost or groups of parameters.

    Parameters
    ----------
    measure : callable
        Takes ``x``, (batch, inputs), and ``theta``, (parameters,) or (batch, parameters), CPU
        tensors that are checked to be in [0, 1]; returns real numbers, (batch, outputs), as a
        tensor, an array or lists.
    name : str
        How it is called in reports and errors.
    """
    members = {"name": name, "_measure": staticmethod(measure)}
    system: PhysicalSystem = type("Device", (PhysicalSystem,), members)(inputs, parameters, outputs)
    return system


class SimulatedSystem(PhysicalSystem):
    """A system that exists as equations, and therefore has an exact gradient, for `ideal`."""

    @final
    def differentiable(self, x: Tensor, theta: Tensor) -> Tensor:
        """Take the shots of a call, and keep the graph of the true dynamics."""
        given, (x, theta) = x, self._at_hand(x, theta)
        self.check(x, theta)
        dtype = torch.promote_types(x.dtype, torch.float32)
        with torch.autocast(x.device.type, enabled=False):
            y = self._simulate(x.to(dtype), theta.to(dtype))
        self.passes += len(x)
        _check_finite(self.name, y.detach())
        return _as_given(self.name, y, given)

    @final
    def _measure(self, x: Tensor, theta: Tensor) -> Tensor:
        return self._simulate(x, theta)

    @abstractmethod
    def _simulate(self, x: Tensor, theta: Tensor) -> Tensor:
        """Compute ``y`` from checked tensors, differentiably."""


def still(y: Tensor) -> Tensor:
    """Which outputs of ``y``, (rows, outputs), are the same in every row, up to rounding."""
    low, high = torch.aminmax(y.detach(), dim=0)
    return high - low <= 4 * torch.finfo(y.dtype).eps * torch.maximum(low.abs(), high.abs())


def still_outputs(numbers: Sequence[int]) -> str:
    """Text on outputs that do not move."""
    return (
        "of its outputs, counted from 0, these gave the same answer to a whole batch of inputs: "
        f"{', '.join(map(str, numbers))}. Nothing can be learnt from them; see that they are "
        "connected and that their range suits them."
    )


def check_unit_range(label: str, value: Tensor) -> None:
    """Raise `RangeError` unless every element is a number in [0, 1]."""
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
    """Smallest and largest element; NaN where there is one, 0 where there is none at all."""
    if value.numel() == 0:
        return 0.0, 0.0
    value = value.detach()
    # Not by torch on a CPU, which would divide a large batch among threads, which then spin for
    # milliseconds beside whatever drives the device. NumPy has no bfloat16.
    numpy = value.is_cpu and value.dtype != torch.bfloat16
    if numpy:
        return float(value.numpy().min()), float(value.numpy().max())
    low, high = torch.stack(value.aminmax()).tolist()  # of a GPU in one transfer
    return low, high


def _as_tensor(name: str, answer: Any) -> Tensor:
    """Turn what a driver returned into a tensor of real numbers; a masked reading becomes NaN."""
    if isinstance(answer, Tensor) and not answer.is_complex():
        return answer
    try:
        array = np.ma.asarray(answer)
        if array.dtype.kind not in "biuf":
            raise TypeError(f"{array.dtype} is no real number")
        # To a plain array of our own: torch takes no unsigned integers, no other byte order,
        # no negative strides and no read-only memory.
        return torch.from_numpy(np.ma.filled(array.astype(np.float64), np.nan))
    except (RuntimeError, TypeError, ValueError) as error:
        raise ReadoutError(
            f"{name} returned {type(answer).__name__}, and nothing has used it ({error}): let its "
            "_measure return a tensor or an array of real numbers, such as the amplitude of "
            "complex ones, one row for each shot."
        ) from error


def _faulty(y: Tensor) -> Tensor:
    """Which read-outs are NaN, infinite or an overrange code."""
    return ~(y.abs() < LARGEST_READOUT)


def _check_finite(name: str, y: Tensor) -> None:
    """Raise `ReadoutError` unless every read-out can be one."""
    low, high = _extremes(y)
    if low > -LARGEST_READOUT and high < LARGEST_READOUT:  # false of NaN too
        return
    places = _faulty(y).nonzero()
    shot, output = places[0].tolist()
    value = float(y[shot, output])
    meaning = [f", {text}" for code, text in OVERRANGE.items() if abs(value / code - 1) < 1e-6]
    raise ReadoutError(
        f"{name}: output {output} of shot {shot} came back as {value:.4g}{''.join(meaning)}; "
        f"{len(places[:, 0].unique())} of {len(y)} shots are faulty, counted from 0, and nothing "
        "has used them. Check that the instrument's range covers the read-outs and that it is "
        "triggered; if a shot fails now and then, have it taken again: set system.retries = 3."
    )


def _as_given(name: str, y: Tensor, x: Tensor) -> Tensor:
    """Read-outs with the data type and on the device of ``x``."""
    given = y.to(x.device, x.dtype)
    if x.dtype != y.dtype and not bool(given.isfinite().all()):
        raise ReadoutError(
            f"{name} returned {float(y.detach().abs().max()):.4g}, which {x.dtype} cannot hold; "
            "give x in float32, or let _measure return smaller units."
        )
    return given
