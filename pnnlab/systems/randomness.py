"""What is random about a bench, and how a session goes on with exactly the same chances.

One row of numbers a shot, drawn in the order of the shots: a batch has the same noise, bit for
bit, as its shots one by one.
"""

import json
import math
from collections.abc import Mapping
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from pnnlab.errors import RangeError
from pnnlab.plain import whole
from pnnlab.protocols import State


@final
class Noise:
    """A seeded stream of standard normal numbers.

    Parameters
    ----------
    *seed : int
    """

    def __init__(self, *seed: int) -> None:
        self._generator = np.random.Generator(np.random.SFC64([whole("seed", s, 0) for s in seed]))

    def rows(self, shots: int, width: int, kind: Any) -> NDArray[Any]:
        """Numbers of the next shots, (shots, width), of data type ``kind``."""
        return self._generator.standard_normal((shots, width), dtype=kind)

    def number(self) -> float:
        """The next number, float64."""
        return float(self._generator.standard_normal())

    def put_away(self) -> str:
        """State as JSON."""
        return json.dumps(self._generator.bit_generator.state, default=np.ndarray.tolist)

    def take_up(self, saved: str) -> None:
        """Go on where `put_away` was called."""
        state = json.loads(saved)
        state["state"]["state"] = np.array(state["state"]["state"], dtype=np.uint64)
        self._generator.bit_generator.state = state


@final
class Drift:
    """Something that wanders slowly about zero: an Ornstein-Uhlenbeck process, exact.

    It is constant within one call of a system: even the longest is short beside the drift.

    Parameters
    ----------
    *seed : int
    size : float
        Its rms.
    time : float
        Shots after which it has forgotten all but 1/e of where it was.
    on : bool
        Whether it moves at all.
    """

    def __init__(self, *seed: int, size: float, time: float, on: bool) -> None:
        self.value = 0.0
        self.size, self.time, self.on = size, time, on
        self.noise = Noise(*seed)

    def wander(self, shots: float) -> float:
        """Let a number of shots pass, and tell where it is then."""
        if self.on:
            keep = math.exp(-shots / self.time)
            kick = self.size * math.sqrt(1 - keep**2) * self.noise.number()
            self.value = keep * self.value + kick
        return self.value


def saved_values(state: State, owner: Mapping[str, int | float], what: str, *keys: str) -> State:
    """The values under ``keys`` of a saved state, if it is that of this owner.

    Parameters
    ----------
    state : State
    owner : Mapping
        What the state says about the device that it is of, and should.
    what : str
        The device in a word.

    Raises
    ------
    RangeError
        Something is missing, or it is the state of another copy.
    """
    if missing := [key for key in (*owner, *keys) if key not in state]:
        raise RangeError(f"this is no state of {what}: {', '.join(missing)} is missing.")
    if theirs := {key: state[key] for key, value in owner.items() if state[key] != value}:
        ours = {key: owner[key] for key in theirs}
        raise RangeError(
            f"this is the state of {what} with {_said(theirs)}, and here is one with "
            f"{_said(ours)}: make the device that the run began with."
        )
    return {key: state[key] for key in keys}


def _said(values: Mapping[str, object]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())
