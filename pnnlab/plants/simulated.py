"""What simulated plants share: their integrator, amplifier, encoders and delay."""

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
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


def advanced(
    rate: Callable[[Tensor, Tensor, Constants], Tensor],
    state: Tensor,
    command: Tensor,
    constants: Constants,
) -> Tensor:
    """Next state (rows, n) after a step of a command (rows, 1), by the ``rate`` of change."""
    for _ in range(SUBSTEPS):
        state = integrate(lambda now: rate(now, command[:, 0], constants), state)
    return state


def fabricate(nominal: Constants, unit: int, tolerance: float) -> Constants:
    """Draw the constants of one built copy, each within the tolerance with equal chance."""
    given: Any = nominal
    random = np.random.default_rng((unit, 23))
    factors = 1 + tolerance * random.uniform(-1, 1, len(fields(given)))
    drawn = zip(fields(given), factors, strict=True)
    built: Constants = replace(
        given, **{f.name: getattr(given, f.name) * float(x) for f, x in drawn}
    )
    return built


class SimulatedPlant(Plant):
    """A plant of two angles and their rates, commanded by a voltage; a subclass gives the physics.

    Parameters
    ----------
    unit : int
        Which fabricated copy.
    tolerance : float
        Of each constant, a fraction either way.
    spread : float
        Largest angle at a reset, rad, either way; rates are up to three times as many rad/s.
    """

    commands = ("voltage (V)",)
    step_s = STEP_S
    real_time = False
    most_rows = None
    nominal: ClassVar[Any]  # constants, a frozen dataclass

    def __init__(
        self, limits: PlantLimits, unit: int, tolerance: float, spread: float, parts: Interface
    ) -> None:
        super().__init__(limits)
        self.unit = whole("unit", unit, 0)
        tolerance, self.spread = real("tolerance", tolerance), real("spread", spread)
        widest = min(limits.state[:2])
        if not (0 <= tolerance < 0.5 and 0 < self.spread < widest):
            raise RangeError(
                f"tolerance is {tolerance} and spread {spread}; give a fraction below 0.5, and an "
                f"angle above 0 and below {widest}."
            )
        self.constants = fabricate(self.nominal, self.unit, tolerance)
        self.parts = parts
        make_plain(parts)
        self._true = self._measured = torch.zeros(0, 4, dtype=torch.float64)
        self._sent = torch.zeros(0, dtype=torch.float64)

    @final
    def push(self, rate: Tensor) -> None:
        """Change the rate of the second angle at once, (rows,), rad/s, as a finger does."""
        self._true[:, 3] += rate

    @staticmethod
    @abstractmethod
    def accelerate(state: Tensor, volts: Tensor, constants: Any, parts: Any) -> Tensor:
        """Rate of change of true states (rows, 4) with voltages (rows,)."""

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
