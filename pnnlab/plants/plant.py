"""The contract of a plant: a machine that a controller commands step by step.

A plant cannot be set to a state of one's choice: it is reset, and then goes on from where it is. So
it is no `PhysicalSystem`. A simulated plant may hold many copies of its state, one a row, of which
each is commanded by itself; a real one has a single row, and is reset again for the next start.
What simulated ones share, integrator, amplifier, encoders and delay, is here too.
"""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, fields
from functools import partial
from typing import Any, ClassVar, TypeVar, final

import numpy as np
import torch
from torch import Tensor

from pnnlab.errors import DeviceError, LimitError, PlantError, RangeError, ReadoutError, ShapeError
from pnnlab.plain import make_plain, real, whole

STEP_S = 0.01
SUBSTEPS = 4  # of Runge and Kutta's integrator, a step
FILTER_S = 0.01  # s, time constant of the rates, which are differences of angles

Constants = TypeVar("Constants")


@final
@dataclass(frozen=True)
class PlantLimits:
    """What a plant may be commanded, and where and how it may move.

    Attributes
    ----------
    command : float
        Largest size of a command, in its unit.
    state : tuple of float
        Largest size of each measured quantity; beyond, the plant is stopped.
    moves : float
        A command of this size moves the plant: if nothing that is measured changes during
        ``frozen`` steps of such commands, its sensors have failed.
    late : float
        A step may come so much later than the one before, in steps. Of a plant in real time.
    """

    command: float
    state: tuple[float, ...]
    moves: float
    frozen: int = 10
    late: float = 1.5

    def __post_init__(self) -> None:
        make_plain(self)
        if not (0 < self.moves <= self.command and min(self.state) > 0 and self.late > 1):
            raise RangeError(
                "limits of command and state must be above 0, moves at most that of the command, "
                "and late above 1."
            )
        whole("frozen", self.frozen, 1)


