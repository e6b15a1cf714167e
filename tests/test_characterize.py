"""Characterization: devices whose noise, memory and drift are known give them back."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from runners import full_disk
from torch import Tensor
from toy import Toy

from pnnlab import characterize
from pnnlab.errors import DataError, RangeError
from pnnlab.physical_system import PhysicalSystem

TAPS = torch.tensor([1.0, 0.5, 0.25, -0.1, 0.05])


class Filter(PhysicalSystem):
    """A finite impulse response with a gain, theta, that drifts with the shots, and with noise."""

    def __init__(self, width: int = 40, noise: float = 0.0, ramp: float = 0.0) -> None:
        super().__init__(width, 1, width)
        self.noise, self.ramp = noise, ramp
        self.generator = torch.Generator().manual_seed(0)

    def _measure(self, x: Tensor, theta: Tensor) -> Tensor:
        padded = torch.nn.functional.pad(x, (len(TAPS) - 1, 0))
        y = padded.unfold(1, len(TAPS), 1) @ TAPS.flip(0).to(x.dtype)
        gain = theta + self.ramp * torch.arange(self.passes, self.passes + len(x))[:, None]
        return gain * y + self.noise * torch.randn(y.shape, generator=self.generator, dtype=y.dtype)


def drives(shots: int, width: int, seed: int = 1) -> Tensor:
    return torch.rand(shots, width, generator=torch.Generator().manual_seed(seed))


def test_repeatability_finds_the_noise_and_the_signal() -> None:
    system = Filter(noise=0.02)
    seen = characterize.repeatability(system, drives(200, 40), torch.ones(1), repeats=10)
    scatter = 0.02 / math.sqrt(2 * 9 * 200 * 40)
    assert abs(float(seen.noise_floor) - 0.02) < 5 * scatter
    # Outputs from the fifth on add up five uniform numbers of variance 1/12; the first one less.
    shares = torch.cumsum(TAPS.square(), 0)
    variance = (shares.sum() + (40 - len(TAPS)) * shares[-1]) / 40 / 12
    assert float(seen.signal) == pytest.approx(float(variance.sqrt()), rel=0.03)
    assert float(seen.signal_to_noise) == pytest.approx(float(seen.signal / seen.noise_floor))
    assert float(seen.nmse_floor) == pytest.approx(0.02**2 / float(variance), rel=0.05)
    assert dict(seen.sizes) == {"shot": 200, "output": 40}
    assert seen["mean"].attrs["units"] == "1"
    assert seen.attrs["device_passes"] == system.passes == 2000
    assert seen.attrs["system"] == "filter"
    assert seen.attrs["time_utc"].endswith("+00:00")


def test_noise_is_not_taken_for_signal() -> None:
    same = drives(1, 40).expand(500, 40)
    seen = characterize.repeatability(Filter(noise=0.02), same, torch.ones(1), repeats=2)
    assert float(seen.signal) < 0.3 * 0.02 / math.sqrt(2)


def test_a_device_without_noise_has_an_infinite_signal_to_noise() -> None:
    seen = characterize.repeatability(Filter(), drives(4, 40), torch.ones(1), repeats=2)
    assert float(seen.noise_floor) == 0
    assert float(seen.signal_to_noise) == math.inf


def test_nmse_is_one_for_the_mean_and_the_floor_is_the_noises_share() -> None:
    y = torch.randn(2, 1000, 7, generator=torch.Generator().manual_seed(0)).double()
    assert characterize.nmse(y[0].mean(0).expand_as(y[0]), y[0]) == pytest.approx(1)
    assert characterize.nmse(y[0], y[0]) == 0
    truth = 3 * y[0]
    noisy = truth + torch.randn(8, 1000, 7, generator=torch.Generator().manual_seed(1)).double()
    reached = characterize.nmse(truth.expand_as(noisy), noisy)
    assert reached == pytest.approx(characterize.nmse_floor(noisy), rel=0.02)
    assert reached == pytest.approx(1 / 10, rel=0.05)
    assert math.isnan(characterize.nmse_floor(noisy[:1]))


def test_response_curves_sweep_one_element_and_leave_the_others() -> None:
    x = torch.full((40,), 0.5)
    seen = characterize.response_curves(
        Filter(), x, torch.full((1,), 0.8), inputs=[3], parameters=[0], points=5, repeats=2
    )
    assert list(seen.element.values) == ["x[3]", "theta[0]"]
    curve = seen["mean"].sel(element="x[3]", output=4)
    rest = 0.5 * float(TAPS.sum() - TAPS[1])
    np.testing.assert_allclose(curve, 0.8 * (rest + 0.5 * curve.value.values), rtol=1e-6)
    gain = seen["mean"].sel(element="theta[0]", output=39)
    np.testing.assert_allclose(gain, 0.5 * float(TAPS.sum()) * gain.value, rtol=1e-6)
    assert float(seen.deviation.max()) == 0


def test_memory_is_as_long_as_the_impulse_response() -> None:
    seen = characterize.memory(Filter(), drives(3, 40), torch.ones(1), elements=[0, 9], repeats=2)
    assert int(seen.length) == len(TAPS)
    np.testing.assert_allclose(seen.response[:5], TAPS.abs(), atol=1e-6)
    np.testing.assert_allclose(seen.jacobian[1, 9:14], TAPS.abs(), atol=1e-6)
    assert float(seen.jacobian[1, :9].max()) == 0
    assert seen.attrs["limited_by"] == "fraction"
    forgotten = characterize.memory(Filter(), drives(3, 40), torch.ones(1), fraction=0.08)
    assert int(forgotten.length) == 4  # the last tap is 5 % of the largest


def test_memory_says_when_noise_ended_it() -> None:
    noisy = Filter(noise=0.2)
    seen = characterize.memory(noisy, drives(4, 40), torch.ones(1), elements=[5], repeats=4)
    assert int(seen.length) < len(TAPS)
    assert seen.attrs["limited_by"] == "noise"
    patient = characterize.memory(noisy, drives(100, 40), torch.ones(1), repeats=40)
    assert int(patient.length) == len(TAPS)
    assert patient.attrs["device_passes"] == 100 * 40 * 2 * len(patient.element)


def test_memory_counts_in_input_elements_when_outputs_are_fewer() -> None:
    class Echo(PhysicalSystem):
        """Each output is the mean of two inputs."""

        def _measure(self, x: Tensor, theta: Tensor) -> Tensor:
            return x.view(len(x), -1, 2).mean(2)

    seen = characterize.memory(Echo(12, 0, 6), drives(2, 12), torch.ones(0), elements=[4, 5])
    np.testing.assert_allclose(seen.response[:2], 0.5, atol=1e-6)  # element 5, then element 4
    assert int(seen.length) == 2


def test_drift_tells_slow_change_from_noise() -> None:
    x, theta = torch.full((40,), 0.5), torch.full((1,), 0.5)
    still = characterize.drift(Filter(noise=0.1), x, theta, shots=20_000, every=500)
    assert float(still.noise) == pytest.approx(0.1, rel=0.01)
    assert float(still.drift) < 0.1 / math.sqrt(500)
    moving = characterize.drift(Filter(noise=0.1, ramp=1e-5), x, theta, shots=20_000, every=500)
    settled = 0.5 * TAPS.cumsum(0)
    reach = torch.cat([settled, settled[-1:].expand(35)]).square().mean().sqrt()
    ramp = 1e-5 * 500 * torch.arange(40.0).std() * reach
    assert float(moving.drift) == pytest.approx(float(ramp), rel=0.05)
    assert moving.shots.values[-1] == 20_000


@pytest.mark.parametrize("smooth", [1.0, 16.0])
def test_random_drives_are_uniform_whether_white_or_slow(smooth: float) -> None:
    x = characterize.random_drives(4000, 64, smooth, torch.Generator().manual_seed(0))
    assert 0 <= float(x.min()) <= float(x.max()) <= 1
    counts = torch.histc(x, 10, 0, 1) / x.numel()
    assert float((counts - 0.1).abs().max()) < (0.003 if smooth == 1 else 0.02)
    neighbours = torch.corrcoef(torch.stack([x[:, 3], x[:, 4]]))[0, 1]
    assert (abs(float(neighbours)) < 0.06) == (smooth == 1)


def test_collected_data_are_labelled_repeated_and_split() -> None:
    system = Toy()
    data = characterize.collect(system, 600, seed=3)
    assert data["y"].dims == ("repeat", "shot", "output")
    assert dict(data.sizes) == {"shot": 600, "input": 6, "parameter": 36, "repeat": 2, "output": 6}
    assert data.attrs["device_passes"] == system.passes == 1200
    parts = {name: characterize.shots(data, name) for name in ("train", "validation", "test")}
    assert [len(part) for part in parts.values()] == [480, 60, 60]
    assert parts["test"].y.shape == (2, 60, 6)
    assert torch.equal(parts["test"].x[0], torch.from_numpy(data["x"].values[9]))
    again = characterize.collect(Toy(), 600, seed=3)
    xr.testing.assert_equal(again, data)
    assert not np.array_equal(characterize.collect(Toy(), 600, seed=4)["x"], data["x"])


def test_parameters_can_be_kept() -> None:
    theta = torch.rand(36)
    data = characterize.collect(Toy(), 300, seed=0, theta=theta)
    assert data["theta"].dims == ("parameter",)
    train = characterize.shots(data, "train")
    assert torch.equal(train.theta, theta.expand(240, -1))


def test_a_collection_that_is_stopped_keeps_what_it_measured(tmp_path: Path) -> None:
    def stop(done: int, asked: int) -> None:
        if done >= 512:
            raise KeyboardInterrupt

    path = tmp_path / "toy.nc"
    with pytest.raises(KeyboardInterrupt):
        characterize.collect(Toy(), 4000, seed=3, progress=stop, path=path)
    kept = characterize.load(path)
    assert kept.sizes["shot"] == 512
    assert kept.attrs["device_passes"] == 1024
    whole = characterize.collect(Toy(), 600, seed=3)
    np.testing.assert_array_equal(kept["x"], whole["x"][:512])


def test_data_sets_survive_the_disk(tmp_path: Path) -> None:
    data = characterize.collect(Toy(), 20, seed=0)
    path = characterize.save(data, tmp_path / "new folder" / "toy.nc")
    back = characterize.load(path)
    assert back.identical(data)
    assert characterize.shots(back, "test").y.dtype == torch.float32
    assert [p.name for p in path.parent.iterdir()] == ["toy.nc"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    data = characterize.collect(Toy(), 20, seed=0)
    path = characterize.save(data, tmp_path / "toy.nc")

    with full_disk(), pytest.raises(DataError, match=r"No space left.*free some space"):
        characterize.save(data.isel(shot=slice(3)), path)
    assert characterize.load(path).identical(data)
    assert [p.name for p in tmp_path.iterdir()] == ["toy.nc"]


def test_a_process_killed_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    data = characterize.collect(Toy(), 20, seed=0)
    path = characterize.save(data, tmp_path / "toy.nc")
    killed = (
        "import os, signal, sys, pathlib\n"
        "from pnnlab import characterize\n"
        "pathlib.Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "data = characterize.load(sys.argv[1])\n"
        "characterize.save(data.isel(shot=slice(3)), sys.argv[1])\n"
    )
    done = subprocess.run([sys.executable, "-c", killed, str(path)], check=False)
    assert done.returncode == -9
    assert characterize.load(path).identical(data)


def test_files_that_are_not_ours_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="measure it"):
        characterize.load(tmp_path / "missing.nc")
    good = characterize.save(characterize.collect(Toy(), 200, seed=0), tmp_path / "toy.nc")
    torn = tmp_path / "torn.nc"
    torn.write_bytes(good.read_bytes()[:9000])
    (tmp_path / "text.nc").write_text("no netCDF", encoding="utf-8")
    xr.Dataset({"a": 1}).to_netcdf(tmp_path / "foreign.nc", engine="h5netcdf")
    for name in ("torn.nc", "text.nc", "foreign.nc"):
        with pytest.raises(DataError, match=r"no checksum .* of another program, .* measure it"):
            characterize.load(tmp_path / name)
    with pytest.raises(DataError, match="cannot be written"):
        characterize.save(characterize.load(good), good / "below a file.nc")


def test_bad_requests_are_refused_before_anything_is_driven() -> None:
    system, x, theta = Filter(), drives(4, 40), torch.ones(1)
    with pytest.raises(RangeError, match="repeats is 1"):
        characterize.repeatability(system, x, theta, repeats=1)
    with pytest.raises(RangeError, match="swept elements is 0"):
        characterize.response_curves(system, x[0], theta)
    with pytest.raises(RangeError, match="must be at least 2"):
        characterize.drift(system, x[0], theta, shots=1000, every=1000)
    with pytest.raises(RangeError, match="smooth"):
        characterize.collect(system, 10, seed=0, smooth=0.5)
    with pytest.raises(RangeError, match="n is 0"):
        characterize.collect(system, 0, seed=0)
    assert system.passes == 0
    seen = characterize.repeatability(system, x, theta, repeats=2)
    with pytest.raises(DataError, match="no random drives"):
        characterize.shots(seen, "train")
    few = characterize.collect(system, 5, seed=0)
    with pytest.raises(DataError, match="no test shots"):
        characterize.shots(few, "test")
