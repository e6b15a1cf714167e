"""What makes a training the one that a run was begun with."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from pnnlab.layers import physical_layers
from pnnlab.plain import plain
from pnnlab.training import Examples, Training


def identity(training: Training, parameters: Mapping[str, object] | None = None) -> dict[str, Any]:
    """What makes a training the one it is; a run resumes only a training of equal identity.

    Parameters
    ----------
    training : Training
    parameters : Mapping, optional
        What cannot be seen from it, such as the unit of a device that does not tell its own.

    Returns
    -------
    dict
        Settings, tensors and modules of the network, systems, gradient rules and a digest of the
        data, as JSON holds them.
    """
    network = training.network
    state = network.state_dict()
    described = {
        "settings": asdict(training.settings),
        "objective": {"name": training.objective.name, **asdict(training.objective.labels)},
        "optimizer": type(training.optimizer).__name__,
        "method": {
            "name": type(training.method).__name__,
            **{k: v for k, v in vars(training.method).items() if isinstance(v, int | float | str)},
        },
        # A `Rescale` did not always keep its unit; runs of that time can go on.
        "tensors": {n: _described(t) for n, t in state.items() if not n.endswith(".unit")},
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
    if parameters is not None:
        described["parameters"] = plain(dict(parameters))
    as_stored: dict[str, Any] = json.loads(json.dumps(described, default=str))
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
    was, is_now = ("absent" if value is None else str(value) for value in (then, now))
    return [f"{at}: {was} then, {is_now} now"]


def summed_up(lines: list[str], most: int = 4) -> str:
    """Join the first few of many lines."""
    more = f"; and {len(lines) - most} more" if len(lines) > most else ""
    return "; ".join(lines[:most]) + more


def _described(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"


def _digest(examples: Examples) -> dict[str, Any]:
    """Number and shape of the examples, and a digest of every bit of them."""
    digest = hashlib.blake2b(digest_size=8)
    for tensor in (examples.x, examples.targets):
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return {
        "x": _described(examples.x),
        "targets": _described(examples.targets),
        "digest": digest.hexdigest(),
    }
