"""Drives to begin with, and the code that makes a drive again."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from pnnlab.plain import seeded

WIDTH = 96  # characters in a line of code


@dataclass(frozen=True, eq=False)
class Preset:
    """A drive with a name.

    Parameters
    ----------
    name : str
    values : Tensor, (width,), in [0, 1]
    code : str
        An expression that makes these values.
    """

    name: str
    values: Tensor
    code: str


def presets(width: int, seed: int = 0) -> tuple[Preset, ...]:
    """Flat, ramp, pulse and random drives of so many elements."""
    return (
        Preset("Flat", torch.full((width,), 0.5), f"torch.full(({width},), 0.5)"),
        Preset("Ramp", torch.linspace(0, 1, width), f"torch.linspace(0, 1, {width})"),
        Preset(
            "Pulse",
            torch.exp(-(torch.linspace(-3, 3, width) ** 2)),
            f"torch.exp(-torch.linspace(-3, 3, {width}) ** 2)",
        ),
        Preset(
            "Random",
            torch.rand(width, generator=seeded(seed)),
            f"torch.rand({width}, generator=torch.Generator().manual_seed({seed}))",
        ),
    )


def given(name: str, values: Tensor) -> Preset:
    """Make a preset of someone else's numbers; its code writes them all down.

    Parameters
    ----------
    values : Tensor, (width,), in [0, 1]
    """
    kept = values.detach().to("cpu", torch.float32, copy=True)
    return Preset(name, kept, _written(kept.tolist()))


def assignments(variable: str, values: Tensor, begun: Preset) -> list[str]:
    """Write lines of code that make ``values``: what it began with, then every change.

    Parameters
    ----------
    variable : str
        What the code calls them.
    values : Tensor, (width,)
    begun : Preset
        The drive that was changed. Where most of it has gone, all numbers are written instead.
    """
    changed = (values != begun.values).nonzero().flatten().tolist()
    if 2 * len(changed) > len(values):
        return [f"{variable} = {given('', values).code}"]
    lines = [f"{variable} = {begun.code}"]
    ends = [at for at, (one, next_) in enumerate(pairwise(changed), 1) if next_ != one + 1]
    for start, end in pairwise([0, *ends, len(changed)]):
        if start == end:
            continue
        first, last = changed[start], changed[end - 1] + 1
        run = _short(values[first:last])
        place = str(first) if last == first + 1 else f"{first}:{last}"
        same = all(number == run[0] for number in run)
        lines.append(f"{variable}[{place}] = {run[0] if same else _tensor(run)}")
    return lines


def _written(numbers: Sequence[float]) -> str:
    short = _short(torch.tensor(numbers))
    if short and all(number == short[0] for number in short):
        return f"torch.full(({len(short)},), {short[0]})"
    return _tensor(short)


def _short(values: Tensor) -> list[str]:
    """Each number with the fewest digits that are the same number again, as float32."""
    return [str(number) for number in values.float().numpy()]


def _tensor(numbers: Sequence[str]) -> str:
    inside = ", ".join(numbers)
    if len(inside) <= WIDTH - 40:
        return f"torch.tensor([{inside}])"
    folded = textwrap.fill(inside, WIDTH, initial_indent="    ", subsequent_indent="    ")
    return f"torch.tensor([\n{folded}\n])"
