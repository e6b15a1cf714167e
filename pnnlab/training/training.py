"""`Training`: the loop that trains a network, one record a step. It plots and writes nothing."""

import math
import time
from collections.abc import Callable, Iterator
from copy import copy
from typing import Any, TypeAlias, final

import torch
from torch import Tensor, nn

from pnnlab.errors import RangeError, RunError, TrainingError
from pnnlab.layers import physical_layers, range_penalty
from pnnlab.physical_system import still_outputs
from pnnlab.plain import plain, real, seeded
from pnnlab.training.evaluation import Evaluation, evaluate
from pnnlab.training.examples import Data, checked
from pnnlab.training.objectives import CLASSIFICATION, REGRESSION, Objective
from pnnlab.training.records import Record
from pnnlab.training.settings import FitSettings

MakeOptimizer: TypeAlias = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


@final
class Training:
    """Everything that changes while a network is trained, and how to put it away and back.

    Parameters
    ----------
    network : nn.Module
        May hold any number of physical layers.
    task : Task
        Its train split is learned, the records are evaluated on its validation split.
    settings : FitSettings
    objective : Objective, optional
        By default classification where the targets are integers, regression where they are
        floating point.
    optimizer : callable
        Makes the optimizer of the trainable parameters, such as ``torch.optim.AdamW`` or
        ``functools.partial(torch.optim.SGD, momentum=0.9)``. Its learning rate is set at every
        step.

    Raises
    ------
    ShapeError, RangeError
        The network cannot be trained on these examples; nothing was driven.

    Attributes
    ----------
    rate_scale : float
        Multiplies the learning rate of the settings; see `scale_rate`.
    latest : Record or None
        Of the last step taken since it was made.
    notes : list of (int, str)
        What a person should know later, with the step after which it happened. A run writes it
        into its journal.

    """

    def __init__(
        self,
        network: nn.Module,
        task: Data,
        settings: FitSettings | None = None,
        *,
        objective: Objective | None = None,
        optimizer: MakeOptimizer = torch.optim.Adam,
    ) -> None:
        self.network = network
        self.settings = settings or FitSettings()
        self.train, self.validation = checked(network, task, self.settings.batch_size)
        values = self.train.targets.is_floating_point()
        self.objective = objective or (REGRESSION if values else CLASSIFICATION)
        self.optimizer = optimizer([p for p in network.parameters() if p.requires_grad])
        self.systems = tuple({id(la.system): la.system for la in physical_layers(network)}.values())
        self.passes_before = self._passes()
        self.step = 0
        self.seconds = 0.0
        self.rate_scale = 1.0
        self.latest: Record | None = None
        self.notes: list[tuple[int, str]] = []
        self._still: dict[int, frozenset[int]] = {}  # noted already, by layer

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
            "systems": [plain(dict(system.state())) for system in self.systems],
            "random": torch.get_rng_state(),
            "step": self.step,
            "steps": self.steps,
            "seconds": self.seconds,
            "device_passes": self.device_passes,
            "rate_scale": real("rate_scale", self.rate_scale),
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
        self.rate_scale = state["rate_scale"]

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
        """Train to the end, one record a step.

        Whoever iterates drives: between two records the training can be looked at, saved or left.
        Iterating again goes on where it stopped. A step that an exception cuts short is undone;
        shots of a real device stay taken.
        """
        while self.step < self.steps:
            before = _copied(self.state())
            try:
                record = self.advance()
            except BaseException:
                self.restore(before)
                raise
            self.latest = record
            yield record

    def batch(self) -> Tensor:
        """Indices of this step's examples: each epoch in a new order, set by the seed alone."""
        epoch, number = divmod(self.step, self._steps_per_epoch)
        generator = seeded(self.settings.seed * 1_000_003 + epoch)
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
        x, targets = self.train.x[chosen], self.train.targets[chosen]
        rate = real("learning rate", self.rate_scale * settings.rate(self.step, self.steps))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        network.train()
        self.optimizer.zero_grad()
        outputs = network(x)
        loss = self.objective.loss(outputs, targets) + settings.penalty * range_penalty(network)
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
        batch_metric = float(self.objective.metric(outputs.detach(), targets))
        self.step += 1
        self._note_still()

        due = self._evaluation_due()
        evaluation = evaluate(network, self.validation, self.objective) if due else Evaluation()
        self.seconds += time.perf_counter() - began
        speed = self.step / self.seconds
        return Record(
            step=self.step,
            steps=self.steps,
            epoch=(self.step - 1) // self._steps_per_epoch + 1,
            loss=value,
            batch_metric=batch_metric,
            clamped=clamped,
            device_passes=self.device_passes,
            seconds=self.seconds,
            seconds_left=(self.steps - self.step) / speed,
            steps_per_second=speed,
            learning_rate=rate,
            **{name: value for name, value in vars(evaluation).items() if name != "labels"},
        )

    def _note_still(self) -> None:
        for number, layer in enumerate(physical_layers(self.network), start=1):
            if new := sorted(layer.still - self._still.get(number, frozenset())):
                self.note(f"layer {number}, {layer.system.name}: {still_outputs(new)}")
                self._still[number] = layer.still

    def _evaluation_due(self) -> bool:
        count = min(self.settings.evaluations, self.steps)
        return self.step * count // self.steps > (self.step - 1) * count // self.steps


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
