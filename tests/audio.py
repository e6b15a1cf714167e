"""A sound card in a machine that has none: PulseAudio, and a room between its devices.

What is played into the sink ``speaker`` a `Listener` hears. What is played into the sink
``loudspeaker`` a process of ours reads, lets pass through a simulated room, and writes to the
source ``microphone``: that process is their clock, so that a machine which stands still for a
moment loses no sound in the room.
"""

import importlib.util
import math
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest

RATE = 48_000  # samples a second
PLAYED, HEARD = "played", "heard"  # pipes between the server and the room
REQUIRED = "PNNLAB_REQUIRE_AUDIO"  # set where a missing audio stack is a failure, not a skip


def need_audio() -> None:
    """Skip, or fail where audio is required, unless there is a stack to test with."""
    missing = [name for name in ("pulseaudio", "pactl") if shutil.which(name) is None]
    if importlib.util.find_spec("sounddevice") is None:
        missing.append("the package sounddevice")
    else:
        with suppress(ImportError):
            try:
                import sounddevice  # noqa: F401
            except OSError:
                missing.append("PortAudio")
    if missing:
        text = f"there is no {' and no '.join(missing)}"
        pytest.fail(text) if os.environ.get(REQUIRED) else pytest.skip(text)


def _real_time() -> tuple[str, ...]:
    """Begin of the command of a server that plays in time on a busy machine, where permitted."""
    begin = ("chrt", "--fifo", "30")
    with suppress(OSError):
        if subprocess.run([*begin, "true"], check=False, capture_output=True).returncode == 0:
            return begin
    return ()


def _until(ready, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "the audio server did not start"
        time.sleep(0.1)


@contextmanager
def audio_server(folder: Path) -> Iterator[dict[str, str]]:
    """Run PulseAudio; yields the environment of a client without its devices."""
    environment = os.environ | {
        "HOME": str(folder),
        "XDG_RUNTIME_DIR": str(folder),
        "PULSE_RUNTIME_PATH": str(folder),
        "PULSE_SERVER": f"unix:{folder}/native",
    }
    samples = f"rate={RATE} channels=1 format=float32le"
    devices = [
        f"-Lmodule-null-sink sink_name=speaker {samples}",
        f"-Lmodule-pipe-sink sink_name=loudspeaker file={folder}/{PLAYED} {samples}",
        f"-Lmodule-pipe-source source_name=microphone file={folder}/{HEARD} {samples}",
    ]
    command = "pulseaudio --daemonize=no --exit-idle-time=-1 --disallow-exit -n"
    server = subprocess.Popen(
        [*_real_time(), *command.split(), "-Lmodule-native-protocol-unix", *devices],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    ask = partial(subprocess.run, ["pactl", "info"], env=environment, capture_output=True)
    try:
        _until(lambda: ask(check=False).returncode == 0)
        yield environment
    finally:
        server.terminate()
        server.wait(10)


@contextmanager
def room_between(environment: dict[str, str]) -> Iterator[None]:
    """Let a process be the room between loudspeaker and microphone."""
    folder = environment["PULSE_RUNTIME_PATH"]
    room = subprocess.Popen([sys.executable, __file__, folder])
    try:
        yield
        assert room.poll() is None
    finally:
        room.kill()
        room.wait(10)


class Listener:
    """What the loudspeaker plays, and when: by the count of samples, as this may read them late."""

    def __init__(self, server: dict[str, str]) -> None:
        command = f"parec --device=speaker.monitor --format=float32le --channels=1 --rate={RATE}"
        self._process = subprocess.Popen(
            [*command.split(), "--latency-msec=5"], env=server, stdout=subprocess.PIPE
        )
        self._begin = math.inf  # when the first sample was played
        self._loud = 0  # samples up to the last one with sound
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    @property
    def last(self) -> float:
        """When there was sound, on the clock of `time.monotonic`."""
        return self._begin + self._loud / RATE if self._loud else 0.0

    def _listen(self) -> None:
        count = 0
        while piece := self._process.stdout.read(4 * 240):
            samples = np.frombuffer(piece, np.float32)
            loud = np.flatnonzero(np.abs(samples) > 1e-4)
            if len(loud):
                self._loud = count + int(loud[-1]) + 1
            count += len(samples)
            self._begin = min(self._begin, time.monotonic() - count / RATE)

    def close(self) -> None:
        self._process.terminate()
        self._thread.join()
        self._process.communicate(timeout=5)


def _be_a_room(folder: Path) -> None:
    from scipy.signal import lfilter

    random = np.random.default_rng(0)
    taps = random.standard_normal(960) * np.exp(-np.arange(960) / 140)
    taps[0] = 6.0
    taps /= np.linalg.norm(taps)
    state = np.zeros(959)
    count = RATE // 100
    due = time.monotonic()
    with (folder / PLAYED).open("rb") as played, (folder / HEARD).open("wb", 0) as heard:
        while piece := played.read(4 * count):
            said = 0.4 * np.tanh(np.frombuffer(piece, np.float32).astype(float) / 0.4)
            echo, state = lfilter(taps, 1.0, said, zi=state)
            echo += 1e-4 * random.standard_normal(count)
            heard.write(echo.astype(np.float32).tobytes())
            now = time.monotonic()
            due = max(due + count / RATE, now)  # what is late is not made up for
            time.sleep(due - now)


if __name__ == "__main__":
    _be_a_room(Path(sys.argv[1]))
