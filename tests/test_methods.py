import io
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn
from toy import Toy, ToyTwin, toy_response

from pnnlab.errors import RunError, ShapeError, TwinError
from pnnlab.gradients import NoiseAware, Randomised, in_silico, noise_aware, physics_aware
from pnnlab.layers import Rescale, calibrate, deep_pnn, on_device, physical_layers
from pnnlab.physical_system import PhysicalSystem
from pnnlab.runs import Run
from pnnlab.runs.run import identity
from pnnlab.systems import Circuit
from pnnlab.tasks import Task
from pnnlab.training import FitSettings, Training
from pnnlab.training.local import LocalLearning, LocalNetwork
from pnnlab.training.methods import (
    Asymmetrical,
    Backpropagation,
    DirectFeedback,
    DualAdaptive,
    FineTuned,
    OnlineRefit,
    Perturbation,
    SharpnessAware,
)
from pnnlab.twins import CircuitEquations, PhysicsTwin

QUIET = {"noise": 0.0, "drift": 0.0}


class Shifted(PhysicalSystem):
    """A device that differs from its twin by a constant of each output."""

    def __init__(self, shift: torch.Tensor) -> None:
        super().__init__(6, 36, 6)
        self.shift = shift

    def _measure(self, x, theta):
        return toy_response(x, theta, 1.0) + self.shift


def board(layers=((4, 16), (4, 16))):
    device = Circuit(0, input_dim=16, replays=4, output_dim=16)
    true = PhysicsTwin(device, CircuitEquations(replays=4))
    systems = [device.reprogrammed(replays=r, output_dim=n) for r, n in layers]
    twins = [true.reprogrammed(one, replays=r) for one, (r, _) in zip(systems, layers, strict=True)]
    return systems, twins


def local_network(layers=2):
    return LocalNetwork([Toy(**QUIET) for _ in range(layers)], 6, 3)


def make_task(n=64, features=6, classes=3):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(n, features, generator=generator)
    targets = (3 * x[:, 0]).long().clamp(0, classes - 1)
    return Task.from_arrays(x, targets)


def make(method=Backpropagation, rule=physics_aware, layers=2, system=None, epochs=3):
    kind = getattr(method, "func", method)
    task = make_task(features=16 if kind is OnlineRefit else 6)
    if kind is OnlineRefit:
        network = deep_pnn(*board(), classes=3)
    elif kind is LocalLearning:
        network = local_network()
    else:
        device = system or Toy(**QUIET)
        network = deep_pnn(device, ToyTwin(), rule, layers=layers, classes=3)
    with on_device(network):
        calibrate(network, task.train.x)
    settings = FitSettings(epochs=epochs, batch_size=16, evaluations=1)
    return Training(network, task, settings, method=method)


def gradients(training):
    """Gradients of the first step."""
    training.network.train()
    rows = training.batch()
    training.method.update(training.train.x[rows], training.train.targets[rows])
    return {n: p.grad.clone() for n, p in training.network.named_parameters() if p.requires_grad}


def trained(training):
    for _ in training.records():
        pass
    return training.network.state_dict()


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_radius_of_0_is_backpropagation():
    a, b = gradients(make()), gradients(make(partial(SharpnessAware, radius=0.0)))
    assert same(a, b)


def test_sharpness_is_the_gradient_at_the_worst_point_nearby():
    sharp, plain = make(partial(SharpnessAware, radius=0.2)), make()
    slope = gradients(plain)
    thetas = [name for name in slope if name.endswith("theta")]
    norm = torch.stack([slope[name].square().sum() for name in thetas]).sum().sqrt()
    with torch.no_grad():
        for name, parameter in plain.network.named_parameters():
            if name in thetas:
                parameter.add_(0.2 * slope[name] / norm)
    plain.optimizer.zero_grad()
    expected, found = gradients(plain), gradients(sharp)
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name])
    assert not torch.allclose(found[thetas[0]], slope[thetas[0]])


@pytest.mark.parametrize("last", [0.0, 1.0])
def test_fine_tuning_is_one_rule_and_then_the_other(last):
    tuned = make(partial(FineTuned, first=in_silico, last=last))
    alone = make(rule=physics_aware if last else in_silico)
    if last:
        calibrate(alone.network, alone.train.x[alone.batch()])
    assert same(trained(tuned), trained(alone))


