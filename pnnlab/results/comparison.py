"""A trained network on the test split beside digital baselines, and the comparison of methods.

Each method has its own best settings, found by the same search.
"""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, final

import torch
from torch import nn

from pnnlab.errors import RangeError
from pnnlab.gradients import RULES, GradientRule, ideal, in_silico, physics_aware
from pnnlab.layers import (
    all_have_twins,
    calibrate,
    on_device,
    on_twin,
    parameter_count,
    physical_layers,
)
from pnnlab.physical_system import SimulatedSystem
from pnnlab.plain import random_state, whole
from pnnlab.provenance import commit
from pnnlab.results.rows import Estimate, Row, packed, paired, verdict
from pnnlab.results.tables import ONE_SEED, results_table
from pnnlab.runs import Run, read_run, run_folder, train
from pnnlab.tasks import Task
from pnnlab.training import FitSettings, Training, accuracy, passes_per_example, scores
from pnnlab.training.evaluation import outputs
from pnnlab.training.methods import Backpropagation, MakeMethod
from pnnlab.twins import Twin

CALIBRATION_INPUTS = 1000
STEPS_ON_TWIN = 4  # times PAT's: as many as training with a last quarter on the device takes
FEWEST_STEPS = 500
"""Of a baseline: a tiny task has few batches in an epoch, and digital steps cost nothing."""


def calibration_inputs(task: Task) -> torch.Tensor:
    """Training inputs on which every network is calibrated, before training and after."""
    return task.train.x[:CALIBRATION_INPUTS]


def mlp(features: int, classes: int, parameters: int) -> nn.Sequential:
    """Digital network with one hidden layer and at most this many parameters."""
    hidden = (whole("parameters", parameters) - classes) // (features + classes + 1)
    if hidden < 1:
        raise RangeError(
            f"{parameters} parameters are too few for a hidden unit between {features} inputs and "
            f"{classes} classes; compare with a linear classifier instead."
        )
    return nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, classes))


def digital_baseline(
    task: Task, parameters: int, *, rates: Sequence[float] = (0.003, 0.01), **loop: int
) -> float:
    """Test accuracy of an `mlp` with at most as many parameters, by `digital_accuracy`."""
    make = partial(mlp, task.train.x.shape[1], task.classes, parameters)
    return digital_accuracy(make, task, rates=rates, **loop)


def linear_baseline(
    task: Task, *, rates: Sequence[float] = (0.003, 0.01, 0.03, 0.1), **loop: int
) -> float:
    """Test accuracy of a linear digital classifier, by `digital_accuracy`."""
    make = partial(nn.Linear, task.train.x.shape[1], task.classes)
    return digital_accuracy(make, task, rates=rates, **loop)


