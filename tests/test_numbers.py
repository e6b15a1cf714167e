"""What both forms of a figure show, computed once: held against what is known beforehand."""

import numpy as np
import pytest
import torch
import xarray as xr
from toy import Toy

from pnnlab import characterize, twins
from pnnlab.characterize import Shots
from pnnlab.twins import GradientAgreement, Mlp, NeuralTwin, TwinReport
from pnnlab.views import numbers


def judged(x: torch.Tensor, y: torch.Tensor, modelled: torch.Tensor) -> TwinReport:
    nothing = torch.zeros(1, 1)
    return TwinReport(
        system="toy",
        twin="twin",
        shots=len(x),
        nmse=0.0,
        ceiling=characterize.noise_ceiling(y),
        verdict="usable",
        gradient=GradientAgreement(
            cosine=1.0,
            ceiling=1.0,
            relative_error=0.0,
            device=nothing,
            twin=nothing,
            device_passes=0,
        ),
        gap=None,
        held=Shots(x, x, y),
        modelled=modelled,
    )


@pytest.fixture(scope="module")
def noisy() -> TwinReport:
    """A perfect twin of a device with noise of 0.03, and errors where the last input is high."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2000, 3, generator=generator)
    noise = 0.03 * torch.randn(2, 2000, 2, generator=generator)
    wrong = 0.2 * (x[:, 2:] > 0.875)
    return judged(x, x[:, :2] + noise, x[:, :2] + wrong)


def test_a_few_of_many() -> None:
    assert numbers.spread(5, 10).tolist() == [0, 1, 2, 3, 4]
    assert numbers.spread(101, 5).tolist() == [0, 25, 50, 75, 100]
    assert numbers.some(3, 5).tolist() == [0, 1, 2]
    chosen = numbers.some(64_000, 1000)
    assert len(np.unique(chosen)) == 1000
    assert len(np.unique(chosen % 64)) == 64  # a stride of 64 would show one output only
    assert chosen.tolist() == numbers.some(64_000, 1000).tolist()


def test_the_liveliest_outputs_come_first() -> None:
    mean = xr.DataArray(
        [[0.0, 0.0, 0.0], [0.1, 1.0, 0.5]], dims=("value", "output"), coords={"output": [4, 5, 6]}
    )
    assert numbers.liveliest(mean, "value", 2) == [5, 6]


def test_noise_at_levels_finds_noise_that_grows() -> None:
    level = np.linspace(0, 1, 1200).reshape(60, 20)
    dims = ("shot", "output")
    seen = xr.Dataset({"mean": (dims, level), "deviation": (dims, 0.1 * level)})
    at, size = numbers.noise_at_levels(seen)
    assert len(at) == 12
    assert np.allclose(size, 0.1 * at, atol=0.003)


def test_noise_is_that_of_one_read_out(noisy: TwinReport) -> None:
    assert noisy.noise.shape == (2,)
    assert numbers.noise(noisy) == pytest.approx(0.03, rel=0.05)
    single = judged(noisy.held.x, noisy.held.y[:1], noisy.modelled)
    assert single.noise.isnan().all()
    assert numbers.noise(single) == 0


def test_residuals_are_found_where_they_are(noisy: TwinReport) -> None:
    rms, shots = numbers.residual_by_input(noisy)
    assert shots.sum(1).tolist() == [2000] * 3
    assert np.allclose(rms[2, :7], 0.03, rtol=0.1)
    assert rms[2, 7] == pytest.approx(0.2, rel=0.1)
    assert rms[:2].max() < 0.1  # the other inputs have no part in it
    assert numbers.residual_by_output(noisy) == pytest.approx([0.077, 0.077], rel=0.1)
    still = judged(torch.ones(4, 1), torch.zeros(1, 4, 2), torch.ones(4, 2))
    rms, shots = numbers.residual_by_input(still)
    assert np.isnan(rms[0, :7]).all()
    assert (rms[0, 7], shots[0, 7]) == (1, 4)


def test_the_distribution_of_residuals_is_a_density(noisy: TwinReport) -> None:
    perfect = judged(noisy.held.x, noisy.held.y, noisy.held.x[:, :2])
    seen = numbers.distribution(perfect)
    assert (seen.density * np.diff(seen.edges)).sum() == pytest.approx(0.99, abs=0.002)
    middle = (seen.edges[1:] + seen.edges[:-1]) / 2
    noise_alone = np.interp(middle, seen.grid, seen.normal)
    assert np.abs(seen.density - noise_alone).max() < 0.2 * seen.normal.max()
    same = judged(noisy.held.x, noisy.held.x[None, :, :2], noisy.held.x[:, :2])
    assert numbers.distribution(same).grid.size == 0


def test_gaps_are_those_that_can_be_chained() -> None:
    system = Toy(inputs=3, outputs=2)
    data = characterize.collect(system, 20, seed=0)
    report = twins.report(system, NeuralTwin(system, Mlp((4,))), data)
    with pytest.raises(ValueError, match="can be chained"):
        numbers.chained([report])
