"""The advantage of physics-aware training over in silico training with noise, measured.

Short trainings over systems, units, twins, depths and noise. Each is written into a table as it
ends, so that an interrupted sweep goes on where it was.
"""

import csv
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal, TypeAlias, final

from torch import nn
from tqdm.auto import tqdm

from pnnlab.errors import RangeError
from pnnlab.gradients import GradientRule, noise_aware, physics_aware
from pnnlab.layers import PhysicalLayer, Rescale, calibrate, deep_pnn, on_device
from pnnlab.provenance import commit
from pnnlab.results.baselines import calibration_inputs
from pnnlab.storage import user_path
from pnnlab.systems import SHG, Circuit, Plate
from pnnlab.systems.circuit import CircuitImperfections
from pnnlab.systems.plate import PlateImperfections
from pnnlab.systems.shg import SHGImperfections
from pnnlab.tasks import Task, digits, mnist, vowels
from pnnlab.training import FitSettings, Training, accuracy
from pnnlab.training.advice import LocalErrors, local_errors
from pnnlab.twins import (
    CircuitEquations,
    Mlp,
    NeuralTwin,
    PhysicsTwin,
    PlateEquations,
    SHGEquations,
    Temporal,
    fit_twin,
)
from pnnlab.twins.physics import Equations

REPLAYS = 4
INPUTS = 500
"""At which the errors of the twins are measured."""

RATES = (0.01, 0.03)
"""Learning rates that each method may choose from, on the validation split."""

WITHIN, WORSE = 0.01, 0.05  # of accuracy: the same, and clearly worse

METHODS: Mapping[str, GradientRule] = {"PAT": physics_aware, "noise-aware": noise_aware}
Device: TypeAlias = Circuit | Plate | SHG
AnyTwin: TypeAlias = PhysicsTwin | NeuralTwin


@final
@dataclass(frozen=True)
class Case:
    """One device and one twin of it, from which networks of several depths are made.

    Parameters
    ----------
    system : {"circuit", "plate", "SHG"}
    unit : int
        Fabricated copy; also the seed.
    noise : float
        Times the noise of the device as it is.
    twin : str
        ``"nominal"``, or ``"physics"`` or ``"neural"`` and a number of shots: ``"neural 750"``.
    task : {"digits", "mnist", "vowels"}
        Vowels are for SHG, and SHG for them.
    """

    system: Literal["circuit", "plate", "SHG"]
    unit: int = 0
    noise: float = 1.0
    twin: str = "physics 250"
    task: Literal["digits", "mnist", "vowels"] = "digits"

    def __post_init__(self) -> None:
        kind, _, shots = self.twin.partition(" ")
        if self.twin != "nominal" and (kind not in ("physics", "neural") or not shots.isdecimal()):
            raise RangeError(
                f"twin of a case is {self.twin!r}; give 'nominal', or such as 'neural 750'."
            )
        if (self.system == "SHG") != (self.task == "vowels"):
            raise RangeError(f"{self.system} with {self.task}: SHG reads vowels, and alone does.")

    @property
    def width(self) -> int:
        """Inputs of the device."""
        return {"digits": 64, "mnist": 196, "vowels": 50}[self.task]


def make_device(case: Case) -> Device:
    """Make the device of a case, with its noise."""
    shape: dict[str, Any] = {"input_dim": case.width, "output_dim": case.width, "seed": case.unit}
    if case.system == "circuit":
        circuit = CircuitImperfections()
        circuit = replace(circuit, noise=case.noise * circuit.noise)
        return Circuit(case.unit, imperfections=circuit, replays=REPLAYS, **shape)
    if case.system == "plate":
        plate = PlateImperfections()
        plate = replace(plate, noise=case.noise * plate.noise)
        return Plate(case.unit, imperfections=plate, replays=REPLAYS, **shape)
    light = SHGImperfections()
    light = replace(light, noise=case.noise * light.noise, jitter=case.noise * light.jitter)
    return SHG(case.unit, imperfections=light, **shape)


