"""One suite that every physical system passes, simulated or real.

Subclass `SystemConformance` in a test module and supply `make_system`. Whatever is random is
judged against the system's own repeatability, so the suite also holds for a device on a bench.
"""

import pickle
from abc import ABC, abstractmethod

import pytest
import torch
from torch import Tensor

from pnnlab.errors import RangeError, ShapeError
from pnnlab.physical_system import PhysicalSystem, SimulatedSystem


def exact(shape: tuple[int, ...], seed: int) -> Tensor:
    """Numbers in [0, 1] that every floating type holds exactly."""
    return torch.randint(0, 129, shape, generator=torch.Generator().manual_seed(seed)) / 128


class SystemConformance(ABC):
    """What may be relied on of any system."""

    batch = 5
    simulated = True

    @abstractmethod
    def make_system(self) -> PhysicalSystem:
        """A system in the state in which a session begins; twice the same, if simulated."""

    @pytest.fixture
    def system(self) -> PhysicalSystem:
        return self.make_system()

    @pytest.fixture
    def x(self, system: PhysicalSystem) -> Tensor:
        return exact((self.batch, system.input_dim), seed=1)

    @pytest.fixture
    def theta(self, system: PhysicalSystem) -> Tensor:
        return exact((system.param_dim,), seed=2)

    def moved(self, theta: Tensor) -> Tensor:
        """Parameters that any system answers otherwise; override where it is blind to these."""
        return 1 - theta

    def other(self, x: Tensor) -> Tensor:
        """Inputs that any system answers otherwise; override where it is blind to these."""
        return 1 - x

    def repeatability(self, system: PhysicalSystem, x: Tensor, theta: Tensor) -> float:
        """Rms deviation of repeated shots."""
        return float(
            torch.stack([system(x, theta) for _ in range(8)]).std(0).square().mean().sqrt()
        )

    def test_gives_one_finite_row_of_outputs_a_shot(self, system, x, theta):
        y = system(x, theta)
        assert y.shape == (self.batch, system.output_dim)
        assert y.dtype == x.dtype
        assert y.isfinite().all()

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
    def test_answers_in_the_data_type_of_x(self, system, x, theta, dtype):
        y = system(x.to(dtype), theta)
        assert y.dtype == dtype
        assert y.isfinite().all()
        with torch.autocast("cpu", torch.bfloat16):
            assert system(x.to(dtype), theta).dtype == dtype
        if isinstance(system, SimulatedSystem):
            assert system.differentiable(x.to(dtype), theta.to(dtype)).dtype == dtype

    def test_what_it_gave_is_not_changed_by_the_next_call(self, system, x, theta):
        y = system(x, theta)
        kept = y.clone()
        system(1 - x, theta)
        assert torch.equal(y, kept)

    @pytest.mark.parametrize("value", [0.0, 1.0])
    def test_accepts_both_ends_of_the_range(self, system, x, theta, value):
        assert system(torch.full_like(x, value), theta).isfinite().all()
        assert system(x, torch.full_like(theta, value)).isfinite().all()

    @pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1e-3, 1.001])
    @pytest.mark.parametrize("which", ["x", "theta"])
    def test_refuses_bad_values_before_driving(self, system, x, theta, bad, which):
        (x if which == "x" else theta)[..., -1] = bad
        before = system.state()
        with pytest.raises(RangeError, match="nothing was driven"):
            system(x, theta)
        assert system.passes == 0
        assert system.state() == before

    def test_refuses_wrong_shapes_and_types_before_driving(self, system, x, theta):
        wrong = [
            (x[0], theta),
            (x[:, :-1], theta),
            (x, theta[:-1]),
            (x, theta.expand(self.batch + 1, -1)),
            (x.round().long(), theta),
            (x.tolist(), theta),
            (x, None),
        ]
        for bad_x, bad_theta in wrong:
            with pytest.raises(ShapeError):
                system(bad_x, bad_theta)
        assert system.passes == 0

    def test_counts_every_shot(self, system, x, theta):
        system(x, theta)
        system(x[:2], theta)
        assert system.passes == self.batch + 2

    def test_a_batch_is_its_shots_one_by_one(self, system, x, theta):
        together = system(x, theta)
        other = self.make_system()
        one_by_one = torch.cat([other(x[n : n + 1], theta) for n in range(self.batch)])
        noise = self.repeatability(system, x, theta)
        difference = (together - one_by_one).square().mean().sqrt()
        assert difference <= 2.5 * noise + 1e-6

    def test_theta_is_shared_or_one_a_shot(self, system, x, theta):
        shared = system(x, theta)
        each = self.make_system()(x, theta.expand(self.batch, -1).contiguous())
        noise = self.repeatability(system, x, theta)
        assert (shared - each).square().mean().sqrt() <= 2 * noise + 1e-6
        other = theta.expand(self.batch, -1).clone()
        other[1] = self.moved(other[1])
        changed = self.make_system()(x, other)
        assert (changed[1] - shared[1]).square().mean().sqrt() > 2 * noise

    def test_answers_to_input_and_parameters(self, system, x, theta):
        y, noise = system(x, theta), self.repeatability(system, x, theta)
        assert (system(self.other(x), theta) - y).square().mean().sqrt() > 2 * noise
        assert (system(x, self.moved(theta)) - y).square().mean().sqrt() > 2 * noise

    def test_leaks_no_gradient_and_leaves_its_arguments_alone(self, system, x, theta):
        x.requires_grad_()
        theta.requires_grad_()
        x_before, theta_before = x.detach().clone(), theta.detach().clone()
        y = system(x, theta)
        assert not y.requires_grad
        assert torch.is_grad_enabled()
        assert torch.equal(x, x_before)
        assert torch.equal(theta, theta_before)

    def test_takes_memory_laid_out_in_any_way(self, system, x, theta):
        y = self.make_system()(x, theta)
        strided = torch.stack([x, x], dim=2)[:, :, 0]
        noise = self.repeatability(system, x, theta)
        assert (self.make_system()(strided, theta) - y).square().mean().sqrt() <= 2 * noise + 1e-6

    def test_pickles_and_goes_on_the_same(self, system, x, theta):
        if not self.simulated:
            return
        system(x, theta)
        copy = pickle.loads(pickle.dumps(system))
        assert copy.passes == system.passes
        assert torch.equal(copy(x, theta), system(x, theta))

    def test_is_determined_by_its_seed(self, system, x, theta):
        if not self.simulated:
            return
        other = self.make_system()
        for _ in range(3):
            assert torch.equal(system(x, theta), other(x, theta))

    def test_its_state_takes_it_back(self, system, x, theta):
        if not self.simulated:
            return
        system(x, theta)
        saved = system.state()
        first = system(x, theta)
        other = self.make_system()
        other.restore(saved)
        assert torch.equal(other(x, theta), first)

    def test_global_random_numbers_are_not_touched(self, system, x, theta):
        before = torch.get_rng_state()
        system(x, theta)
        assert torch.equal(torch.get_rng_state(), before)

    def test_a_simulation_tells_the_gradient_of_the_same_shots(self, system, x, theta):
        if not isinstance(system, SimulatedSystem):
            return
        theta.requires_grad_()
        y = system.differentiable(x, theta)
        assert torch.equal(y, self.make_system()(x, theta))
        y.sum().backward()
        assert theta.grad.isfinite().all()
        assert theta.grad.abs().max() > 0
