"""A pendulum that two analogue circuits hold upright: setup, methods, measures and study."""

import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np
import torch
from scipy.stats import norm
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
from torch import Tensor, nn

from pnnlab.gradients import GradientRule, ideal, in_silico, noise_aware, physics_aware
from pnnlab.layers import PhysicalLayer, Rescale, calibrate, on_device
from pnnlab.plain import random_state, seeded
from pnnlab.plants import Pendulum, PendulumConstants, Plant
from pnnlab.plants.law import identify, regulator
from pnnlab.provenance import commit, provenance
from pnnlab.results.rows import read_json, write_json
from pnnlab.runs import train
from pnnlab.storage import user_path
from pnnlab.systems import Circuit
from pnnlab.tasks import Split, Task
from pnnlab.training import FitSettings
from pnnlab.training.closed_loop import ClosedLoop, mean_cost, roll_out, starts
from pnnlab.training.cost import passes_so_far
from pnnlab.training.methods import Backpropagation, MakeMethod, Perturbation
from pnnlab.twins import CircuitEquations, PhysicsTwin, fit_twin

BOX = (0.5, 0.15, 3.0, 3.0)  # within which the law is learned: rad, rad, rad/s, rad/s
STATE_COSTS, COMMAND_COST = (5.0, 1.0, 0.1, 0.05), 0.05
EXAMPLES, BATCH, EPOCHS = 2560, 128, 15
RATES = (0.01, 0.03)
"""Learning rates that each method may choose from, on the validation split."""

STARTS, UPRIGHT = 200, 300  # starts, and steps that a controller has to keep the rod up
PUSHES = tuple(np.arange(1.0, 8.1, 0.5).tolist())  # rad/s
WIDE = 0.4  # rad, spread of the starts of the basin, half as many
LOOP = 48, 30  # starts and steps of a roll-out of the closed loop
SPREAD = 0.3  # rad, of its starts: nearer to falling than those that have to be kept
FIT_SHOTS = 300


@final
class Samples(nn.Module):
    """Bring each quantity of a scaled state from its box to [0, 1], and repeat it."""

    def __init__(self, plant: Plant, repeats: int = 4) -> None:
        super().__init__()
        self.register_buffer("gain", torch.tensor(plant.limits.state) / torch.tensor(BOX))
        self.repeats = repeats

    def forward(self, h: Tensor) -> Tensor:
        """Give (rows, quantities * repeats); what lies beyond the box is clamped."""
        gain = self.get_buffer("gain")
        return (0.5 + gain * (h - 0.5)).clamp(0, 1).repeat_interleave(self.repeats, 1)


@final
class Amplifier(nn.Linear):
    """Sum read-outs to a voltage, ± 6 V at ± 1."""

    def forward(self, h: Tensor) -> Tensor:
        """Give (rows, 1), V."""
        return 6.0 * super().forward(h)


