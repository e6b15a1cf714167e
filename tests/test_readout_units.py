"""The unit of a read-out does not matter, and what does not move is told, never divided by.

A unit that is a power of two changes no mantissa, so that nothing may differ by one bit.
"""

import copy
import math
import warnings
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from toy import InUnit, Toy, ToyTwin, TwinInUnit, toy_response

from pnnlab import characterize, twins
from pnnlab.errors import DataError, ShapeError, TwinError
from pnnlab.gradients import ideal, in_silico, physics_aware
from pnnlab.layers import PhysicalLayer, Rescale, calibrate, physical_layers
from pnnlab.physical_system import still
from pnnlab.runs.run import identity
from pnnlab.tasks import Split
from pnnlab.training import FitSettings, Training, evaluate, infer, take_references
from pnnlab.twins import (
    Mlp,
    NeuralSettings,
    NeuralTwin,
    PhysicsTwin,
    fit_neural,
    fit_physics,
    fitting_neural,
)
from pnnlab.twins.physics import Equations

POWERS = (2.0**-40, 2.0**-10, 2.0**30)
QUIET = {"noise": 0.0, "drift": 0.0}


def make_split(n=300, seed=0):
    x = torch.rand(n, 6, generator=torch.Generator().manual_seed(seed))
    return Split(x, (x[:, :3].sum(1) > x[:, 3:].sum(1)).long())


def make_training(unit=1.0, offset=0.0, rule=physics_aware, *, calibrated=True, **settings):
    here = {"unit": unit, "offset": offset}
    layers = [
        PhysicalLayer(
            InUnit(seed=seed, **here),
            None if rule is ideal else TwinInUnit(**here),
            rule,
            encoding=Rescale(6) if seed else None,
            seed=seed,
        )
        for seed in range(2)
    ]
    torch.manual_seed(0)
    logits = Rescale(6, gain=1.0, offset=0.0, elementwise=True)
    network = nn.Sequential(*layers, logits, nn.Linear(6, 2))
    if calibrated:
        calibrate(network, make_split(50).x)
    chosen = {"epochs": 3, "batch_size": 30, "learning_rate": 0.03, "evaluations": 2, **settings}
    task = SimpleNamespace(train=make_split(), validation=make_split(100, seed=1))
    return Training(network, task, FitSettings(**chosen))


def told(record):
    """What a record says but for times."""
    kept = vars(record).items()
    return {name: value for name, value in kept if "second" not in name}


@pytest.mark.parametrize("calibrated", [True, False])
@pytest.mark.parametrize("rule", [physics_aware, in_silico, ideal])
@pytest.mark.parametrize("unit", POWERS)
def test_a_training_is_the_same_bit_for_bit_in_every_unit(unit, rule, calibrated):
    ours = make_training(rule=rule, calibrated=calibrated)
    theirs = make_training(unit, rule=rule, calibrated=calibrated)
    for a, b in zip(ours.records(), theirs.records(), strict=True):
        assert told(a) == told(b)
    for (name, a), b in zip(
        ours.network.named_parameters(), theirs.network.parameters(), strict=True
    ):
        assert torch.equal(a, b), name


@pytest.mark.parametrize(
    ("unit", "offset"),
    [
        (1e-3, 0.0),
        (1e-9, 0.0),
        (1e-30, 0.0),
        (1e6, 0.0),
        (1e27, 0.0),
        (1.0, 100.0),
        (1e-9, -3e-8),
        (1e-9, torch.tensor([0, 0, 1e-8, 0, 0, 50e-9])),
    ],
)
def test_a_training_ends_alike_in_other_units_and_with_an_offset(unit, offset):
    ours, theirs = make_training(), make_training(unit, offset)
    for a, b in zip(ours.records(), theirs.records(), strict=True):
        assert b.loss == pytest.approx(a.loss, abs=0.01)
        assert a.gap is None or all(math.isfinite(gap) for gap in b.gap)
    assert b.device_metric == pytest.approx(a.device_metric, abs=0.05)
    for a, b in zip(ours.network.parameters(), theirs.network.parameters(), strict=True):
        assert torch.allclose(a, b, atol=0.02)


