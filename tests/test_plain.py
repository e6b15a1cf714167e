"""Whatever counts in NumPy or torch is taken for the number it is, and no float for a whole one."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from runners import assert_equal
from torch import Tensor
from toy import Toy, ToyTwin

from pnnlab import characterize, tasks, twins
from pnnlab.characterize.manual_control import presets
from pnnlab.errors import PnnlabError, RangeError
from pnnlab.gradients import physics_aware
from pnnlab.instruments.programme import CircuitProgramme
from pnnlab.layers import PhysicalLayer, Shots, deep_pnn
from pnnlab.physical_system import device
from pnnlab.plain import plain, random_state, real, whole
from pnnlab.results.comparison import linear_baseline, mlp
from pnnlab.runs import train
from pnnlab.systems import SHG, Circuit, Oscillators, Plate
from pnnlab.training import FitSettings
from pnnlab.twins import gradient_agreement
from pnnlab.twins.twin import Signature

N = 4
COUNTS = [
    np.int64(N), np.uint8(N), np.array(N), np.arange(9)[N], torch.tensor(N), xr.DataArray(N),
]  # fmt: skip
NOT_COUNTS = [
    4.0, 4.5, np.float64(4), np.array([4, 5]), torch.tensor(4.0), "4", True, np.bool_(True), 4j,
]  # fmt: skip
X, THETA = torch.full((3, 6), 0.4), torch.full((36,), 0.6)


def said(dataset: xr.Dataset) -> dict[str, Any]:
    values = {str(name): torch.tensor(dataset[name].values) for name in dataset}
    return {**values, **dataset.attrs, "time_utc": ""}


def weights(network: torch.nn.Module) -> dict[str, Tensor]:
    return dict(network.state_dict())


def fitted(**settings: Any) -> dict[str, Tensor]:
    twin = twins.NeuralTwin(Toy(), twins.Mlp((4,)))
    data = characterize.collect(Toy(), 30, seed=0)
    twins.fit_neural(twin, data, twins.NeuralSettings(**{"epochs": 1} | settings))
    return weights(twin)


def tiny() -> tasks.Task:
    return tasks.digits().first(40)


def depths(depth: Any) -> tuple[float, ...]:
    toy = Toy()
    twin = twins.NeuralTwin(toy, twins.Mlp((4,)))
    data = characterize.collect(toy, 40, seed=0)
    passes = toy.passes
    try:
        gap = twins.report(toy, twin, data, depth=depth).gap
    except RangeError:
        assert toy.passes == passes, "it was driven for nothing"
        raise
    assert gap is not None
    return gap.free


def layer(seed: Any = 0) -> PhysicalLayer:
    return PhysicalLayer(Toy(), ToyTwin(), physics_aware, seed=seed)


def layer_of_ones() -> torch.nn.Linear:
    linear = torch.nn.Linear(64, 10)
    for weight in linear.parameters():
        torch.nn.init.ones_(weight)
    return linear


WAYS: dict[str, Callable[[Any], Any]] = {
    **{
        f"settings {name}": lambda n, name=name: asdict(FitSettings(**{name: n}))
        for name in ("epochs", "batch_size", "evaluations", "seed")
    },
    **{
        f"fit of a twin, {name}": lambda n, name=name: fitted(**{name: n})
        for name in ("epochs", "batch_size", "patience", "seed")
    },
    "drives": lambda n: said(characterize.collect(Toy(), n, seed=0)),
    "seed of drives": lambda n: said(characterize.collect(Toy(), 4, seed=n)),
    "read-outs of drives": lambda n: said(characterize.collect(Toy(), 4, seed=0, repeats=n)),
    "repeats": lambda n: said(characterize.repeatability(Toy(), X, THETA, n)),
    "repeats of curves": lambda n: said(
        characterize.response_curves(Toy(), X[0], THETA, inputs=[0], points=3, repeats=n)
    ),
    "points of curves": lambda n: said(
        characterize.response_curves(Toy(), X[0], THETA, inputs=[0], points=n)
    ),
    "repeats of memory": lambda n: said(characterize.memory(Toy(), X, THETA, repeats=n)),
    "shots of drift": lambda n: said(characterize.drift(Toy(), X[0], THETA, shots=20, every=n)),
    "presets": lambda n: [values for values, _ in presets(6, n).values()],
    "unit of a circuit": lambda n: Circuit(n).state(),
    "seed of a circuit": lambda n: Circuit(seed=n).state(),
    "replays of a circuit": lambda n: Circuit(replays=n).param_dim,
    "inputs of a circuit": lambda n: Circuit(input_dim=n, output_dim=8).param_dim,
    "unit of a plate": lambda n: Plate(n).state(),
    "outputs of a plate": lambda n: Plate(output_dim=n).output_dim,
    "unit of light": lambda n: SHG(n).state(),
    "inputs of light": lambda n: SHG(input_dim=n).input_dim,
    "unit of oscillators": lambda n: Oscillators(5, unit=n).state(),
    "oscillators": lambda n: Oscillators(n).state(),
    "seed of oscillators": lambda n: Oscillators(5, seed=n).state(),
    "weak theta": lambda n: Oscillators(5).weak_theta(n),
    "programme": lambda n: asdict(CircuitProgramme(8, n, 8)),
    "seed of a layer": lambda n: weights(layer(n)),
    "seed of a network": lambda n: weights(deep_pnn([Toy()], [ToyTwin()], physics_aware, seed=n)),
    "layers of a network": lambda n: weights(deep_pnn(Toy(), ToyTwin(), layers=n)),
    "classes of a network": lambda n: weights(deep_pnn(Toy(), ToyTwin(), classes=n, seed=n)),
    "a device of one's own": lambda n: vars(
        Signature.of(device(print, inputs=n, parameters=n, outputs=n))
    ),
    "trained": lambda n: weights(
        train(layer_of_ones(), tiny(), epochs=n, seed=n, progress=False).network
    ),
    "shots of a layer": lambda n: Shots(layer(), n).shots,
    "replays of equations": lambda n: asdict(twins.CircuitEquations(n)),
    "widths": lambda n: asdict(twins.Mlp((n, 8))),
    "temporal": lambda n: asdict(twins.Temporal(replays=n, memory=n, hop=n, channels=n)),
    "filters": lambda n: asdict(twins.FilterBank(replays=n, memory=n, channels=n)),
    "pendula": lambda n: asdict(twins.Forces(n, steps=n, hidden=n)),
    "signature": lambda n: asdict(Signature("toy", n, n, n)),
    "seed of a twin": lambda n: weights(twins.NeuralTwin(Toy(), twins.Mlp((4,)), seed=n)),
    "gradients, repeats": lambda n: (
        gradient_agreement(Toy(), ToyTwin(), X, THETA, directions=1, repeats=n).device
    ),
    "gradients, directions": lambda n: (
        gradient_agreement(Toy(), ToyTwin(), X, THETA, directions=n, seed=n).device
    ),
    "batches of a baseline": lambda n: linear_baseline(
        tiny(), epochs=1, batch_size=n, rates=(0.01,)
    ),
    "seed of a baseline": lambda n: linear_baseline(tiny(), epochs=1, seed=n, rates=(0.01,)),
    "size of an MLP": lambda n: [tuple(w.shape) for w in weights(mlp(1, 1, n)).values()],
    "shots of a fit": lambda n: asdict(
        twins.fit_physics(
            twins.PhysicsTwin(Oscillators(3, steps=2), twins.OscillatorEquations(3, steps=2)),
            characterize.collect(Oscillators(3, steps=2), 10, seed=0),
            shots=n,
        ).twin.constants
    ),
    "depth of a report": lambda n: len(depths(n)),
    "seed of digits": lambda n: tasks.digits(n).test.x,
    "seed of vowels": lambda n: tasks.vowels(n).test.x,
    "copies": lambda n: tasks.augmented(tasks.digits().train.first(3), n, seed=n).x,
}


@pytest.mark.parametrize("way", WAYS)
def test_every_whole_number_is_as_good_as_a_python_one(way: str) -> None:
    expected = WAYS[way](N)
    for count in COUNTS:
        assert_equal(WAYS[way](count), expected, f"{way}, {type(count).__name__}")


@pytest.mark.parametrize("way", WAYS)
def test_what_is_no_whole_number_is_refused_in_words(way: str) -> None:
    for wrong in NOT_COUNTS:
        with pytest.raises(PnnlabError, match=r"whole number|single number"):
            WAYS[way](wrong)


@pytest.mark.parametrize("seed", [-1, 2**63, 2**70, np.uint8(200)])
def test_any_whole_number_is_a_seed_of_torch(seed: Any) -> None:
    for draw in (WAYS["seed of a network"], WAYS["seed of a twin"], WAYS["seed of drives"]):
        assert_equal(draw(seed), draw(int(seed)))


def test_the_seeds_of_systems_are_numbered_from_0() -> None:
    with pytest.raises(RangeError, match="seed is -1; it must be at least 0"):
        Circuit(seed=-1)


@pytest.mark.parametrize(
    "number", [0.1, np.float64(0.1), np.array(0.1), torch.tensor(0.1, dtype=torch.float64)]
)
def test_a_real_number_becomes_a_float(number: Any) -> None:
    settings = FitSettings(learning_rate=number, penalty=number, warmup=number)
    assert_equal(asdict(settings), asdict(FitSettings(learning_rate=0.1, penalty=0.1, warmup=0.1)))
    assert_equal(
        asdict(twins.SHGEquations(phase_range=number)), {"trained": "phases", "phase_range": 0.1}
    )
    assert_equal(Circuit(tolerance=number).state(), Circuit(tolerance=0.1).state())
    assert type(real("it", np.longdouble(number))) is float
    for wrong in ("0.1", True, None, 1j, np.array([0.1]), torch.ones(2)):
        with pytest.raises(RangeError, match=r"penalty is .*; give a single number"):
            FitSettings(penalty=wrong)


@dataclass(frozen=True, kw_only=True)
class Own(FitSettings):
    """Settings of a user, with fields of other kinds."""

    either: int | str | None = 1
    mixed: tuple[str, int] = ("a", 1)
    texts: tuple[str, ...] = ()
    on: bool = False
    count: "int" = 1
    anything: Any = None


def test_settings_of_ones_own_may_have_fields_of_any_kind() -> None:
    numbers = {"mixed": ("b", np.int8(2)), "on": np.bool_(True), "count": np.int64(3)}
    own = Own(**numbers, either=np.int16(7), texts=["c"], anything={"d": np.float64(0.5)})  # type: ignore[arg-type]
    said = {name: getattr(own, name) for name in Own.__annotations__}
    expected = {"either": 7, "mixed": ("b", 2), "texts": ("c",), "on": True, "count": 3}
    assert_equal(said, expected | {"anything": {"d": 0.5}})
    assert Own(either=None).either is None
    with pytest.raises(RangeError, match="count is 3"):
        Own(count=3.0)  # type: ignore[arg-type]


def test_a_tuple_is_wanted_and_a_single_number_refused() -> None:
    assert twins.Mlp(np.array([4, 5])).hidden == (4, 5)
    assert twins.Mlp([4]).hidden == (4,)  # type: ignore[arg-type]
    with pytest.raises(RangeError, match="hidden is 4; give several"):
        twins.Mlp(4)  # type: ignore[arg-type]


def test_least_is_said() -> None:
    with pytest.raises(RangeError, match="n is 0; it must be at least 1"):
        whole("n", np.int64(0), 1)


def test_nested_numbers_become_plain_and_the_rest_stays() -> None:
    tensor, text = torch.ones(2), np.str_("a")
    made = plain({"a": [np.float32(0.5), (np.int8(1), text)], np.int64(3): tensor, "b": None})
    assert_equal(made, {"a": [0.5, (1, "a")], 3: tensor, "b": None})
    assert made[3] is tensor


def test_random_numbers_are_set_by_a_seed_and_go_on_as_before():
    torch.manual_seed(3)
    torch.rand(2)
    expected = torch.rand(4)
    torch.manual_seed(3)
    torch.rand(2)
    with random_state(np.int64(-1)):
        within = torch.rand(4)
    assert torch.equal(torch.rand(4), expected)
    torch.manual_seed(-1)
    assert torch.equal(torch.rand(4), within)
