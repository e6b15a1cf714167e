"""Plain Python numbers: those of NumPy and torch become int and float on the way in.

Only so can checkpoints and saved twins, which are read without executing code, hold them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, get_args, get_origin

import numpy as np

from pnnlab.errors import RangeError

if TYPE_CHECKING:
    import torch

# Annotations are text in a module that postpones them.
_POSTPONED: dict[Any, type] = {"int": int, "float": float}


def whole(name: str, value: object, least: int | None = None) -> int:
    """Make a whole number of Python, NumPy or torch, not less than ``least``, an int."""
    number = _unpacked(value)
    if isinstance(number, bool) or not isinstance(number, Integral):
        raise RangeError(f"{name} is {value!r}; give a whole number, without a decimal point.")
    if least is not None and number < least:
        raise RangeError(f"{name} is {number}; it must be at least {least}.")
    return int(number)


def real(name: str, value: object) -> float:
    """Make a single real number a float, or raise a `RangeError`; NaN and infinity pass."""
    number = _unpacked(value)
    if isinstance(number, bool) or not isinstance(number, Real):
        raise RangeError(f"{name} is {value!r}; give a single number.")
    return float(number)


def seeded(seed: object) -> "torch.Generator":
    """Make a generator of random numbers that ``seed``, any whole number, sets alone."""
    import torch  # commands that need no tensors start without it

    return torch.Generator().manual_seed(whole("seed", seed) % 2**64)


@contextmanager
def random_state(seed: object = None, place: "torch.device | str" = "cpu") -> Iterator[None]:
    """Let ``seed``, if given, set torch's own random numbers; afterwards they go on as before.

    Those of the CPU, and of the GPU that is the ``place``. Each step of a training is seeded so:
    `torch.manual_seed` walks the stack, which takes 1 to 2 ms in a notebook, without a GPU too.
    """
    import torch

    place = torch.device(place)
    gpu = [] if place.type == "cpu" else [place.index or 0]
    set_seed = torch.manual_seed if gpu else torch.default_generator.manual_seed
    with torch.random.fork_rng(gpu, device_type=place.type):
        if seed is not None:
            set_seed(whole("seed", seed) % 2**64)
        yield


def make_plain(record: Any) -> None:
    """Make the numbers in a frozen dataclass plain, as its annotations say."""
    for field in fields(record):
        kind = _POSTPONED.get(field.type) if isinstance(field.type, str) else field.type
        value = _fitted(kind, field.name, getattr(record, field.name))
        object.__setattr__(record, field.name, value)


def plain(value: Any) -> Any:
    """Make NumPy numbers in a value, or in containers of values, plain; leave all else."""
    kind = type(value)
    if kind is dict:
        return {plain(key): plain(one) for key, one in value.items()}
    if kind is list or kind is tuple:
        return kind(map(plain, value))
    return _unpacked(value) if isinstance(value, np.generic | np.ndarray) else value


def _unpacked(value: Any) -> Any:
    return value.item() if getattr(value, "ndim", None) == 0 else value


def _fitted(kind: Any, name: str, value: Any) -> Any:
    if kind is int or (kind == int | None and value is not None):
        return whole(name, value)
    if kind is float or (kind == float | None and value is not None):
        return real(name, value)
    if get_origin(kind) is tuple and Ellipsis in get_args(kind) and not isinstance(value, str):
        try:
            return tuple(_fitted(get_args(kind)[0], name, part) for part in value)
        except TypeError as error:
            raise RangeError(f"{name} is {value!r}; give several, in a tuple.") from error
    return plain(value)
