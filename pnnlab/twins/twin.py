"""The base of every twin: a differentiable model with the signature of its system; its noise."""

import math
import warnings
from abc import ABC, abstractmethod
from dataclasses import astuple, dataclass
from typing import Any, ClassVar, TypeAlias, final

import torch
import xarray as xr
from torch import Tensor, nn

from pnnlab.errors import DataError, TwinError
from pnnlab.physical_system import PhysicalSystem, device, still, still_outputs
from pnnlab.plain import make_plain, seeded
from pnnlab.systems import multiplex

BATCH = 500  # shots that `predict` models at once
NOISELESS = 1e-9  # spreads, which the likelihood of no noise at all stops at


@dataclass(frozen=True)
class Signature:
    """Name and dimensions of a system."""

    name: str
    input_dim: int
    param_dim: int
    output_dim: int
    # What they are called in the attributes of a data set.
    KEYS: ClassVar = ("system", "input_dim", "param_dim", "output_dim")

    def __post_init__(self) -> None:
        make_plain(self)

    @classmethod
    def of(cls, system: "Described") -> "Signature":
        return cls(system.name, system.input_dim, system.param_dim, system.output_dim)

    @classmethod
    def of_data(cls, dataset: xr.Dataset) -> "Signature":
        """Signature of the system that a data set was measured on."""
        name, *dims = (dataset.attrs[key] for key in cls.KEYS)
        return cls(str(name), *map(int, dims))

    def __str__(self) -> str:
        return f"{self.name} ({self.input_dim} + {self.param_dim} → {self.output_dim})"


Described: TypeAlias = PhysicalSystem | Signature


@dataclass(frozen=True)
class Recipe:
    """What a twin is made by: a frozen dataclass of numbers and text that is saved with it."""

    def __post_init__(self) -> None:
        make_plain(self)


class Twin(nn.Module, ABC):
    """A differentiable digital model, called like its system.

    Attributes
    ----------
    signature : Signature
        Of its system.
    fault : str
        Why its fit failed, or an empty string. A report repeats it.
    reported : str
        Why its last report failed, or an empty string. A training warns of both.
    """

    def __init__(self, system: Described) -> None:
        super().__init__()
        self.signature = Signature.of(system)
        _, self.input_dim, self.param_dim, self.output_dim = astuple(self.signature)
        self.fault = self.reported = ""

    @property
    @abstractmethod
    def label(self) -> str:
        """The word for this kind of twin in reports."""

    def forward(self, x: Tensor, theta: Tensor) -> Tensor:
        """Model the read-out, (batch, output_dim), differentiably in everything.

        ``x`` is (batch, input_dim), ``theta`` (param_dim,) or (batch, param_dim); other shapes
        raise a `TwinError`. It is computed in the data type of the weights, or in at least single
        precision.
        """
        if x.shape[1:] != (self.input_dim,) or theta.shape[-1:] != (self.param_dim,):
            raise TwinError(
                f"x has shape {tuple(x.shape)} and theta {tuple(theta.shape)}, but this is the "
                f"twin of {self.signature}; fit one for the system at hand."
            )
        weights = next(self.parameters(), None)
        dtype = torch.promote_types(x.dtype, torch.float32) if weights is None else weights.dtype
        with torch.autocast(x.device.type, enabled=False):
            return self.model(x.to(dtype), theta.to(dtype)).to(x.dtype)

    @abstractmethod
    def model(self, x: Tensor, theta: Tensor) -> Tensor:
        """Compute what `forward` returns, of tensors with the right shapes."""

    @final
    def check_system(self, system: Described) -> None:
        """Raise `TwinError` unless ``system`` is the one that this twin was made for."""
        theirs = Signature.of(system)
        if theirs != self.signature:
            raise TwinError(
                f"this is the twin of {self.signature}, and the system is {theirs}: fit one for "
                "it, or make a reprogrammed() one if it is the same device, programmed otherwise."
            )

    @final
    def check_data(self, dataset: xr.Dataset) -> None:
        """Raise `TwinError` unless ``dataset`` was measured on this twin's system."""
        name, inputs, parameters, outputs = theirs = tuple(map(dataset.attrs.get, Signature.KEYS))
        if theirs != astuple(self.signature):
            raise TwinError(
                f"this is the twin of {self.signature}, and the data are of {name} ({inputs} + "
                f"{parameters} → {outputs}): collect some from its own system."
            )

    @final
    def check_moving(self, y: Tensor) -> None:
        """Warn of outputs in ``y``, (repeats, shots, outputs), that are still; raise if all are."""
        found = still(y.flatten(0, 1)).nonzero().flatten().tolist()
        name = self.signature.name
        if len(found) == y.shape[2]:
            raise DataError(
                f"no output of {name} moves in these {y.shape[1]} shots, so there is nothing to "
                "fit: check that it is driven and read out, and collect again."
            )
        if found:
            warnings.warn(f"{name}: {still_outputs(found)}", RuntimeWarning, stacklevel=3)


