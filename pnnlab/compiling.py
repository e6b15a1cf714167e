"""Compiled loops: numba's ``njit`` as this package uses it."""

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def compiled(*, fastmath: bool | set[str] = False) -> Callable[[Kernel], Kernel]:
    """Compile a function that releases Python's lock, and keep its code for later processes.

    Where no folder can be written, neither beside the source nor in the home folder, every process
    compiles it anew. ``fastmath`` is that of ``numba.njit``.
    """

    def decorate(function: Kernel) -> Kernel:
        options: dict[str, Any] = {"error_model": "numpy", "nogil": True, "fastmath": fastmath}
        try:
            kernel: Kernel = njit(cache=True, **options)(function)
        except RuntimeError:  # numba found no folder that it may write to
            kernel = njit(**options)(function)
        return kernel

    return decorate


def cache_folder() -> str | None:
    """Folder of compiled code, or None where every process compiles anew."""

    @compiled()
    def probe() -> None:
        """Nothing: it is never called, and so never compiled."""

    stats = getattr(probe, "stats", None)  # none where numba itself is switched off
    return None if stats is None else stats.cache_path
