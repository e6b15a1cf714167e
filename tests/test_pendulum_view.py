"""The pendula without a browser: what the page is given, and what a push changes."""

import math

import numpy as np
import pytest
import torch
from hands import share
from torch import Tensor, nn

from pnnlab.plants import Pendulum
from pnnlab.views import PendulumView
from pnnlab.views.style import Picture

GAINS = torch.tensor([[-7.55], [-63.34], [-2.96], [-5.6]])


class Law(nn.Module):
    """The regulator's law for scaled states, times a strength."""

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.strength = strength

    def forward(self, h: Tensor) -> Tensor:
        return -self.strength * ((2 * h - 1) * torch.tensor([2.0, 0.5, 50.0, 50.0])) @ GAINS


@pytest.fixture
def view() -> PendulumView:
    return PendulumView({"law": Law(1.0), "nothing": Law(0.0)}, Pendulum(0), seed=1, steps=150)


def test_one_stands_and_one_falls(view: PendulumView) -> None:
    assert view.names == ["law", "nothing"]
    assert view.stopped[0] == -1
    assert 10 < view.stopped[1] < 150
    law, nothing = view.angles()
    assert law.shape == (151, 3)
    assert np.abs(law[-50:, 1]).max() < 0.1
    assert np.abs(law[:, 2]).max() > 0.1
    assert not nothing[:, 2].any()


def test_a_rod_whose_motor_is_off_falls_as_its_twin_does(view: PendulumView) -> None:
    _, nothing = view.angles()
    stop = view.stopped[1]
    assert np.abs(nothing[:stop, 1]).max() <= 0.5 < abs(nothing[stop, 1])
    assert np.abs(nothing[stop:, 1]).max() > math.pi / 2
    second = np.diff(nothing[stop + 1 :, 1], 2) / 1e-4
    downhill = np.sin(nothing[stop + 2 : -1, 1])
    assert np.corrcoef(second, downhill)[0, 1] > 0.9


def test_a_push_comes_from_the_page_and_moves_all(view: PendulumView) -> None:
    before = view.angles().copy()
    share(view, push=2.0)
    after = view.angles()
    assert np.array_equal(after[:, :51], before[:, :51])
    kick = (after[0, 52, 1] - before[0, 52, 1]) / 0.02
    assert kick == pytest.approx(2.0, rel=0.25)
    share(view, push=0.0)
    assert np.array_equal(view.angles(), before)


@pytest.mark.parametrize(("sent", "taken"), [(100.0, 8.0), (-9.0, -8.0), (math.nan, 0.0)])
def test_a_page_cannot_push_harder_than_may_be(
    view: PendulumView, sent: float, taken: float
) -> None:
    share(view, push=sent)
    assert view.push == taken


def test_the_plant_stands_still_afterwards_and_the_network_is_as_it_was() -> None:
    plant, law = Pendulum(0), Law(1.0).train()
    PendulumView({"law": law}, plant, steps=60)
    assert not plant.inside.any()
    assert law.training


def test_its_still_picture_shows_both(view: PendulumView) -> None:
    picture = view.figure()
    assert isinstance(picture, Picture)
    _, rod, volts = picture.figure.axes
    assert [line.get_label() for line in rod.lines] == view.names
    assert len(rod.lines[1].get_xdata()) == view.stopped[1] + 1
    assert len(volts.lines) == 2


def test_another_start_is_another_fall() -> None:
    falls = [
        PendulumView({"nothing": Law(0.0)}, Pendulum(0), seed=seed).stopped[0] for seed in (1, 2)
    ]
    assert falls[0] != falls[1]
