r"""A rotary inverted pendulum: a motor turns an arm, at whose end a rod swings.

With the angle :math:`\theta` of the arm, and :math:`\alpha` of the rod from upright,

.. math::
   (J_r + m L^2 + J \sin^2\alpha)\, \ddot\theta + m L l \cos\alpha\, \ddot\alpha
     + 2 J \sin\alpha \cos\alpha\, \dot\theta \dot\alpha - m L l \sin\alpha\, \dot\alpha^2
     = \tau - B_r \dot\theta, \\
   m L l \cos\alpha\, \ddot\theta + J \ddot\alpha - J \sin\alpha \cos\alpha\, \dot\theta^2
     - m g l \sin\alpha = -B_p \dot\alpha, \qquad
   \tau = k (V - k \dot\theta) / R,

with l half the length of the rod and :math:`J = m (2 l)^2 / 3`.

Source of the constants: Quanser, QUBE-Servo 2 user manual: motor, arm and rod. Published dampings
of the same apparatus differ five- to tenfold; those of Quanser's control workbook are taken.
"""

import math
from dataclasses import dataclass, fields, replace
from typing import final

import numpy as np
import torch
from torch import Tensor

from pnnlab.errors import RangeError
from pnnlab.plain import make_plain, real, whole
from pnnlab.plants.plant import Plant, PlantLimits

STEP_S = 0.01
SUBSTEPS = 4  # of Runge and Kutta's integrator, a step
GRAVITY = 9.81  # m/s²
FILTER_S = 0.01  # s, time constant of the rates, which are differences of angles


@dataclass(frozen=True)
class PendulumConstants:
    """Constants of the equations, in SI units."""

    resistance: float = 8.4  # Ω
    motor: float = 0.042  # N·m/A and V·s/rad
    arm_mass: float = 0.095
    arm_length: float = 0.085
    rod_mass: float = 0.024
    rod_length: float = 0.129
    arm_damping: float = 0.00027  # N·m·s/rad
    rod_damping: float = 0.00005


@dataclass(frozen=True)
class PendulumImperfections:
    """What a built pendulum adds to its equations; its twin has none of it.

    What is marked customary is of the usual size, from no particular page.
    """

    friction: float = 0.0006  # N·m. Customary of small motors: 2 % of the torque at a standstill
    cable: float = 0.001  # N·m/rad. Customary of the encoder's cable, which winds around the arm
    counts: int = 2048  # of each encoder, a turn: QUBE-Servo 2 user manual
    delay: int = 1  # quarters of a step from measurement to command. Customary of USB: 2 ms
    dead_zone: float = 0.1  # V. Customary of a PWM amplifier


IDEAL = PendulumImperfections(friction=0.0, cable=0.0, counts=0, delay=0, dead_zone=0.0)


def accelerate(
    state: Tensor, volts: Tensor, constants: PendulumConstants, parts: PendulumImperfections = IDEAL
) -> Tensor:
    """Rate of change of states (rows, 4) with commands (rows,), V; differentiable."""
    c = constants
    arm, rod, arm_rate, rod_rate = state.unbind(1)
    half, inertia = c.rod_length / 2, c.rod_mass * c.rod_length**2 / 3
    sine, cosine = rod.sin(), rod.cos()
    torque = c.motor * (volts - c.motor * arm_rate) / c.resistance - c.arm_damping * arm_rate
    if parts.friction or parts.cable:
        torque = torque - parts.friction * torch.tanh(arm_rate / 0.05) - parts.cable * arm
    arm_inertia = c.arm_mass * c.arm_length**2 / 3 + c.rod_mass * c.arm_length**2
    coupling = c.rod_mass * c.arm_length * half
    first = torque - 2 * inertia * sine * cosine * arm_rate * rod_rate
    first = first + coupling * sine * rod_rate.square()
    second = inertia * sine * cosine * arm_rate.square() + c.rod_mass * GRAVITY * half * sine
    second = second - c.rod_damping * rod_rate
    a, b = arm_inertia + inertia * sine.square(), coupling * cosine
    determinant = a * inertia - b.square()
    arm_acceleration = (inertia * first - b * second) / determinant
    rod_acceleration = (a * second - b * first) / determinant
    return torch.stack([arm_rate, rod_rate, arm_acceleration, rod_acceleration], 1)


