"""A bench without a bench: two instruments on sockets, with a simulated device between them.

It shares no code with the drivers, so that the two cannot share a misunderstanding.
"""

from pnnlab.virtual_bench.faults import Faults
from pnnlab.virtual_bench.wiring import VirtualBench, Wiring

__all__ = ["Faults", "VirtualBench", "Wiring"]
