"""A device under someone's hands: set a control, look at the answer, write down how it was done."""

import inspect
import math
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias, final

import torch
import xarray as xr
from torch import Tensor

from pnnlab.characterize.datasets import UNITS
from pnnlab.characterize.measuring import response_curves
from pnnlab.characterize.presets import Preset, assignments, given, presets
from pnnlab.errors import ShapeError
from pnnlab.physical_system import PhysicalSystem
from pnnlab.plain import whole

Side: TypeAlias = Literal["x", "theta"]
SIDES: tuple[Side, Side] = ("x", "theta")
Model: TypeAlias = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Response:
    """What a device answered to one drive, taken several times.

    Attributes
    ----------
    x, theta : Tensor, (input_dim,) and (param_dim,), float32
        The drive.
    mean, deviation : Tensor, (output_dim,), float64
        Over the shots; fractions of full scale.
    modelled : Tensor, (output_dim,), float64, or None
        What the twin says.
    shots : int
        Read-outs taken, each a device pass.
    """

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
class Probe:
    """One drive of a device, to be changed by hand, and what the device answers to it.

    Every change is checked as a call of the system would check it; one that is refused changes
    nothing, and nothing is driven. Methods may be called from any thread; the device has one user
    at a time.

    Parameters
    ----------
    system : PhysicalSystem
    twin : callable, optional
        Called like the system.
    x : Tensor, (input_dim,), optional
    theta : Tensor, (param_dim,), optional
        Where to begin; by default every element is 0.5.
    repeats : int, >= 2
        Shots of each look, to tell the noise.
    variable : str
        What `code` calls a system that cannot be built anew, such as a bench.

    Raises
    ------
    ShapeError, RangeError
        The drive is not one of this system, or there are fewer than two repeats.
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
        self._begun: dict[Side, Preset] = {
            "x": presets(system.input_dim)[0],
            "theta": presets(system.param_dim)[0],
        }
        self._values = {side: preset.values.clone() for side, preset in self._begun.items()}
        self._sweep: tuple[str, int, int] | None = None
        self._passes = 0
        self._editing, self._driving = threading.RLock(), threading.RLock()
        for side, value in zip(SIDES, (x, theta), strict=True):
            if value is not None:
                self.begin(side, given("given", value))

    @property
    def x(self) -> Tensor:
        """A copy of the input, (input_dim,)."""
        return self.side("x")

    @property
    def theta(self) -> Tensor:
        """A copy of the parameters, (param_dim,)."""
        return self.side("theta")

    @property
    def passes(self) -> int:
        """Device passes that this probe has spent, on whatever unit."""
        return self._passes

    def side(self, side: Side) -> Tensor:
        """Copy one half of the drive."""
        with self._editing:
            return self._values[side].clone()

    def begin(self, side: Side, preset: Preset) -> None:
        """Take a preset for the input or the parameters.

        Raises
        ------
        ShapeError, RangeError
            It is not a drive of this system; nothing has changed.
        """
        with self._editing:
            self._put(side, preset.values.clone())
            self._begun[side] = preset

    def draw(self, side: Side, start: int, values: Tensor) -> None:
        """Change neighbouring elements, from ``start`` on.

        Raises
        ------
        ShapeError, RangeError
            They reach over the end, or beyond [0, 1]; nothing has changed.
        """
        with self._editing:
            changed = self._values[side].clone()
            if not 0 <= start <= start + len(values) <= len(changed):
                raise ShapeError(
                    f"{side}[{start}:{start + len(values)}] reaches over the end of {side}, which "
                    f"has {len(changed)} elements."
                )
            changed[start : start + len(values)] = values
            self._put(side, changed)

    def set(self, element: str, value: float) -> None:
        """Change one element, such as ``"x[3]"`` or ``"theta[7]"``.

        Raises
        ------
        ShapeError, RangeError
            There is no such element, or the value is outside [0, 1]; nothing has changed.
        """
        side, index = self.element(element)
        self.draw(side, index, torch.tensor([value]))

    def element(self, name: str) -> tuple[Side, int]:
        """Which half an element belongs to, and its place there."""
        found = re.fullmatch(r"(x|theta)\[(\d+)\]", name)
        if found is None:
            raise ShapeError(f"{name!r} names no element; write x[3] or theta[7].")
        side: Side = "x" if found[1] == "x" else "theta"
        if int(found[2]) >= len(self._values[side]):
            raise ShapeError(f"there is no {name}: {side} has {len(self._values[side])} elements.")
        return side, int(found[2])

    def exchange(self, system: PhysicalSystem) -> None:
        """Go on with another unit; drive, twin and the count of passes stay.

        Raises
        ------
        ShapeError
            It takes other drives or gives other read-outs.
        """
        old, new = (
            (device.input_dim, device.param_dim, device.output_dim)
            for device in (self.system, system)
        )
        if old != new:
            raise ShapeError(
                f"the other unit has (inputs, parameters, outputs) {new}, and this one {old}: "
                "make a new probe for it."
            )
        with self._driving:
            self.system = system

    def measure(self) -> Response:
        """Take the drive ``repeats`` times, in one batch, and ask the twin.

        Raises
        ------
        PnnlabError
            The device failed.
        """
        with self._editing:
            x, theta = self.x, self.theta
            self._sweep = None
        with self._driving:
            before = self.system.passes
            y = self.system(x.repeat(self.repeats, 1), theta).double()
            self._passes += self.system.passes - before
        modelled = None if self.twin is None else self._modelled(x[None], theta)[0]
        return Response(x, theta, y.mean(0), y.std(0), modelled, self.repeats)

    def sweep(self, element: str, *, points: int = 21, repeats: int = 4) -> xr.Dataset:
        """Move one element from 0 to 1, the others resting where they are.

        Parameters
        ----------
        element : str
            Such as ``"theta[7]"``.
        points, repeats : int
            Values of the element, and shots at each.

        Returns
        -------
        Dataset
            As of `response_curves`; with a twin also ``modelled``, (element, value, output).
        """
        side, index = self.element(element)
        points, repeats = whole("points", points, 2), whole("repeats", repeats, 2)
        with self._editing:
            x, theta = self.x, self.theta
            self._sweep = element, points, repeats
        chosen = [index]
        with self._driving:
            seen = response_curves(
                self.system,
                x,
                theta,
                inputs=chosen if side == "x" else (),
                parameters=chosen if side == "theta" else (),
                points=points,
                repeats=repeats,
            )
            self._passes += int(seen.attrs["device_passes"])
        if self.twin is None:
            return seen
        rows = {"x": x.repeat(points, 1), "theta": theta.repeat(points, 1)}
        rows[side][:, index] = torch.linspace(0, 1, points)
        modelled = self._modelled(rows["x"], rows["theta"])[None].numpy()
        return seen.assign(modelled=(("element", "value", "output"), modelled, UNITS))

    def code(self) -> str:
        """Python that does once more what was done: makes the unit, the drive, and looks.

        A unit of `pnnlab.systems` is built anew; any other system is called by ``variable``.
        """
        with self._editing:
            drive = [
                assignments(side, self._values[side], self._begun[side]) for side in ("x", "theta")
            ]
            sweep = self._sweep
        made, untold = construction(self.system)
        lines = ["import torch", ""]
        if made:
            lines = ["import torch", f"from pnnlab.systems import {made.split('(')[0]}", ""]
            if untold:
                lines.append(f"# A unit does not tell its {untold}: add yours if you chose any.")
            lines.append(f"system = {made}")
        else:
            lines.append(f"system = {self.variable}  # the {self.system.name} of this panel")
        lines += [line for half in drive for line in half] + [""]
        if sweep is None:
            lines += [
                f"y = system(x.repeat({self.repeats}, 1), theta)",
                "mean, deviation = y.mean(0), y.std(0)",
            ]
        else:
            element, points, repeats = sweep
            side, index = self.element(element)
            name = "inputs" if side == "x" else "parameters"
            lines.insert(1, "from pnnlab.characterize import response_curves")
            swept = f"{name}=[{index}], points={points}, repeats={repeats}"
            lines.append(f"seen = response_curves(system, x, theta, {swept})")
        return "\n".join(lines) + "\n"

    def _put(self, side: Side, values: Tensor) -> None:
        both = self._values | {side: values}
        self.system.check(both["x"][None], both["theta"])
        self._values = both

    def _modelled(self, x: Tensor, theta: Tensor) -> Tensor:
        assert self.twin is not None
        with torch.no_grad():
            return self.twin(x, theta).double()


def construction(system: PhysicalSystem) -> tuple[str, str]:
    """Write the call that builds a unit of `pnnlab.systems`.

    Returns
    -------
    call : str
        Empty for any other system.
    untold : str
        Options that the unit keeps to itself.
    """
    kind = type(system)
    if not kind.__module__.startswith("pnnlab.systems."):
        return "", ""
    told, untold = [], []
    programme = getattr(system, "programme", None)
    for name, parameter in inspect.signature(kind).parameters.items():
        value = getattr(system, name, getattr(programme, name, None))
        if value is None:
            untold.append(name)
        elif name == "unit" or value != parameter.default:
            told.append(f"{name}={value!r}")
    return f"{kind.__name__}({', '.join(told)})", ", ".join(untold)
