"""What the physics twins of the simulated systems know: their equations on paper."""

from dataclasses import dataclass
from typing import ClassVar, Literal, final

from torch import Tensor

from pnnlab.errors import ShapeError, TwinError
from pnnlab.systems import multiplex, plate
from pnnlab.systems.circuit import CircuitConstants, oscillate
from pnnlab.systems.oscillators import BIAS_RANGE, COUPLING_RANGE, STEPS, release, split, swing
from pnnlab.systems.plate import PlateConstants
from pnnlab.systems.shg import MaskProgramme, respond
from pnnlab.systems.waves import Crystal
from pnnlab.twins.physics import Equations
from pnnlab.twins.twin import Described, check_programme, check_replays


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

    nominal: ClassVar[CircuitConstants] = CircuitConstants()
    free: ClassVar[tuple[str, ...]] = ("w_l", "r", "v_t", "g", "a", "s")

    def check(self, system: Described) -> None:
        """Raise `TwinError` if the system is not programmed with so many replays."""
        check_programme(system, self.replays)

    def __call__(
        self, x: Tensor, theta: Tensor, constants: CircuitConstants, output_dim: int
    ) -> Tensor:
        """Solve the circuit's equations and read out segment means."""
        wave = oscillate(multiplex.drive(x, theta, self.replays), constants)
        return multiplex.segment_means(wave, output_dim)


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

    nominal: ClassVar[PlateConstants] = PlateConstants()
    free: ClassVar[tuple[str, ...]] = ("w_x", "w_y", "loss", "loss_slope", "gain", "sensitivity")

    def check(self, system: Described) -> None:
        """Raise `TwinError` if the system is not programmed with so many replays."""
        check_replays(system, self.replays)
        samples = self.replays * system.input_dim + plate.TAIL
        if system.output_dim > samples:
            raise TwinError(f"{samples} samples have no {system.output_dim} windows.")

    def __call__(
        self, x: Tensor, theta: Tensor, constants: PlateConstants, output_dim: int
    ) -> Tensor:
        """Solve the plate's equations and read out log energies."""
        force = plate.waveform(x, theta, self.replays)
        return plate.log_energy(plate.vibrate(force, plate.solve_modes(constants)), output_dim)


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

    def check(self, system: Described) -> None:
        """Raise `TwinError` if the system cannot be programmed so."""
        programme = MaskProgramme(self.trained, self.phase_range)
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
        programme = MaskProgramme(self.trained, self.phase_range)
        return respond(x, theta, constants, programme, output_dim)


@dataclass(frozen=True)
class OscillatorConstants:
    """Constants of the pendula's equations.

    Parameters
    ----------
    angle : float
        What the angles are multiplied with within the sine, 1 on paper.
    """

    angle: float = 1.0


@final
@dataclass(frozen=True)
class OscillatorEquations(Equations):
    """The pendula as they were programmed: no coupling errors, no noise at release.

    Parameters
    ----------
    n : int
        How many pendula.
    low, high : float
        Angles at release of the inputs 0 and 1, rad.
    coupling_range, bias_range : float
        Largest coupling and torque either way.
    steps : int
        Runge-Kutta steps; a twin may be coarser than its system.
    """

    n: int
    low: float = 0.0
    high: float = 1.0
    coupling_range: float = COUPLING_RANGE
    bias_range: float = BIAS_RANGE
    steps: int = STEPS

    nominal: ClassVar[OscillatorConstants] = OscillatorConstants()
    free: ClassVar[tuple[str, ...]] = ("angle",)

    def check(self, system: Described) -> None:
        """Raise `TwinError` if the system has not so many pendula."""
        check_pendula(system, self.n)

    def __call__(
        self, x: Tensor, theta: Tensor, constants: OscillatorConstants, output_dim: int
    ) -> Tensor:
        """Solve the equations and read the last angles."""
        couplings, biases = split(theta, self.n, self.coupling_range, self.bias_range)
        start = release(x, self.n, self.low, self.high)
        end = swing(start, couplings, biases, scale=constants.angle, steps=self.steps)
        return end[:, self.n - output_dim :]


def check_pendula(system: Described, n: int) -> None:
    """Raise `TwinError` unless ``system`` can be a network of ``n`` pendula."""
    if system.param_dim != n * n + n or max(system.input_dim, system.output_dim) > n:
        raise TwinError(
            f"{n} pendula have {n * n + n} parameters and at most as many inputs and outputs, but "
            f"{system.name} has {system.param_dim} parameters, {system.input_dim} inputs and "
            f"{system.output_dim} outputs: give the number of pendula that it has."
        )
