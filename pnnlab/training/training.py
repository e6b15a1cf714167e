"""`Training`: the loop that trains a network, one record a step; `History` keeps them in bounds.

It plots and writes nothing.
"""

import math
import time
import warnings
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias, TypedDict, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pnnlab.errors import PnnlabError, RangeError, RunError, ShapeError, TrainingError
from pnnlab.layers import fixed_statistics, physical_layers, place_of, undriven
from pnnlab.physical_system import still_outputs
from pnnlab.plain import make_plain, plain, random_state, real, seeded, whole
from pnnlab.tasks.task import Split, Task, check_targets, check_width
from pnnlab.training.cost import passes_so_far, systems_of
from pnnlab.training.evaluation import (
    Objective,
    Scores,
    default_objective,
    evaluate,
    left_as_it_was,
)
from pnnlab.training.methods import Backpropagation, MakeMethod

Floats: TypeAlias = NDArray[np.float64]
MakeOptimizer: TypeAlias = Callable[[list[nn.Parameter]], torch.optim.Optimizer]

BINS = 1024  # points kept of a curve, however long the run; even
EVALUATIONS = 1000  # evaluations kept; even


class Options(TypedDict, total=False):
    """What `pnnlab.train` and `pnnlab.watch` hand on to `Training` as it is."""

    epochs: int | None
    seed: int | None
    objective: Objective | None
    optimizer: MakeOptimizer
    method: MakeMethod


@dataclass(frozen=True, kw_only=True)
class Record(Scores):
    """One training step, with the scores on the validation split if it was evaluated."""

    step: int  # steps done, this one included
    steps: int  # of the whole run
    epoch: int
    loss: float  # of the batch, with range penalty
    batch_metric: float  # before the step
    clamped: tuple[float, ...]  # fraction of clamped inputs
    device_passes: int  # shots taken since the run began, evaluations included
    seconds: float  # wall time spent in steps
    seconds_left: float  # wall time to the end, at the speed so far
    steps_per_second: float  # mean since the run began
    learning_rate: float  # of this step


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """How to train. Every number here belongs to the record of a run.

    Examples that do not fill a batch are left out of an epoch, and each epoch shuffles anew, by the
    ``seed``. The rate rises linearly to ``learning_rate`` in the fraction ``warmup`` of the steps,
    and falls to zero along a cosine. The soft range penalty has the weight ``penalty``. The
    ``evaluations`` on the validation split are spread evenly, the last at the last step.
    """

    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 0.01
    warmup: float = 0.02
    penalty: float = 1.0
    evaluations: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        make_plain(self)
        for name in ("epochs", "batch_size", "evaluations"):
            whole(name, getattr(self, name), 1)
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


