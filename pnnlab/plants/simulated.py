"""What simulated plants share: their integrator, amplifier, encoders and delay."""

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, fields
from functools import partial
from typing import Any, ClassVar, TypeVar, final

import numpy as np
import torch
from torch import Tensor

from pnnlab.errors import RangeError
from pnnlab.plain import make_plain, real, whole
from pnnlab.plants.plant import Plant, PlantLimits

STEP_S = 0.01
SUBSTEPS = 4  # of Runge and Kutta's integrator, a step
FILTER_S = 0.01  # s, time constant of the rates, which are differences of angles

Constants = TypeVar("Constants")


@dataclass(frozen=True)
class Interface:
    """What stands between a computer and a plant; customary sizes are from no page."""

    counts: int = 2048  # of each encoder, a turn: QUBE-Servo 2 user manual; 0: exact
    delay: int = 1  # quarters of a step from measurement to command. Customary of USB: 2 ms
    dead_zone: float = 0.1  # V. Customary of a PWM amplifier


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
