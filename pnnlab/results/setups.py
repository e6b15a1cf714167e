"""Twins of devices; networks, tasks and settings of the notebooks on images and sound."""

import copy
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from typing import Any, NamedTuple, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pnnlab.characterize import collect, measured
from pnnlab.errors import RangeError
from pnnlab.gradients import RULES, GradientRule, ideal
from pnnlab.layers import (
    PhysicalLayer,
    Rescale,
    Shots,
    Span,
    calibrate,
    deep_pnn,
    physical_layers,
)
from pnnlab.physical_system import SimulatedSystem, State
from pnnlab.plain import random_state, seeded
from pnnlab.results import comparison
from pnnlab.results.rows import SCALES, Row, check_scale
from pnnlab.results.tables import POWERS, UNTRAINED
from pnnlab.runs import train
from pnnlab.systems import SHG, Circuit, Oscillators, Plate, Resonators
from pnnlab.systems.resonators import FULL_DRIVE, RATE_HZ
from pnnlab.tasks import Split, Task, augmented, fashion_mnist, mnist
from pnnlab.training import FitSettings, Training
from pnnlab.twins import (
    CircuitEquations,
    FilterBank,
    Forces,
    Mlp,
    NeuralTwin,
    OscillatorEquations,
    PhysicsTwin,
    PlateEquations,
    ResonatorEquations,
    SHGEquations,
    Temporal,
    fit_physics,
    fit_twin,
)
from pnnlab.twins.neural import Architecture
from pnnlab.twins.physics import Equations

REPLAYS = 4
MOST_PENDULA = 500  # whose couplings a neural twin can learn


def fitted(
    system: Circuit | Plate | SHG | Oscillators, twin: str, seed: int
) -> PhysicsTwin | NeuralTwin:
    """Measure a device and fit a twin to so many shots, such as ``"neural 750"``."""
    kind, _, shots = twin.partition(" ")
    if twin != "nominal" and (kind not in ("physics", "neural") or not shots.isdecimal()):
        raise RangeError(f"a twin is {twin!r}; give 'nominal', or a fit like 'neural 750'.")
    number = int(shots or 100)
    given: dict[str, Any] = {"seed": seed, "progress": False}
    models: tuple[Equations, Architecture]
    if isinstance(system, SHG):
        models = SHGEquations(system.programme.trained, system.programme.phase_range), Mlp()
    elif isinstance(system, Oscillators):
        names = ("n", "low", "high", "coupling_range")
        programme: dict[str, Any] = {name: getattr(system, name) for name in names} | {"steps": 2}
        models = OscillatorEquations(**programme), Forces(**programme)
        if kind == "neural" and system.n > MOST_PENDULA:
            raise RangeError(f"{system.n} pendula are too many for a neural twin; take 'physics'.")
        theta = system.weak_theta(seed)  # where a training begins
        given["dataset"] = collect(system, number, seed=seed, theta=theta)
    elif isinstance(system, Plate):
        models = PlateEquations(system.replays), FilterBank(system.replays)
    else:
        models = CircuitEquations(system.replays), Temporal(system.replays, memory=system.input_dim)
    given |= {"architecture": models[1]} if kind == "neural" else {"equations": models[0]}
    with warnings.catch_warnings():  # a bad twin is what some cases are about
        warnings.filterwarnings("ignore", "the twin ", RuntimeWarning)
        made = fit_twin(system, number, **given)
    if kind == "nominal":  # with the noise that was measured
        assert isinstance(made, PhysicsTwin)
        made = made.with_constants(type(made.constants)())
        made.fault = ""  # was that of the fit
    return made


def chained(device: Any, shapes: Sequence[tuple[int, int]]) -> list[Any]:
    """Programme a device that replays its input as a chain of layers: replays and read-outs."""
    widths = [device.input_dim, *(read for _, read in shapes)]
    return [
        device.reprogrammed(input_dim=width, replays=replays, output_dim=read)
        for width, (replays, read) in zip(widths, shapes, strict=False)
    ]


# --- images ---


class Plan(NamedTuple):
    """How a system is trained; chosen for PAT, on validation data."""

    label: str
    published: float  # Wright et al., Nature 601, 549 (2022), and its public code
    depth: int
    epochs: tuple[int, int, int]  # by scale
    learning_rate: float
    mlp: tuple[float, ...] = (0.003, 0.01)  # learning rates that digital networks choose from
    linear: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1)


