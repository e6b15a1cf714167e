"""Noise and drift, alone and in every built system that has both."""

import math

import numpy as np
import pytest
import torch

from pnnlab.errors import RangeError, ShapeError
from pnnlab.systems import SHG, Circuit, Plate
from pnnlab.systems.units import Drift, RandomStream

each_built_system = pytest.mark.parametrize(
    ("make", "what", "drifting", "half_a_memory"),
    [
        (Circuit, "a circuit", "warmth", 500_000),
        (Plate, "a plate", "warmth", 25_000),
        (SHG, "an SHG bench", "misalignment", 500_000),
    ],
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_batch_has_the_numbers_of_its_shots(dtype):
    together, one_by_one = RandomStream(3, 1), RandomStream(3, 1)
    rows = together.rows(4, 7, dtype)
    assert torch.from_numpy(rows).dtype == dtype
    assert np.array_equal(rows, np.concatenate([one_by_one.rows(1, 7, dtype) for _ in range(4)]))
    assert not np.array_equal(rows, RandomStream(3, 2).rows(4, 7, dtype))


def test_noise_goes_on_from_a_state():
    noise = RandomStream(0)
    noise.number()
    saved = noise.state()
    expected = noise.number()
    other = RandomStream(5)
    other.restore(saved)
    assert other.number() == expected


def test_a_drift_has_its_size_and_forgets_in_its_time():
    drift = Drift(0, size=2.0, time=100.0, on=True)
    values = []
    for _ in range(20_000):
        drift.pass_shots(20)
        values.append(drift.value)
    path = np.array(values[100:])
    assert path.std() == pytest.approx(2.0, rel=0.06)
    later = np.corrcoef(path[:-5], path[5:])[0, 1]  # a hundred shots apart
    assert later == pytest.approx(np.exp(-1), abs=0.06)


def test_many_small_steps_are_as_far_as_one_large():
    def spread(steps: int) -> float:
        ends = []
        for seed in range(600):
            drift = Drift(seed, size=1.0, time=100.0, on=True)
            for _ in range(steps):
                drift.pass_shots(60 // steps)
            ends.append(drift.value)
        return float(np.std(ends))

    expected = np.sqrt(1 - np.exp(-1.2))
    assert spread(1) == pytest.approx(expected, rel=0.1)
    assert spread(6) == pytest.approx(expected, rel=0.1)


def test_a_drift_that_is_off_stays():
    drift = Drift(0, size=1.0, time=10.0, on=False)
    drift.pass_shots(1000)
    assert drift.value == 0


def test_streams_that_are_off_are_silent_and_go_on_as_they_were():
    off = RandomStream(3, 1, on=False)
    before = off.state()
    assert not off.rows(4, 7, torch.float32).any()
    assert off.state() == before


def drive(system):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(3, system.input_dim, generator=generator)
    return system(x, torch.rand(system.param_dim, generator=generator))


@each_built_system
def test_a_unit_wanders_slowly_and_as_far_as_said(make, what, drifting, half_a_memory):
    system = make(0, noise=False)
    values = []
    for _ in range(4000):
        system._drift.pass_shots(half_a_memory)
        values.append(float(system.state()[drifting]))
    assert np.std(values) == pytest.approx(1.0, rel=0.1)
    assert np.corrcoef(values[:-1], values[1:])[0, 1] == pytest.approx(math.exp(-0.5), abs=0.06)
    drive(system)
    step = abs(float(system.state()[drifting]) - values[-1])
    assert 0 < step < 5 * math.sqrt(3 / half_a_memory)  # of three shots


@each_built_system
def test_drift_moves_the_answer(make, what, drifting, half_a_memory):
    astray, straight = (make(0, noise=False) for _ in range(2))
    astray.restore({**astray.state(), drifting: 3.0})
    assert (drive(astray) - drive(straight)).abs().max() > 1e-3


@each_built_system
def test_programmes_of_one_unit_share_its_noise_and_its_drift(make, what, drifting, half_a_memory):
    first = make(0)
    replays = {} if make is SHG else {"replays": 2}  # which light does not need
    second = first.reprogrammed(input_dim=12, output_dim=4, **replays)
    before = first.state()
    drive(second)
    after = first.state()
    assert after == second.state()
    assert all(after[key] != before[key] for key in (drifting, "read_out", "room"))
    assert first.passes == 0


@each_built_system
def test_a_programme_of_no_inputs_is_refused(make, what, drifting, half_a_memory):
    replays = {} if make is SHG else {"replays": 2}
    with pytest.raises(ShapeError, match="input_dim is 0"):
        make(0).reprogrammed(input_dim=0, output_dim=4, **replays)


@each_built_system
def test_a_state_of_another_unit_is_refused(make, what, drifting, half_a_memory):
    system = make(0)
    before = system.state()
    with pytest.raises(RangeError, match="with unit 1, and here is one with unit 0"):
        system.restore(make(1).state())
    with pytest.raises(RangeError, match=f"no state of {what}: unit"):
        system.restore({"something": 1})
    with pytest.raises(RangeError, match=f"no state of {what}: room is missing"):
        system.restore({key: value for key, value in before.items() if key != "room"})
    assert system.state() == before
