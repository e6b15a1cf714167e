"""Devices, twins, networks, tasks and settings of the sweep and of the notebook on images."""

import math
from typing import Any

import pytest
import torch
from torch import nn

from pnnlab.errors import RangeError
from pnnlab.gradients import noise_aware, physics_aware
from pnnlab.layers import (
    Rescale,
    Shots,
    calibrate,
    on_device,
    on_twin,
    parameter_count,
    physical_layers,
)
from pnnlab.results import setups
from pnnlab.results.advantage import Case, Setup, make_device
from pnnlab.results.setups import Images, fitted
from pnnlab.systems import SHG, Circuit, Oscillators, Plate
from pnnlab.tasks import Split, Task
from pnnlab.training import Training
from pnnlab.twins import FilterBank, NeuralTwin, PhysicsTwin

SYSTEMS = ("plate", "circuit", "hybrid", "oscillators")

# --- the sweep ---


def test_a_case_must_be_possible() -> None:
    with pytest.raises(RangeError, match="'neural 750'"):
        Setup(Case("circuit", twin="neural")).network(1, physics_aware)
    with pytest.raises(RangeError, match="SHG, and no other, reads vowels"):
        Case("SHG", task="digits")


def test_the_noise_of_a_device_is_a_multiple_of_its_own() -> None:
    scatter = []
    for factor in (1.0, 3.0):
        system = make_device(Case("circuit", noise=factor))
        x, theta = torch.rand(1, 64).expand(500, -1), torch.rand(system.param_dim)
        scatter.append(float(system(x, theta).std(0).mean()))
    assert scatter[1] / scatter[0] == pytest.approx(3, rel=0.2)


def test_a_neural_twin_of_light_is_fitted_to_each_shape_of_a_layer_once() -> None:
    setup = Setup(Case("SHG", twin="neural 40", task="vowels"))
    first, second, third, last = physical_layers(setup.network(4, physics_aware))
    assert second.twin is third.twin
    assert [layer.system.input_dim for layer in (first, second, last)] == [12, 50, 50]
    for depth, shapes in {4: 3, 3: 3, 2: 2, 1: 1}.items():
        network = setup.network(depth, physics_aware)
        assert setup.twin_passes(network) == shapes * 80  # two read-outs a shot


def test_a_nominal_twin_has_the_constants_of_the_drawing_and_the_noise_of_the_device() -> None:
    setup = Setup(Case("circuit", twin="nominal"))
    (layer,) = physical_layers(setup.network(1, physics_aware))
    twin = layer.twin
    assert isinstance(twin, PhysicsTwin)
    assert twin.constants == type(twin.constants)()
    assert float(twin.noise.abs().sum()) > 0


# Before these were moved here, with numbers of the sweep that was running then: absolute sums of
# the outputs on the device and on the twin, and passes of the fits.
RECORDED = [
    (Case("circuit", 1, twin="physics 100"), 3, 227.94985, 731.74121, 200),
    (Case("circuit", 0, 2.0, "neural 100"), 2, 221.51265, 2369.87402, 200),
    (Case("plate", 2, twin="physics 60", task="mnist"), 2, 242.35577, 766.91260, 120),
    (Case("plate", 1, twin="nominal"), 1, 217.86945, 473.17380, 200),
    (Case("SHG", 1, twin="physics 60", task="vowels"), 3, 93.09972, 102.61101, 120),
    (Case("SHG", 1, twin="neural 60", task="vowels"), 2, 110.83644, 80.51498, 240),
]


@pytest.mark.parametrize(
    ("case", "depth", "device", "twin", "passes"),
    RECORDED,
    ids=[f"{one.system} {one.twin}" for one, *_ in RECORDED],
)
def test_networks_of_a_sweep_are_what_they_were(
    case: Case, depth: int, device: float, twin: float, passes: int
) -> None:
    setup = Setup(case)
    network, x = setup.network(depth, physics_aware), setup.task.test.x[:20]
    calibrate(network, setup.task.train.x[:200])
    with torch.no_grad(), on_device(network.eval()):
        assert float(network(x).abs().sum()) == pytest.approx(device, rel=1e-3)
    with torch.no_grad(), on_twin(network):
        assert float(network(x).abs().sum()) == pytest.approx(twin, rel=1e-3)
    assert setup.twin_passes(network) == passes


# --- images ---


