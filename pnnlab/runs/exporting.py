"""A trained network as a file for the bench, which HDF5 alone reads."""

import io
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr
from torch import Tensor, nn

import pnnlab
from pnnlab.characterize import Scaling
from pnnlab.errors import RunError
from pnnlab.layers import PhysicalLayer, Rescale, Span, observed, on_twin
from pnnlab.provenance import commit, utc_now
from pnnlab.storage import Kind, user_path
from pnnlab.training.evaluation import outputs

_NETWORK = Kind(name="network", format=1, error=RunError, remedy="export the network again")

LAYOUT = """\
h is one row of features an example. Take the groups /steps/0, /steps/1, ... in order. Their
attribute kind says what each makes of h:
elementwise: h = h * factor + shift
linear: h = h @ weight.T + bias
device: clip h to [0, 1]; drive = low + h * (high - low) with low and high of /scaling/input; set
the parameters to theta_physical; read out; h = (readout - low) / (high - low) with those of
/scaling/output. drive_physical and readout_physical are those of the examples, on the twin.
After the last step h holds the outputs; of a classifier, the largest is its class.
/scaling/input, /scaling/parameter and /scaling/output give name, unit, low and high of each
column, or of all alike. /examples holds x, some first h, and outputs, what the network gives for
them on its twin.
"""


def export_network(
    network: nn.Module, x: Tensor, path: Path | str, *, measurements: xr.Dataset | None = None
) -> Path:
    """Write a trained network with drive tables in physical units, to be taken to the device.

    The file is HDF5 and needs no pnnlab; its attribute ``layout`` says how it is read (`LAYOUT`).
    Numbers are float64. Normalisation is by the statistics that the network has now.

    Parameters
    ----------
    network : nn.Module
        Physical layers, `Rescale`, `Span` and linear layers, in sequence.
    x : Tensor, (n, features)
        Examples whose drives are tabulated; their read-outs and outputs are those of the twin.
    path : path
        Such as ``"network.h5"``.
    measurements : Dataset, optional
        Of `read_measurements`: ranges and units. By default x, theta and y are in [0, 1], unit 1.

    Raises
    ------
    RunError
        The network holds another kind of module, or the file cannot be written.
    TwinError
        A physical layer has no twin.
    """
    shots: list[dict[str, Any]] = []
    scalings: dict[str, Scaling] = {}

    def tabulate(layer: PhysicalLayer, drive: Tensor, theta: Tensor, y: Tensor) -> None:
        of = layer.system
        sizes = {"input": of.input_dim, "parameter": of.param_dim, "output": of.output_dim}
        dataset = measurements
        if dataset is None:  # one range for columns of layers of any width
            dataset = xr.Dataset({dim: (dim, np.zeros(1)) for dim in sizes})
        elif any(dataset.sizes.get(dim) != size for dim, size in sizes.items()):
            raise RunError(
                f"{of.name} has {sizes} columns and the measurements {dict(dataset.sizes)}: give "
                "those that its twin was fitted to."
            )
        scalings.update({dim: Scaling.of(dataset, dim) for dim in sizes})
        given = {"theta": ("parameter", theta), "drive": ("input", drive), "readout": ("output", y)}
        table = {"theta": _array(theta)}
        for name, (dim, values) in given.items():
            table[f"{name}_physical"] = scalings[dim].physical(_array(values))
        shots.append(table)

    with on_twin(network), observed(network, tabulate):
        answers = outputs(network, x)
    buffer, steps = io.BytesIO(), _steps(network)
    devices = sum(kind == "device" for kind, _ in steps)
    # One batch after the other went through all of them.
    tabulated = iter([_joined(shots[first::devices]) for first in range(devices)])
    with h5py.File(buffer, "w") as file:
        file.attrs.update(
            layout=LAYOUT, pnnlab=pnnlab.__version__, commit=commit() or "", time_utc=utc_now()
        )
        for number, (kind, content) in enumerate(steps):
            group = file.create_group(f"steps/{number}")
            group.attrs["kind"] = kind
            group.update(next(tabulated) if kind == "device" else content)
        for dim, scaling in scalings.items():
            file.create_group(f"scaling/{dim}").update(
                name=scaling.names, unit=scaling.units, low=scaling.low, high=scaling.high
            )
        file.create_group("examples").update({"x": _array(x), "outputs": _array(answers)})
    return _NETWORK.save(user_path(path), buffer.getvalue())


def _joined(tables: list[dict[str, Any]]) -> dict[str, Any]:
    rows = ("drive_physical", "readout_physical")
    return tables[0] | {name: np.concatenate([one[name] for one in tables]) for name in rows}


def _array(values: Tensor) -> Any:
    return values.detach().cpu().double().numpy()


def _steps(module: nn.Module) -> list[tuple[str, dict[str, Any]]]:
    if isinstance(module, nn.Sequential):
        return [step for part in module for step in _steps(part)]
    if isinstance(module, nn.Identity):
        return []
    if isinstance(module, PhysicalLayer):
        before = [] if module.encoding is None else _steps(module.encoding)
        return [*before, ("device", {})]
    if isinstance(module, nn.Linear):
        weight = _array(module.weight)
        bias = np.zeros(len(weight)) if module.bias is None else _array(module.bias)
        return [("linear", {"weight": weight, "bias": bias})]
    if isinstance(module, Span):
        width = module.high - module.low
        return [("elementwise", {"factor": 1 / width, "shift": -module.low / width})]
    if isinstance(module, Rescale):
        kept, (centre, factor) = module.statistics, _array(module.unit)
        assert kept.running_mean is not None
        assert kept.running_var is not None
        gain = _array(module.gain) / np.sqrt(_array(kept.running_var) + kept.eps)
        shift = _array(module.offset) - gain * (centre * factor + _array(kept.running_mean))
        return [("elementwise", {"factor": gain * factor, "shift": shift})]
    raise RunError(
        f"{type(module).__name__} cannot be exported; build the network of physical layers, "
        "Rescale, Span and Linear in a Sequential, as deep_pnn does."
    )