FASHION = "fashion-mnist"
PLANS: Mapping[str, Plan] = {
    "plate": Plan("plate", 0.87, 2, (1, 6, 10), 0.01),
    "circuit": Plan("circuit, {:.0%} parts", 0.93, 3, (1, 7, 15), 0.01),
    "hybrid": Plan(
        "SHG and digital layers", 0.97, 2, (1, 7, 2), 0.004, (0.001, 0.003), (0.003, 0.01)
    ),
    "oscillators": Plan("oscillators", 0.9794, 2, (1, 5, 3), 0.002, (0.001,), (0.003, 0.01)),
    FASHION: Plan("oscillators", 0.8976, 2, (1, 5, 2), 0.003, (0.001,), (0.003, 0.01)),
}

PULSES = 4  # that a layer of the hybrid sends, of 50 bands each
ANGLE = 2 * math.pi  # largest at which a second network of pendula can be released, either way
SPAN, CLOTHES = {"low": -ANGLE, "high": ANGLE}, {"low": -0.6, "high": 1.5}  # at release, rad


@final
class Elementwise(SimulatedSystem):
    """A power of each input, in place of a crystal; its parameters change nothing."""

    def __init__(self, power: int, width: int) -> None:
        super().__init__(width, 50, width)
        self.power = power

    def _simulate(self, x: Tensor, theta: Tensor) -> Tensor:  # noqa: ARG002
        return x**self.power


@final
class Logits(nn.Module):
    """Outputs times one trainable number."""

    def __init__(self, factor: float = 0.3) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, q: Tensor) -> Tensor:
        return 10 * self.factor * q  # ten, for Adam's steps are made for couplings


