"""`PhysicalLayer`: a physical system as a torch module that composes with any other."""

import copy
import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from pnnlab.errors import RangeError, ShapeError, TwinError
from pnnlab.gradients import GradientRule, Response, physics_aware
from pnnlab.physical_system import PhysicalSystem, still, still_outputs
from pnnlab.plain import random_state, seeded, whole

Observer: TypeAlias = "Callable[[PhysicalLayer, Tensor, Tensor, Tensor], object]"

PENALTY_SHARPNESS = 30.0  # k of the soft range penalty, as in the authors' experiment code
AVERAGING = 0.1  # weight of a new batch in the running statistics: the last ten count
FULL_SCALE = 1e-5**-0.5  # rms deviations of all: BatchNorm's eps is then their mean variance


def soft_range_penalty(value: Tensor) -> Tensor:
    r"""Mean over all elements, before clamping, of a smooth price for leaving [0, 1].

    .. math:: \tfrac{1}{k}\,\mathrm{softplus}(-k v) + \tfrac{1}{k}\,\mathrm{softplus}(k (v - 1))

    """
    k = PENALTY_SHARPNESS
    # Further inside an element weighs less than 5e-5 / k. Of millions of couplings few are near.
    near = value[(value.detach() - 0.5).abs() > 0.5 - 10 / k]
    price = functional.softplus(-k * near) + functional.softplus(k * (near - 1))
    return price.sum() / (k * max(1, value.numel()))


class Rescale(nn.Module):
    """Standardise each element, then apply a trainable gain and offset.

    While training, each batch is standardised by its own mean and standard deviation (batch
    normalisation); the averages over batches are used from then on.

    Neither the unit of the input nor an offset matters: by the first batch each element is centred,
    and divided by the root of its variance plus the mean variance of all, so that one that is
    mostly noise is not amplified to their size. One that has not moved yet, up to rounding, is 0.

    What was measured on a twin is stale on the device. `calibrate` then measures the unit of each
    element again, so that its mean and deviation are what they were in training: this is what
    "recalibrated" means in every results table.

    Parameters
    ----------
    features : int
        Length of the input; each element has its own statistics.
    gain, offset : float
        Initial values. The defaults put two standard deviations either way into [0, 1].
    elementwise : bool
        One trainable gain and offset an element, or one for all.
    """

    # (2, features): centre and factor to the scale on which the statistics are averaged; the factor
    # is 0 for those that have not moved, and until it is measured again the same for all others
    unit: Tensor

    def __init__(
        self, features: int, *, gain: float = 0.25, offset: float = 0.5, elementwise: bool = False
    ) -> None:
        super().__init__()
        self.statistics = nn.BatchNorm1d(features, affine=False, momentum=AVERAGING)
        self.register_buffer("unit", torch.tensor([[0.0], [1.0]]).repeat(1, features))
        count = features if elementwise else 1
        self.gain = nn.Parameter(torch.full((count,), gain))
        self.offset = nn.Parameter(torch.full((count,), offset))

    def forward(self, h: Tensor) -> Tensor:
        if h.shape[1:] != self.unit.shape[1:]:
            raise ShapeError(
                f"h has shape {tuple(h.shape)}; this Rescale takes (batch, {self.unit.shape[1]})."
            )
        if self.statistics.training and len(h) > 1:
            self._find_unit(h.detach())
            if self.statistics.momentum == 0:
                self._measure_unit(h.detach())
        centre, factor = self.unit.clone()  # autograd keeps them, and another call may change them
        return torch.addcmul(self.offset, self.statistics((h - centre) * factor), self.gain)

    def _find_unit(self, h: Tensor) -> None:
        """Note centre and scale of elements that move for the first time."""
        kept, (centre, factor) = self.statistics, self.unit
        assert kept.running_mean is not None
        assert kept.running_var is not None
        if kept.num_batches_tracked == 0:
            factor.zero_()
        new = (factor == 0) & ~still(h)
        if bool(new.any()):
            # In double precision: squares of nanovolts leave the single of some accelerators.
            variance, mean = torch.var_mean(h[:, new].cpu().double(), 0, correction=0)
            found = 1 / (FULL_SCALE * variance.mean().sqrt())
            known = factor[factor > 0]
            common = known.median() if len(known) else found.to(factor)
            centre[new], factor[new] = mean.to(centre), common
            kept.running_mean[new] = 0.0
            kept.running_var[new] = (variance * common.cpu().double() ** 2).to(factor)

    def _measure_unit(self, h: Tensor) -> None:
        """Bring the mean of each element, and the variance of those that move, to what is kept."""
        kept, (centre, factor) = self.statistics, self.unit
        assert kept.running_mean is not None
        assert kept.running_var is not None
        moving = (factor > 0) & (kept.running_var > 0) & ~still(h)
        variance, mean = torch.var_mean(h.cpu().double(), 0)
        found = (kept.running_var.cpu().double() / variance).sqrt()
        factor[moving] = found.to(factor)[moving]
        known = factor > 0
        centre[known] = (mean.to(centre) - kept.running_mean / factor)[known]

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        # Weights that were saved before there was a unit were trained with this one.
        state.setdefault(prefix + "unit", torch.tensor([[0.0], [1.0]]).expand_as(self.unit))
        super()._load_from_state_dict(state, prefix, *rest)


