"""What is watched of a network: alignment and confusion, with answers that are known exactly."""

from collections.abc import Iterator
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from records import Scripted
from torch import Tensor, nn
from toy import Toy, ToyTwin

from pnnlab.background import Session
from pnnlab.errors import RangeError, ShapeError, TwinError
from pnnlab.gradients import ideal, physics_aware
from pnnlab.layers import PhysicalLayer, Rescale, Shots, on_device, on_twin, physical_layers
from pnnlab.training import (
    FitSettings,
    Record,
    Training,
    alignment,
    alignment_passes,
    confusion,
    layer_drives,
    passes_per_example,
    take_references,
)
from pnnlab.training.cost import passes_so_far
from pnnlab.training.evaluation import working_points


def make_network(strengths: tuple[float, float] = (1.1, 1.1), noise: float = 0.0) -> nn.Sequential:
    """Three shots through one toy, which are the drive of another."""
    first, second = Toy(4, 2, noise, drift=0.0), Toy(6, 5, noise, drift=0.0, seed=1)
    return nn.Sequential(
        Shots(PhysicalLayer(first, ToyTwin(4, 2, strengths[0]), physics_aware), 3),
        PhysicalLayer(
            second, ToyTwin(6, 5, strengths[1]), physics_aware, encoding=Rescale(6), seed=3
        ),
        nn.Linear(5, 3),
    )


def examples(n: int = 20) -> Tensor:
    return torch.rand(n, 12, generator=torch.Generator().manual_seed(0))


# --- what layers see ------------------------------------------------------------------------------


def test_seen_are_the_drives_that_reach_the_devices() -> None:
    network, x = make_network(), examples()
    network[1].theta.data[:3] = torch.tensor([-0.5, 1.5, 0.5])
    before = passes_so_far(network)
    drives = layer_drives(network, x)
    assert list(drives) == physical_layers(network)
    first, second = drives.values()
    assert passes_so_far(network) - before == 20 * passes_per_example(network) == 20 * (3 + 1)
    assert torch.equal(first, x.reshape(60, 4))
    network.eval()
    between = network[0](x)
    assert torch.equal(second, network[1].encoding(between).clamp(0, 1))
    reference = take_references(network, x)[1]
    assert reference.theta[:3].tolist() == [0.0, 1.0, 0.5]
    assert torch.equal(working_points(network, x)[0][1], first[::3])
    assert not network[1]._forward_hooks


# --- alignment ------------------------------------------------------------------------------------


def test_a_perfect_twin_is_aligned_and_an_inverted_one_points_the_other_way() -> None:
    found = alignment(make_network((1.1, -1.1)), examples())
    right, inverted = found.layers
    assert right.cosine == pytest.approx(1, abs=1e-4)
    assert inverted.cosine == pytest.approx(-1, abs=1e-4)  # tanh is odd
    assert right.ceiling == pytest.approx(1) == inverted.ceiling
    assert right.relative_error == pytest.approx(0, abs=0.01)
    assert inverted.relative_error == pytest.approx(2, abs=0.01)


def test_noise_lowers_the_cosine_as_far_as_the_ceiling_says() -> None:
    found = alignment(make_network(noise=0.1), examples(200), repeats=4)
    for layer in found.layers:
        assert layer.ceiling < 0.9
        assert layer.cosine == pytest.approx(layer.ceiling, abs=0.03)


