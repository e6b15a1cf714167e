"""What all built units have in common: noise, one slow drift, and a state to go back to.

The programmes of one unit share its `Chances`: what one of them has drawn is gone for the others.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, final

import numpy as np
import torch
from numpy.typing import NDArray

from pnnlab.protocols import SimulatedSystem, State
from pnnlab.systems.randomness import Drift, Noise, saved_values


@final
class Chances:
    """What is random about one unit.

    Parameters
    ----------
    unit, seed : int
    noise, drift : bool
        Whether there are any.
    size, time : float
        Of the drift, see `Drift`.
    """

    def __init__(
        self, unit: int, seed: int, *, noise: bool, drift: bool, size: float, time: float
    ) -> None:
        self.noise = noise
        self.read_out = Noise(unit, seed, 0)
        self.drift = Drift(unit, seed, 1, size=size, time=time, on=drift)

    def rows(self, shots: int, width: int, dtype: torch.dtype) -> NDArray[Any]:
        """Noise of the next shots, (shots, width), for tensors of ``dtype``; zeros without any."""
        kind = np.float32 if dtype == torch.float32 else np.float64
        if not self.noise:
            return np.zeros((shots, width), kind)
        return self.read_out.rows(shots, width, kind)


class BuiltSystem(SimulatedSystem):
    """A simulated device of which numbered units are built.

    A subclass says what it is and what of it drifts, in a word each, and sets ``_owner``, what a
    state tells about the unit that it is of, and ``_chances``.
    """

    _what: ClassVar[str]
    _drifting: ClassVar[str]
    _owner: Mapping[str, int | float]
    _chances: Chances

    @final
    def state(self) -> State:
        """Noise generators and drift, and whose they are."""
        chances = self._chances
        return {
            **self._owner,
            self._drifting: chances.drift.value,
            "read_out": chances.read_out.put_away(),
            "room": chances.drift.noise.put_away(),
        }

    @final
    def restore(self, state: State) -> None:
        """Go back to a `state`.

        Raises
        ------
        RangeError
            The state is not one of such a device, or that of another unit.
        """
        keys = (self._drifting, "read_out", "room")
        saved = saved_values(state, self._owner, self._what, *keys)
        self._chances.read_out.take_up(str(saved["read_out"]))
        self._chances.drift.noise.take_up(str(saved["room"]))
        self._chances.drift.value = float(saved[self._drifting])
