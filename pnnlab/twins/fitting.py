"""Fitting twins: `fit_twin` for any, and the fit of a neural one, one record an epoch."""

import copy
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import torch
import xarray as xr
from torch import Tensor
from tqdm.auto import tqdm

from pnnlab import characterize
from pnnlab.errors import RangeError, TwinError
from pnnlab.physical_system import PhysicalSystem, still
from pnnlab.plain import make_plain, seeded, whole
from pnnlab.twins.neural import Architecture, Mlp, NeuralTwin
from pnnlab.twins.physics import Equations, PhysicsTwin, fit_physics
from pnnlab.twins.twin import Signature, fit_noise, predict

WARMUP = 0.05  # of the steps, in which the rate rises
LONGEST_STEP = 1.0  # norm at which gradients are clipped
NOISE_SHOTS = 500  # enough for the few numbers of the noise model
FAINT = 3.0  # times its noise: what an output is at least taken to move by


@dataclass(frozen=True, kw_only=True)
class NeuralSettings:
    """How to fit a neural twin.

    A batch counts shots. The learning rate is the peak of Adam's, which falls along a cosine; by
    default what suits the architecture. After ``patience`` epochs without a better validation error
    the fit ends. The seed is that of the order of the shots.
    """

    epochs: int = 16
    batch_size: int = 16
    learning_rate: float | None = None
    patience: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        make_plain(self)
        for name in ("epochs", "batch_size", "patience"):
            whole(name, getattr(self, name), 1)
        if self.learning_rate is not None and not 0 < self.learning_rate < math.inf:
            raise RangeError(f"learning_rate is {self.learning_rate}; it must be above 0.")


@dataclass(frozen=True)
class NeuralRecord:
    """NMSE of one epoch against the mean over the repeats."""

    epoch: int
    train: float  # while the weights moved
    validation: float
    best: float  # lowest validation error so far; the twin ends with the weights of the lowest


def fitting_neural(
    twin: NeuralTwin, dataset: xr.Dataset, settings: NeuralSettings | None = None
) -> Iterator[NeuralRecord]:
    """Fit a neural twin in place to a data set of `characterize.collect`, one record an epoch.

    However the iteration ends, also by an error or Ctrl-C, the twin keeps its best weights, frozen,
    and its noise model is fitted to the repeats.
    """
    twin.check_data(dataset)
    settings = settings or NeuralSettings()
    place = twin.centre.device
    train = characterize.shots(dataset, "train").to(place)
    held = characterize.shots(dataset, "validation").to(place)
    twin.check_moving(train.y)
    if twin.fault:  # a twin that is fitted anew keeps its scale and weights
        _standardise(twin, train.y)
    target, held_target = _standard(twin, train.y).mean(0), held.y.mean(0)
    scale = float(target.var(0, correction=0).mean())
    peak = settings.learning_rate or twin.architecture.learning_rate
    weights = list(twin.core.parameters())
    optimizer = torch.optim.Adam(weights, lr=peak)
    size = settings.batch_size
    steps = settings.epochs * math.ceil(len(train) / size)
    best, best_epoch, best_weights = math.inf, 0, copy.deepcopy(twin.core.state_dict())
    generator = seeded(settings.seed)
    step = 0
    twin.requires_grad_(True)
    try:
        for epoch in range(1, settings.epochs + 1):
            total = 0.0
            for chosen in torch.randperm(len(train), generator=generator).split(size):
                rise = min(1.0, (step + 1) / max(WARMUP * steps, 1))
                fall = 0.5 * (1 + math.cos(math.pi * step / steps))
                optimizer.param_groups[0]["lr"] = peak * (rise * fall)
                error = twin.standard(train.x[chosen], train.theta[chosen]) - target[chosen]
                loss = error.square().mean()
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(weights, LONGEST_STEP)
                optimizer.step()
                total += float(loss.detach()) * len(chosen) / len(train)
                step += 1
            validation = characterize.nmse(predict(twin, held.x, held.theta), held_target)
            if validation < best:
                best, best_epoch = validation, epoch
                best_weights = copy.deepcopy(twin.core.state_dict())
            yield NeuralRecord(epoch, total / scale, validation, best)
            if epoch - best_epoch >= settings.patience or not math.isfinite(total):
                break
    finally:
        twin.core.load_state_dict(best_weights)
        given = train.first(NOISE_SHOTS)
        with torch.no_grad():
            mean = twin.standard(given.x, given.theta)
            # A part of an output has as many times the variance as there are parts in it.
            parts = twin.core(given.x[:1], given.theta[:1]).shape[1] / twin.output_dim
        fit_noise(twin.noise, mean, _standard(twin, given.y), math.sqrt(parts))
        twin.requires_grad_(False)
        hopeless = (
            f"its validation NMSE is {best:.3g}, no better than a constant; look at the "
            "memory it was given, give it more shots or epochs, or a lower learning rate"
        )
        twin.fault, twin.reported = "" if best < 1 else hopeless, ""


