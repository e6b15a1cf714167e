"""Moved, mirrored and shrunk images, against scipy's affine transform and by hand."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from pnnlab.errors import RangeError, ShapeError
from pnnlab.tasks import Split, augmented, flipped, images, shrunk


@pytest.fixture
def blobs():
    """Smooth spots away from the edge, 28 by 28 pixels, each at another place."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:28, :28]
    centres = random.uniform(10, 17, (12, 2, 1, 1))
    x = np.exp(-((rows - centres[:, 0]) ** 2 + (columns - centres[:, 1]) ** 2) / 12)
    return Split(torch.tensor(x, dtype=torch.float32).flatten(1), torch.arange(12))


def centroids(x):
    """Rows and columns of the centres of mass, (n, 2), from the middle of the image."""
    images = x.double().view(len(x), 28, 28)
    places = torch.arange(28) - 13.5
    total = images.sum((1, 2))
    return torch.stack(
        [(images.sum(2) * places).sum(1) / total, (images.sum(1) * places).sum(1) / total], 1
    )


def test_the_originals_come_first_and_each_copy_differs(blobs):
    grown = augmented(blobs, 2)
    assert len(grown) == 36
    assert torch.equal(grown.x[:12], blobs.x)
    assert torch.equal(grown.targets, blobs.targets.repeat(3))
    assert not torch.equal(grown.x[12:24], grown.x[24:])
    assert grown.x.min() >= 0
    assert grown.x.max() <= 1


def test_a_seed_sets_the_copies_and_the_chunks_do_not(blobs, monkeypatch):
    whole = augmented(blobs, 2, seed=3)
    assert torch.equal(whole.x, augmented(blobs, 2, seed=3).x)
    assert not torch.equal(whole.x, augmented(blobs, 2, seed=4).x)
    monkeypatch.setattr(images, "_CHUNK", 5)
    assert torch.allclose(whole.x, augmented(blobs, 2, seed=3).x, atol=1e-6)


def test_zero_copies_are_the_images(blobs):
    assert torch.equal(augmented(blobs, 0).x, blobs.x)


def test_copies_are_moved_as_scipy_moves_them(blobs):
    """The same turn, scale and shift in scipy's pixels, rows before columns."""
    numbers = torch.tensor([[0.9, 0.2, 0.8, 0.1]]).expand(12, 4)
    maps = images._affine_maps(numbers, 15.0, (0.1, 0.05), (0.9, 1.1))
    moved = images._moved(blobs.x.view(-1, 1, 28, 28), maps)[:, 0]
    angle, magnification = math.radians(12), 0.94
    shift = np.array([0.05 * -0.8 * 28, 0.1 * 0.6 * 28])  # rows, columns
    cos, sin = math.cos(angle) / magnification, math.sin(angle) / magnification
    matrix = np.array([[cos, -sin], [sin, cos]])
    middle = np.full(2, 13.5)
    offset = middle - matrix @ (middle + shift)
    for image, expected in zip(moved, blobs.x.view(-1, 28, 28), strict=True):
        theirs = ndimage.affine_transform(expected.numpy(), matrix, offset, order=1)
        assert np.abs(image.numpy() - theirs).max() < 2e-3


def test_shifts_stay_within_what_was_asked_for(blobs):
    """Neither turned nor scaled, the default moves upright only, by at most 1.4 pixels."""
    grown = augmented(blobs, 20, rotation=0, scale=(1, 1))
    moved = (centroids(grown.x[12:]).view(20, 12, 2) - centroids(blobs.x)).abs()
    assert moved[..., 1].max() < 1e-3
    assert 1.2 < moved[..., 0].max() < 1.41


def test_turns_and_scales_stay_within_what_was_asked_for(blobs):
    grown = augmented(blobs, 20, shift=(0, 0))
    before, after = centroids(blobs.x), centroids(grown.x[12:]).view(20, 12, 2)
    far = before.norm(dim=1) > 2
    ratio = after[:, far].norm(dim=2) / before[far].norm(dim=1)
    assert 0.88 < ratio.min() < 0.93
    assert 1.07 < ratio.max() < 1.12
    turned = torch.atan2(after[..., 0], after[..., 1]) - torch.atan2(before[:, 0], before[:, 1])
    degrees = torch.rad2deg(torch.remainder(turned + math.pi, 2 * math.pi) - math.pi)[:, far]
    assert 13 < degrees.abs().max() < 15.2
    assert degrees.abs().mean() == pytest.approx(7.5, abs=1)


def test_copies_are_moved_before_they_are_shrunk(blobs):
    large, small = (augmented(blobs, 1, side=side) for side in (28, 14))
    assert torch.allclose(shrunk(large, 14).x, small.x, atol=1e-6)
    sampled = augmented(blobs, 1, side=14, subsample=True)
    assert torch.allclose(shrunk(large, 14, subsample=True).x, sampled.x, atol=1e-6)
    assert not torch.allclose(sampled.x, small.x, atol=1e-3)


def test_mirror_images_exchange_left_and_right(blobs):
    both = flipped(blobs)
    assert torch.equal(both.x[:12], blobs.x)
    assert torch.equal(both.targets, blobs.targets.repeat(2))
    before, after = centroids(blobs.x), centroids(both.x[12:])
    assert torch.allclose(after, before * torch.tensor([1.0, -1.0]), atol=1e-5)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda s: augmented(s, -1), RangeError, "copies is -1"),
        (lambda s: augmented(s, 1, scale=(0, 1)), RangeError, "above 0"),
        (lambda s: augmented(s, 1, side=9), RangeError, "28, 14, 7, 4, 2 or 1"),
        (lambda s: shrunk(s, 0), RangeError, "side is 0"),
        (lambda s: flipped(Split(s.x[:, 1:], s.targets)), ShapeError, "783"),
    ],
)
def test_what_cannot_be_done_is_refused(blobs, call, error, message):
    with pytest.raises(error, match=message):
        call(blobs)
