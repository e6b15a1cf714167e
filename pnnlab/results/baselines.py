"""Comparisons: every physical result beside its baselines and its cost."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import final

import torch
from torch import nn

from pnnlab.errors import RangeError
from pnnlab.gradients import GradientRule, ideal, in_silico, physics_aware
from pnnlab.layers import calibrate, on_device, on_twin, parameter_count, physical_layers
from pnnlab.plain import seeded, whole
from pnnlab.provenance import commit
from pnnlab.results.rows import Row
from pnnlab.results.tables import results_table
from pnnlab.runs import Run, read_run, run_folder, train
from pnnlab.tasks import Task
from pnnlab.training import FitSettings, Training, accuracy, scores

CALIBRATION_INPUTS = 1000
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
    task: Task,
    parameters: int,
    *,
    epochs: int,
    batch_size: int = 64,
    seed: int = 0,
    rates: Sequence[float] = (0.003, 0.01),
) -> float:
    """Test accuracy of an `mlp` with at most as many parameters, by `digital_accuracy`.

    One call serves every row of a task and size.
    """
    make = partial(mlp, task.train.x.shape[1], task.classes, parameters)
    return digital_accuracy(
        make, task, epochs=epochs, rates=rates, batch_size=batch_size, seed=seed
    )


def linear_baseline(
    task: Task,
    *,
    epochs: int,
    batch_size: int = 64,
    seed: int = 0,
    rates: Sequence[float] = (0.003, 0.01, 0.03, 0.1),
) -> float:
    """Test accuracy of a linear digital classifier, by `digital_accuracy`.

    One call serves every row of a task.
    """
    make = partial(nn.Linear, task.train.x.shape[1], task.classes)
    return digital_accuracy(
        make, task, epochs=epochs, rates=rates, batch_size=batch_size, seed=seed
    )


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

    It gets what the physical network gets: the same examples in batches of the same size, as many
    epochs (more where those would be fewer than `FEWEST_STEPS` steps), and a learning rate of
    ``rates`` chosen on the validation split. ``make`` is called for each rate; ``seed`` sets the
    weights that it draws.
    """
    size = min(whole("batch_size", batch_size, 1), len(task.train))
    epochs = max(epochs, math.ceil(FEWEST_STEPS / (len(task.train) // size)))
    trained: list[tuple[float, float, nn.Module]] = []
    for rate in rates:
        settings = FitSettings(
            epochs=epochs, batch_size=size, learning_rate=rate, evaluations=1, seed=seed
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seeded(seed).initial_seed())
            network = make()
        training = Training(network, task, settings)
        for _ in training.records():
            pass
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
    digital_baseline: float | None = None,
    linear_baseline: float | None = None,
    accuracy_without_physics: float | None = None,
    published: float | None = None,
    run: Run | Path | None = None,
) -> Row:
    """Measure a network on the test split, once, and give the result with its baselines.

    Parameters
    ----------
    training : Training
        Finished. Its network is left as it is.
    system, method, twin : str
        Names for the results table.
    digital_baseline, linear_baseline, accuracy_without_physics, published : float or None
        Fields of the `Row` that were measured or read elsewhere.
    run : Run, Path or None
        The run of ``training``, or its folder. The row then names the source revision with
        which that run began, which may be older than the present one.
    """
    network, passes = training.network, training.device_passes
    layers = physical_layers(network)
    unit = getattr(layers[0].system, "unit", None) if layers else None  # of simulated systems
    folder = run.folder if isinstance(run, Run) else run
    on_the_twin = recalibrated = None
    with on_device(network):
        on_the_device = accuracy(network, task.test)
    if layers and all(layer.twin is not None for layer in layers):
        with on_twin(network):
            on_the_twin = accuracy(network, task.test)
    if any(layer.rule is in_silico for layer in layers):
        other = copy.deepcopy(network)
        with on_device(other):
            calibrate(other, calibration_inputs(task))
            recalibrated = accuracy(other, task.test)
    return Row(
        system=system,
        task=task.name,
        method=method,
        twin=twin,
        layers=len(layers),
        seed=training.settings.seed,
        split="test",
        n_test=len(task.test),
        accuracy=on_the_device,
        accuracy_on_twin=on_the_twin,
        recalibrated_accuracy=recalibrated,
        digital_baseline=digital_baseline,
        linear_baseline=linear_baseline,
        accuracy_without_physics=accuracy_without_physics,
        published=published,
        chance=task.chance,
        parameters=parameter_count(network),
        device_passes=passes,
        seconds=round(training.seconds, 1),
        commit=read_run(folder).provenance.get("commit") if folder else commit(),
        unit=unit if isinstance(unit, int) else None,
    )


METHODS: Mapping[str, GradientRule] = MappingProxyType(
    {"PAT": physics_aware, "in silico": in_silico, "ideal": ideal}
)


@final
@dataclass(frozen=True, repr=False)
class Compared:
    """Trainings side by side; it shows itself as the results table."""

    rows: tuple[Row, ...]  # one a training

    def __repr__(self) -> str:
        return results_table(self.rows)

    _repr_markdown_ = __repr__


def compare(
    make: Callable[[GradientRule, int], nn.Module],
    task: Task,
    settings: FitSettings | None = None,
    *,
    methods: Mapping[str, GradientRule] = METHODS,
    seeds: int = 1,
    twin: str = "twin",
    folder: str | Path | None = None,
    progress: bool = True,
) -> Compared:
    """Train one network by several methods, beside the digital baselines.

    Each method gets the same settings, data and seeds. In silico is measured as trained and after
    its normalisation was measured again on the device. The digital baselines are a linear
    classifier and a network with at most as many parameters; see `digital_baseline`.

    Parameters
    ----------
    make : callable
        Makes a fresh network of a gradient rule and a seed, such as
        ``lambda rule, seed: deep_pnn(device, twin, rule, layers=3, classes=10, seed=seed)``.
    task : Task
        Each trained network is measured on the test split once.
    settings : FitSettings, optional
        Their seed is the first.
    methods : mapping of str to GradientRule
        By default PAT, in silico and ideal; leave out ideal for a device that is not simulated.
    seeds : int
        Trainings of each method.
    twin : str
        What the table calls the twin.
    folder : path, optional
        Where each training gets a run folder of its own, named after system, twin, method and
        seed; the same call then resumes what was interrupted. Units that share a name
        need folders of their own.
    progress : bool
        Show progress bars.

    Raises
    ------
    RangeError
        There is no method or no seed.
    RunError
        In the folder are runs of other trainings, or it cannot be written.
    """
    if not methods:
        raise RangeError("There is no method to compare; give methods, such as {'PAT': ...}.")
    settings, seeds = settings or FitSettings(), whole("seeds", seeds, 1)
    size = parameter_count(make(next(iter(methods.values())), settings.seed))
    epochs, batch, first = settings.epochs, settings.batch_size, settings.seed
    digital = digital_baseline(task, size, epochs=epochs, batch_size=batch, seed=first)
    linear = linear_baseline(task, epochs=epochs, batch_size=batch, seed=first)
    rows = []
    for seed in range(first, first + seeds):
        for name, rule in methods.items():
            network = make(rule, seed)
            calibrate(network, calibration_inputs(task))
            system = physical_layers(network)[0].system.name
            parameters = {"system": system, "twin": twin, "method": name, "seed": seed}
            training = train(
                network,
                task,
                settings,
                seed=seed,
                folder=folder,
                parameters=parameters,
                label=f"{name}, seed {seed}",
                progress=progress,
            )
            rows.append(
                result_row(
                    training,
                    task,
                    system=system,
                    method=name,
                    twin=None if rule is ideal else twin,
                    digital_baseline=digital,
                    linear_baseline=linear,
                    run=None if folder is None else run_folder(folder, parameters),
                )
            )
    return Compared(tuple(rows))
