"""A loudspeaker and a microphone in a room: exact answers, and the conformance suite."""

import numpy as np
import pytest
import torch
from conformance import SystemConformance
from torch import Tensor

from pnnlab.errors import RangeError, ShapeError
from pnnlab.instruments.programme import SoundProgramme
from pnnlab.systems import Room
from pnnlab.systems.room import (
    DRIVE,
    RoomConstants,
    RoomImperfections,
    delayed,
    distort,
    pulses,
    read_out,
    response,
    reverberate,
)

PERFECT = RoomImperfections(sag=0.0, skew=0.0, noise=0.0, person=0.0)


class TestConformance(SystemConformance):
    def moved(self, theta: Tensor) -> Tensor:
        return theta / 2  # energies do not tell a drive from its opposite

    def make_system(self):
        return Room(3, input_dim=16, replays=2, output_dim=5)


class TestConformanceWithoutNoise(TestConformance):
    def make_system(self):
        return Room(3, input_dim=9, replays=1, output_dim=4, noise=False)


class TestConformanceLinear(SystemConformance):
    def make_system(self):
        room = Room(2, linear=True, pulse=12).reprogrammed(replays=1, output_dim=5, input_dim=16)
        assert room.linear
        return room


def drive(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(*shape, generator=generator, dtype=torch.float64) - 1


def test_a_response_has_unit_energy_and_ends():
    for unit, tolerance in ((-1, 0.0), (0, 0.5), (7, 0.9)):
        taps = response(RoomConstants(), unit, tolerance)
        assert len(taps) == RoomConstants().length == 1440
        assert np.square(taps).sum() == pytest.approx(1)


def test_reflections_decay_by_60_dB_in_the_reverberation_time():
    taps = response(RoomConstants(reverberation_s=0.2, low_hz=1.0), 1, 0.9)
    energy = np.square(taps[1:9596]).reshape(-1, 101).sum(1)  # 2.1 ms each
    slope = np.polyfit(np.arange(len(energy)) * 101 / 48e3, 10 * np.log10(energy), 1)[0]
    assert slope == pytest.approx(-60 / 0.2, rel=0.15)


def test_units_share_what_the_tolerance_leaves_them():
    first, second = (response(RoomConstants(), unit, 0.5)[20:] for unit in (0, 1))
    assert np.corrcoef(first, second)[0, 1] == pytest.approx(1 - 0.5**2, abs=0.1)
    assert (response(RoomConstants(), 4, 0.0) == response(RoomConstants())).all()


def test_a_number_is_a_pulse_inside_the_band_and_neighbours_overlap():
    alone = pulses(torch.ones(1, 1, dtype=torch.float64), 8)[0]
    assert alone[8] == alone.abs().max() == 1
    spectrum = np.abs(np.fft.rfft(alone.numpy(), 4800))  # 10 Hz each
    inside = np.square(spectrum[300:900]).sum() / np.square(spectrum).sum()
    assert inside > 0.92
    assert spectrum[0] < 1e-9  # no constant part
    many = pulses(torch.ones(50, 1, dtype=torch.float64), 8)[0]
    assert many.shape == (58 * 8,)
    assert many[16:300].abs().max() == pytest.approx(1)  # raised cosines sum up to one


def test_energies_are_quadratic_and_amplitudes_linear():
    first, second = (pulses(drive(20, 4, seed=s), 8) for s in (0, 1))
    for linear in (False, True):
        one, other, both, twice = (
            read_out(sound, 5, 8, linear=linear)
            for sound in (first, second, first + second, 2 * first)
        )
        assert torch.allclose(twice, (2 if linear else 4) * one)
        assert torch.allclose(both, one + other) == linear


def test_a_perfect_loudspeaker_changes_nothing_and_a_real_one_little():
    u = drive(3, 50)
    assert torch.equal(distort(u, PERFECT), u)
    real = RoomImperfections()
    tone = torch.cos(torch.arange(64, dtype=torch.float64) / 64 * 2 * np.pi * 4)
    lines = np.abs(np.fft.rfft(distort(tone, real).numpy())) / 32
    assert lines[8] == pytest.approx(real.skew / 2, rel=0.01)  # second harmonic
    assert lines[12] == pytest.approx(real.sag / 4, rel=0.15)  # third


def test_delays_are_exact_where_they_are_whole_and_linear_between():
    sound = drive(2, 30)
    later = delayed(sound, torch.tensor([[3.0], [0.0]], dtype=torch.float64))
    assert torch.equal(later[0, 3:], sound[0, :-3])
    assert not later[0, :3].any()
    assert torch.equal(later[1], sound[1])
    half = delayed(sound, torch.full((2, 30), 2.5, dtype=torch.float64))
    assert torch.allclose(half[:, 3:], (sound[:, 1:-2] + sound[:, :-3]) / 2)


def test_gradients_agree_with_finite_differences():
    taps = response(RoomConstants(reverberation_s=0.001))

    def answer(u: Tensor) -> Tensor:
        sound = reverberate(distort(pulses(u, 4), RoomImperfections()), taps)
        late = delayed(sound, torch.full((2, 1), 5.3, dtype=torch.float64))
        return read_out(sound + 0.1 * late, 3, 4)

    assert torch.autograd.gradcheck(answer, drive(6, 2).requires_grad_())


@pytest.mark.parametrize("linear", [False, True])
def test_shots_in_one_long_record_are_the_shots_of_the_simulated_system(linear):
    room = Room(3, input_dim=20, replays=2, output_dim=6, noise=False, drift=False, linear=linear)
    programme = SoundProgramme(20, 2, 6, linear=linear)
    x = torch.rand(4, 20, dtype=torch.float64)
    theta = torch.rand(room.param_dim, dtype=torch.float64)
    sound = np.zeros((4, programme.samples + programme.rest))
    sound[:, : programme.samples] = programme.encode(x, theta)
    heard = room.analog_ports().respond(sound.ravel()).reshape(sound.shape)
    found = programme.decode(torch.from_numpy(heard[:, : programme.samples].copy()))
    assert programme.param_dim == room.param_dim
    assert torch.allclose(found, room(x, theta), atol=1e-9)  # the rest is long enough


def test_noise_and_someone_who_walks_by_are_heard():
    parts = RoomImperfections()
    hiss = Room(0).analog_ports().respond(np.zeros(4000))
    assert hiss.std() == pytest.approx(parts.noise * DRIVE, rel=0.05)
    click = np.zeros(4000)
    click[0] = DRIVE
    quiet = RoomImperfections(noise=0.0)
    alone = Room(0, noise=False, imperfections=quiet, drift=False).analog_ports().respond(click)
    walked = Room(0, imperfections=quiet, drift=False).analog_ports().respond(click)
    back = np.abs(walked - alone)
    at = back.argmax()
    metres = at / 48e3 * 343 / 2
    assert 0.7 <= metres <= 3.0
    expected = parts.person * 0.05 / 2 / metres * DRIVE
    assert 0.4 * expected < back[at] < 1.2 * expected  # between two samples


def test_the_drift_of_a_record_is_that_of_its_duration():
    one, other = Room(0, noise=False), Room(0, noise=False)
    seconds = one.cost().seconds_per_pass
    one.analog_ports().respond(np.zeros(round(5 * seconds * 48e3)))
    other(torch.rand(5, 64), torch.rand(other.param_dim))
    assert one.state()["warmth"] == pytest.approx(other.state()["warmth"])


def test_a_programme_fits_a_measured_band_and_memory():
    fitted = SoundProgramme.within((300.0, 7000.0), 0.01, input_dim=8, replays=1, outputs=2)
    assert fitted.pulse == 11  # 4.4 kHz, from 2.2 to 6.5
    assert fitted.rest == 480
    assert SoundProgramme.within((300.0, 7000.0), 0.05).pulse == 28  # 2400 / 88
    with pytest.raises(RangeError, match="too narrow"):
        SoundProgramme.within((3000.0, 7000.0), 0.05)


@pytest.mark.parametrize("wrong", [{"output_dim": 300}, {"replays": 0}])
def test_what_cannot_be_read_out_is_refused(wrong):
    with pytest.raises(ShapeError, match="segments"):
        Room(**wrong)


def test_constants_that_are_no_room_are_refused():
    with pytest.raises(RangeError, match="reverberation_s"):
        RoomConstants(reverberation_s=0.0)
