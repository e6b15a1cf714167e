"""Simulated physical systems: equations, nominal constants, and units with hidden faults."""

from pnnlab.systems.circuit import Circuit

__all__ = ["Circuit"]