@final
@dataclass(frozen=True)
class Images:
    """A system that reads images: its task, settings, layers and networks."""

    system: str  # "plate", "circuit", "oscillators" or "hybrid": `SHG` between digital layers
    scale: str = "quick"
    unit: int = 0  # fabricated copy
    tolerance: float = 0.1  # of the circuit's parts
    dataset: str = "mnist"  # or "fashion-mnist", of oscillators
    numbers: int = 50  # that a pulse of the hybrid carries: with fewer it has fewer digital weights

    def __post_init__(self) -> None:
        check_scale(self.scale)
        if self.system not in set(PLANS) - {FASHION}:
            raise RangeError(f"system is {self.system!r}; give one of {', '.join([*PLANS][:-1])}.")
        if self.dataset not in ("mnist", *[FASHION] * (self.system == "oscillators")):
            raise RangeError(f"{self.system} do not read {self.dataset!r}; take 'mnist'.")
        if self.numbers != 50 and self.system != "hybrid":
            raise RangeError(f"only a hybrid has pulses of {self.numbers} numbers; take 50.")

    @property
    def plan(self) -> Plan:
        """How it is trained."""
        return PLANS[FASHION if self.dataset == FASHION else self.system]

    @property
    def label(self) -> str:
        """What results call the system."""
        few = f", {self.numbers} numbers a pulse" if self.numbers != 50 else ""
        return self.plan.label.format(self.tolerance) + few

    @property
    def order(self) -> Tensor | None:
        """Pixel of each feature: of clothes whole patches one after the other, instead of rows."""
        patches = torch.arange(784).view(4, 7, 4, 7).transpose(1, 2).flatten()
        return patches if self.dataset == FASHION else None

    @cached_property
    def task(self) -> Task:
        """Images to learn, at full scale with moved copies as in the authors' examples."""
        full = self.scale == "paper"
        if self.dataset == "mnist":
            copies = {"oscillators": 14 if full else 1, "hybrid": 4 if full else 0}
            task = mnist(
                28 if self.system == "hybrid" else 14,
                full=full,
                subsample=self.system == "oscillators",
                copies=copies.get(self.system, 0),
            )
        else:
            task = fashion_mnist(flips=full)
            train, validation, test = task.train, task.validation, task.test
            if full:
                little: dict[str, Any] = {"shift": (0.05, 0.05), "scale": (0.95, 1.05)}
                train = augmented(train, 3, rotation=5.0, **little)
            else:
                train, validation, test = train.first(2500), validation.first(500), test.first(1000)
            train, validation, test = (
                Split(one.x[:, self.order], one.targets) for one in (train, validation, test)
            )
            task = replace(task, train=train, validation=validation, test=test)
        return task.first(300) if self.scale == "smoke" else task

    def settings(self, seed: int) -> FitSettings:
        """The same for all methods."""
        return FitSettings(
            epochs=self.plan.epochs[SCALES.index(self.scale)],
            batch_size=128 if self.scale == "paper" else 64,
            learning_rate=self.plan.learning_rate,
            seed=seed,
        )

    def layers(
        self, seed: int, twin: str = "physics", depth: int | None = None
    ) -> tuple[list[Any], list[Any]]:
        """Layers of a fresh device, and their twins; the device is as the twin's fit left it.

        The ``twin`` is as of `fitted`, or ``"physics"``: of 500 shots, of oscillators nominal.
        """
        if twin == "physics":
            twin = "nominal" if self.system == "oscillators" else "physics 500"
        depth = depth or self.plan.depth
        systems, (state, twins) = _devices(self, seed, depth), _twins(self, seed, twin, depth)
        if state:
            systems[0].restore(state)
        return systems, copy.deepcopy(twins)

    def network(
        self, method: str, seed: int, twin: str = "physics", depth: int | None = None
    ) -> nn.Sequential:
        """Make a network for one of `RULES`, `POWERS` or `UNTRAINED`, calibrated on the task."""
        known = (*RULES, UNTRAINED, *(POWERS if self.system == "hybrid" else ()))
        if method not in known:
            raise RangeError(f"a method is {method!r}; give some of {', '.join(known)}.")
        if method == UNTRAINED:
            whole = self.network("ideal", seed, twin, 2)
            place = next(n for n, one in enumerate(whole) if physical_layers(one))
            front = nn.Sequential(*list(whole)[: place + 1]).requires_grad_(False)
            width = front.eval()(self.task.train.x[:1]).shape[1]
            head = _seeded(seed, [(width, self.task.classes)])
            network = nn.Sequential(*front, Rescale(width, gain=1.0, offset=0.0), *head)
        else:
            systems, twins = self.layers(seed, twin, depth)
            if method in POWERS:
                systems = [Elementwise(POWERS[method], self.numbers)] * len(systems)
                twins = [None] * len(systems)
            network = self._chain(systems, twins, RULES.get(method, ideal), seed)
        if any(isinstance(one, Rescale) for one in network.modules()):
            calibrate(network, comparison.calibration_inputs(self.task))
        return network

    def _chain(
        self, systems: list[Any], twins: list[Any], rule: GradientRule, seed: int
    ) -> nn.Sequential:
        if self.system in ("plate", "circuit"):
            return deep_pnn(systems, twins, rule, seed=seed)
        layers: list[nn.Module] = []
        for number, (system, twin) in enumerate(zip(systems, twins, strict=True)):
            own: dict[str, Any] = {"seed": seed + number}
            if self.system == "oscillators":
                own = {"theta": system.weak_theta(2 * seed + number)}
                own["encoding"] = Span(-ANGLE, ANGLE) if number else None
            layers.append(PhysicalLayer(system, twin, rule, **own))
        if self.system == "oscillators":  # nothing is computed between the layers
            shots = self.task.train.x.shape[1] // systems[0].input_dim
            return nn.Sequential(Shots(layers[0], shots), *layers[1:], Logits())
        sent, seen = PULSES * systems[0].input_dim, PULSES * systems[0].output_dim
        back = partial(Rescale, seen, gain=1.0, offset=0.0)
        return _hybrid([[Shots(layer, PULSES), back()] for layer in layers], seed, sent, seen)

    def baselines(self, parameters: int, seed: int) -> dict[str, float]:
        """Accuracies of digital networks, fields of a `Row`: an MLP has so many parameters."""
        own = self.settings(seed)
        loop: dict[str, Any] = {"epochs": own.epochs, "batch_size": own.batch_size, "seed": seed}
        mlp = comparison.digital_baseline(self.task, parameters, rates=self.plan.mlp, **loop)
        linear = comparison.linear_baseline(self.task, rates=self.plan.linear, **loop)
        found = {"digital_baseline": mlp, "linear_baseline": linear}
        if self.system == "hybrid":
            sent = PULSES * self.numbers
            make = partial(_hybrid, [[]] * self.plan.depth, seed, sent, sent)
            alone = comparison.digital_accuracy(make, self.task, rates=(0.001, 0.004), **loop)
            found["accuracy_without_physics"] = alone
        return found


