"""`fit`: a generator of records. It plots nothing and writes nothing; who iterates drives."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from pnnlab.errors import RangeError, RunError, ShapeError, TrainingError
from pnnlab.gradients import Response
from pnnlab.layers import PhysicalLayer, on_device, on_twin, physical_layers, range_penalty

EVALUATION_BATCH = 500


class Examples(Protocol):
    """Inputs with their classes, as `pnnlab.tasks.Split` holds them."""

    @property
    def x(self) -> Tensor:
        """Inputs, (n, features), in [0, 1]."""

    @property
    def labels(self) -> Tensor:
        """Classes, (n,), int64."""


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """How to train. Every number here belongs to the record of a run.

    Parameters
    ----------
    epochs : int
    batch_size : int
        What does not fill a batch is left out of an epoch; each epoch shuffles anew.
    learning_rate : float
        Peak of Adam's rate; it falls to zero along a cosine over the run.
    warmup : float
        Fraction of the steps in which the rate rises linearly from zero.
    penalty : float
        Weight of the soft range penalty.
    evaluations : int
        Evaluations on the validation split, spread evenly; the last is at the last step.
    seed : int
        Of the order of the examples.
    """

    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 0.01
    warmup: float = 0.02
    penalty: float = 1.0
    evaluations: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "evaluations"):
            if getattr(self, name) < 1:
                raise RangeError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        for name in ("learning_rate", "penalty"):
            if not 0 <= getattr(self, name) < math.inf:
                raise RangeError(f"{name} is {getattr(self, name)}; it must be a number >= 0.")
        if not 0 <= self.warmup <= 1:
            raise RangeError(f"warmup is {self.warmup}; it is a fraction of the steps, 0 to 1.")

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of ``step`` (from 0) of ``steps``."""
        warmup = self.warmup * steps
        rising = (step + 1) / warmup if step + 1 < warmup else 1.0
        return self.learning_rate * rising * 0.5 * (1 + math.cos(math.pi * step / steps))


@dataclass(frozen=True, kw_only=True)
class Record:
    """What one training step showed.

    The fields from ``device_accuracy`` on are None in steps without an evaluation; those of the
    twin also where there is none. A network without physical layers runs on the computer itself,
    and its accuracy is the ``device_accuracy``.

    Attributes
    ----------
    step, steps : int
        Steps done, this one included, and steps of the whole run.
    loss, batch_accuracy : float
        Cross-entropy with range penalty, and accuracy, of this batch.
    clamped : tuple of float
        Fraction of clamped inputs, by physical layer.
    device_passes : int
        Shots taken by all systems of the network since the run began, evaluations included.
    seconds, seconds_left, steps_per_second : float
        Wall time spent in steps so far, and what it promises.
    learning_rate : float
        Adam's, of this step; NaN in journals from before it was kept.
    gap : tuple of float
        By physical layer, mean squared difference of device and twin at the device's inputs,
        relative to the variance of the device's output.
    """

    step: int
    steps: int
    epoch: int
    loss: float
    batch_accuracy: float
    clamped: tuple[float, ...]
    device_passes: int
    seconds: float
    seconds_left: float
    steps_per_second: float
    learning_rate: float = math.nan
    device_accuracy: float | None = None
    device_loss: float | None = None
    twin_accuracy: float | None = None
    twin_loss: float | None = None
    gap: tuple[float, ...] | None = None


