"""Twins of any kind: measured and fitted in one call, saved, loaded without executing any code."""

import copy
import warnings
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
import xarray as xr
from torch import Tensor
from tqdm.auto import tqdm

from pnnlab import characterize
from pnnlab.errors import TwinError
from pnnlab.physical_system import PhysicalSystem
from pnnlab.storage import Buffer, Kind, packed, unpacked, user_path
from pnnlab.twins.neural import (
    Architecture,
    FilterBank,
    Forces,
    Mlp,
    NeuralSettings,
    NeuralTwin,
    Temporal,
    fitting_neural,
)
from pnnlab.twins.physics import (
    FAILED,
    CircuitEquations,
    Equations,
    OscillatorEquations,
    PhysicsTwin,
    PlateEquations,
    ResonatorEquations,
    SHGEquations,
    fit_physics,
)
from pnnlab.twins.twin import Described, Recipe, Signature, Twin, predict

VISIBLE = 1.3  # times the error that a twin must have at inputs of other shots to show their effect

_TWIN = Kind(name="twin", format=2, error=TwinError, remedy="fit the twin anew")
_PENDULA = OscillatorEquations, Forces
_EQUATIONS = CircuitEquations, PlateEquations, ResonatorEquations, SHGEquations
_KINDS = *_EQUATIONS, Mlp, Temporal, FilterBank, *_PENDULA
_RECIPES: dict[str, type[Any]] = {kind.__name__: kind for kind in _KINDS}


def fit_twin(
    system: PhysicalSystem | None = None,
    shots: int = 1500,
    *,
    equations: Equations | None = None,
    architecture: Architecture | None = None,
    dataset: xr.Dataset | None = None,
    seed: int = 0,
    progress: bool = True,
) -> PhysicsTwin | NeuralTwin:
    """Measure a device and fit a twin to it.

    Parameters
    ----------
    system : PhysicalSystem, optional
        Not needed where there is a ``dataset``.
    shots : int
        Random drives to measure, two read-outs each.
    equations : Equations, optional
        Fit the constants of these, such as ``CircuitEquations(replays=4)``: a physics twin.
    architecture : Architecture, optional
        Of a neural twin, which is the default: `Mlp`, or for a device that replays its input
        `Temporal`, or `FilterBank` if log energies are read out.
    dataset : Dataset, optional
        Of `characterize.collect` or `read_measurements`, to be used in place of measuring.
    seed : int
        Of the drives and of the fit.

    Warns
    -----
    RuntimeWarning
        The fit failed; the reason is the ``fault`` of the twin. Or it shows no effect of the inputs
        or of the parameters, as of a device that they do not reach.
    """
    if equations is not None and architecture is not None:
        raise TwinError("give equations for a physics twin or an architecture for a neural one.")
    described = system if dataset is None or system is not None else Signature.of_data(dataset)
    if described is None:
        raise TwinError("give a system to measure, or a dataset that was measured.")
    twin: PhysicsTwin | NeuralTwin = (
        NeuralTwin(described, architecture or Mlp(), seed=seed)
        if equations is None
        else PhysicsTwin(described, equations)
    )
    if dataset is None:
        assert system is not None
        with tqdm(total=shots, desc="measuring", disable=not progress) as bar:
            dataset = characterize.collect(
                system, shots, seed=seed, progress=lambda done, _: bar.update(done - bar.n)
            )
    if isinstance(twin, PhysicsTwin):
        twin = fit_physics(twin, dataset).twin
    else:
        settings = NeuralSettings(seed=seed)
        epochs = fitting_neural(twin, dataset, settings)
        list(tqdm(epochs, "fitting", settings.epochs, disable=not progress))
    if twin.fault:
        warnings.warn(f"the twin is not good: {twin.fault}.", RuntimeWarning, stacklevel=2)
    elif unseen := _without_effect(twin, dataset):
        text = (
            f"the twin of {twin.signature.name} shows no effect of the {unseen}: see that they "
            "reach the device; if they do, give the fit more shots."
        )
        warnings.warn(text, RuntimeWarning, stacklevel=2)
    return twin


