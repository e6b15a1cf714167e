"""One example on its way: what is noted is what happened, and the network is left as it was."""

import pytest
import torch
from torch import Tensor, nn
from toy import Toy, ToyTwin

from pnnlab.errors import RangeError, ShapeError
from pnnlab.gradients import ideal, in_silico, physics_aware
from pnnlab.layers import PhysicalLayer, Rescale, Shots, calibrate, on_twin, physical_layers
from pnnlab.training import infer

X = torch.rand(40, 6, generator=torch.Generator().manual_seed(0))


def toys(depth: int = 2, **toy: float) -> nn.Sequential:
    """Toy layers, a class for each of four outputs, calibrated."""
    layers = [
        PhysicalLayer(Toy(**toy), ToyTwin(), physics_aware, encoding=Rescale(6), seed=n)
        for n in range(depth)
    ]
    torch.manual_seed(0)
    network = nn.Sequential(*layers, nn.Linear(6, 4))
    calibrate(network, X)
    return network


def test_every_stage_is_what_the_device_did_and_what_the_twin_would_have_done():
    network = toys(noise=0.0, drift=0.0)
    went = infer(network, X[0])
    assert [response.name for response in went.responses] == ["1 · toy", "2 · toy"]
    h = X[:1]
    network.eval()
    with torch.no_grad():
        for layer, response in zip(physical_layers(network), went.responses, strict=True):
            drive = layer.encoding(h).clamp(0, 1)
            torch.testing.assert_close(response.drive, drive)
            torch.testing.assert_close(response.theta, layer.theta.clamp(0, 1))
            h = layer.system(drive, layer.theta.clamp(0, 1))
            torch.testing.assert_close(response.measured, h)
            assert response.modelled is not None
            torch.testing.assert_close(
                response.modelled, layer.twin(drive, layer.theta.clamp(0, 1))
            )
            variance = (h - h.mean()).square().mean()
            gap = (response.measured - response.modelled).square().mean() / variance
            assert response.gap == pytest.approx(float(gap))
        logits = network[-1](h)[0]
        with on_twin(network):
            alone = network(X[:1])[0].softmax(0)
    torch.testing.assert_close(went.probabilities, logits.softmax(0))
    torch.testing.assert_close(went.twin_probabilities, alone)
    assert went.predicted == int(logits.argmax())
    assert went.device_passes == 2
    torch.testing.assert_close(went.x, X[0])


def test_the_network_is_left_as_it_was():
    network = toys(depth=3).train()
    network[1].eval()
    network(X)
    layers = physical_layers(network)
    kept = {name: value.clone() for name, value in network.state_dict().items()}
    notes = [(layer.penalty, layer.clamped, layer.stand_in) for layer in layers]
    infer(network, X[3])
    assert [module.training for module in network[:3]] == [True, False, True]
    assert [module.training for module in network[1].modules()] == [False] * 4
    assert notes == [(layer.penalty, layer.clamped, layer.stand_in) for layer in layers]
    assert all(len(layer._forward_hooks) == 0 for layer in layers)
    for name, value in network.state_dict().items():
        assert torch.equal(value, kept[name]), name
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_device_that_refuses_leaves_no_hook_behind():
    network = toys().train()
    with pytest.raises(RangeError, match="NaN; nothing was driven"):
        infer(network, torch.full((6,), torch.nan))
    assert network.training
    assert all(not layer._forward_hooks for layer in physical_layers(network))
    assert [layer.stand_in for layer in physical_layers(network)] == [(), ()]


def test_clamping_is_told_of_the_layer_where_it_happened():
    network = nn.Sequential(PhysicalLayer(Toy(), ToyTwin(), in_silico), nn.Linear(6, 2))
    went = infer(network, torch.tensor([[-1.0, 2.0, 0.5, 0.5, 0.5, 0.5]]))
    assert went.responses[0].clamped == pytest.approx(1 / 3)
    assert went.responses[0].drive.tolist() == [[0, 1, 0.5, 0.5, 0.5, 0.5]]
    assert went.device_passes == 1, "on the device, whatever it was trained on"


def test_without_a_twin_there_is_nothing_to_compare():
    network = nn.Sequential(PhysicalLayer(Toy(), None, ideal), nn.Linear(6, 2))
    went = infer(network, X[0])
    assert went.responses[0].modelled is None
    assert went.responses[0].gap is None
    assert went.twin_probabilities is None


def test_a_digital_network_has_no_stages():
    went = infer(nn.Linear(6, 3), X[0])
    assert went.responses == ()
    assert went.device_passes == 0
    assert went.twin_probabilities is None
    assert float(went.probabilities.sum()) == pytest.approx(1)


def test_an_example_of_several_shots_is_one_journey():
    layer = PhysicalLayer(Toy(6, 5), ToyTwin(6, 5), physics_aware)
    x = torch.rand(24)
    went = infer(nn.Sequential(Shots(layer, 4), nn.Linear(20, 3)), x)
    (response,) = went.responses
    assert torch.equal(response.drive, x.view(4, 6))
    assert response.measured.shape == (4, 5)
    assert response.modelled is not None
    assert response.modelled.shape == (4, 5)
    assert went.device_passes == 4


def test_a_device_in_two_layers_is_counted_once():
    toy = Toy()
    layers = [PhysicalLayer(toy, ToyTwin(), physics_aware, encoding=Rescale(6)) for _ in range(2)]
    network = nn.Sequential(*layers, nn.Linear(6, 2))
    calibrate(network, X)
    assert infer(network, X[0]).device_passes == 2


@pytest.mark.parametrize("x", [X[:2], torch.rand(2, 3, 6), torch.tensor(1.0)])
def test_one_example_at_a_time(x: Tensor):
    with pytest.raises(ShapeError, match=r"task\.test\.x\[0\]"):
        infer(toys(), x)