@final
class Setup:
    """Device and twin of a case: a layer of each shape, and the passes of its fits."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.device = make_device(case)
        kind, _, shots = case.twin.partition(" ")
        self._kind, self._shots = kind, int(shots or 100)
        self._twins: dict[tuple[int, int], AnyTwin] = {}
        self.passes = 0

    def twin(self, layer: Device) -> AnyTwin:
        """Give the twin of a layer: the same constants or weights in all, where that is possible.

        A neural twin of `SHG` has as many inputs and outputs as its layer: there is one for each
        shape of a layer, fitted to shots of its own.
        """
        separate = self._kind == "neural" and isinstance(layer, SHG)
        shape = (layer.input_dim, layer.output_dim) if separate else (0, 0)
        if shape not in self._twins:
            self._twins[shape] = self._fitted(layer if separate else self.device)
        twin = self._twins[shape]
        if isinstance(layer, SHG):
            return twin if isinstance(twin, NeuralTwin) else twin.reprogrammed(layer)
        return twin.reprogrammed(layer, replays=layer.replays)

    def _fitted(self, system: Device) -> AnyTwin:
        before = system.passes
        options: dict[str, Any] = {"seed": self.case.unit, "progress": False}
        with warnings.catch_warnings():  # a bad twin is what some cases are about
            warnings.filterwarnings("ignore", "the twin is not good", RuntimeWarning)
            if self._kind == "neural":
                temporal = Temporal(replays=REPLAYS, memory=self.case.width)
                design = Mlp() if isinstance(system, SHG) else temporal
                twin: AnyTwin = fit_twin(system, self._shots, architecture=design, **options)
            else:
                equations: dict[str, Equations] = {
                    "circuit": CircuitEquations(replays=REPLAYS),
                    "plate": PlateEquations(replays=REPLAYS),
                    "SHG": SHGEquations(),
                }
                chosen = equations[self.case.system]
                twin = fit_twin(system, self._shots, equations=chosen, **options)
        self.passes += system.passes - before
        if self._kind == "nominal":  # with the noise that was measured
            assert isinstance(twin, PhysicsTwin)
            twin = twin.with_constants(type(twin.constants)())
        return twin

    def network(self, depth: int, rule: GradientRule) -> nn.Module:
        """Chain a fresh copy of the device into a classifier of digits or of vowels."""
        system, seed = make_device(self.case), self.case.unit
        if not isinstance(system, SHG):
            shapes = [(REPLAYS, self.case.width)] * (depth - 1) + [(10, 10)]
            layers = [system.reprogrammed(replays=n, output_dim=width) for n, width in shapes]
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

    @property
    def task(self) -> Task:
        """The task of the case; a unit that reads vowels has some that no other has."""
        tasks = {"digits": digits, "mnist": lambda: mnist(14, full=False)}
        return vowels(self.case.unit) if self.case.task == "vowels" else tasks[self.case.task]()

    @property
    def settings(self) -> FitSettings:
        """Epochs and batches of the task, with the unit as seed."""
        epochs, size = {"digits": (15, 32), "mnist": (4, 64), "vowels": (100, 30)}[self.case.task]
        return FitSettings(epochs=epochs, batch_size=size, seed=self.case.unit)


def measure(case: Case, depths: Sequence[int]) -> Iterator[dict[str, object]]:
    """Fit the twin of a case, train networks by PAT and in silico with noise, and give both.

    Accuracies are of the test and validation splits on the device; those of in silico training are
    taken after recalibration.
    """
    setup = Setup(case)
    task = setup.task
    inputs = calibration_inputs(task)
    for depth in depths:
        network = setup.network(depth, physics_aware)
        calibrate(network, inputs)
        found = local_errors(network, task.train.x[:INPUTS])
        for method, rule in METHODS.items():
            trials = [_trained(setup, task, depth, rule, rate) for rate in RATES]
            validation, training = max(trials, key=itemgetter(0))
            with on_device(training.network):
                test = accuracy(training.network, task.test)
            yield {
                "system": case.system,
                "task": case.task,
                "unit": case.unit,
                "noise": case.noise,
                "twin": case.twin,
                "depth": depth,
                **described(found),
                "method": method,
                "learning_rate": training.settings.learning_rate,
                "validation": round(validation, 6),
                "accuracy": round(test, 6),
                "n_test": len(task.test),
                "twin_passes": setup.passes,
                "passes": training.device_passes,
                "commit": commit(),
            }


def described(found: LocalErrors) -> dict[str, str]:
    """Columns of the errors of a network's twins: numbers of its layers, with a space between."""
    columns = {
        "errors": found.errors,
        "over_noise": found.over_noise,
        "parameter_errors": found.parameter_errors,
    }
    return {name: " ".join(f"{one:.4g}" for one in values) for name, values in columns.items()}