class Plant(ABC):
    """A machine that is reset and stepped; a subclass supplies `_reset`, `_step` and `_stop`.

    Attributes
    ----------
    inside : Tensor, (rows,), bool
        Which rows have not left their limits since the reset; the others get no command.
    passes : int
        Steps taken since the plant was made, of all rows.
    """

    quantities: ClassVar[tuple[str, ...]]  # of the state, with units, such as "arm (rad)"
    commands: ClassVar[tuple[str, ...]]
    step_s: ClassVar[float]  # s, from one command to the next
    real_time: ClassVar[bool] = True  # whether the plant goes on while the computer does not
    most_rows: ClassVar[int | None] = 1  # that it holds at once; None: any number

    def __init__(self, limits: PlantLimits) -> None:
        if len(limits.state) != len(self.quantities):
            raise ShapeError(f"give limits of {', '.join(self.quantities)}: one number for each.")
        self.limits = limits
        self.inside = torch.zeros(0, dtype=torch.bool)
        self.passes = 0
        self._latest = torch.zeros(0, len(self.quantities))
        self._unmoved = torch.zeros(0, dtype=torch.int64)
        self._stepped = 0.0

    @property
    def name(self) -> str:
        return type(self).__name__.lower()

    @final
    def scaled(self, state: Tensor) -> Tensor:
        """Bring states from their limits to [0, 1], where rest is 0.5; differentiable."""
        return 0.5 + 0.5 * state / state.new_tensor(self.limits.state)

    @final
    def reset(self, seeds: Sequence[int]) -> Tensor:
        """Bring the plant to a start for each seed; returns measured states (rows, quantities)."""
        rows = [whole("a seed", seed, 0) for seed in seeds]
        if not 0 < len(rows) <= (self.most_rows or len(rows)):
            raise RangeError(
                f"{len(rows)} seeds to start from: give one at least"
                + (f", and {self.most_rows} at most at once." if self.most_rows else ".")
            )
        self.stop()
        try:
            state = self._checked(self._reset(rows), torch.ones(len(rows), dtype=torch.bool))
        except BaseException:
            self.stop()
            raise
        self.inside = self._within(state)
        self._latest, self._unmoved = state, torch.zeros(len(rows), dtype=torch.int64)
        self._stepped = time.monotonic()
        return state.clone()

    @final
    def step(self, command: Tensor) -> Tensor:
        """Command the plant for one step, and measure it at the end.

        The ``command``, (rows, commands), does not reach rows that have left the limits: of these,
        the state that is returned, (rows, quantities), is where they were measured last.

        Raises
        ------
        ShapeError, LimitError
            The command has another shape, is not finite or beyond the limit; it was not sent.
        ReadoutError
            The answer is no state, or a sensor has failed.
        PlantError
            The plant is stopped, or the step came too late.

        In each case the plant has been stopped, and is to be reset.
        """
        if not self.inside.any():
            raise PlantError("the plant is stopped: reset it.")
        try:
            self._check_command(command)
            if self.real_time and time.monotonic() - self._stepped > self.limits.late * self.step_s:
                raise PlantError(
                    f"a step came {time.monotonic() - self._stepped:.3f} s after the one before, "
                    f"where {self.step_s:g} s are meant: make the controller faster or the steps "
                    "longer, and let nothing else run."
                )
            self._stepped = time.monotonic()
            sent = torch.where(self.inside[:, None], command.detach(), 0.0)
            state = self._checked(self._step(sent), self.inside)
            self._check_moving(sent, state)
        except BaseException as error:
            self.stop()
            if not isinstance(error, Exception) or isinstance(error, DeviceError | ShapeError):
                raise
            raise DeviceError(
                f"the plant failed with {type(error).__name__} ({error}) and was stopped: see to "
                "it and its driver, then reset it."
            ) from error
        self.passes += int(self.inside.sum())
        state = torch.where(self.inside[:, None], state, self._latest)
        self._latest, self.inside = state, self.inside & self._within(state)
        if not self.inside.any():
            self._stop()
        return state.clone()

    @final
    def stop(self) -> None:
        """Command nothing any more, until the next reset; may be repeated."""
        self.inside = torch.zeros_like(self.inside)
        self._stop()

    def why_outside(self, row: int = 0) -> str:
        """Name what left the limits in a row; an empty text if nothing did."""
        named = zip(self.quantities, self._latest[row].tolist(), self.limits.state, strict=True)
        return ", ".join(f"{q} is {v:.3g}, beyond {m:g}" for q, v, m in named if abs(v) > m)

    def _check_command(self, command: Tensor) -> None:
        expected = (len(self.inside), len(self.commands))
        if command.shape != expected or not command.is_floating_point():
            raise ShapeError(f"the command is {tuple(command.shape)}; give {expected}, of floats.")
        largest = float(command.detach()[self.inside].abs().max())
        if not largest <= self.limits.command * (1 + 1e-6):
            raise LimitError(
                f"the command reaches {largest:.3g}; permitted are {self.limits.command:g}. It was "
                "not sent, and the plant was stopped: clamp what the controller gives."
            )

    def _checked(self, state: Tensor, inside: Tensor) -> Tensor:
        expected = (len(inside), len(self.quantities))
        if state.shape != expected or not state[inside].isfinite().all():
            raise ReadoutError(
                f"the plant gave {tuple(state.shape)} where {expected} is meant, or numbers that "
                "are not finite; it was stopped: see to its sensors."
            )
        return state

    def _check_moving(self, sent: Tensor, state: Tensor) -> None:
        driven = (sent.abs() >= self.limits.moves).any(1)  # rows outside are not
        same = (state == self._latest).all(1)
        self._unmoved = torch.where(driven & same, self._unmoved + 1, 0)
        if (self._unmoved >= self.limits.frozen).any():
            raise ReadoutError(
                f"nothing moved in {self.limits.frozen} steps although commanded: a sensor is "
                "frozen or a cable is loose. The plant was stopped."
            )

    def _within(self, state: Tensor) -> Tensor:
        return (state.abs() <= state.new_tensor(self.limits.state)).all(1)

    @abstractmethod
    def _reset(self, seeds: list[int]) -> Tensor:
        """Bring the plant to its starts, and measure it."""

    @abstractmethod
    def _step(self, command: Tensor) -> Tensor:
        """Apply checked commands for one step, and measure the plant at its end."""

    @abstractmethod
    def _stop(self) -> None:
        """Command nothing; may be repeated, and called before the first reset."""


@dataclass(frozen=True)
class Interface:
    """What stands between a computer and a plant; customary sizes are from no page."""

    counts: int = 2048  # of each encoder, a turn: QUBE-Servo 2 user manual; 0: exact
    delay: int = 1  # quarters of a step from measurement to command. Customary of USB: 2 ms
    dead_zone: float = 0.1  # V. Customary of a PWM amplifier

    def __post_init__(self) -> None:
        if not 0 <= self.delay <= SUBSTEPS:
            raise RangeError(
                f"delay is {self.delay} quarters of a step; give 0 to {SUBSTEPS}, a whole step."
            )


def integrate(
    rate: Callable[[Tensor], Tensor], state: Tensor, seconds: float = STEP_S / SUBSTEPS
) -> Tensor:
    """Integrate over one substep by Runge and Kutta's rule of fourth order; differentiable."""
    k1 = rate(state)
    k2 = rate(state + seconds / 2 * k1)
    k3 = rate(state + seconds / 2 * k2)
    k4 = rate(state + seconds * k3)
    return state + seconds / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def scaled(nominal: Constants, factors: Sequence[float]) -> Constants:
    """Constants times a factor each."""
    given: Any = nominal
    built: Constants = type(given)(*(c * f for c, f in zip(astuple(given), factors, strict=True)))
    return built


