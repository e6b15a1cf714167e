"""Drift since a moment that was remembered, and twins that are brought up to date."""

import math
from dataclasses import dataclass, field

import torch
import xarray as xr
from torch import Tensor, nn

from pnnlab import characterize
from pnnlab.characterize import MeasuredShots
from pnnlab.errors import RangeError, TwinError
from pnnlab.layers import PhysicalLayer, physical_layers
from pnnlab.physical_system import PhysicalSystem
from pnnlab.plain import seeded, whole
from pnnlab.training.layer_drives import seeing_passes, seen
from pnnlab.twins import (
    NeuralSettings,
    NeuralTwin,
    PhysicsTwin,
    fit_neural,
    fit_physics,
    predict,
)

CERTAIN = 4.0  # standard errors above which a change is believed
READOUTS = 2  # of each fresh shot: two tell the noise
SMOOTH = 16.0  # longest correlation of fresh drives, as in `characterize.collect`
GENTLE = 0.2  # of an architecture's learning rate, for weights that are nearly right


@dataclass(frozen=True, kw_only=True)
class DriftNow:
    """How far a device has gone from where it was.

    Attributes
    ----------
    rms : float
        Rms change of the read-outs, in their units, without the noise's share.
    certain : float
        The smallest rms change that could be told from noise here.
    nmse : float
        The squared change over the variance of the remembered read-outs from input to input: as
        much error has a twin gained that was right then.
    device_passes : int
        What the look cost.
    """

    rms: float
    certain: float
    nmse: float
    device_passes: int

    @property
    def told_from_noise(self) -> bool:
        """Whether the change is larger than noise could make it seem."""
        return self.rms > self.certain


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """Shots that a device took at some moment, to be taken again later.

    Attributes
    ----------
    system : PhysicalSystem
    x : Tensor, (shots, input_dim)
    theta : Tensor, (param_dim,) or (shots, param_dim)
    y : Tensor, (repeats, shots, output_dim)
        What it answered then.
    """

    system: PhysicalSystem
    x: Tensor = field(repr=False)
    theta: Tensor = field(repr=False)
    y: Tensor = field(repr=False)

    @classmethod
    def take(
        cls, system: PhysicalSystem, x: Tensor, theta: Tensor, repeats: int = 4
    ) -> "Reference":
        """Measure now. Costs ``repeats * len(x)`` passes, and as many to compare with.

        Raises
        ------
        RangeError
            Fewer than two shots or two repeats: signal or noise would be unknown.
        """
        if len(x) < 2 or repeats < 2:
            raise RangeError(
                f"{len(x)} shots with {repeats} repeats tell no change from noise; take at least "
                "two of each."
            )
        x, theta = x.detach().clone(), theta.detach().clone()
        return cls(system=system, x=x, theta=theta, y=_measured(system, x, theta, repeats))

    def compare(self) -> DriftNow:
        """Take the same shots again."""
        before = self.system.passes
        now = _measured(self.system, self.x, self.theta, len(self.y)).double()
        then = self.y.double()
        variance = (then.var(0) + now.var(0)).mean() / len(then)  # of the difference, by noise
        change = (now.mean(0) - then.mean(0)).square().mean() - variance
        # The mean of k squares of normal errors scatters by sqrt(2 / k) of their variance.
        scatter = variance * math.sqrt(2 / now[0].numel())
        return DriftNow(
            rms=float(change.clamp_min(0).sqrt()),
            certain=float((CERTAIN * scatter).sqrt()),
            nmse=float(change.clamp_min(0) / then.mean(0).var(0, correction=0).mean()),
            device_passes=self.system.passes - before,
        )


def remember(network: nn.Module, x: Tensor, repeats: int = 4) -> tuple[Reference, ...]:
    """Take a reference of every physical layer, where it works when the network is given ``x``.

    Costs `remembering_passes`.
    """
    return tuple(
        Reference.take(where.layer.system, where.spread(len(x)), where.theta, repeats)
        for where in seen(network, x)
    )


def remembering_passes(network: nn.Module, points: int, repeats: int = 4) -> int:
    """Device passes that `remember` costs with so many examples."""
    return seeing_passes(network, points) + repeats * points * len(physical_layers(network))


