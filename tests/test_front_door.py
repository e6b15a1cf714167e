"""The whole job through `import pnnlab as pnn`: device, twin, network, training, evaluation."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
import torch
from toy import Toy, ToyTwin, toy_response

import pnnlab as pnn
from pnnlab.errors import RangeError, RunError, ShapeError, TwinError
from pnnlab.layers import PhysicalLayer, Rescale, physical_layers
from pnnlab.runs import read_journal
from pnnlab.training import FitSettings, accuracy
from pnnlab.twins import CircuitEquations, Mlp, NeuralTwin, PhysicsTwin, Temporal


def measure(x, theta):
    return toy_response(x, theta, 1.1).numpy()


@pytest.fixture
def device():
    return pnn.device(measure, inputs=6, parameters=36, outputs=6, name="bench 3")


@pytest.fixture
def task():
    x = np.random.default_rng(0).random((200, 6))
    return pnn.Task.from_arrays(x, (x[:, :3].sum(1) > x[:, 3:].sum(1)).astype(int))


def test_a_function_is_a_device(device):
    x, theta = torch.rand(4, 6), torch.rand(36)
    assert torch.allclose(device(x, theta), toy_response(x, theta, 1.1))
    assert (device.name, device.passes) == ("bench 3", 4)
    with pytest.raises(RangeError):
        device(x + 1, theta)
    assert device.theta_groups() == ()
    assert device.cost().seconds_per_pass is None


def test_a_device_is_measured_and_its_twin_fitted_in_one_call(device):
    twin = pnn.fit_twin(device, 1500, seed=1, progress=False)
    assert isinstance(twin, NeuralTwin)
    assert twin.fault == ""
    assert device.passes == 2 * 1500
    generator = torch.Generator().manual_seed(0)
    x, theta = torch.rand(500, 6, generator=generator), torch.rand(500, 36, generator=generator)
    y = device(x, theta)
    assert (twin(x, theta) - y).square().mean().sqrt() < 0.8 * y.std()  # 42 numbers in, 1500 shots


def test_equations_make_a_physics_twin_and_a_failed_fit_is_told():
    board = pnn.systems.Circuit(0, input_dim=24, replays=2, output_dim=6)
    twin = pnn.fit_twin(board, 200, equations=CircuitEquations(replays=2), progress=False)
    assert isinstance(twin, PhysicsTwin)
    assert twin.label == "physics twin, fitted"
    with pytest.raises(TwinError, match="or an architecture"):
        pnn.fit_twin(board, equations=CircuitEquations(2), architecture=Mlp())
    # For one seed in six the fit beats a constant by chance.
    generator = torch.Generator().manual_seed(0)
    noise = pnn.device(
        lambda x, _: torch.rand(len(x), 2, generator=generator),
        inputs=2,
        parameters=1,
        outputs=2,
        name="noise",
    )
    with pytest.warns(RuntimeWarning, match="no better than a constant"):
        pnn.fit_twin(noise, 60, progress=False)


@pytest.mark.parametrize("unused", ["inputs", "parameters", "neither"])
def test_what_does_not_reach_the_device_is_told(unused, recwarn):
    random = torch.Generator().manual_seed(0)

    def measure(x, theta):
        x, theta = x * (unused != "inputs"), theta * (unused != "parameters")
        return torch.tanh(x + theta) + 0.01 * torch.randn(x.shape, generator=random)

    device = pnn.device(measure, inputs=4, parameters=4, outputs=4, name="bench 3")
    pnn.fit_twin(device, 300, progress=False)
    told = [str(warning.message).partition(":")[0] for warning in recwarn]
    expected = [f"the twin of bench 3 shows no effect of the {unused}"]
    assert told == ([] if unused == "neither" else expected)


def test_equations_are_fitted_to_fewer_shots_than_leave_some_to_judge_by():
    board = pnn.systems.Circuit(0, input_dim=24, replays=2, output_dim=6)
    twin = pnn.fit_twin(board, 8, equations=CircuitEquations(replays=2), progress=False)
    assert twin.fault == ""


def test_one_system_makes_a_network_of_many_layers_with_a_digital_head(device):
    network = pnn.deep_pnn(device, ToyTwin(), layers=3, classes=4, seed=2)
    layers = physical_layers(network)
    assert [layer.system for layer in layers] == [device] * 3
    assert not torch.equal(layers[0].theta, layers[1].theta)
    assert network(torch.rand(5, 6)).shape == (5, 4)
    again = pnn.deep_pnn(device, ToyTwin(), layers=3, classes=4, seed=2)
    for name, value in network.named_parameters():
        assert torch.equal(value, dict(again.named_parameters())[name])
    no_head = pnn.deep_pnn(device, ToyTwin(), layers=2, classes=6)
    assert isinstance(no_head[-1], Rescale)


def test_layers_and_systems_that_do_not_fit_are_refused(device):
    with pytest.raises(ShapeError, match="at least one"):
        pnn.deep_pnn(device, ToyTwin(), layers=0)
    with pytest.raises(ShapeError, match="a sequence has its length"):
        pnn.deep_pnn([device, device], [ToyTwin(), ToyTwin()], layers=2)
    with pytest.raises(ShapeError, match="give each system a twin"):
        pnn.deep_pnn([device, device], ToyTwin())
    with pytest.raises(ShapeError, match="give each system a twin"):
        pnn.deep_pnn(device, [ToyTwin()], layers=2)


@pytest.mark.parametrize("kind", ["physics", "neural"])
def test_one_device_and_its_twin_are_programmed_as_a_chain(kind):
    board = pnn.systems.Circuit(0, input_dim=8, replays=2, output_dim=8)
    if kind == "physics":
        twin = PhysicsTwin(board, CircuitEquations(2))
    else:
        twin = NeuralTwin(board, Temporal(replays=2, memory=4, hop=1))
    systems, twins = pnn.programmed(board, twin, [(2, 8), (3, 8), (5, 4)])
    assert [(one.replays, one.output_dim) for one in systems] == [(2, 8), (3, 8), (5, 4)]
    for system, one in zip(systems, twins, strict=True):
        one.check_system(system)
    network = pnn.deep_pnn(systems, twins)
    assert network.eval()(torch.rand(3, 8)).shape == (3, 4)  # of three, some read-outs stand still
    assert sum(system.passes for system in systems) == 9


def test_train_trains_and_the_same_call_resumes(device, task, tmp_path: Path, capsys):
    def network():
        return pnn.deep_pnn(device, ToyTwin(), layers=2, classes=2)

    first = network()
    training = pnn.train(first, task, epochs=40, folder=tmp_path / "a")
    assert training.latest.step == training.steps == 40 * 2
    assert training.latest.device_metric > 0.7
    assert "accuracy" in capsys.readouterr().err  # of the progress bar
    again = network()
    resumed = pnn.train(again, task, epochs=40, folder=tmp_path / "a", progress=False)
    assert (resumed.step, resumed.latest) == (resumed.steps, None)  # nothing was left to do
    assert torch.equal(again[0].theta, first[0].theta)
    assert len(read_journal(tmp_path / "a")) == 80
    with pytest.raises(RunError, match="epochs"):
        pnn.train(network(), task, epochs=9, folder=tmp_path / "a", progress=False)
    of_seed = pnn.train(network(), task, FitSettings(epochs=1), seed=3, progress=False)
    assert (of_seed.settings.seed, of_seed.settings.epochs) == (3, 1)


def test_watch_trains_as_train_does(task, monkeypatch):
    shown = []
    monkeypatch.setattr("pnnlab.views.dashboard.show", shown.append)

    def network():
        layer = PhysicalLayer(Toy(), ToyTwin(), pnn.physics_aware, seed=1)
        return torch.nn.Sequential(layer, Rescale(6, gain=1.0, offset=0.0), torch.nn.Linear(6, 2))

    torch.manual_seed(0)
    one = network()
    torch.manual_seed(0)
    two = network()
    watched = asyncio.run(pnn.watch(one, task, epochs=3))
    trained = pnn.train(two, task, epochs=3, progress=False)
    assert len(shown) == 2  # the dashboard, and its picture in the end
    assert watched.latest.loss == trained.latest.loss
    for name, value in one.named_parameters():
        assert torch.equal(value, dict(two.named_parameters())[name])


def test_an_evaluation_says_itself(device, task):
    network = pnn.deep_pnn(device, ToyTwin(), layers=2, classes=2)
    pnn.calibrate(network, task.train.x)
    found = pnn.evaluate(network, task.test)
    assert found.device_metric == accuracy(network.eval(), task.test)
    text = str(found)
    assert text.startswith(f"accuracy {100 * found.device_metric:.1f} % on the device")
    assert "on the twin" in text
    assert "by layer" in text
    digital = pnn.evaluate(torch.nn.Linear(6, 2), task.test)
    assert "twin" not in str(digital)