class Training:
    """Everything that changes while a network is fitted, and how to put it away and back.

    Parameters
    ----------
    network : nn.Module
        Gives logits, (batch, classes). May hold any number of physical layers.
    train, validation : Examples
        What to learn from, and what the records are evaluated on. Never the test split.
    settings : FitSettings

    Attributes
    ----------
    rate_scale : float
        Multiplies the learning rate of the settings; see `scale_rate`.
    notes : list of (int, str)
        What a person should know later, with the step after which it happened. A run writes it
        into its journal.
    """

    def __init__(
        self,
        network: nn.Module,
        train: Examples,
        validation: Examples,
        settings: FitSettings,
    ) -> None:
        if len(train.x) == 0 or len(validation.x) == 0:
            raise ShapeError("training and validation both need at least one example.")
        self.network = network
        self.train = train
        self.validation = validation
        self.settings = settings
        self.optimizer = torch.optim.Adam(
            [p for p in network.parameters() if p.requires_grad], lr=settings.learning_rate
        )
        self.systems = tuple({id(la.system): la.system for la in physical_layers(network)}.values())
        self.passes_before = self._passes()
        self.step = 0
        self.seconds = 0.0
        self.rate_scale = 1.0
        self.notes: list[tuple[int, str]] = []

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return self.settings.epochs * self._steps_per_epoch

    @property
    def device_passes(self) -> int:
        """Shots taken since this training was made or first began, if it was restored."""
        return self._passes() - self.passes_before

    @property
    def _steps_per_epoch(self) -> int:
        return max(1, len(self.train.x) // self.settings.batch_size)

    def _passes(self) -> int:
        return sum(system.passes for system in self.systems)

    def state(self) -> dict[str, Any]:
        """Weights, optimizer, random numbers, systems and step: all that a resumed run needs.

        Only tensors and plain containers, so that it can be loaded without executing code. The
        tensors are those that training goes on to change: save or copy them before the next step.
        """
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "systems": [dict(system.state()) for system in self.systems],
            "random": torch.get_rng_state(),
            "step": self.step,
            "steps": self.steps,
            "seconds": self.seconds,
            "device_passes": self.device_passes,
            "rate_scale": self.rate_scale,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a `state`.

        Raises
        ------
        RunError
            The state is that of another network, of other systems or of a run of other length.
        """
        if state["steps"] != self.steps:
            raise RunError(
                f"this checkpoint is of a run of {state['steps']} steps, and these settings give "
                f"{self.steps}: resume with the same epochs, batch size and data."
            )
        if len(state["systems"]) != len(self.systems):
            raise RunError(
                f"this checkpoint holds {len(state['systems'])} systems and this network "
                f"{len(self.systems)}: build the network that the run began with."
            )
        try:
            self.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise RunError(f"this checkpoint is of another network: {error}") from error
        for system, saved in zip(self.systems, state["systems"], strict=True):
            system.restore(saved)
        torch.set_rng_state(state["random"])
        self.step = state["step"]
        self.seconds = state["seconds"]
        self.passes_before = self._passes() - state["device_passes"]
        self.rate_scale = state.get("rate_scale", 1.0)  # older checkpoints know of none

    def note(self, message: str) -> None:
        """Keep something that a person should know later."""
        self.notes.append((self.step, message))

    def scale_rate(self, factor: float) -> None:
        """Multiply the learning rate of all steps to come, on top of earlier changes.

        Raises
        ------
        RangeError
            ``factor`` is not a finite number above 0, or brings the rate out of all numbers.
        """
        if not (0 < factor < math.inf and 0 < self.rate_scale * factor < math.inf):
            raise RangeError(
                f"the learning rate cannot be multiplied by {factor}: give a finite number above "
                "0, such as 0.5; to hold the weights still, pause."
            )
        self.rate_scale *= factor
        self.note(
            f"learning rate × {factor:g}: {self.rate_scale:g} times that of the settings from "
            f"step {self.step + 1} on"
        )

    def batch(self) -> Tensor:
        """Indices of this step's examples: each epoch in a new order, set by the seed alone."""
        epoch, number = divmod(self.step, self._steps_per_epoch)
        generator = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + epoch)
        order = torch.randperm(len(self.train.x), generator=generator)
        size = self.settings.batch_size
        return order[number * size : (number + 1) * size]

    def advance(self) -> Record:
        """Take one step, evaluate if it is time to, and say what happened.

        Raises
        ------
        TrainingError
            The loss is not finite. The weights are still those of the step before.
        """
        began = time.perf_counter()
        settings, network = self.settings, self.network
        chosen = self.batch()
        x, labels = self.train.x[chosen], self.train.labels[chosen]
        rate = self.rate_scale * settings.rate(self.step, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        network.train()
        self.optimizer.zero_grad()
        logits = network(x)
        loss = functional.cross_entropy(logits, labels) + settings.penalty * range_penalty(network)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss of step {self.step + 1} is {value}; the weights are those of the step "
                f"before. Lower the learning rate ({rate:g} now) and begin anew, or look at what "
                "the device returned."
            )
        loss.backward()
        self.optimizer.step()
        clamped = tuple(layer.clamped for layer in physical_layers(network))
        batch_accuracy = float((logits.argmax(1) == labels).float().mean())
        self.step += 1

        due = self._evaluation_due()
        evaluation = evaluate(network, self.validation) if due else Evaluation()
        self.seconds += time.perf_counter() - began
        speed = self.step / self.seconds
        return Record(
            step=self.step,
            steps=self.steps,
            epoch=(self.step - 1) // self._steps_per_epoch + 1,
            loss=value,
            batch_accuracy=batch_accuracy,
            clamped=clamped,
            device_passes=self.device_passes,
            seconds=self.seconds,
            seconds_left=(self.steps - self.step) / speed,
            steps_per_second=speed,
            learning_rate=rate,
            device_accuracy=evaluation.device_accuracy,
            device_loss=evaluation.device_loss,
            twin_accuracy=evaluation.twin_accuracy,
            twin_loss=evaluation.twin_loss,
            gap=evaluation.gap,
        )

    def _evaluation_due(self) -> bool:
        count = min(self.settings.evaluations, self.steps)
        return self.step * count // self.steps > (self.step - 1) * count // self.steps


