"""The neural twin: a network for its mean and noise, fitted to what the device did."""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar, final

import torch
import xarray as xr
from scipy.fft import next_fast_len
from torch import Tensor, fft, nn
from torch.nn import functional

from pnnlab import characterize
from pnnlab.errors import RangeError, TwinError
from pnnlab.physical_system import still
from pnnlab.plain import make_plain, random_state, seeded, whole
from pnnlab.systems import multiplex, plate
from pnnlab.twins.physics import Pendula
from pnnlab.twins.twin import (
    Described,
    Noise,
    Recipe,
    Twin,
    check_programme,
    fit_noise,
    noisy,
    predict,
)

WARMUP = 0.05  # of the steps, in which the rate rises
LONGEST_STEP = 1.0  # norm at which gradients are clipped
NOISE_SHOTS = 500  # enough for the few numbers of the noise model
RATE_OF_SCALE = 5.0  # how much faster than a weight the scale of the read-outs is learnt
FAINT = 3.0  # times its noise: what an output is at least taken to move by


@dataclass(frozen=True)
class Architecture(Recipe, ABC):
    """How a neural twin is built; subclasses are frozen dataclasses."""

    learning_rate: ClassVar[float]  # peak rate of Adam that suits it

    @abstractmethod
    def build(self, system: Described) -> "Core":
        """Make a core with fresh weights; raise `TwinError` if it does not suit the system."""

    def averaged(self, system: Described) -> float:  # noqa: ARG002 - given, needed or not
        """As `Equations.averaged`; 1 where the core tells how many parts a mean has."""
        return 1.0


class Core(nn.Module, ABC):
    """The network in a twin: gives the means over one or several equal parts of each output."""

    distinct: int  # how many parts have statistics of their own: 1 if time makes them all alike

    @abstractmethod
    def forward(self, x: Tensor, theta: Tensor) -> Tensor:
        """Return standardised parts, (batch, parts); outputs are means over them."""


@final
@dataclass(frozen=True)
class Mlp(Architecture):
    """A perceptron on x and theta side by side, with hidden layers of these widths."""

    hidden: tuple[int, ...] = (128, 128)

    learning_rate: ClassVar[float] = 0.003

    def build(self, system: Described) -> Core:
        return _Perceptron(system, self.hidden)


@final
class _Perceptron(Core):
    def __init__(self, system: Described, hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.distinct = system.output_dim
        widths = (system.input_dim + system.param_dim, *hidden)
        layers = [layer for n, m in pairwise(widths) for layer in (nn.Linear(n, m), nn.SiLU())]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], system.output_dim))

    def forward(self, x: Tensor, theta: Tensor) -> Tensor:
        joined = torch.cat([x, theta.expand(len(x), -1)], 1)
        # Uniform in [0, 1] becomes mean 0, variance 1.
        y: Tensor = self.layers((joined - 0.5) * math.sqrt(12))
        return y


@final
@dataclass(frozen=True)
class Temporal(Architecture):
    """A causal network over the drive's waveform, for systems that replay their input.

    From the last ``memory`` samples, see `characterize.memory`, a network of ``channels`` in width
    computes the mean read-out over each ``hop`` samples, which divide those of a read-out segment,
    or of all if there is a ``tail`` of silent samples. It is the same at all times, so one that was
    fitted in one programme of the device serves in another. A shot replays the input ``replays``
    times.
    """

    replays: int
    memory: int
    hop: int = 4  # a segment mean needs no finer time
    channels: int = 32
    tail: int = 0

    learning_rate: ClassVar[float] = 0.02

    def build(self, system: Described) -> Core:
        check_programme(system, self.replays, segments=not self.tail)
        samples = self.replays * system.input_dim + self.tail
        segment = samples if self.tail else samples // system.output_dim
        if self.hop < 1 or segment % self.hop or samples // self.hop < system.output_dim:
            raise TwinError(
                f"a segment of {segment} samples cannot be divided into hops of {self.hop}; give "
                "a hop that divides it, such as hop=1."
            )
        return _Causal(self)


