import pytest
import torch
from torch import nn
from toy import Toy, ToyTwin, toy_response

from pnnlab.errors import TwinError
from pnnlab.gradients import ideal, in_silico, physics_aware
from pnnlab.physical_system import PhysicalSystem


class Exact(PhysicalSystem):
    """A noiseless system in double precision, and a module with the very same equation."""

    def __init__(self, strength: float = 1.0) -> None:
        super().__init__(4, 12, 3)
        self.strength = strength

    def _measure(self, x, theta):
        return toy_response(x, theta, self.strength)


class Wide(nn.Module):
    def forward(self, x, theta):
        return torch.zeros(len(x), 7, dtype=x.dtype)


@pytest.fixture
def x():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(5, 4, generator=generator, dtype=torch.float64).mul(0.8).add(0.1)


@pytest.fixture
def theta():
    generator = torch.Generator().manual_seed(1)
    return torch.rand(12, generator=generator, dtype=torch.float64).mul(0.8).add(0.1)


def test_gradcheck_where_system_and_twin_are_one_function(x, theta):
    respond = physics_aware(Exact(), ToyTwin(4, 3))
    assert torch.autograd.gradcheck(respond, (x.requires_grad_(), theta.requires_grad_()))
    each = theta.detach().expand(5, -1).clone().requires_grad_()
    assert torch.autograd.gradcheck(respond, (x, each))


def test_value_of_the_system_gradient_of_the_twin_at_the_physical_input(x, theta):
    system, twin = Exact(1.3), ToyTwin(4, 3)
    x.requires_grad_()
    theta.requires_grad_()
    y = physics_aware(system, twin)(x, theta)
    assert torch.equal(y, system(x, theta))
    weights = torch.rand(y.shape, dtype=y.dtype)
    found = torch.autograd.grad(y, (x, theta), weights)
    expected = torch.autograd.grad(twin(x, theta), (x, theta), weights)
    true = torch.autograd.grad(toy_response(x, theta, 1.3), (x, theta), weights)
    for got, wanted, truth in zip(found, expected, true, strict=True):
        assert torch.equal(got, wanted)
        assert not torch.allclose(got, truth)


def test_differentiates_only_what_is_asked_for(x, theta):
    theta.requires_grad_()
    y = physics_aware(Exact(), ToyTwin(4, 3))(x, theta)
    y.sum().backward()
    assert x.grad is None
    assert theta.grad is not None
    assert not physics_aware(Exact(), ToyTwin(4, 3))(x, theta.detach()).requires_grad


def test_a_second_derivative_is_refused_not_wrong(x, theta):
    y = physics_aware(Exact(), ToyTwin(4, 3))(x, theta.requires_grad_())
    (first,) = torch.autograd.grad(y.square().sum(), theta, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_grad_mode_survives_an_error_in_the_system(x, theta):
    respond = physics_aware(Exact(), ToyTwin(4, 3))
    with pytest.raises(ValueError, match="outside"):
        respond(x + 5, theta)
    assert torch.is_grad_enabled()


def test_in_silico_never_drives_the_system(x, theta):
    system, twin = Exact(1.3), ToyTwin(4, 3)
    assert torch.equal(in_silico(system, twin)(x, theta), twin(x, theta))
    assert system.passes == 0


def test_ideal_is_the_gradient_of_the_shots_that_were_taken():
    system, other = Toy(), Toy()
    x = torch.rand(3, 6)
    theta = torch.rand(36).requires_grad_()
    y = ideal(system, None)(x, theta)
    assert torch.equal(y, other(x, theta))
    assert system.passes == 3
    (grad,) = torch.autograd.grad(y.sum(), theta)
    (true,) = torch.autograd.grad(toy_response(x, theta, 1.1).sum(), theta)
    assert torch.allclose(grad, true)


def test_rules_say_what_they_lack(x, theta):
    with pytest.raises(TwinError, match="give one"):
        physics_aware(Exact(), None)
    with pytest.raises(TwinError, match="give one"):
        in_silico(Exact(), None)
    with pytest.raises(TwinError, match="not simulated"):
        ideal(Exact(), None)
    with pytest.raises(TwinError, match="twin of another system"):
        physics_aware(Exact(), Wide())(x, theta)


def test_parallel_forwards_keep_their_own_values(x, theta):
    """PAT holds for a system used twice in one graph, as a time-multiplexed device is."""
    system, twin = Exact(1.3), ToyTwin(4, 3)
    theta.requires_grad_()
    respond = physics_aware(system, twin)
    total = respond(x, theta).sum() + respond(1 - x, theta).sum()
    (found,) = torch.autograd.grad(total, theta)
    (expected,) = torch.autograd.grad(twin(x, theta).sum() + twin(1 - x, theta).sum(), theta)
    assert torch.allclose(found, expected)
