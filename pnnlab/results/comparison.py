"""Compare training methods: each with its own best settings, found by the same search."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, final

from torch import nn

from pnnlab.errors import RangeError
from pnnlab.gradients import RULES, GradientRule, ideal, in_silico
from pnnlab.layers import calibrate, on_device, parameter_count, physical_layers
from pnnlab.physical_system import SimulatedSystem
from pnnlab.plain import whole
from pnnlab.results.baselines import (
    calibration_inputs,
    digital_baseline,
    linear_baseline,
    on_twin_alone,
    result_row,
)
from pnnlab.results.intervals import Estimate, paired, verdict
from pnnlab.results.rows import Row
from pnnlab.results.tables import results_table
from pnnlab.runs import run_folder, train
from pnnlab.tasks import Task
from pnnlab.training import FitSettings, Training, passes_per_example, scores
from pnnlab.training.methods import Backpropagation, MakeMethod
from pnnlab.twins import Twin


@final
@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One way to train a network."""

    rule: GradientRule  # of its physical layers
    method: MakeMethod = Backpropagation  # makes the training method
    learning_rate: float | None = None  # in place of that of the settings
    penalty: float | None = None  # likewise

    def settings(self, settings: FitSettings) -> FitSettings:
        own: dict[str, Any] = {"learning_rate": self.learning_rate, "penalty": self.penalty}
        return replace(settings, **{k: value for k, value in own.items() if value is not None})

    def text(self, settings: FitSettings) -> str:
        """What the search may choose, as text of a row."""
        used = self.settings(settings)
        parts = [f"learning rate {used.learning_rate:g}", f"penalty {used.penalty:g}"]
        if isinstance(self.method, partial):
            own = self.method.keywords.items()
            parts += [f"{name} {getattr(value, '__name__', value)}" for name, value in own]
        if not hasattr(self.rule, "__name__"):  # one with settings of its own
            parts.append(repr(self.rule))
        return ", ".join(parts)


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
    runs: Mapping[str, Path] = field(default_factory=dict)  # folder of the first seed, by method
    recipes: Mapping[str, Recipe] = field(default_factory=dict)  # as they were chosen, by method

    def difference(self, first: str, second: str) -> Estimate:
        """Accuracy of one method less that of another; see `intervals.paired`."""
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
        return f"{table}\n- PAT against the others, paired: {'; '.join(pairs)}."

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
        gets as many epochs as it can pay. One that drives no device in its steps gets those of PAT.
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
    choices = {} if methods is None else _choices(methods, rates)
    rule = next(iter(choices.values()))[0].rule if choices else in_silico
    example = make(rule, settings.seed)
    choices = choices or _choices(possible(example), rates)
    size = parameter_count(example)
    system = physical_layers(example)[0].system.name

    def trained(name: str, recipe: Recipe, seed: int) -> tuple[Training, Path | None]:
        network = make(recipe.rule, seed)
        calibrate(network, calibration_inputs(task))
        used = replace(recipe.settings(settings), seed=seed)
        if budget is not None:
            sweeps = Training(network, task, used, method=recipe.method).method.sweeps or 1
            epoch = len(task.train) * passes_per_example(network) * sweeps
            if budget < epoch:
                raise RangeError(
                    f"a budget of {budget} passes is less than one epoch, {epoch:g} passes."
                )
            used = replace(used, epochs=int(budget // epoch))
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
        return training, None if folder is None else run_folder(folder, parameters)

    def validated(training: Training) -> tuple[float, float]:
        """Metric and negative loss in the form in which a method is used."""
        network, passes = training.network, training.device_passes
        trained = copy.deepcopy(network.state_dict())
        with on_device(network):
            if on_twin_alone(network):
                calibrate(network, calibration_inputs(task))
            metric, loss = scores(network, task.validation, training.objective)
        network.load_state_dict(trained)  # its row is of the network as it was trained
        training.passes_before += training.device_passes - passes  # and without those passes
        return metric, -loss

    chosen = {name: recipes[0] for name, recipes in choices.items()}
    done: dict[tuple[str, int], tuple[Training, Path | None]] = {}
    for name, recipes in choices.items():
        if len(recipes) > 1:
            trials = [trained(name, recipe, settings.seed) for recipe in recipes]
            scored = [validated(training) for training, _ in trials]
            best = scored.index(max(scored))
            chosen[name], done[name, settings.seed] = recipes[best], trials[best]
    rows: list[Row] = []
    runs: dict[str, Path | None] = {}
    for seed in range(settings.seed, settings.seed + seeds):
        digital, linear = (
            baseline(task, epochs=settings.epochs, batch_size=settings.batch_size, seed=seed)
            for baseline in (partial(digital_baseline, parameters=size), linear_baseline)
        )
        for name, recipe in chosen.items():
            training, run = done.get((name, seed)) or trained(name, recipe, seed)
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
            runs.setdefault(name, run)
    first_runs = {name: run for name, run in reversed(runs.items()) if run}
    return Compared(tuple(rows), first_runs, chosen)


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