def test_averages_that_were_never_measured_are_forgotten():
    """Else the 0 and 1 that they begin with would outweigh nanovolts for hundreds of batches."""
    rescale, h = Rescale(3), 1e-9 * torch.randn(500, 3) + 5e-9
    rescale(h)
    standard = (rescale.eval()(h) - 0.5) / 0.25
    assert standard.mean(0).abs().max() < 0.01
    spread = h.std(0) / (h.var(0) + h.var(0).mean()).sqrt()
    assert (standard.std(0) / spread - 1).abs().max() < 0.01


def test_weights_of_before_the_unit_was_kept_act_as_they_did():
    h = torch.randn(50, 4) * torch.tensor([1.0, 0.1, 0.01, 0.001])
    old = nn.BatchNorm1d(4, affine=False)
    for _ in range(300):
        old(h)
    state = {f"statistics.{name}": value for name, value in old.state_dict().items()}
    state |= {"gain": torch.tensor([0.3]), "offset": torch.tensor([0.1])}
    rescale = Rescale(4)
    rescale.load_state_dict(state)
    assert "unit" not in state
    assert torch.equal(rescale(h), torch.addcmul(rescale.offset, old(h), rescale.gain))
    old.eval()
    assert torch.equal(rescale.eval()(h), torch.addcmul(rescale.offset, old(h), rescale.gain))
    before = rescale(h)
    calibrate(rescale, h)
    assert torch.allclose(rescale(h), before, atol=1e-4)
    calibrate(rescale, 5 * h + 7)
    assert torch.allclose(rescale(5 * h + 7), before, atol=1e-3)


def test_a_run_of_before_the_unit_was_kept_is_the_same_run():
    described = identity(make_training())
    assert "1.encoding.statistics.running_var" in described["tensors"]
    assert not any("unit" in name for name in described["tensors"])


def test_training_goes_on_bit_equal_from_a_state_in_nanovolts():
    whole, first, second = (make_training(1e-9) for _ in range(3))
    expected = list(whole.records())
    for _ in range(11):
        first.advance()
    second.restore(copy.deepcopy(first.state()))
    assert [r.loss for r in second.records()] == [r.loss for r in expected[11:]]


def test_as_many_features_as_were_announced_are_taken():
    with pytest.raises(ShapeError, match=r"takes \(batch, 6\)"):
        Rescale(6)(torch.rand(4, 1))


# What does not move.


class Dead(InUnit):
    """A toy of whose outputs some say the same whatever they are asked."""

    def __init__(self, *outputs, value=0.4, **options):
        super().__init__(unit=1.0, **options)
        self.outputs, self.value = list(outputs), value

    def _simulate(self, x, theta):
        y = super()._simulate(x, theta)
        y[:, self.outputs] = self.value
        return y


def dead_network(device):
    layers = [
        PhysicalLayer(device, ToyTwin(), physics_aware),
        PhysicalLayer(Toy(6, 2), ToyTwin(6, 2), physics_aware, encoding=Rescale(6)),
    ]
    return nn.Sequential(*layers, Rescale(2, gain=1.0, offset=0.0))


def test_what_rounding_moves_does_not_move():
    y = torch.full((64, 4), 0.4)
    y[::2, 1] += 5e-8  # the next number
    y[::2, 2] += 1e-4
    y[3, 3] = math.nan
    assert still(y).tolist() == [True, True, False, False]
    assert still(torch.zeros(3, 1)).tolist() == [True]
    assert still(1e-30 * torch.rand(9, 1)).tolist() == [False]
    assert still(torch.tensor([[1e4], [1e4 + 0.01]])).tolist() == [False]