def test_what_is_fine_tuned_may_be_trained_by_another_method():
    sharp = partial(SharpnessAware, radius=0.2)
    tuned = make(partial(FineTuned, first=in_silico, last=0.0, method=sharp))
    assert same(trained(tuned), trained(make(sharp, rule=in_silico)))
    assert not same(trained(tuned), trained(make(rule=in_silico)))


@pytest.mark.parametrize("first", [in_silico, noise_aware, NoiseAware(2.0), Randomised(0.1)])
def test_what_trains_on_the_twin_drives_no_device(first):
    systems, twins = board()
    for twin in twins:
        twin.noise.copy_(noisy_twin(0.01).noise)
    task = make_task(features=16)
    training = Training(deep_pnn(systems, twins, first, classes=3), task)
    assert not training.method.drives
    evaluated = 2 * len(task.validation)  # two layers
    assert next(iter(training.records())).device_passes == evaluated


def test_fine_tuning_drives_the_device_in_its_part_alone():
    training = make(partial(FineTuned, first=in_silico, last=0.5), epochs=4)
    passes = [record.device_passes for record in training.records()]
    half = len(passes) // 2
    assert passes[half - 1] == 0
    assert passes[half] > 0


def test_asymmetrical_training_of_one_layer_is_physics_aware():
    noisy = {"noise": 0.05, "seed": 3}
    a = gradients(make(layers=1, system=Toy(**noisy)))
    b = gradients(make(Asymmetrical, layers=1, system=Toy(**noisy)))
    assert same(a, b)


def test_asymmetrical_training_on_a_perfect_twin_is_physics_aware():
    exact = partial(Shifted, torch.zeros(6))
    a = gradients(make(layers=3, system=exact()))
    b = gradients(make(Asymmetrical, layers=3, system=exact()))
    for name in a:
        torch.testing.assert_close(a[name], b[name])


def test_direct_feedback_of_one_layer_is_physics_aware():
    assert same(gradients(make(layers=1)), gradients(make(DirectFeedback, layers=1)))


def test_direct_feedback_with_the_true_jacobian_is_physics_aware():
    class Linear(PhysicalSystem):
        def __init__(self):
            super().__init__(4, 16, 4)

        def _measure(self, x, theta):
            return x @ (theta.view(4, 4) / 8)

    class LinearTwin(nn.Module):
        def forward(self, x, theta):
            return x @ (theta.view(4, 4) / 8)

    def network():
        first, second = (
            layer
            for layer in deep_pnn(Linear(), LinearTwin(), layers=2)
            if not isinstance(layer, Rescale)
        )
        first.encoding = second.encoding = None
        return nn.Sequential(first, second)

    task = Task.from_arrays(torch.rand(40, 4) / 4, torch.arange(40) % 4)
    settings = FitSettings(batch_size=8, penalty=0.0)
    base = Training(network(), task, settings)
    jacobian = base.network[1].theta.detach().view(4, 4) / 8  # of the outputs by the inner y
    method = partial(DirectFeedback, projections=[jacobian])
    fed = gradients(Training(network(), task, settings, method=method))
    for name, value in gradients(base).items():
        torch.testing.assert_close(fed[name], value)


@pytest.mark.parametrize("directions", [40, 400])
def test_cosine_of_perturbations_follows_their_number(directions):
    """sqrt(K / (K + P)), `facts` of simultaneous perturbation; here within three deviations."""
    exact = gradients(make(system=Shifted(torch.zeros(6))))
    method = partial(Perturbation, size=1e-3, directions=directions)
    torch.manual_seed(0)
    found = gradients(make(method, system=Shifted(torch.zeros(6))))
    a = torch.cat([exact[name].flatten() for name in exact])
    b = torch.cat([found[name].flatten() for name in exact])
    expected = (directions / (directions + len(a))) ** 0.5
    assert torch.cosine_similarity(a, b, dim=0) == pytest.approx(expected, abs=0.12)


def test_one_sided_perturbation_measures_the_unperturbed_loss_once():
    training = make(partial(Perturbation, directions=5, central=False))
    before = training.device_passes
    gradients(training)
    assert training.device_passes - before == 2 * 16 * 6


def flat(found):
    return torch.cat([found[name].flatten() for name in found])


def test_one_sided_perturbation_estimates_the_same_slopes():
    found = []
    for central in (True, False):
        torch.manual_seed(0)  # the same directions
        method = partial(Perturbation, size=1e-3, directions=5, central=central)
        found.append(flat(gradients(make(method, system=Shifted(torch.zeros(6))))))
    assert torch.cosine_similarity(*found, dim=0) > 0.999
    assert float(found[0].norm() / found[1].norm()) == pytest.approx(1, rel=0.02)


