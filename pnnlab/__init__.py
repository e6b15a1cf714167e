"""pnnlab: train physical systems with backpropagation, from the bench or in simulation.

``import pnnlab as pnn`` is enough for the whole job: `device`, `fit_twin`, `deep_pnn`, `train` (or
`watch`, under the dashboard), `evaluate`, `compare`. Everything else is in the submodules.
Everything loads on first use, so that ``import pnnlab`` costs nothing and a terminal command
never waits for a plotting library.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for editors and type checkers; at run time `__getattr__` loads them
    from pnnlab.characterize import read_measurements
    from pnnlab.gradients import ideal, in_silico, noise_aware, physics_aware
    from pnnlab.layers import PhysicalLayer, calibrate, deep_pnn, programmed
    from pnnlab.physical_system import PhysicalSystem, device
    from pnnlab.results.comparison import Recipe, compare
    from pnnlab.runs import export_network, train
    from pnnlab.tasks import Task
    from pnnlab.training import FitSettings, Training, evaluate
    from pnnlab.twins import fit_twin
    from pnnlab.views import watch

__version__ = "0.1.0"

_SUBMODULES = (
    *("background", "characterize", "errors", "gradients", "instruments", "layers"),
    *("physical_system", "provenance", "results", "runs", "systems", "tasks", "training"),
    *("twins", "views"),
)
_NAMES = {
    "characterize": ("read_measurements",),
    "gradients": ("ideal", "in_silico", "noise_aware", "physics_aware"),
    "layers": ("PhysicalLayer", "calibrate", "deep_pnn", "programmed"),
    "physical_system": ("PhysicalSystem", "device"),
    "results.comparison": ("Recipe", "compare"),
    "runs": ("export_network", "train"),
    "tasks": ("Task",),
    "training": ("FitSettings", "Training", "evaluate"),
    "twins": ("fit_twin",),
    "views": ("watch",),
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names}

__all__ = ["FitSettings", "PhysicalLayer", "PhysicalSystem", "Recipe", "Task", "Training"]
__all__ += ["__version__"]
__all__ += ["calibrate", "compare", "deep_pnn", "device", "evaluate", "export_network"]
__all__ += ["fit_twin", "ideal", "in_silico", "noise_aware", "physics_aware", "programmed"]
__all__ += ["read_measurements", "train", "watch"]


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return import_module(f"{__name__}.{name}")
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_SUBMODULES})
