"""Twins on disk: weights and plain numbers, loaded without executing any code."""

import pickle
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from pnnlab.characterize.recording import replacing
from pnnlab.errors import TwinError
from pnnlab.paths import user_path
from pnnlab.plain import unreadable
from pnnlab.twins.base import Described, Signature
from pnnlab.twins.equations import (
    CircuitEquations,
    OscillatorEquations,
    PlateEquations,
    SHGEquations,
)
from pnnlab.twins.forces import Forces
from pnnlab.twins.neural import Architecture, Mlp, NeuralTwin, Temporal
from pnnlab.twins.physics import Equations, PhysicsTwin

VERSION = 1
_RECIPES: dict[str, Callable[..., Equations | Architecture]] = {
    recipe.__name__: recipe
    for recipe in (
        *(CircuitEquations, OscillatorEquations, PlateEquations, SHGEquations),
        *(Forces, Mlp, Temporal),
    )
}


def save(twin: PhysicsTwin | NeuralTwin, path: Path | str) -> Path:
    """Write a twin, or leave what was there before.

    Raises
    ------
    TwinError
        The file cannot be written, or what was written cannot be read again.
    """
    path = user_path(path)
    recipe = twin.equations if isinstance(twin, PhysicsTwin) else twin.architecture
    content = {
        "pnnlab_twin": VERSION,
        "signature": asdict(twin.signature),
        "recipe": type(recipe).__name__,
        "recipe_fields": asdict(recipe),
        "fault": twin.fault,
        "state": twin.state_dict(),
    }
    try:
        with replacing(path) as part:
            torch.save(content, part)
            load(part)  # before it takes the place of one that can be read
    except (OSError, RuntimeError) as error:
        raise TwinError(
            f"{path} cannot be written ({error}); the twin is still in memory: free some space, "
            "or save it to another folder."
        ) from error
    except (TwinError, pickle.PickleError, TypeError, AttributeError) as error:
        why = "; ".join(unreadable(content, "twin")) or error.__cause__
        raise TwinError(
            f"{path} is not written, for nobody could read the twin again: {why}. Its equations or "
            "architecture must be one of pnnlab's, with plain numbers and text."
        ) from error
    return path


def load(path: Path | str, system: Described | None = None) -> PhysicsTwin | NeuralTwin:
    """Read a twin that `save` wrote, on whatever kind of machine, into the memory of the CPU.

    Parameters
    ----------
    path : path
    system : PhysicalSystem, optional
        The system it is to stand for.

    Raises
    ------
    TwinError
        The file is missing, damaged or no twin, or the twin is that of another system.
    """
    path = user_path(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        twin = _built(content)
        twin.load_state_dict(content["state"])
    except FileNotFoundError as error:
        raise TwinError(f"there is no {path}; fit a twin, and save it there.") from error
    except (
        *(OSError, RuntimeError, pickle.PickleError, EOFError),
        *(KeyError, TypeError, ValueError, AttributeError, IndexError),
    ) as error:
        raise TwinError(
            f"{path} holds no twin that this version can read ({error}); fit the twin anew."
        ) from error
    twin.fault = str(content["fault"])
    twin.requires_grad_(False)
    if system is not None:
        twin.check_system(system)
    return twin


def _built(content: Any) -> PhysicsTwin | NeuralTwin:
    if content["pnnlab_twin"] != VERSION:
        raise ValueError(f"its format is {content['pnnlab_twin']}, not {VERSION}")
    signature = Signature(**content["signature"])
    given = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in content["recipe_fields"].items()
    }
    if content["recipe"] not in _RECIPES:
        raise ValueError(f"{content['recipe']} is none of the recipes of pnnlab")
    recipe = _RECIPES[content["recipe"]](**given)
    if isinstance(recipe, Equations):
        return PhysicsTwin(signature, recipe)
    return NeuralTwin(signature, recipe)