def test_guided_directions_have_their_expectation():
    """Of a perfect twin: a g + (1 - a) P g, and sqrt(K (1 - a) / (K (1 - a) + a)) its cosine."""
    share, directions = 0.5, 64
    method = partial(Perturbation, size=1e-3, directions=directions, random=share)
    torch.manual_seed(0)
    found = flat(gradients(make(method, system=Shifted(torch.zeros(6)))))
    exact = flat(gradients(make(system=Shifted(torch.zeros(6)))))
    along = float(found @ exact / exact.square().sum())
    assert along == pytest.approx(share + (1 - share) * len(exact), rel=0.1)
    guided = directions * (1 - share)
    cosine = float(torch.cosine_similarity(found, exact, dim=0))
    assert cosine == pytest.approx((guided / (guided + share)) ** 0.5, abs=0.004)


def test_a_direction_of_the_twin_alone_gives_the_slope_along_it():
    training = make(partial(Perturbation, size=1e-3, random=0.0), system=Shifted(torch.zeros(6)))
    found, exact = gradients(training), gradients(make(system=Shifted(torch.zeros(6))))
    a = torch.cat([exact[name].flatten() for name in exact])
    b = torch.cat([found[name].flatten() for name in exact])
    # The twin is the device: the direction is that of the gradient, which comes back times P.
    assert torch.cosine_similarity(a, b, dim=0) > 0.999
    assert float(b.norm() / a.norm()) == pytest.approx(len(a), rel=0.01)


def test_dual_adaptive_training_that_learns_nothing_is_physics_aware():
    noisy = {"noise": 0.05, "seed": 3}
    a = trained(make(system=Toy(**noisy)))
    b = trained(make(partial(DualAdaptive, learning_rate=0.0), system=Toy(**noisy)))
    assert same(a, b)


def test_the_error_model_learns_a_constant():
    shift = torch.tensor([0.3, -0.2, 0.1, 0.0, 0.4, -0.1])
    training = make(
        partial(DualAdaptive, learning_rate=0.01), system=Shifted(shift), layers=1, epochs=150
    )
    trained(training)
    (error,) = training.method._errors
    theta = physical_layers(training.network)[0].theta
    missing = error(training.validation.x, theta).detach()
    torch.testing.assert_close(missing, shift.expand_as(missing), atol=0.03, rtol=0)


class Nominal(PhysicalSystem):
    """A circuit that is exactly its equations, with constants that differ from those on paper."""

    def __init__(self, twin):
        super().__init__(twin.input_dim, twin.param_dim, twin.output_dim)
        self.twin = twin

    def _measure(self, x, theta):
        with torch.no_grad():
            return self.twin(x, theta)


def test_online_refit_finds_the_constants_of_a_device_without_noise():
    _, twins = board()
    nominal = twins[0].constants
    true = nominal.__class__(**{**vars(nominal), "r": 1.03 * nominal.r, "g": 0.96 * nominal.g})
    systems = [Nominal(twin.with_constants(true)) for twin in twins]
    network = deep_pnn(systems, twins, classes=3)
    x = torch.rand(200, 16)
    task = Task.from_arrays(x, (3 * x[:, 0]).long())
    settings = FitSettings(epochs=4, batch_size=32, evaluations=1)
    training = Training(network, task, settings, method=partial(OnlineRefit, every=4))
    trained(training)
    for layer in physical_layers(network):
        assert layer.twin.constants.r == pytest.approx(true.r, rel=1e-3)
        assert layer.twin.constants.g == pytest.approx(true.g, rel=1e-3)


def test_online_refit_needs_equations():
    network = deep_pnn(Toy(), ToyTwin(), classes=3)
    with pytest.raises(TwinError, match="PhysicsTwin"):
        Training(network, make_task(), method=OnlineRefit)


def noisy_twin(deviation):
    _, (twin, _) = board()
    level = -torch.inf if deviation == 0 else torch.tensor(deviation).log()
    twin.noise.copy_(torch.tensor([0.0, 1.0, level, 0.0, 0.0]))
    return twin


def test_without_noise_a_noise_aware_step_is_in_silico():
    twin = noisy_twin(0.0)
    x, theta = torch.rand(5, 16), torch.rand(128)
    assert torch.equal(noise_aware(None, twin)(x, theta), in_silico(None, twin)(x, theta))


