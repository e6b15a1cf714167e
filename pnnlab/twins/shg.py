"""What a physics twin of second-harmonic generation knows: its nominal equations."""

from dataclasses import dataclass
from typing import ClassVar, Literal, final

from torch import Tensor

from pnnlab.errors import ShapeError, TwinError
from pnnlab.systems.pulses import Programme
from pnnlab.systems.shg import respond
from pnnlab.systems.waves import Crystal
from pnnlab.twins.base import Described
from pnnlab.twins.physics import Equations


@final
@dataclass(frozen=True)
class SHGEquations(Equations):
    """The coupled waves of `pnnlab.systems.shg`, shaped and read out as there.

    A crystal of twice the length, with half of everything that is counted per mm, gives the same
    spectrum: that is why the length is held. So are the dispersions of both waves, whose effect
    in 1 mm is lost in the chirp of the pulse itself.

    Parameters
    ----------
    trained, phase_range
        As the system is programmed.
    """

    trained: Literal["phases", "amplitudes"] = "phases"
    phase_range: float = 0.8

    nominal: ClassVar[Crystal] = Crystal()
    free: ClassVar[tuple[str, ...]] = ("coupling", "gvm", "centre")

    @property
    def programme(self) -> Programme:
        """What the bands of the mask carry."""
        return Programme(self.trained, self.phase_range)

    def check(self, system: Described) -> None:
        """Raise `TwinError` if the system cannot be programmed so."""
        programme = self.programme
        try:
            programme.check(system.input_dim, system.output_dim)
        except ShapeError as error:
            raise TwinError(f"{system.name} is no system of this kind: {error}") from error
        if system.param_dim != programme.param_dim:
            raise TwinError(
                f"with theta in the {self.trained} there are {programme.param_dim} parameters, "
                f"but {system.name} has {system.param_dim}: say how it is programmed."
            )

    def __call__(self, x: Tensor, theta: Tensor, constants: Crystal, output_dim: int) -> Tensor:
        """Solve the coupled waves and read the harmonic's spectrum."""
        return respond(x, theta, constants, self.programme, output_dim)