class SimulatedPlant(Plant):
    """A plant of two angles and their rates, commanded by a voltage; a subclass gives the physics.

    Parameters
    ----------
    unit : int
        Which fabricated copy.
    tolerance : float
        Of each constant, a fraction either way, with equal chance.
    spread : float, optional
        Largest angle at a reset, rad, either way, by default that of the class; rates are up to
        three times as many rad/s.
    imperfections : Interface, optional
        What it adds to its equations, of the same class as `customary`, the default.
    """

    commands = ("voltage (V)",)
    step_s = STEP_S
    real_time = False
    most_rows = None
    nominal: ClassVar[Any]  # constants, a frozen dataclass
    customary: ClassVar[Interface]
    permitted: ClassVar[PlantLimits]
    spread: float

    def __init__(
        self,
        unit: int = 0,
        *,
        tolerance: float = 0.1,
        spread: float | None = None,
        imperfections: Interface | None = None,
    ) -> None:
        super().__init__(self.permitted)
        self.unit = whole("unit", unit, 0)
        tolerance = real("tolerance", tolerance)
        self.spread = self.spread if spread is None else real("spread", spread)
        widest = min(self.limits.state[:2])
        if not (0 <= tolerance < 0.5 and 0 < self.spread < widest):
            raise RangeError(
                f"tolerance is {tolerance} and spread {self.spread}; give a fraction below 0.5, "
                f"and an angle above 0 and below {widest}."
            )
        drawn = np.random.default_rng((self.unit, 23)).uniform(-1, 1, len(fields(self.nominal)))
        self.constants = scaled(self.nominal, (1 + tolerance * drawn).tolist())
        self.parts = imperfections or self.customary
        make_plain(self.parts)
        self._true = self._measured = torch.zeros(0, 4, dtype=torch.float64)
        self._sent = torch.zeros(0, dtype=torch.float64)

    @final
    def push(self, rate: Tensor) -> None:
        """Change the rate of the second angle at once, (rows,), rad/s, as a finger does."""
        self._true[:, 3] += rate

    @staticmethod
    @abstractmethod
    def accelerate(state: Tensor, volts: Tensor, constants: Any, parts: Any = None) -> Tensor:
        """Rate of change of states (rows, 4) with voltages (rows,); without parts, on paper."""

    @classmethod
    def advance(cls, state: Tensor, command: Tensor, constants: Any) -> Tensor:
        """Next state (rows, 4) of a perfect plant after a step of a command (rows, 1), V."""
        for _ in range(SUBSTEPS):
            state = integrate(lambda now: cls.accelerate(now, command[:, 0], constants), state)
        return state

    def _begin(self, drawn: Tensor) -> Tensor:
        """Starts (rows, 4), from what was drawn for all four quantities."""
        return drawn

    @final
    def _reset(self, seeds: list[int]) -> Tensor:
        draws = [np.random.default_rng((seed, 29)).uniform(-1, 1, 4) for seed in seeds]
        scale = self.spread * torch.tensor([1.0, 1.0, 3.0, 3.0], dtype=torch.float64)
        self._true = self._begin(scale * torch.tensor(np.array(draws)))
        self._sent = torch.zeros(len(seeds), dtype=torch.float64)
        self._measured = torch.cat([self._angles(), self._true[:, 2:]], 1)
        return self._measured.float()

    @final
    def _step(self, command: Tensor) -> Tensor:
        volts = command[:, 0].double()
        volts = volts.sign() * (volts.abs() - self.parts.dead_zone).clamp_min(0)
        for part in range(SUBSTEPS):
            now = self._sent if part < self.parts.delay else volts
            rate = partial(self.accelerate, volts=now, constants=self.constants, parts=self.parts)
            self._true = integrate(rate, self._true)
        self._sent = volts
        angles, rates = self._angles(), self._true[:, 2:]
        if self.parts.counts:
            keep = math.exp(-STEP_S / FILTER_S)
            change = (angles - self._measured[:, :2]) / STEP_S
            rates = keep * self._measured[:, 2:] + (1 - keep) * change
        self._measured = torch.cat([angles, rates], 1)
        return self._measured.float()

    @final
    def _stop(self) -> None:
        self._sent = torch.zeros_like(self._sent)

    def _angles(self) -> Tensor:
        angles, counts = self._true[:, :2], self.parts.counts
        return (angles * counts / math.tau).round() * math.tau / counts if counts else angles
