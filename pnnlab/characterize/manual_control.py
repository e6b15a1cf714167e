"""Manual control of a device: set a drive, measure, sweep, and write code that repeats it."""

import inspect
import math
import re
import textwrap
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, final

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from pnnlab.characterize.measuring import UNITS, response_curves
from pnnlab.errors import ShapeError
from pnnlab.physical_system import PhysicalSystem
from pnnlab.plain import seeded, whole

WIDTH = 96  # characters in a line of code
Side: TypeAlias = Literal["x", "theta"]
SIDES: tuple[Side, Side] = ("x", "theta")
Preset: TypeAlias = tuple[Tensor, str]  # values in [0, 1], and an expression that makes them
Model: TypeAlias = Callable[[Tensor, Tensor], Tensor]


def presets(width: int, seed: int = 0) -> dict[str, Preset]:
    """Make flat, ramp, pulse and random drives of so many elements."""
    return {
        "Flat": (torch.full((width,), 0.5), f"torch.full(({width},), 0.5)"),
        "Ramp": (torch.linspace(0, 1, width), f"torch.linspace(0, 1, {width})"),
        "Pulse": (
            torch.exp(-(torch.linspace(-3, 3, width) ** 2)),
            f"torch.exp(-torch.linspace(-3, 3, {width}) ** 2)",
        ),
        "Random": (
            torch.rand(width, generator=seeded(seed)),
            f"torch.rand({width}, generator=torch.Generator().manual_seed({seed}))",
        ),
    }


@dataclass(frozen=True, eq=False)
class Response:
    """Mean and deviation of answers to one drive, (output_dim,), and what the twin answers."""

    x: Tensor
    theta: Tensor
    mean: Tensor
    deviation: Tensor
    modelled: Tensor | None
    shots: int

    @property
    def noise(self) -> float:
        """Rms deviation of one read-out, fraction of full scale."""
        return float(self.deviation.square().mean().sqrt())

    @property
    def gap(self) -> float:
        """Rms difference between twin and device, fraction of full scale; NaN without a twin."""
        if self.modelled is None:
            return math.nan
        return float((self.modelled - self.mean).square().mean().sqrt())