def digital_accuracy(
    make: Callable[[], nn.Module],
    task: Task,
    *,
    epochs: int,
    rates: Sequence[float],
    batch_size: int = 64,
    seed: int = 0,
) -> float:
    """Test accuracy of any digital network, trained by the loop that trains physical ones.

    It gets the same examples in batches of the same size, as many epochs (at least `FEWEST_STEPS`
    steps), and a learning rate of ``rates`` chosen on the validation split.
    """
    size = min(whole("batch_size", batch_size, 1), len(task.train))
    epochs = max(epochs, math.ceil(FEWEST_STEPS / (len(task.train) // size)))
    trained: list[tuple[float, float, nn.Module]] = []
    for rate in rates:
        settings = FitSettings(
            epochs=epochs, batch_size=size, learning_rate=rate, evaluations=1, seed=seed
        )
        with random_state(seed):
            network = make()
        train(network, task, settings, progress=False)
        metric, loss = scores(network, task.validation)
        trained.append((metric, -loss, network))
    # On a small validation split several rates tie; the loss decides, never the test split.
    *_, best = max(trained, key=lambda one: one[:2])
    return accuracy(best, task.test)


def result_row(
    training: Training,
    task: Task,
    *,
    system: str,
    method: str,
    twin: str | None,
    run: Run | Path | None = None,
    **beside: float | None,
) -> Row:
    """Measure a network on the test split, once, and give the result with its baselines.

    Parameters
    ----------
    training : Training
        Finished. Its network is left as it is.
    system, method, twin, **beside
        Fields of the `Row`, such as ``linear_baseline`` and ``published``. It adds to its twin
        where that is not good, see `Training`.
    run : Run, Path or None
        The run of ``training``, or its folder: the row names the revision with which it began.
    """
    network, passes = training.network, training.device_passes
    layers = physical_layers(network)
    unit = getattr(layers[0].system, "unit", None) if layers else None  # of simulated systems
    folder = run.folder if isinstance(run, Run) else run
    others: dict[str, Any] = dict(beside)

    def right(network: nn.Module) -> torch.Tensor:  # (n,), bool
        return outputs(network, task.test.x).argmax(1).cpu() == task.test.targets.cpu()

    with on_device(network):
        correct = right(network)
    if all_have_twins(network):
        with on_twin(network):
            others["accuracy_on_twin"] = accuracy(network, task.test)
    if is_recalibrated(training):
        other = copy.deepcopy(network)
        with on_device(other):
            calibrate(other, calibration_inputs(task))
            again = right(other)
        others["recalibrated_accuracy"] = float(again.double().mean())
        others["recalibrated_correct"] = packed(again.numpy())
    return Row(
        system=system,
        task=task.name,
        method=method,
        twin=f"{twin}, not good" if twin and training.twin_faults else twin,
        layers=len(layers),
        seed=training.settings.seed,
        split="test",
        n_test=len(task.test),
        accuracy=float(correct.double().mean()),
        correct=packed(correct.numpy()),
        chance=task.chance,
        parameters=parameter_count(network),
        device_passes=passes,
        steps=training.step,
        seconds=round(training.seconds, 1),
        commit=read_run(folder).provenance.get("commit") if folder else commit(),
        unit=unit if isinstance(unit, int) else None,
        **others,
    )


def on_twin_alone(network: nn.Module) -> bool:
    """Whether a training with these gradient rules never drives a device in its steps."""
    layers = [layer for layer in physical_layers(network) if layer.twin is not None]
    return any(layer.rule not in (physics_aware, ideal) for layer in layers)


def is_recalibrated(training: Training) -> bool:
    """Whether the normalisation was trained with states of a twin, and is measured again."""
    return training.method.states_of_twin or on_twin_alone(training.network)


def validated(training: Training) -> tuple[float, float]:
    """Metric and negative loss on the validation split, in the form in which a method is used.

    What was trained on a twin is recalibrated for it. The network, and the passes of the training,
    are left as they are.
    """
    network, passes = training.network, training.device_passes
    trained = copy.deepcopy(network.state_dict())
    with on_device(network):
        if is_recalibrated(training):
            calibrate(network, training.train.x[:CALIBRATION_INPUTS])
        metric, loss = scores(network, training.validation, training.objective)
    network.load_state_dict(trained)
    training.passes_before += training.device_passes - passes
    return metric, -loss


# --- methods side by side ---


@final
@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One way to train a network."""

    rule: GradientRule  # of its physical layers
    method: MakeMethod = Backpropagation  # makes the training method
    learning_rate: float | None = None  # in place of that of the settings
    penalty: float | None = None  # likewise
    share: float = 1.0  # of the epochs that there are: on a twin more can be worse

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise RangeError(f"share is {self.share}; it is above 0, and 1 at most.")

    def settings(self, settings: FitSettings) -> FitSettings:
        own: dict[str, Any] = {"learning_rate": self.learning_rate, "penalty": self.penalty}
        return replace(settings, **{k: value for k, value in own.items() if value is not None})

    def text(self, settings: FitSettings) -> str:
        """What the search may choose, as text of a row."""
        used = self.settings(settings)
        parts = [f"learning rate {used.learning_rate:g}", f"penalty {used.penalty:g}"]
        if self.share < 1:
            parts.append(f"{self.share:g} of the epochs")
        if isinstance(self.method, partial):
            parts += [f"{name} {_text(value)}" for name, value in self.method.keywords.items()]
        if not hasattr(self.rule, "__name__"):  # one with settings of its own
            parts.append(repr(self.rule))
        return ", ".join(parts)


def _text(value: object) -> str:
    if isinstance(value, partial):
        own = (f"{name} {_text(one)}" for name, one in value.keywords.items())
        return f"{_text(value.func)} ({', '.join(own)})"
    return str(getattr(value, "__name__", value))


Way: TypeAlias = GradientRule | Recipe | Sequence[Recipe]


def possible(network: nn.Module) -> dict[str, Recipe]:
    """The usual methods, as far as the systems and twins of a network allow them."""
    layers = physical_layers(network)
    allowed = {
        "noise-aware": all(isinstance(layer.twin, Twin) for layer in layers),
        "ideal": all(isinstance(layer.system, SimulatedSystem) for layer in layers),
    }
    return {name: Recipe(rule=rule) for name, rule in RULES.items() if allowed.get(name, True)}


@final
@dataclass(frozen=True, repr=False)
class Compared:
    """Trainings side by side; it shows itself as the results table and the verdicts on pairs."""

    rows: tuple[Row, ...]  # one a training
    runs: Mapping[str, Sequence[Path]] = field(default_factory=dict)  # by method, one a seed
    recipes: Mapping[str, Recipe] = field(default_factory=dict)  # as they were chosen, by method

    def difference(self, first: str, second: str) -> Estimate:
        """Accuracy of one method less that of another; see `paired`."""
        groups = [[row for row in self.rows if row.method == name] for name in (first, second)]
        return paired(*groups)

    def verdicts(self, of: str = "PAT") -> dict[str, str]:
        """For every other method, whether ``of`` is better, worse, equal, or not known."""
        others = dict.fromkeys(row.method for row in self.rows if row.method != of)
        return {other: verdict(self.difference(of, other)) for other in others}

    def __repr__(self) -> str:
        table = results_table(self.rows)
        if len({row.method for row in self.rows}) < 2 or self.rows[0].method != "PAT":
            return table
        pairs = [f"{what} {other}" for other, what in self.verdicts().items()]
        alone = "" if len({row.seed for row in self.rows}) > 1 else f" {ONE_SEED}"
        return f"{table}\n- PAT against the others, paired{alone}: {'; '.join(pairs)}."

    _repr_markdown_ = __repr__


def compare(
    make: Callable[[GradientRule, int], nn.Module],
    task: Task,
    settings: FitSettings | None = None,
    *,
    methods: Mapping[str, Way] | None = None,
    rates: Sequence[float] = (),
    budget: int | None = None,
    seeds: int = 1,
    twin: str = "twin",
    folder: str | Path | None = None,
    progress: bool = True,
) -> Compared:
    """Train one network by several methods, beside the digital baselines.

    Each method gets the same data and seeds. Of several recipes or rates, as many for every method,
    the one that is best on the validation split with the first seed is used for all seeds. What is
    trained on a twin is measured as trained, and after its normalisation was measured again on the
    device; the search judges it by the latter.

    Parameters
    ----------
    make : callable
        Makes a fresh network of a gradient rule and a seed, such as
        ``lambda rule, seed: deep_pnn(device, twin, rule, layers=3, classes=10, seed=seed)``.
    task : Task
        Each chosen network is measured on the test split once.
    settings : FitSettings, optional
        Their seed is the first.
    methods : mapping of str to GradientRule, Recipe or a sequence of Recipe, optional
        By default all of `possible`.
    rates : sequence of float
        Learning rates to try with every recipe; by default that of the settings alone.
    budget : int, optional
        Device passes of a training without its evaluations, in place of the epochs: each method
        gets as many epochs as it can pay. Steps that drive no device are not free of work: a method
        of such steps alone may take `STEPS_ON_TWIN` times those that PAT can pay.
    seeds : int
        Trainings of each method.
    twin : str
        What the table calls the twin.
    folder : path, optional
        Where each training gets a run folder of its own; the same call then resumes what was
        interrupted. Units that share a name need folders of their own.

    Raises
    ------
    RangeError
        There is no method or no seed, methods have unequal choices, or the budget is less than
        one epoch.
    RunError
        In the folder are runs of other trainings, or it cannot be written.
    """
    settings, seeds = settings or FitSettings(), whole("seeds", seeds, 1)
    if task.train.targets.is_floating_point():
        raise RangeError(
            f"{task.name} has values to learn, and accuracies are compared; give classes, or train "
            "each method with `train` and compare what `evaluate` says."
        )
    choices = {} if methods is None else _choices(methods, rates)
    rule = next(iter(choices.values()))[0].rule if choices else in_silico
    example = make(rule, settings.seed)
    choices = choices or _choices(possible(example), rates)
    size = parameter_count(example)
    system = physical_layers(example)[0].system.name

    def trained(name: str, recipe: Recipe, seed: int) -> tuple[Training, Path | None, int]:
        network = make(recipe.rule, seed)
        calibrate(network, calibration_inputs(task))
        used = replace(recipe.settings(settings), seed=seed)
        if budget is not None:
            method = Training(network, task, used, method=recipe.method).method
            sweeps = (method.sweeps or 1) / (1 if method.drives else STEPS_ON_TWIN)
            epoch = len(task.train) * passes_per_example(network) * sweeps
            if budget < epoch:
                raise RangeError(
                    f"a budget of {budget} passes is less than one epoch, {epoch:g} passes."
                )
            used = replace(used, epochs=int(budget // epoch))
        used = replace(used, epochs=max(1, round(recipe.share * used.epochs)))
        trial = {"trial": choices[name].index(recipe)} if len(choices[name]) > 1 else {}
        parameters = {"system": system, "twin": twin, "method": name, "seed": seed} | trial
        training = train(
            network,
            task,
            used,
            method=recipe.method,
            folder=folder,
            parameters=parameters,
            label=f"{name}, seed {seed}",
            progress=progress,
        )
        run = None if folder is None else run_folder(folder, parameters)
        return training, run, training.device_passes

    chosen = {name: recipes[0] for name, recipes in choices.items()}
    done: dict[tuple[str, int], tuple[Training, Path | None, int]] = {}
    for name, recipes in choices.items():
        if len(recipes) > 1:
            trials = [trained(name, recipe, settings.seed) for recipe in recipes]
            scored = [validated(training) for training, *_ in trials]
            best = scored.index(max(scored))
            chosen[name], done[name, settings.seed] = recipes[best], trials[best]
    rows: list[Row] = []
    runs: dict[str, list[Path]] = {}
    for seed in range(settings.seed, settings.seed + seeds):
        digital, linear = (
            baseline(task, epochs=settings.epochs, batch_size=settings.batch_size, seed=seed)
            for baseline in (partial(digital_baseline, parameters=size), linear_baseline)
        )
        for name, recipe in chosen.items():
            training, run, passes = done.get((name, seed)) or trained(name, recipe, seed)
            # Others may have driven the same device since.
            training.passes_before += training.device_passes - passes
            row = result_row(
                training,
                task,
                system=system,
                method=name,
                twin=None if recipe.rule is ideal else twin,
                digital_baseline=digital,
                linear_baseline=linear,
                run=run,
            )
            rows.append(replace(row, settings=recipe.text(settings), trials=len(choices[name])))
            if run is not None:
                runs.setdefault(name, []).append(run)
    return Compared(tuple(rows), runs, chosen)


def _choices(methods: Mapping[str, Way], rates: Sequence[float]) -> dict[str, list[Recipe]]:
    if not methods:
        raise RangeError("There is no method to compare; give methods, such as {'PAT': ...}.")
    found = {}
    for name, way in methods.items():
        recipes = list(way) if isinstance(way, Sequence) else [way]
        recipes = [one if isinstance(one, Recipe) else Recipe(rule=one) for one in recipes]
        if rates:
            recipes = [replace(one, learning_rate=rate) for one in recipes for rate in rates]
        found[name] = recipes
    counts = {name: len(recipes) for name, recipes in found.items()}
    if len(set(counts.values())) > 1:
        raise RangeError(
            "a fair comparison gives every method as many settings to choose from, and these have "
            f"{', '.join(f'{name} {count}' for name, count in counts.items())}."
        )
    return found
