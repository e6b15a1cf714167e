"""Networks on another device than the CPU: what crosses, checkpoints, random numbers.

The tests run on the stand-in of `second_device`, and where there is one on a GPU.
"""

import copy
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import pytest
import second_device
import torch
from runners import assert_equal, examples, lasting
from torch import nn
from toy import Toy, ToyTwin

import pnnlab as pnn
from pnnlab.characterize import collect
from pnnlab.errors import TwinError
from pnnlab.gradients import ideal, in_silico, physics_aware
from pnnlab.layers import PhysicalLayer, Rescale, Span, calibrate, place_of
from pnnlab.physical_system import PhysicalSystem
from pnnlab.runs import Run
from pnnlab.systems import Oscillators
from pnnlab.tasks import Split, Task
from pnnlab.training import FitSettings, Training, evaluate
from pnnlab.training.advice import alignment, local_errors, refit
from pnnlab.training.methods import (
    DirectFeedback,
    DualAdaptive,
    MakeMethod,
    Perturbation,
    SharpnessAware,
)
from pnnlab.twins import Mlp, NeuralTwin, OscillatorEquations, PhysicsTwin
from pnnlab.twins.neural import NeuralSettings, fitting_neural

SETTINGS = FitSettings(epochs=2, batch_size=16, evaluations=2)


@pytest.fixture(params=["other", "cuda"])
def place(request: pytest.FixtureRequest) -> str:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU here")
    if request.param == "other" and not second_device.there():
        pytest.skip("this torch can have no second device")
    return request.param


def network(rule: pnn.gradients.GradientRule = physics_aware) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        PhysicalLayer(Toy(6, 6, seed=10), ToyTwin(6, 6), rule, seed=1),
        Rescale(6),
        PhysicalLayer(Toy(6, 6, seed=20), ToyTwin(6, 6), rule, seed=2),
        nn.Linear(6, 3),
    )


def task() -> SimpleNamespace:
    return SimpleNamespace(train=examples(64, 0), validation=examples(32, 1))


