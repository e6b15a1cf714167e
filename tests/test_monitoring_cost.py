"""Estimates: exact sums of what is known, None of what is not, and every assumption in words."""

import pytest
from torch import nn
from toy import Toy, ToyTwin

from pnnlab.errors import RangeError, ShapeError
from pnnlab.gradients import ideal, physics_aware
from pnnlab.layers import PhysicalLayer, Rescale, Shots, deep_pnn
from pnnlab.physical_system import Cost
from pnnlab.systems import SHG, Circuit, Oscillators, Plate
from pnnlab.training import estimate
from pnnlab.training.cost import JOULES_PER_MULTIPLY_ADD, multiply_adds, shots_per_example
from pnnlab.twins import Mlp, NeuralTwin


def make_network() -> nn.Sequential:
    twin = NeuralTwin(Toy(4, 2), Mlp((5,)))  # has linear layers of its own
    return nn.Sequential(
        Shots(PhysicalLayer(Toy(4, 2), twin, physics_aware), 3),
        PhysicalLayer(Toy(6, 5), ToyTwin(6, 5), physics_aware, encoding=Rescale(6)),
        nn.Linear(5, 3),
    )


CHEAP = Cost(seconds_per_pass=2.0, joules_per_pass=0.5, assumptions="Cheap.", source="here")
DEAR = Cost(seconds_per_pass=8.0, joules_per_pass=None, assumptions="Dear.", source="there")


def test_shots_and_multiply_adds_are_those_of_one_example() -> None:
    network = make_network()
    assert list(shots_per_example(network).values()) == [3, 1]
    assert multiply_adds(network) == 3 * 4 * 2 + 6 * 5 + 6 + 5 * 3
    assert multiply_adds(nn.Linear(7, 3)) == 21


def test_an_estimate_is_the_sum_over_the_layers() -> None:
    found = estimate(make_network(), 400, costs=[CHEAP, CHEAP])
    assert found.device_seconds == 800.0
    assert found.device_joules == 200.0
    assert found.digital_joules == pytest.approx(100 * 75 * 4.6e-12)
    mixed = estimate(make_network(), 400, costs=[CHEAP, DEAR])
    assert mixed.device_seconds == 300 * 2.0 + 100 * 8.0
    assert mixed.device_joules is None
    assert mixed.digital_joules == pytest.approx(100 * 75 * 4.6e-12)


def test_every_assumption_is_said_once() -> None:
    alike = estimate(make_network(), 4, costs=[CHEAP, CHEAP]).assumptions
    assert alike[0] == "Layers 1, 2 (toy): Cheap. Source: here."
    assert len(alike) == 2
    assert alike[1].startswith("Digital: 75 products and sums an example")
    assert "4.6 pJ" in alike[1]
    unlike = estimate(make_network(), 4, costs=[CHEAP, DEAR]).assumptions
    assert unlike[:2] == (
        "Layer 1 (toy): Cheap. Source: here.",
        "Layer 2 (toy): Dear. Source: there.",
    )


def test_the_machines_cost_what_their_sources_say_and_no_more() -> None:
    circuit = Circuit(0, input_dim=196, replays=4, output_dim=8).cost()
    assert circuit.seconds_per_pass == pytest.approx(4 * 196 * 1e-6)
    assert "784 samples at 1 µs" in circuit.assumptions
    plate = Plate(0, input_dim=196, replays=1, output_dim=10).cost()
    assert plate.seconds_per_pass == pytest.approx((196 + 64) * 20e-6)
    for system in (SHG(0), Oscillators(8), Toy()):
        unknown = system.cost()
        assert unknown.seconds_per_pass is None
        assert f"a shot of {system.name} takes is not known" in unknown.assumptions
    assert circuit.joules_per_pass is plate.joules_per_pass is None
    assert pytest.approx((3.7 + 0.9) * 1e-12) == JOULES_PER_MULTIPLY_ADD


def test_a_network_of_one_board_is_estimated_from_its_programmes() -> None:
    board = Circuit(0, input_dim=6, replays=2, output_dim=6)
    systems = [board, board.reprogrammed(replays=4, output_dim=2)]
    found = estimate(deep_pnn(systems, [None, None], ideal), 2000)
    assert found.device_seconds == pytest.approx(1000 * (12 + 24) * 1e-6)
    assert found.device_joules is None
    assert [words[:7] for words in found.assumptions] == ["Layer 1", "Layer 2", "Digital"]


def test_what_cannot_be_estimated_is_refused() -> None:
    with pytest.raises(RangeError, match="of 0 physical layers"):
        estimate(nn.Linear(2, 2), 0)
    with pytest.raises(RangeError, match="-1 passes"):
        estimate(make_network(), -1)
    with pytest.raises(ShapeError, match="1 costs for 2"):
        estimate(make_network(), 1, costs=[CHEAP])
    assert estimate(make_network(), 0, costs=[CHEAP, CHEAP]).device_seconds == 0
