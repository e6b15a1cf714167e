import copy
import pickle
import threading

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn
from toy import Toy, ToyTwin

from pnnlab.errors import RangeError, ShapeError, TwinError
from pnnlab.gradients import ideal, in_silico, physics_aware
from pnnlab.layers import (
    PhysicalLayer,
    Rescale,
    Shots,
    Span,
    calibrate,
    on_device,
    on_twin,
    parameter_count,
    physical_layers,
    range_penalty,
    soft_range_penalty,
)


def make_network(rule=physics_aware, noise=0.0):
    return nn.Sequential(
        PhysicalLayer(Toy(noise=noise, drift=0.0), ToyTwin(), rule),
        PhysicalLayer(
            Toy(6, 2, noise=noise, drift=0.0), ToyTwin(6, 2), rule, encoding=Rescale(6), seed=1
        ),
        Rescale(2, gain=1.0, offset=0.0, elementwise=True),
    )


@pytest.fixture
def x():
    return torch.rand(20, 6, generator=torch.Generator().manual_seed(0))


def test_penalty_is_nothing_inside_and_linear_outside():
    inside = soft_range_penalty(torch.tensor([0.3, 0.5, 0.7]))
    assert 0 < float(inside) < 1e-5
    assert float(soft_range_penalty(torch.tensor([3.0]))) == pytest.approx(2.0, abs=1e-3)
    assert float(soft_range_penalty(torch.tensor([-2.0]))) == pytest.approx(2.0, abs=1e-3)
    assert float(soft_range_penalty(torch.tensor([0.0]))) == pytest.approx(0.6931 / 30, rel=1e-3)


def test_what_is_clamped_is_counted_and_pulled_back():
    layer = PhysicalLayer(Toy(), ToyTwin(), physics_aware)
    h = torch.full((4, 6), 0.5)
    h[0, :3] = 1.5
    h.requires_grad_()
    layer(h)
    assert layer.clamped == pytest.approx(3 / 24)
    layer.penalty.backward()
    assert (h.grad[0, :3] > 0).all()
    assert h.grad[1:].abs().max() < 1e-5


def test_parameters_outside_the_range_are_clamped_for_the_system_and_pulled_back():
    layer = PhysicalLayer(Toy(noise=0), ToyTwin(), physics_aware, theta=torch.full((36,), 1.2))
    y = layer(torch.rand(3, 6))
    assert y.isfinite().all()
    layer.penalty.backward()
    assert (layer.theta.grad > 0).all()


def test_calibration_standardises_every_stage_in_one_pass():
    network = make_network()
    x = torch.rand(2000, 6, generator=torch.Generator().manual_seed(3))
    calibrate(network, x)
    with torch.no_grad():
        logits = network.eval()(x)
    assert torch.allclose(logits.mean(0), torch.zeros(2), atol=1e-3)
    # Each variance over itself plus the mean of all: they add up to less the more they differ.
    shares = logits.var(0, correction=0)
    assert torch.allclose((shares / (1 - shares)).mean(), torch.tensor(1.0), atol=3e-3)


def test_statistics_stay_as_calibrated_unless_training(x):
    network = make_network()
    calibrate(network, x)
    before = network[2].statistics.running_mean.clone()
    network.eval()(1 - x)
    assert torch.equal(network[2].statistics.running_mean, before)
    network.train()(1 - x)
    assert not torch.equal(network[2].statistics.running_mean, before)


def trained(h):
    """A Rescale whose first batch had another scale, and whose averages are those of ``h``."""
    rescale = Rescale(h.shape[1])
    for batch in (torch.randn_like(h), *[h] * 300):
        rescale(batch)
    return rescale


def test_calibration_changes_nothing_where_nothing_has_changed(x):
    h = x * torch.tensor([0.1, 0.5, 1.0, 2.0, 10.0, 50.0]) + 3
    rescale = trained(h)
    before = rescale.eval()(h)
    for _ in range(2):
        calibrate(rescale, h)
        assert torch.allclose(rescale(h), before, atol=1e-4)


def test_calibration_gives_each_element_the_mean_and_the_deviation_that_it_had_in_training(x):
    h = x * torch.tensor([0.1, 0.5, 1.0, 2.0, 10.0, 50.0])
    rescale = trained(h)
    before = rescale.eval()(h)
    device = h * torch.tensor([1, 2, 0.5, -1, 10, 0.1]) + torch.tensor([0, 1, -1, 5, 100, 0.0])
    assert not torch.allclose(rescale(device).mean(0), before.mean(0), atol=0.1)
    kept = rescale.statistics.running_var.clone()
    calibrate(rescale, device)
    after = rescale(device)
    for measure in (torch.mean, torch.std):
        assert torch.allclose(measure(after, 0), measure(before, 0), atol=1e-4)
    assert torch.equal(rescale.statistics.running_var, kept)
    rescale.train()(device)  # training goes on from there
    assert torch.allclose(rescale.eval()(device), after, atol=1e-4)


