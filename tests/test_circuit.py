"""The circuit: its equations against exact answers, its units, and the conformance suite."""

import itertools
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from conformance import SystemConformance

from pnnlab.errors import RangeError, ShapeError
from pnnlab.systems import Circuit
from pnnlab.systems.circuit import (
    IDEAL,
    CircuitConstants,
    CircuitImperfections,
    fabricate,
    oscillate,
)

ALL_EFFECTS = replace(
    IDEAL, drive_time_constant=0.59, channel_capacitance=0.3, heating=0.5, heating_time=20.0
)


class TestConformance(SystemConformance):
    def make_system(self):
        return Circuit(3, input_dim=24, replays=3, output_dim=12)


class TestConformanceWithoutNoise(SystemConformance):
    def make_system(self):
        return Circuit(1, input_dim=16, replays=2, output_dim=8, noise=False, drift=False)


class TestConformanceReshaped(SystemConformance):
    def make_system(self):
        return Circuit(0, input_dim=24, replays=3, output_dim=12).reprogrammed(
            replays=4, output_dim=6
        )


@pytest.fixture
def drive():
    generator = torch.Generator().manual_seed(0)
    return 4 * torch.rand(40, 5, generator=generator, dtype=torch.float64) - 2


@pytest.mark.parametrize("effects", [IDEAL, ALL_EFFECTS], ids=["nominal", "all effects"])
def test_adjoint_agrees_with_finite_differences(drive, effects):
    u = drive[:12, :3].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda u: oscillate(u, CircuitConstants(), effects), (u,))


def test_integrator_converges_with_fourth_order(drive):
    exact = oscillate(drive, CircuitConstants(), substeps=128)
    errors = [
        float((oscillate(drive, CircuitConstants(), substeps=n) - exact).abs().max())
        for n in (8, 16, 32)
    ]
    orders = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert all(3.7 < order < 4.3 for order in orders), orders


def test_default_step_is_accurate(drive):
    exact = oscillate(drive, CircuitConstants(), substeps=128)
    error = (oscillate(drive, CircuitConstants()) - exact).square().mean().sqrt()
    assert error < 5e-4


def test_without_the_transistor_it_is_the_linear_rlc_loop(drive):
    """A step of a linear loop has a closed form; the read-out is inverted to see the voltage."""
    constants = replace(CircuitConstants(), g=0.0, v_t=-50.0, s=1e-6, a=1e-4)
    u = torch.full((60, 1), 1.3, dtype=torch.float64)
    y = oscillate(u, constants, substeps=16)
    q2 = y / (constants.a * (1 - y))
    voltage = q2.sqrt() - 50.0
    t = torch.arange(1, 61, dtype=torch.float64)
    damping = constants.w_l * constants.r / 2
    ringing = math.sqrt(constants.w_l * constants.w_c - damping**2)
    decay = torch.exp(-damping * t)
    exact = 1.3 * (
        1 - decay * (torch.cos(ringing * t) + damping / ringing * torch.sin(ringing * t))
    )
    assert torch.allclose(voltage[:, 0], exact, atol=1e-6)


def test_lossless_loop_conserves_energy():
    """With neither resistor nor transistor a released loop keeps i²/w_l... + v²/w_c for ever."""
    constants = replace(CircuitConstants(), g=0.0, r=0.0, v_t=-50.0, s=1e-6, a=1e-4)
    u = torch.zeros(400, 1, dtype=torch.float64)
    u[0] = 2.0
    y = oscillate(u, constants, substeps=32)
    voltage = (y / (constants.a * (1 - y))).sqrt() - 50.0
    early, late = voltage[:100].abs().max(), voltage[300:].abs().max()
    assert late == pytest.approx(float(early), rel=2e-3)
    assert early > 0.5


def test_settled_loop_balances_source_resistor_and_transistor():
    """After a long constant drive: u = v + r g q(v)²."""
    constants = CircuitConstants()
    y = float(oscillate(torch.full((400, 1), 1.5, dtype=torch.float64), constants)[-1])
    q = math.sqrt(y / (constants.a * (1 - y)))
    z = q - constants.s**2 / (4 * q)
    v = z + constants.v_t
    assert v + constants.r * constants.g * q * q == pytest.approx(1.5, abs=1e-9)


def test_a_slow_generator_only_delays_a_constant_drive():
    u = torch.full((400, 1), 1.5, dtype=torch.float64)
    fast = oscillate(u, CircuitConstants())
    slow = oscillate(u, CircuitConstants(), replace(IDEAL, drive_time_constant=0.59))
    assert (slow[:4] < fast[:4]).all()
    assert slow[-1] == pytest.approx(float(fast[-1]), abs=1e-9)


def test_single_and_double_precision_agree(drive):
    single = oscillate(drive.float(), CircuitConstants())
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), oscillate(drive, CircuitConstants()), atol=2e-5)


def test_units_differ_within_tolerance_and_a_unit_is_always_the_same():
    nominal = np.array(list(asdict(CircuitConstants()).values()))
    first, again, second = (
        np.array(list(asdict(fabricate(unit, 0.1)).values())) for unit in (0, 0, 1)
    )
    assert (first == again).all()
    assert (first != second).sum() == 6  # all but the knee
    ratio = first / nominal
    assert (abs(ratio[:5] - 1) < 0.112).all()
    half = np.array(list(asdict(fabricate(0, 0.05)).values()))
    assert np.allclose((half / nominal)[2:5] - 1, (ratio[2:5] - 1) / 2)
    assert fabricate(5, 0.0) == CircuitConstants()


def test_a_perfect_unit_is_its_equations():
    """No tolerance, no parasitics, no noise: what is left is the converter's 8 bits."""
    from pnnlab.systems.multiplex import drive, segment_means

    perfect = CircuitImperfections(
        drive_time_constant=0.0, stray_capacitance=0.0, channel_capacitance=0.0, heating=0.0
    )
    system = Circuit(
        0,
        input_dim=16,
        replays=2,
        output_dim=8,
        tolerance=0.0,
        noise=False,
        drift=False,
        imperfections=perfect,
    )
    x, theta = torch.rand(7, 16), torch.rand(64)
    expected = segment_means(oscillate(drive(x, theta, 2), CircuitConstants()), 8)
    assert (system(x, theta) - expected).abs().max() < 1.1 / 255


def test_noise_has_the_size_of_the_data_sheet():
    system = Circuit(0, input_dim=16, replays=1, output_dim=16, drift=False)
    x, theta = torch.rand(1, 16).expand(4000, -1), torch.full((32,), 0.8)
    spread = system(x, theta).std(0)
    converter = 1.1 / 255 / math.sqrt(12)
    assert float(spread.mean()) == pytest.approx(math.hypot(0.006, converter), rel=0.05)


def test_a_circuit_without_noise_in_its_parts_still_answers():
    system = Circuit(0, input_dim=4, output_dim=4, imperfections=CircuitImperfections(noise=0.0))
    assert system(torch.rand(3, 4), torch.rand(32)).isfinite().all()


def test_impossible_circuits_are_refused():
    with pytest.raises(ShapeError, match="equal segments"):
        Circuit(0, input_dim=10, replays=3, output_dim=7)
    with pytest.raises(RangeError, match="unit"):
        Circuit(-1)
    with pytest.raises(RangeError, match="tolerance"):
        Circuit(0, tolerance=1.5)
