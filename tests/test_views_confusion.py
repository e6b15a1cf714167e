"""The confusion matrix without a browser: a cell that is opened shows its inputs."""

import numpy as np
import pytest
import torch
from hands import share

from pnnlab.errors import ShapeError
from pnnlab.training import Confusion
from pnnlab.views.confusion_view import SHOWN, ConfusionView
from pnnlab.views.style import Picture

LABELS = np.array([0, 0, 1, 1, 1, 2])
NAMED = np.array([0, 1, 1, 1, 0, 2])


def found() -> Confusion:
    return Confusion(targets=LABELS, predicted=NAMED, classes=("a", "b", "c"), device_passes=6)


def test_a_cell_shows_the_inputs_behind_it() -> None:
    x = torch.arange(6)[:, None] / 10 + torch.zeros(6, 64)
    view = ConfusionView(found(), x)
    assert view.title == "66.7 % of 6 right on the device"
    assert view.matrix == [[1, 1, 0], [1, 2, 0], [0, 0, 1]]
    assert (view.picked, view.values) == ({}, b"")
    share(view, cell=[1, 1])
    assert view.picked["title"] == "2 examples of b, named rightly"
    assert (view.picked["height"], view.picked["width"]) == (8, 8)
    assert view.picked["examples"] == [2, 3]
    assert view.values == bytes([51] * 64 + [76] * 64)
    share(view, cell=[0, 1])
    assert view.picked["title"] == "1 example of a, taken for b"
    share(view, cell=[])
    assert view.picked == {}


def test_inputs_that_are_no_images_are_curves_and_many_are_some() -> None:
    many = 100
    confused = Confusion(
        targets=np.zeros(many, np.int64),
        predicted=np.zeros(many, np.int64),
        classes=("only",),
        device_passes=0,
    )
    view = ConfusionView(confused, torch.rand(many, 12), where="twin")
    share(view, cell=[0, 0])
    assert (view.picked["height"], view.picked["width"], view.picked["of"]) == (0, 12, many)
    assert len(view.values) == 12 * SHOWN
    assert view.title.endswith("on the twin")


def test_another_matrix_keeps_the_cell_open() -> None:
    view = ConfusionView(found(), torch.zeros(6, 4))
    share(view, cell=[1, 0])
    view.show(found(), torch.ones(6, 4), "twin")
    assert view.cell == [1, 0]
    assert view.values == b"\xff" * 4
    with pytest.raises(ShapeError, match="6 examples were named and x holds 5"):
        view.show(found(), torch.zeros(5, 4))


def test_the_still_form_says_the_same() -> None:
    view = ConfusionView(found(), torch.zeros(6, 4))
    picture = view.figure()
    assert isinstance(picture, Picture)
    (axes,) = picture.figure.axes
    assert [text.get_text() for text in axes.texts] == ["1", "1", "1", "2", "1"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c"]
    assert axes.get_xlabel() == "named class"