@final
class Training:
    """A network in training: weights, optimizer, devices, random numbers and step.

    Parameters
    ----------
    network : nn.Module
        May hold any number of physical layers. It is changed in place.
    task : Task
        Its train split is learned, the records are evaluated on its validation split.
    epochs, seed : int, optional
        In place of those of the settings.
    objective : Objective, optional
        By default classification of integer targets, regression of floating-point ones.
    optimizer : callable
        Makes the optimizer of the trainable parameters, such as
        ``functools.partial(torch.optim.SGD, momentum=0.9)``. Its rate is set at every step.
    method : callable
        Makes the training method; see `pnnlab.training.methods`.

    Raises
    ------
    ShapeError, RangeError
        The network cannot be trained on these examples; nothing was driven.

    Warns
    -----
    RuntimeWarning
        A twin was never fitted, or its fit or report failed; see `twin_faults`.
    """

    def __init__(
        self,
        network: nn.Module,
        task: Task,
        settings: FitSettings | None = None,
        *,
        epochs: int | None = None,
        seed: int | None = None,
        objective: Objective | None = None,
        optimizer: MakeOptimizer = torch.optim.Adam,
        method: MakeMethod = Backpropagation,
    ) -> None:
        given = {"epochs": epochs, "seed": seed}
        changed = {name: value for name, value in given.items() if value is not None}
        self.network = network
        self.settings = replace(settings or FitSettings(), **changed)
        self.train, self.validation = _checked(network, task, self.settings.batch_size)
        self.objective = objective or default_objective(self.train)
        self.optimizer = optimizer([p for p in network.parameters() if p.requires_grad])
        self.systems = systems_of(network)
        self.passes_before = passes_so_far(network)
        self.step = 0
        self.seconds = 0.0
        self.rate_scale = 1.0  # multiplies the learning rate of the settings; see `scale_rate`
        self.latest: Record | None = None  # of the last step taken since this was made
        self.notes: list[tuple[int, str]] = []  # for the journal of a run: step and message
        self._noted: tuple[str, ...] = ()  # faults of twins
        self._still: dict[int, frozenset[int]] = {}  # noted outputs, by layer
        self._order = -1, torch.empty(0)  # an epoch, and the order of its examples
        self.method = method(self)
        for fault in self.twin_faults:
            warnings.warn(fault, RuntimeWarning, stacklevel=2)

    @property
    def steps(self) -> int:
        return self.settings.epochs * self._steps_per_epoch

    @property
    def twin_faults(self) -> tuple[str, ...]:
        """What is wrong with twins: never fitted, or their fit or last report failed."""
        return tuple(
            f"the twin of layer {number} is not good: {fault}"
            for number, layer in enumerate(physical_layers(self.network), start=1)
            if (fault := getattr(layer.twin, "fault", "") or getattr(layer.twin, "reported", ""))
        )

    @property
    def device_passes(self) -> int:
        """Shots taken since this training was made or first began, if it was restored."""
        return passes_so_far(self.network) - self.passes_before

    @property
    def _steps_per_epoch(self) -> int:
        return max(1, len(self.train.x) // self.settings.batch_size)

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs, in plain containers; save or copy it before a next step."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "systems": [plain(dict(system.state())) for system in self.systems],
            "step": self.step,
            "steps": self.steps,
            "seconds": self.seconds,
            "device_passes": self.device_passes,
            "rate_scale": real("rate_scale", self.rate_scale),
            "method": self.method.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a `state` of the same network, systems and number of steps."""
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
        self.step = state["step"]
        self.seconds = state["seconds"]
        self.passes_before = passes_so_far(self.network) - state["device_passes"]
        self.rate_scale = state["rate_scale"]
        self.method.restore(state["method"])

    def note(self, message: str) -> None:
        """Keep a message for the journal of a run."""
        self.notes.append((self.step, message))

    def scale_rate(self, factor: float) -> None:
        """Multiply the learning rate of all steps to come, on top of earlier changes."""
        factor = real("the factor of the learning rate", factor)
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

    def records(self) -> Iterator[Record]:
        """Train to the end, one record a step; iterating again goes on where it stopped.

        Between two records the training can be inspected, saved or left. A step that an exception
        cuts short is undone; shots of a real device stay taken.
        """
        while self.step < self.steps:
            before, passes = _copied(self.state()), [one.passes for one in self.systems]
            try:
                # What a step draws, such as the noise of a twin, is set by seed and step alone.
                with random_state(self._seed(self.step), place_of(self.network)):
                    record = self.advance()
            except BaseException:
                self.restore(before)
                # What has no state to go back to has taken these shots.
                self.passes_before -= sum(
                    system.passes - earlier
                    for system, earlier, kept in zip(
                        self.systems, passes, before["systems"], strict=True
                    )
                    if not kept
                )
                raise
            self.latest = record
            yield record

    def batch(self) -> Tensor:
        """Indices of this step's examples: each epoch in a new order, set by the seed alone."""
        epoch, number = divmod(self.step, self._steps_per_epoch)
        if self._order[0] != epoch:  # of a million examples this can take longer than the step
            generator = seeded(self._seed(epoch))
            self._order = epoch, torch.randperm(len(self.train.x), generator=generator)
        size = self.settings.batch_size
        return self._order[1][number * size : (number + 1) * size]

    def _seed(self, number: int) -> int:
        return (self.settings.seed * 1_000_003 + number) % 2**64

    def advance(self) -> Record:
        """Take one step, and evaluate if it is due; a loss that is not finite changes no weight."""
        began = time.perf_counter()
        settings, network = self.settings, self.network
        chosen = self.batch()
        place = place_of(network)
        x, targets = self.train.x[chosen].to(place), self.train.targets[chosen].to(place)
        rate = real("learning rate", self.rate_scale * settings.rate(self.step, self.steps))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        network.train()
        self.optimizer.zero_grad()
        loss, outputs = self.method.update(x, targets)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss of step {self.step + 1} is {value}; the weights are those of the step "
                f"before. Lower the learning rate ({rate:g} now) and begin again, or look at what "
                "the device returned."
            )
        slopes = [p.grad.sum() for p in network.parameters() if p.grad is not None]
        if slopes and not bool(torch.stack(slopes).isfinite().all()):
            raise TrainingError(
                f"the gradient of step {self.step + 1} is not finite, and the loss is {value:g}; "
                "the weights are those of the step before. A twin divides by zero somewhere, as "
                "the slope of a square root does at 0: keep its arguments above 0."
            )
        self.optimizer.step()
        clamped = tuple(layer.clamped for layer in physical_layers(network))
        batch_metric = float(self.objective.metric(outputs.detach(), targets))
        self.step += 1
        self._note_problems()
        count = min(settings.evaluations, self.steps)
        due = self.step * count // self.steps > (self.step - 1) * count // self.steps
        scores = dict(vars(evaluate(network, self.validation, self.objective))) if due else {}
        scores.pop("labels", None)
        self.seconds += time.perf_counter() - began
        return Record(
            step=self.step,
            steps=self.steps,
            epoch=(self.step - 1) // self._steps_per_epoch + 1,
            loss=value,
            batch_metric=batch_metric,
            clamped=clamped,
            device_passes=self.device_passes,
            seconds=self.seconds,
            seconds_left=(self.steps - self.step) * self.seconds / self.step,
            steps_per_second=self.step / self.seconds,
            learning_rate=rate,
            **scores,
        )

    def _note_problems(self) -> None:
        found, self._noted = self._noted, self.twin_faults
        for fault in self._noted:
            if fault not in found:
                self.note(fault)
        for number, layer in enumerate(physical_layers(self.network), start=1):
            if new := sorted(layer.still - self._still.get(number, frozenset())):
                self.note(f"layer {number}, {layer.system.name}: {still_outputs(new)}")
                self._still[number] = layer.still


