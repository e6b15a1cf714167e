import copy
import itertools
import math
from contextlib import suppress
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional
from toy import Toy, ToyTwin

from pnnlab.errors import InstrumentError, RangeError, RunError, ShapeError, TrainingError
from pnnlab.gradients import ideal, in_silico, physics_aware
from pnnlab.layers import PhysicalLayer, Rescale, calibrate, deep_pnn, physical_layers
from pnnlab.physical_system import device
from pnnlab.systems import Circuit
from pnnlab.tasks import Split
from pnnlab.training import (
    CLASSIFICATION,
    REGRESSION,
    FitSettings,
    Labels,
    Objective,
    Training,
    accuracy,
    evaluate,
)
from pnnlab.training.evaluation import at_limits, stuck
from pnnlab.twins import CircuitEquations, PhysicsTwin


def make_split(n=300, seed=0):
    x = torch.rand(n, 6, generator=torch.Generator().manual_seed(seed))
    return Split(x, (x[:, :3].sum(1) > x[:, 3:].sum(1)).long())


def make_task():
    return SimpleNamespace(train=make_split(), validation=make_split(100, seed=1))


def make_network(rule=physics_aware):
    network = nn.Sequential(
        PhysicalLayer(Toy(), ToyTwin() if rule is not ideal else None, rule),
        PhysicalLayer(
            Toy(6, 2, seed=1),
            ToyTwin(6, 2) if rule is not ideal else None,
            rule,
            encoding=Rescale(6),
        ),
        Rescale(2, gain=1.0, offset=0.0),
    )
    calibrate(network, make_split(50).x)
    return network


def make_training(rule=physics_aware, **settings):
    chosen = {"epochs": 6, "batch_size": 32, "learning_rate": 0.03, "evaluations": 3, **settings}
    return Training(make_network(rule), make_task(), FitSettings(**chosen))


@pytest.mark.parametrize("rule", [physics_aware, in_silico, ideal])
def test_every_rule_learns(rule):
    training = make_training(rule, epochs=15)
    last = list(training.records())[-1]
    best = last.twin_metric if rule is in_silico else last.device_metric
    assert best > 0.9


def test_a_digital_network_is_trained_by_the_same_loop():
    network = nn.Linear(6, 2)
    training = Training(network, make_task(), FitSettings(epochs=20, learning_rate=0.1))
    last = list(training.records())[-1]
    assert last.device_metric > 0.9
    assert last.twin_metric is None
    assert last.gap is None
    assert last.device_passes == 0
    assert last.clamped == ()


def test_records_count_steps_passes_and_evaluations():
    training = make_training()
    records = list(training.records())
    assert [record.step for record in records] == list(range(1, 55))
    assert {record.steps for record in records} == {54}
    evaluated = [record for record in records if record.device_metric is not None]
    assert [record.step for record in evaluated] == [18, 36, 54]
    assert all(len(record.gap) == 2 and min(record.gap) > 0 for record in evaluated)
    assert records[0].device_passes == 2 * 32
    assert records[-1].device_passes == 2 * (6 * 288 + 3 * 100)
    assert records[-1].seconds_left == 0
    assert records[-1].epoch == 6
    assert all(a.seconds < b.seconds for a, b in itertools.pairwise(records))


def test_in_silico_training_costs_device_passes_only_for_evaluation():
    last = list(make_training(in_silico).records())[-1]
    assert last.device_passes == 2 * 3 * 100


def test_every_epoch_sees_an_example_once_at_most_in_a_new_order():
    training = make_training()
    orders = []
    for _ in range(2):
        batches = []
        for _ in range(9):
            batches.append(training.batch())
            training.step += 1
        orders.append(torch.cat(batches))
    assert [len(set(order.tolist())) for order in orders] == [288, 288]
    assert not torch.equal(orders[0], orders[1])
    again = make_training()
    for again.step in (17, 3, 10):  # a resumed training begins anywhere
        order = orders[again.step // 9].split(32)
        assert torch.equal(again.batch(), order[again.step % 9])


def test_the_order_of_an_epoch_is_drawn_once(monkeypatch):
    drawn, training = [], make_training()
    monkeypatch.setattr(torch, "randperm", lambda n, **_: drawn.append(n) or torch.arange(n))
    for training.step in range(18):
        training.batch()
    assert drawn == [300, 300]


def test_the_rate_rises_then_falls_to_nothing():
    settings = FitSettings(learning_rate=0.1, warmup=0.1)
    rates = [settings.rate(step, 100) for step in range(100)]
    assert rates[0] < rates[5] < rates[9]
    assert max(rates) <= 0.1
    assert rates[-1] < 1e-4
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))


