import pytest
import torch

from pnnlab.systems.multiplex import drive, param_dim, segment_means


def test_each_replay_scales_and_offsets_the_input():
    x = torch.tensor([[0.0, 0.5, 1.0]])
    scale, offset = torch.tensor([[1.0, 0.5, 0.0], [0.75, 1.0, 1.0]]), torch.full((2, 3), 0.5)
    offset[1, 0] = 1.0
    theta = torch.cat([scale.flatten(), offset.flatten()])
    assert param_dim(3, 2) == len(theta)
    u = drive(x, theta, 2)
    assert u.flatten().tolist() == pytest.approx([0, 0, -1, 1.0, 0.5, 1.0])


def test_shared_and_individual_parameters_agree():
    x, theta = torch.rand(5, 7), torch.rand(param_dim(7, 3))
    assert torch.allclose(drive(x, theta, 3), drive(x, theta.expand(5, -1), 3))
    assert drive(x, theta, 3).shape == (21, 5)


def test_the_drive_stays_within_the_generator():
    for value in (0.0, 1.0):
        u = drive(torch.rand(100, 7), torch.full((42,), value), 3)
        assert u.abs().max() <= 2


def test_gradients_are_exact():
    x = torch.rand(3, 4, dtype=torch.float64, requires_grad=True)
    theta = torch.rand(16, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, t: segment_means(drive(x, t, 2), 4), (x, theta))


def test_segments_are_means_of_equal_stretches():
    wave = torch.arange(12.0).view(6, 2)
    assert segment_means(wave, 3).tolist() == [[1, 5, 9], [2, 6, 10]]
