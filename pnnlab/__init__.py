"""pnnlab: train physical systems with backpropagation, from the bench or in simulation.

Submodules load on first use, so that ``import pnnlab`` costs nothing and a terminal command
never waits for a plotting library.
"""

from importlib import import_module
from types import ModuleType

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "characterize",
    "comparison",
    "errors",
    "gradients",
    "inference",
    "instruments",
    "layers",
    "monitoring",
    "origin",
    "protocols",
    "results",
    "runs",
    "sessions",
    "summary",
    "systems",
    "tasks",
    "training",
    "twins",
    "views",
]


def __getattr__(name: str) -> ModuleType:
    if name in __all__:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
