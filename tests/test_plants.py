"""Plants: the conformance suite, the physics against exact answers, identification, the law."""

import math
import time
from dataclasses import astuple, replace
from functools import partial

import numpy as np
import pytest
import torch
from plant_conformance import PlantConformance
from torch import Tensor

from pnnlab.errors import DeviceError, PlantError, RangeError, ReadoutError, ShapeError
from pnnlab.plants import Motor, Pendulum, Plant, PlantLimits, motor, pendulum
from pnnlab.plants.law import identify, regulator
from pnnlab.plants.plant import SUBSTEPS, integrate
from pnnlab.training.closed_loop import roll_out

NOMINAL = pendulum.PendulumConstants()
EXACT = {Pendulum: pendulum.IDEAL, Motor: motor.IDEAL}


class TestPendulum(PlantConformance):
    def make_plant(self) -> Plant:
        return Pendulum(unit=1)

    def command(self, plant: Plant, state: Tensor) -> Tensor:
        gains = state.new_tensor([[-7.5], [-63.0], [-3.0], [-5.6]])
        return -(state @ gains).clamp(-6, 6)


class TestMotor(PlantConformance):
    def make_plant(self) -> Plant:
        return Motor(unit=1)


class Treadmill(Plant):
    """A plant in real time, of one row, whose computer takes ``thinks`` seconds a step."""

    quantities = ("place (m)",)
    commands = ("speed (m/s)",)
    step_s = 0.05

    def __init__(self) -> None:
        super().__init__(PlantLimits(command=1.0, state=(2.0,), moves=0.5))
        self.calls: list[str] = []

    def _reset(self, seeds: list[int]) -> Tensor:
        self.place = torch.full((1, 1), 0.01 * seeds[0])
        return self.place

    def _step(self, command: Tensor) -> Tensor:
        self.calls.append("step")
        self.place = self.place + self.step_s * command
        return self.place

    def _stop(self) -> None:
        self.calls.append("stop")


class TestTreadmill(PlantConformance):
    """A plant as a real one is, so that the suite holds for those."""

    simulated = False

    def make_plant(self) -> Plant:
        return Treadmill()


def test_a_step_that_comes_late_stops_the_plant_first() -> None:
    plant = Treadmill()
    plant.reset([0])
    time.sleep(2 * plant.step_s)
    plant.calls.clear()
    with pytest.raises(PlantError, match=r"0\.05 s are meant"):
        plant.step(torch.zeros(1, 1))
    assert plant.calls == ["stop"]


def test_a_driver_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    plant = Treadmill()
    plant.reset([0])
    monkeypatch.setattr(plant, "_step", lambda _: 1 / 0)
    with pytest.raises(DeviceError, match=r"ZeroDivisionError.*was stopped"):
        plant.step(torch.zeros(1, 1))
    assert plant.calls[-1] == "stop"


@pytest.mark.parametrize("answer", [torch.full((1, 1), float("nan")), torch.zeros(1, 2)])
def test_what_is_no_state_is_refused(monkeypatch: pytest.MonkeyPatch, answer: Tensor) -> None:
    plant = Treadmill()
    plant.reset([0])
    monkeypatch.setattr(plant, "_step", lambda _: answer)
    with pytest.raises(ReadoutError, match="see to its sensors"):
        plant.step(torch.zeros(1, 1))
    assert plant.calls[-1] == "stop"


def test_a_real_plant_begins_from_one_seed_at_a_time() -> None:
    plant = Treadmill()
    with pytest.raises(RangeError, match="1 at most"):
        plant.reset([0, 1])
    found = roll_out(torch.nn.Linear(1, 1), plant, [3, 7], steps=2)
    assert found.states[0, :, 0].tolist() == pytest.approx([0.03, 0.07])
    assert found.states.shape == (3, 2, 1)
    assert plant.calls[-1] == "stop"


@pytest.mark.parametrize(
    "limits",
    [
        {"command": 0.0, "state": (1.0,), "moves": 0.5},
        {"command": 1.0, "state": (0.0,), "moves": 0.5},
        {"command": 1.0, "state": (1.0,), "moves": 2.0},
        {"command": 1.0, "state": (1.0,), "moves": 0.5, "late": 1.0},
        {"command": 1.0, "state": (1.0,), "moves": 0.5, "frozen": 0},
    ],
)
def test_limits_that_protect_nothing_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(RangeError):
        PlantLimits(**limits)


@pytest.mark.parametrize("given", [{"tolerance": 0.5}, {"spread": 0.0}, {"spread": 0.6}])
def test_a_pendulum_that_cannot_be_is_refused(given: dict[str, float]) -> None:
    with pytest.raises(RangeError, match="give a fraction"):
        Pendulum(**given)


@pytest.mark.parametrize("delay", [-1, SUBSTEPS + 1])
def test_a_delay_that_is_not_simulated_is_refused(delay: int) -> None:
    with pytest.raises(RangeError, match="a whole step"):
        motor.MotorImperfections(delay=delay)


