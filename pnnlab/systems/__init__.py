"""Simulated physical systems: equations, nominal constants, and units with hidden faults."""

from pnnlab.systems.circuit import Circuit
from pnnlab.systems.oscillators import Oscillators
from pnnlab.systems.plate import Plate
from pnnlab.systems.resonators import Resonators
from pnnlab.systems.room import Room
from pnnlab.systems.shg import SHG

__all__ = ["SHG", "Circuit", "Oscillators", "Plate", "Resonators", "Room"]
