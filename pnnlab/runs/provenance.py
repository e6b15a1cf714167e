"""Where a run comes from: what is trained, and with which code on which kind of machine."""

import hashlib
import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path, PurePath
from typing import Any

import torch
from torch import Tensor

import pnnlab
from pnnlab.layers import physical_layers
from pnnlab.training import Examples, Training

GIT_TIMEOUT = 10.0  # seconds; a checkout on a slow network disk must not hold up a run


def identity(training: Training) -> dict[str, Any]:
    """What makes a training the one it is; a run resumes only a training of equal identity.

    Returns
    -------
    dict
        Settings, tensors and modules of the network, systems, gradient rules and a digest of the
        data, as JSON holds them.
    """
    network = training.network
    state = network.state_dict()
    described = {
        "settings": {"class": type(training.settings).__name__, **asdict(training.settings)},
        "tensors": {name: _described(tensor) for name, tensor in state.items()},
        "modules": {name: type(module).__name__ for name, module in network.named_modules()},
        "systems": {
            str(number): {
                "name": system.name,
                "input_dim": system.input_dim,
                "param_dim": system.param_dim,
                "output_dim": system.output_dim,
            }
            for number, system in enumerate(training.systems)
        },
        "rules": {
            str(number): getattr(layer.rule, "__name__", type(layer.rule).__name__)
            for number, layer in enumerate(physical_layers(network))
        },
        "train": _digest(training.train),
        "validation": _digest(training.validation),
    }
    as_stored: dict[str, Any] = json.loads(json.dumps(described))
    return as_stored


def differences(then: Any, now: Any, at: str = "") -> list[str]:
    """Say, one line each, where two identities differ."""
    if isinstance(then, dict) or isinstance(now, dict):
        then, now = then or {}, now or {}
        return [
            line
            for key in [*then, *(key for key in now if key not in then)]
            for line in differences(then.get(key), now.get(key), f"{at} {key}".strip())
        ]
    if then == now:
        return []
    return [f"{at}: {_worded(then)} then, {_worded(now)} now"]


def provenance() -> dict[str, Any]:
    """Versions, kind of machine, source revision and command, without names of people or hosts."""
    return {
        "pnnlab": pnnlab.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": version("numpy"),
        "platform": f"{platform.system()} {platform.machine()}",
        "threads": torch.get_num_threads(),
        "source": source_revision(Path(pnnlab.__file__).parent),
        "command": [_without_folders(argument) for argument in sys.argv],
    }


def source_revision(folder: Path) -> dict[str, Any] | None:
    """Git revision of the checkout that tracks ``folder``, and whether it had uncommitted changes.

    Returns
    -------
    dict or None
        ``{"revision": str, "dirty": bool}``; None for an installed package, or without git.
    """
    tracked = _git(folder, "ls-files", "--", ".")
    if not tracked:
        return None
    status = _git(folder, "status", "--porcelain=v2", "--branch")
    if status is None:
        return None
    lines = status.splitlines()
    revisions = [line.split()[-1] for line in lines if line.startswith("# branch.oid ")]
    return {
        "revision": revisions[0],
        "dirty": any(not line.startswith("#") for line in lines),
    }


def _git(folder: Path, *arguments: str) -> str | None:
    """Standard output of a git command that takes no lock, or None if it failed."""
    # GIT_DIR and its kin are set inside git hooks, and would point to another repository.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=GIT_TIMEOUT,
            env=environment,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def _described(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"


def _digest(examples: Examples) -> dict[str, Any]:
    """Number and shape of the examples, and a digest of every bit of them."""
    digest = hashlib.blake2b(digest_size=8)
    for tensor in (examples.x, examples.labels):
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return {
        "x": _described(examples.x),
        "labels": _described(examples.labels),
        "digest": digest.hexdigest(),
    }


def _worded(value: Any) -> str:
    return "absent" if value is None else str(value)


def _without_folders(argument: str) -> str:
    """An argument as it can be shown to others: home folders carry people's names."""
    path = PurePath(argument)
    return path.name if path.is_absolute() else argument