def energy(state: Tensor) -> Tensor:
    """Of arm and rod, J, upright and at rest: 0."""
    c = NOMINAL
    _, rod, arm_rate, rod_rate = state.unbind(1)
    half, inertia = c.rod_length / 2, c.rod_mass * c.rod_length**2 / 3
    arm_inertia = c.arm_mass * c.arm_length**2 / 3 + c.rod_mass * c.arm_length**2
    kinetic = 0.5 * (arm_inertia + inertia * rod.sin() ** 2) * arm_rate**2
    kinetic = kinetic + 0.5 * inertia * rod_rate**2
    kinetic = kinetic + c.rod_mass * c.arm_length * half * rod.cos() * arm_rate * rod_rate
    return kinetic + c.rod_mass * pendulum.GRAVITY * half * (rod.cos() - 1)


def test_without_friction_and_motor_the_energy_stays() -> None:
    """Over three seconds of swinging all round, and to the fourth power of the step."""
    free = replace(NOMINAL, motor=0.0, arm_damping=0.0, rod_damping=0.0)
    start = torch.tensor([[0.1, 0.3, 1.0, -2.0]], dtype=torch.float64)
    drift = []
    for parts in (1, 2):
        state, seconds = start, 0.01 / SUBSTEPS / parts
        for _ in range(300 * SUBSTEPS * parts):
            state = integrate(
                lambda s: pendulum.accelerate(s, torch.zeros(1), free), state, seconds
            )
        drift.append(abs(float(energy(state) - energy(start))))
    assert abs(float(state[0, 1])) > 1
    assert drift[0] < 1e-5 * float(energy(start).abs())
    assert drift[0] > 8 * drift[1]


