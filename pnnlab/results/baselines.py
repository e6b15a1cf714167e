"""One result: a trained network on the test split, beside its digital baselines."""

import copy
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pnnlab.errors import RangeError
from pnnlab.gradients import ideal, physics_aware
from pnnlab.layers import (
    all_have_twins,
    calibrate,
    on_device,
    on_twin,
    parameter_count,
    physical_layers,
)
from pnnlab.plain import random_state, whole
from pnnlab.provenance import commit
from pnnlab.results.intervals import packed
from pnnlab.results.rows import Row
from pnnlab.runs import Run, read_run, train
from pnnlab.tasks import Task
from pnnlab.training import FitSettings, Training, accuracy, scores
from pnnlab.training.evaluation import outputs

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
        return outputs(network, task.test.x).argmax(1) == task.test.targets

    with on_device(network):
        correct = right(network)
    if all_have_twins(network):
        with on_twin(network):
            others["accuracy_on_twin"] = accuracy(network, task.test)
    if on_twin_alone(network):
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
        seconds=round(training.seconds, 1),
        commit=read_run(folder).provenance.get("commit") if folder else commit(),
        unit=unit if isinstance(unit, int) else None,
        **others,
    )


def on_twin_alone(network: nn.Module) -> bool:
    """Whether a training with these gradient rules never drives a device in its steps."""
    layers = physical_layers(network)
    return any(layer.rule not in (physics_aware, ideal) for layer in layers)