def swing(
    state: Tensor,
    volts: Tensor,
    constants: PendulumConstants,
    parts: PendulumImperfections = IDEAL,
    *,
    seconds: float = STEP_S / SUBSTEPS,
) -> Tensor:
    """Integrate over one substep by Runge and Kutta's rule of fourth order; differentiable."""
    h = seconds
    k1 = accelerate(state, volts, constants, parts)
    k2 = accelerate(state + h / 2 * k1, volts, constants, parts)
    k3 = accelerate(state + h / 2 * k2, volts, constants, parts)
    k4 = accelerate(state + h * k3, volts, constants, parts)
    return state + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def advance(state: Tensor, command: Tensor, constants: PendulumConstants) -> Tensor:
    """Next state (rows, 4) of a perfect pendulum after a step of a command (rows, 1), V."""
    for _ in range(SUBSTEPS):
        state = swing(state, command[:, 0], constants)
    return state


def fabricate(unit: int, tolerance: float) -> PendulumConstants:
    """Draw the constants of one built copy, each within the tolerance with equal chance."""
    random = np.random.default_rng((unit, 23))
    factors = 1 + tolerance * random.uniform(-1, 1, len(fields(PendulumConstants)))
    nominal = PendulumConstants()
    drawn = zip(fields(nominal), factors, strict=True)
    return replace(nominal, **{f.name: getattr(nominal, f.name) * float(x) for f, x in drawn})


@final
class Pendulum(Plant):
    """The simulated rotary pendulum, released near upright.

    Parameters
    ----------
    unit : int
        Which fabricated copy.
    tolerance : float
        Of each constant, a fraction either way.
    spread : float
        Largest angle of the rod at a reset, rad, either way; the other starts scale with it.
    """

    quantities = "arm (rad)", "rod (rad)", "rate of the arm (rad/s)", "rate of the rod (rad/s)"
    commands = ("voltage (V)",)
    step_s = STEP_S
    real_time = False

    def __init__(
        self,
        unit: int = 0,
        *,
        tolerance: float = 0.1,
        spread: float = 0.1,
        imperfections: PendulumImperfections | None = None,
    ) -> None:
        super().__init__(PlantLimits(command=6.0, state=(2.0, 0.5, 50.0, 50.0), moves=3.0))
        self.unit = whole("unit", unit, 0)
        tolerance, self.spread = real("tolerance", tolerance), real("spread", spread)
        if not (0 <= tolerance < 0.5 and 0 < self.spread < self.limits.state[1]):
            raise RangeError("tolerance is a fraction below 0.5, and spread an angle below 0.5.")
        self.constants = fabricate(self.unit, tolerance)
        self.parts = imperfections or PendulumImperfections()
        make_plain(self.parts)
        self._true = self._measured = torch.zeros(0, 4, dtype=torch.float64)
        self._sent = torch.zeros(0, dtype=torch.float64)

    def push(self, rod_rate: Tensor) -> None:
        """Change the rate of the rods at once, (rows,), rad/s, as a finger does."""
        self._true[:, 3] += rod_rate

    def _reset(self, seeds: list[int]) -> Tensor:
        draws = [np.random.default_rng((seed, 29)).uniform(-1, 1, 4) for seed in seeds]
        scale = self.spread * torch.tensor([1.0, 1.0, 3.0, 3.0], dtype=torch.float64)
        self._true = scale * torch.tensor(np.array(draws))
        self._sent = torch.zeros(len(seeds), dtype=torch.float64)
        self._measured = torch.cat([self._angles(), self._true[:, 2:]], 1)
        return self._measured.float()

    def _step(self, command: Tensor) -> Tensor:
        volts = command[:, 0].double()
        size = (volts.abs() - self.parts.dead_zone).clamp_min(0)
        volts = volts.sign() * size
        for part in range(SUBSTEPS):
            now = self._sent if part < self.parts.delay else volts
            self._true = swing(self._true, now, self.constants, self.parts)
        self._sent = volts
        angles = self._angles()
        keep = math.exp(-STEP_S / FILTER_S) if self.parts.counts else 0.0
        change = (angles - self._measured[:, :2]) / STEP_S
        rates = keep * self._measured[:, 2:] + (1 - keep) * change
        if not self.parts.counts:
            rates = self._true[:, 2:]
        self._measured = torch.cat([angles, rates], 1)
        return self._measured.float()

    def _stop(self) -> None:
        self._sent = torch.zeros_like(self._sent)

    def _angles(self) -> Tensor:
        angles, counts = self._true[:, :2], self.parts.counts
        return (angles * counts / math.tau).round() * math.tau / counts if counts else angles