def _devices(images: Images, seed: int, depth: int) -> list[Any]:
    unit = images.unit  # networks of pendula are released as the ones before came to lie
    if images.system == "hybrid":
        bench = SHG(unit, phase_range=math.pi, seed=seed)
        return [bench.reprogrammed(input_dim=images.numbers) for _ in range(depth)]
    if images.system != "oscillators":
        device: Any = Plate(unit, replays=REPLAYS, output_dim=98, seed=seed)
        if images.system == "circuit":
            device = Circuit(unit, tolerance=images.tolerance, seed=seed)
        return chained(device, [(REPLAYS, device.output_dim)] * (depth - 1) + [(10, 10)])
    shared: dict[str, Any] = {"unit": unit, "seed": seed}
    span: dict[str, Any] = {"low": 0.0, "high": 1.0}
    n, part, width = 196, 196, 196
    strongest = 4.0
    if images.dataset == FASHION:
        # A shot takes one of 16 patches. These angles have a mean near zero, for clothes are
        # brighter than digits, and many pendula need weaker couplings.
        n, part, width, span = 100 if images.scale == "paper" else 50, 49, 784, CLOTHES
        shared["steps"], strongest = 3, 1.0
    chain = []
    if depth > 1:
        chain = [Oscillators(n, input_dim=part, **span, **shared)]
        width, span = n * width // part, SPAN
    for last in [0] * (depth - 2) + [10]:
        shape: dict[str, Any] = {"input_dim": width, "output_dim": last or width}
        chain.append(Oscillators(width + last, coupling_range=strongest, **shape, **span, **shared))
        span = SPAN
    return chain


@lru_cache(maxsize=8)  # of a neural twin a fit takes minutes
def _twins(images: Images, seed: int, twin: str, depth: int) -> tuple[State, list[Any]]:
    """Fit a twin for each layer; also give the state in which that leaves their device."""
    first, *_ = systems = _devices(images, seed, depth)
    if images.system == "oscillators":  # no training depends on the noise of these
        return {}, [fitted(one, twin, seed) for one in systems]
    if images.system == "hybrid":
        twins: list[Any] = [fitted(first, twin, seed)] * depth
    else:
        replays, read = REPLAYS, 98 if isinstance(first, Plate) else 196
        if isinstance(first, Plate) and not twin.startswith("neural"):
            replays, read = 1, 10  # enough for six constants, and fitted in less time
        made: Any = fitted(first.reprogrammed(replays=replays, output_dim=read), twin, seed)
        twins = [made.reprogrammed(one, replays=one.replays) for one in systems]
    return first.state(), twins


def _hybrid(
    lights: Sequence[Sequence[nn.Module]], seed: int, sent: int, seen: int
) -> nn.Sequential:
    # Light, or nothing, stands between matrices, whose products are brought into [0, 1].
    widths = [28 * 28, *[seen] * len(lights)]
    *matrices, last = _seeded(seed, zip(widths, [*[sent] * len(lights), 10], strict=True))
    chain: list[nn.Module] = []
    for matrix, light in zip(matrices, lights, strict=True):
        chain += [matrix, Rescale(sent, elementwise=True), *light]
    return nn.Sequential(*chain, last)


def _seeded(seed: int, shapes: Iterable[tuple[int, int]]) -> list[nn.Linear]:
    with random_state(seed):
        return [nn.Linear(before, after) for before, after in shapes]


# --- the smart microphone ---

AS_BUILT = "as built"  # untrained, with the same read-out
BURST, SHOTS = 1024, 160  # samples of a shot that a twin is fitted to, and shots
WINDOW, HOP, BINS = 256, 128, 129  # samples of a spectrum
BANDS, PARTS = 20, 8  # of the log-mel features: bands, and averages over time
STEEP = 1.5  # a tenth of what logits begin at, of a read-out's full scale


