"""Physical local learning: each layer is trained by a loss of its own, without backpropagation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from pnnlab.errors import ShapeError
from pnnlab.layers import PhysicalLayer, Rescale
from pnnlab.physical_system import PhysicalSystem
from pnnlab.plain import random_state, seeded, whole
from pnnlab.training.methods import Method


def measured_only(system: PhysicalSystem, _: nn.Module | None) -> PhysicalSystem:
    """Gradient rule of a layer that is never differentiated."""
    return system


@final
class LocalNetwork(nn.Module):
    r"""Fixed physical layers, each followed by a trained digital one that is given its input too.

    .. math:: h_{l+1} = W_l\,[f_p(h_l), h_l], \qquad
       g_l = \cos(h_{l+1}, v_l)

    with a fixed random vector :math:`v_l`. A candidate class is written over the first inputs; the
    network answers, for every class, the sum of :math:`g_l` over the layers. So an answer costs
    classes × layers device passes.

    Each :math:`h` is as long as the ``input_dim`` of the systems, which is the same for all.
    ``features`` and ``classes`` are those of the task; theta, :math:`W` and :math:`v` are drawn by
    ``seed``.

    Source: A. Momeni et al., Science 382, 1297 (2023).
    """

    directions: Tensor

    def __init__(
        self, systems: Sequence[PhysicalSystem], features: int, classes: int, *, seed: int = 0
    ) -> None:
        super().__init__()
        width = systems[0].input_dim
        if not classes < features <= width:
            raise ShapeError(
                f"{classes} classes, {features} features and systems of {width} inputs: the "
                "label takes the place of the first features, and the inputs hold all of them."
            )
        for number, system in enumerate(systems, start=1):
            if system.input_dim != width:
                raise ShapeError(
                    f"system {number} takes {system.input_dim} inputs and the first {width}; give "
                    "systems that take as many."
                )
        self.classes, self.width = whole("classes", classes, 2), width
        generator = seeded(seed)
        self.register_buffer("directions", torch.randn(len(systems), width, generator=generator))
        with random_state(seed):
            self.encodings = nn.ModuleList(Rescale(width) for _ in systems)
            self.physical = nn.ModuleList(
                PhysicalLayer(system, None, measured_only, seed=1000 * seed + number)
                for number, system in enumerate(systems)
            )
            outputs = [system.output_dim for system in systems]
            self.standard = nn.ModuleList(Rescale(n, gain=1.0, offset=0.0) for n in outputs)
            self.mixers = nn.ModuleList(nn.Linear(n + width, width) for n in outputs)
        for module in (self.physical, self.encodings, self.standard):
            module.requires_grad_(False)

    def labelled(self, x: Tensor, label: Tensor) -> Tensor:
        """Write labels, (batch,), over the first inputs of ``x``; returns (batch, width)."""
        marked = functional.pad(x, (0, self.width - x.shape[1]))
        marks = functional.one_hot(label, self.classes).to(x)
        return torch.cat([marks, marked[:, self.classes :]], 1)

    def goodness(self, h: Tensor) -> Tensor:
        """Cosines of all layers, (batch, layers); no gradient passes from a layer to another."""
        found = []
        parts = (self.encodings, self.physical, self.standard, self.mixers, self.directions)
        for encode, device, standardise, mix, direction in zip(*parts, strict=True):
            with torch.no_grad():
                x = encode(h.detach()).clamp(0, 1)
                y = standardise(device(x))
            h = mix(torch.cat([y, 4 * x - 2], 1))  # of one size, or the label is lost beside y
            found.append(functional.cosine_similarity(h, direction, dim=1))
        return torch.stack(found, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Score every class, (batch, classes)."""
        labels = torch.arange(self.classes, device=x.device).repeat_interleave(len(x))
        repeated = self.labelled(x.repeat(self.classes, 1), labels)
        return self.goodness(repeated).sum(1).view(self.classes, len(x)).T


@final
@dataclass(frozen=True, eq=False, kw_only=True)
class LocalLearning(Method):
    r"""Train a `LocalNetwork` by contrasting the true label with another one.

    .. math:: L = \sum_l \operatorname{softplus}(-s\,(g_l^+ - g_l^-))
    """

    sharpness: float = 5.0  # s

    @property
    def sweeps(self) -> float:
        return 2.0

    def update(self, x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        network = self.network
        if not isinstance(network, LocalNetwork):
            raise ShapeError("LocalLearning trains a LocalNetwork; make one of the systems.")
        other = (targets + torch.randint_like(targets, 1, network.classes)) % network.classes
        given = torch.cat([network.labelled(x, targets), network.labelled(x, other)])
        true, false = network.goodness(given).chunk(2)
        loss = functional.softplus(-self.sharpness * (true - false)).sum(1).mean()
        loss.backward()
        scores = x.new_full((len(x), network.classes), -torch.inf)
        rows = torch.arange(len(x), device=x.device)
        scores[rows, targets] = true.sum(1).detach()
        scores[rows, other] = false.sum(1).detach()
        return loss, scores
