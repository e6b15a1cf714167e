import copy

import numpy as np
import pytest
import torch
import xarray as xr
from conformance import SystemConformance
from torch import nn
from toy import Toy, toy_response

from pnnlab.characterize import collect, repeatability, save
from pnnlab.characterize import load as load_dataset
from pnnlab.errors import InstrumentError, RangeError, ReadoutError, ShapeError
from pnnlab.gradients import ideal, in_silico, physics_aware
from pnnlab.instruments.recording import Recorder, Replay
from pnnlab.layers import PhysicalLayer, calibrate, deep_pnn, physical_layers
from pnnlab.physical_system import PhysicalSystem, SimulatedSystem
from pnnlab.tasks import digits
from pnnlab.training import FitSettings, Training, alignment, refit, take_references
from pnnlab.twins import Mlp, NeuralSettings, NeuralTwin, fit_neural, report


class TestToy(SystemConformance):
    def make_system(self):
        return Toy()


class Bench(PhysicalSystem):
    """Like a device on a bench: no state that a computer could put back."""

    def __init__(self) -> None:
        super().__init__(4, 8, 2)
        self.random = torch.Generator()

    def _measure(self, x, theta):
        return toy_response(x, theta, 1.0) + 0.01 * torch.randn(len(x), 2, generator=self.random)


class TestBench(SystemConformance):
    simulated = False

    def make_system(self):
        return Bench()


def test_a_device_takes_only_an_empty_state():
    Bench().restore(Bench().state())
    with pytest.raises(RangeError, match="another system"):
        Bench().restore({"shots": 3})


def test_a_system_needs_inputs_and_outputs():
    class Nothing(Bench):
        def __init__(self) -> None:
            PhysicalSystem.__init__(self, 0, 1, 1)

    with pytest.raises(ShapeError, match="input_dim"):
        Nothing()


def test_messages_say_where_the_range_was_left():
    with pytest.raises(RangeError, match=r"1 of 8 values outside \[0, 1\] \(from 0 to 2\)"):
        Bench()(torch.tensor([[0.0, 0, 0, 2], [0, 0, 0, 0]]), torch.full((8,), 0.5))
    with pytest.raises(ShapeError, match=r"x\[None\]"):
        Bench()(torch.zeros(4), torch.full((8,), 0.5))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_every_floating_type_is_checked(dtype: torch.dtype):
    sound = torch.full((2, 4), 0.5, dtype=dtype)
    Bench().check(sound, torch.full((8,), 0.5))
    for wrong, told in ((2.0, "outside"), (float("nan"), "NaN")):
        sound[1, 2] = wrong
        with pytest.raises(RangeError, match=told):
            Bench().check(sound, torch.full((8,), 0.5))


class Driver(PhysicalSystem):
    """A device whose driver answers what a test tells it to, once and then soundly."""

    def __init__(self, *answers) -> None:
        super().__init__(3, 2, 4)
        self.answers = list(answers)
        self.asked = []

    @property
    def name(self) -> str:
        return "bench 3"

    def _measure(self, x, theta):
        self.asked.append(len(x))
        y = 0.25 + x.sum(1, keepdim=True) * torch.arange(4.0)
        return self.answers.pop(0)(y) if self.answers else y


X, THETA = torch.tensor([[0.0, 0.5, 1], [0.5, 0.5, 0.5], [0, 0, 0.25]]), torch.tensor([0.5, 0.25])
SOUND = Driver()(X, THETA)


@pytest.mark.parametrize(
    "returned",
    [
        lambda y: y.double(),
        lambda y: y.half().requires_grad_(),
        lambda y: y.numpy(),
        lambda y: y.numpy().astype(">f8"),
        lambda y: np.flip(np.flip(y.numpy(), 1).copy(), 1),
        lambda y: np.asfortranarray(y.numpy()),
        lambda y: np.frombuffer(y.numpy().tobytes(), y.numpy().dtype).reshape(y.shape),  # read-only
        lambda y: np.ma.masked_invalid(y.numpy()),
        lambda y: xr.DataArray(y.numpy()),
        lambda y: y.tolist(),
        list,
        lambda y: [row.numpy() for row in y],
    ],
)
def test_what_drivers_return_becomes_a_tensor_of_the_contract(returned):
    for dtype in (torch.float32, torch.float64):
        y = Driver(returned)(X.to(dtype), THETA)
        assert y.dtype == dtype
        assert torch.allclose(y, SOUND.to(dtype), atol=1e-3)
        assert not y.requires_grad


