"""Sound as a bench: what its marks recover, what they refuse, what its self-check says."""

import atexit
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conformance import SystemConformance
from numpy.typing import NDArray
from scipy.signal import lfilter
from torch import Tensor, nn

from pnnlab import PhysicalLayer, physics_aware
from pnnlab.background import Session
from pnnlab.errors import DeviceError, InstrumentError, LimitError, RangeError
from pnnlab.instruments import sound as sound_module
from pnnlab.instruments.programme import Bench, SoundProgramme
from pnnlab.instruments.recording import Recorder, Replay
from pnnlab.instruments.sound import (
    SoundAcquisition,
    SoundCard,
    SoundLimits,
    open_sound,
    silence_on_stop,
)
from pnnlab.instruments.soundcheck import LEAD, SoundCheck, measure_response, resample, self_check
from pnnlab.physical_system import PhysicalSystem
from pnnlab.systems import Room
from pnnlab.systems.analog import AnalogPorts, cable
from pnnlab.systems.room import RoomImperfections
from pnnlab.training import Record
from pnnlab.views.browser_sound import TRIES, BrowserSound
from pnnlab.virtual_bench import sound as virtual_sound
from pnnlab.virtual_bench.sound import FAULTS, VirtualSoundCard

RATE = 48_000.0
PROGRAMME = SoundProgramme(16, 2, 5)
Sound = NDArray[np.float64]


def card_of(ports: AnalogPorts, limits: SoundLimits | None = None, **virtual) -> VirtualSoundCard:
    return VirtualSoundCard(ports, limits or SoundLimits(), **virtual)


def room(**options) -> Room:
    return Room(3, input_dim=16, replays=2, output_dim=5, **options)


def quiet_room() -> Room:
    return room(noise=False, drift=False)


@pytest.fixture(scope="module")
def checked() -> SoundCheck:
    """The self-check of the quiet room: benches that share it open at once."""
    found = self_check(card_of(quiet_room().analog_ports()).play, PROGRAMME.drive_v, RATE)
    assert not found.problems
    return found


@pytest.fixture
def quiet(checked: SoundCheck) -> tuple[Bench, VirtualSoundCard]:
    """A bench without noise, and its sound card."""
    card = card_of(quiet_room().analog_ports())
    return open_sound(card, PROGRAMME, check=checked), card