@final
@dataclass(frozen=True)
class NeuralFit:
    """A fitted neural twin, a new one, and the records of its epochs."""

    twin: NeuralTwin
    records: tuple[NeuralRecord, ...]

    @property
    def nmse(self) -> float:
        """Lowest validation error; that of the twin's weights."""
        return self.records[-1].best

    @property
    def fault(self) -> str:
        return self.twin.fault

    def __str__(self) -> str:
        return (
            f"{self.twin.signature.name}, neural twin: {self.fault or 'converged'}\n"
            f"  NMSE  {self.nmse:.4g} on the validation shots, {len(self.records)} epochs"
        )


def fit_neural(
    twin: NeuralTwin, dataset: xr.Dataset, settings: NeuralSettings | None = None
) -> NeuralFit:
    """Fit a copy of a neural twin to the end; see `fitting_neural`."""
    fitted = copy.deepcopy(twin)
    return NeuralFit(fitted, tuple(fitting_neural(fitted, dataset, settings)))


def fit_twin(
    system: PhysicalSystem | None = None,
    shots: int = 1500,
    *,
    equations: Equations | None = None,
    architecture: Architecture | None = None,
    dataset: xr.Dataset | None = None,
    seed: int = 0,
    progress: bool = True,
) -> PhysicsTwin | NeuralTwin:
    """Measure a device and fit a twin to it.

    Parameters
    ----------
    system : PhysicalSystem, optional
        Not needed where there is a ``dataset``.
    shots : int
        Random drives to measure, two read-outs each.
    equations : Equations, optional
        Fit the constants of these, such as ``CircuitEquations(replays=4)``: a physics twin.
    architecture : Architecture, optional
        Of a neural twin, which is the default: `Mlp`, or for a device that replays its input
        `Temporal`, or `FilterBank` if log energies are read out.
    dataset : Dataset, optional
        Of `characterize.collect` or `read_measurements`, to be used in place of measuring.
    seed : int
        Of the drives and of the fit.

    Warns
    -----
    RuntimeWarning
        The fit failed; the reason is the ``fault`` of the twin.
    """
    if equations is not None and architecture is not None:
        raise TwinError("give equations for a physics twin or an architecture for a neural one.")
    described = system if dataset is None or system is not None else Signature.of_data(dataset)
    if described is None:
        raise TwinError("give a system to measure, or a dataset that was measured.")
    twin: PhysicsTwin | NeuralTwin = (
        NeuralTwin(described, architecture or Mlp(), seed=seed)
        if equations is None
        else PhysicsTwin(described, equations)
    )
    if dataset is None:
        assert system is not None
        with tqdm(total=shots, desc="measuring", disable=not progress) as bar:
            dataset = characterize.collect(
                system, shots, seed=seed, progress=lambda done, _: bar.update(done - bar.n)
            )
    if isinstance(twin, PhysicsTwin):
        twin = fit_physics(twin, dataset).twin
    else:
        settings = NeuralSettings(seed=seed)
        epochs = fitting_neural(twin, dataset, settings)
        list(tqdm(epochs, "fitting", settings.epochs, disable=not progress))
    if twin.fault:
        warnings.warn(f"the twin is not good: {twin.fault}.", RuntimeWarning, stacklevel=2)
    return twin


def _standardise(twin: NeuralTwin, y: Tensor) -> None:
    """Set the twin's centre and spread to those of ``y``, by output or of all outputs alike."""
    values = y if twin.core.distinct > 1 else y.flatten(1)[..., None]
    mean = values.double().mean(0)
    spread = mean.std(0)
    if len(y) > 1:  # what hardly moves must not have its noise blown up to the size of a signal
        spread = torch.maximum(spread, FAINT * values.double().var(0).mean(0).sqrt())
    twin.centre.copy_(mean.mean(0))
    twin.spread.copy_(torch.where(still(values.flatten(0, 1)), 0.0, spread))


def _standard(twin: NeuralTwin, y: Tensor) -> Tensor:
    """Read-outs less the centre, in spreads; 0 of an output that did not move in the fit."""
    return ((y - twin.centre) / twin.spread).where(twin.spread > 0, 0.0)
