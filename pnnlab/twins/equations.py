"""Equations on paper of the simulated systems, for their twins."""

from collections.abc import Callable
from dataclasses import astuple, dataclass, make_dataclass
from typing import Any, ClassVar, Literal, final

import numpy as np
import torch
from torch import Tensor, nn

from pnnlab.errors import ShapeError, TwinError
from pnnlab.systems import multiplex, oscillators, plate, resonators
from pnnlab.systems.circuit import CircuitConstants, oscillate
from pnnlab.systems.plate import PlateConstants
from pnnlab.systems.shg import MaskProgramme, respond
from pnnlab.systems.waves import Crystal
from pnnlab.twins.neural import Architecture, Core
from pnnlab.twins.physics import Equations
from pnnlab.twins.twin import Described, Recipe, check_programme

RATE_OF_SCALE = 5.0  # how much faster than a weight the scale of the read-outs is learnt


@final
@dataclass(frozen=True)
class CircuitEquations(Equations):
    """The nominal equations of `pnnlab.systems.circuit`, driven and read out as it is.

    A shot replays the input ``replays`` times. ``w_c`` is held, for the coil's current is never
    measured: scaling it scales ``w_l`` and ``g`` up and ``w_c`` and ``r`` down.
    """

    replays: int

    nominal: ClassVar[CircuitConstants] = CircuitConstants()
    free: ClassVar[tuple[str, ...]] = ("w_l", "r", "v_t", "g", "a", "s")

    def check(self, system: Described) -> None:
        check_programme(system, self.replays)

    def averaged(self, system: Described) -> float:
        return self.replays * system.input_dim / system.output_dim

    def __call__(
        self, x: Tensor, theta: Tensor, constants: CircuitConstants, output_dim: int
    ) -> Tensor:
        wave = oscillate(multiplex.drive(x, theta, self.replays), constants)
        return multiplex.segment_means(wave, output_dim)


@final
@dataclass(frozen=True)
class PlateEquations(Equations):
    """The nominal equations of `pnnlab.systems.plate`, driven and read out as it is.

    A shot replays the input ``replays`` times. ``alpha`` is held, for displacement is never
    measured, and so are the strain at which the edges slip and the points of drive and microphone.
    """

    replays: int

    nominal: ClassVar[PlateConstants] = PlateConstants()
    free: ClassVar[tuple[str, ...]] = ("w_x", "w_y", "loss", "loss_slope", "gain", "sensitivity")

    def check(self, system: Described) -> None:
        check_programme(system, self.replays, segments=False)
        samples = self.replays * system.input_dim + plate.TAIL
        if system.output_dim > samples:
            raise TwinError(f"{samples} samples have no {system.output_dim} windows.")

    def averaged(self, system: Described) -> float:
        return (self.replays * system.input_dim + plate.TAIL) / system.output_dim

    def __call__(
        self, x: Tensor, theta: Tensor, constants: PlateConstants, output_dim: int
    ) -> Tensor:
        force = plate.waveform(x, theta, self.replays)
        return plate.log_energy(plate.vibrate(force, plate.solve_modes(constants)), output_dim)


@final
@dataclass(frozen=True)
class SHGEquations(Equations):
    """The coupled waves of `pnnlab.systems.shg`, programmed, shaped and read out as there.

    The length is held, for twice of it with half of everything per mm gives the same spectrum, and
    the dispersions of both waves, whose effect is lost in the chirp of the pulse.
    """

    trained: Literal["phases", "amplitudes"] = "phases"
    phase_range: float = 0.8

    nominal: ClassVar[Crystal] = Crystal()
    free: ClassVar[tuple[str, ...]] = ("coupling", "gvm", "centre")

    def check(self, system: Described) -> None:
        programme = MaskProgramme(self.trained, self.phase_range)
        try:
            programme.check(system.input_dim, system.output_dim)
        except ShapeError as error:
            raise TwinError(f"{system.name} is no system of this kind: {error}") from error
        if system.param_dim != programme.param_dim:
            raise TwinError(
                f"with theta in the {self.trained} there are {programme.param_dim} parameters, "
                f"but {system.name} has {system.param_dim}: give the programme that it has."
            )

    def averaged(self, system: Described) -> float:
        return 1 / system.output_dim

    def __call__(self, x: Tensor, theta: Tensor, constants: Crystal, output_dim: int) -> Tensor:
        programme = MaskProgramme(self.trained, self.phase_range)
        return respond(x, theta, constants, programme, output_dim)


_EACH = [f"{what}_{k}" for what in ("tuning", "gain") for k in range(resonators.RESONATORS)]
ResonatorConstants = make_dataclass(
    "ResonatorConstants",
    [
        *((name, float, 1.0) for name in [*_EACH, "loss"]),
        ("knee", float, resonators.KNEE),
    ],
    namespace={"__doc__": "Constants of the resonators: tuning and gain of each, and of all."},
    frozen=True,
)


