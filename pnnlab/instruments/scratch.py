"""Memory that is used again, because finding new pages takes longer than filling them."""

from typing import Any, final

import numpy as np
from numpy.typing import DTypeLike, NDArray


@final
class Scratch:
    """Room for one array at a time; what it held before is lost with the next one."""

    def __init__(self) -> None:
        self._bytes = np.empty(0, np.uint8)

    def array(self, count: int, dtype: DTypeLike) -> NDArray[Any]:
        """An array (count,) with anything in it, until the next call."""
        size = count * np.dtype(dtype).itemsize
        if len(self._bytes) < size:
            self._bytes = np.empty(size, np.uint8)
        return self._bytes[:size].view(dtype)