def test_alignment_costs_what_it_says_and_leaves_the_network_as_it_was() -> None:
    network, x = make_network(noise=0.01), examples(10)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    before = passes_so_far(network)
    found = alignment(network, x, directions=3, repeats=4)
    spent = passes_so_far(network) - before
    assert spent == found.device_passes == alignment_passes(network, 10, directions=3, repeats=4)
    assert spent == 10 * (3 + 1) + 2 * 3 * 4 * 10 * 2
    assert network.training
    assert all(torch.equal(state[name], value) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_alignment_needs_twins_examples_and_repeats() -> None:
    untwinned = nn.Sequential(PhysicalLayer(Toy(12, 2), None, ideal))
    with pytest.raises(TwinError, match="has none"):
        alignment(untwinned, examples())
    with pytest.raises(TwinError, match="has none"):
        alignment(nn.Linear(12, 2), examples())
    with pytest.raises(RangeError, match="at least one"):
        alignment(make_network(), examples()[:0])
    with pytest.raises(RangeError, match="repeats is 1; it must be at least 2"):
        alignment(make_network(), examples(), repeats=1)


# --- confusion ------------------------------------------------------------------------------------


def test_the_matrix_counts_each_example_once_and_knows_who_is_behind_a_cell() -> None:
    x = torch.eye(3)[[0, 0, 1, 2, 2, 2]]  # the network names the element that is 1
    labels = torch.tensor([0, 1, 1, 0, 2, 0])
    found = confusion(nn.Identity(), SimpleNamespace(x=x, targets=labels), ["a", "b", "c"])
    assert found.matrix.tolist() == [[1, 0, 2], [1, 1, 0], [0, 0, 1]]
    assert found.matrix.dtype == np.int64
    assert found.members(0, 2).tolist() == [3, 5]
    assert found.members(0, 1).tolist() == []
    assert found.accuracy == 3 / 6
    assert found.predicted.tolist() == [0, 0, 1, 2, 2, 2]
    assert found.classes == ("a", "b", "c")
    assert found.device_passes == 0


def test_a_class_that_no_example_has_keeps_its_row_and_column() -> None:
    given = SimpleNamespace(x=torch.eye(4)[:2], targets=torch.tensor([0, 1]))
    found = confusion(nn.Identity(), given)
    assert found.matrix.shape == (4, 4)
    assert found.classes == ("0", "1", "2", "3")


def test_confusion_is_that_of_the_device_or_of_the_twin() -> None:
    network = nn.Sequential(
        PhysicalLayer(Toy(2, 2, 0.0, 0.0), ToyTwin(2, 2, -1.1), physics_aware, theta=THETA)
    )
    given = SimpleNamespace(x=torch.eye(2), targets=torch.tensor([0, 1]))
    with on_device(network):
        real = confusion(network, given)
    with on_twin(network):
        modelled = confusion(network, given)
    assert (real.accuracy, real.device_passes) == (1.0, 2)
    assert (modelled.accuracy, modelled.device_passes) == (0.0, 0)
    assert modelled.matrix.tolist() == [[0, 1], [1, 0]]


THETA = torch.tensor([1.0, 0.0, 0.0, 1.0])  # weights +1 and -1: each input names itself


def test_names_must_fit_and_there_must_be_examples() -> None:
    given = SimpleNamespace(x=torch.eye(2), targets=torch.tensor([0, 1]))
    with pytest.raises(ShapeError, match="3 names for 2 classes"):
        confusion(nn.Identity(), given, ["a", "b", "c"])
    with pytest.raises(ShapeError, match="at least one"):
        confusion(nn.Identity(), SimpleNamespace(x=torch.zeros(0, 2), targets=torch.zeros(0)))


# --- all of it, while a training goes on ----------------------------------------------------------


def test_looking_changes_nothing_about_the_training() -> None:
    """Weights, statistics and dropout of a training that is looked at after every other step."""

    def make_training() -> Training:
        torch.manual_seed(0)
        network = nn.Sequential(make_network(), nn.Dropout(0.2))
        split = SimpleNamespace(x=examples(60), targets=torch.arange(60) % 3)
        return Training(
            network,
            SimpleNamespace(train=split, validation=split),
            FitSettings(epochs=2, batch_size=10, evaluations=1),
        )

    alone, watched = make_training(), make_training()
    torch.manual_seed(1)  # of the dropout
    losses = [record.loss for record in alone.records()]
    network, x = watched.network, examples(4)
    looks: list[Future[Any]] = []

    def looking() -> Iterator[Record]:
        for record in watched.records():
            if record.step % 2:
                looks.append(session.do("alignment", lambda: alignment(network, x)))
                looks.append(session.do("confusion", lambda: confusion(network, watched.train)))
                looks.append(session.do("drift", lambda: take_references(network, x)))
            yield record

    torch.manual_seed(1)
    session = Session(Scripted(looking(), training=watched))
    session.start().join()
    assert [look.exception() for look in looks] == [None] * 18
    assert session.curves().loss.tolist() == losses
    for name, value in alone.network.state_dict().items():
        assert torch.equal(value, network.state_dict()[name]), name
    assert watched.device_passes > alone.device_passes
