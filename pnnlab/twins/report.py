"""The report on a twin: its error against the noise, its gradients, its gap with depth."""

import math
from dataclasses import dataclass, field

import torch
import xarray as xr
from torch import Tensor

from pnnlab import characterize
from pnnlab.characterize import MeasuredShots
from pnnlab.physical_system import PhysicalSystem
from pnnlab.plain import whole
from pnnlab.twins.agreement import DepthGap, GradientAgreement, gap_by_depth, gradient_agreement
from pnnlab.twins.twin import Twin, predict

CEILING = 2.0  # times the noise ceiling: the twin's own error is no larger than the noise
INVISIBLE = 1e-4  # NMSE that counts as perfect where there is no noise to compare with
FAILED = 0.5  # NMSE above which half of what the outputs do goes unexplained
ASTRAY = 0.5  # cosine, relative to its ceiling, below which gradients lead over 60° astray


@dataclass(frozen=True, kw_only=True)
class TwinReport:
    """What a twin is worth.

    Attributes
    ----------
    system, twin : str
        Whose twin, and which kind.
    nmse : float
        Against single read-outs of held-out shots.
    ceiling : float
        The `noise_ceiling` of these shots; NaN if they were not repeated.
    verdict : str
        ``"at the noise ceiling"``: NMSE up to twice the ceiling, or 1e-4, so that the twin's own
        error is no larger than the device's noise. ``"failed: ..."``: the fit said so, NMSE is
        above 0.5, or the cosine of the gradients is below half of its ceiling. ``"usable"``:
        anything between.
    gradient : GradientAgreement
    gap : DepthGap or None
        None if the system cannot be chained.
    held : MeasuredShots
        The held-out shots, with all of their repeats.
    modelled : Tensor, (shots, outputs)
        What the twin says to them.
    """

    system: str
    twin: str
    shots: int
    nmse: float
    ceiling: float
    verdict: str
    gradient: GradientAgreement
    gap: DepthGap | None
    held: MeasuredShots = field(repr=False, compare=False)
    modelled: Tensor = field(repr=False, compare=False)

    @property
    def device(self) -> Tensor:
        """Read-outs of the held-out shots, (shots, outputs): the first repeat."""
        return self.held.y[0]

    @property
    def noise(self) -> Tensor:
        """Standard deviation of one read-out, (outputs,), rms over the shots; NaN if unknown."""
        y = self.held.y.double()
        if len(y) < 2:  # a single repeat tells nothing about noise
            return torch.full_like(y[0, 0], math.nan)
        return y.var(0).mean(0).sqrt()

    @property
    def ratio(self) -> float:
        """NMSE over the noise ceiling."""
        return self.nmse / self.ceiling if self.ceiling else math.inf

    @property
    def device_passes(self) -> int:
        """What the report itself cost; the held-out shots were measured before."""
        return self.gradient.device_passes + (self.gap.device_passes if self.gap else 0)

    def __str__(self) -> str:
        gradient = self.gradient
        lines = [
            f"{self.twin} of {self.system}: {self.verdict}",
            (
                f"  error (NMSE, {self.shots} held-out shots)  {self.nmse:.4g}"
                f"   noise ceiling {self.ceiling:.4g}   ratio {self.ratio:.3g}"
            ),
            (
                f"  gradient cosine with the device         {gradient.cosine:.3f}"
                f"   ceiling {gradient.ceiling:.3f}   relative error {gradient.relative_error:.3f}"
            ),
        ]
        if self.gap is not None:
            rows = (
                ("gap after layers", range(1, len(self.gap.free) + 1), "8d"),
                ("  twin on its own (in silico)", self.gap.free, "8.4f"),
                ("  twin at the device's inputs", self.gap.local, "8.4f"),
                ("  device against itself", self.gap.noise, "8.4f"),
            )
            lines += [
                f"  {name:<34}" + "".join(f"{v:{form}}" for v in row) for name, row, form in rows
            ]
        return "\n".join([*lines, f"  device passes for this report: {self.device_passes}"])


def report(
    system: PhysicalSystem, twin: Twin, dataset: xr.Dataset, *, depth: int = 5, seed: int = 0
) -> TwinReport:
    """Judge a twin on the test shots of a data set and on the device itself.

    Parameters
    ----------
    system : PhysicalSystem
        The device; it is driven for gradients and for the gap with depth.
    twin : PhysicsTwin or NeuralTwin
    dataset : Dataset
        Of `characterize.collect`.
    depth : int
        Layers of the longest chain.

    Raises
    ------
    TwinError
        Twin, system and data do not belong together.
    DataError
        There are no test shots.
    """
    depth = whole("depth", depth)
    twin.check_system(system)
    twin.check_data(dataset)
    held = characterize.shots(dataset, "test")
    modelled = predict(twin, held.x, held.theta)
    error = characterize.nmse(modelled.expand_as(held.y), held.y)
    ceiling = characterize.noise_ceiling(held.y)
    gradient = gradient_agreement(system, twin, held, seed=seed)
    chained = system.input_dim == system.output_dim
    return TwinReport(
        system=system.name,
        twin=twin.label,
        shots=len(held),
        nmse=error,
        ceiling=ceiling,
        verdict=_verdict(twin.fault, error, ceiling, gradient),
        gradient=gradient,
        gap=gap_by_depth(system, twin, held, depth=depth) if chained else None,
        held=held,
        modelled=modelled,
    )


def _verdict(fault: str, error: float, ceiling: float, gradient: GradientAgreement) -> str:
    if fault:
        return f"failed: {fault}"
    if not error <= FAILED:
        return f"failed: NMSE {error:.2g}, where a constant reaches 1"
    if not gradient.cosine >= ASTRAY * gradient.ceiling:
        return f"failed: its gradients lead astray, cosine {gradient.cosine:.2f}"
    if error <= INVISIBLE or error <= CEILING * ceiling:
        return "at the noise ceiling"
    return "usable"