def test_the_rate_can_be_scaled_and_the_scale_is_put_away_and_back():
    training, settings = make_training(), make_training().settings
    first = training.advance()
    assert first.learning_rate == settings.rate(0, 54)
    training.scale_rate(0.5)
    training.scale_rate(0.5)
    assert training.advance().learning_rate == 0.25 * settings.rate(1, 54)
    assert [step for step, _ in training.notes] == [1, 1]
    assert "0.25 times that of the settings from step 2 on" in training.notes[1][1]

    again = make_training()
    again.restore(copy.deepcopy(training.state()))
    assert again.advance().learning_rate == 0.25 * settings.rate(2, 54)


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf"), 1e-308])
def test_a_rate_that_is_no_rate_is_refused(factor):
    training = make_training()
    training.scale_rate(1e-100)
    with pytest.raises(RangeError, match="give a finite number above 0"):
        training.scale_rate(factor)
    assert training.rate_scale == 1e-100


@pytest.mark.parametrize("at", [1, 20, 37])
def test_restored_in_mid_run_it_ends_bit_equal(at):
    whole = make_training()
    expected = list(whole.records())
    first = make_training()
    steps = first.records()
    for _ in range(at):
        next(steps)
    saved = copy.deepcopy(first.state())
    second = make_training()
    torch.rand(7)  # the restored run brings its own random numbers
    second.restore(saved)
    records = list(second.records())
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, second.network.state_dict()[name]), name
    assert [r.loss for r in records] == [r.loss for r in expected[at:]]
    assert [r.device_metric for r in records] == [r.device_metric for r in expected[at:]]
    assert records[-1].device_passes == expected[-1].device_passes


def test_a_training_on_one_board_goes_on_bit_equal_from_a_file(tmp_path):
    """Three programmes of one noisy, drifting circuit, through a checkpoint without code."""

    def make():
        board = Circuit(0, input_dim=6, replays=2, output_dim=6)
        systems = [board, board.reprogrammed(replays=4, output_dim=2)]
        twins = [PhysicsTwin(s, CircuitEquations(replays=s.replays)) for s in systems]
        settings = FitSettings(epochs=3, batch_size=32, evaluations=3)
        network = deep_pnn(systems, twins, physics_aware)
        calibrate(network, make_split(50).x)
        return Training(network, make_task(), settings)

    whole, first, second = make(), make(), make()
    expected = list(whole.records())
    for _ in range(11):
        first.advance()
    torch.save(first.state(), tmp_path / "state.pt")
    second.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    records = list(second.records())
    assert [r.loss for r in records] == [r.loss for r in expected[11:]]
    assert records[-1].device_metric == expected[-1].device_metric
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, second.network.state_dict()[name]), name
    assert second.systems[0].state() == whole.systems[0].state()


def test_foreign_states_are_refused():
    saved = make_training().state()
    with pytest.raises(RunError, match="run of 54 steps"):
        make_training(epochs=7).restore(saved)
    other = Training(nn.Linear(6, 2), make_task(), FitSettings(epochs=6, batch_size=32))
    with pytest.raises(RunError, match="systems"):
        other.restore(saved)
    saved = make_training().state()
    saved["network"] = nn.Linear(2, 2).state_dict()
    with pytest.raises(RunError, match="another network"):
        make_training().restore(saved)


def test_a_loss_that_is_no_number_stops_before_the_weights_are_spoilt():
    training = make_training()
    next(training.records())
    training.network[2].gain.data.fill_(float("inf"))
    before = copy.deepcopy(dict(training.network.named_parameters()))
    with pytest.raises(TrainingError, match="Lower the learning rate"):
        training.advance()
    assert training.step == 1
    for name, value in training.network.named_parameters():
        assert torch.equal(value, before[name]), name


def test_a_slope_that_is_no_number_stops_before_the_weights_are_spoilt():
    """The loss is the device's; the twin divides by zero at a black pixel."""

    class Root(nn.Module):
        def forward(self, x, theta):
            return (x * theta).sqrt()

    system = device(lambda x, theta: (x * theta).sqrt(), inputs=6, parameters=6, outputs=6)
    network = deep_pnn(system, Root(), classes=2)
    task = make_task()
    task.train.x[task.train.x < 0.1] = 0.0
    training = Training(network, task, FitSettings(epochs=1))
    before = copy.deepcopy(network.state_dict())
    with pytest.raises(TrainingError, match="gradient of step 1 is not finite"):
        next(training.records())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_accuracy_is_that_of_the_network_as_it_stands():
    split = make_split()
    network = nn.Linear(6, 2)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[-1.0] * 3 + [1.0] * 3, [1.0] * 3 + [-1.0] * 3]))
        network.bias.zero_()
    assert accuracy(network, split) == 1.0
    assert network.training