def test_samples_have_the_fitted_deviation():
    twin = noisy_twin(0.01)
    x, theta = torch.rand(1, 16), torch.rand(128)
    samples = torch.stack([noise_aware(None, twin)(x, theta) for _ in range(2000)])
    assert float(samples.std(0).mean()) == pytest.approx(0.01, rel=0.03)
    torch.testing.assert_close(samples.mean(0), twin(x, theta), atol=0.002, rtol=0)


@pytest.mark.parametrize("times", [0.0, 0.5, 3.0])
def test_noise_can_be_some_times_that_of_the_twin(times):
    twin = noisy_twin(0.01)
    x, theta = torch.rand(1, 16), torch.rand(128)
    mean, torch_state = twin(x, theta), torch.get_rng_state()
    sample = noise_aware(None, twin)(x, theta)
    torch.set_rng_state(torch_state)
    torch.testing.assert_close(
        NoiseAware(times)(None, twin)(x, theta), mean + times * (sample - mean)
    )


def test_noise_follows_the_samples_that_a_read_out_averages():
    twin = noisy_twin(0.01)
    device = Circuit(0, input_dim=16, replays=4, output_dim=16)
    coarse = twin.reprogrammed(device.reprogrammed(replays=4, output_dim=4), replays=4)
    assert float(coarse.deviation(torch.tensor(0.0))) == pytest.approx(0.005)


def test_a_twin_without_noise_is_refused():
    _, (twin, _) = board()
    with pytest.raises(TwinError, match="at least twice"):
        noise_aware(None, twin)(torch.rand(1, 16), torch.rand(128))


def test_constants_drawn_with_no_width_are_in_silico():
    _, (twin, _) = board()
    x, theta = torch.rand(5, 16), torch.rand(128)
    assert torch.equal(Randomised(0.0)(None, twin)(x, theta), twin(x, theta))
    assert not torch.equal(Randomised(0.05)(None, twin)(x, theta), twin(x, theta))


def test_constants_are_drawn_once_a_step_for_all_layers_of_a_device(monkeypatch):
    """What leaves the factory is one board: its layers have the same constants."""
    systems, twins = board()
    other = twins[0].with_constants(replace(twins[0].constants, v_t=0.31))
    drawn = []
    monkeypatch.setattr(
        PhysicsTwin,
        "with_constants",
        lambda twin, constants: drawn.append(constants) or twin,
    )
    network = deep_pnn([*systems, systems[0]], [*twins, other], Randomised(0.1), classes=3)
    x = torch.rand(40, 16)
    task = Task.from_arrays(x, torch.arange(40) % 3)
    calibrate(network, x)
    drawn.clear()
    steps = len(list(Training(network, task, FitSettings(batch_size=8)).records()))
    assert len(drawn) == 3 * steps
    assert drawn[::3] == drawn[1::3]
    assert len({str(one) for one in drawn[::3] + drawn[2::3]}) == 2 * steps


METHODS = [
    Backpropagation,
    SharpnessAware,
    Asymmetrical,
    DirectFeedback,
    DualAdaptive,
    partial(Perturbation, random=0.5),
    partial(Perturbation, directions=8),
    partial(Perturbation, directions=8, central=False),
    partial(FineTuned, first=in_silico, last=0.5),
    partial(FineTuned, first=physics_aware, last=0.2, method=DualAdaptive),
    partial(OnlineRefit, every=4, batches=3),
    LocalLearning,
]


@pytest.mark.parametrize("method", METHODS, ids=lambda m: getattr(m, "func", m).__name__)
def test_every_method_goes_on_where_it_stopped(method):
    whole, first = make(method), make(method)
    expected = trained(whole)
    records = first.records()
    for _ in range(3):
        next(records)
    kept = io.BytesIO()
    torch.save(first.state(), kept)
    kept.seek(0)
    again = make(method)
    again.restore(torch.load(kept, weights_only=True))  # as a checkpoint is read
    assert same(trained(again), expected)
    assert again.device_passes == whole.device_passes


@pytest.mark.parametrize("method", METHODS, ids=lambda m: getattr(m, "func", m).__name__)
def test_every_method_lowers_the_loss_of_a_small_task(method):
    training = make(method, epochs=60)
    losses = [record.loss for record in training.records()]
    assert sum(losses[-8:]) < 0.95 * sum(losses[:8])


