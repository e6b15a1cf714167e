"""Strokes become images as a task's own are: sized, placed, and read by a classifier of these."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from pnnlab.demos.inputs import (
    FULL_FRAME,
    MNIST_FRAME,
    OPTICAL_FRAME,
    Drawing,
    drawing_for,
    inked,
)
from pnnlab.errors import DataError, RangeError, ShapeError
from pnnlab.tasks import digits
from pnnlab.tasks.task import Split, Task


def arc(x: float, y: float, rx: float, ry: float, begin: float, end: float) -> list[list[float]]:
    """Points of an ellipse; angles in turns, clockwise from the right."""
    angle = 2 * np.pi * np.linspace(begin, end, 24)
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], 1).tolist()


# As a visitor draws them: not in the middle, and smaller than the pad.
DRAWN = {
    0: [arc(0.4, 0.5, 0.15, 0.25, 0, 1)],
    1: [[[0.42, 0.3], [0.5, 0.2], [0.5, 0.8]]],
    2: [[*arc(0.5, 0.35, 0.15, 0.15, 0.5, 1.1), [0.35, 0.75], [0.68, 0.75]]],
    3: [[*arc(0.5, 0.33, 0.14, 0.13, 0.55, 1.2), *arc(0.5, 0.62, 0.17, 0.16, 0.75, 1.42)]],
    4: [[[0.42, 0.2], [0.33, 0.55], [0.68, 0.55]], [[0.58, 0.35], [0.55, 0.85]]],
    6: [[[0.58, 0.2], [0.42, 0.45], *arc(0.5, 0.65, 0.12, 0.14, 0.5, 1.5)]],
    7: [[[0.3, 0.25], [0.65, 0.25], [0.45, 0.8]]],
    8: [[*arc(0.5, 0.35, 0.12, 0.13, 0.25, 1.25), *arc(0.5, 0.63, 0.15, 0.15, 0.75, 1.75)]],
}


@pytest.mark.parametrize("drawn", DRAWN.values())
def test_a_drawing_is_sized_and_placed_as_in_mnist(drawn):
    image = inked(drawn)
    assert image.shape == (28, 28)
    assert image.min() == 0
    assert image.max() == 1
    rows, columns = np.nonzero(image > 0.2)
    longer = max(np.ptp(rows), np.ptp(columns)) + 1
    assert 19 <= longer <= 21
    y, x = np.indices(image.shape) + 0.5
    assert (image * x).sum() / image.sum() == pytest.approx(14, abs=0.1)
    assert (image * y).sum() / image.sum() == pytest.approx(14, abs=0.1)
    assert 0.04 < image.mean() < 0.2, "MNIST's mean is 0.13"


def test_where_and_how_large_it_was_drawn_does_not_matter():
    one = inked(DRAWN[3])
    moved = inked([0.1 + 0.4 * np.asarray(stroke) for stroke in DRAWN[3]])
    assert np.abs(one - moved).mean() < 0.01


def test_a_dot_stays_a_dot():
    image = inked([[[0.9, 0.9]]])
    assert 2 <= (image > 0.5).sum() <= 9
    assert image[13:15, 13:15].min() > 0.5


def test_drawn_digits_are_read_by_a_classifier_of_the_task():
    task = digits()
    nearest = KNeighborsClassifier(3).fit(task.train.x.numpy(), task.train.targets.numpy())
    drawing = drawing_for(task)
    assert drawing is not None
    x = torch.stack([drawing.features(strokes) for strokes in DRAWN.values()])
    assert x.shape == (len(DRAWN), 64)
    assert x.min() >= 0
    assert x.max() <= 1
    read = nearest.predict(x.numpy())
    assert np.sum(read == list(DRAWN)) >= len(DRAWN) - 1, read.tolist()


@pytest.mark.parametrize(
    ("name", "side", "frame"),
    [
        ("mnist", 14, MNIST_FRAME),
        ("mnist-5000", 28, MNIST_FRAME),
        ("digits", 8, OPTICAL_FRAME),
        ("fashion-mnist", 28, FULL_FRAME),
    ],
)
def test_a_task_says_how_to_draw_for_it(name, side, frame):
    none = Split(torch.zeros(1, side**2), torch.zeros(1, dtype=torch.int64))
    task = Task(name, none, none, none, 10, side, "")
    drawing = drawing_for(task)
    assert drawing is not None
    assert drawing.frame == frame
    assert drawing.features(DRAWN[0]).shape == (side**2,)
    assert drawing_for(Task("vowels", none, none, none, 7, None, "")) is None


def test_pixels_are_averaged_or_picked_as_the_task_was():
    whole = Drawing(side=28).features(DRAWN[2]).view(28, 28)
    averaged = Drawing(side=14).features(DRAWN[2]).view(14, 14)
    picked = Drawing(side=14, subsample=True).features(DRAWN[2]).view(14, 14)
    torch.testing.assert_close(averaged, whole.view(14, 2, 14, 2).mean((1, 3)))
    assert torch.equal(picked, whole[::2, ::2])


def test_features_in_an_order_of_their_own_are_seen_as_an_image_again():
    order = torch.randperm(196, generator=torch.Generator().manual_seed(0))
    plain, ordered = Drawing(side=14), Drawing(side=14, order=order)
    x = ordered.features(DRAWN[4])
    assert torch.equal(x, plain.features(DRAWN[4])[order])
    np.testing.assert_array_equal(ordered.image(x), plain.image(plain.features(DRAWN[4])))
    np.testing.assert_allclose(plain.image(plain.features(DRAWN[4])).max(), 1, atol=0.05)


def test_what_cannot_be_drawn_says_why():
    with pytest.raises(DataError, match="draw a stroke first"):
        inked([])
    with pytest.raises(ShapeError, match=r"\(3,\)"):
        inked([[1.0, 2.0, 3.0]])
    with pytest.raises(RangeError, match="28 pixels can be shrunk to"):
        Drawing(side=10)
    with pytest.raises(ShapeError, match="each of the 196 pixels once"):
        Drawing(side=14, order=torch.zeros(196, dtype=torch.int64))
