"""Honest comparisons: every physical result beside its baselines and its cost."""

import copy
import math

import torch
from torch import nn

from pnnlab.errors import RangeError
from pnnlab.layers import calibrate, on_device, on_twin, physical_layers
from pnnlab.summary import Row
from pnnlab.tasks import Task
from pnnlab.training import FitSettings, Training, accuracy, fit

CALIBRATION_INPUTS = 1000


def calibration_inputs(task: Task) -> torch.Tensor:
    """Training inputs on which every network is calibrated, before training and after."""
    return task.train.x[:CALIBRATION_INPUTS]


def mlp(features: int, classes: int, parameters: int, *, seed: int = 0) -> nn.Sequential:
    """Digital network with one hidden layer and at most this many parameters.

    Raises
    ------
    RangeError
        Not even one hidden unit can be had.
    """
    hidden = (parameters - classes) // (features + classes + 1)
    if hidden < 1:
        raise RangeError(
            f"{parameters} parameters are too few for a hidden unit between {features} inputs and "
            f"{classes} classes; compare with a linear classifier instead."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, classes))


def digital_baseline(
    task: Task,
    parameters: int,
    *,
    epochs: int,
    batch_size: int = 64,
    seed: int = 0,
    rates: tuple[float, ...] = (0.003, 0.01),
) -> float:
    """Test accuracy of an `mlp` with as many parameters, trained by the same loop.

    It gets what the physical network gets: the same examples in batches of the same size, as many
    epochs, and a learning rate chosen on the validation split.
    """
    best = (-math.inf, math.nan)
    for rate in rates:
        network = mlp(task.train.x.shape[1], task.classes, parameters, seed=seed)
        settings = FitSettings(
            epochs=epochs, batch_size=batch_size, learning_rate=rate, evaluations=1, seed=seed
        )
        for _ in fit(Training(network, task.train, task.validation, settings)):
            pass
        validated, _ = accuracy(network, task.validation)
        best = max(best, (validated, accuracy(network, task.test)[0]))
    return best[1]


def result_row(
    training: Training,
    task: Task,
    *,
    system: str,
    method: str,
    twin: str | None,
    digital_baseline: float | None = None,
) -> Row:
    """Look at the test split, once, and write down the result with all that stands beside it.

    Parameters
    ----------
    training : Training
        Finished. Its network is left as it is.
    system, method, twin : str
        Names for the results table.
    digital_baseline : float or None
        Test accuracy of a digital network with as many parameters.

    Notes
    -----
    ``device_passes`` counts training with its evaluations, not this test.
    """
    network = training.network
    layers = physical_layers(network)
    passes = training.device_passes
    with on_device(network):
        on_the_device, _ = accuracy(network, task.test)
    on_its_twin = recalibrated = None
    if layers and all(layer.twin is not None for layer in layers):
        with on_twin(network):
            on_its_twin, _ = accuracy(network, task.test)
    if method == "in silico":
        # A copy, but of the very same devices: their state goes on, nothing is rewound.
        memo = {id(layer.system): layer.system for layer in layers}
        other = copy.deepcopy(network, memo)
        with on_device(other):
            calibrate(other, calibration_inputs(task))
            recalibrated, _ = accuracy(other, task.test)
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
        accuracy_on_twin=on_its_twin,
        recalibrated_accuracy=recalibrated,
        digital_baseline=digital_baseline,
        chance=task.chance,
        device_passes=passes,
        seconds=round(training.seconds, 1),
    )
