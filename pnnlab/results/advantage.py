"""The advantage of physics-aware training over its best rival without a device, measured."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, final

from torch import nn
from tqdm.auto import tqdm

from pnnlab.errors import RangeError
from pnnlab.gradients import GradientRule, Randomised, in_silico, noise_aware, physics_aware
from pnnlab.layers import PhysicalLayer, Rescale, calibrate, deep_pnn, on_device, physical_layers
from pnnlab.provenance import commit
from pnnlab.results.comparison import STEPS_ON_TWIN, calibration_inputs
from pnnlab.results.setups import REPLAYS, chained, fitted
from pnnlab.runs import train
from pnnlab.storage import user_path
from pnnlab.systems import SHG, Circuit, Plate
from pnnlab.systems.circuit import CircuitImperfections
from pnnlab.systems.plate import PlateImperfections
from pnnlab.systems.shg import SHGImperfections
from pnnlab.tasks import Task, digits, mnist, vowels
from pnnlab.training import FitSettings, Training, accuracy
from pnnlab.training.advice import local_errors
from pnnlab.twins import NeuralTwin, PhysicsTwin

INPUTS = 500
"""At which the errors of the twins are measured."""

RATES = (0.01, 0.03)
"""Learning rates that each method may choose from, on the validation split."""

METHODS: Mapping[str, tuple[GradientRule, int]] = {
    "PAT": (physics_aware, 1),
    "noise-aware": (noise_aware, STEPS_ON_TWIN),
    "randomised": (Randomised(0.03, noise=True), STEPS_ON_TWIN),
    "in silico": (in_silico, 1),  # with more steps it can be worse
    "noise-aware, PAT's steps": (noise_aware, 1),
}
"""Gradient rules, and how many times the steps of PAT; only physics twins can be randomised."""

WITHIN, WORSE = 0.01, 0.05  # of accuracy: the same, and clearly worse
CASE = ("system", "task", "unit", "noise", "twin")

Device: TypeAlias = Circuit | Plate | SHG
AnyTwin: TypeAlias = PhysicsTwin | NeuralTwin


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


def measure(setup: Setup, depth: int, methods: Sequence[str]) -> Iterator[dict[str, object]]:
    """Measure the twin's errors, train a network by each of these `METHODS`, and measure them."""
    task = setup.task
    network = setup.network(depth, physics_aware)
    calibrate(network, calibration_inputs(task))
    found = local_errors(network, task.train.x[:INPUTS])
    errors = ("errors", "over_noise", "parameter_errors")
    layers = {name: " ".join(f"{one:.4g}" for one in getattr(found, name)) for name in errors}
    for method in methods:
        trials = [_trained(setup, depth, method, rate) for rate in RATES]
        validation, training = max(trials, key=itemgetter(0))
        with on_device(training.network):
            test = accuracy(training.network, task.test)
        yield {
            **{name: getattr(setup.case, name) for name in CASE},
            "depth": depth,
            **layers,
            "method": method,
            "learning_rate": training.settings.learning_rate,
            "validation": round(validation, 6),
            "accuracy": round(test, 6),
            "n_test": len(task.test),
            "twin_passes": setup.twin_passes(network),
            "passes": training.device_passes,
            "commit": commit(),
        }


def _trained(setup: Setup, depth: int, method: str, rate: float) -> tuple[float, Training]:
    rule, times = METHODS[method]
    network, task = setup.network(depth, rule), setup.task
    calibrate(network, calibration_inputs(task))
    epochs = times * setup.settings.epochs
    settings = replace(setup.settings, learning_rate=rate, epochs=epochs, evaluations=1)
    training = train(network, task, settings, progress=False)
    with on_device(network):
        if rule is not physics_aware:
            calibrate(network, calibration_inputs(task))
        return accuracy(network, task.validation), training


def sweep(path: str | Path, cases: Sequence[Case], depths: Sequence[int] = (1, 2, 3, 5)) -> Path:
    """Measure what a CSV table does not hold yet of these cases, and append it row by row."""
    path = user_path(path)
    done: set[tuple[str, ...]] = set()
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            done = {_key(row) for row in csv.DictReader(file)}
    for case in tqdm(cases, "cases"):
        setup = Setup(case)
        fits = [name for name in METHODS if name != "randomised" or "neural" not in case.twin]
        for depth in depths:
            here = {**vars(case), "depth": depth}
            left = [name for name in fits if _key({**here, "method": name}) not in done]
            for row in measure(setup, depth, left) if left else ():
                with path.open("a", newline="", encoding="utf-8") as file:
                    writer = csv.DictWriter(file, list(row), lineterminator="\n")
                    if file.tell() == 0:
                        writer.writeheader()
                    writer.writerow(row)
    return path


class Measured(NamedTuple):
    """One network of a `sweep`: what each method reached with it, and what its errors suggested.

    The ``best`` is what the accuracies say, in the words of `suggestion`: a better twin first, if
    PAT reaches `WORSE` more with another twin of this device, at the same depth, than PAT or its
    rival do here; in silico with noise, if the rival is within `WITHIN` of PAT or better; else PAT.
    """

    case: Case
    depth: int
    error: float  # sum of the layers' `LocalErrors.parameter_errors`
    input_error: float  # and of their `LocalErrors.errors`
    over_noise: float  # likewise
    accuracy: Mapping[str, float]  # by method, on the device
    passes: Mapping[str, int]  # by method, of the twin and of the training
    rival: str  # the best of the methods other than PAT on the validation split
    best: str = "PAT"

    @property
    def points(self) -> float:
        """What PAT reaches beyond its rival, percentage points."""
        return 100 * (self.accuracy["PAT"] - self.accuracy[self.rival])


def read_sweep(path: str | Path) -> tuple[Measured, ...]:
    """Read what a `sweep` has written; a network lacking methods has only those that it has."""
    networks: dict[tuple[str, ...], dict[str, dict[str, str]]] = {}
    with user_path(path).open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            networks.setdefault(_key(row)[:-1], {})[row["method"]] = row
    found = []
    for methods in networks.values():
        pat = methods["PAT"]
        system: Any = pat["system"]
        task: Any = pat["task"]
        case = Case(system, int(pat["unit"]), float(pat["noise"]), pat["twin"], task)
        error, input_error, over_noise = (
            sum(map(float, pat[name].split()))
            for name in ("parameter_errors", "errors", "over_noise")
        )
        accuracy = {name: float(row["accuracy"]) for name, row in methods.items()}
        passes = {n: int(r["passes"]) + int(r["twin_passes"]) for n, r in methods.items()}
        rivals = [name for name in METHODS if name != "PAT" and name in methods]
        rival = max(rivals, key=lambda name: float(methods[name]["validation"]))
        sums = error, input_error, over_noise
        found.append(Measured(case, int(pat["depth"]), *sums, accuracy, passes, rival))
    return tuple(one._replace(best=_best(one, found)) for one in found)


def _best(one: Measured, found: Sequence[Measured]) -> str:
    deep = [other for other in found if other.depth == one.depth]
    same = [other for other in deep if replace(other.case, twin=one.case.twin) == one.case]
    reached = max(one.accuracy["PAT"], one.accuracy[one.rival])
    if reached < max(other.accuracy["PAT"] for other in same) - WORSE:
        return "a better twin first"
    return "PAT" if one.points > 100 * WITHIN else "in silico with noise"


def _key(row: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in (*CASE, "depth", "method"))