@pytest.mark.parametrize(
    ("system", "label", "published", "depth", "rate", "epochs"),
    [
        ("plate", "plate", 0.87, 2, 0.01, (1, 6, 10)),
        ("circuit", "circuit, 5% parts", 0.93, 3, 0.01, (1, 7, 15)),
        ("hybrid", "SHG and digital layers", 0.97, 2, 0.004, (1, 7, 2)),
        ("oscillators", "oscillators", 0.9794, 2, 0.002, (1, 5, 3)),
    ],
)
def test_settings_are_those_of_the_notebooks(
    system: str,
    label: str,
    published: float,
    depth: int,
    rate: float,
    epochs: tuple[int, int, int],
) -> None:
    for scale, number in zip(("smoke", "quick", "paper"), epochs, strict=True):
        images = Images(system, scale, tolerance=0.05)
        settings = images.settings(3)
        assert (settings.epochs, settings.learning_rate, settings.seed) == (number, rate, 3)
        assert settings.batch_size == (128 if scale == "paper" else 64)
        plan = images.plan
        assert (images.label, plan.published, plan.depth) == (label, published, depth)


def test_settings_of_clothes_are_those_of_the_notebook_before() -> None:
    for scale, number in (("smoke", 1), ("quick", 5), ("paper", 2)):
        images = Images("oscillators", scale, dataset="fashion-mnist")
        settings = images.settings(0)
        assert (settings.epochs, settings.learning_rate) == (number, 0.003)
        assert images.plan.published == 0.8976


@pytest.mark.parametrize(
    ("system", "side", "kind"),
    [
        ("plate", 14, {"copies": 0, "subsample": False}),
        ("circuit", 14, {"copies": 0, "subsample": False}),
        ("hybrid", 28, {"copies": 4, "subsample": False}),
        ("oscillators", 14, {"copies": 14, "subsample": True}),
    ],
)
def test_all_images_are_read_at_full_scale_with_their_copies(
    system: str, side: int, kind: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, dict[str, Any]]] = []
    known = Images("circuit", "smoke").task
    monkeypatch.setattr(setups, "mnist", lambda *a, **k: asked.append((a[0], k)) or known)
    assert Images(system, "paper").task == known
    assert asked == [(side, {"full": True, **kind})]


def test_the_images_of_a_system_are_the_same_at_quick_and_fewer_at_smoke() -> None:
    for system, pixels, copies in (("hybrid", 784, 1), ("oscillators", 196, 2)):
        quick, smoke = (Images(system, scale).task for scale in ("quick", "smoke"))
        assert quick.train.x.shape == (3500 * copies, pixels)
        assert len(quick.test) == 1000
        for name in ("train", "validation", "test"):
            few, many = getattr(smoke, name), getattr(quick, name)
            assert len(few) == 300
            assert torch.equal(few.x, many.x[:300])