@pytest.mark.parametrize("rule", [physics_aware, in_silico, ideal], ids=lambda rule: rule.__name__)
def test_training_is_that_of_the_cpu(place: str, rule: pnn.gradients.GradientRule) -> None:
    here, there = (Training(network(rule).to(where), task(), SETTINGS) for where in ("cpu", place))
    expected, found = list(here.records()), list(there.records())
    assert [one.device_passes for one in found] == [one.device_passes for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.loss == pytest.approx(other.loss, abs=1e-5)
        assert one.device_metric == pytest.approx(other.device_metric, abs=0.05)
    assert place_of(there.network).type == place
    scores = evaluate(there.network, task().validation)
    assert scores.device_metric == pytest.approx(
        evaluate(here.network, task().validation).device_metric
    )


def test_a_layer_and_batch_is_one_transfer_each_way(place: str) -> None:
    if place != "other":
        pytest.skip("only the stand-in counts")
    net = network().to(place).train()
    x = torch.rand(16, 6).to(place)
    net(x)  # in the first batch Rescale measures its unit on the CPU
    with second_device.counted() as crossed:
        net(x).sum().backward()
    arrays = [one for one in crossed if one[1] > 1]
    drive, answer = ("out", 16 * 6 + net[0].system.param_dim), ("in", 16 * 6)
    assert arrays == [drive, answer, drive, answer]


@pytest.mark.parametrize(
    "method",
    [SharpnessAware, DualAdaptive, DirectFeedback, partial(Perturbation, random=0.5)],
    ids=["sharpness", "dual", "feedback", "perturbation"],
)
def test_methods_train_there(place: str, method: MakeMethod) -> None:
    training = Training(network().to(place), task(), SETTINGS, method=method)
    for _ in islice(training.records(), 3):
        pass
    assert training.step == 3


def test_what_stands_around_a_training_works_there(place: str) -> None:
    net, x = network().to(place), task().train.x.to(place)
    assert len(alignment(net, x[:4]).layers) == 2
    assert len(local_errors(net, x).errors) == 2
    own = PhysicalLayer(Toy(6, 6), NeuralTwin(Toy(6, 6), Mlp((8,))), physics_aware).to(place)
    with suppress(TwinError):  # so few shots need not make it better
        refit(own, shots=40, x=x)
    splits = [Split(one.x, one.targets) for one in (examples(64, n) for n in range(3))]
    whole = Task("halves", *splits, 3, 0, "made up")
    settings = replace(SETTINGS, epochs=1)
    found = pnn.compare(lambda rule, _: network(rule).to(place), whole, settings, progress=False)
    assert all(row.accuracy is not None for row in found.rows)


def test_a_checkpoint_goes_there_and_back(place: str, tmp_path: Path) -> None:
    whole = Training(network(), task(), SETTINGS)
    list(whole.records())
    at = "cpu"
    for stop in (3, 5, 8):
        training = Training(network().to(at), task(), SETTINGS)
        run = Run.open(tmp_path, training, checkpoint_every=1)
        for record in run.records():
            if record.step == stop:
                break
        at = place if at == "cpu" else "cpu"
    assert training.step == 8
    assert_equal_within(lasting(training), lasting(whole), 1e-5)


def assert_equal_within(one: object, other: object, atol: float) -> None:
    """As `assert_equal`, but floating tensors within some rounding."""
    left, right = (torch.utils._pytree.tree_flatten(state) for state in (one, other))
    assert left[1] == right[1]
    for a, b in zip(left[0], right[0], strict=True):
        if isinstance(a, torch.Tensor):
            assert torch.allclose(a.cpu(), b.cpu(), atol=atol)
        else:
            assert a == b


def test_random_numbers_of_the_user_go_on(place: str) -> None:
    module = getattr(torch, place)
    net = network().to(place)
    torch.manual_seed(7)
    before = torch.get_rng_state(), module.get_rng_state(0)
    list(Training(net, task(), SETTINGS).records())
    calibrate(net, torch.rand(8, 6, generator=torch.Generator().manual_seed(1)))
    assert_equal((torch.get_rng_state(), module.get_rng_state(0)), before)


def pendula(rule: pnn.gradients.GradientRule) -> nn.Sequential:
    shape = {"n": 12, "low": 0.0, "high": 1.0, "coupling_range": 4.0}
    first, second = Oscillators(**shape, seed=1), Oscillators(**shape, seed=2)
    twin = PhysicsTwin(first, OscillatorEquations(**shape, steps=2))
    return nn.Sequential(
        PhysicalLayer(first, twin, rule, theta=first.weak_theta(0)),
        PhysicalLayer(
            second, copy.deepcopy(twin), rule, encoding=Span(-2, 2), theta=second.weak_theta(1)
        ),
    )


@pytest.mark.parametrize("rule", [physics_aware, ideal], ids=lambda rule: rule.__name__)
def test_pendula_stay_there(place: str, rule: pnn.gradients.GradientRule) -> None:
    x = torch.rand(8, 12, generator=torch.Generator().manual_seed(0))
    here, there = pendula(rule).eval(), pendula(rule).eval().to(place)
    expected = here(x)
    expected.sum().backward()
    given = x.to(place)
    with second_device.counted() as crossed:
        y = there(given)
        y.sum().backward()
        # Noise of the release comes from the CPU, the fixed errors of the couplings once.
        assert all(way == "in" or n <= 2 for way, n in crossed)
    assert torch.allclose(y.detach().cpu(), expected.detach(), atol=1e-5)
    assert torch.allclose(there[0].theta.grad.cpu(), here[0].theta.grad, atol=1e-5)


def test_a_device_of_ones_own_gets_tensors_of_the_cpu(place: str) -> None:
    seen = []

    def measure(x: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
        seen.extend([x, theta])
        return x * theta[:2]

    system: PhysicalSystem = pnn.device(measure, inputs=2, parameters=3, outputs=2)
    for dtype in (torch.float32, torch.float64):
        x, theta = torch.rand(4, 2), torch.rand(3, dtype=dtype)
        y = system(x.to(place), theta.to(place))
        assert y.device.type == place
        assert torch.allclose(y.cpu(), (x * theta[:2]).float())
    assert all(one.is_cpu for one in seen)
    with pytest.raises(pnn.errors.RangeError):
        system(x.to(place) + 1, theta.to(place))
    assert system.passes == 8


def test_a_neural_twin_is_fitted_there(place: str) -> None:
    system = Toy(3, 2, seed=3)
    dataset = collect(system, 60, seed=0)
    records = {}
    for at in ("cpu", place):
        twin = NeuralTwin(system, Mlp(hidden=(8,))).to(at)
        settings = NeuralSettings(epochs=3)
        records[at] = [one.validation for one in fitting_neural(twin, dataset, settings)]
        assert twin.centre.device.type == at
    assert records[place] == pytest.approx(records["cpu"], rel=1e-3)