@final
@dataclass(frozen=True)
class ResonatorEquations(Equations):
    """The nominal equations of `pnnlab.systems.resonators`, with the conductances programmed.

    Tuning and gain of each resonator are fitted, and what all have in common of losses and
    detectors. The fields are those of `pnnlab.systems.Resonators`.
    """

    hidden: int = 0
    full_drive: float = resonators.FULL_DRIVE
    nominal: ClassVar[Any] = ResonatorConstants()
    free: ClassVar[tuple[str, ...]] = (*_EACH, "loss", "knee")

    def check(self, system: Described) -> None:
        expected = resonators.param_dim(system.output_dim, self.hidden)
        if system.param_dim != expected:
            raise TwinError(
                f"resonators with {system.output_dim} nodes behind {self.hidden} slow ones have "
                f"{expected} parameters, but {system.name} has {system.param_dim}: it is no "
                "system of this kind, or has other slow nodes."
            )

    def __call__(self, x: Tensor, theta: Tensor, constants: Any, output_dim: int) -> Tensor:
        *each, loss, knee = astuple(constants)
        tuning, gain = np.split(np.array(each), 2)
        bank = resonators.Bank(tuning, gain, loss, knee)
        return resonators.respond(
            x, theta, bank, output_dim, hidden=self.hidden, full_drive=self.full_drive
        )


@dataclass(frozen=True)
class _Pendula(Recipe):
    n: int
    low: float = 0.0
    high: float = 1.0
    coupling_range: float = oscillators.COUPLING_RANGE
    bias_range: float = oscillators.BIAS_RANGE
    steps: int = oscillators.STEPS

    def check(self, system: Described) -> None:
        n = self.n
        if system.param_dim != n * n + n or max(system.input_dim, system.output_dim) > n:
            raise TwinError(
                f"{n} pendula have {n * n + n} parameters and at most as many inputs and outputs, "
                f"but {system.name} has {system.param_dim} parameters, {system.input_dim} inputs "
                f"and {system.output_dim} outputs: give the number of pendula that it has."
            )

    def _swing(
        self,
        respond: Callable[[Tensor], Tensor],
        x: Tensor,
        theta: Tensor,
        outputs: int,
        errors: Tensor | None = None,
    ) -> Tensor:
        """Read the last angles, with what angles give in place of their sines."""
        programmed = oscillators.split(theta, self.n, self.coupling_range, self.bias_range)
        start = oscillators.release(x, self.n, self.low, self.high)
        end = oscillators.swing(start, *programmed, errors=errors, sine=respond, steps=self.steps)
        return end[:, self.n - outputs :]


@dataclass(frozen=True)
class OscillatorConstants:
    """Constants of the pendula."""

    angle: float = 1.0  # factor of the angle within the sine


@final
@dataclass(frozen=True)
class OscillatorEquations(_Pendula, Equations):
    """The pendula as they were programmed: no coupling errors, no noise at release.

    The fields are those of `pnnlab.systems.Oscillators`; a twin may take fewer ``steps``.
    """

    nominal: ClassVar[OscillatorConstants] = OscillatorConstants()
    free: ClassVar[tuple[str, ...]] = ("angle",)

    def __call__(
        self, x: Tensor, theta: Tensor, constants: OscillatorConstants, output_dim: int
    ) -> Tensor:
        return self._swing(lambda q: (constants.angle * q).sin(), x, theta, output_dim)


@final
@dataclass(frozen=True)
class Forces(_Pendula, Architecture):
    """A neural twin of pendula that learns their force, and couplings beside those programmed.

    It learns the force in place of the sine of an angle, and one matrix of couplings that nobody
    programmed, n² weights: enough shots for them can be had of tens of pendula, not of hundreds.
    ``hidden`` is the width of the perceptron that corrects the force.
    """

    hidden: int = 16

    learning_rate: ClassVar[float] = 0.01

    def build(self, system: Described) -> Core:
        self.check(system)
        return _LearntForces(self, system.output_dim)


@final
class _LearntForces(Core):
    def __init__(self, design: Forces, outputs: int) -> None:
        super().__init__()
        self.distinct = outputs
        self.design = design
        last = nn.Linear(design.hidden, 1)
        nn.init.zeros_(last.weight)  # training begins with the equations on paper
        nn.init.zeros_(last.bias)
        self.correction = nn.Sequential(nn.Linear(1, design.hidden), nn.Tanh(), last)
        self.unprogrammed = nn.Parameter(torch.zeros(design.n, design.n))
        # A twin is fitted to standardised read-outs; these learn to standardise, and fast.
        self.gain = nn.Parameter(torch.zeros(outputs))
        self.offset = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor, theta: Tensor) -> Tensor:
        read = self.design._swing(self._force, x, theta, self.distinct, self.unprogrammed)
        standard: Tensor = (read - RATE_OF_SCALE * self.offset) * (RATE_OF_SCALE * self.gain).exp()
        return standard

    def _force(self, q: Tensor) -> Tensor:
        correction: Tensor = self.correction(q.unsqueeze(-1)).squeeze(-1)
        return q.sin() + correction
