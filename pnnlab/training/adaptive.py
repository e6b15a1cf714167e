"""Training methods that improve the twin with what the training measures anyway."""

import math
from collections import deque
from itertools import chain
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from pnnlab.errors import RangeError, TwinError
from pnnlab.gradients import Response
from pnnlab.layers import PhysicalLayer, observed, physical_layers
from pnnlab.plain import seeded, whole
from pnnlab.training.methods import Backpropagation, Method, Shot, measured, repeated, twin_of
from pnnlab.twins import PhysicsTwin, refined

if TYPE_CHECKING:
    from pnnlab.training.training import Training


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
class DualAdaptive(Method):
    r"""Dual adaptive training: learn the error of the twin while training on it.

    Forward through the device; backward through :math:`f_m + e_\varphi`, at the device's inputs.
    Each step first fits :math:`\varphi` to the squared error of the batch that was measured, at no
    further pass.

    Parameters
    ----------
    learning_rate : float
        Of Adam on :math:`\varphi`; with 0 this is physics-aware training.
    hidden : int
        Width of the error models (the publication has small convolutional networks).
    delay : float
        Fraction of the steps in which the error models are fitted and not yet used.
    seed : int
        Of their initial weights.

    References
    ----------
    Z. Zheng et al., Nat. Mach. Intell. 5, 1119 (2023).
    """

    def __init__(
        self,
        training: "Training",
        *,
        learning_rate: float = 1e-3,
        hidden: int = 64,
        delay: float = 0.1,
        seed: int = 0,
    ) -> None:
        super().__init__(training)
        if not 0 <= learning_rate < math.inf or not 0 <= delay <= 1:
            raise RangeError(
                f"learning_rate is {learning_rate} and delay {delay}; take a rate of at least 0 "
                "and a fraction of the steps, 0 to 1."
            )
        self.learning_rate, self.delay, self.seed = learning_rate, delay, seed
        self.hidden = whole("hidden", hidden, 1)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seeded(seed).initial_seed())
            layers = physical_layers(self.network)
            self._errors = nn.ModuleList(_ErrorModel(layer, hidden) for layer in layers)
        self._optimizer = torch.optim.Adam(self._errors.parameters(), lr=learning_rate)

    def update(self, x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Fill the gradients; see `Method`."""
        training, network = self.training, self.network
        shots = measured(network, x)
        self._fit(shots)
        used = training.step >= self.delay * training.steps
        error = self._of(physical_layers(network))

        def model(layer: PhysicalLayer) -> Response:
            twin = twin_of(layer)
            if not used:
                return twin
            return lambda x, theta: twin(x, theta) + error[layer](x, theta)

        with repeated(network, shots, model):
            return Backpropagation(training).update(x, targets)

    def _of(self, layers: list[PhysicalLayer]) -> dict[PhysicalLayer, nn.Module]:
        return dict(zip(layers, self._errors, strict=True))

    def _fit(self, shots: tuple[Shot, ...]) -> None:
        error = self._of(physical_layers(self.network))
        self._optimizer.zero_grad()
        total = torch.zeros(())
        for shot in shots:
            model = error[shot.layer]
            assert isinstance(model, _ErrorModel)
            if model.scale == 0:
                model.scale.copy_(shot.y.std())
            with torch.no_grad():
                missing = shot.y - twin_of(shot.layer)(shot.x, shot.theta)
            found = model(shot.x, shot.theta)
            total = total + ((found - missing) / model.scale).square().mean()
        torch.autograd.backward(total, inputs=list(self._errors.parameters()))
        self._optimizer.step()

    def state(self) -> dict[str, Any]:
        """Error models and their optimizer."""
        return {"errors": self._errors.state_dict(), "optimizer": self._optimizer.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a `state`."""
        self._errors.load_state_dict(state["errors"])
        self._optimizer.load_state_dict(state["optimizer"])


@final
class OnlineRefit(Method):
    """Physics-aware training whose physics twin is fitted again to what the steps measured.

    Every few steps the free constants of the equations are fitted by least squares to the last
    batches of all layers, drawn towards their values; it costs no pass. Layers of one device share
    the constants.

    Parameters
    ----------
    every : int
        Steps between two fits.
    batches : int
        How many of the last batches are used.
    stay : float
        Relative standard deviation that a constant is expected to change by.
    """

    def __init__(
        self, training: "Training", *, every: int = 60, batches: int = 4, stay: float = 0.02
    ) -> None:
        super().__init__(training)
        self.every, self.batches = whole("every", every, 1), whole("batches", batches, 1)
        if not stay > 0:
            raise RangeError(f"stay is {stay}; it must be above 0.")
        self.stay = stay
        for layer in physical_layers(self.network):
            if not isinstance(layer.twin, PhysicsTwin):
                raise TwinError("OnlineRefit fits the constants of a PhysicsTwin; give one.")
        self._last: deque[tuple[tuple[int, Tensor, Tensor, Tensor], ...]] = deque(maxlen=batches)

    def update(self, x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Fill the gradients; see `Method`."""
        layers = physical_layers(self.network)
        shots: list[tuple[int, Tensor, Tensor, Tensor]] = []

        def keep(layer: PhysicalLayer, x: Tensor, theta: Tensor, y: Tensor) -> None:
            shots.append((layers.index(layer), x, theta, y))

        with observed(self.network, keep):
            found = Backpropagation(self.training).update(x, targets)
        self._last.append(tuple(shots))
        if (self.training.step + 1) % self.every == 0:
            self._refit(layers)
        return found

    def _refit(self, layers: list[PhysicalLayer]) -> None:
        numbered = {n: la.twin for n, la in enumerate(layers) if isinstance(la.twin, PhysicsTwin)}
        for constants in {twin.constants for twin in numbered.values()}:
            sharing = {n: twin for n, twin in numbered.items() if twin.constants == constants}
            kept = chain.from_iterable(self._last)
            shots = [(sharing[n], x, theta, y) for n, x, theta, y in kept if n in sharing]
            found = refined(shots, self.stay)
            for twin in sharing.values():
                twin.values.copy_(twin.with_constants(found).values)

    def state(self) -> dict[str, Any]:
        """The last batches."""
        return {"last": [list(shots) for shots in self._last]}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a `state`."""
        self._last.clear()
        self._last.extend(tuple(tuple(shot) for shot in shots) for shots in state["last"])