def test_a_run_of_another_method_is_another_run():
    ones, zeros = [torch.ones(6, 3)], [torch.zeros(6, 3)]
    methods = [
        SharpnessAware,
        partial(SharpnessAware, radius=0.1),
        DirectFeedback,
        partial(DirectFeedback, projections=ones),
        partial(DirectFeedback, projections=zeros),
        partial(FineTuned, first=in_silico),
        partial(FineTuned, first=noise_aware),
        partial(FineTuned, first=Randomised(0.1)),
        partial(FineTuned, first=NoiseAware(2.0)),
        partial(FineTuned, first=Randomised(0.2)),
        partial(FineTuned, first=in_silico, method=SharpnessAware),
        partial(FineTuned, first=in_silico, method=partial(SharpnessAware, radius=0.1)),
        partial(FineTuned, first=in_silico, method=partial(SharpnessAware, radius=0.2)),
        DualAdaptive,
        partial(DualAdaptive, seed=1),
    ]
    described = [identity(make(method))["method"] for method in methods]
    assert all(a != b for n, a in enumerate(described) for b in described[:n])
    assert described == [identity(make(method))["method"] for method in methods]
    networks = [deep_pnn(*board(), Randomised(tolerance)) for tolerance in (0.1, 0.2)]
    first, second = (identity(Training(one, make_task(features=16))) for one in networks)
    assert first["rules"] != second["rules"]


def test_a_run_is_not_resumed_with_other_projections(tmp_path):
    def trained_with(value):
        return make(partial(DirectFeedback, projections=[torch.full((6, 3), value)]))

    for _ in Run.open(tmp_path, trained_with(1.0)).records():
        pass
    with pytest.raises(RunError, match="projections"):
        Run.open(tmp_path, trained_with(2.0))
    Run.open(tmp_path, trained_with(1.0))


def test_a_noise_aware_training_is_the_same_whatever_was_drawn_before():
    def losses():
        systems, twins = board()
        for twin in twins:
            twin.noise.copy_(torch.tensor([0.0, 1.0, -3.0, 0.0, 0.0]))
        network = deep_pnn(systems, twins, noise_aware, classes=3)
        x = torch.linspace(0, 1, 640).view(40, 16)
        task = Task.from_arrays(x, torch.arange(40) % 3)
        calibrate(network, task.train.x)
        return [one.loss for one in Training(network, task, FitSettings(batch_size=8)).records()]

    first = losses()
    torch.rand(7)
    assert losses() == first


def test_local_learning_passes_no_gradient_from_a_layer_to_another():
    network = local_network()
    x = make_task().train.x
    network.goodness(network.labelled(x, torch.zeros(len(x), dtype=torch.int64)))[
        :, 1
    ].sum().backward()
    first, second = network.mixers
    assert not first.weight.grad.any()
    assert second.weight.grad.abs().sum() > 0
    assert all(layer.theta.grad is None for layer in physical_layers(network))


def test_local_learning_has_the_slopes_of_its_loss():
    """Against differences, with the same other labels."""
    training = make(LocalLearning)
    rows = training.batch()
    x, targets = training.train.x[rows], training.train.targets[rows]

    def loss():
        torch.manual_seed(0)
        return training.method.update(x, targets)[0]

    loss()
    # The last layer: what comes before it is not to follow from its loss.
    weight = training.network.mixers[-1].weight
    slopes = weight.grad.clone()
    for place in ((0, 0), (2, 1), (5, 4)):
        ends = []
        for move in (5e-3, -5e-3):
            with torch.no_grad():
                weight[place] += move
            ends.append(loss().item())
            with torch.no_grad():
                weight[place] -= move
        assert (ends[0] - ends[1]) / 1e-2 == pytest.approx(float(slopes[place]), rel=0.03, abs=1e-4)


def test_local_learning_lowers_its_loss_and_an_answer_costs_classes_times_layers():
    task, network = make_task(), local_network()
    settings = FitSettings(epochs=60, batch_size=16, evaluations=1)
    training = Training(network, task, settings, method=LocalLearning)
    losses = [record.loss for record in training.records()]
    assert sum(losses[-8:]) < 0.9 * sum(losses[:8])
    before = training.device_passes
    with torch.no_grad():
        assert network.eval()(task.train.x[:5]).shape == (5, 3)
    assert training.device_passes - before == 5 * 3 * 2


def test_local_learning_trains_a_local_network_alone():
    network = deep_pnn(Toy(), ToyTwin(), classes=3)
    with pytest.raises(ShapeError, match="LocalNetwork"):
        next(Training(network, make_task(), method=LocalLearning).records())