@final
class Noise(nn.Module):
    """Standard deviation of a read-out, log-quadratic in its mean, both standardised.

    There are ``distinct`` outputs with a level of their own; 1 if all are alike.
    """

    def __init__(self, distinct: int) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.full((distinct,), -math.inf))  # none is known
        self.slope = nn.Parameter(torch.zeros(2))

    def forward(self, mean: Tensor) -> Tensor:
        """Logarithm of the deviation at a standardised ``mean``, (batch, outputs)."""
        m = mean.clamp(-3, 3)
        return self.level + self.slope[0] * m + self.slope[1] * m.square()


def fit_noise(noise: Noise, mean: Tensor, y: Tensor, share: float = 1.0) -> None:
    """Fit a noise model to the scatter of repeats around their mean, by Gaussian likelihood.

    Standardised are ``mean``, (shots, outputs), and the read-outs ``y``, (repeats, shots, outputs);
    ``share`` is the factor from their deviation to what the model describes. Without repeats
    nothing is fitted.
    """
    repeats = len(y)
    if repeats < 2:
        return
    # Around their own mean, r repeats scatter with (r - 1) / r of the noise's variance.
    residual = (y - y.mean(0)) * math.sqrt(repeats / (repeats - 1)) * share
    squares = residual.square() + NOISELESS**2
    noise.requires_grad_(True)
    optimizer = torch.optim.LBFGS(noise.parameters(), max_iter=50, line_search_fn="strong_wolfe")
    with torch.no_grad():
        noise.slope.zero_()
        noise.level.copy_(squares.mean((0, 1)).log().mean() / 2)

    def likelihood() -> Tensor:
        optimizer.zero_grad()
        log = noise(mean)
        loss: Tensor = (log + 0.5 * squares * torch.exp(-2 * log)).mean()
        loss.backward()
        return loss

    optimizer.step(likelihood)
    noise.requires_grad_(False)


def noisy(mean: Tensor, deviation: Tensor, generator: torch.Generator | None) -> Tensor:
    """Add normal noise of this deviation, in the memory of ``mean``."""
    normal = torch.randn(mean.shape, generator=generator, dtype=mean.dtype, device=mean.device)
    return mean + deviation * normal


def check_programme(system: Described, replays: int, *, segments: bool = True) -> None:
    """Raise `TwinError` unless ``system`` can replay so often, and be read in equal segments."""
    parameters = multiplex.param_dim(system.input_dim, replays)
    if replays < 1 or system.param_dim != parameters:
        raise TwinError(
            f"{replays} replays of {system.input_dim} samples have {parameters} parameters, but "
            f"{system.name} has {system.param_dim}: give the number of replays that it is "
            "programmed with."
        )
    samples = replays * system.input_dim
    if segments and samples % system.output_dim:
        raise TwinError(f"{samples} samples cannot be read out as {system.output_dim} equal means.")


def stand_in(twin: Twin, *, seed: int = 0) -> PhysicalSystem:
    """Make a system that answers as a twin does, with its noise: where the device is elsewhere."""
    noise, signature = seeded(seed), twin.signature
    sample: Any = getattr(twin, "sample", None)
    if sample is None:
        raise TwinError(f"{twin.label} models no noise; use a PhysicsTwin or a NeuralTwin.")
    return device(
        lambda x, theta: sample(x, theta, noise),
        inputs=signature.input_dim,
        parameters=signature.param_dim,
        outputs=signature.output_dim,
        name=f"twin of {signature.name}",
    )


def predict(twin: nn.Module, x: Tensor, theta: Tensor) -> Tensor:
    """Model many shots, in batches and without a graph."""
    with torch.no_grad():
        rows = [slice(start, start + BATCH) for start in range(0, len(x), BATCH)]
        return torch.cat([twin(x[r], theta if theta.ndim == 1 else theta[r]) for r in rows])