def microphone_twin(system: Resonators, x: Tensor, *, seed: int = 0) -> PhysicsTwin:
    """Fit the equations to bursts of the sounds ``x``, each with parameters of its own."""
    random = seeded(seed)
    rows = torch.randint(len(x), (SHOTS,), generator=random)
    burst = Resonators(
        system.unit, input_dim=BURST, output_dim=system.output_dim, tolerance=system.tolerance
    )
    theta = torch.rand(SHOTS, system.param_dim, generator=random)
    data = measured(burst, x[rows, BURST // 2 : BURST // 2 + BURST], theta)
    fit = fit_physics(PhysicsTwin(burst, ResonatorEquations()), data, shots=SHOTS)
    return fit.twin.reprogrammed(system)


def spectral(task: Task, bands: int, parts: int) -> Task:
    """The same task in log energies of mel bands, averaged over equal parts of the time."""
    known = _log_mel(task.train.x, bands, parts)
    low, high = known.amin(0), known.amax(0)
    splits: dict[str, Any] = {}
    for name in ("train", "validation", "test"):
        split = getattr(task, name)
        features = (_log_mel(split.x, bands, parts) - low) / (high - low)
        splits[name] = Split(features.clamp(0, 1), split.targets)
    return replace(task, **splits, feature_names=())


def _log_mel(x: Tensor, bands: int, parts: int) -> Tensor:
    frames = (x - 0.5).unfold(1, WINDOW, HOP) * torch.hann_window(WINDOW)
    power = torch.fft.rfft(frames).abs().square()
    # Triangles, equally wide in mel (O'Shaughnessy): 2595 log10(1 + f / 700).
    mel = 2595 * np.log10(1 + np.arange(BINS) * RATE_HZ / WINDOW / 700)
    place = torch.from_numpy(mel / mel[-1] * (bands + 1)).float()
    weights = (1 - (place[:, None] - torch.arange(1, bands + 1)).abs()).clamp(min=0)
    energies = functional.adaptive_avg_pool1d((power @ weights).mT, parts)
    return (energies + 1e-4).log().flatten(1)


def digital_networks(task: Task, parameters: int, epochs: int, seed: int = 0) -> dict[str, float]:
    """Test accuracies of digital networks on log energies of mel bands of the same sounds."""
    linear = partial(comparison.linear_baseline, epochs=epochs, seed=seed)
    mlp = partial(comparison.digital_baseline, epochs=epochs, seed=seed)
    return {
        "log-mel + linear": linear(spectral(task, BANDS, PARTS)),
        "MLP, as many parameters": mlp(spectral(task, 8, 2), parameters),
        "fixed filter bank + linear": linear(spectral(task, task.classes, 1)),
    }


def microphone_rows(
    task: Task, settings: FitSettings, *, unit: int, twin: PhysicsTwin | None
) -> tuple[list[Row], Mapping[str, float], nn.Module]:
    """Train one unit by each method, beside digital networks: rows, theirs, the first network.

    Without a ``twin`` one is fitted first.
    """
    device = partial(Resonators, unit, output_dim=task.classes, seed=settings.seed)
    twin = twin or microphone_twin(device(), task.train.x, seed=settings.seed)
    beside = digital_networks(task, device().param_dim + 1, settings.epochs, settings.seed)
    found = [
        microphone_row(task, settings, device(), method, twin)
        for method in ("PAT", "noise-aware", "ideal", AS_BUILT)
    ]
    mlp, linear = beside["MLP, as many parameters"], beside["log-mel + linear"]
    rows = [replace(row, digital_baseline=mlp, linear_baseline=linear) for row, _ in found]
    return rows, beside, found[0][1]


def microphone_row(
    task: Task, settings: FitSettings, system: Resonators, method: str, twin: PhysicsTwin
) -> tuple[Row, nn.Module]:
    """Train one unit by one method: its row, named by how the unit is built, and the network."""
    rule = RULES.get(method, ideal)
    layer = PhysicalLayer(system, None if rule is ideal else twin, rule, seed=settings.seed)
    network: nn.Module = nn.Sequential(layer, Logits(STEEP))
    training = Training(network, task, settings)
    if method != AS_BUILT:
        training = train(network, task, settings, progress=False)
    built = "resonators"
    if system.hidden:
        built += f", {system.hidden} slow nodes"
    if system.full_drive != FULL_DRIVE:
        built += f", drive {system.full_drive:g}"
    known = None if rule is ideal else "physics twin"
    return comparison.result_row(training, task, system=built, method=method, twin=known), network
