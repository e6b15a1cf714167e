"""Training methods: how a step finds the gradient of what is trained.

The gradient rule of a layer gives what one layer computes, forward and backward; a method gives
what a step does with the whole network. Physics-aware and in silico training are `Backpropagation`
with another rule. ``Training(network, task, method=partial(SharpnessAware, radius=0.05))`` makes
its method; what a method is set to, its public attributes, belongs to the identity of a run.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from pnnlab.errors import RangeError, TwinError
from pnnlab.gradients import (
    GradientRule,
    NoiseAware,
    Randomised,
    Response,
    in_silico,
    noise_aware,
    valued,
)
from pnnlab.layers import (
    PhysicalLayer,
    calibrate,
    fixed_statistics,
    observed,
    on_device,
    physical_layers,
    place_of,
    range_penalty,
    responding,
)
from pnnlab.plain import make_plain, random_state, seeded, whole
from pnnlab.twins import PhysicsTwin, refined

if TYPE_CHECKING:
    from pnnlab.training.training import Training

MakeMethod: TypeAlias = "Callable[[Training], Method]"


@dataclass(frozen=True, eq=False)
class Method(ABC):
    """How a step of a training finds the gradient."""

    training: "Training"

    def __post_init__(self) -> None:
        make_plain(self)

    @property
    def network(self) -> nn.Module:
        return self.training.network

    @property
    def sweeps(self) -> float:
        """How often a step sends its batch through the devices, if the rules of the layers do."""
        return 1.0

    @property
    def drives(self) -> bool:
        """Whether a step drives a device: unless all layers have rules that are known not to."""
        rules = [layer.rule for layer in physical_layers(self.network)]
        twins = (NoiseAware, Randomised)
        return not all(r in (in_silico, noise_aware) or isinstance(r, twins) for r in rules)

    @property
    def states_of_twin(self) -> bool:
        """Whether a step takes states of a twin, whatever the rule; recalibrate what it trains."""
        return False

    @abstractmethod
    def update(self, x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Fill the gradients of the trained parameters with those of one batch.

        Takes ``x``, (batch, features), and ``targets``; returns the loss and the outputs.
        """

    def state(self) -> dict[str, Any]:
        """What the method has learned, as tensors and plain containers."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:  # noqa: B027 - most learn nothing
        """Go back to a `state`."""

    @final
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Objective and range penalty of the last forward pass."""
        training = self.training
        penalty = training.settings.penalty * range_penalty(self.network)
        return training.objective.loss(outputs, targets) + penalty

    @final
    def backpropagate(self, x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Fill the gradients by backpropagation with the present responses of the layers."""
        outputs = self.network(x)
        loss = self.loss(outputs, targets)
        loss.backward()
        return loss, outputs


@final
class Backpropagation(Method):
    """Backpropagation through the network, with the gradient rules of its layers."""

    def update(self, x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return self.backpropagate(x, targets)


@final
@dataclass(frozen=True, eq=False, kw_only=True)
class SharpnessAware(Method):
    r"""Sharpness-aware training: the gradient where the loss is worst nearby.

    .. math:: \varepsilon = \rho\, g / \lVert g \rVert, \qquad g' = \nabla L(\theta + \varepsilon)

    ``radius`` is :math:`\rho`; 0 gives backpropagation. Only the parameters of physical layers are
    moved. Drives the device twice a step where the rule drives it once. (T. Xu et al. use the
    adaptive form, which scales the move of each parameter by its size.)

    Sources: P. Foret et al., ICLR 2021; T. Xu et al., Nat. Commun. 2026, s41467-026-68470-9.
    """

    radius: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.radius < 0:
            raise RangeError(f"radius is {self.radius}; it must be at least 0.")

    @property
    def sweeps(self) -> float:
        return 2.0

    def update(self, x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        thetas = [layer.theta for layer in physical_layers(self.network)]
        outputs = self.network(x)
        loss = self.loss(outputs, targets)
        slopes = torch.autograd.grad(loss, thetas)
        norm = torch.stack([slope.square().sum() for slope in slopes]).sum().sqrt()
        away = self.radius * torch.cat(slopes) / norm.clamp_min(torch.finfo(norm.dtype).tiny)
        start = nn.utils.parameters_to_vector(thetas).detach()
        try:
            nn.utils.vector_to_parameters(start + away, thetas)
            with fixed_statistics(self.network):
                self.backpropagate(x, targets)
        finally:
            nn.utils.vector_to_parameters(start, thetas)
        return loss, outputs


@final
@dataclass(frozen=True, eq=False, kw_only=True)
class FineTuned(Method):
    """Train with the rule ``first``, such as `in_silico`, then with that of the layers.

    The fraction ``last`` of the steps is left to the latter. At the change the normalisation is
    measured again, on one batch. The steps before may be those of another ``method``.
    """

    first: GradientRule
    last: float = 0.1
    method: MakeMethod = Backpropagation

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.last <= 1:
            raise RangeError(f"last is {self.last}; it is a fraction of the steps, 0 to 1.")

    @property
    def sweeps(self) -> float:
        return self.last

    @cached_property
    def _before(self) -> Method:
        return self.method(self.training)

    def update(self, x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        training, network = self.training, self.network
        change = round((1 - self.last) * training.steps)
        if training.step < change:
            rules = [self.first(la.system, la.twin) for la in physical_layers(network)]
            with responding(network, rules):
                return self._before.update(x, targets)
        if training.step == change:
            calibrate(network, x)
        return self.backpropagate(x, targets)

    def state(self) -> dict[str, Any]:
        return self._before.state()

    def restore(self, state: dict[str, Any]) -> None:
        self._before.restore(state)


class Shot(NamedTuple):
    """What one call of a physical layer drove and measured."""

    layer: PhysicalLayer
    x: Tensor
    theta: Tensor
    y: Tensor


def measured(network: nn.Module, x: Tensor) -> list[Shot]:
    """Send ``x`` through the devices and return what each layer drove and measured, in order."""
    shots: list[Shot] = []
    with (
        torch.no_grad(),
        on_device(network),
        observed(network, lambda *of: shots.append(Shot(*of))),
    ):
        network(x)
    return shots


def twin_of(layer: PhysicalLayer) -> nn.Module:
    """Twin of a layer; raises `TwinError` if it has none."""
    if layer.twin is None:
        raise TwinError(f"{layer.system.name} has no twin; give its layer one to train this way.")
    return layer.twin


@final
class Asymmetrical(Method):
    """Asymmetrical training: only the read-out of the last physical layer is measured.

    All other states, and all Jacobians, are those of the twins. Its merit is fewer read-outs.

    Source: Y. Wang et al., Nat. Commun. 2025, s41467-025-57459-5.
    """

    @property
    def drives(self) -> bool:
        return True

    @property
    def states_of_twin(self) -> bool:
        return True

    def update(self, x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        layers = physical_layers(self.network)
        with fixed_statistics(self.network):
            last = measured(self.network, x)[-1]
        twins: list[Response] = [twin_of(layer) for layer in layers]
        twins[layers.index(last.layer)] = valued(lambda *_: last.y, twin_of(last.layer))
        with responding(self.network, twins):
            return self.backpropagate(x, targets)


@final
@dataclass(frozen=True, eq=False, kw_only=True)
class DirectFeedback(Method):
    r"""Direct feedback alignment: every physical layer receives the error of the output itself.

    .. math:: \delta y_l = B_l\, \frac{\partial L}{\partial \mathrm{outputs}}, \qquad
       \frac{\partial L}{\partial \theta_l} \approx
       \left(\frac{\partial f_m}{\partial \theta}\right)^{\!T} \delta y_l

    The last physical layer and what follows it have their exact gradient. Forward through the
    device. The ``projections`` :math:`B_l`, (output_dim, outputs), are those of all physical layers
    but the last; by default random by ``seed``, with elements of variance 1 / outputs.

    Sources: A. Nøkland, NeurIPS 2016; M. Nakajima et al., Nat. Commun. 13, 7847 (2022).
    """

    projections: Sequence[Tensor] | None = None
    seed: int = 0

    def update(self, x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        inner: list[Tensor] = []

        def detach(*call: Any) -> Tensor:
            inner.append(call[-1])
            return inner[-1].detach()

        with ExitStack() as hooks:
            for layer in physical_layers(self.network)[:-1]:
                hooks.enter_context(layer.register_forward_hook(detach))
            outputs = self.network(x)
        error = outputs.detach().requires_grad_()
        loss = self.training.objective.loss(error, targets)
        (delta,) = torch.autograd.grad(loss, error)
        found = self.loss(outputs, targets)
        fed_back = [
            (y * (delta @ self._projection(number, y.shape[1], delta).T)).sum()
            for number, y in enumerate(inner)
        ]
        torch.stack([found, *fed_back]).sum().backward()
        return found, outputs

    def _projection(self, number: int, width: int, delta: Tensor) -> Tensor:
        if self.projections is not None:
            return self.projections[number].to(delta)
        generator = seeded(1000 * self.seed + number)
        random = torch.randn(width, delta.shape[1], generator=generator)
        return (random / math.sqrt(delta.shape[1])).to(delta)


@final
@dataclass(frozen=True, eq=False, kw_only=True)
class Perturbation(Method):
    r"""Estimate the gradient from losses at perturbed parameters, measured on the device.

    .. math:: g = \frac{1}{K} \sum_k \frac{L(p + c\,\Delta_k) - L(p - c\,\Delta_k)}{2 c}\,\Delta_k

    With random signs :math:`\Delta` this is simultaneous perturbation (SPSA). One-sided, with the
    loss at :math:`p` measured once and the perturbations integrated, it is multiplexed gradient
    descent. Guided, :math:`\Delta = \sqrt{\alpha}\,r + \sqrt{1 - \alpha}\,u` with random signs
    :math:`r` and the direction :math:`u` of the twin's gradient, scaled to the norm of :math:`r`.

    For independent signs the expected cosine with the true gradient of :math:`P` parameters is
    about :math:`\sqrt{K / (K + P)}`. Here ``size`` is :math:`c`, ``directions`` :math:`K` and
    ``random`` :math:`\alpha`, the random share of the variance of a direction. A step costs 2 K
    passes if ``central``, otherwise K + 1.

    Sources: J. C. Spall, IEEE Trans. Autom. Control 37, 332 (1992); A. N. McCaughan et al., APL
    Mach. Learn. 1, 026118 (2023); N. Maheswaranathan et al., ICML 2019.
    """

    size: float = 0.02
    directions: int = 1
    central: bool = True
    random: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        size, directions, random = self.size, self.directions, self.random
        if not size > 0 or directions < 1 or not 0 <= random <= 1:
            raise RangeError(
                f"size is {size}, directions {directions} and random {random}; take a size above "
                "0, at least one direction, and a fraction in [0, 1]."
            )

    @property
    def drives(self) -> bool:
        return True

    @property
    def sweeps(self) -> float:
        return 2.0 * self.directions if self.central else self.directions + 1.0

    def update(self, x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        trained = [p for p in self.network.parameters() if p.requires_grad]
        start = nn.utils.parameters_to_vector(trained).detach()
        guide = self._guide(x, targets, trained) if self.random < 1 else torch.zeros_like(start)
        found: list[Tensor] = []  # outputs of each pass; the first moves the statistics

        def loss_at(point: Tensor) -> Tensor:
            nn.utils.vector_to_parameters(point, trained)
            kept = fixed_statistics(self.network) if found else nullcontext()
            with torch.no_grad(), on_device(self.network), kept:
                found.append(self.network(x))
                return self.loss(found[-1], targets)

        gradient = torch.zeros_like(start)
        try:
            here = loss_at(start) if not self.central else None
            for _ in range(self.directions):
                signs = torch.randint_like(start, 0, 2).mul_(2).sub_(1)
                move = self.random**0.5 * signs + (1 - self.random) ** 0.5 * guide
                ahead = loss_at(start + self.size * move)
                behind = loss_at(start - self.size * move) if here is None else here
                distance = self.size * (2 if here is None else 1)
                gradient += (ahead - behind) / distance * move / self.directions
        finally:
            nn.utils.vector_to_parameters(start, trained)
        parts = gradient.split([parameter.numel() for parameter in trained])
        for parameter, part in zip(trained, parts, strict=True):
            parameter.grad = part.view_as(parameter).clone()
        return (ahead if here is None else here), found[0]

    def _guide(self, x: Tensor, targets: Tensor, trained: Sequence[Tensor]) -> Tensor:
        """Direction of the twin's gradient, with the norm of as many signs."""
        twins = [twin_of(layer) for layer in physical_layers(self.network)]
        with fixed_statistics(self.network), responding(self.network, twins):
            loss = self.loss(self.network(x), targets)
            slopes = torch.autograd.grad(loss, list(trained), materialize_grads=True)
        flat = torch.cat([slope.flatten() for slope in slopes])
        direction: Tensor = flat / flat.norm().clamp_min(torch.finfo(flat.dtype).tiny)
        return direction * math.sqrt(len(flat))


class _ErrorModel(nn.Module):
    """What the device adds to its twin: a perceptron of x and theta that begins at zero."""

    scale: Tensor

    def __init__(self, layer: PhysicalLayer, hidden: int) -> None:
        super().__init__()
        inputs = layer.system.input_dim + layer.system.param_dim
        self.inner = nn.Linear(inputs, hidden)
        self.last = nn.Linear(hidden, layer.system.output_dim)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        self.register_buffer("scale", torch.zeros(()))  # of the read-outs; 0: not known yet

    def forward(self, x: Tensor, theta: Tensor) -> Tensor:
        joined = torch.cat([x, theta.expand(len(x), -1)], 1) - 0.5
        y: Tensor = self.scale * self.last(functional.silu(self.inner(joined)))
        return y


@final
@dataclass(frozen=True, eq=False, kw_only=True)
class DualAdaptive(Method):
    r"""Dual adaptive training: learn the error of the twin while training on it.

    Forward through the device; backward through :math:`f_m + e_\varphi`, at the device's inputs.
    Each step first fits :math:`\varphi` to the squared error of the batch that was measured, at no
    further pass, by Adam; a ``learning_rate`` of 0 gives physics-aware training. The error models
    are ``hidden`` wide (the publication has small convolutional networks), begin with weights of
    ``seed``, and are fitted but not used in the fraction ``delay`` of the steps.

    Source: Z. Zheng et al., Nat. Mach. Intell. 5, 1119 (2023).
    """

    learning_rate: float = 1e-3
    hidden: int = 64
    delay: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.learning_rate < math.inf or not 0 <= self.delay <= 1:
            raise RangeError(
                f"learning_rate is {self.learning_rate} and delay {self.delay}; take a rate of at "
                "least 0 and a fraction of the steps, 0 to 1."
            )
        whole("hidden", self.hidden, 1)

    @property
    def drives(self) -> bool:
        return True

    @cached_property
    def _errors(self) -> nn.ModuleList:
        with random_state(self.seed):
            layers = physical_layers(self.network)
            errors = nn.ModuleList(_ErrorModel(layer, self.hidden) for layer in layers)
            return errors.to(place_of(self.network))

    @cached_property
    def _optimizer(self) -> torch.optim.Adam:
        return torch.optim.Adam(self._errors.parameters(), lr=self.learning_rate)

    def update(self, x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        shots = measured(self.network, x)
        error = dict(zip(physical_layers(self.network), self._errors, strict=True))
        self._fit(shots, error)
        used = self.training.step >= self.delay * self.training.steps

        def response(layer: PhysicalLayer) -> Response:
            left, twin = iter([shot.y for shot in shots if shot.layer is layer]), twin_of(layer)

            def model(x: Tensor, theta: Tensor) -> Tensor:
                y: Tensor = twin(x, theta)
                return y + error[layer](x, theta) if used else y

            return valued(lambda *_: next(left), model)

        responses = [response(layer) for layer in physical_layers(self.network)]
        with fixed_statistics(self.network), responding(self.network, responses):
            return self.backpropagate(x, targets)

    def _fit(self, shots: Sequence[Shot], error: dict[PhysicalLayer, Any]) -> None:
        self._optimizer.zero_grad()
        total = torch.zeros(())
        for layer, x, theta, y in shots:
            model = error[layer]
            if model.scale == 0:
                model.scale.copy_(y.std())
            with torch.no_grad():
                missing = y - twin_of(layer)(x, theta)
            total = total + ((model(x, theta) - missing) / model.scale).square().mean()
        torch.autograd.backward(total, inputs=list(self._errors.parameters()))
        self._optimizer.step()

    def state(self) -> dict[str, Any]:
        return {"errors": self._errors.state_dict(), "optimizer": self._optimizer.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        self._errors.load_state_dict(state["errors"])
        self._optimizer.load_state_dict(state["optimizer"])


@final
@dataclass(frozen=True, eq=False, kw_only=True)
class OnlineRefit(Method):
    """Physics-aware training whose physics twin is fitted again to what the steps measured.

    Every so many steps the free constants are fitted by least squares to the last ``batches`` of
    all layers: ``stay`` is the relative standard deviation by which one is expected to change. It
    costs no pass. Layers of one device share the constants.
    """

    every: int = 60
    batches: int = 4
    stay: float = 0.02
    _last: list[list[tuple[int, Tensor, Tensor, Tensor]]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("every", self.every, 1)
        whole("batches", self.batches, 1)
        if not self.stay > 0:
            raise RangeError(f"stay is {self.stay}; it must be above 0.")
        if not all(isinstance(la.twin, PhysicsTwin) for la in physical_layers(self.network)):
            raise TwinError("OnlineRefit fits the constants of a PhysicsTwin; give one.")

    def update(self, x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        layers = physical_layers(self.network)
        shots: list[tuple[int, Tensor, Tensor, Tensor]] = []
        with observed(self.network, lambda la, *shot: shots.append((layers.index(la), *shot))):
            found = self.backpropagate(x, targets)
        self._last[:] = [*self._last, shots][-self.batches :]
        if (self.training.step + 1) % self.every == 0:
            self._refit(layers)
        return found

    def _refit(self, layers: list[PhysicalLayer]) -> None:
        numbered = {n: la.twin for n, la in enumerate(layers) if isinstance(la.twin, PhysicsTwin)}
        for constants in {twin.constants for twin in numbered.values()}:
            sharing = {n: twin for n, twin in numbered.items() if twin.constants == constants}
            kept = [shot for shots in self._last for shot in shots if shot[0] in sharing]
            found = refined([(sharing[n], x, theta, y) for n, x, theta, y in kept], self.stay)
            for twin in sharing.values():
                twin.values.copy_(twin.with_constants(found).values)

    def state(self) -> dict[str, Any]:
        return {"last": list(self._last)}

    def restore(self, state: dict[str, Any]) -> None:
        self._last[:] = state["last"]