@final
class Exact(nn.Module):
    """The law itself, in digital: takes scaled states, as a controller does."""

    def __init__(self, plant: Plant, law: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.plant, self.law = plant, law

    def forward(self, h: Tensor) -> Tensor:
        """Give (rows, 1), V."""
        return self.law((2 * h - 1) * h.new_tensor(self.plant.limits.state))


def cost(states: Tensor, commands: Tensor) -> Tensor:
    """What the regulator's law makes least."""
    given = states.square() @ states.new_tensor(STATE_COSTS)
    return given + COMMAND_COST * commands.square().sum(1)


class Measures(NamedTuple):
    """How well a controller does on a built pendulum."""

    law_error: float  # V rms, over the box
    upright: float  # share of 200 starts within 0.1 rad that stay up for 3 s
    push: float  # rad/s, largest that the rod survives, mean over starts and directions
    basin: float  # share of 100 starts within 0.4 rad that stay up for 1.5 s


@final
@dataclass(frozen=True)
class Balance:
    """One unit of pendulum and circuit, with its twin, its law and its controllers.

    The state is scaled, sent through the circuit as 16 samples, and its 32 read-outs once more
    through the circuit; an amplifier sums 8 read-outs to a voltage. The controller learns the law
    of a linear-quadratic regulator, or goes on in closed loop.
    """

    unit: int = 0
    seed: int = 0
    epochs: int = EPOCHS
    model: PendulumConstants = Pendulum.nominal  # of the pendulum that the law is made for

    @cached_property
    def plant(self) -> Pendulum:
        return Pendulum(self.unit)

    @cached_property
    def twin(self) -> PhysicsTwin:
        """Of the circuit in its first use, fitted to `FIT_SHOTS` random drives."""
        how: dict[str, Any] = {"equations": CircuitEquations(2), "seed": self.seed}
        twin = fit_twin(self.device(), FIT_SHOTS, **how, progress=False)
        assert isinstance(twin, PhysicsTwin)
        return twin

    @cached_property
    def gains(self) -> Tensor:
        """Of the law, (1, 4)."""
        modelled = partial(Pendulum.advance, constants=self.model)
        return regulator(modelled, STATE_COSTS, (COMMAND_COST,)).float()

    def device(self) -> Circuit:
        """The circuit as the first layer drives it."""
        return Circuit(self.unit, input_dim=16, replays=2, output_dim=32, seed=self.seed)

    def law(self, states: Tensor) -> Tensor:
        """Commands (rows, 1), V, at states (rows, 4)."""
        return -(states @ self.gains.T).clamp(-6, 6)

    def controller(self, rule: GradientRule) -> nn.Sequential:
        """An untrained controller; its two layers are one circuit."""
        first = self.device()
        second = first.reprogrammed(input_dim=32, replays=2, output_dim=8)
        twin = self.twin.reprogrammed(second, replays=2)
        with random_state(self.seed):
            amplifier = Amplifier(8, 1)
        return nn.Sequential(
            PhysicalLayer(first, self.twin, rule, encoding=Samples(self.plant), seed=self.seed),
            PhysicalLayer(second, twin, rule, encoding=Rescale(32), seed=self.seed + 1),
            Rescale(8, gain=1.0, offset=0.0),
            amplifier,
        )

    @cached_property
    def task(self) -> Task:
        """States drawn from the box, with the commands of the law: no plant moves for it."""

        def split(number: int, seed: int) -> Split:
            drawn = 2 * torch.rand(number, 4, generator=seeded(seed)) - 1
            states = drawn * torch.tensor(BOX)
            return Split(self.plant.scaled(states), self.law(states))

        train, validation, test = split(EXAMPLES, 1), split(500, 2), split(1000, 3)
        return Task("law of a pendulum", train, validation, test, 1, None, "drawn from the box")

    def learned(
        self,
        rule: GradientRule,
        method: MakeMethod = Backpropagation,
        begin: nn.Module | None = None,
        epochs: float = 1.0,
        rates: Sequence[float] = RATES,
    ) -> nn.Sequential:
        """Train to the law at each rate, and give what is best on the validation split."""
        tried = []
        for rate in rates:
            network = self.controller(rule)
            if begin is None:
                calibrate(network, self.task.train.x[:BATCH])
            else:
                network.load_state_dict(begin.state_dict())
            number = max(1, round(epochs * self.epochs))
            settings = FitSettings(
                evaluations=1, seed=self.seed, epochs=number, batch_size=BATCH, learning_rate=rate
            )
            train(network, self.task, settings, method=method, progress=False)
            judged = network
            if rule in (in_silico, noise_aware):  # which drive no device
                judged = self.copied(network)
                self.recalibrated(judged)
            tried.append((self.law_error(judged, self.task.validation), network))
        return min(tried, key=itemgetter(0))[1]

    def copied(self, network: nn.Module) -> nn.Sequential:
        """The same weights on the same kind of device, whose passes are counted from 0 again."""
        other = self.controller(physics_aware)
        other.load_state_dict(network.state_dict())
        return other

    def recalibrated(self, network: nn.Module) -> None:
        """Measure the statistics on the device, at 500 states: 1 000 passes."""
        with on_device(network):
            calibrate(network, self.task.train.x[:500])

    def fit_amplifier(self, network: nn.Sequential) -> None:
        """Fit the amplifier to the law by least squares on the device, at 500 states."""
        amplifier = network[-1]
        assert isinstance(amplifier, Amplifier)
        x, targets = self.task.train.x[:500], self.task.train.targets[:500]
        with torch.no_grad(), on_device(network):
            h = network[:-1].eval()(x)
            joined = torch.cat([6 * h, torch.full((len(h), 1), 6.0)], 1)
            found = torch.linalg.lstsq(joined.double(), targets.double()).solution.float()
            amplifier.weight.copy_(found[:-1].T)
            amplifier.bias.copy_(found[-1])

    def law_error(self, network: nn.Module, split: Split | None = None) -> float:
        """Error of the law on the device, V rms, over the test split."""
        given = split or self.task.test
        with torch.no_grad(), on_device(network):
            command = network.eval()(given.x).clamp(-6, 6)
        return float((command - given.targets).square().mean().sqrt())

    def measure(self, network: nn.Module, count: int = STARTS) -> Measures:
        """Measure a controller on circuit and pendulum; see `Measures`."""
        network.eval()
        with on_device(network):
            stood = roll_out(network, self.plant, range(count), UPRIGHT).inside[-1]
            wide = Pendulum(self.unit, spread=WIDE)
            caught = roll_out(network, wide, range(count // 2), UPRIGHT // 2).inside[-1]
            push = self.largest_push(network)
        return Measures(
            self.law_error(network), float(stood.float().mean()), push, float(caught.float().mean())
        )

    def largest_push(self, network: nn.Module, count: int = 3) -> float:
        """Largest push of the rod that a controller survives, rad/s; see `Measures`.

        A start counts with the largest push below which it survived all, or with 0.
        """
        plant, sizes = self.plant, torch.tensor(PUSHES, dtype=torch.float64)
        rate = torch.cat([sizes, -sizes]).repeat(count)
        seeds = np.arange(count).repeat(2 * len(sizes)).tolist()

        def disturb(step: int) -> None:
            if step == 50:
                plant.push(rate)

        survived = roll_out(network, plant, seeds, 200, disturb=disturb).inside[-1]
        unbroken = survived.view(2 * count, len(sizes)).long().cumprod(1).sum(1)
        largest = torch.cat([torch.zeros(1, dtype=torch.float64), sizes])[unbroken]
        return float(largest.mean())

    def closed_loop(self, network: nn.Module, plant: Pendulum) -> nn.Sequential:
        """Go on training a copy by physics-aware training through time."""
        going, (count, steps) = self.copied(network), LOOP
        twin = partial(Pendulum.advance, constants=self.model)
        method = partial(ClosedLoop, plant=plant, twin=twin, cost=cost, steps=steps)
        settings = FitSettings(
            evaluations=1, seed=self.seed, epochs=30, batch_size=count, learning_rate=0.001
        )
        task = starts(plant, count, self.law)
        train(going, task, settings, method=method, progress=False)
        return going

    def identified(self, network: nn.Module) -> "Balance":
        """The same for the law of the pendulum's own constants, identified while it is pushed."""
        random, count = np.random.default_rng(self.seed), 8

        def disturb(step: int) -> None:
            if step % 50 == 49:
                self.plant.push(torch.from_numpy(random.uniform(-1.5, 1.5, count)))

        with on_device(network):
            found = roll_out(network.eval(), self.plant, range(count), UPRIGHT, disturb=disturb)
        states, angles = found.states[1:-1].clone(), found.states[..., :2]
        # The rates that are measured come late; central differences of the angles do not.
        states[..., 2:] = (angles[2:] - angles[:-2]) / (2 * self.plant.step_s)
        known = states, found.commands[1:-1], found.inside[1:-1]
        return replace(self, model=identify(Pendulum.advance, Pendulum.nominal, *known))

    def bayesian(self, network: nn.Module, plant: Pendulum) -> nn.Sequential:
        """Go on with a copy whose amplifier Bayesian optimisation sets, in closed loop."""
        going = self.copied(network).eval()
        weights = list(going[-1].parameters())
        start = nn.utils.parameters_to_vector(weights).detach()
        reach, random = float(start.abs().mean()), np.random.default_rng(self.seed)
        kernel = ConstantKernel() * Matern(1.0, nu=2.5) + WhiteKernel(0.01)
        tried, found = [np.zeros(len(start))], []
        for number in range(48):
            point = start + reach * torch.from_numpy(tried[-1]).float()
            nn.utils.vector_to_parameters(point, weights)
            with on_device(going):
                rolled = roll_out(going, plant, range(8), 100)
            found.append(math.log(float(mean_cost(rolled, cost))))
            best = tried[int(np.argmin(found))]
            near = best + 0.2 * random.normal(size=(500, len(start)))
            candidates = np.concatenate([near, random.uniform(-1, 1, (500, len(start)))])
            chosen = 500 + number  # at first any; then by expected improvement of the log cost
            if number >= 8:
                model = GaussianProcessRegressor(kernel, normalize_y=True)
                with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
                    model.fit(np.array(tried), found)
                mean, deviation = model.predict(candidates, return_std=True)
                better = (min(found) - mean) / deviation
                improvement = deviation * (better * norm.cdf(better) + norm.pdf(better))
                chosen = int(improvement.argmax())
            tried.append(candidates[chosen])
        kept = torch.from_numpy(tried[int(np.argmin(found))]).float()
        nn.utils.vector_to_parameters(start + reach * kept, weights)
        return going


class Controller(NamedTuple):
    """A trained controller, and what it has cost, twin included."""

    network: nn.Module
    passes: int  # of the circuit
    plant_s: float  # time on the pendulum


def controllers(balance: Balance) -> Iterator[tuple[str, Controller]]:
    """Train controllers of a unit, one method after the other; see `Balance`.

    Recalibrated means that the statistics were measured on the device, and fitted that the
    amplifier was, too. The closed loop, SPSA and Bayesian optimisation go on from another method,
    and their cost is that of both.
    """
    twin_passes = 2 * FIT_SHOTS

    def made(network: nn.Module, before: Controller | None = None, steps: int = 0) -> Controller:
        passes = passes_so_far(network) + (before.passes if before else twin_passes)
        return Controller(network, passes, steps * balance.plant.step_s)

    def looped(method: Callable[..., nn.Module], one: Controller) -> Controller:
        wide = Pendulum(balance.unit, spread=SPREAD)
        network = method(one.network, wide)
        return made(network, one, wide.passes)

    yield "exact law, digital", Controller(Exact(balance.plant, balance.law), 0, 0.0)
    pat = made(balance.learned(physics_aware))
    yield "PAT", pat
    for name, rule in (("in silico", in_silico), ("noise-aware", noise_aware)):
        plain = made(balance.learned(rule))
        yield name, plain
        fitted = balance.copied(plain.network)
        balance.recalibrated(fitted)
        passes = made(fitted, plain).passes
        yield f"{name}, recalibrated", Controller(balance.copied(fitted), passes, 0.0)
        balance.fit_amplifier(fitted)
        fit = made(fitted, plain)
        yield f"{name}, fitted", fit
    yield "noise-aware, fitted, then in closed loop", looped(balance.closed_loop, fit)
    yield "PAT, then in closed loop", looped(balance.closed_loop, pat)
    yield "ideal", made(balance.learned(ideal))
    spsa = balance.learned(
        physics_aware, partial(Perturbation, size=0.01), fit.network, 0.5, (0.001, 0.003)
    )
    yield "SPSA, from noise-aware, fitted", made(spsa, fit)
    yield "Bayesian, from noise-aware, fitted", looped(balance.bayesian, fit)
    before = balance.plant.passes
    recorder = balance.copied(fit.network)
    other = balance.identified(recorder)
    recorded = made(recorder, fit, balance.plant.passes - before)
    network = other.learned(noise_aware)
    other.recalibrated(network)
    other.fit_amplifier(network)
    passes = made(network, recorded).passes
    yield "identified, noise-aware, fitted", Controller(network, passes, recorded.plant_s)


def study(path: str | Path, units: Sequence[int] = range(5)) -> Path:
    """Measure the `controllers` of units that a JSON file does not hold yet, and write them."""
    path = user_path(path)
    rows = read_study(path) if path.exists() else []
    for unit in sorted(set(units) - {row["unit"] for row in rows}):
        balance, found = Balance(unit), []
        began = time.process_time()
        for method, one in controllers(balance):
            trained, passes = time.process_time() - began, one.passes
            measured = balance.measure(one.network)._asdict()
            row = {"unit": unit, "seed": balance.seed, "method": method, "passes": passes}
            row |= {"plant_s": one.plant_s, "core_s": trained, "commit": commit()} | measured
            found.append({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()})
            began = time.process_time()
        rows += found
        write_json(path, {"provenance": provenance(), "rows": rows})
    return path


def read_study(path: str | Path) -> list[dict[str, Any]]:
    """Rows of a `study`, one for each unit and method, or a `RunError`."""
    remedy = "delete it, and run notebook 11 again at scale paper"
    return list(read_json(path, "study of controllers", remedy, itemgetter("rows")))