@pytest.fixture
def clothes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures in place of Fashion-MNIST, which no package brings."""
    generator = torch.Generator().manual_seed(0)

    def split(n: int) -> Split:
        return Split(torch.rand(n, 784, generator=generator), torch.arange(n) % 10)

    made = Task("fashion-mnist", split(3000), split(600), split(1100), 10, 28, "made up")
    monkeypatch.setattr(setups, "fashion_mnist", lambda **_: made)


@pytest.mark.usefixtures("clothes")
def test_clothes_are_read_patch_by_patch() -> None:
    images = Images("oscillators", "quick", dataset="fashion-mnist")
    original = setups.fashion_mnist().train.x[0].view(28, 28)
    first = images.task.train.x[0].view(16, 7, 7)
    assert torch.equal(first[0], original[:7, :7])
    assert torch.equal(first[5], original[7:14, 7:14])
    assert images.order is not None
    assert torch.equal(original.flatten()[images.order], images.task.train.x[0])
    assert [len(images.task.train), len(images.task.validation)] == [2500, 500]
    first_layer, second = images.network("PAT", 0)[:2]
    assert isinstance(first_layer, Shots)
    assert first_layer.shots == 16
    assert (second.system.n, second.system.steps) == (16 * 50 + 10, 3)
    assert images.network("PAT", 0, depth=1)(images.task.test.x[:3]).shape == (3, 10)
    with pytest.raises(RangeError, match="too many for a neural twin"):
        images.layers(0, "neural 20")


SHAPES = {
    ("plate", 2): [(196, 98, 1568), (98, 10, 1960)],
    ("plate", 1): [(196, 10, 3920)],
    ("plate", 3): [(196, 98, 1568), (98, 98, 784), (98, 10, 1960)],
    ("circuit", 3): [(196, 196, 1568), (196, 196, 1568), (196, 10, 3920)],
    ("circuit", 1): [(196, 10, 3920)],
    ("hybrid", 2): [(50, 50, 50)] * 2,
    ("hybrid", 1): [(50, 50, 50)],
    ("oscillators", 2): [(196, 196, 196 * 197), (196, 10, 206 * 207)],
    ("oscillators", 1): [(196, 10, 206 * 207)],
    ("oscillators", 3): [(196, 196, 196 * 197)] * 2 + [(196, 10, 206 * 207)],
}


@pytest.mark.parametrize(("system", "depth"), SHAPES)
def test_a_network_of_any_depth_ends_in_ten_classes(system: str, depth: int) -> None:
    images = Images(system, "smoke")
    network = images.network("PAT", 1, depth=depth)
    layers = [layer.system for layer in physical_layers(network)]
    assert [(s.input_dim, s.output_dim, s.param_dim) for s in layers] == SHAPES[system, depth]
    assert network.eval()(images.task.test.x[:3]).shape == (3, 10)


def test_a_hybrid_whose_pulses_carry_less_has_fewer_digital_weights() -> None:
    images = Images("hybrid", "smoke", numbers=2)
    widths = {"PAT": (8, 200), "clamp only": (8, 8)}  # sent and seen of a layer of four pulses
    for method, (sent, seen) in widths.items():
        matrices = [m for m in images.network(method, 0) if isinstance(m, nn.Linear)]
        shapes = [(m.in_features, m.out_features) for m in matrices]
        assert shapes == [(784, sent), (seen, sent), (seen, 10)]


@pytest.mark.parametrize(
    ("system", "parameters"),
    [("plate", 3550), ("circuit", 7080), ("hybrid", 200114), ("oscillators", 81255)],
)
def test_networks_have_as_many_parameters_as_in_the_notebooks_before(
    system: str, parameters: int
) -> None:
    assert parameter_count(Images(system, "smoke").network("PAT", 0)) == parameters


# Of the notebooks before, with seed 1 and their own functions: absolute sums of the outputs for
# twenty test images of the calibrated network on the device.
BEFORE: dict[str, float] = {
    "plate": 237.6599,
    "circuit": 254.4624,
    "hybrid": 54.2154,
    "oscillators": 29.7772,
}


@pytest.mark.parametrize("system", SYSTEMS)
def test_networks_are_those_of_the_notebooks_before(system: str) -> None:
    images = Images(system)
    network, x = images.network("PAT", 1), images.task.test.x[:20]
    with torch.no_grad(), on_device(network.eval()):
        assert float(network(x).abs().sum()) == pytest.approx(BEFORE[system], rel=1e-3)


@pytest.mark.parametrize(
    ("system", "kind", "fabricated"),
    [
        ("plate", Plate, {"unit": 3}),
        ("circuit", Circuit, {"unit": 3, "tolerance": 0.05}),
        ("hybrid", SHG, {"unit": 3}),
        ("oscillators", Oscillators, {"unit": 3}),
    ],
)
def test_a_device_is_of_its_unit_and_each_network_has_one_of_its_own(
    system: str, kind: type, fabricated: dict[str, float]
) -> None:
    images = Images(system, "smoke", unit=3, tolerance=0.05)
    (first, second), twins = images.layers(2, depth=2)
    (again, _), others = images.layers(2, depth=2)
    assert isinstance(first, kind)
    assert {name: getattr(first, name) for name in fabricated} == fabricated
    assert first.state() == again.state()
    x = torch.full((5, first.input_dim), 0.3)
    answer = first(x, torch.full((first.param_dim,), 0.4))
    assert first.state() != again.state()
    if system != "oscillators":  # whose layers are two networks; of the others one device
        assert second.state() == first.state()
    assert torch.equal(again(x, torch.full((first.param_dim,), 0.4)), answer)
    assert twins[0] is not others[0]
    assert all(isinstance(twin, PhysicsTwin) and not twin.fault for twin in twins)


def test_a_twin_is_fitted_once_for_all_methods_of_a_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    fits: list[int] = []

    def counted(system: Any, twin: str, seed: int) -> Any:
        fits.append(seed)
        return fitted(system, twin, seed)

    monkeypatch.setattr(setups, "fitted", counted)
    images = Images("circuit", "smoke", unit=9)
    networks = [images.network(method, seed) for seed in (1, 2) for method in ("PAT", "ideal")]
    assert fits == [1, 2]
    first, second = (physical_layers(network)[0] for network in networks[:2])
    assert first.twin is not second.twin
    assert first.twin.constants == second.twin.constants


@pytest.mark.parametrize("system", SYSTEMS)
def test_noise_aware_training_is_possible_with_every_twin(system: str) -> None:
    images = Images(system, "smoke")
    network = images.network("noise-aware", 0)
    layers = physical_layers(network)
    assert all(layer.rule is noise_aware for layer in layers)
    one, two = (network.eval()(images.task.test.x[:5]) for _ in range(2))
    assert not torch.equal(one, two)


def test_the_noise_of_the_pendula_is_that_of_their_read_outs() -> None:
    images = Images("oscillators", "smoke")
    for system, twin in zip(*images.layers(0), strict=True):
        theta, x = system.weak_theta(0), torch.rand(400, system.input_dim)
        assert twin.constants == type(twin.constants)()  # as on paper
        assert twin.equations.steps == 2
        measured = (system(x, theta) - system(x, theta)).std() / math.sqrt(2)
        modelled = (twin.sample(x, theta) - twin(x, theta)).std()
        assert float(modelled / measured) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_neural_twin_takes_the_place_of_the_equations(system: str) -> None:
    _, twins = Images(system, "smoke").layers(0, "neural 20")
    assert all(isinstance(twin, NeuralTwin) for twin in twins)
    weights = {id(next(twin.core.parameters())) for twin in twins}
    assert len(weights) == (2 if system == "oscillators" else 1)
    if system == "plate":
        assert [twin.architecture for twin in twins] == [FilterBank(4), FilterBank(10)]


def test_clamps_take_the_place_of_the_crystal_alone() -> None:
    images = Images("hybrid", "smoke")
    light, *clamps = (images.network(name, 0) for name in ("PAT", "clamp only", "clamp, square"))
    for power, network in enumerate(clamps, start=1):
        assert parameter_count(network) == parameter_count(light)
        assert torch.equal(network[0].weight, light[0].weight)
        layer = physical_layers(network)[0]
        x = torch.rand(4, 50)
        assert torch.equal(layer.system(x, torch.rand(50)), x**power)
        assert layer.twin is None
    loss = clamps[0](images.task.test.x[:8]).square().mean()
    loss.backward()
    assert float(clamps[0][0].weight.grad.abs().sum()) > 0


@pytest.mark.parametrize("system", SYSTEMS)
def test_of_an_untrained_layer_the_read_out_alone_is_trained(system: str) -> None:
    images = Images(system, "smoke")
    network = images.network("untrained", 0)
    (layer,) = physical_layers(network)
    whole = physical_layers(images.network("PAT", 0, depth=2))[0]
    assert torch.equal(layer.theta, whole.theta)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    training = Training(network, images.task, images.settings(0))
    for _ in training.records():
        pass
    moved = {n for n, p in network.named_parameters() if not torch.equal(p, before[n])}
    place = len(network) - 1
    assert moved == {f"{place}.weight", f"{place}.bias", f"{place - 1}.gain", f"{place - 1}.offset"}
    assert isinstance(network[place - 1], Rescale)
    assert training.device_passes > len(images.task.train)


def test_digital_networks_have_seeds_and_a_hybrid_is_set_beside_its_own_digital_layers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pnnlab.results.comparison.FEWEST_STEPS", 1)
    trained: list[tuple[nn.Module, int]] = []

    def found(make: Any, task: Task, *, rates: Any, epochs: int, batch_size: int, seed: int) -> int:
        trained.append((make(), seed))
        return len(rates)

    monkeypatch.setattr("pnnlab.results.comparison.digital_accuracy", found)
    images = Images("hybrid", "smoke")
    assert images.baselines(20_000, 5) == {
        "digital_baseline": 2,
        "linear_baseline": 2,
        "accuracy_without_physics": 2,
    }
    assert [seed for _, seed in trained] == [5] * 3
    bare = trained[-1][0]
    assert not physical_layers(bare)
    assert [one.weight.shape[0] for one in bare if isinstance(one, nn.Linear)] == [200, 200, 10]
    assert torch.equal(bare[0].weight, images.network("PAT", 5)[0].weight)
    assert set(Images("plate", "smoke").baselines(3000, 0)) == {
        "digital_baseline",
        "linear_baseline",
    }


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Images("laser"), "plate, circuit, hybrid, oscillators"),
        (lambda: Images("fashion-mnist"), "system is"),
        (lambda: Images("plate", "huge"), "smoke, quick, paper"),
        (lambda: Images("plate", dataset="fashion-mnist"), "do not read"),
        (lambda: Images("plate", numbers=2), "hybrid has pulses of 2"),
        (lambda: Images("plate", "smoke").network("clamp only", 0), "PAT, in silico"),
        (lambda: Images("plate", "smoke").network("SPSA", 0), "noise-aware, ideal, untrained"),
        (lambda: Images("plate", "smoke").network("PAT", 0, "neural"), "'neural 750'"),
    ],
)
def test_what_there_is_not_is_refused(make: Any, message: str) -> None:
    with pytest.raises(RangeError, match=message):
        make()
