r"""Training a controller on its plant: physics-aware training through time.

The plant is reset, and then commanded for a number of steps:

.. math:: u_t = c(s_t), \qquad s_{t+1} = f_p(s_t, u_t), \qquad
   L = \frac{1}{T} \sum_t \ell(s_{t+1}, u_t)

The states are those that the plant measures. Backward, the step of the plant is that of its twin at
the measured state, as the physical layers of the controller are their twins'; so with one step it
is physics-aware training. This is what DiffTune does with a simulated controller (S. Cheng et al.,
arXiv 2209.10021), and iterative feedback tuning without a model (H. Hjalmarsson et al., IEEE
Control Syst. 18, 26 (1998)).
"""

import copy
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias, final

import torch
from torch import Tensor, nn

from pnnlab.errors import RangeError
from pnnlab.gradients import Response, valued
from pnnlab.layers import range_penalty
from pnnlab.plain import whole
from pnnlab.plants import Plant
from pnnlab.tasks import Split, Task
from pnnlab.training.methods import Method

Cost: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Of states (rows, quantities) and the commands (rows, commands) before them, (rows,)."""


class Rollout(NamedTuple):
    """What happened from a reset on; a row that left its limits stays where it was then."""

    states: Tensor  # (steps + 1, rows, quantities), as measured
    commands: Tensor  # (steps, rows, commands)
    inside: Tensor  # (steps + 1, rows), bool


def roll_out(
    controller: nn.Module,
    plant: Plant,
    seeds: Sequence[int],
    steps: int,
    *,
    twin: Response | None = None,
    truncation: int | None = None,
    disturb: Callable[[int], None] | None = None,
) -> Rollout:
    """Let a controller command a plant for so many steps, from a start for each of ``seeds``.

    A plant that holds fewer rows is reset again for the next ones.

    Parameters
    ----------
    controller : nn.Module
        Takes states scaled by `Plant.scaled` and gives commands, which are clamped to the limit.
    twin : callable, optional
        Takes states and commands and gives next states: gradients are its own, values the plant's.
        Without one there are no gradients.
    truncation : int, optional
        Gradients go back through so many steps at most; by default through all.
    disturb : callable, optional
        Called before each step with its number, such as to push the plant.
    """
    steps, together = whole("steps", steps, 1), plant.most_rows or len(seeds)
    truncation = None if truncation is None else whole("truncation", truncation, 1)
    largest = plant.limits.command

    def measure(_: Tensor, command: Tensor) -> Tensor:
        return plant.step(command)

    advance = measure if twin is None else valued(measure, twin)

    def roll(seeds: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        state = plant.reset(seeds)
        states, commands, inside = [state], [], [plant.inside]
        for step in range(steps):
            if truncation and step % truncation == 0:
                state = state.detach()
            within = plant.inside[:, None]
            command = torch.zeros(len(state), len(plant.commands))
            if within.any():
                if disturb is not None:
                    disturb(step)
                given = controller(plant.scaled(state)).clamp(-largest, largest)
                command = torch.where(within, given, 0.0)
                state = torch.where(within, advance(state, command), state)
            states.append(state)
            commands.append(command)
            inside.append(plant.inside)
        return torch.stack(states), torch.stack(commands), torch.stack(inside)

    parts = [seeds[first : first + together] for first in range(0, len(seeds), max(together, 1))]
    try:
        with torch.no_grad() if twin is None else nullcontext():
            found = [roll(part) for part in parts or [seeds]]
    finally:
        plant.stop()
    return Rollout(*(torch.cat(of_all, 1) for of_all in zip(*found, strict=True)))


def starts(plant: Plant, count: int, law: Callable[[Tensor], Tensor]) -> Task:
    """Make a task of scaled starts of a plant: example n is the reset with seed n.

    The targets are the commands of a ``law``, such as `regulator`'s: in a closed loop they are not
    learned, and the validation tells how far it left them.
    """

    def split(first: int, number: int) -> Split:
        together = plant.most_rows or number
        numbers = range(first, first + number)
        states = torch.cat(
            [plant.reset(numbers[n : n + together]) for n in range(0, number, together)]
        )
        plant.stop()
        return Split(plant.scaled(states), law(states).to(states.dtype))

    several = max(2, count // 4)
    return Task(
        name=f"starts of a {plant.name}",
        train=split(0, count),
        validation=split(count, several),
        test=split(count + several, several),
        classes=len(plant.commands),
        side=None,
        source="resets of the plant",
        feature_names=plant.quantities,
    )


@final
@dataclass(frozen=True, eq=False, kw_only=True)
class ClosedLoop(Method):
    """Physics-aware training through time; the examples are `starts`, whose numbers are seeds.

    A step that raised the measured cost by more than the fraction ``rise`` is taken back, and half
    of it is taken instead. So the batch must be the same starts each time: all of them. Gradients
    are clipped to the norm ``clip``, and statistics of the controller stay what they are.
    """

    plant: Plant
    twin: Response
    cost: Cost
    steps: int = 50
    truncation: int | None = None
    rise: float = 0.05
    clip: float = 1.0
    # Cost, weights, gradients and optimizer before the last step not taken back.
    _kept: dict[str, Any] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.training.settings.batch_size != len(self.training.train):
            raise RangeError(
                f"a closed loop compares the cost of the same starts from step to step: set the "
                f"batch size to all {len(self.training.train)} of them."
            )

    def update(self, x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        weights = [p for p in self.network.parameters() if p.requires_grad]
        seeds = self.training.batch().tolist()
        self.network.eval()  # statistics of states that a controller brought about are its own
        found = roll_out(
            self.network, self.plant, seeds, self.steps, twin=self.twin, truncation=self.truncation
        )
        loss = mean_cost(found, self.cost)
        loss = loss + self.training.settings.penalty * range_penalty(self.network)
        loss.backward()
        cost, kept = float(loss.detach()), self._kept
        if kept and not cost <= kept["cost"] * (1 + self.rise):
            optimizer = self.training.optimizer
            rate = optimizer.param_groups[0]["lr"]
            self.training.scale_rate(0.5)
            optimizer.load_state_dict(copy.deepcopy(kept["optimizer"]))
            for group in optimizer.param_groups:
                group["lr"] = 0.5 * rate
            with torch.no_grad():
                for weight, before, slope in zip(
                    weights, kept["weights"], kept["slopes"], strict=True
                ):
                    weight.copy_(before)
                    weight.grad = slope.clone()
        else:
            nn.utils.clip_grad_norm_(weights, self.clip)
            kept["cost"] = cost
            kept["optimizer"] = copy.deepcopy(self.training.optimizer.state_dict())
            kept["weights"] = [weight.detach().clone() for weight in weights]
            kept["slopes"] = [
                torch.zeros_like(w) if w.grad is None else w.grad.clone() for w in weights
            ]
        return loss, found.commands[0].detach()

    def state(self) -> dict[str, Any]:
        return copy.deepcopy(self._kept)

    def restore(self, state: dict[str, Any]) -> None:
        self._kept.clear()
        self._kept.update(state)


def mean_cost(found: Rollout, cost: Cost) -> Tensor:
    """Mean over rows and steps; a row that left costs on what its state there does."""
    each = [cost(s, u) for s, u in zip(found.states[1:], found.commands, strict=True)]
    return torch.stack(each).mean()