@pytest.mark.parametrize("kind", [np.int16, ">i2", np.uint16, np.int64, np.bool_])
def test_whole_numbers_of_a_converter_are_readouts(kind):
    codes = np.arange(12).reshape(3, 4).astype(kind)
    assert torch.equal(
        Driver(lambda _: codes)(X, THETA), torch.from_numpy(codes.astype(np.float32))
    )
    if not isinstance(kind, str) and kind is not np.uint16:
        assert Driver(lambda _: torch.from_numpy(codes))(X, THETA).dtype == torch.float32


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        (lambda y: y.T, r"shape \(4, 3\) for 3 shots of 4 outputs.*transposed"),
        (lambda y: y[:2], r"shape \(2, 4\)"),
        (lambda y: y[..., None], r"shape \(3, 4, 1\)"),
        (lambda y: y.flatten(), r"shape \(12,\)"),
        (lambda _: None, "NoneType"),
        (lambda _: [["0.1"] * 4] * 3, "no real number"),
        (lambda _: [[1.0], [1.0, 2.0], []], "list"),
        (lambda y: y.numpy() + 1j, "no real number"),
        (lambda y: y + 1j, "complex"),
    ],
)
def test_what_is_no_array_of_readouts_is_refused_with_the_devices_name(returned, told):
    with pytest.raises(ReadoutError, match=told) as caught:
        Driver(returned)(X, THETA)
    assert "bench 3" in str(caught.value)
    assert isinstance(caught.value, InstrumentError)  # which pauses a training


@pytest.mark.parametrize("as_array", [lambda y: y, lambda y: y.double().numpy()])
@pytest.mark.parametrize(
    ("value", "told"),
    [
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (-float("inf"), "-inf"),
        (9.9e37, "SCPI's code for infinity"),
        (-9.9e37, "SCPI's code for minus infinity"),
        (9.91e37, "not-a-number"),
        (1e38, "3458A"),
        (9.9e34, r"9\.9e\+34"),  # a code that a driver scaled
        (1e39, "inf|1e"),
    ],
)
def test_a_faulty_readout_is_named_before_anything_has_used_it(value, told, as_array):
    def spoil(y):
        y = y.double()
        y[1, 2] = value
        return as_array(y)

    system = Driver(spoil)
    with pytest.raises(ReadoutError, match=told) as caught:
        system(X, THETA)
    for part in ("bench 3", "output 2 of shot 1", "1 of 3 shots", "retries = 3"):
        assert part in str(caught.value)
    assert system.passes == 3


def test_a_masked_reading_is_a_faulty_one():
    with pytest.raises(ReadoutError, match="output 1 of shot 0"):
        Driver(lambda y: np.ma.masked_equal(y.numpy(), SOUND[0, 1].item()))(X, THETA)


def test_only_faulty_shots_are_taken_again_as_often_as_asked_and_counted():
    def spoil(*rows):
        def returned(y):
            y[list(rows)] = float("nan")
            return y

        return returned

    system = Driver(spoil(0, 2), spoil(1))
    system.retries = 2
    assert torch.equal(system(X, THETA.expand(3, -1)), SOUND)
    assert (system.asked, system.passes, system.retaken) == ([3, 2, 1], 6, 3)
    system = Driver(spoil(0, 2), spoil(1))
    system.retries = 1
    with pytest.raises(ReadoutError, match="1 of 3 shots"):
        system(X, THETA)
    assert system.retaken == 2
    system.retries = -1
    with pytest.raises(RangeError, match="at least 0"):
        system(X, THETA)
    assert system.passes == 5


def test_a_driver_may_reuse_its_buffer_and_scale_its_arguments_in_place():
    class Buffered(PhysicalSystem):
        def __init__(self) -> None:
            super().__init__(3, 2, 3)
            self.buffer = np.zeros((5, 3), np.float32)
            self.random = np.random.default_rng(0)

        def _measure(self, x, theta):
            x *= 5  # volts
            theta += 1
            self.buffer[:] = x.numpy() + 0.1 * self.random.standard_normal(self.buffer.shape)
            return self.buffer

    x, theta = torch.rand(5, 3), torch.rand(2)
    before = x.clone(), theta.clone()
    measured = repeatability(Buffered(), x, theta)
    assert float(measured["noise_floor"]) == pytest.approx(0.1, rel=0.3)
    assert torch.equal(x, before[0])
    assert torch.equal(theta, before[1])