def calibrate(network: nn.Module, x: Tensor) -> None:
    """Measure every `Rescale` in ``network`` on the inputs ``x``.

    A fresh one gets its statistics from them. One that was trained keeps its statistics, and the
    units of its elements are measured again, so that they hold here. That drives systems or twins,
    by the layers' rule or an enclosing `on_device` or `on_twin`. If a device fails, all is what it
    was.
    """
    if len(x) < 2:
        raise ShapeError("calibration needs at least two inputs: a deviation of one is undefined.")
    statistics = [one.statistics for one in network.modules() if isinstance(one, Rescale)]
    was_training = network.training
    before = copy.deepcopy(network.state_dict())
    for one in statistics:
        # This one batch alone counts for a fresh one; else the statistics stay, and units change.
        one.momentum = float(one.num_batches_tracked == 0)
    try:
        # The noise that a twin may add is the same each time.
        with torch.no_grad(), random_state(0, place_of(network)):
            network.train()(x.to(place_of(network)))
    except BaseException:
        network.load_state_dict(before)
        raise
    finally:
        network.train(was_training)
        for one in statistics:
            one.momentum = AVERAGING


class PhysicalLayer(nn.Module):
    """A physical system with trainable parameters, as one layer of a network.

    Parameters
    ----------
    system : PhysicalSystem
    twin : nn.Module or None
        Its differentiable digital model, frozen: a layer trains ``theta``, not the twin.
    rule : GradientRule
        `physics_aware`, `in_silico` or `ideal`.
    encoding : nn.Module or None
        Maps the previous layer's output towards [0, 1]; nothing by default.
    theta : Tensor, shape (param_dim,), or None
        Initial parameters; by default uniform in [0.25, 0.75].
    seed : int
        Of the default initial parameters.
    """

    def __init__(
        self,
        system: PhysicalSystem,
        twin: nn.Module | None,
        rule: GradientRule,
        *,
        encoding: nn.Module | None = None,
        theta: Tensor | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name in ("input_dim", "param_dim", "output_dim"):
            ours, its = getattr(system, name), getattr(twin, name, None)
            if its not in (None, ours):
                raise TwinError(
                    f"the twin has {name} {its} and {system.name} has {ours}: this is the twin of "
                    "another system; fit one for this system."
                )
        self.system = system
        self.twin = twin.requires_grad_(False) if twin is not None else None
        self.encoding = encoding
        if theta is None:
            theta = 0.25 + 0.5 * torch.rand(system.param_dim, generator=seeded(seed))
        if theta.shape != (system.param_dim,):
            raise ShapeError(
                f"theta has shape {tuple(theta.shape)}; {system.name} takes ({system.param_dim},)."
            )
        self.theta = nn.Parameter(theta.detach().clone())
        self.rule = rule
        rule(system, self.twin)  # a rule that cannot work fails here, not in the first step
        # In a tuple, or torch would register a twin that stands in as a submodule.
        self.stand_in: tuple[Response, ...] = ()
        self.observers: tuple[Observer, ...] = ()
        self.penalty = torch.zeros(())  # of the last call, of its inputs and of theta
        self.clamped = 0.0  # fraction of the inputs of the last call
        # Outputs that did not move in some batch of a training or calibration, each warned of once.
        self.still: frozenset[int] = frozenset()

    def __getstate__(self) -> dict[str, Any]:
        # A tensor with a graph cannot be copied, and no later step needs this one's.
        return {**self.__dict__, "penalty": self.penalty.detach()}

    def forward(self, h: Tensor) -> Tensor:
        """Send ``h``, (batch, features), through the layer; returns (batch, output_dim)."""
        respond = self.stand_in[0] if self.stand_in else self.rule(self.system, self.twin)
        before = self.system.passes
        x = h if self.encoding is None else self.encoding(h)
        if self.training or torch.is_grad_enabled():  # nobody asks for it otherwise
            self.penalty = soft_range_penalty(x) + soft_range_penalty(self.theta)
        self.clamped = float(((x < 0) | (x > 1)).float().mean())
        x, theta = x.clamp(0, 1), self.theta.clamp(0, 1)
        y = respond(x, theta)
        if self.training and len(y) > 1 and self.system.passes > before:
            found = frozenset(still(y).nonzero().flatten().tolist())
            if new := sorted(found - self.still):
                message = f"{self.system.name}: {still_outputs(new)}"
                warnings.warn(message, RuntimeWarning, stacklevel=2)
            self.still |= found
        for observer in self.observers:
            observer(self, x.detach(), theta.detach(), y.detach())
        return y


class Span(nn.Module):
    """Bring values from ``low`` to ``high`` to [0, 1]; a layer clamps what lies beyond."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        if not low < high:
            raise RangeError(f"a span from {low} to {high} is empty; give low < high.")
        self.low, self.high = low, high

    def forward(self, h: Tensor) -> Tensor:
        return (h - self.low) / (self.high - self.low)


class Shots(nn.Module):
    """One physical layer for a longer input: equal parts of it, one shot each, ``shots`` in all.

    The shots share ``theta``, as the patches of an image share a filter.
    """

    def __init__(self, layer: nn.Module, shots: int) -> None:
        super().__init__()
        self.layer, self.shots = layer, whole("shots", shots, 1)

    def forward(self, h: Tensor) -> Tensor:
        """Send ``h``, (batch, shots * width), through; returns (batch, shots * output_dim)."""
        batch, width = h.shape
        if width % self.shots:
            raise ShapeError(f"{width} inputs cannot be divided into {self.shots} equal shots.")
        y: Tensor = self.layer(h.reshape(batch * self.shots, width // self.shots))
        return y.reshape(batch, -1)


def programmed(
    system: Any, twin: Any, layers: Sequence[tuple[int, int]]
) -> tuple[list[PhysicalSystem], list[nn.Module]]:
    """Program one device as a chain of layers, and its twin likewise, for `deep_pnn`.

    The ``system`` replays its input, such as `Circuit`, `Plate` or a `Bench` with either;
    ``layers`` are the replays and read-outs of each. The twins share their constants or weights.
    """
    systems = [system.reprogrammed(replays=n, output_dim=outputs) for n, outputs in layers]
    twins = [twin.reprogrammed(one, replays=n) for one, (n, _) in zip(systems, layers, strict=True)]
    return systems, twins


def deep_pnn(
    systems: PhysicalSystem | Sequence[PhysicalSystem],
    twins: nn.Module | Sequence[nn.Module | None] | None,
    rule: GradientRule = physics_aware,
    *,
    layers: int = 1,
    classes: int | None = None,
    seed: int = 0,
) -> nn.Sequential:
    """Chain systems into a network.

    A `Rescale` before every layer but the first brings read-outs back to [0, 1]. If the last
    system has as many outputs as there are classes, another one turns them into logits, with a
    gain and an offset for each class; otherwise a digital linear layer does.

    Parameters
    ----------
    systems : PhysicalSystem, or a sequence of them
        Each as wide at its input as the one before at its output.
    twins : nn.Module or None, or a sequence of them
        One for each system.
    layers : int
        How often to use a single system, each time with parameters of its own.
    classes : int, optional
        How many logits, or values, the network gives; by default the outputs of the last system.
    seed : int
        Of the initial parameters.
    """
    layers = whole("layers", layers)
    if not isinstance(systems, PhysicalSystem) and layers != 1:
        raise ShapeError("layers counts the uses of a single system; a sequence has its length.")
    if layers < 1:
        raise ShapeError(f"layers is {layers}; a network needs at least one.")
    systems = [systems] * layers if isinstance(systems, PhysicalSystem) else systems
    twins = [twins] * layers if twins is None or isinstance(twins, nn.Module) else twins
    if not 0 < len(systems) == len(twins):
        raise ShapeError(f"{len(systems)} systems and {len(twins)} twins: give each system a twin.")
    classes = None if classes is None else whole("classes", classes, 1)
    network: list[nn.Module] = []
    width = systems[0].input_dim
    for number, (system, twin) in enumerate(zip(systems, twins, strict=True)):
        if system.input_dim != width:
            raise ShapeError(
                f"system {number} gives {width} values and system {number + 1} takes "
                f"{system.input_dim}; they cannot be chained."
            )
        encoding = Rescale(system.input_dim) if number else None
        layer_seed = 1000 * whole("seed", seed) + number
        network.append(PhysicalLayer(system, twin, rule, encoding=encoding, seed=layer_seed))
        width = system.output_dim
    if classes in (None, width):
        network.append(Rescale(width, gain=2.0, offset=0.0, elementwise=True))
    else:
        with random_state(seed):
            head = nn.Linear(width, classes)
        network += [Rescale(width, gain=1.0, offset=0.0), head]
    return nn.Sequential(*network)


def place_of(network: nn.Module) -> torch.device:
    """Where the weights of ``network`` are: the CPU or a GPU."""
    first = next(itertools.chain(network.parameters(), network.buffers()), None)
    return torch.device("cpu") if first is None else first.device


def physical_layers(network: nn.Module) -> list[PhysicalLayer]:
    """All physical layers of ``network``, in order."""
    return [module for module in network.modules() if isinstance(module, PhysicalLayer)]


def range_penalty(network: nn.Module) -> Tensor:
    """Mean soft range penalty of the last calls of the physical layers."""
    penalties = [layer.penalty for layer in physical_layers(network)]
    return torch.stack(penalties).mean() if penalties else torch.zeros(())


def parameter_count(network: nn.Module) -> int:
    """Number of trainable numbers in ``network``; a frozen twin does not count."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def undriven(network: nn.Module) -> AbstractContextManager[None]:
    """Within this context every physical layer checks its input, drives nothing and gives zeros."""

    def respond(system: PhysicalSystem, x: Tensor, theta: Tensor) -> Tensor:
        system.check(x, theta)
        return x.new_zeros(len(x), system.output_dim)

    return responding(network, [partial(respond, la.system) for la in physical_layers(network)])


def on_device(network: nn.Module) -> AbstractContextManager[None]:
    """Within this context every physical layer is its system, without gradients."""
    return responding(network, [layer.system for layer in physical_layers(network)])


def on_twin(network: nn.Module) -> AbstractContextManager[None]:
    """Within this context every physical layer is its twin; raises `TwinError` if one has none."""
    twins = [layer.twin for layer in physical_layers(network)]
    if None in twins:
        raise TwinError(f"physical layer {twins.index(None) + 1} has no twin to evaluate.")
    return responding(network, [twin for twin in twins if twin is not None])


def all_have_twins(network: nn.Module) -> bool:
    """Whether there are physical layers, and every one has a twin."""
    twins = [layer.twin for layer in physical_layers(network)]
    return bool(twins) and None not in twins


def responding(network: nn.Module, responses: Sequence[Response]) -> AbstractContextManager[None]:
    """Within this context the physical layers compute these responses, in order."""
    return _within(network, "stand_in", [(response,) for response in responses])


@contextmanager
def fixed_statistics(network: nn.Module) -> Iterator[None]:
    """Within this context batches are standardised as ever, and no statistics move."""
    before = [(buffer, buffer.clone()) for buffer in network.buffers()]
    try:
        yield
    finally:
        for buffer, value in before:
            buffer.copy_(value)


def observed(network: nn.Module, observer: Observer) -> AbstractContextManager[None]:
    """Within this context, call ``observer`` after every call of a physical layer.

    It is given the layer, its drive x, (batch, input_dim), and theta, (param_dim,), both in [0, 1],
    and its y, (batch, output_dim), without a graph.
    """
    layers = physical_layers(network)
    return _within(network, "observers", [(*layer.observers, observer) for layer in layers])


@contextmanager
def _within(network: nn.Module, name: str, values: Sequence[tuple[Any, ...]]) -> Iterator[None]:
    """Within this context, an attribute of every physical layer has another value."""
    layers = physical_layers(network)
    before = [getattr(layer, name) for layer in layers]
    for layer, value in zip(layers, values, strict=True):
        setattr(layer, name, value)
    try:
        yield
    finally:
        for layer, earlier in zip(layers, before, strict=True):
            setattr(layer, name, earlier)