def test_the_gap_is_that_of_the_known_error():
    """Toy and twin differ by a gain of 1.1 inside the tanh, and by nothing else."""
    layer = PhysicalLayer(
        Toy(noise=0.0, drift=0.0), ToyTwin(), physics_aware, theta=torch.full((36,), 0.52)
    )
    x = torch.rand(200, 6, generator=torch.Generator().manual_seed(0))
    found = evaluate(nn.Sequential(layer), Split(x, torch.zeros(200).long()))
    y = layer.system(x, layer.theta.detach()).double()
    modelled = torch.tanh(torch.atanh(y) / 1.1)
    expected = (y - modelled).square().sum() / (y - y.mean(0)).square().sum()
    assert found.gap[0] == pytest.approx(float(expected), rel=1e-3)


def test_the_gap_does_not_depend_on_the_order_of_the_examples():
    layer = PhysicalLayer(Toy(noise=0.0, drift=0.0), ToyTwin(), physics_aware)
    x = torch.rand(1200, 6, generator=torch.Generator().manual_seed(0))
    by_size = x[x.sum(1).argsort()]
    gaps = [
        evaluate(nn.Sequential(layer), Split(one, torch.zeros(1200).long())).gap
        for one in (x, by_size)
    ]
    assert gaps[0] == pytest.approx(gaps[1], rel=1e-4)


def test_parameters_at_their_limits_are_counted():
    assert at_limits(torch.tensor([0.0, -0.1, 0.5, 1.0, 0.99])) == 3 / 5
    assert at_limits(torch.zeros(0)) == 0.0


def test_readouts_that_stick_are_counted_and_extremes_as_such_are_not():
    rising = torch.linspace(0, 1, 102)[:, None]
    assert stuck(rising) == 0.0
    clipped = rising.clamp(0.25, 0.75)
    outside = int(((rising <= 0.25) | (rising >= 0.75)).sum())
    assert stuck(clipped) == (outside - 2) / 100
    dead = torch.full((102, 1), 0.3)
    assert stuck(dead) == 1.0
    assert stuck(torch.cat([rising, dead], 1)) == 0.5
    assert math.isnan(stuck(rising[:2]))


def test_an_evaluation_tells_limits_and_saturation_of_each_layer():
    network = make_network()
    network[0].theta.data[:9] = 1.5
    training = Training(network, make_task(), FitSettings(evaluations=1))
    record = list(training.records())[-1]
    first, second = physical_layers(network)
    assert record.theta_at_limits == (at_limits(first.theta), at_limits(second.theta))
    assert record.theta_at_limits[0] > 0
    assert len(record.stuck) == 2
    assert max(record.stuck) < 0.1  # tanh of small weights is far from its ends
    steep = nn.Sequential(
        PhysicalLayer(Toy(6, 1, noise=0.0), None, ideal, theta=torch.ones(6)), nn.Linear(1, 2)
    )
    assert evaluate(steep, make_split()).stuck[0] < 0.5
    steep[0].system = Clipping()
    assert evaluate(steep, make_split()).stuck[0] > 0.9
    assert evaluate(steep, make_split()).gap is None
    assert evaluate(nn.Linear(6, 2), make_split()).stuck is None


