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

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from pnnlab.plants.plant import Interface, PlantLimits, SimulatedPlant

GRAVITY = 9.81  # m/s²


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
class PendulumImperfections(Interface):
    """What a built pendulum adds to its equations; its twin has none of it."""

    friction: float = 0.0006  # N·m. Customary of small motors: 2 % of the torque at a standstill
    cable: float = 0.001  # N·m/rad. Customary of the encoder's cable, which winds around the arm


IDEAL = PendulumImperfections(counts=0, delay=0, dead_zone=0.0, friction=0.0, cable=0.0)


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


@final
class Pendulum(SimulatedPlant):
    """The simulated rotary pendulum, released near upright; see `SimulatedPlant`."""

    quantities = "arm (rad)", "rod (rad)", "rate of the arm (rad/s)", "rate of the rod (rad/s)"
    nominal = PendulumConstants()
    customary = PendulumImperfections()
    permitted = PlantLimits(command=6.0, state=(2.0, 0.5, 50.0, 50.0), moves=3.0)
    spread = 0.1
    accelerate = staticmethod(accelerate)