def test_the_upright_rod_falls_at_the_rate_of_the_linearised_equations() -> None:
    """With the arm held still the rod is a pendulum of length 2 l / 3: exp(t sqrt(3 g / 2 L))."""
    held = replace(NOMINAL, arm_mass=1e6, motor=0.0, arm_damping=0.0, rod_damping=0.0)
    zeros = torch.zeros(1, 4, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(
        lambda s: pendulum.accelerate(s, torch.zeros(1), held), zeros
    )[0, :, 0]
    largest = float(torch.linalg.eigvals(jacobian).real.max())
    assert largest == pytest.approx(math.sqrt(1.5 * 9.81 / NOMINAL.rod_length), rel=1e-5)


def test_the_eigenvalues_upright_are_those_of_the_matrix_of_the_equations() -> None:
    c = NOMINAL
    half, inertia = c.rod_length / 2, c.rod_mass * c.rod_length**2 / 3
    arm = (c.arm_mass / 3 + c.rod_mass) * c.arm_length**2
    coupling = c.rod_mass * c.arm_length * half
    mass = np.array([[arm, coupling], [coupling, inertia]])
    stiffness = np.diag([0.0, -c.rod_mass * 9.81 * half])
    damping = np.diag([c.arm_damping + c.motor**2 / c.resistance, c.rod_damping])
    inverse = np.linalg.inv(mass)
    matrix = np.block([[np.zeros((2, 2)), np.eye(2)], [-inverse @ stiffness, -inverse @ damping]])
    zeros = torch.zeros(1, 4, dtype=torch.float64)
    found = torch.autograd.functional.jacobian(
        lambda s: pendulum.accelerate(s, torch.zeros(1), c), zeros
    )[0, :, 0]
    assert np.allclose(found.numpy(), matrix, rtol=1e-10)


def test_a_motor_ends_at_the_speed_that_its_constants_give() -> None:
    c = Motor.nominal
    state = torch.zeros(1, 4, dtype=torch.float64)
    for _ in range(300):
        state = Motor.advance(state, torch.full((1, 1), 2.0), c)
    back = c.gear * c.motor
    speed = c.efficiency * back * 2 / c.resistance
    speed /= c.efficiency * back**2 / c.resistance + c.damping
    assert state[0, 2:].tolist() == pytest.approx([speed, speed], rel=1e-6)


def test_backlash_lets_the_motor_move_alone_and_a_contact_never_pulls() -> None:
    parts = replace(motor.IDEAL, play=0.01)
    c = Motor.nominal

    def load_acceleration(*state: float) -> float:
        given = torch.tensor([state], dtype=torch.float64)
        return float(motor.accelerate(given, torch.zeros(1), c, parts)[0, 3])

    assert load_acceleration(0.009, 0.0, 1.0, 0.0) == 0
    assert load_acceleration(0.02, 0.0, 0.0, 0.0) == pytest.approx(c.stiffness * 0.01 / c.load)
    assert load_acceleration(-0.02, 0.0, 0.0, 0.0) == pytest.approx(-c.stiffness * 0.01 / c.load)
    assert load_acceleration(0.011, 0.0, -30.0, 0.0) == 0


@pytest.mark.parametrize("kind", EXACT)
def test_a_perfect_copy_does_what_its_twin_says(kind) -> None:
    plant = kind(unit=2, imperfections=EXACT[kind])
    state = plant.reset(range(3))
    for step in range(5):
        command = torch.full((3, 1), 0.3 * step)
        expected = kind.advance(state.double(), command.double(), plant.constants)
        state = plant.step(command)
        assert torch.allclose(state.double(), expected, atol=1e-5)


@pytest.mark.parametrize("kind", EXACT)
def test_the_adjoint_of_a_twin_is_its_difference_quotient(kind) -> None:
    advance = partial(kind.advance, constants=kind.nominal)
    state = torch.tensor([[0.2, 0.3, 1.0, -2.0]], dtype=torch.float64, requires_grad=True)
    command = torch.tensor([[1.5]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(advance, (state, command))


def test_built_copies_differ_within_their_tolerance() -> None:
    one, other = Pendulum(0).constants, Pendulum(1).constants
    assert one != other
    for built in (one, other):
        factors = np.array(astuple(built)) / np.array(astuple(NOMINAL))
        assert (np.abs(factors - 1) <= 0.1).all()
    assert Pendulum(3, tolerance=0.0).constants == NOMINAL


def test_the_encoder_counts_and_the_dead_zone_is_dead() -> None:
    state = Pendulum(0).reset([5])
    turns = state[:, :2].double() * 2048 / math.tau
    assert torch.allclose(turns, turns.round(), atol=1e-3)
    idle, weak = Motor(0), Motor(0)
    idle.reset([1])
    weak.reset([1])
    assert torch.equal(idle.step(torch.zeros(1, 1)), weak.step(torch.full((1, 1), 0.1)))
    assert not torch.equal(idle.step(torch.zeros(1, 1)), weak.step(torch.full((1, 1), 3.0)))


def test_a_push_changes_the_rate_of_the_rod_alone() -> None:
    plant, pushed = (Pendulum(0, imperfections=pendulum.IDEAL) for _ in range(2))
    plant.reset([1])
    pushed.reset([1])
    pushed.push(torch.tensor([0.5], dtype=torch.float64))
    change = (pushed.step(torch.zeros(1, 1)) - plant.step(torch.zeros(1, 1)))[0]
    assert float(change[3]) == pytest.approx(0.5, rel=0.05)
    assert float(change[1]) == pytest.approx(0.005, rel=0.05)


def test_the_law_is_the_closed_form_of_one_state() -> None:
    """s' = a s + b u: K = a b P / (r + b² P), with P the root of its Riccati equation."""
    a, b, q, r = 1.1, 0.5, 2.0, 3.0
    gain = float(regulator(lambda s, u: a * s + b * u, (q,), (r,)))
    half = (q * b**2 + r * (a**2 - 1)) / 2
    p = (half + math.sqrt(half**2 + q * r * b**2)) / b**2
    assert gain == pytest.approx(a * b * p / (r + b**2 * p), rel=1e-12)


def test_the_law_holds_the_linearised_pendulum() -> None:
    advance = partial(Pendulum.advance, constants=NOMINAL)
    gains = regulator(advance, (5.0, 1.0, 0.1, 0.05), (0.05,))
    zeros = torch.zeros(1, 4, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    by_state, by_command = torch.autograd.functional.jacobian(advance, zeros)
    a, b = by_state[0, :, 0], by_command[0, :, 0]
    assert float(torch.linalg.eigvals(a).abs().max()) > 1.1
    assert float(torch.linalg.eigvals(a - b @ gains).abs().max()) < 1
    with pytest.raises(ShapeError, match="give one each"):
        regulator(lambda s, u: torch.cat([s, u], 1), (1.0, 1.0), (1.0,))


@pytest.mark.parametrize("kind", EXACT)
def test_identification_finds_what_a_perfect_copy_does(kind) -> None:
    """Products of constants are found, not each alone, so the predictions are compared."""
    plant = kind(unit=3, imperfections=EXACT[kind])
    random = torch.Generator().manual_seed(0)
    states, commands, inside = [plant.reset(range(8))], [], [plant.inside]
    for _ in range(15):
        commands.append(4 * torch.rand(8, 1, generator=random) - 2)
        states.append(plant.step(commands[-1]))
        inside.append(plant.inside)
    recorded = torch.stack(states), torch.stack(commands), torch.stack(inside)
    found = identify(kind.advance, kind.nominal, *recorded, tolerance=1.0)

    def error(constants) -> float:
        last = kind.advance(states[-2].double(), commands[-1].double(), constants)
        return float((last - states[-1]).abs().max())

    assert error(found) < 0.01 * error(kind.nominal)
    with pytest.raises(ShapeError, match="record longer ones"):
        identify(kind.advance, kind.nominal, *recorded, ahead=16)
