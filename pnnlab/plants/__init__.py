"""Plants: machines that a controller commands step by step, and their twins."""

from pnnlab.plants.motor import Motor, MotorConstants, MotorImperfections
from pnnlab.plants.pendulum import Pendulum, PendulumConstants, PendulumImperfections
from pnnlab.plants.plant import Plant, PlantLimits

__all__ = ["Motor", "MotorConstants", "MotorImperfections", "Plant", "PlantLimits"]
__all__ += ["Pendulum", "PendulumConstants", "PendulumImperfections"]