def fit(training: Training) -> Iterator[Record]:
    """Train to the end, one record a step.

    Whoever iterates drives: between two records the training can be looked at, saved or left.
    Iterating again goes on where it stopped.
    """
    while training.step < training.steps:
        yield training.advance()


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Accuracy and loss of a network on its devices and on their twins; None where not had."""

    device_accuracy: float | None = None
    device_loss: float | None = None
    twin_accuracy: float | None = None
    twin_loss: float | None = None
    gap: tuple[float, ...] | None = None


def accuracy(network: nn.Module, examples: Examples) -> tuple[float, float]:
    """Fraction of right answers and mean cross-entropy, with the layers as they stand."""
    right, loss = 0, 0.0
    was_training = network.training
    network.eval()
    with torch.no_grad():
        for x, labels in _batches(examples):
            logits = network(x)
            right += int((logits.argmax(1) == labels).sum())
            loss += float(functional.cross_entropy(logits, labels, reduction="sum"))
    network.train(was_training)
    return right / len(examples.x), loss / len(examples.x)


def evaluate(network: nn.Module, examples: Examples) -> Evaluation:
    """Run ``examples`` through the devices and, where every layer has one, through the twins.

    The gap of each layer is taken at the inputs that its device really saw.
    """
    layers = physical_layers(network)
    squares = torch.zeros(len(layers), 3, dtype=torch.float64)
    hooks = [
        layer.register_forward_hook(_gap_hook(squares[number]))
        for number, layer in enumerate(layers)
        if layer.twin is not None
    ]
    try:
        with on_device(network):
            device_accuracy, device_loss = accuracy(network, examples)
    finally:
        for hook in hooks:
            hook.remove()
    if not layers or any(layer.twin is None for layer in layers):
        return Evaluation(device_accuracy=device_accuracy, device_loss=device_loss)
    with on_twin(network):
        twin_accuracy, twin_loss = accuracy(network, examples)
    return Evaluation(
        device_accuracy=device_accuracy,
        device_loss=device_loss,
        twin_accuracy=twin_accuracy,
        twin_loss=twin_loss,
        gap=tuple((squares[:, 0] / squares[:, 1]).tolist()),
    )


def _gap_hook(sums: Tensor) -> Any:
    """Add up, over the batches, the squared gap and the output's variance."""

    def compare(layer: PhysicalLayer, inputs: tuple[Tensor], measured: Tensor) -> None:
        assert layer.twin is not None
        twin: Response = layer.twin
        modelled = twin(layer.drive(inputs[0]), layer.theta.clamp(0, 1))
        sums[0] += (measured - modelled).square().sum()
        sums[1] += (measured - measured.mean(0)).square().sum()

    return compare


def _batches(examples: Examples) -> Iterator[tuple[Tensor, Tensor]]:
    for start in range(0, len(examples.x), EVALUATION_BATCH):
        rows = slice(start, start + EVALUATION_BATCH)
        yield examples.x[rows], examples.labels[rows]