class Clipping(Toy):
    """A toy whose read-out does not fit into its converter."""

    def __init__(self):
        super().__init__(6, 1)

    def _simulate(self, x, theta):
        return super()._simulate(x, theta).clamp(0.0, 0.1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs"),
        ({"batch_size": 0}, "batch_size"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"penalty": -1.0}, "penalty"),
        ({"warmup": 2.0}, "warmup"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(RangeError, match=message):
        FitSettings(**settings)


def test_empty_splits_are_refused():
    empty = Split(torch.zeros(0, 6), torch.zeros(0).long())
    with pytest.raises(ShapeError, match="at least one"):
        Training(nn.Linear(6, 2), SimpleNamespace(train=empty, validation=make_split()))


def values_task():
    def split(n, seed):
        x = torch.rand(n, 6, generator=torch.Generator().manual_seed(seed))
        return Split(x, torch.stack([x[:, :3].sum(1), x[:, 3:].sum(1) - x[:, 0]], 1))

    return SimpleNamespace(train=split(300, 0), validation=split(100, 1))


def value_network():
    layer = PhysicalLayer(Toy(noise=0.0, drift=0.0), ToyTwin(), physics_aware)
    torch.manual_seed(0)
    return nn.Sequential(layer, nn.Linear(6, 2))


def test_floating_targets_are_a_regression():
    training = Training(value_network(), values_task(), FitSettings(epochs=40, learning_rate=0.03))
    *_, last = training.records()
    assert training.objective is REGRESSION
    found = evaluate(training.network, values_task().validation)
    with pytest.raises(ShapeError, match="not right or wrong"):
        accuracy(training.network, values_task().validation)
    assert last.device_metric == pytest.approx(found.device_metric, abs=1e-4)
    assert found.device_metric > 0.8
    assert found.device_loss < 0.05


def test_a_loss_a_metric_and_an_optimizer_of_ones_own_are_used():
    labels = Labels(loss="mean absolute error", metric="negative error", percent=False)
    own = Objective(
        name="absolute",
        loss=functional.l1_loss,
        metric=lambda outputs, targets: -(outputs - targets).abs().mean(),
        labels=labels,
    )
    training = Training(
        value_network(),
        values_task(),
        FitSettings(epochs=1, batch_size=300, penalty=0.0, evaluations=1),
        objective=own,
        optimizer=partial(torch.optim.SGD, momentum=0.9),
    )
    before = copy.deepcopy(training.network)
    (record,) = training.records()
    x, targets = training.train.x, training.train.targets
    assert record.loss == pytest.approx(functional.l1_loss(before(x), targets).item(), rel=1e-5)
    assert record.batch_metric == pytest.approx(-record.loss)
    assert isinstance(training.optimizer, torch.optim.SGD)
    # The first step of SGD, momentum or not, is the gradient times the rate.
    functional.l1_loss(before(x), targets).backward()
    moved = before[1].bias - record.learning_rate * before[1].bias.grad
    assert torch.allclose(training.network[1].bias, moved, atol=1e-7)


def test_the_scores_are_what_they_are_called():
    outputs = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 0.0], [0.0, 1.0]])
    assert float(CLASSIFICATION.metric(outputs, torch.tensor([0, 1, 1, 1]))) == 0.75
    y = torch.arange(4.0)[:, None]
    assert float(REGRESSION.metric(y, y)) == 1.0
    assert float(REGRESSION.metric(y.mean().expand(4, 1), y)) == 0.0
    assert float(REGRESSION.metric(y + 1, y)) == pytest.approx(1 - 4 / 5)
    assert CLASSIFICATION.labels.text(0.956) == "95.6 %"
    assert REGRESSION.labels.text(0.956) == "0.956"
    assert REGRESSION.labels.text(None) == "–"


def test_a_step_that_fails_is_undone():
    class Failing(Toy):
        fails_at = 400

        def _simulate(self, x, theta):
            if self.shots > self.fails_at:
                raise InstrumentError("no answer")
            return super()._simulate(x, theta)

    def make(system):
        layers = [
            PhysicalLayer(system, ToyTwin(), physics_aware, encoding=Rescale(6), seed=n)
            for n in range(2)
        ]
        torch.manual_seed(0)
        return Training(nn.Sequential(*layers, nn.Linear(6, 2)), make_task(), FitSettings(epochs=2))

    whole = make(Toy())
    expected = [record.loss for record in whole.records()]
    system = Failing()
    training = make(system)
    with pytest.raises(InstrumentError):
        for _ in training.records():
            pass
    assert training.latest.step == training.step > 0
    system.fails_at = math.inf
    rest = [record.loss for record in training.records()]
    assert rest == expected[-len(rest) :]


class Times(nn.Module):
    def forward(self, x, theta):
        return x * theta


def test_shots_of_a_real_device_stay_taken_when_their_step_is_undone():
    calls = []

    def measure(x, theta):
        calls.append(len(x))
        if len(calls) % 5 == 0:
            raise InstrumentError("no answer")
        return x * theta

    system = device(measure, inputs=6, parameters=6, outputs=6)
    network = deep_pnn(system, Times(), physics_aware, layers=2, classes=2)
    training = Training(network, make_task(), FitSettings(epochs=1, evaluations=1))
    before = system.passes
    while training.step < 4:
        with suppress(InstrumentError):
            next(training.records())
    assert training.latest.device_passes == system.passes - before