def test_calibration_keeps_the_mode_and_how_averages_are_taken(x):
    network = make_network().eval()
    calibrate(network, x)
    assert not network.training
    assert all(m.momentum == 0.1 for m in network.modules() if isinstance(m, nn.BatchNorm1d))
    calibrate(network.train(), x)
    assert network.training


def test_what_stopped_on_the_device_is_the_mean_that_it_had_in_training(x):
    rescale = trained(x)
    device = x.clone()
    device[:, 2] = 0.9
    calibrate(rescale, device)
    assert torch.allclose(rescale.eval()(device)[:, 2], torch.tensor(0.5), atol=1e-3)
    device[:, 2] += 1e-4
    assert (rescale.eval()(device)[:, 2] - 0.5).abs().max() < 0.02


def test_calibration_does_not_blow_up_a_dead_output(x):
    rescale = Rescale(6)
    h = x.clone()
    h[:, 2] = 0.4
    calibrate(rescale, h)
    h[:, 2] += 1e-4
    assert (rescale.eval()(h)[:, 2] - 0.5).abs().max() < 0.02
    with pytest.raises(ShapeError, match="at least two"):
        calibrate(rescale, h[:1])


def test_contexts_choose_what_answers_and_undo_themselves(x):
    network = make_network(in_silico).eval()
    systems = [layer.system for layer in physical_layers(network)]
    network(x)
    assert [system.passes for system in systems] == [0, 0]
    with on_device(network):
        device = network(x)
        assert not network[0](x).requires_grad
    assert systems[0].passes == 40
    with on_twin(network):
        twin = network(x)
    assert systems[0].passes == 40
    assert torch.equal(twin, network(x))
    assert not torch.allclose(device, twin)
    with pytest.raises(KeyError), on_device(network):
        raise KeyError
    assert torch.equal(twin, network(x))


def test_contexts_leave_the_weights_of_the_network_alone(x):
    network = make_network()
    names = set(network.state_dict())
    with on_twin(network):
        assert set(network.state_dict()) == names


def test_a_network_without_twins_trains_ideally_and_says_what_it_lacks(x):
    network = nn.Sequential(PhysicalLayer(Toy(), None, ideal))
    network(x).sum().backward()
    assert network[0].theta.grad.abs().max() > 0
    with pytest.raises(TwinError, match="layer 1 has no twin"), on_twin(network):
        pass


def test_twins_and_parameters_of_other_systems_are_refused():
    with pytest.raises(TwinError, match="twin of another system"):
        PhysicalLayer(Toy(), ToyTwin(6, 2), physics_aware)
    with pytest.raises(ShapeError, match="theta"):
        PhysicalLayer(Toy(), ToyTwin(), physics_aware, theta=torch.zeros(3))
    with pytest.raises(TwinError, match="give one"):
        PhysicalLayer(Toy(), None, physics_aware)


def test_twins_are_frozen_and_not_counted():
    class Learned(ToyTwin):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(100))

    network = nn.Sequential(PhysicalLayer(Toy(), Learned(), physics_aware))
    assert parameter_count(network) == 36
    assert parameter_count(make_network()) == 36 + 12 + 2 + 4


def test_penalty_of_a_network_is_the_mean_over_its_layers(x):
    network = make_network()
    network(x)
    layers = physical_layers(network)
    expected = (layers[0].penalty + layers[1].penalty) / 2
    assert torch.equal(range_penalty(network), expected)
    assert float(range_penalty(nn.Linear(2, 2))) == 0


def take_a_step(network, x, rate=0.1):
    (network(x).square().mean() + range_penalty(network)).backward()
    torch.optim.SGD(network.parameters(), lr=rate).step()


def test_networks_pickle_with_systems_of_their_own(x):
    for network in (make_network(), make_network()):
        other = pickle.loads(pickle.dumps(network))
        assert torch.equal(other(x), make_network()(x))
        assert other[0].system is not network[0].system
        assert network[0].system.passes == 0
    take_a_step(network, x)
    other = pickle.loads(pickle.dumps(network))
    assert torch.equal(other.eval()(x), network.eval()(x))


