"""Two simulated instruments on sockets, with a simulated device between them.

No code is shared with the drivers, so that the same mistake is not made on both sides. What is not
modelled is refused in the error queue.
"""

from pnnlab.virtual_bench.bench import Faults, VirtualBench, Wiring

__all__ = ["Faults", "VirtualBench", "Wiring"]