def _trained(
    setup: Setup, task: Task, depth: int, rule: GradientRule, rate: float
) -> tuple[float, Training]:
    """Train once, recalibrate, and give the accuracy on the validation split."""
    network, inputs = setup.network(depth, rule), calibration_inputs(task)
    calibrate(network, inputs)
    settings = replace(setup.settings, learning_rate=rate, evaluations=1)
    training = Training(network, task, settings)
    for _ in training.records():
        pass
    with on_device(network):
        if rule is not physics_aware:
            calibrate(network, inputs)
        return accuracy(network, task.validation), training


def sweep(
    path: str | Path,
    cases: Sequence[Case],
    depths: Sequence[int] = (1, 2, 3, 5),
    run: Callable[[Case, Sequence[int]], Iterable[dict[str, object]]] = measure,
) -> Path:
    """Measure cases that a table does not hold yet, and append each to it when it is whole.

    Parameters
    ----------
    path : path
        CSV, one line a training.
    cases : sequence of Case
    depths : sequence of int
        Numbers of layers.
    """
    path = user_path(path)
    done: set[tuple[str, ...]] = set()
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            done = {_key(row) for row in csv.DictReader(file)}
    for case in tqdm(cases, "cases"):
        if _key(vars(case)) in done:
            continue
        rows = list(run(case, depths))
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            if file.tell() == 0:
                writer.writeheader()
            writer.writerows(rows)
    return path


@final
@dataclass(frozen=True)
class Measured:
    """One network of a `sweep`: what both methods reached with it, and what its errors suggested.

    Attributes
    ----------
    error : float
        Sum of the layers' parameter errors; see `LocalErrors`.
    accuracy : mapping
        By method, on the device.
    passes : mapping
        By method, of the twin and of the training.
    best : str
        What the accuracies say, in the words of `suggestion`: a better twin first, if PAT reaches
        `WORSE` more with another twin of this device, at any depth, than either method does here;
        in silico with noise, if that is within `WITHIN` of PAT or better; else PAT.
    """

    case: Case
    depth: int
    error: float
    accuracy: Mapping[str, float]
    passes: Mapping[str, int]
    best: str = "PAT"

    @property
    def points(self) -> float:
        """What PAT reaches beyond noise-aware training, percentage points."""
        return 100 * (self.accuracy["PAT"] - self.accuracy["noise-aware"])


def read_sweep(path: str | Path) -> tuple[Measured, ...]:
    """Read what a `sweep` has written."""
    with user_path(path).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found = []
    for pat, noisy in zip(rows[::2], rows[1::2], strict=True):
        system: Any = pat["system"]
        task: Any = pat["task"]
        case = Case(system, int(pat["unit"]), float(pat["noise"]), pat["twin"], task)
        methods = {row["method"]: row for row in (pat, noisy)}
        error = sum(map(float, pat["parameter_errors"].split()))
        accuracy = {name: float(row["accuracy"]) for name, row in methods.items()}
        passes = {n: int(r["passes"]) + int(r["twin_passes"]) for n, r in methods.items()}
        found.append(Measured(case, int(pat["depth"]), error, accuracy, passes))
    return tuple(replace(one, best=_best(one, found)) for one in found)


def _best(one: Measured, found: Sequence[Measured]) -> str:
    same = [other for other in found if replace(other.case, twin=one.case.twin) == one.case]
    if max(one.accuracy.values()) < max(other.accuracy["PAT"] for other in same) - WORSE:
        return "a better twin first"
    return "PAT" if one.points > 100 * WITHIN else "in silico with noise"


def _key(row: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in ("system", "task", "unit", "noise", "twin"))
