"""A bench over real sockets is a physical system like any other, and trusts no shot blindly."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from conformance import SystemConformance
from torch import Tensor

from pnnlab.errors import InstrumentError, LimitError, RangeError
from pnnlab.instruments.bench import Bench, open_bench
from pnnlab.instruments.generator import Limits
from pnnlab.instruments.programme import CableProgramme, CircuitProgramme, PlateProgramme, Programme
from pnnlab.physical_system import PhysicalSystem
from pnnlab.systems import Circuit, Plate
from pnnlab.systems.analog import AnalogPorts, cable
from pnnlab.virtual_bench import VirtualBench, Wiring
from pnnlab.virtual_bench.generators import Emission

LIMITS = Limits(low_v=-10, high_v=10)


@contextmanager
def bench_of(
    ports: AnalogPorts, programme: Programme, limits: Limits = LIMITS, **virtual
) -> Iterator[Bench]:
    with (
        VirtualBench(ports, **virtual) as there,
        open_bench(
            there.generator, there.oscilloscope, programme, limits=limits, guarded=False
        ) as bench,
    ):
        yield bench


def circuit(**options) -> Circuit:
    return Circuit(3, input_dim=16, replays=2, output_dim=8, drift=False, **options)


class OnABench(SystemConformance):
    simulated = False

    @pytest.fixture(autouse=True)
    def _closing(self):
        self.opened = []
        yield
        for context in reversed(self.opened):
            context.__exit__(None, None, None)

    def enter(self, context):
        self.opened.append(context)
        return context.__enter__()


class TestCircuit(OnABench):
    def make_system(self) -> PhysicalSystem:
        return self.enter(bench_of(circuit().analog_ports(), CircuitProgramme(16, 2, 8)))


class TestPlate(OnABench):
    def moved(self, theta: Tensor) -> Tensor:
        return theta / 2  # energies do not tell a drive from its opposite

    def make_system(self) -> PhysicalSystem:
        plate = Plate(3, input_dim=16, replays=1, output_dim=4, drift=False)
        return self.enter(bench_of(plate.analog_ports(), PlateProgramme(16, 1, 4)))


@pytest.mark.parametrize("generator", ["keysight", "tektronix"])
@pytest.mark.parametrize("oscilloscope", ["keysight", "rigol"])
def test_a_circuit_on_a_bench_answers_as_the_simulated_one(generator, oscilloscope):
    system = circuit()
    torch.manual_seed(0)
    with (
        VirtualBench(
            circuit().analog_ports(), generator=generator, oscilloscope=oscilloscope
        ) as there,
        open_bench(
            there.generator,
            there.oscilloscope,
            CircuitProgramme(16, 2, 8),
            limits=LIMITS,
            delay_s=0.04e-6,  # of the virtual bench
            guarded=False,
        ) as bench,
    ):
        x, theta = torch.rand(40, 16), torch.rand(system.param_dim)
        on_bench, here, again = bench(x, theta), system(x, theta), system(x, theta)
    # Of one circuit and its noise, and of eight bits: 1.12 times, with a spread of 0.014.
    assert (on_bench - here).std() < 1.2 * (again - here).std()
    assert (on_bench - here).mean().abs() < 1e-3


def test_several_programmes_share_one_bench():
    with bench_of(circuit().analog_ports(), CircuitProgramme(16, 2, 8)) as first:
        second = first.reprogrammed(replays=4, output_dim=4)
        second(torch.rand(3, 16), torch.rand(second.param_dim))
        first(torch.rand(2, 16), torch.rand(first.param_dim))
        assert first.tally.shots == second.tally.shots == 5
        assert (first.passes, second.passes) == (2, 3)


def test_a_batch_that_memory_cannot_hold_goes_out_in_parts():
    with bench_of(cable(), CableProgramme(12), noise=False, delay_s=0.0) as bench:
        generator = bench._acquisition.generator
        generator.dialect = replace(generator.dialect, most_points=1150)
        assert bench._acquisition.at_once(12) < 20
        with pytest.raises(RangeError, match="into a record of 1150; use fewer replays"):
            bench._acquisition.at_once(1000)
        x = torch.rand(100, 12)
        half_a_code = 2.5 / 200 / 2 / 2  # of 200 on a screen of 2.5 V, where 2 V are 1
        assert (bench(x, torch.zeros(0)) - x).abs().max() < half_a_code + 1e-4
        assert bench.tally.shots == 100


def answers_of_equal_shots(bench: Bench) -> Tensor:
    x = torch.rand(1, 196, generator=torch.Generator().manual_seed(0)).expand(60, -1)
    return bench(x, torch.full((bench.param_dim,), 0.5))


@contextmanager
def circuit_bench() -> Iterator[tuple[VirtualBench, Bench]]:
    device = Circuit(0, noise=False, drift=False)
    with (
        VirtualBench(device.analog_ports(), noise=False) as there,
        open_bench(
            there.generator,
            there.oscilloscope,
            CircuitProgramme(),
            limits=Limits(-10, 10),
            guarded=False,
            delay_s=4e-8,
        ) as bench,
    ):
        yield there, bench


@pytest.mark.parametrize("ppm", [25, -60])
def test_clocks_that_part_are_noticed_and_followed(monkeypatch, ppm):
    """Each instrument has a crystal of its own, and the last shot of a batch is late."""

    def held(emission, *args):
        return play(replace(emission, rate_hz=emission.rate_hz * (1 + 1e-6 * ppm)), *args)

    with circuit_bench() as (_, bench):
        expected = answers_of_equal_shots(bench)
    play = Emission.held
    monkeypatch.setattr(Emission, "held", held)
    with circuit_bench() as (_, bench):
        found = answers_of_equal_shots(bench)
        assert bench.tally.retaken["record"] == 60
        assert torch.allclose(found, expected, atol=1e-6)
        again = answers_of_equal_shots(bench)
        assert bench.tally.retaken["record"] == 60
        assert torch.allclose(again, expected, atol=1e-6)


def test_a_clock_without_its_reference_is_told(monkeypatch):
    def held(emission, *args):
        return play(replace(emission, rate_hz=emission.rate_hz * (1 + 3e-4)), *args)

    play = Emission.held
    monkeypatch.setattr(Emission, "held", held)
    with (
        circuit_bench() as (_, bench),
        pytest.raises(InstrumentError, match="differ by more than 100 ppm"),
    ):
        answers_of_equal_shots(bench)


def test_a_record_that_is_late_is_told(monkeypatch):
    """By less than a sample it still resembles that of the self-check."""
    with circuit_bench() as (there, bench):
        answers_of_equal_shots(bench)
        there._delay_s += 0.7e-6
        with pytest.raises(InstrumentError, match=r"0\.7 samples late"):
            answers_of_equal_shots(bench)


@pytest.mark.parametrize(
    ("wiring", "told"),
    [
        (Wiring(connected=False), "nothing comes back"),
        (Wiring(inverted=True), "upside down"),
        (Wiring(probe=10.0), r"0\.(1|09\d) times as strong"),
        (Wiring(trigger=False), "trigger"),
        (Wiring(swapped=True), "nothing comes back"),
    ],
)
def test_the_self_check_says_what_is_wrong(wiring, told):
    with (
        pytest.raises(InstrumentError, match=told),
        bench_of(circuit().analog_ports(), CircuitProgramme(16, 2, 8), wiring=wiring),
    ):
        pass


def test_the_self_check_looks_at_the_other_channel():
    programme = CircuitProgramme(16, 2, 8)
    with (
        VirtualBench(circuit().analog_ports()) as there,
        pytest.raises(InstrumentError, match="the signal is on channel 1"),
    ):
        open_bench(
            there.generator,
            there.oscilloscope,
            programme,
            limits=LIMITS,
            channels=(1, 2),
            guarded=False,
        )


@pytest.mark.parametrize("delay_s", [0.04e-6, 0.37e-6, 2.2e-6])
def test_a_cable_tells_the_delay_and_given_it_nothing_is_late(delay_s):
    with bench_of(cable(), CableProgramme(12), delay_s=delay_s, noise=False) as bench:
        found = bench.self_check
    assert found.late_s == pytest.approx(delay_s, abs=3e-9)
    assert found.gain == pytest.approx(1, abs=0.01)


def test_what_the_device_does_not_bear_is_never_sent():
    with (
        pytest.raises(LimitError),
        bench_of(circuit().analog_ports(), CircuitProgramme(16, 2, 8), Limits(-5, 5)),
    ):
        pass


def test_waveforms_of_your_own_come_back_and_stay():
    waves = torch.rand(5, 12).mul(2).sub(1).numpy()
    with bench_of(cable(), CableProgramme(12), delay_s=0.0, noise=False) as bench:
        first = bench.waveforms(waves)
        kept = first.copy()
        bench.waveforms(-waves)  # the memory in which the record lies is used again
    assert (first == kept).all()
    assert abs(first - waves).max() < 0.02
