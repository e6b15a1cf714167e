"""A device seen from its two cables answers as it does in shots."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pnnlab.instruments.programme import (
    CableProgramme,
    CircuitProgramme,
    PlateProgramme,
    Programme,
)
from pnnlab.physical_system import PhysicalSystem
from pnnlab.systems import Circuit, Plate, circuit, plate
from pnnlab.systems.analog import AnalogPorts, cable


def perfect_circuit() -> tuple[PhysicalSystem, AnalogPorts, Programme]:
    parts = circuit.CircuitImperfections(jitter=0.0, noise=0.0, codes=2**40, drive_codes=0)
    board = Circuit(
        3, input_dim=20, replays=2, output_dim=10, drift=False, noise=False, imperfections=parts
    )
    return board, board.analog_ports(), CircuitProgramme(20, 2, 10)


def perfect_plate() -> tuple[PhysicalSystem, AnalogPorts, Programme]:
    parts = replace(plate.PlateImperfections(), codes=0)
    built = Plate(
        3, input_dim=30, replays=2, output_dim=6, drift=False, noise=False, imperfections=parts
    )
    return built, built.analog_ports(), PlateProgramme(30, 2, 6)


@pytest.mark.parametrize("make", [perfect_circuit, perfect_plate])
def test_shots_in_one_long_record_are_the_shots_of_the_simulated_system(make):
    system, ports, programme = make()
    random = torch.Generator().manual_seed(0)
    x = torch.rand(4, system.input_dim, generator=random, dtype=torch.float64)
    theta = torch.rand(system.param_dim, generator=random, dtype=torch.float64)
    each = programme.samples + programme.rest
    drive = np.zeros((4, each))
    drive[:, : programme.samples] = programme.encode(x, theta)
    answer = ports.respond(drive.ravel()).reshape(4, each)[:, : programme.samples]
    found, expected = programme.decode(torch.from_numpy(answer)), system(x, theta)
    assert programme.param_dim == system.param_dim
    # What the first shot leaves behind when the second begins: the rest is long enough.
    assert (found[0] - expected[0]).abs().max() < 1e-9
    assert (found - expected).abs().max() < 2e-3 * expected.std()


@pytest.mark.parametrize("make", [perfect_circuit, perfect_plate])
def test_the_drift_of_a_record_is_that_of_its_duration(make):
    still, _, programme = make()
    kind = type(still)
    one, other = kind(0, noise=False), kind(0, noise=False)
    seconds = (circuit if kind is Circuit else plate).SHOT_S
    samples = round(5 * seconds * programme.sample_rate_hz)
    one.analog_ports().respond(np.zeros(samples))
    other(torch.rand(5, other.input_dim), torch.rand(other.param_dim))
    ours, theirs = one.state()["warmth"], other.state()["warmth"]
    assert ours == pytest.approx(theirs)  # five shots' time has passed for both
    assert ours != 0


@pytest.mark.parametrize("make", [perfect_circuit, perfect_plate])
def test_a_nominal_device_is_what_the_programme_expects(make):
    _, ports, programme = make()
    drive = programme.drive_v * np.random.default_rng(0).uniform(-0.8, 0.8, 200)
    expected, found = programme.expected(drive), ports.respond(drive)
    assert np.corrcoef(expected, found)[0, 1] > 0.8


def test_a_cable_gives_back_what_it_is_given():
    x = torch.rand(3, 7)
    programme = CableProgramme(7)
    volts = programme.encode(x, torch.zeros(0)).numpy()
    answer = cable(1e-6).respond(volts[0].astype(float))
    assert torch.allclose(programme.decode(torch.from_numpy(volts)), x, atol=1e-6)
    assert np.allclose(answer, volts[0])


@pytest.mark.parametrize("seed", [0, 1])
def test_noise_of_the_room_is_heard_over_a_plate_alone(seed):
    silence = np.zeros(500)
    hiss = Plate(0, seed=seed).analog_ports().respond(silence)
    assert hiss.std() == pytest.approx(plate.PlateImperfections().noise, rel=0.1)
    assert not Circuit(0, seed=seed).analog_ports().respond(silence).std() > 1e-3


@pytest.mark.parametrize("wrong", [(20, 3, 7), (0, 1, 1)])
def test_a_programme_that_cannot_be_read_out_is_refused(wrong):
    with pytest.raises(ValueError, match="cannot be read out"):
        CircuitProgramme(*wrong)
