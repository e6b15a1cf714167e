"""What a physics twin of the plate knows: the equations of an ideal strip."""

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from pnnlab.errors import TwinError
from pnnlab.systems.plate import TAIL, Constants, log_energy, solve_modes, vibrate, waveform
from pnnlab.twins.base import Described, check_replays
from pnnlab.twins.physics import Equations


@final
@dataclass(frozen=True)
class PlateEquations(Equations):
    """The nominal equations of `pnnlab.systems.plate`, driven and read out as it is.

    The plate's displacement is never measured, so its unit is free, and with it one of the
    tension and the gains: that is why ``alpha`` is held. The strain at which the edges slip and
    the points of drive and microphone are held too, as on the drawing.

    Parameters
    ----------
    replays : int
        How often a shot replays the input.
    """

    replays: int

    nominal: ClassVar[Constants] = Constants()
    free: ClassVar[tuple[str, ...]] = ("w_x", "w_y", "loss", "loss_slope", "gain", "sensitivity")

    def check(self, system: Described) -> None:
        """Raise `TwinError` if the system is not programmed with so many replays."""
        check_replays(system, self.replays)
        samples = self.replays * system.input_dim + TAIL
        if system.output_dim > samples:
            raise TwinError(f"{samples} samples have no {system.output_dim} windows.")

    def __call__(self, x: Tensor, theta: Tensor, constants: Constants, output_dim: int) -> Tensor:
        """Solve the plate's equations and read out log energies."""
        wave = vibrate(waveform(x, theta, self.replays), solve_modes(constants))
        return log_energy(wave, output_dim)
