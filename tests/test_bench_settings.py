"""Nothing is believed that was taken with other settings, other tags, or another client's hand."""

import socket
import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from shared_bench import HALF_A_CODE, LIMITS, NOTHING, fight, loads, opened

from pnnlab.errors import InstrumentError
from pnnlab.instruments import bench as benches
from pnnlab.instruments.bench import open_bench
from pnnlab.instruments.generator import Generator, Limits, TakenError
from pnnlab.instruments.link import Link
from pnnlab.instruments.oscilloscope import Oscilloscope
from pnnlab.instruments.programme import CableProgramme, PlateProgramme
from pnnlab.instruments.selfcheck import WINDOW, draw_pilots
from pnnlab.instruments.shutdown import TripError
from pnnlab.systems import Plate
from pnnlab.systems.analog import cable
from pnnlab.virtual_bench import VirtualBench

OTHER_CLIENT = "pnnlab 1 on another"

GENERATOR = {
    "keysight": (
        *("SOUR1:VOLT:OFFS 0.5", "SOUR1:VOLT 1.9", "OUTP1:LOAD 50", "OUTP1:POL INV"),
        *("SOUR1:FUNC:ARB:SRAT 5E5", "SOUR1:FUNC SIN", "SOUR1:FUNC:ARB:FILT NORM"),
        *("SOUR1:FUNC:ARB:FILT STEP", "SOUR1:BURS:STAT OFF", "SOUR1:BURS:NCYC 2"),
        *("SOUR1:BURS:MODE GAT", "TRIG1:SOUR IMM", "TRIG1:DEL 0.001", "OUTP1:MODE GAT"),
        *("SOUR1:FUNC:ARB EXP_RISE", "SOUR1:VOLT:UNIT VRMS"),
    ),
    "tektronix": (
        *("SOUR1:VOLT:OFFS 0.5", "SOUR1:VOLT 2.08", "OUTP1:IMP 50", "OUTP1:POL INV"),
        *("SOUR1:FREQ 1500", "SOUR1:FUNC SIN", "SOUR1:BURS:STAT OFF", "SOUR1:BURS:NCYC 2"),
        *("SOUR1:BURS:MODE GAT", "SOUR1:BURS:TDEL 0.001", "TRIG:SOUR TIM", "SOUR1:PHAS 1"),
    ),
}
OSCILLOSCOPE = {
    "keysight": (
        *(":CHAN1:PROB 10", ":CHAN1:COUP AC", ":CHAN1:INV ON", ":CHAN1:IMP FIFT"),
        *(":CHAN1:BWL ON", ":WAV:UNS OFF", ":WAV:BYT MSBF", ":WAV:FORM BYTE"),
    ),
    "rigol": (":CHAN1:PROB 10", ":CHAN1:COUP AC", ":CHAN1:INV ON", ":CHAN1:BWL 20M"),
}
CHANGES = [("generator", make, change) for make, all_ in GENERATOR.items() for change in all_] + [
    ("oscilloscope", make, change) for make, all_ in OSCILLOSCOPE.items() for change in all_
]


@pytest.fixture
def there() -> Iterator[VirtualBench]:
    with VirtualBench(cable(), noise=False) as there:
        yield there


def test_forty_changes_are_tried():
    assert len(CHANGES) == 40


@pytest.mark.parametrize("when", ["load", "read"])
@pytest.mark.parametrize(("instrument", "make", "change"), CHANGES)
def test_a_changed_setting_is_noticed_before_a_shot_is_used(
    monkeypatch, instrument, make, change, when
):
    """Changed by another session just before the next waveform, or just after its record."""
    with VirtualBench(cable(), noise=False, **{instrument: make}) as there, opened(there) as bench:
        x = torch.rand(3, 12)
        of = Generator if when == "load" else Oscilloscope
        through, left = getattr(of, when), [change]

        def changed(driver: object, *arguments: object) -> object:
            result = through(driver, *arguments) if when == "read" else None
            if left:
                with Link(getattr(there, instrument)) as somebody:
                    somebody.send(left.pop())
            return through(driver, *arguments) if when == "load" else result

        monkeypatch.setattr(of, when, changed)
        assert (bench(x, NOTHING) - x).abs().max() < HALF_A_CODE
        assert not left
        sent_again = ("SOUR1:FUNC:ARB EXP_RISE", "SOUR1:VOLT 1.9", "SOUR1:FREQ 1500")
        assert bench.tally.retaken or (when == "load" and change in sent_again)  # by every load


def test_an_output_that_somebody_switched_off_stays_off(there):
    with opened(there) as bench, Link(there.generator) as somebody:
        somebody.send("OUTP1 OFF")
        for _ in range(3):
            with pytest.raises(TripError, match=r"switched ON but is 0|call rearm\(\)"):
                bench(torch.rand(1, 12), NOTHING)
            assert somebody.ask("OUTP1?") == "0"
        bench.rearm()
        bench(torch.rand(1, 12), NOTHING)
        assert somebody.ask("OUTP1?") == "1"


@pytest.mark.parametrize("also", ["SOUR1:VOLT:OFFS 0.5", "OUTP1:LOAD 50", "*RST"])
def test_it_stays_off_whatever_else_somebody_changed(there, also):
    """Settings are sent again after a failure; an output is not switched on by that."""
    with opened(there) as bench, Link(there.generator) as somebody:
        somebody.send("OUTP1 OFF", also)
        with pytest.raises(TripError):
            bench(torch.rand(1, 12), NOTHING)
        assert somebody.ask("OUTP1?") == "0"
        bench.rearm()
        bench(torch.rand(1, 12), NOTHING)


