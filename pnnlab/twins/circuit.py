"""What a physics twin of the circuit knows: its nominal equations."""

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from pnnlab.systems import multiplex
from pnnlab.systems.circuit import Constants, oscillate
from pnnlab.twins.base import Described, check_programme
from pnnlab.twins.physics import Equations


@final
@dataclass(frozen=True)
class CircuitEquations(Equations):
    """The nominal equations of `pnnlab.systems.circuit`, driven and read out as it is.

    The coil's current is never measured, so its unit is free: scaling it scales ``w_l`` and ``g``
    up and ``w_c`` and ``r`` down, and changes no read-out. That is why ``w_c`` is held.

    Parameters
    ----------
    replays : int
        How often a shot replays the input.
    """

    replays: int

    nominal: ClassVar[Constants] = Constants()
    free: ClassVar[tuple[str, ...]] = ("w_l", "r", "v_t", "g", "a", "s")

    def check(self, system: Described) -> None:
        """Raise `TwinError` if the system is not programmed with so many replays."""
        check_programme(system, self.replays)

    def __call__(self, x: Tensor, theta: Tensor, constants: Constants, output_dim: int) -> Tensor:
        """Solve the circuit's equations and read out segment means."""
        wave = oscillate(multiplex.drive(x, theta, self.replays), constants)
        return multiplex.segment_means(wave, output_dim)
