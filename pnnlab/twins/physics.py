"""The physics twin: the equations on paper of a system, with constants fitted to the device.

What the built device adds is missing, and the fitted constants shift to make up for that.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass, fields, make_dataclass, replace
from typing import Any, ClassVar, Literal, final

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from scipy.optimize import least_squares
from torch import Tensor

from pnnlab import characterize
from pnnlab.errors import ShapeError, TwinError
from pnnlab.plain import seeded, whole
from pnnlab.systems import multiplex, oscillators, plate, resonators
from pnnlab.systems.circuit import CircuitConstants, oscillate
from pnnlab.systems.plate import PlateConstants
from pnnlab.systems.shg import Crystal, MaskProgramme, respond
from pnnlab.twins.twin import Described, Noise, Recipe, Twin, check_programme, fit_noise, noisy

BAND = (0.2, 5.0)  # how far a constant may move, relative to its nominal value
FAILED = 0.5  # NMSE above which half of what the outputs do goes unexplained
FINITE_STEP = 1e-5  # relative; the residuals are computed in float64


@dataclass(frozen=True)
class Equations(Recipe, ABC):
    """Equations of a kind of device; the fields are how it is programmed."""

    nominal: ClassVar[Any]  # the constants on paper, a frozen dataclass of floats
    free: ClassVar[tuple[str, ...]]  # names of the constants that the read-outs determine

    @abstractmethod
    def check(self, system: Described) -> None:
        """Raise `TwinError` if the system cannot be programmed so."""

    @abstractmethod
    def __call__(self, x: Tensor, theta: Tensor, constants: Any, output_dim: int) -> Tensor:
        """Compute y, (batch, output_dim), differentiable in x and theta."""

    def averaged(self, system: Described) -> float:  # noqa: ARG002 - given, needed or not
        """Of how many independent samples a read-out is the mean, up to a factor, for its noise."""
        return 1.0


@final
class PhysicsTwin(Twin):
    """Equations, which must suit the system, with some constants: by default the nominal ones."""

    values: Tensor
    noise: Tensor

    def __init__(self, system: Described, equations: Equations, constants: Any = None) -> None:
        super().__init__(system)
        equations.check(system)
        self.equations = equations
        chosen = astuple(equations.nominal if constants is None else constants)
        # A buffer, so that whatever saves and restores a network does so with its twin.
        self.register_buffer("values", torch.tensor(chosen, dtype=torch.float64))
        # Centre and spread of the read-outs, level and slopes of a `Noise`; all 0: not fitted. Not
        # parameters, for a twin without weights computes in the data type of its input.
        self.register_buffer("noise", torch.zeros(5, dtype=torch.float64))

    @property
    def constants(self) -> Any:
        """The constants, as the equations' own dataclass."""
        nominal = self.equations.nominal
        names = [field.name for field in fields(nominal)]
        return replace(nominal, **dict(zip(names, self.values.tolist(), strict=True)))

    @property
    def label(self) -> str:
        nominal = astuple(self.equations.nominal)
        same = np.allclose(self.values.cpu().numpy(), nominal, rtol=1e-6, atol=0)
        return "physics twin, nominal" if same else "physics twin, fitted"

    def model(self, x: Tensor, theta: Tensor) -> Tensor:
        return self.equations(x, theta, self.constants, self.output_dim)

    def deviation(self, mean: Tensor) -> Tensor:
        """Standard deviation of read-outs of these means; a `TwinError` if no noise was fitted."""
        if not self.noise[1]:
            raise TwinError(
                "this twin has no noise model: fit it, with fit_physics, to shots that were "
                "measured at least twice each, as collect does."
            )
        centre, spread, level, slope, curvature = self.noise.tolist()
        m = ((mean - centre) / spread).clamp(-3, 3)
        deviation: Tensor = spread * (level + slope * m + curvature * m.square()).exp()
        return deviation

    def sample(self, x: Tensor, theta: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Model one noisy read-out, as `forward`; a `TwinError` if no noise was fitted."""
        mean = self(x, theta)
        return noisy(mean, self.deviation(mean), generator)

    def with_constants(self, constants: Any) -> "PhysicsTwin":
        """A twin that differs in its constants alone."""
        return self._like(self.signature, self.equations, constants)

    def drawn(self, tolerance: float) -> "PhysicsTwin":
        """A twin with free constants of relative standard deviation ``tolerance`` about these.

        The constants follow from these and torch's seed, which each step of a training sets anew:
        the layers of one device share them.
        """
        free = self.equations.free
        generator = seeded(hash((torch.initial_seed(), *self.values.tolist())))
        normal = torch.randn(len(free), dtype=torch.float64, generator=generator)
        factors = 1 + tolerance * normal
        return self.with_constants(_scaled(self.constants, free, factors.tolist()))

    def reprogrammed(self, system: Described, **programme: int) -> "PhysicsTwin":
        """Make the twin of the same device programmed otherwise, as in ``replays=10``."""
        equations = replace(self.equations, **programme)
        twin = self._like(system, equations, self.constants)
        fewer = self.equations.averaged(self.signature) / equations.averaged(system)
        twin.noise[2] += 0.5 * math.log(fewer)
        return twin

    def _like(self, system: Described, equations: Equations, constants: Any) -> "PhysicsTwin":
        twin = PhysicsTwin(system, equations, constants)
        twin.noise.copy_(self.noise)
        twin.fault, twin.reported = self.fault, self.reported
        return twin


@final
@dataclass(frozen=True, kw_only=True)
class PhysicsFit:
    """A physics twin with fitted constants, and how that went.

    The errors allow for residuals that go together within a shot, but not for physics missing in
    the equations.
    """

    twin: PhysicsTwin  # a new one; that which was given is unchanged
    constants: dict[str, float]  # those that were fitted
    errors: dict[str, float]  # their standard errors
    nominal: dict[str, float]  # their values on paper
    nmse_before: float  # on the shots of the fit
    nmse: float
    shots: int

    @property
    def fault(self) -> str:
        return self.twin.fault

    def __str__(self) -> str:
        rows = [
            f"  {name:<5} {value:8.4f} ± {self.errors[name]:.4f}   on paper {self.nominal[name]:g}"
            for name, value in self.constants.items()
        ]
        outcome = f"failed: {self.fault}" if self.fault else "converged"
        title = f"{self.twin.signature.name}, constants from {self.shots} shots: {outcome}"
        return "\n".join([title, *rows, f"  NMSE  {self.nmse_before:.4g} → {self.nmse:.4g}"])


def fit_physics(twin: PhysicsTwin, dataset: xr.Dataset, *, shots: int = 200) -> PhysicsFit:
    """Fit the free constants of a twin's equations by least squares, from where they stand.

    Uses up to ``shots`` training shots of a data set of `characterize.collect`.
    """
    twin.check_data(dataset)
    given = characterize.shots(dataset, "train").first(whole("shots", shots, 1))
    twin.check_moving(given.y)
    # Shots that share their parameters are far faster so, and millions fit into memory.
    shared = given.theta.stride(0) == 0
    x, theta = given.x.double(), (given.theta[0] if shared else given.theta).double()
    measured = given.y.double().mean(0)
    equations, free = twin.equations, twin.equations.free
    paper = {name: float(getattr(equations.nominal, name)) for name in free}
    on_paper = replace(twin.constants, **paper)
    scale = measured.std()

    def absolute(relative: NDArray[np.float64]) -> dict[str, float]:
        return {name: paper[name] * float(r) for name, r in zip(free, relative, strict=True)}

    def solved(relative: NDArray[np.float64]) -> Tensor:
        constants = _scaled(on_paper, free, relative)
        return torch.as_tensor(equations(x, theta, constants, twin.output_dim))

    def residuals(relative: NDArray[np.float64]) -> NDArray[np.float64]:
        standard = (solved(relative) - measured) / scale
        return standard.nan_to_num(1e3, 1e3, -1e3).flatten().numpy()

    start = np.array([getattr(twin.constants, name) / paper[name] for name in free])
    inside = np.clip(start, 1.01 * BAND[0], 0.99 * BAND[1])
    found = least_squares(residuals, inside, bounds=BAND, diff_step=FINITE_STEP)
    error = _cluster_errors(found.jac, found.fun, len(given))
    fitted = PhysicsTwin(twin.signature, equations, _scaled(on_paper, free, found.x))
    modelled = solved(found.x)
    nmse = characterize.nmse(modelled, measured)
    fitted.noise.copy_(_noise(given.y.double(), modelled))
    fitted.fault = _fault(free, found, error, nmse)
    return PhysicsFit(
        twin=fitted,
        constants=absolute(found.x),
        errors=absolute(error),
        nominal=paper,
        nmse_before=characterize.nmse(solved(start), measured),
        nmse=nmse,
        shots=len(given),
    )


def _scaled(constants: Any, names: Sequence[str], factors: Iterable[float]) -> Any:
    """Constants of which some are multiplied."""
    changed = {n: getattr(constants, n) * float(f) for n, f in zip(names, factors, strict=True)}
    return replace(constants, **changed)


def _noise(y: Tensor, modelled: Tensor) -> Tensor:
    """Fit `PhysicsTwin.noise` to repeats, (repeats, shots, outputs); zeros without repeats."""
    if len(y) < 2:
        return torch.zeros(5)
    centre, spread = y.mean(), y.std()
    model = Noise(1).double()
    fit_noise(model, (modelled - centre) / spread, (y - centre) / spread)
    return torch.cat([centre[None], spread[None], model.level.detach(), model.slope.detach()])


def refined(shots: Sequence[tuple[PhysicsTwin, Tensor, Tensor, Tensor]], stay: float) -> Any:
    """Fit the constants that several programmes of a device share, and return them.

    The ``shots`` are twins, x, theta and y; a constant changes by about the fraction ``stay``.
    """
    first = shots[0][0]
    free, old = first.equations.free, first.constants

    def errors(relative: NDArray[np.float64]) -> NDArray[np.float64]:
        constants = _scaled(old, free, relative)
        found = [
            twin.equations(x.double(), theta.double(), constants, twin.output_dim) - y
            for twin, x, theta, y in shots
        ]
        wrong = torch.cat([error.flatten() for error in found]).nan_to_num(1e3, 1e3, -1e3)
        return np.asarray(wrong.numpy())

    here = np.ones(len(free))
    size = float(np.sqrt(np.mean(errors(here) ** 2)))  # noise, and what the equations lack
    if not size:
        return old
    found = least_squares(
        lambda relative: np.concatenate([errors(relative) / size, (relative - 1) / stay]),
        here,
        diff_step=FINITE_STEP,
        max_nfev=4,
    )
    return _scaled(old, free, found.x)


def _cluster_errors(
    jacobian: NDArray[np.float64], residual: NDArray[np.float64], shots: int
) -> NDArray[np.float64]:
    """Sandwich estimator, by shot: K.-Y. Liang, S. L. Zeger, Biometrika 73, 13 (1986)."""
    inverse = np.linalg.pinv(jacobian.T @ jacobian)
    width = jacobian.shape[1]
    pulls = (jacobian.reshape(shots, -1, width) * residual.reshape(shots, -1, 1)).sum(1)
    variance: NDArray[np.float64] = np.diag(inverse @ (pulls.T @ pulls) @ inverse)
    error: NDArray[np.float64] = np.sqrt(variance.clip(0))
    return error


def _fault(free: tuple[str, ...], found: Any, error: NDArray[np.float64], nmse: float) -> str:
    if found.status < 1:
        return "the fit did not converge; start from better constants or give it more shots"
    low, high = 1.02 * BAND[0], 0.98 * BAND[1]
    stuck = [name for name, r in zip(free, found.x, strict=True) if not low < r < high]
    if stuck:
        return f"{', '.join(stuck)} left the plausible band; are these the device's equations?"
    vague = [name for name, e in zip(free, error, strict=True) if e > 1]
    if vague:
        return f"the data do not determine {', '.join(vague)}; collect stronger or slower drives"
    if not nmse < FAILED:
        return f"NMSE {nmse:.2g} on its own data: these are not the device's equations"
    return ""


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
class Pendula(Recipe):
    """How a network of pendula is programmed, and what it does, given their force."""

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

    def swing(
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
class OscillatorEquations(Pendula, Equations):
    """The pendula as they were programmed: no coupling errors, no noise at release.

    The fields are those of `pnnlab.systems.Oscillators`; a twin may take fewer ``steps``.
    """

    nominal: ClassVar[OscillatorConstants] = OscillatorConstants()
    free: ClassVar[tuple[str, ...]] = ("angle",)

    def __call__(
        self, x: Tensor, theta: Tensor, constants: OscillatorConstants, output_dim: int
    ) -> Tensor:
        return self.swing(lambda q: (constants.angle * q).sin(), x, theta, output_dim)
