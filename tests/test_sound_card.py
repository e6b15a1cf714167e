"""A sound card that is real for the program: PulseAudio, PortAudio, and a process as the room."""

import json
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator

import pytest
from audio import Listener, audio_server, need_audio, room_between

Environment = dict[str, str]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    need_audio()
    with audio_server(tmp_path_factory.mktemp("audio")) as environment:
        yield environment | {"PULSE_SINK": "speaker", "PULSE_SOURCE": "speaker.monitor"}


def client(server: Environment, code: str) -> "subprocess.Popen[str]":
    """Run code of a program that uses the sound card, whose devices its environment names."""
    begin = """
import json, signal
from pnnlab.instruments.sound import SoundCard, open_sound
signal.signal(signal.SIGINT, signal.default_int_handler)  # where a shell's job ignores it
"""
    return subprocess.Popen(
        [sys.executable, "-c", begin + textwrap.dedent(code)],
        env=server,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_a_room_in_another_process_is_a_bench(server):
    code = """
        import torch
        from pnnlab.errors import InstrumentError
        from pnnlab.instruments.programme import SoundProgramme
        def opened(programme):
            for _ in range(5):  # a busy computer may lose too much sound, and the bench refuses
                try:
                    return open_sound(SoundCard(), programme)
                except InstrumentError as error:
                    last = error
            raise last
        programme = SoundProgramme(rest=960)
        x, theta = torch.rand(160, 64), torch.rand(programme.param_dim)
        with opened(programme) as bench:
            y = bench(x, theta)
            again = bench(x, theta)
        check = bench.self_check
        print(json.dumps({
            "difference": float((again - y).std() / y.std()),
            "clock": check.response.clock,
            "band": check.band_hz,
            "memory": check.memory_s,
            "noise": check.noise,
        }))
    """
    with room_between(server):
        process = client(server | {"PULSE_SINK": "loudspeaker", "PULSE_SOURCE": "microphone"}, code)
        out, _ = process.communicate(timeout=400)
    found = json.loads(out)
    assert found["difference"] < 0.02
    assert found["clock"] == 1
    assert found["noise"] == pytest.approx(1e-4, rel=0.2)
    assert found["band"][0] < 1000 < 10_000 < found["band"][1]
    assert 0.003 < found["memory"] < 0.02  # of 960 samples that decay by 1/e in 2.9 ms


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.parametrize("end", ["SIGINT", "SIGTERM", "SIGKILL", "close"])
def test_it_is_silent_at_once_when_its_program_ends_or_says_so(server, end):
    code = """
        import contextlib, sys, threading
        import numpy as np
        from pnnlab.errors import InstrumentError
        sound = 0.05 * np.sin(np.arange(10 * 48000) * 0.1)
        sound *= np.minimum(1, np.arange(len(sound)) / 4800)
        sound *= np.minimum(1, np.arange(len(sound))[::-1] / 4800)
        card = SoundCard()
        told = threading.Event()
        def close():
            sys.stdin.readline()
            told.set()
            card.silence()
        threading.Thread(target=close, daemon=True).start()
        while not told.is_set():
            with contextlib.suppress(InstrumentError):  # a busy computer may lose sound
                card.play(sound)
    """
    listener = Listener(server)
    process = client(server, code)
    try:
        begun = time.monotonic()
        while listener.last < max(begun, time.monotonic() - 0.05):  # it sounds now
            assert time.monotonic() < begun + 120
            time.sleep(0.01)
        if end == "close":
            process.stdin.write("\n")
            process.stdin.flush()
        else:
            process.send_signal(getattr(signal, end))
        if end == "SIGKILL":
            process.wait(10)  # a busy machine takes a while to end it
        told = time.monotonic()
        time.sleep(2)
        assert told - 0.1 < listener.last < told + 0.1
    finally:
        process.kill()
        process.communicate(timeout=5)
        listener.close()


def test_a_device_that_is_not_there_is_a_message(server):
    code = """
        from pnnlab.errors import InstrumentError
        from pnnlab.instruments.sound import list_devices
        print(len(list_devices()))
        for options in ({"microphone": "no such thing"}, {"output": 99}):
            try:
                SoundCard(**options)
            except InstrumentError as error:
                print(error)
    """
    out, _ = client(server, code).communicate(timeout=60)
    count, *told = out.splitlines()
    assert int(count) > 0
    assert len(told) == 2
    assert all("Choose others" in line for line in told)
