r"""A geared motor that turns a load through a shaft with backlash.

With the angles :math:`\theta_m` of the gear's output and :math:`\theta_l` of the load, and the
play of :math:`\pm b` between them,

.. math::
   J_m \ddot\theta_m = \tau - B \dot\theta_m - T, \qquad J_l \ddot\theta_l = T, \qquad
   T = s\, D(\varphi) + d\, \dot\varphi \;\text{in contact}, \qquad
   \tau = \eta N k (V - N k \dot\theta_m) / R,

:math:`\varphi = \theta_m - \theta_l`, and D zero within the play. A contact pushes and never pulls.
The twin has no play.

Sources: Quanser, SRV02 user manual, table 3.1 (motor, gear, damping, bar as a load) and its rotary
flexible link (stiffness); M. Nordin, J. Galić and P.-O. Gutman, Int. J. Adapt. Control Signal
Process. 11, 49 (1997), the shaft.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from pnnlab.plants.plant import Interface, PlantLimits, SimulatedPlant


@dataclass(frozen=True)
class MotorConstants:
    """Constants of the equations, in SI units; inertia and damping as seen at the gear's output."""

    resistance: float = 2.6  # Ω
    motor: float = 0.00768  # N·m/A and V·s/rad
    gear: float = 70.0
    efficiency: float = 0.62  # of motor, 0.69, and gear, 0.9
    inertia: float = 70**2 * 4.6e-7  # kg·m², of rotor and tachometer
    damping: float = 0.015  # N·m·s/rad
    load: float = 0.038 * 0.1525**2 / 12  # kg·m², the bar, held at its middle
    stiffness: float = 1.3  # N·m/rad
    shaft_damping: float = 0.002  # N·m·s/rad. Customary: a tenth of the critical one


@dataclass(frozen=True)
class MotorImperfections(Interface):
    """What a built motor adds to its equations; its twin has none of it."""

    counts: int = 4096  # of each encoder, a turn: SRV02 user manual
    play: float = 0.0087  # rad, either way. Customary of spur gears: a degree in all
    friction: float = 0.01  # N·m. Customary: 3 % of the torque at a standstill


IDEAL = MotorImperfections(counts=0, delay=0, dead_zone=0.0, play=0.0, friction=0.0)


def accelerate(
    state: Tensor, volts: Tensor, constants: MotorConstants, parts: MotorImperfections = IDEAL
) -> Tensor:
    """Rate of change of states (rows, 4) with commands (rows,), V; differentiable."""
    c = constants
    motor, load, motor_rate, load_rate = state.unbind(1)
    twist = motor - load
    shaft = c.stiffness * twist + c.shaft_damping * (motor_rate - load_rate)
    if parts.play:
        beyond = twist.sign() * (twist.abs() - parts.play).clamp_min(0)
        pushing = c.stiffness * beyond + c.shaft_damping * (motor_rate - load_rate)
        shaft = twist.sign() * (twist.sign() * pushing).clamp_min(0) * (beyond != 0)
    back = c.gear * c.motor
    torque = c.efficiency * back * (volts - back * motor_rate) / c.resistance
    torque = torque - c.damping * motor_rate
    if parts.friction:
        torque = torque - parts.friction * torch.tanh(motor_rate / 0.05)
    return torch.stack([motor_rate, load_rate, (torque - shaft) / c.inertia, shaft / c.load], dim=1)


@final
class Motor(SimulatedPlant):
    """The simulated motor; see `SimulatedPlant`."""

    quantities = (
        "motor (rad)",
        "load (rad)",
        "rate of the motor (rad/s)",
        "rate of the load (rad/s)",
    )
    nominal = MotorConstants()
    customary = MotorImperfections()
    permitted = PlantLimits(command=6.0, state=(3.0, 3.0, 40.0, 40.0), moves=2.0)
    spread = 0.5
    accelerate = staticmethod(accelerate)

    def _begin(self, drawn: Tensor) -> Tensor:
        return drawn[:, [0, 0, 2, 2]]  # with the shaft untwisted
