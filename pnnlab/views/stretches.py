"""Which stretches of theta belong together, and what they are called."""

from pnnlab.protocols import PhysicalSystem
from pnnlab.systems import Oscillators, multiplex
from pnnlab.views.curve import Part


def stretches(system: PhysicalSystem) -> list[Part]:
    """Name the stretches of a system's parameters: first all of them, then one by one."""
    whole = ("all", 0, system.param_dim)
    if isinstance(system, Oscillators):
        edge = system.n**2
        return [whole, ("couplings", 0, edge), ("biases", edge, edge + system.n)]
    replays = getattr(system, "replays", None)
    replays = replays or getattr(getattr(system, "programme", None), "replays", 0)
    width = system.input_dim
    if not replays or system.param_dim != multiplex.param_dim(width, replays):
        return [whole]
    names = [f"{what}, replay {i + 1}" for what in ("scale", "offset") for i in range(replays)]
    return [whole, *((name, i * width, (i + 1) * width) for i, name in enumerate(names))]