@dataclass(frozen=True, kw_only=True)
class Refit:
    """What bringing a twin up to date achieved, on fresh shots that the fit has not seen.

    Attributes
    ----------
    nmse_before, nmse_after : float
        Against single read-outs.
    ceiling : float
        The `noise_ceiling` of these shots: no twin does better.
    device_passes : int
        What it cost.
    """

    nmse_before: float
    nmse_after: float
    ceiling: float
    device_passes: int

    def __str__(self) -> str:
        return (
            f"NMSE {self.nmse_before:.3g} → {self.nmse_after:.3g} on fresh shots, where noise "
            f"alone makes {self.ceiling:.3g}; {self.device_passes} device passes"
        )


def refit(
    layer: PhysicalLayer,
    *,
    shots: int = 200,
    x: Tensor | None = None,
    reach: float = 0.1,
    seed: int = 0,
) -> Refit:
    """Fit the twin of a layer anew, in place, to fresh shots around the layer's parameters.

    Of a `PhysicsTwin` the constants are fitted, of a `NeuralTwin` the weights, from where they
    stand. If it is no better afterwards on shots that were held out, or anything fails, the layer
    has its old twin back.

    Parameters
    ----------
    layer : PhysicalLayer
    shots : int
        Fresh drives, two read-outs each, see `refit_passes`. One in ten is for validation, and
        one in ten held out.
    x : Tensor, (n, input_dim), optional
        Inputs that the layer sees, see `seen`: about half of the fresh shots take one of them,
        the others random ones. By default all are random.
    reach : float
        How far the parameters of a shot are from the layer's own, at most.
    seed : int
        Of the drives, and of the order in which a neural twin learns them.

    Raises
    ------
    TwinError
        The layer has no twin that can be fitted, or the new one is no better.
    RangeError
        Fewer than 20 shots, or ``reach`` is not in (0, 1].
    """
    shots = whole("shots", shots)
    if shots < 20 or not 0 < reach <= 1:
        raise RangeError(
            f"shots is {shots} and reach {reach}; take at least 20 shots, and 0 < reach <= 1."
        )
    twin = layer.twin
    if not isinstance(twin, PhysicsTwin | NeuralTwin):
        raise TwinError("this layer has no twin to fit; give it a PhysicsTwin or a NeuralTwin.")
    fresh = _fresh(layer, shots, x, reach, seed)
    held = characterize.shots(fresh, "test")
    before = _error(twin, held)
    fitted = _fitted(twin, fresh, shots, seed)
    after = _error(fitted, held)
    if not after < before:
        raise TwinError(
            f"the twin is as it was: fitted to {shots} fresh shots, its NMSE on others would have "
            f"gone from {before:.3g} to {after:.3g}. Either it is still right, or more shots are "
            "needed."
        )
    twin.load_state_dict(fitted.state_dict())
    twin.fault = fitted.fault
    return Refit(
        nmse_before=before,
        nmse_after=after,
        ceiling=characterize.noise_ceiling(held.y),
        device_passes=int(fresh.attrs["device_passes"]),
    )


def refit_passes(shots: int = 200) -> int:
    """Device passes that `refit` costs."""
    return READOUTS * shots


def _measured(system: PhysicalSystem, x: Tensor, theta: Tensor, repeats: int) -> Tensor:
    return torch.stack([system(x, theta) for _ in range(repeats)])


def _fresh(
    layer: PhysicalLayer, shots: int, x: Tensor | None, reach: float, seed: int
) -> xr.Dataset:
    system, generator = layer.system, seeded(seed)
    drives = characterize.random_drives(shots, system.input_dim, SMOOTH, generator)
    if x is not None:
        known = torch.rand(shots, generator=generator) < 0.5
        which = torch.randint(len(x), (int(known.sum()),), generator=generator)
        drives[known] = x.detach()[which]
    away = characterize.random_drives(shots, system.param_dim, SMOOTH, generator)
    theta = (layer.theta.detach().clamp(0, 1) + reach * (2 * away - 1)).clamp(0, 1)
    return characterize.measured(system, drives, theta, repeats=READOUTS, seed=seed, reach=reach)


def _error(twin: nn.Module, held: MeasuredShots) -> float:
    return characterize.nmse(predict(twin, held.x, held.theta).expand_as(held.y), held.y)


def _fitted(
    twin: PhysicsTwin | NeuralTwin, fresh: xr.Dataset, shots: int, seed: int
) -> PhysicsTwin | NeuralTwin:
    if isinstance(twin, PhysicsTwin):
        return fit_physics(twin, fresh, shots=shots).twin
    rate = GENTLE * twin.architecture.learning_rate
    return fit_neural(twin, fresh, NeuralSettings(learning_rate=rate, seed=seed)).twin
