"""A bench without a bench: two instruments on sockets, with a simulated device between them.

It shares no code with the drivers, so that the two cannot share a misunderstanding.
"""

from pnnlab.instruments.virtual.bench import VirtualBench, Wiring
from pnnlab.instruments.virtual.faults import Faults

__all__ = ["Faults", "VirtualBench", "Wiring"]