def _without_effect(twin: Twin, dataset: xr.Dataset) -> str:
    """Say whether inputs or parameters of other shots would do as well, where they differ."""
    if not (dataset["split"] == "validation").any():  # equations are fitted to a few shots, too
        return ""
    held = characterize.shots(dataset, "validation")

    def error(x: Tensor, theta: Tensor) -> float:
        return characterize.nmse(predict(twin, x, theta), held.y.mean(0))

    least = error(held.x, held.theta)
    x, theta = held.x.roll(1, 0), held.theta.roll(1, 0)
    found = []
    if least < FAILED:  # what a worse twin does not show may be there
        if not torch.equal(x, held.x) and error(x, held.theta) < VISIBLE * least:
            found.append("inputs")
        if not torch.equal(theta, held.theta) and error(held.x, theta) < VISIBLE * least:
            found.append("parameters")
    return " and ".join(found)


def save(twin: PhysicsTwin | NeuralTwin, path: Path | str) -> Path:
    """Write a twin; after a `TwinError` what was there before is still there.

    A twin with equations or an architecture of one's own is read by ``load(path, recipe=...)``.
    """
    path = user_path(path)
    recipe = twin.equations if isinstance(twin, PhysicsTwin) else twin.architecture
    kind = type(recipe)
    own = None if kind in _KINDS else kind
    try:
        content = {
            "signature": asdict(twin.signature),
            # Only the classes of pnnlab are called by a name without a point.
            "recipe": f"{kind.__module__}.{kind.__qualname__}" if own else kind.__name__,
            # Not asdict, which would take apart what the recipe could not be made of again.
            "recipe_fields": {field.name: getattr(recipe, field.name) for field in fields(recipe)},
            "fault": twin.fault,
            "reported": twin.reported,
            "state": twin.state_dict(),
        }
        parts = packed(content, "twin")
        again = _built(b"".join(parts), own)
        if own is not None:
            _compare(twin, again)
    except (RuntimeError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise TwinError(
            f"{path} is not written: the twin could not be read again ({error}). Make its "
            "equations or architecture a dataclass whose fields, numbers and text, are all that it "
            "takes to make it anew."
        ) from error
    return _TWIN.save(path, *parts)


def load(
    path: Path | str, system: Described | None = None, *, recipe: type[Recipe] | None = None
) -> PhysicsTwin | NeuralTwin:
    """Read a twin that `save` wrote, on whatever kind of machine, into the memory of the CPU.

    Parameters
    ----------
    system : PhysicalSystem, optional
        The system it is to stand for.
    recipe : type, optional
        The class of its equations or its architecture, if that is not one of pnnlab's.

    Raises
    ------
    TwinError
        The file is missing, damaged or no twin, its recipe is another one, or the twin is that of
        another system.
    """
    twin = _TWIN.read(user_path(path), lambda content: _built(content, recipe))
    if system is not None:
        twin.check_system(system)
    return twin


def _built(packed_twin: Buffer, own: type[Recipe] | None) -> PhysicsTwin | NeuralTwin:
    content = unpacked(packed_twin)
    signature, name = Signature(**content["signature"]), content["recipe"]
    kind = _RECIPES.get(name, own)
    # A notebook's class is in a module of another name once it has moved to a file.
    if (
        not (isinstance(kind, type) and issubclass(kind, Recipe))
        or kind.__name__ != name.rpartition(".")[2]
        or own not in (None, kind)
    ):
        advice = "give load that class as recipe" if "." in name else "fit the twin anew"
        raise TwinError(
            f"the twin was made with {name}; {'leave recipe out' if name in _RECIPES else advice}."
        )
    recipe: Any = kind(**content["recipe_fields"])
    make: Any = PhysicsTwin if isinstance(recipe, Equations) else NeuralTwin
    if kind in _KINDS:
        # Nothing is allocated yet, whatever dimensions an edited file claims.
        with torch.device("meta"):
            claimed = make(signature, recipe).state_dict()
        if any(content["state"][name].shape != one.shape for name, one in claimed.items()):
            raise ValueError("its weights are not those of its dimensions")
    twin: PhysicsTwin | NeuralTwin = make(signature, recipe)
    twin.load_state_dict(content["state"])
    twin.fault, twin.reported = str(content["fault"]), str(content.get("reported", ""))
    return twin.requires_grad_(False)


def _compare(twin: PhysicsTwin | NeuralTwin, again: PhysicsTwin | NeuralTwin) -> None:
    """Refuse a twin whose fields do not hold all that its answers depend on."""
    x, theta = torch.full((1, twin.input_dim), 0.3), torch.full((twin.param_dim,), 0.6)
    given = copy.deepcopy(twin).cpu().eval()
    with torch.no_grad():
        answers = again.eval()(x, theta), given(x, theta)
        if not torch.allclose(*answers, atol=0, equal_nan=True):
            raise ValueError("made anew of its fields, it answers otherwise")