def test_a_bench_that_is_taken_is_not_taken_back(there):
    """Whoever took it has other settings, and perhaps other limits."""
    with opened(there) as bench, Link(there.generator) as somebody:
        somebody.send(f'DISP:TEXT "{OTHER_CLIENT}"', "SOUR1:FUNC:ARB:SRAT 5E5")
        with pytest.raises(TakenError, match="used by 1 on another"):
            bench(torch.rand(1, 12), NOTHING)
        assert somebody.ask("DISP:TEXT?") == f'"{OTHER_CLIENT}"'
        assert float(somebody.ask("SOUR1:FUNC:ARB:SRAT?")) == 5e5


def test_nothing_goes_to_a_generator_between_off_and_its_end(there, monkeypatch):
    free = []

    def close(link):
        def other():
            free.append(link.lock.acquire(blocking=False))

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        shut(link)

    shut = Link.close
    generator = Generator(Link(there.generator), limits=LIMITS)
    monkeypatch.setattr(Link, "close", close)
    generator.close()
    assert free == [False]


def test_a_waveform_whose_follower_is_refused_is_not_stretched_to_it(there):
    with Generator(Link(there.generator), limits=Limits(-1, 1)) as generator:
        generator.apply(1e6, 1.0)
        generator.load(np.array([0.2, 0.4] * 8))
        generator.output(True)
        codes = np.zeros(999_980, "<i2")
        codes[0] = 1
        with Link(there.generator) as somebody:  # fills the memory
            somebody.send("FORM:BORD SWAP", ("SOUR1:DATA:ARB:DAC other,", codes.data))
        with pytest.raises(InstrumentError):
            generator.load(np.array([0.0, 1.0, -1.0] * 8))
        with Link(there.generator) as somebody:
            assert float(somebody.ask("SOUR1:VOLT?")) < 0.21


def test_a_bench_that_is_taken_names_by_whom(there):
    with opened(there) as bench:
        with Link(there.generator) as somebody:
            assert str(socket.gethostname())[:20] in somebody.ask("DISP:TEXT?")
            somebody.send(f'DISP:TEXT "{OTHER_CLIENT}"')
            with pytest.raises(TakenError, match="used by 1 on another"):
                bench(torch.rand(1, 12), NOTHING)
            assert somebody.ask("OUTP1?") == "1"  # theirs
            with pytest.raises(InstrumentError, match="closed"):
                bench(torch.rand(1, 12), NOTHING)
        with pytest.raises(TakenError, match="used by 1 on another"), opened(there):
            pass
        with open_bench(
            there.generator,
            there.oscilloscope,
            CableProgramme(12),
            limits=LIMITS,
            guarded=False,
            take_over=True,
        ):
            pass
    with Link(there.generator) as somebody:
        assert somebody.ask("DISP:TEXT?") == '""'


def test_a_record_with_another_pilot_is_refused(there, monkeypatch):
    with opened(there) as bench:
        acquisition, x = bench._acquisition, torch.rand(3, 12)
        old = acquisition._play
        stale = old(np.zeros(1000, np.float32))
        left = list(range(benches.ATTEMPTS - 1))

        def play(waveform: np.ndarray, *scratch: object) -> object:
            trace = old(waveform, *scratch)
            return stale if left and left.pop() is not None else trace

        monkeypatch.setattr(acquisition, "_play", play)
        assert (bench(x, NOTHING) - x).abs().max() < HALF_A_CODE
        assert bench.tally.retaken == {"record": 3 * (benches.ATTEMPTS - 1)}


def test_no_pilot_has_the_right_answer_of_another():
    """A plate gives all of them the same few tones, and is not linear."""
    ports, programme = Plate(3, drift=False).analog_ports(), PlateProgramme()
    random = np.random.default_rng(0)
    step = (programme.high_v - programme.low_v) / 200
    pilots = np.concatenate([draw_pilots(programme) for _ in range(4)])
    answers = np.stack([ports.respond(pilot)[WINDOW] for pilot in pilots])
    noise = random.normal(0, step / 2, answers.shape)
    alike = np.abs(np.corrcoef(answers, answers + noise)[: len(pilots), len(pilots) :])
    assert alike.diagonal().min() > 1 - (1 - benches.LEAST_CORRELATION) / 2
    np.fill_diagonal(alike, 0)
    assert alike.max() < benches.LEAST_CORRELATION - 0.05


@pytest.mark.slow
@pytest.mark.parametrize("clients", [2, 8])
def test_clients_on_one_bench_never_get_each_others_shots(clients):
    found = fight(clients, 240)
    assert found.total() == 240
    assert found["wrong"] == 0
    assert found["right"] > 0


@pytest.mark.parametrize("float32", [False, True])
@pytest.mark.parametrize("make", ["keysight", "tektronix"])
def test_no_load_leaves_the_limits_at_the_connector(make, float32):
    """Small waveforms far from zero: there a rounded extent stretches most."""
    if make == "tektronix" and float32:
        pytest.skip("it takes integers alone")
    assert loads(100, make, float32) == 0
