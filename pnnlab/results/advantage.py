"""The advantage of physics-aware training over in silico training with noise, measured."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from tqdm.auto import tqdm

from pnnlab.gradients import RULES, GradientRule, physics_aware
from pnnlab.layers import calibrate, on_device
from pnnlab.provenance import commit
from pnnlab.results.comparison import calibration_inputs
from pnnlab.results.setups import Case, Setup
from pnnlab.runs import train
from pnnlab.storage import user_path
from pnnlab.training import Training, accuracy
from pnnlab.training.advice import local_errors

INPUTS = 500
"""At which the errors of the twins are measured."""

RATES = (0.01, 0.03)
"""Learning rates that each method may choose from, on the validation split."""

WITHIN, WORSE = 0.01, 0.05  # of accuracy: the same, and clearly worse
CASE = ("system", "task", "unit", "noise", "twin")


def measure(case: Case, depths: Sequence[int]) -> Iterator[dict[str, object]]:
    """Fit the twin of a case, train networks by PAT and in silico with noise, and measure both."""
    setup = Setup(case)
    task = setup.task
    for depth in depths:
        network = setup.network(depth, physics_aware)
        calibrate(network, calibration_inputs(task))
        found = local_errors(network, task.train.x[:INPUTS])
        errors = ("errors", "over_noise", "parameter_errors")
        layers = {name: " ".join(f"{one:.4g}" for one in getattr(found, name)) for name in errors}
        for method in ("PAT", "noise-aware"):
            trials = [_trained(setup, depth, RULES[method], rate) for rate in RATES]
            validation, training = max(trials, key=itemgetter(0))
            with on_device(training.network):
                test = accuracy(training.network, task.test)
            yield {
                **{name: getattr(case, name) for name in CASE},
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


def _trained(setup: Setup, depth: int, rule: GradientRule, rate: float) -> tuple[float, Training]:
    network, task = setup.network(depth, rule), setup.task
    inputs = calibration_inputs(task)
    calibrate(network, inputs)
    settings = replace(setup.settings, learning_rate=rate, evaluations=1)
    training = train(network, task, settings, progress=False)
    with on_device(network):
        if rule is not physics_aware:
            calibrate(network, inputs)
        return accuracy(network, task.validation), training


def sweep(path: str | Path, cases: Sequence[Case], depths: Sequence[int] = (1, 2, 3, 5)) -> Path:
    """Measure cases that a CSV table does not hold yet, and append each to it when it is whole."""
    path = user_path(path)
    done: set[tuple[str, ...]] = set()
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            done = {_key(row) for row in csv.DictReader(file)}
    for case in tqdm(cases, "cases"):
        if _key(vars(case)) in done:
            continue
        rows = list(measure(case, depths))
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            if file.tell() == 0:
                writer.writeheader()
            writer.writerows(rows)
    return path


class Measured(NamedTuple):
    """One network of a `sweep`: what both methods reached with it, and what its errors suggested.

    The ``best`` is what the accuracies say, in the words of `suggestion`: a better twin first, if
    PAT reaches `WORSE` more with another twin of this device, at any depth, than either method does
    here; in silico with noise, if that is within `WITHIN` of PAT or better; else PAT.
    """

    case: Case
    depth: int
    error: float  # sum of the layers' `LocalErrors.parameter_errors`
    input_error: float  # and of their `LocalErrors.errors`
    accuracy: Mapping[str, float]  # by method, on the device
    passes: Mapping[str, int]  # by method, of the twin and of the training
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
        error, input_error = (
            sum(map(float, pat[name].split())) for name in ("parameter_errors", "errors")
        )
        accuracy = {name: float(row["accuracy"]) for name, row in methods.items()}
        passes = {n: int(r["passes"]) + int(r["twin_passes"]) for n, r in methods.items()}
        found.append(Measured(case, int(pat["depth"]), error, input_error, accuracy, passes))
    return tuple(one._replace(best=_best(one, found)) for one in found)


def _best(one: Measured, found: Sequence[Measured]) -> str:
    same = [other for other in found if replace(other.case, twin=one.case.twin) == one.case]
    if max(one.accuracy.values()) < max(other.accuracy["PAT"] for other in same) - WORSE:
        return "a better twin first"
    return "PAT" if one.points > 100 * WITHIN else "in silico with noise"


def _key(row: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in CASE)
