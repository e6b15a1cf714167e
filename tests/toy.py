"""A small system with a twin that is wrong in a known way: tests need no physics."""

import torch
from torch import Tensor, nn

from pnnlab.physical_system import SimulatedSystem, State


def toy_response(x: Tensor, theta: Tensor, strength: float) -> Tensor:
    """y_j = tanh(strength * sum_i (2 theta_ij - 1) x_i), theta being (..., inputs * outputs)."""
    weights = 2 * theta.reshape(*theta.shape[:-1], x.shape[-1], -1) - 1
    return torch.tanh(
        strength * torch.einsum("bi,...io->bo" if theta.ndim == 1 else "bi,bio->bo", x, weights)
    )


class Toy(SimulatedSystem):
    """A layer of tanh units with read-out noise and a gain that drifts with the shots."""

    def __init__(
        self,
        inputs: int = 6,
        outputs: int = 6,
        noise: float = 0.01,
        drift: float = 1e-6,
        seed: int = 0,
    ) -> None:
        super().__init__(inputs, inputs * outputs, outputs)
        self.noise = noise
        self.drift = drift
        self.shots = 0
        self.generator = torch.Generator().manual_seed(seed)

    def _simulate(self, x: Tensor, theta: Tensor) -> Tensor:
        y = toy_response(x, theta, 1.1 + self.drift * self.shots)
        self.shots += len(x)
        return y + self.noise * torch.randn(y.shape, generator=self.generator, dtype=y.dtype)

    def state(self) -> State:
        return {
            "shots": self.shots,
            "generator": self.generator.get_state().numpy().tobytes().hex(),
        }

    def restore(self, state: State) -> None:
        self.shots = int(state["shots"])
        raw = bytearray.fromhex(str(state["generator"]))
        self.generator.set_state(torch.frombuffer(raw, dtype=torch.uint8))


class ToyTwin(nn.Module):
    """The toy's equation with a gain that is ten per cent off."""

    def __init__(self, inputs: int = 6, outputs: int = 6, strength: float = 1.0) -> None:
        super().__init__()
        self.input_dim, self.param_dim, self.output_dim = inputs, inputs * outputs, outputs
        self.strength = strength

    def forward(self, x: Tensor, theta: Tensor) -> Tensor:
        return toy_response(x, theta, self.strength)


class InUnit(Toy):
    """A toy whose read-outs are in another unit, and have an offset."""

    def __init__(self, *shape: int, unit: Tensor | float, offset: float = 0.0, **of_toy) -> None:
        super().__init__(*shape, **of_toy)
        self.unit, self.offset = unit, offset

    def _simulate(self, x: Tensor, theta: Tensor) -> Tensor:
        return self.unit * super()._simulate(x, theta) + self.offset


class TwinInUnit(ToyTwin):
    """The toy's twin in that unit."""

    def __init__(self, *shape: int, unit: Tensor | float, offset: float = 0.0) -> None:
        super().__init__(*shape)
        self.unit, self.offset = unit, offset

    def forward(self, x: Tensor, theta: Tensor) -> Tensor:
        return self.unit * super().forward(x, theta) + self.offset