def test_read_outs_that_half_precision_cannot_hold_are_refused():
    with pytest.raises(ReadoutError, match="float16 cannot hold"):
        Driver(lambda y: y + 1e5)(X.half(), THETA)
    assert Driver(lambda y: y + 1e5)(X.bfloat16(), THETA).dtype == torch.bfloat16


def test_a_fault_leaves_statistics_weights_and_step_as_they_were():
    class Failing(Toy):
        faulty = False

        def _simulate(self, x, theta):
            y = super()._simulate(x, theta)
            if self.faulty:
                y[0, 0] = 9.9e37
            return y

    system = Failing()
    network = deep_pnn([system, system], [None, None], ideal)
    x = torch.rand(8, 6, generator=torch.Generator().manual_seed(0))
    calibrate(network, x)
    before = copy.deepcopy(network.state_dict())
    system.faulty = True
    for use in (lambda: network(x), lambda: calibrate(network, x)):
        with pytest.raises(ReadoutError, match="failing"):
            use()
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("rule", [physics_aware, in_silico, ideal])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_autocast_reach_the_gradients_of_single_precision(rule, dtype):
    system = Toy(noise=0.0, drift=0.0)
    twin = NeuralTwin(system, Mlp((8,)))

    def gradient(half):
        layer = PhysicalLayer(system, twin, rule, seed=1)
        x = torch.rand(16, 6, generator=torch.Generator().manual_seed(0), requires_grad=True)
        with torch.autocast("cpu", dtype, enabled=half == "autocast"):
            y = layer(x.to(dtype) if half else x)
        assert y.dtype == (dtype if half else torch.float32)
        y.float().square().sum().backward()
        return torch.cat([x.grad.flatten(), layer.theta.grad])

    exact = gradient("")
    for half in ("given", "autocast"):
        difference = (gradient(half) - exact).norm() / exact.norm()
        assert difference < 10 * torch.finfo(dtype).eps


class Reservoir(SimulatedSystem):
    """A fixed random layer: nothing about it can be set."""

    def __init__(self) -> None:
        super().__init__(64, 0, 64)
        self.weights = torch.randn(64, 64, generator=torch.Generator().manual_seed(0)) / 4
        self.random = torch.Generator().manual_seed(1)

    def _simulate(self, x, theta):
        y = torch.tanh((x - 0.3) @ self.weights.to(x.dtype))
        return y + 0.01 * torch.randn(y.shape, generator=self.random)


def test_a_device_without_parameters_is_collected_modelled_trained_and_watched(tmp_path):
    system, task = Reservoir(), digits()
    dataset = load_dataset(save(collect(system, 300, seed=0), tmp_path / "shots.nc"))
    assert dataset.sizes["parameter"] == 0
    twin = NeuralTwin(system, Mlp((32,)))
    twin = fit_neural(twin, dataset, NeuralSettings(epochs=20)).twin
    assert report(system, twin, dataset, depth=2).nmse < 1.2
    for rule in (in_silico, ideal, physics_aware):
        network = deep_pnn([system, system], [twin, twin], rule).append(nn.Linear(64, 10))
        calibrate(network, task.train.x[:100])
        settings = FitSettings(epochs=2, evaluations=1)
        last = list(Training(network, task, settings).records())[-1]
        assert last.device_metric > 0.2  # chance is 0.1
        assert last.theta_at_limits == (0.0, 0.0)
    assert len(alignment(network, task.train.x[:4]).layers) == 2
    assert len(take_references(network, task.train.x[:4])) == 2
    layer = physical_layers(network)[0]
    before = nn.functional.mse_loss(twin(X64, NONE), system(X64, NONE))
    refit(layer, shots=60)
    assert nn.functional.mse_loss(twin(X64, NONE), system(X64, NONE)) < before
    with Recorder(system, tmp_path / "shots.sqlite") as recorder:
        recorded = recorder(X64, NONE)
    assert torch.equal(Replay(tmp_path / "shots.sqlite")(X64, NONE), recorded)


X64, NONE = torch.rand(20, 64, generator=torch.Generator().manual_seed(3)), torch.empty(0)