def test_outputs_that_do_not_move_are_named_once_and_training_goes_on():
    device = Dead(1, 4)
    network = dead_network(device)
    with pytest.warns(RuntimeWarning, match=r"dead: .* whole batch of inputs: 1, 4\.") as seen:
        calibrate(network, make_split(50).x)
    assert len(seen) == 1
    task = SimpleNamespace(train=make_split(), validation=make_split(100, seed=1))
    training = Training(network, task, FitSettings(epochs=8, learning_rate=0.03, evaluations=2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing new
        records = list(training.records())
    assert records[-1].device_metric > 0.8
    assert records[-1].stuck[0] >= 2 / 6
    ((step, note),) = training.notes
    assert step == 1
    assert note.startswith("layer 1, dead: ")
    assert "1, 4." in note
    device.outputs = [1, 2, 4]
    with pytest.warns(RuntimeWarning, match="inputs: 2"):
        network.train()(make_split(20).x)
    assert network[0].still == {1, 2, 4}


@pytest.mark.parametrize("value", [0.4, 0.0, 1e6, 3e-9])
def test_the_standardised_value_of_what_does_not_move_is_zero(value):
    rescale, h = Rescale(6), torch.rand(50, 6)
    h[:, 2] = value
    h[::3, 2] *= 1 + 1e-7
    assert torch.equal(rescale(h)[:, 2], torch.full((50,), 0.5))
    assert torch.equal(rescale.eval()(h + 1e-4)[:, 2], torch.full((50,), 0.5))
    h.requires_grad_()
    rescale.train()(h).square().sum().backward()
    assert torch.equal(h.grad[:, 2], torch.zeros(50))
    assert h.grad.isfinite().all()


def test_what_moves_later_is_standardised_from_then_on():
    rescale, h = Rescale(2), 1e-9 * torch.randn(400, 2)
    first = h.clone()
    first[:, 1] = 7e-9
    for _ in range(30):
        rescale(first)
    rescale(h)
    standard = (rescale.eval()(h) - 0.5) / 0.25
    assert (standard.std(0) - 0.5**0.5).abs().max() < 0.1  # of two that move alike
    assert standard.mean(0).abs().max() < 0.1
    for _ in range(30):
        assert rescale.train()(first).isfinite().all()  # and it may stop again


def test_nan_is_not_taken_for_rest():
    h = torch.rand(8, 3)
    rescale = Rescale(3)
    rescale(h)
    h[2, 1] = math.nan
    assert rescale(h)[:, 1].isnan().all()


def test_devices_that_are_only_looked_at_are_not_reported():
    network = dead_network(Dead(0))
    network.eval()
    network(make_split(20).x)
    network.train()
    network[0](make_split(1).x)  # one row says nothing
    assert network[0].still == frozenset()


# Twins.


def in_unit(data, unit, offset=0.0):
    return data.assign(y=(data["y"] * unit + offset).astype("float32"))


@pytest.fixture(scope="module")
def data():
    return characterize.collect(Toy(noise=0.02, drift=0.0), 200, seed=0)


def fitted(data, **settings):
    twin = NeuralTwin(Toy(), Mlp((16,)))
    records = list(fitting_neural(twin, data, NeuralSettings(epochs=4, **settings)))
    return twin, records


@pytest.mark.parametrize("unit", POWERS)
def test_a_neural_twin_is_the_same_bit_for_bit_in_every_unit(data, unit):
    (ours, before), (theirs, now) = fitted(data), fitted(in_unit(data, unit))
    assert [(r.train, r.validation) for r in now] == [(r.train, r.validation) for r in before]
    assert ours.fault == theirs.fault == ""
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)
    held = characterize.shots(data, "test")
    assert torch.equal(unit * ours(held.x, held.theta), theirs(held.x, held.theta))
    assert torch.equal(
        unit * ours.distribution(held.x, held.theta)[1], theirs.distribution(held.x, held.theta)[1]
    )


@pytest.mark.parametrize(
    ("unit", "offset"), [(1e-9, 0.0), (1e-25, 0.0), (1e6, 0.0), (1.0, 1000.0), (1e-9, -1e-6)]
)
def test_a_neural_twin_is_as_good_in_other_units_and_with_an_offset(data, unit, offset):
    (_, before), (_, now) = fitted(data), fitted(in_unit(data, unit, offset))
    assert now[-1].best == pytest.approx(before[-1].best, rel=0.01)


def test_each_output_of_a_neural_twin_may_have_its_own_unit(data):
    mixed = torch.tensor([1, 1e-9, 1e-9, 1e6, 1e-3, 1e-9])
    (ours, _), (theirs, _) = fitted(data), fitted(in_unit(data, mixed.numpy()))
    held = characterize.shots(data, "test")
    a, b = ours(held.x, held.theta), theirs(held.x, held.theta) / mixed
    assert torch.allclose(a, b, atol=0.03)


@pytest.mark.parametrize("repeats", [1, 2])
def test_a_twin_says_which_outputs_did_not_move_and_has_them_constant(repeats):
    device = Dead(1, 3, noise=0.02)
    dataset = characterize.collect(device, 200, seed=0, repeats=repeats)
    dataset["y"][:, ::2, 3] = np.nextafter(np.float32(0.4), np.float32(1))  # rounding moves it
    twin = NeuralTwin(device, Mlp((16,)))
    with pytest.warns(RuntimeWarning, match=r"dead: .* inputs: 1, 3\."):
        records = list(fitting_neural(twin, dataset, NeuralSettings(epochs=4)))
    assert all(math.isfinite(r.train + r.validation) for r in records)
    held = characterize.shots(dataset, "test")
    dead = twin(held.x, held.theta)[:, [1, 3]]
    assert torch.equal(dead, dead[:1].expand(20, 2))
    assert torch.allclose(dead, torch.tensor(0.4))
    deviation = twin.distribution(held.x, held.theta)[1]
    assert deviation.isfinite().all()
    assert torch.equal(deviation[:, [1, 3]], torch.zeros(20, 2))
    if repeats == 2:
        assert deviation[:, [0, 2, 4, 5]].mean() == pytest.approx(0.02, rel=0.15)


def test_the_noise_of_some_outputs_does_not_hide_that_others_have_none(data):
    calm = data.copy(deep=True)
    calm["y"][:, :, 0] = data["y"][0, :, 0]
    twin, _ = fitted(calm)
    held = characterize.shots(calm, "test")
    deviation = twin.distribution(held.x, held.theta)[1].mean(0)
    assert deviation[0] < 1e-6
    assert deviation[1:].numpy() == pytest.approx([0.02] * 5, rel=0.2)


def test_noise_is_not_blown_up_to_the_size_of_a_signal(data):
    faint = data.copy(deep=True)
    generator = torch.Generator().manual_seed(0)
    shape = faint["y"][:, :, 2].shape
    faint["y"][:, :, 2] = 1e-7 * torch.randn(shape, generator=generator).numpy()
    twin, _ = fitted(faint)
    assert 2e-7 < twin.spread[2] < 4e-7


@dataclass(frozen=True)
class Strength:
    volts: float = 1e-9
    strength: float = 1.0


@dataclass(frozen=True)
class InVolts(Equations):
    """The toy's equation in a unit of its own; beyond twice the strength it cannot be solved."""

    nominal = Strength()
    free = ("strength",)

    def check(self, system):
        pass

    def __call__(self, x, theta, constants, output_dim):
        gain = constants.volts * getattr(self, "forgotten", 1.0)
        y = gain * toy_response(x, theta, constants.strength)
        return y if constants.strength < 2 else torch.full_like(y, math.nan)


@pytest.mark.parametrize("volts", [2.0**-30, 2.0**20])
def test_a_physics_twin_finds_the_same_constants_in_every_unit(data, volts):
    start = Strength(1.0, 1.9), Strength(volts, 1.9)
    ours, theirs = (
        fit_physics(PhysicsTwin(Toy(), InVolts(), constants), in_unit(data, constants.volts))
        for constants in start
    )
    assert theirs.constants == ours.constants
    assert theirs.nmse == ours.nmse
    assert theirs.constants["strength"] == pytest.approx(1.1, rel=0.02)


@pytest.mark.parametrize("volts", [2.0**-30, 2.0**20])
def test_what_cannot_be_solved_is_as_bad_in_every_unit(data, volts):
    start = Strength(1.0, 1.99999), Strength(volts, 1.99999)  # half a step of a difference away
    ours, theirs = (
        fit_physics(PhysicsTwin(Toy(), InVolts(), constants), in_unit(data, constants.volts))
        for constants in start
    )
    assert theirs.constants == ours.constants
    assert theirs.constants["strength"] < 2


def test_small_constants_that_were_changed_are_not_called_nominal():
    assert PhysicsTwin(Toy(), InVolts()).label == "physics twin, nominal"
    assert PhysicsTwin(Toy(), InVolts(), Strength(1.1e-9)).label == "physics twin, fitted"


def test_a_twin_in_nanovolts_that_would_be_read_as_another_is_not_saved(tmp_path):
    equations = InVolts()
    object.__setattr__(equations, "forgotten", 2.0)
    twin = PhysicsTwin(Toy(), equations, Strength(1e-10))
    with pytest.raises(TwinError, match="it answers otherwise"):
        twins.save(twin, tmp_path / "twin.pt")


@pytest.mark.parametrize(
    ("fit", "twin"),
    [
        (fit_physics, PhysicsTwin(Dead(), InVolts())),
        (fit_neural, NeuralTwin(Dead(), Mlp((16,)))),
    ],
)
def test_there_is_nothing_to_fit_where_nothing_moves(fit, twin):
    dataset = characterize.collect(Dead(*range(6)), 100, seed=0)
    with pytest.raises(DataError, match="no output of dead moves in these 80 shots"):
        fit(twin, dataset)


# What is measured.


def judged(unit):
    device = InUnit(unit=unit)
    dataset = characterize.collect(device, 200, seed=0)
    twin = PhysicsTwin(device, InVolts(), Strength(unit))
    found = twins.report(device, twin, dataset, depth=3)
    return found.nmse, found.floor, found.verdict, vars(found.gradient), vars(found.gap)


@pytest.mark.parametrize("unit", POWERS)
def test_reports_agreement_and_gap_are_the_same_in_every_unit(unit):
    *ours, gradient, gap = judged(1.0)
    *theirs, gradient_too, gap_too = judged(unit)
    assert theirs == ours
    assert gap_too == gap
    for name in ("cosine", "ceiling", "relative_error"):
        assert gradient_too[name] == pytest.approx(gradient[name], rel=1e-12), name


def measured(unit):
    device = InUnit(unit=unit)
    x = make_split(10).x
    theta = torch.full((36,), 0.6)
    repeated = characterize.repeatability(device, x, theta, repeats=4)
    remembered = characterize.memory(device, x, theta, repeats=2)
    drifted = characterize.drift(device, x[0], theta, shots=40, every=10)
    network = make_training(unit).network
    found = evaluate(network, make_split(50))
    response = infer(network, x[0]).responses[0]
    (change, _) = [reference.compare() for reference in take_references(network, x)]
    return [
        *(float(repeated[name]) for name in ("signal_to_noise", "nmse_floor")),
        *(float(repeated[name]) / unit for name in ("noise_floor", "signal")),
        *(int(remembered["length"]), float(drifted["drift"]) / unit),
        *(*found.gap, *found.stuck, found.device_metric, found.twin_metric),
        *(response.gap, change.nmse, change.rms / unit),
    ]


@pytest.mark.parametrize("unit", [*POWERS, 2.0**-80])
def test_measurements_are_the_same_in_every_unit(unit):
    assert measured(unit) == measured(1.0)


def test_a_device_at_rest_has_no_signal_to_noise_and_no_gap():
    device = Dead(*range(6), value=0.1)
    x, theta = make_split(7).x, torch.full((36,), 0.6)
    seen = characterize.repeatability(device, x, theta, repeats=3)
    assert math.isnan(seen["signal_to_noise"])
    assert float(seen["noise_floor"]) == 0
    assert math.isnan(characterize.nmse_floor(device(x, theta).expand(3, 7, 6)))
    twin = PhysicsTwin(device, InVolts(), Strength(1.0))
    assert characterize.nmse(twin(x, theta), device(x, theta)) == math.inf
    shots = characterize.shots(characterize.collect(device, 100, seed=0), "train")
    gap = twins.gap_by_depth(device, twin, shots, depth=3)
    assert gap.local == (math.inf,) * 3
    network = nn.Sequential(PhysicalLayer(device, twin, physics_aware))
    assert evaluate(network, make_split(50)).gap == (math.inf,)
    assert infer(network, x[0]).responses[0].gap is None


def test_every_layer_is_asked_for_its_outputs_at_rest_once():
    training = make_training()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(training.records())
    assert training.notes == []
    assert [layer.still for layer in physical_layers(training.network)] == [frozenset()] * 2