def _copied(state: Any) -> Any:
    """A copy that further training does not change; `copy.deepcopy` takes ten times as long."""
    if isinstance(state, Tensor):
        return state.clone()
    if isinstance(state, dict):
        copied = copy(state)  # not a new dict: a state_dict carries versions as an attribute
        for key, value in state.items():
            copied[key] = _copied(value)
        return copied
    if type(state) in (list, tuple):
        return type(state)(map(_copied, state))
    return state


def _checked(network: nn.Module, task: Task, batch_size: int) -> tuple[Split, Split]:
    """Both splits of a task, if ``network`` can be trained on them; nothing is driven."""
    first, second = (Split(given.x, given.targets) for given in (task.train, task.validation))
    if not len(first) or not len(second):
        raise ShapeError("training and validation both need at least one example.")
    check_width("validation", second, first.x.shape[1])
    count = _output_count(network, first.x[: min(batch_size, 2)])
    check_targets("training", first, count)
    check_targets("validation", second, count)
    if not first.targets.is_floating_point():
        missing = set(second.targets.tolist()) - set(first.targets.tolist())
        if missing:
            raise RangeError(
                "the validation split shows classes that the training split does not: "
                f"{sorted(missing)}. Shuffle the examples before you divide them."
            )
    return first, second


def _output_count(network: nn.Module, x: Tensor) -> int:
    try:
        with (
            undriven(network),
            left_as_it_was(network),
            fixed_statistics(network),
            random_state(place=place_of(network)),
        ):
            outputs = network.train()(x.to(place_of(network)))
    except PnnlabError:
        raise
    except (RuntimeError, ValueError) as error:
        raise ShapeError(
            f"the network cannot be trained on examples of {x.shape[1]} features, {x.dtype}, "
            f"{len(x)} or more at a time: {error}"
            + (". Give a batch_size of 2 or more, and as many examples." if len(x) == 1 else "")
        ) from error
    if not isinstance(outputs, Tensor) or outputs.ndim != 2 or len(outputs) != len(x):
        raise ShapeError(
            f"the network gives {tuple(getattr(outputs, 'shape', ()))} for {len(x)} examples; let "
            "it give a row of logits or values for each example."
        )
    return outputs.shape[1]


class Curves(NamedTuple):
    """Means over bins of steps: ``clamped`` is (bins, layers), the others (bins,)."""

    step: Floats
    loss: Floats
    batch_metric: Floats
    clamped: Floats


class History:
    """The records of a run in bounded memory: at most `BINS` points and `EVALUATIONS` evaluations.

    When the curves are full, neighbouring bins are merged; the older half of too many evaluations
    is thinned.
    """

    def __init__(self) -> None:
        self.latest: Record | None = None
        self.evaluations: list[Record] = []
        self._bins: list[Floats] = []  # complete but the last
        self._width = 1  # steps in a complete bin
        self._inside = 1  # steps in the last bin

    def add(self, record: Record) -> None:
        row = np.array((record.step, record.loss, record.batch_metric, *record.clamped))
        if self._bins and self._inside < self._width:
            self._inside += 1
            self._bins[-1] += (row - self._bins[-1]) / self._inside
        else:
            if len(self._bins) == BINS:
                self._bins = [
                    (a + b) / 2 for a, b in zip(self._bins[::2], self._bins[1::2], strict=True)
                ]
                self._width *= 2
            self._bins.append(row)
            self._inside = 1
        if record.device_metric is not None:
            self.evaluations.append(record)
            if len(self.evaluations) > EVALUATIONS:
                del self.evaluations[1 : EVALUATIONS // 2 : 2]
        self.latest = record

    def curves(self) -> Curves:
        """Copy the curves; a bin that is still being filled is their last point."""
        rows = np.array(self._bins).reshape(len(self._bins), -1 if self._bins else 3)
        return Curves(rows[:, 0], rows[:, 1], rows[:, 2], rows[:, 3:])