@final
class ManualControl:
    """One drive of a device, to be changed by hand, and the device's answers to it.

    A change that a call of the system would refuse leaves everything as it was. Methods may be
    called from any thread.

    Parameters
    ----------
    system : PhysicalSystem
    twin : callable, optional
        Called like the system.
    x : Tensor, (input_dim,), optional
    theta : Tensor, (param_dim,), optional
        Where to begin; by default every element is 0.5.
    repeats : int, >= 2
        Shots of each measurement, from which the noise is taken.
    variable : str
        What `code` calls a system that cannot be built anew, such as a bench.
    """

    def __init__(
        self,
        system: PhysicalSystem,
        twin: Model | None = None,
        *,
        x: Tensor | None = None,
        theta: Tensor | None = None,
        repeats: int = 8,
        variable: str = "system",
    ) -> None:
        self.system = system
        self.twin = twin
        self.repeats = whole("repeats", repeats, 2)
        self.variable = variable
        self.passes = 0  # spent here, on whatever unit
        flat = {"x": presets(system.input_dim)["Flat"], "theta": presets(system.param_dim)["Flat"]}
        # Replaced as a whole and never changed, so reading it needs no lock.
        self._drive = {side: (flat[side][0], flat[side]) for side in SIDES}
        self._swept = ""  # what the last sweep was called with, if nothing was measured since
        self._editing, self._driving = threading.Lock(), threading.Lock()
        for side, values in zip(SIDES, (x, theta), strict=True):
            if values is not None:
                self.begin(side, values)

    @property
    def x(self) -> Tensor:
        """A copy of the input, (input_dim,)."""
        return self.side("x")

    @property
    def theta(self) -> Tensor:
        """A copy of the parameters, (param_dim,)."""
        return self.side("theta")

    def side(self, side: Side) -> Tensor:
        return self._drive[side][0].clone()

    def begin(self, side: Side, values: Tensor, code: str = "") -> None:
        """Replace one half of the drive; ``code`` is an expression that makes these values."""
        values = values.detach().to("cpu", torch.float32, copy=True)
        with self._editing:
            self._put(side, values, (values, code or _literal(values)))

    def draw(self, side: Side, start: int, values: Tensor) -> None:
        """Change neighbouring elements, from ``start`` on."""
        with self._editing:
            changed = self.side(side)
            if not 0 <= start <= start + len(values) <= len(changed):
                raise ShapeError(
                    f"{side}[{start}:{start + len(values)}] reaches over the end of {side}, which "
                    f"has {len(changed)} elements."
                )
            changed[start : start + len(values)] = values
            self._put(side, changed, self._drive[side][1])

    def element(self, name: str) -> tuple[Side, int]:
        """Find the half and the place there of an element, such as ``"theta[7]"``."""
        found = re.fullmatch(r"(x|theta)\[(\d+)\]", name)
        if found is None:
            raise ShapeError(f"{name!r} names no element; write x[3] or theta[7].")
        side: Side = "x" if found[1] == "x" else "theta"
        width = len(self.side(side))
        if int(found[2]) >= width:
            raise ShapeError(f"there is no {name}: {side} has {width} elements.")
        return side, int(found[2])

    def exchange(self, system: PhysicalSystem) -> None:
        """Go on with another unit of the same dimensions; drive, twin and passes stay."""
        old, new = ((s.input_dim, s.param_dim, s.output_dim) for s in (self.system, system))
        if old != new:
            raise ShapeError(
                f"the other unit has (inputs, parameters, outputs) {new}, and this one {old}: "
                "make another control for it."
            )
        with self._driving:
            self.system = system

    def measure(self) -> Response:
        """Take the drive ``repeats`` times, in one batch, and compute the twin's answer."""
        drive = self._drive
        x, theta = drive["x"][0], drive["theta"][0]
        self._swept = ""
        with self._driving:
            before = self.system.passes
            y = self.system(x.repeat(self.repeats, 1), theta).double()
            self.passes += self.system.passes - before
        modelled = None if self.twin is None else _modelled(self.twin, x[None], theta)[0]
        return Response(x.clone(), theta.clone(), y.mean(0), y.std(0), modelled, self.repeats)

    def sweep(self, element: str, *, points: int = 21, repeats: int = 4) -> xr.Dataset:
        """Move one element, such as ``"theta[7]"``, from 0 to 1, the others resting.

        Return what `response_curves` does; with a twin also ``modelled``, (element, value, output).
        """
        side, index = self.element(element)
        points, repeats = whole("points", points, 2), whole("repeats", repeats, 2)
        drive = self._drive
        x, theta = drive["x"][0], drive["theta"][0]
        which = {"x": "inputs", "theta": "parameters"}[side]
        options: dict[str, Any] = {which: [index], "points": points, "repeats": repeats}
        self._swept = ", ".join(f"{name}={value}" for name, value in options.items())
        with self._driving:
            curves = response_curves(self.system, x, theta, **options)
            self.passes += int(curves.attrs["device_passes"])
        if self.twin is None:
            return curves
        rows = {"x": x.repeat(points, 1), "theta": theta.repeat(points, 1)}
        rows[side][:, index] = torch.linspace(0, 1, points)
        modelled = _modelled(self.twin, rows["x"], rows["theta"])[None].numpy()
        return curves.assign(modelled=(("element", "value", "output"), modelled, UNITS))

    def code(self) -> str:
        """Write Python that makes the unit and the drive, and measures as was done last."""
        drive, swept = self._drive, self._swept
        call, unknown = _construction(self.system)
        lines = ["import torch"]
        if swept:
            lines += ["from pnnlab.characterize import response_curves"]
            measuring = [f"curves = response_curves(system, x, theta, {swept})"]
        else:
            measuring = [f"y = system(x.repeat({self.repeats}, 1), theta)"]
            measuring += ["mean, deviation = y.mean(0), y.std(0)"]
        if call:
            lines += [f"from pnnlab.systems import {call.split('(')[0]}"]
        lines += [""]
        if unknown:
            lines += [f"# A unit does not show its {unknown}: add yours if you chose any."]
        lines += [f"system = {call or f'{self.variable}  # the {self.system.name} of this panel'}"]
        for half, (values, start) in drive.items():
            lines += _assignments(half, values, start)
        return "\n".join([*lines, "", *measuring, ""])

    def _put(self, side: Side, values: Tensor, start: Preset) -> None:
        drive = self._drive | {side: (values, start)}
        self.system.check(drive["x"][0][None], drive["theta"][0])
        self._drive = drive


@torch.no_grad()
def _modelled(twin: Model, x: Tensor, theta: Tensor) -> Tensor:
    return twin(x, theta).double()


def _assignments(variable: str, values: Tensor, start: Preset) -> list[str]:
    """Write what a drive began with, then every change; all numbers where most have changed."""
    changed = np.flatnonzero((values != start[0]).numpy())
    if 2 * len(changed) > len(values):
        return [f"{variable} = {_literal(values)}"]
    lines = [f"{variable} = {start[1]}"]
    for run in np.split(changed, np.flatnonzero(np.diff(changed) > 1) + 1):
        if len(run):
            first, end = run[0], run[-1] + 1
            place = f"{first}:{end}" if len(run) > 1 else f"{first}"
            lines.append(f"{variable}[{place}] = {_literal(values[first:end], filling=True)}")
    return lines


def _literal(values: Tensor, *, filling: bool = False) -> str:
    """Write a tensor; where it fills elements of another, a single number if all are the same."""
    numbers = [*map(str, values.numpy())]  # the fewest digits that are the same float32 again
    if len(set(numbers)) == 1:
        return numbers[0] if filling else f"torch.full(({len(numbers)},), {numbers[0]})"
    inside = ", ".join(numbers)
    if len(inside) > WIDTH - 40:
        folded = textwrap.fill(inside, WIDTH, initial_indent="    ", subsequent_indent="    ")
        inside = f"\n{folded}\n"
    return f"torch.tensor([{inside}])"


def _construction(system: PhysicalSystem) -> tuple[str, str]:
    """Write the call that builds a unit of `pnnlab.systems`, and name what it does not tell."""
    kind = type(system)
    if not kind.__module__.startswith("pnnlab.systems."):
        return "", ""
    known, unknown = [], []
    programme = getattr(system, "programme", None)
    for name, parameter in inspect.signature(kind).parameters.items():
        value = getattr(system, name, getattr(programme, name, None))
        if value is None:
            unknown.append(name)
        elif name == "unit" or value != parameter.default:
            known.append(f"{name}={value!r}")
    return f"{kind.__name__}({', '.join(known)})", ", ".join(unknown)