class Locked(Toy):
    """A toy that one thread at a time may drive, as a bench is."""

    def __init__(self, *shape, **options):
        super().__init__(*shape, **options)
        self.lock = threading.RLock()

    def _simulate(self, x, theta):
        with self.lock:
            return super()._simulate(x, theta)


def test_a_copy_after_a_step_drives_the_same_device(x):
    device = Locked()
    layer = PhysicalLayer(device, ToyTwin(), physics_aware)
    network = nn.Sequential(layer, Rescale(6), nn.Linear(6, 2))
    take_a_step(network, x)
    best = copy.deepcopy(network)
    assert best[0].system is device
    assert best[0].twin is not layer.twin  # a refit of one leaves the other
    kept = copy.deepcopy(best.state_dict())
    assert all(torch.equal(value, kept[name]) for name, value in network.state_dict().items())
    assert not best[0].penalty.requires_grad
    take_a_step(network, x, rate=10.0)
    assert all(torch.equal(value, kept[name]) for name, value in best.state_dict().items())
    before, drawn = device.passes, device.generator.get_state()
    a, b = network.eval()(x), best.eval()(x)
    assert device.passes == before + 40
    assert not torch.equal(a, b)
    assert not torch.equal(device.generator.get_state(), drawn)
    take_a_step(best.train(), x)  # a copy can be trained on
    assert any(not torch.equal(value, kept[name]) for name, value in best.state_dict().items())


def test_copies_draw_from_one_stream_of_noise(x):
    def noisy():
        return nn.Sequential(PhysicalLayer(Toy(noise=1.0), ToyTwin(), physics_aware))

    network, alone = noisy(), noisy()
    other = copy.deepcopy(network)
    first, second = alone(x), alone(x)
    assert torch.equal(network(x), first)
    assert torch.equal(other(x), second)


def test_layers_that_share_a_device_and_a_twin_share_them_in_a_copy(x):
    device, twin = Toy(), ToyTwin()
    network = nn.Sequential(*[PhysicalLayer(device, twin, physics_aware) for _ in range(2)])
    other = copy.deepcopy(network)
    assert other[0].system is other[1].system is device
    assert other[0].twin is other[1].twin
    with on_device(network):
        assert copy.deepcopy(network)[0].stand_in == (device,)


def test_weights_can_be_averaged_while_training(x):
    network = make_network()
    averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    take_a_step(network, x)
    start = averaged.module[0].theta.detach().clone()
    averaged.update_parameters(network)  # the first is taken over
    take_a_step(network, x)
    averaged.update_parameters(network)
    assert not torch.equal(start, averaged.module[0].theta)
    assert physical_layers(averaged)[0].system is network[0].system
    passes = network[0].system.passes
    update_bn([x, 1 - x], averaged)
    assert network[0].system.passes == passes + 40
    assert averaged.module[2].statistics.num_batches_tracked == 2
    with torch.no_grad():
        logits = averaged.eval()(torch.cat([x, 1 - x]))
        shares = (logits / averaged.module[2].gain).var(0)
    assert ((shares / (1 - shares)).mean() - 1).abs() < 0.3
    averaged.train()
    take_a_step(network, x)
    copy.deepcopy(averaged)


def test_folds_begin_with_the_same_weights_on_the_same_device(x):
    network = make_network()
    calibrate(network, x)
    folds = [copy.deepcopy(network) for _ in range(3)]
    before = network[0].system.passes
    for fold in folds:
        take_a_step(fold, x)
    assert network[0].system.passes == before + 60
    assert torch.equal(folds[0][0].theta, folds[2][0].theta)  # no noise, no drift: the same step
    assert not torch.equal(folds[0][0].theta, network[0].theta)


def test_a_span_becomes_zero_to_one():
    assert torch.equal(
        Span(-2, 2)(torch.tensor([-2.0, 0.0, 2.0, 3.0])), torch.tensor([0, 0.5, 1, 1.25])
    )
    with pytest.raises(RangeError, match="low < high"):
        Span(1, 1)


def test_shots_are_stretches_of_the_input_through_one_layer(x):
    layer = PhysicalLayer(Toy(noise=0, drift=0.0), ToyTwin(), physics_aware)
    network = Shots(layer, 3)
    wide = torch.cat([x, 1 - x, x / 2], 1)
    y = network(wide)
    assert layer.system.passes == 60
    alone = torch.cat([layer(part) for part in (x, 1 - x, x / 2)], 1)
    assert torch.equal(y, alone)
    assert physical_layers(network) == [layer]
    with pytest.raises(ShapeError, match="divided"):
        Shots(layer, 4)(x)
    with pytest.raises(RangeError, match="at least 1"):
        Shots(layer, 0)