@final
class _Causal(Core):
    def __init__(self, design: Temporal) -> None:
        super().__init__()
        self.distinct = 1
        self.replays, self.hop, self.tail = design.replays, design.hop, design.tail
        self.frames = math.ceil(max(design.memory, 0) / design.hop) + 1
        width = design.channels
        self.window = nn.Linear(self.frames * self.hop, width)
        self.inner = nn.ModuleList([nn.Linear(width, width) for _ in range(2)])
        self.last = nn.Linear(width, 1)

    def forward(self, x: Tensor, theta: Tensor) -> Tensor:
        u = functional.pad(multiplex.drive(x, theta, self.replays), (0, 0, 0, self.tail))
        width, frames = len(self.window.weight), self.frames
        weights = self.window.weight.view(width, frames, self.hop).flip(1).permute(2, 0, 1)
        points = next_fast_len(len(u) // self.hop + frames - 1, real=True)
        spectra = fft.rfft(weights, points)[:, :, None]
        # In parts: memory is slower than the sums.
        return torch.cat([self._parts(some, spectra, points) for some in u.split(32, dim=1)])

    def _parts(self, u: Tensor, spectra: Tensor, points: int) -> Tensor:
        samples, batch = u.shape
        hops = samples // self.hop
        # The device is at rest before a shot, so zeros follow, in which the end goes round.
        slots = fft.rfft(u.view(hops, self.hop, batch).permute(1, 2, 0), points)[:, None]
        filtered = fft.irfft((spectra * slots).sum(0), points)[..., :hops]
        # Channels first, one large matrix product a layer: the fastest order on a CPU.
        h = functional.silu(filtered.reshape(-1, batch * hops) + self.window.bias[:, None])
        for layer in self.inner:
            h = h + functional.silu(_affine(layer, h))
        return _affine(self.last, h).view(batch, hops)


@final
@dataclass(frozen=True)
class FilterBank(Architecture):
    """Causal filters of the drive and a network over their outputs, read out as log energies.

    For a `Plate`, and what rings as it does: ``channels`` filters weigh the last ``memory`` samples
    of the drive, and a small network adds what is not linear. One that was fitted in one programme
    of the device serves in another. A shot replays the input ``replays`` times.
    """

    replays: int
    memory: int = 400  # samples in which the slowest mode of the plate falls to a tenth
    channels: int = 8

    learning_rate: ClassVar[float] = 0.01

    def build(self, system: Described) -> Core:
        check_programme(system, self.replays, segments=False)
        return _Filters(self, system.output_dim)

    def averaged(self, system: Described) -> float:
        return (self.replays * system.input_dim + plate.TAIL) / system.output_dim


@final
class _Filters(Core):
    def __init__(self, design: FilterBank, windows: int) -> None:
        super().__init__()
        self.distinct = 1
        self.replays, self.windows = design.replays, windows
        self.taps = nn.Linear(design.memory, design.channels, bias=False)
        self.inner = nn.Sequential(nn.Linear(design.channels, 32), nn.SiLU(), nn.Linear(32, 1))
        self.unit = nn.Linear(1, 1)

    def forward(self, x: Tensor, theta: Tensor) -> Tensor:
        u = plate.waveform(x, theta, self.replays).T
        samples = u.shape[1]
        points = next_fast_len(samples + self.taps.in_features, real=True)
        spectrum = fft.rfft(u, points)[:, None] * fft.rfft(self.taps.weight, points)
        filtered = fft.irfft(spectrum, points)[..., :samples].transpose(1, 2)
        sound = filtered[..., 0] + self.inner(filtered)[..., 0]
        y: Tensor = self.unit(plate.log_energy(sound.T.contiguous(), self.windows)[..., None])
        return y[..., 0]


@final
@dataclass(frozen=True)
class Forces(Pendula, Architecture):
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
        read = self.design.swing(self._force, x, theta, self.distinct, self.unprogrammed)
        standard: Tensor = (read - RATE_OF_SCALE * self.offset) * (RATE_OF_SCALE * self.gain).exp()
        return standard

    def _force(self, q: Tensor) -> Tensor:
        correction: Tensor = self.correction(q.unsqueeze(-1)).squeeze(-1)
        return q.sin() + correction


def _affine(layer: nn.Module, h: Tensor) -> Tensor:
    """A linear layer on (features, anything)."""
    assert isinstance(layer, nn.Linear)
    return torch.addmm(layer.bias[:, None], layer.weight, h)


@final
class NeuralTwin(Twin):
    """A network for the mean read-out, and a small one for its noise; see `Architecture`."""

    centre: Tensor
    spread: Tensor

    def __init__(self, system: Described, architecture: Architecture, *, seed: int = 0) -> None:
        super().__init__(system)
        self.architecture = architecture
        with random_state(seed):
            self.core = architecture.build(system)
        self.noise = Noise(self.core.distinct)
        self.register_buffer("centre", torch.zeros(self.core.distinct))
        self.register_buffer("spread", torch.ones(self.core.distinct))
        self.fault = "it has not been fitted"

    @property
    def label(self) -> str:
        return "neural twin"

    def model(self, x: Tensor, theta: Tensor) -> Tensor:
        return self.standard(x, theta) * self.spread + self.centre

    def standard(self, x: Tensor, theta: Tensor) -> Tensor:
        """Compute the mean read-out without its unit: less the centre, in spreads."""
        return self._over_segments(self.core(x, theta))

    def distribution(self, x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the mean and the standard deviation of each read-out, (batch, output_dim)."""
        dtype = self.centre.dtype  # as in `forward`
        parts = self.core(x.to(dtype), theta.to(dtype))
        # Independent from part to part: the mean over k of them has a k-th of the variance.
        share = parts.shape[1] / self.output_dim
        variance = self._over_segments(torch.exp(2 * self.noise(parts))) / share
        mean = self._over_segments(parts) * self.spread + self.centre
        return mean.to(x.dtype), (variance.sqrt() * self.spread).to(x.dtype)

    def sample(self, x: Tensor, theta: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Model one noisy read-out, as `forward`; a `TwinError` if no noise was fitted."""
        if self.fault:
            raise TwinError(f"the noise of this twin is not known: {self.fault}.")
        if not self.noise.level.isfinite().all():
            raise TwinError(
                "the noise of this twin is not known: fit it to shots that were measured at least "
                "twice each, as collect does."
            )
        return noisy(*self.distribution(x, theta), generator)

    def reprogrammed(self, system: Described, *, replays: int) -> "NeuralTwin":
        """Make the twin of the same device programmed otherwise; the weights are shared."""
        if not isinstance(self.architecture, Temporal | FilterBank):
            raise TwinError("a perceptron is a twin of one programme; fit one for each.")
        twin = NeuralTwin(system, replace(self.architecture, replays=replays))
        for name, module in self.core.named_children():
            setattr(twin.core, name, module)
        for name in ("noise", "centre", "spread", "fault", "reported"):
            setattr(twin, name, getattr(self, name))
        fewer = self.architecture.averaged(self.signature) / twin.architecture.averaged(system)
        if fewer != 1:
            twin.noise = copy.deepcopy(self.noise)
            twin.noise.level.data += 0.5 * math.log(fewer)
        return twin

    def _over_segments(self, parts: Tensor) -> Tensor:
        if parts.shape[1] == self.output_dim:
            return parts
        if parts.shape[1] % self.output_dim:  # with a tail, segments are as equal as can be
            return functional.adaptive_avg_pool1d(parts.unsqueeze(1), self.output_dim).squeeze(1)
        return parts.reshape(len(parts), self.output_dim, -1).mean(2)


@dataclass(frozen=True, kw_only=True)
class NeuralSettings:
    """How to fit a neural twin.

    A batch counts shots. The learning rate is the peak of Adam's, which falls along a cosine; by
    default what suits the architecture. After ``patience`` epochs without a better validation error
    the fit ends. The seed is that of the order of the shots.
    """

    epochs: int = 16
    batch_size: int = 16
    learning_rate: float | None = None
    patience: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        make_plain(self)
        for name in ("epochs", "batch_size", "patience"):
            whole(name, getattr(self, name), 1)
        if self.learning_rate is not None and not 0 < self.learning_rate < math.inf:
            raise RangeError(f"learning_rate is {self.learning_rate}; it must be above 0.")


@dataclass(frozen=True)
class NeuralRecord:
    """NMSE of one epoch against the mean over the repeats."""

    epoch: int
    train: float  # while the weights moved
    validation: float
    best: float  # lowest validation error so far; the twin ends with the weights of the lowest


def fitting_neural(
    twin: NeuralTwin, dataset: xr.Dataset, settings: NeuralSettings | None = None
) -> Iterator[NeuralRecord]:
    """Fit a neural twin in place to a data set of `characterize.collect`, one record an epoch.

    However the iteration ends, also by an error or Ctrl-C, the twin keeps its best weights, frozen,
    and its noise model is fitted to the repeats.
    """
    twin.check_data(dataset)
    settings = settings or NeuralSettings()
    place = twin.centre
    train = characterize.shots(dataset, "train").to(place)
    held = characterize.shots(dataset, "validation").to(place)
    twin.check_moving(train.y)
    if twin.fault:  # a twin that is fitted anew keeps its scale and weights
        _standardise(twin, train.y)
    target, held_target = _standard(twin, train.y).mean(0), held.y.mean(0)
    scale = float(target.var(0, correction=0).mean())
    peak = settings.learning_rate or twin.architecture.learning_rate
    weights = list(twin.core.parameters())
    optimizer = torch.optim.Adam(weights, lr=peak)
    size = settings.batch_size
    steps = settings.epochs * math.ceil(len(train) / size)
    best, best_epoch, best_weights = math.inf, 0, copy.deepcopy(twin.core.state_dict())
    generator = seeded(settings.seed)
    step = 0
    twin.requires_grad_(True)
    try:
        for epoch in range(1, settings.epochs + 1):
            total = 0.0
            for chosen in torch.randperm(len(train), generator=generator).split(size):
                rise = min(1.0, (step + 1) / max(WARMUP * steps, 1))
                fall = 0.5 * (1 + math.cos(math.pi * step / steps))
                optimizer.param_groups[0]["lr"] = peak * (rise * fall)
                error = twin.standard(train.x[chosen], train.theta[chosen]) - target[chosen]
                loss = error.square().mean()
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(weights, LONGEST_STEP)
                optimizer.step()
                total += float(loss.detach()) * len(chosen) / len(train)
                step += 1
            validation = characterize.nmse(predict(twin, held.x, held.theta), held_target)
            if validation < best:
                best, best_epoch = validation, epoch
                best_weights = copy.deepcopy(twin.core.state_dict())
            yield NeuralRecord(epoch, total / scale, validation, best)
            if epoch - best_epoch >= settings.patience or not math.isfinite(total):
                break
    finally:
        twin.core.load_state_dict(best_weights)
        given = train.first(NOISE_SHOTS)
        with torch.no_grad():
            mean = twin.standard(given.x, given.theta)
            # A part of an output has as many times the variance as there are parts in it.
            parts = twin.core(given.x[:1], given.theta[:1]).shape[1] / twin.output_dim
        fit_noise(twin.noise, mean, _standard(twin, given.y), math.sqrt(parts))
        twin.requires_grad_(False)
        hopeless = (
            f"its validation NMSE is {best:.3g}, no better than a constant; look at the "
            "memory it was given, give it more shots or epochs, or a lower learning rate"
        )
        twin.fault, twin.reported = "" if best < 1 else hopeless, ""


@final
@dataclass(frozen=True)
class NeuralFit:
    """A fitted neural twin, a new one, and the records of its epochs."""

    twin: NeuralTwin
    records: tuple[NeuralRecord, ...]

    @property
    def nmse(self) -> float:
        """Lowest validation error; that of the twin's weights."""
        return self.records[-1].best

    @property
    def fault(self) -> str:
        return self.twin.fault

    def __str__(self) -> str:
        return (
            f"{self.twin.signature.name}, neural twin: {self.fault or 'converged'}\n"
            f"  NMSE  {self.nmse:.4g} on the validation shots, {len(self.records)} epochs"
        )


def fit_neural(
    twin: NeuralTwin, dataset: xr.Dataset, settings: NeuralSettings | None = None
) -> NeuralFit:
    """Fit a copy of a neural twin to the end; see `fitting_neural`."""
    fitted = copy.deepcopy(twin)
    return NeuralFit(fitted, tuple(fitting_neural(fitted, dataset, settings)))


def _standardise(twin: NeuralTwin, y: Tensor) -> None:
    """Set the twin's centre and spread to those of ``y``, by output or of all outputs alike."""
    values = y if twin.core.distinct > 1 else y.flatten(1)[..., None]
    mean = values.double().mean(0)
    spread = mean.std(0)
    if len(y) > 1:  # what hardly moves must not have its noise blown up to the size of a signal
        spread = torch.maximum(spread, FAINT * values.double().var(0).mean(0).sqrt())
    twin.centre.copy_(mean.mean(0))
    twin.spread.copy_(torch.where(still(values.flatten(0, 1)), 0.0, spread))


def _standard(twin: NeuralTwin, y: Tensor) -> Tensor:
    """Read-outs less the centre, in spreads; 0 of an output that did not move in the fit."""
    return ((y - twin.centre) / twin.spread).where(twin.spread > 0, 0.0)
