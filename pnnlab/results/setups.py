"""Devices, twins, networks, tasks and settings of what notebooks and sweeps train, stated once."""

import copy
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from itertools import pairwise
from typing import Any, Literal, NamedTuple, TypeAlias, final

import torch
from torch import Tensor, nn

from pnnlab.characterize import collect
from pnnlab.errors import RangeError
from pnnlab.gradients import RULES, GradientRule, ideal
from pnnlab.layers import PhysicalLayer, Rescale, Shots, Span, calibrate, deep_pnn, physical_layers
from pnnlab.physical_system import SimulatedSystem, State
from pnnlab.plain import random_state
from pnnlab.results import comparison
from pnnlab.results.rows import SCALES, check_scale
from pnnlab.results.tables import POWERS, UNTRAINED
from pnnlab.systems import SHG, Circuit, Oscillators, Plate
from pnnlab.systems.circuit import CircuitImperfections
from pnnlab.systems.plate import PlateImperfections
from pnnlab.systems.shg import SHGImperfections
from pnnlab.tasks import Split, Task, augmented, digits, fashion_mnist, mnist, vowels
from pnnlab.training import FitSettings
from pnnlab.twins import (
    CircuitEquations,
    FilterBank,
    Forces,
    Mlp,
    NeuralTwin,
    OscillatorEquations,
    PhysicsTwin,
    PlateEquations,
    SHGEquations,
    Temporal,
    fit_twin,
)
from pnnlab.twins.neural import Architecture
from pnnlab.twins.physics import Equations

REPLAYS = 4
MOST_PENDULA = 500  # whose couplings a neural twin can learn
Device: TypeAlias = Circuit | Plate | SHG
AnyTwin: TypeAlias = PhysicsTwin | NeuralTwin


def fitted(system: Device | Oscillators, twin: str, seed: int) -> AnyTwin:
    """Measure a device and fit a twin to so many shots, such as ``"neural 750"``; see `Case`."""
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
        warnings.filterwarnings("ignore", "the twin is not good", RuntimeWarning)
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


@final
@dataclass(frozen=True)
class Case:
    """One device and one twin of it, from which networks of several depths are made."""

    system: Literal["circuit", "plate", "SHG"]
    unit: int = 0  # fabricated copy; also the seed
    noise: float = 1.0  # times that of the device as it is
    twin: str = "physics 250"  # or "neural 750", fitted to so many shots; or "nominal"
    task: Literal["digits", "mnist", "vowels"] = "digits"  # vowels are for SHG, and SHG for them

    def __post_init__(self) -> None:
        if (self.system == "SHG") != (self.task == "vowels"):
            raise RangeError(f"{self.system} with {self.task}: SHG, and no other, reads vowels.")

    @property
    def width(self) -> int:
        """Inputs of the device."""
        return {"digits": 64, "mnist": 196, "vowels": 50}[self.task]


def make_device(case: Case) -> Device:
    """Make the device of a case, with its noise."""
    systems: dict[str, tuple[Any, Any, tuple[str, ...]]] = {
        "circuit": (partial(Circuit, replays=REPLAYS), CircuitImperfections(), ("noise",)),
        "plate": (partial(Plate, replays=REPLAYS), PlateImperfections(), ("noise",)),
        "SHG": (SHG, SHGImperfections(), ("noise", "jitter")),
    }
    kind, parts, noisy = systems[case.system]
    parts = replace(parts, **{name: case.noise * getattr(parts, name) for name in noisy})
    shape = {"input_dim": case.width, "output_dim": case.width, "seed": case.unit}
    made: Device = kind(case.unit, imperfections=parts, **shape)
    return made


@final
class Setup:
    """Device and twin of a case: a layer of each shape."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.device = make_device(case)
        self._twins: dict[tuple[int, int], tuple[AnyTwin, int]] = {}  # and passes of the fit

    def twin(self, layer: Device) -> AnyTwin:
        """Give the twin of a layer: the same constants or weights in all, where possible."""
        shape = self._shape(layer)
        if shape not in self._twins:
            system = layer if any(shape) else self.device
            before = system.passes
            made = fitted(system, self.case.twin, self.case.unit)
            self._twins[shape] = made, system.passes - before
        twin, _ = self._twins[shape]
        if isinstance(layer, SHG):
            return twin if isinstance(twin, NeuralTwin) else twin.reprogrammed(layer)
        return twin.reprogrammed(layer, replays=layer.replays)

    def twin_passes(self, network: nn.Module) -> int:
        """Device passes that the fits of the twins of a `network` took, each counted once."""
        shapes = {self._shape(layer.system) for layer in physical_layers(network)}
        return sum(self._twins[shape][1] for shape in shapes)

    def _shape(self, layer: Any) -> tuple[int, int]:
        # A neural twin of light has the inputs and outputs of its layer: there is one a shape.
        separate = self.case.twin.startswith("neural") and isinstance(layer, SHG)
        return (layer.input_dim, layer.output_dim) if separate else (0, 0)

    def network(self, depth: int, rule: GradientRule) -> nn.Module:
        """Chain a fresh copy of the device into a classifier of digits or of vowels."""
        system, seed = make_device(self.case), self.case.unit
        if not isinstance(system, SHG):
            layers = chained(system, [(REPLAYS, self.case.width)] * (depth - 1) + [(10, 10)])
            return deep_pnn(layers, [self.twin(layer) for layer in layers], rule, seed=seed)
        chain: list[nn.Module] = []
        for number, (width, following) in enumerate(pairwise([12, *[50] * (depth - 1), 7])):
            own = system.reprogrammed(input_dim=width, output_dim=following)
            encoding = Rescale(width, elementwise=True)
            layer = PhysicalLayer(
                own, self.twin(own), rule, encoding=encoding, seed=1000 * seed + number
            )
            chain.append(layer)
        return nn.Sequential(*chain, Rescale(7, gain=2.0, offset=0.0, elementwise=True))

    @cached_property
    def task(self) -> Task:
        """The task of the case; a unit that reads vowels has some that no other has."""
        tasks = {"digits": digits, "mnist": lambda: mnist(14, full=False)}
        return vowels(self.case.unit) if self.case.task == "vowels" else tasks[self.case.task]()

    @property
    def settings(self) -> FitSettings:
        """Epochs and batches of the task, with the unit as seed."""
        epochs, size = {"digits": (15, 32), "mnist": (4, 64), "vowels": (100, 30)}[self.case.task]
        return FitSettings(epochs=epochs, batch_size=size, seed=self.case.unit)


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

        The ``twin`` is as of `Case`, or ``"physics"``: of 500 shots, of oscillators nominal.
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
