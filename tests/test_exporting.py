"""An exported network needs nothing but HDF5, and is the network that was trained."""

import h5py
import pytest
import torch
from test_reading import toy_measurements
from torch import nn
from toy import Toy, ToyTwin

import pnnlab as pnn
from pnnlab.characterize import Scaling
from pnnlab.errors import RunError, TwinError
from pnnlab.layers import PhysicalLayer, Span, on_twin
from pnnlab.runs.exporting import LAYOUT


def run(path, measure, h):
    """Run an exported network by its layout, with h5py and numpy alone; also what was driven."""
    drives = []
    with h5py.File(path) as file:
        spans = {dim: (group["low"][:], group["high"][:]) for dim, group in file["scaling"].items()}
        (low, high), (dark, bright) = spans["input"], spans["output"]
        for number in range(len(file["steps"])):
            step = file["steps"][str(number)]
            kind = step.attrs["kind"]
            if kind == "elementwise":
                h = h * step["factor"][()] + step["shift"][()]
            elif kind == "linear":
                h = h @ step["weight"][:].T + step["bias"][:]
            else:
                drives.append(low + h.clip(0, 1) * (high - low))
                h = (measure(drives[-1], step["theta_physical"][:]) - dark) / (bright - dark)
    return h, drives


def in_volts(data, twin):
    """Give a twin as a bench: physical numbers in and out."""
    by = {dim: Scaling.of(data, dim) for dim in ("input", "parameter", "output")}

    def measure(drive, theta):
        x, at = by["input"].scaled(drive), by["parameter"].scaled(theta)
        y = twin(torch.from_numpy(x), torch.from_numpy(at))
        return by["output"].physical(y.detach())

    return measure


@pytest.fixture
def network():
    """Two layers and a head, whose statistics are no longer those of the beginning."""
    made = pnn.deep_pnn(Toy(), ToyTwin(), pnn.in_silico, layers=2, classes=3, seed=1)
    pnn.calibrate(made, torch.rand(50, 6))
    with torch.no_grad():
        made[0].theta[0] = 1.2  # the layer clamps it, and so must the file
    return made.eval()


def test_read_with_h5py_alone_it_gives_the_outputs_on_the_twin(network, tmp_path):
    data, x = toy_measurements(), torch.rand(9, 6)
    path = pnn.export_network(network, x, tmp_path / "network.h5", measurements=data)
    with on_twin(network), torch.no_grad():
        expected = network(x).numpy()
    found, drives = run(path, in_volts(data, ToyTwin().double()), x.double().numpy())
    assert found == pytest.approx(expected, abs=1e-5)
    with h5py.File(path) as file:
        assert file.attrs["layout"] == LAYOUT
        assert [file[f"steps/{n}"].attrs["kind"] for n in range(len(file["steps"]))] == [
            *("device", "elementwise", "device", "elementwise", "linear")
        ]
        assert file["examples/outputs"][:] == pytest.approx(expected)
        for number, drive in zip((0, 2), drives, strict=True):
            assert file[f"steps/{number}/drive_physical"][:] == pytest.approx(drive, abs=1e-4)
        assert [one.decode() for one in file["scaling/output/unit"]] == ["mV"] * 6
        assert file["scaling/input/name"][2].decode() == "x[2]"
        top = Scaling.of(data, "parameter").high[0]
        assert file["steps/0/theta_physical"][0] == pytest.approx(top)


def test_without_measurements_the_unit_is_one(network, tmp_path):
    x = torch.rand(4, 6)
    path = pnn.export_network(network, x, tmp_path / "network.h5")
    twin = ToyTwin().double()

    def measure(drive, theta):
        return twin(torch.from_numpy(drive), torch.from_numpy(theta)).detach().numpy()

    with h5py.File(path) as file:
        assert set(file["scaling/input/unit"][:]) == {b"1"}
        answers = file["examples/outputs"][:]
    found, _ = run(path, measure, x.double().numpy())
    assert found == pytest.approx(answers, abs=1e-5)


def test_layers_of_other_widths_are_exported(tmp_path):
    widths = [(6, 4), (4, 6)]
    layers = [PhysicalLayer(Toy(*one), ToyTwin(*one), pnn.in_silico) for one in widths]
    path = pnn.export_network(nn.Sequential(*layers), torch.rand(4, 6), tmp_path / "network.h5")
    answers = iter([layer.twin for layer in layers])

    def measure(drive, theta):
        return next(answers)(torch.from_numpy(drive), torch.from_numpy(theta)).detach().numpy()

    with h5py.File(path) as file:
        x, outputs = file["examples/x"][:], file["examples/outputs"][:]
    found, _ = run(path, measure, x)
    assert found == pytest.approx(outputs, abs=1e-5)


def test_all_examples_are_tabulated_however_many(network, tmp_path):
    path = pnn.export_network(network, torch.rand(1100, 6), tmp_path / "network.h5")
    with h5py.File(path) as file:
        x, drive = file["examples/x"][:], file["steps/0/drive_physical"][:]
        assert drive == pytest.approx(x)
        assert file["steps/2/readout_physical"].shape == (1100, 6)


def test_a_span_is_exported(tmp_path):
    layer = PhysicalLayer(Toy(), ToyTwin(), pnn.in_silico, encoding=Span(-1, 3))
    x = 4 * torch.rand(3, 6) - 1
    path = pnn.export_network(nn.Sequential(layer), x, tmp_path / "network.h5")
    with h5py.File(path) as file:
        h = x.numpy() * file["steps/0/factor"][()] + file["steps/0/shift"][()]
        assert file["steps/1/drive_physical"][:] == pytest.approx(h, abs=1e-6)


def test_what_cannot_be_exported_is_refused(network, tmp_path):
    path, x = tmp_path / "network.h5", torch.rand(2, 6)
    with pytest.raises(RunError, match="ReLU cannot be exported"):
        pnn.export_network(nn.Sequential(*network, nn.ReLU()), x, path)
    other = toy_measurements().isel(input=slice(3))
    with pytest.raises(RunError, match="the measurements"):
        pnn.export_network(network, x, path, measurements=other)
    with pytest.raises(TwinError, match="no twin"):
        pnn.export_network(nn.Sequential(PhysicalLayer(Toy(), None, pnn.ideal)), x, path)
    assert not path.exists()