def drives(shots: int, system: PhysicalSystem, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(shots, system.input_dim, generator=generator)
    return x, torch.rand(system.param_dim, generator=generator)


class TestConformance(SystemConformance):
    simulated = False

    def moved(self, theta: Tensor) -> Tensor:
        return theta / 2  # energies do not tell a drive from its opposite

    def make_system(self) -> PhysicalSystem:
        card = card_of(room(drift=False).analog_ports())
        return open_sound(card, PROGRAMME)


# What is recovered


def test_whole_delays_change_no_bit_and_others_little():
    time = np.arange(4000)
    tone = np.sin(0.9 * time)  # 6.9 kHz
    assert (resample(tone, 3.0, 1.0, 50) == tone[3:53]).all()
    assert (resample(tone, -2.0, 1.0, 5) == [0, 0, *tone[:3]]).all()
    places = 700.37 + 1.0001 * np.arange(2000)
    assert np.abs(resample(tone, 700.37, 1.0001, 2000) - np.sin(0.9 * places)).max() < 2e-3


@pytest.mark.parametrize("delay", [0.0, 1500.0, 1234.37])
@pytest.mark.parametrize("ppm", [0.0, 80.0, -35.0])
def test_a_known_delay_and_clock_are_recovered(delay, ppm):
    def lowpass(sound: Sound) -> Sound:  # as every converter has
        return np.asarray(lfilter(np.hanning(9) / np.hanning(9).sum(), 1, sound))

    card = card_of(AnalogPorts(1 / RATE, lowpass), delay=delay, clock=1 + ppm * 1e-6, codes=2**24)
    found = measure_response(card.play, 0.03, 4)
    assert (found.clock - 1) * 1e6 == pytest.approx(ppm, abs=0.05)
    assert found.delay == pytest.approx((delay + 4) * found.clock, abs=0.02)
    assert np.abs(found.taps).argmax() == LEAD


def test_a_response_is_what_an_impulse_becomes():
    perfect = RoomImperfections(sag=0.0, skew=0.0)
    system = room(noise=False, drift=False, imperfections=perfect)
    found = measure_response(card_of(system.analog_ports(), codes=2**24).play, 0.03, 4)
    impulse = np.zeros(2000)
    impulse[0] = 0.03
    truth = system.analog_ports().respond(impulse) / 0.03
    late = LEAD - np.abs(truth).argmax()
    assert np.abs(found.taps[late : late + 2000] - truth).max() < 0.01 * np.abs(truth).max()


def test_a_cable_gives_back_what_is_played():
    card = card_of(cable(1 / RATE), codes=2**24)
    with open_sound(card, PROGRAMME) as bench:
        waves = 0.1 * np.random.default_rng(0).uniform(-1, 1, (5, 200))
        assert np.abs(bench.waveforms(waves) - waves).max() < 1e-3


def test_a_room_on_a_bench_answers_as_the_simulated_one(quiet):
    bench, _ = quiet
    x, theta = drives(30, bench)
    ours, theirs = bench(x, theta), quiet_room()(x, theta)
    gain = (ours * theirs).sum() / theirs.square().sum()
    assert gain == pytest.approx(1, abs=0.15)  # the volume is set by other shots
    assert (ours / gain - theirs).std() < 0.03 * theirs.std()


def test_unequal_clocks_are_no_noise(quiet):
    bench, _ = quiet
    x, theta = drives(20, bench)
    card = card_of(quiet_room().analog_ports(), delay=777.7, clock=1 + 60e-6)
    with open_sound(card, PROGRAMME) as other:
        first, second = other(x, theta), other(x, theta)
    assert not other.tally.retaken
    assert (first - second).std() < 5e-3 * first.std()
    assert (first / first.mean() - bench(x, theta) / bench(x, theta).mean()).std() < 0.05


def test_a_batch_longer_than_a_sound_may_be_goes_out_in_parts(checked):
    card = card_of(quiet_room().analog_ports(), SoundLimits(duration_s=4.0))
    bench = open_sound(card, PROGRAMME, check=checked)
    assert bench._acquisition.at_once(PROGRAMME.samples) < 120
    x, theta = drives(120, bench)
    together = bench(x, theta)
    assert torch.equal(torch.cat([bench(x[:50], theta), bench(x[50:], theta)]), together)
    assert bench.tally.shots == 240
    with pytest.raises(RangeError, match="fewer replays"):
        bench._acquisition.at_once(200_000)


def test_most_of_the_time_is_the_waveforms_own(checked):
    card = card_of(quiet_room().analog_ports())
    bench = open_sound(card, SoundProgramme(), check=checked)
    before = card.seconds
    bench(*drives(64, bench))
    own = 64 * (bench.programme.samples + bench.programme.rest) / RATE
    assert own / (card.seconds - before) > 0.8


def test_a_recording_stands_in_the_place_of_the_bench(quiet, tmp_path):
    bench, _ = quiet
    x, theta = drives(4, bench)
    with Recorder(bench, tmp_path / "sound.sqlite") as recorder:
        there = recorder(x, theta)
    assert torch.equal(Replay(tmp_path / "sound.sqlite")(x, theta), there)


# What is refused


@pytest.mark.slow
def test_none_of_two_hundred_faults_passes(quiet):
    bench, card = quiet
    x, theta = drives(20, bench)
    truth = bench(x, theta)
    card.faults = 0.6
    while sum(card.injected.values()) < 200:
        assert torch.equal(bench(x, theta), truth), card.injected
    assert set(card.injected) == set(FAULTS)
    assert min(card.injected.values()) > 25
    assert set(bench.tally.retaken) >= {"slip", "gain", "noise"}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_found_and_counted(quiet, name, monkeypatch):
    bench, card = quiet
    x, theta = drives(20, bench)
    truth = bench(x, theta)
    monkeypatch.setattr(virtual_sound, "FAULTS", (name,))
    card.faults = 0.7
    for _ in range(8):
        assert torch.equal(bench(x, theta), truth)
    assert card.injected[name] > 3
    expected = {"slip": "slip", "gain step": "gain", "click": "noise", "drop-out": "noise"}
    assert bench.tally.retaken[expected[name]] > 0


def test_a_record_that_falls_silent_is_taken_again(quiet):
    bench, card = quiet
    x, theta = drives(20, bench)
    truth = bench(x, theta)
    silent = [True, False]

    def lose(record: Sound) -> Sound:
        kept = len(record) // 3 if silent.pop(0) else len(record)
        return np.append(record[:kept], np.zeros(len(record) - kept))

    card.process = lose
    assert torch.equal(bench(x, theta), truth)
    assert sum(bench.tally.retaken.values()) > 5


class RoomTwin(nn.Module):
    """The equations of the room that is on the bench, without distortion."""

    def __init__(self) -> None:
        super().__init__()
        perfect = RoomImperfections(sag=0.0, skew=0.0)
        self.model = room(noise=False, drift=False, imperfections=perfect)
        self.input_dim, self.param_dim, self.output_dim = 16, self.model.param_dim, 5

    def forward(self, x: Tensor, theta: Tensor) -> Tensor:
        return self.model.differentiable(x, theta)


def test_weights_trained_among_faults_are_those_trained_without(checked):
    def trained(faults: float) -> tuple[Tensor, Counter[str]]:
        card = card_of(quiet_room().analog_ports())
        bench = open_sound(card, PROGRAMME, check=checked)
        card.faults = faults
        layer = PhysicalLayer(bench, RoomTwin(), physics_aware, seed=1)
        optimizer = torch.optim.Adam(layer.parameters(), lr=0.02)
        x, _ = drives(16, bench)
        for _ in range(12):
            optimizer.zero_grad()
            (layer(x) - torch.linspace(0, 0.3, 5)).square().mean().backward()
            optimizer.step()
        return torch.cat([p.detach().ravel() for p in layer.parameters()]), card.injected

    weights, none = trained(0.0)
    among, injected = trained(0.5)
    assert not none
    assert injected
    assert torch.equal(weights, among)


def test_noise_alone_is_no_fault():
    with open_sound(card_of(room().analog_ports()), PROGRAMME) as bench:
        for seed in range(5):
            bench(*drives(40, bench, seed))
        assert sum(bench.tally.retaken.values()) <= 12  # of 200: the room drifts


def test_a_room_that_changes_is_measured_again_and_a_volume_that_does_is_not(quiet):
    bench, card = quiet
    x, theta = drives(20, bench)
    before = bench(x, theta)
    moved = Room(3, tolerance=0.6, input_dim=16, replays=2, noise=False, drift=False)
    card.ports = moved.analog_ports()
    after = bench(x, theta)
    assert bench.tally.retaken["noise"] >= 20
    assert not torch.equal(before, after)
    retaken = dict(bench.tally.retaken)
    bench(x, theta)
    assert bench.tally.retaken == retaken
    card.process = lambda record: 1.5 * record
    with pytest.raises(InstrumentError, match=r"changed by \+3\.[4-8] dB"):
        bench(x, theta)
    card.process = None
    assert torch.equal(bench(x, theta), after)


def test_a_volume_that_changes_slowly_is_told_before_it_is_much(quiet):
    bench, card = quiet
    x, theta = drives(8, bench)
    before, volume = bench(x, theta), 1.0

    def fade(record: Sound) -> Sound:  # an automatic gain
        nonlocal volume
        volume *= 0.99
        return volume * record

    def until_it_is_told() -> Tensor:
        after = before
        with suppress(InstrumentError):
            while volume > 0.5:
                after = bench(x, theta)
        return after

    card.process = fade
    after = until_it_is_told()
    with pytest.raises(InstrumentError, match=r"gain has changed by -[0-3]\.\d dB"):
        bench(x, theta)
    assert volume > 0.7
    assert after.mean() > 0.75 * before.mean()  # read-outs are energies: 0.9 dB is a fifth


def test_a_call_in_the_middle_is_an_error_that_says_so_and_loses_nothing(quiet):
    bench, card = quiet
    x, theta = drives(5, bench)
    truth = bench(x, theta)
    random = np.random.default_rng(0)

    def call(record: Sound) -> Sound:
        return record + 0.05 * random.standard_normal(len(record))

    card.process = call
    with pytest.raises(DeviceError, match=r"(such as a call|lost or doubled|gain has changed)"):
        bench(x, theta)
    card.process = None
    assert torch.equal(bench(x, theta), truth)


def test_a_record_that_clips_is_taken_again(quiet, monkeypatch):
    bench, card = quiet
    monkeypatch.setattr(sound_module, "ATTEMPTS", 1)
    card.process = lambda record: np.clip(60 * record, -1, 1)
    with pytest.raises(InstrumentError, match="clipping"):
        bench(*drives(3, bench))


def test_after_a_stop_all_is_silent_until_rearmed(quiet):
    bench, card = quiet
    x, theta = drives(3, bench)
    truth = bench(x, theta)
    before = card.seconds
    bench.close()
    with pytest.raises(InstrumentError, match=r"rearm\(\)"):
        bench(x, theta)
    assert card.seconds == before
    at_exit = atexit._ncallbacks()
    bench.rearm()
    assert atexit._ncallbacks() == at_exit + 1  # it is silenced when the program ends
    assert torch.equal(bench(x, theta), truth)


def test_a_stop_of_a_session_silences_the_bench_within_a_record(quiet):
    bench, card = quiet
    playing, silenced = threading.Event(), threading.Event()

    def play_until_silenced(record: Sound) -> Sound:
        playing.set()
        assert silenced.wait(30)
        return record

    def records() -> Iterator[Record]:
        bench(*drives(2, bench))
        yield from ()

    session = Session(SimpleNamespace(records=records))
    silence_on_stop(session, bench)
    card.process, card.silence = play_until_silenced, silenced.set
    session.start()
    assert playing.wait(30)
    assert not silenced.is_set()
    session.stop()
    assert silenced.is_set()  # before the record is complete
    session.join()
    assert session.status == "stopped"
    with pytest.raises(InstrumentError, match=r"rearm\(\)"):
        bench(*drives(2, bench))


# What the self-check says


def check_of(process=None, ports=None, **virtual) -> SoundCheck:
    card = card_of(ports or room(drift=False).analog_ports(), process=process, **virtual)
    return self_check(card.play, 0.1, RATE)


def test_a_healthy_room_is_described(checked):
    found = check_of(delay=2000.0)
    assert found.problems == ()
    assert "ready" in str(found)
    assert found.band_hz[0] < 400
    assert 12_000 < found.band_hz[1] < 24_000
    assert 0.008 < found.memory_s < 0.02
    assert found.noise == pytest.approx(0.05 * RoomImperfections().noise, rel=0.05)
    assert 25 < found.snr_db < 45
    parts = RoomImperfections()
    third = 4 * parts.sag / 4 / (1 + 2 * parts.sag)
    assert checked.distortion[-1] == pytest.approx(third, rel=0.4)
    assert found.gains == pytest.approx((1, 1, 1), abs=0.05)


def agc(record: Sound) -> Sound:
    """Bring the loudness of the last 50 ms to one level."""
    loud = np.sqrt(lfilter([1 / 2400], [1, 1 / 2400 - 1], record**2))
    return np.asarray(record * (0.05 / np.maximum(loud, 0.002)))


def gate(record: Sound) -> Sound:
    loud = np.sqrt(lfilter([1 / 2400], [1, 1 / 2400 - 1], record**2))
    return np.where(loud < 0.004, 0.1, 1) * record


def cancel(record: Sound) -> Sound:
    """Weaken everything once it has been heard for a second, as echo cancellation does."""
    heard = np.abs(record) > 3e-3
    begun = heard.argmax() if heard.any() else 0
    return record * np.where(np.arange(len(record)) < begun + 1.4 * RATE, 1, 0.2)


def bluetooth(record: Sound) -> Sound:
    spectrum = np.fft.rfft(record)
    spectrum[round(len(spectrum) / 3) :] = 0
    return np.fft.irfft(spectrum, len(record))


@pytest.mark.parametrize(
    ("process", "told"),
    [
        (agc, "automatic gain"),
        (gate, "a noise gate"),
        (cancel, "a steady sound fades"),
        (lambda record: np.clip(60 * record, -1, 1), "clips"),
        (lambda record: record - 80 * record**3, "lower the volume"),
    ],
)
def test_what_spoils_sound_is_named_with_what_to_do(process, told):
    problems = " ".join(check_of(process).problems)
    assert told in problems
    assert any(advice in problems for advice in ("Switch it off", "lower"))


def test_bluetooth_is_recognised_by_its_band_and_delay():
    assert "Bluetooth" in " ".join(check_of(bluetooth, delay=9000.0).problems)
    assert "Bluetooth" not in " ".join(check_of(bluetooth).problems)


def test_a_muted_microphone_and_a_deaf_one_are_told():
    with pytest.raises(InstrumentError, match="nothing but zeros"):
        check_of(np.zeros_like)
    random = np.random.default_rng(0)
    with pytest.raises(InstrumentError, match="Nothing of what is played"):
        check_of(lambda record: 0.01 * random.standard_normal(len(record)))


def test_a_bench_with_a_problem_does_not_open():
    card = card_of(room().analog_ports(), process=gate)
    with pytest.raises(InstrumentError, match=r"not ready\.\n- soft sounds"):
        open_sound(card, PROGRAMME)


# Limits


def test_a_sound_beyond_the_limits_is_never_played():
    limits = SoundLimits(duration_s=1.0, duty=0.5)
    ramp = np.minimum(1, np.minimum(np.arange(4800), np.arange(4800)[::-1]) / 240)
    fine = np.concatenate([0.1 * ramp, np.zeros(4800)])
    limits.check(fine, RATE)
    for sound, told in (
        (2 * fine, "reaches 0.2"),
        (np.zeros(48_001), "lasts longer than 1 s"),
        (0.1 * ramp, "there for 1"),
        (np.append(np.full(100, 0.05), np.zeros(4800)), "jump"),
        (np.append(np.zeros(4800), np.full(100, 0.05)), "jump"),
        (fine * np.nan, "finite"),
        (np.zeros((2, 3)), r"\(samples,\)"),
    ):
        with pytest.raises(LimitError, match=told):
            limits.check(sound, RATE)


def test_louder_needs_a_reason():
    with pytest.raises(RangeError, match="because="):
        SoundLimits(level=0.2)
    with pytest.raises(RangeError, match="because="):
        SoundLimits(duration_s=60.0, because=" ")
    assert SoundLimits(level=0.5, because="an exciter on a plate").level == 0.5
    with pytest.raises(RangeError, match="lie in"):
        SoundLimits(level=1.5, because="louder than there is")


def test_a_programme_beyond_the_limits_or_at_another_rate_is_refused():
    card = card_of(cable(1 / RATE))
    with pytest.raises(LimitError, match=r"permitted are 0\.1"):
        open_sound(card, SoundProgramme(drive_v=0.3))
    with pytest.raises(RangeError, match="44100"):
        open_sound(card, SoundProgramme(sample_rate_hz=44_100.0))
    assert card.seconds == 0


def test_without_sounddevice_there_is_advice(monkeypatch):
    import builtins

    real = builtins.__import__

    def missing(name, *arguments):
        if name == "sounddevice":
            raise ImportError(name)
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(InstrumentError, match=r"pip install 'pnnlab\[sound\]'"):
        SoundCard()

    def broken(name, *arguments):
        if name == "sounddevice":
            raise OSError("PortAudio library not found")
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", broken)
    with pytest.raises(InstrumentError, match="apt install libportaudio2"):
        SoundCard()


def test_the_acquisition_is_closed_where_its_check_fails():
    card = card_of(room().analog_ports(), process=gate)
    closed = []
    card.silence = lambda: closed.append(True)
    with pytest.raises(InstrumentError):
        SoundAcquisition(card, PROGRAMME)
    assert closed


def page(answers):
    """A page that hears of every sound what ``answers`` say: a record, or None, if it ended it."""
    port, told = BrowserSound(), []

    def send(content, buffers=None):
        told.append(next(iter(content)))
        if "play" in content and (answer := answers.pop(0)) is not silent:
            port._on_message({"heard": content["play"]}, [] if answer is None else [answer])

    port.refused, port.rate, port.send = "", 48_000.0, send
    return port, told


def silent():
    """The answer of a page that says nothing."""


def ask(port):
    with ThreadPoolExecutor(1) as other:  # for the main thread may not wait for a page
        return other.submit(port.play, np.zeros(10)).result()


def test_a_sound_whose_beats_came_late_is_played_again_and_not_for_ever():
    record = np.ones(10, "<f4").tobytes()
    port, told = page([None, None, record])
    assert (ask(port) == 1).all()
    assert told == ["play"] * 3
    port, told = page([None] * (TRIES + 1))
    with pytest.raises(InstrumentError, match=f"ended a sound {TRIES} times"):
        ask(port)
    assert told == ["play"] * TRIES


def test_a_stop_between_two_tries_is_not_lost():
    port, told = page([None, silent])
    first = port._play_once

    def play_once(*given):
        first(*given)
        port.silence()

    port._play_once = play_once
    with pytest.raises(InstrumentError, match="was stopped"):
        ask(port)
    assert told == ["play", "stop"]


def test_a_stop_while_the_next_try_begins_is_sent_after_it():
    port, told = page([None, silent])
    plain = port._ended.clear

    def clear():
        plain()
        if told == ["play"]:  # another thread stops, just before the second is sent
            port.silence()
            plain()

    port._ended.clear = clear
    with pytest.raises(InstrumentError, match="was stopped"):
        ask(port)
    assert told == ["play", "stop", "play", "stop"]
