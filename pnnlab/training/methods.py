"""Training methods: how a step finds the gradient of what is trained.

The gradient rule of a layer says what one layer computes, forward and backward. A method says what
a step does with the whole network. Physics-aware and in silico training are `Backpropagation` with
another rule; the other methods need more than a rule. A method is made of its training:
``Training(network, task, settings, method=partial(SharpnessAware, radius=0.05))``.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, final

import torch
from torch import Tensor, nn

from pnnlab.errors import RangeError, TwinError
from pnnlab.gradients import GradientRule, Response, valued
from pnnlab.layers import (
    PhysicalLayer,
    calibrate,
    fixed_statistics,
    observed,
    on_device,
    physical_layers,
    range_penalty,
    responding,
)
from pnnlab.plain import seeded

if TYPE_CHECKING:
    from pnnlab.training.training import Training

MakeMethod: TypeAlias = "Callable[[Training], Method]"


class Method(ABC):
    """How a step finds the gradient.

    Parameters
    ----------
    training : Training
        Whose network, objective and settings are used.
    """

    def __init__(self, training: "Training") -> None:
        self.training = training

    @property
    def network(self) -> nn.Module:
        """The network that is trained."""
        return self.training.network

    @property
    def sweeps(self) -> float:
        """How often a step sends its batch through the devices, if the rules of the layers do."""
        return 1.0

    @abstractmethod
    def update(self, x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Fill the gradients of the trained parameters with those of one batch.

        Parameters
        ----------
        x : Tensor, (batch, features)
        targets : Tensor, (batch,) or (batch, values)

        Returns
        -------
        loss : Tensor, scalar
        outputs : Tensor, (batch, outputs)
        """

    def state(self) -> dict[str, Any]:
        """Whatever the method has learned, as tensors and plain containers."""
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
class Backpropagation(Method):
    """Backpropagation through the network, with the gradient rules of its layers."""

    def update(self, x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Fill the gradients; see `Method`."""
        outputs = self.network(x)
        loss = self.loss(outputs, targets)
        loss.backward()
        return loss, outputs


@final
class SharpnessAware(Method):
    r"""Sharpness-aware training: the gradient where the loss is worst nearby.

    .. math:: \varepsilon = \rho\, g / \lVert g \rVert, \qquad g' = \nabla L(\theta + \varepsilon)

    Only the parameters of the physical layers are moved. Drives the device twice a step where the
    rule drives it once.

    Parameters
    ----------
    radius : float
        :math:`\rho`; with 0 the gradient is that of backpropagation.

    References
    ----------
    P. Foret et al., ICLR 2021; T. Xu et al., Nat. Commun. 2026, s41467-026-68470-9.
    """

    def __init__(self, training: "Training", *, radius: float = 0.5) -> None:
        super().__init__(training)
        if radius < 0:
            raise RangeError(f"radius is {radius}; it must be at least 0.")
        self.radius = radius

    @property
    def sweeps(self) -> float:
        """Twice."""
        return 2.0

    def update(self, x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Fill the gradients; see `Method`."""
        thetas = [layer.theta for layer in physical_layers(self.network)]
        outputs = self.network(x)
        loss = self.loss(outputs, targets)
        slopes = torch.autograd.grad(loss, thetas)
        norm = torch.stack([slope.square().sum() for slope in slopes]).sum().sqrt()
        before = [theta.detach().clone() for theta in thetas]
        with torch.no_grad():
            for theta, slope in zip(thetas, slopes, strict=True):
                theta.add_(self.radius * slope / norm.clamp_min(torch.finfo(norm.dtype).tiny))
        try:
            with fixed_statistics(self.network):
                self.loss(self.network(x), targets).backward()
        finally:
            with torch.no_grad():
                for theta, value in zip(thetas, before, strict=True):
                    theta.copy_(value)
        return loss, outputs


@final
class FineTuned(Method):
    """Train with one rule, then with that of the layers for the rest of the steps.

    At the change the normalisation is measured again, on one batch.

    Parameters
    ----------
    first : GradientRule
        Such as `in_silico` or `noise_aware`.
    last : float
        Fraction of the steps that are left to the rule of the layers.
    """

    def __init__(self, training: "Training", *, first: GradientRule, last: float = 0.1) -> None:
        super().__init__(training)
        if not 0 <= last <= 1:
            raise RangeError(f"last is {last}; it is a fraction of the steps, 0 to 1.")
        self.first, self.last = first, last

    @property
    def sweeps(self) -> float:
        """Only in the last steps."""
        return self.last

    def update(self, x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Fill the gradients; see `Method`."""
        training, network = self.training, self.network
        change = round((1 - self.last) * training.steps)
        if training.step < change:
            rules = [self.first(la.system, la.twin) for la in physical_layers(network)]
            with responding(network, rules):
                return Backpropagation(training).update(x, targets)
        if training.step == change:
            calibrate(network, x)
        return Backpropagation(training).update(x, targets)


@final
@dataclass(frozen=True)
class Shot:
    """What one call of a physical layer drove and measured.

    Attributes
    ----------
    layer : PhysicalLayer
    x : Tensor, (batch, input_dim)
    theta : Tensor, (param_dim,)
    y : Tensor, (batch, output_dim)
    """

    layer: PhysicalLayer
    x: Tensor
    theta: Tensor
    y: Tensor


def measured(network: nn.Module, x: Tensor) -> tuple[Shot, ...]:
    """Send ``x`` through the devices and return what each layer drove and measured, in order."""
    shots: list[Shot] = []
    with (
        torch.no_grad(),
        on_device(network),
        observed(network, lambda *of: shots.append(Shot(*of))),
    ):
        network(x)
    return tuple(shots)


@contextmanager
def repeated(
    network: nn.Module, shots: Sequence[Shot], models: Callable[[PhysicalLayer], Response]
) -> Iterator[None]:
    """Within this context each layer returns what was measured, with the gradient of a model.

    The statistics of the network stay what they are.
    """
    values: dict[PhysicalLayer, list[Tensor]] = {}
    for shot in shots:
        values.setdefault(shot.layer, []).append(shot.y)

    def response(layer: PhysicalLayer) -> Response:
        left = iter(values[layer])
        return valued(lambda *_: next(left), models(layer))

    with (
        fixed_statistics(network),
        responding(network, [response(layer) for layer in physical_layers(network)]),
    ):
        yield


def twin_of(layer: PhysicalLayer) -> nn.Module:
    """Twin of a layer.

    Raises
    ------
    TwinError
        It has none.
    """
    if layer.twin is None:
        raise TwinError(f"{layer.system.name} has no twin; give its layer one to train this way.")
    return layer.twin


@final
class Asymmetrical(Method):
    """Asymmetrical training: only the read-out of the last physical layer is measured.

    The states and the Jacobians of all layers are those of the twins, fed with their own outputs;
    the value of the last physical layer is the device's. Its merit is fewer read-outs.

    References
    ----------
    Y. Wang et al., Nat. Commun. 2025, s41467-025-57459-5.
    """

    def update(self, x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Fill the gradients; see `Method`."""
        layers = physical_layers(self.network)
        with fixed_statistics(self.network):
            last = measured(self.network, x)[-1]
        twins: list[Response] = [twin_of(layer) for layer in layers]
        twins[layers.index(last.layer)] = valued(lambda *_: last.y, twin_of(last.layer))
        with responding(self.network, twins):
            return Backpropagation(self.training).update(x, targets)


@final
class DirectFeedback(Method):
    r"""Direct feedback alignment: every physical layer receives the error of the output itself.

    .. math:: \delta y_l = B_l\, \frac{\partial L}{\partial \mathrm{outputs}}, \qquad
       \frac{\partial L}{\partial \theta_l} \approx
       \left(\frac{\partial f_m}{\partial \theta}\right)^{\!T} \delta y_l

    with fixed random :math:`B_l`, elements of variance 1 / outputs. The last physical layer and
    what follows it have their exact gradient. Forward through the device.

    Parameters
    ----------
    projections : sequence of Tensor, (output_dim, outputs), optional
        :math:`B_l` of all physical layers but the last.
    seed : int
        Of random projections.

    References
    ----------
    A. Nøkland, NeurIPS 2016; M. Nakajima et al., Nat. Commun. 13, 7847 (2022).
    """

    def __init__(
        self,
        training: "Training",
        *,
        projections: Sequence[Tensor] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(training)
        self.projections, self.seed = projections, seed

    def update(self, x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Fill the gradients; see `Method`."""
        network = self.network
        *earlier, _ = physical_layers(network)
        inner: list[Tensor] = []

        def detach(*call: Any) -> Tensor:
            inner.append(call[-1])
            return inner[-1].detach()

        hooks = [layer.register_forward_hook(detach) for layer in earlier]
        try:
            outputs = network(x)
        finally:
            for hook in hooks:
                hook.remove()
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
            return self.projections[number]
        generator = seeded(1000 * self.seed + number)
        random = torch.randn(width, delta.shape[1], generator=generator)
        return random / math.sqrt(delta.shape[1])


@final
class Perturbation(Method):
    r"""Estimate the gradient from losses at perturbed parameters, measured on the device.

    .. math:: g = \frac{1}{K} \sum_k \frac{L(p + c\,\Delta_k) - L(p - c\,\Delta_k)}{2 c}\,\Delta_k

    With random signs :math:`\Delta` this is simultaneous perturbation (SPSA). One-sided, with the
    loss at :math:`p` measured once and the perturbations integrated, it is multiplexed gradient
    descent. Guided, :math:`\Delta = \sqrt{\alpha}\,r + \sqrt{1 - \alpha}\,u` with random signs
    :math:`r` and the direction :math:`u` of the twin's gradient, scaled to the norm of :math:`r`.

    For independent signs the expected cosine with the true gradient of :math:`P` parameters is
    about :math:`\sqrt{K / (K + P)}`.

    Parameters
    ----------
    size : float
        :math:`c`.
    directions : int
        :math:`K`.
    central : bool
        Both sides, 2 K passes a step; otherwise K + 1.
    random : float
        :math:`\alpha`, the random share of the variance of a direction; below 1 the twin guides.

    References
    ----------
    J. C. Spall, IEEE Trans. Autom. Control 37, 332 (1992); A. N. McCaughan et al., APL Mach. Learn.
    1, 026118 (2023); N. Maheswaranathan et al., ICML 2019.
    """

    def __init__(
        self,
        training: "Training",
        *,
        size: float = 0.02,
        directions: int = 1,
        central: bool = True,
        random: float = 1.0,
    ) -> None:
        super().__init__(training)
        if not size > 0 or directions < 1 or not 0 <= random <= 1:
            raise RangeError(
                f"size is {size}, directions {directions} and random {random}; take a size above "
                "0, at least one direction, and a fraction in [0, 1]."
            )
        self.size, self.directions = size, directions
        self.central, self.random = central, random

    @property
    def sweeps(self) -> float:
        """Once a loss."""
        return 2.0 * self.directions if self.central else self.directions + 1.0

    def update(self, x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Fill the gradients; see `Method`."""
        trained = [p for p in self.network.parameters() if p.requires_grad]
        start = nn.utils.parameters_to_vector(trained).detach()
        guide = self._guide(x, targets, trained) if self.random < 1 else torch.zeros_like(start)
        found: list[Tensor] = []  # outputs of each pass; the first moves the statistics

        def loss_at(point: Tensor) -> Tensor:
            nn.utils.vector_to_parameters(point, trained)
            with torch.no_grad(), on_device(self.network):
                if not found:
                    found.append(self.network(x))
                    return self.loss(found[0], targets)
                with fixed_statistics(self.network):
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
        begin = 0
        for parameter in trained:
            end = begin + parameter.numel()
            parameter.grad = gradient[begin:end].view_as(parameter).clone()
            begin = end
        return (ahead if here is None else here), found[0]

    def _guide(self, x: Tensor, targets: Tensor, trained: Sequence[Tensor]) -> Tensor:
        """Direction of the twin's gradient, with the norm of as many signs."""
        layers = physical_layers(self.network)
        with (
            fixed_statistics(self.network),
            responding(self.network, [twin_of(layer) for layer in layers]),
        ):
            loss = self.loss(self.network(x), targets)
            slopes = torch.autograd.grad(loss, list(trained), allow_unused=True)
        flat = torch.cat(
            [
                torch.zeros_like(p).flatten() if slope is None else slope.flatten()
                for p, slope in zip(trained, slopes, strict=True)
            ]
        )
        direction: Tensor = flat / flat.norm().clamp_min(torch.finfo(flat.dtype).tiny)
        return direction * math.sqrt(len(flat))
