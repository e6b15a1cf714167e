"""The neural twin: a network fitted to what the device did, for its mean and for its noise."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar, final

import torch
from scipy.fft import next_fast_len
from torch import Tensor, fft, nn
from torch.nn import functional

from pnnlab.errors import TwinError
from pnnlab.plain import random_state
from pnnlab.systems import multiplex, plate
from pnnlab.twins.twin import Described, Noise, Recipe, Twin, check_programme, noisy


@dataclass(frozen=True)
class Architecture(Recipe, ABC):
    """How a neural twin is built; subclasses are frozen dataclasses."""

    learning_rate: ClassVar[float]  # peak rate of Adam that suits it

    @abstractmethod
    def build(self, system: Described) -> "Core":
        """Make a core with fresh weights; raise `TwinError` if it does not suit the system."""


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
        samples, batch = u.shape
        hops = samples // self.hop
        # The device is at rest before a shot: what was driven then is zero.
        before = self.hop * (self.frames - 1)
        slots = functional.pad(u, (0, 0, before, 0)).view(-1, self.hop, batch).transpose(0, 1)
        windows = torch.cat([slots[:, n : n + hops] for n in range(self.frames)])
        # Channels first, one large matrix product a layer: the fastest order on a CPU.
        h = functional.silu(_affine(self.window, windows.reshape(-1, hops * batch)))
        for layer in self.inner:
            h = h + functional.silu(_affine(layer, h))
        return _affine(self.last, h).view(hops, batch).T


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
        parts = self.core(x, theta)
        # Independent from part to part: the mean over k of them has a k-th of the variance.
        share = parts.shape[1] // self.output_dim
        variance = self._over_segments(torch.exp(2 * self.noise(parts))) / share
        mean = self._over_segments(parts) * self.spread + self.centre
        return mean, variance.sqrt() * self.spread

    def sample(self, x: Tensor, theta: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Model one noisy read-out, as `forward`; a `TwinError` if no noise was fitted."""
        if self.fault:
            raise TwinError(f"the noise of this twin is not known: {self.fault}.")
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
        return twin

    def _over_segments(self, parts: Tensor) -> Tensor:
        if parts.shape[1] == self.output_dim:
            return parts
        if parts.shape[1] % self.output_dim:  # with a tail, segments are as equal as can be
            return functional.adaptive_avg_pool1d(parts.unsqueeze(1), self.output_dim).squeeze(1)
        return parts.reshape(len(parts), self.output_dim, -1).mean(2)
