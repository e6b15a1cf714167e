"""A simulated sound card: a loudspeaker and a microphone with a simulated device between them."""

from collections import Counter
from collections.abc import Callable
from typing import Any, TypeAlias, final

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import make_interp_spline

from pnnlab.systems.analog import AnalogPorts

Sound: TypeAlias = NDArray[np.floating[Any]]

FAULTS = ("slip", "drop-out", "click", "gain step")


def spoil(record: Sound, fault: str, random: np.random.Generator) -> Sound:
    """Put a fault of random size at a random place of a record."""
    at, size = int(random.integers(len(record))), int(random.integers(1, 1025))
    sign = int(random.choice([-1, 1]))
    begin, end = record[:at], record[at:].copy()
    if fault == "slip":  # up to a buffer is lost, or heard twice
        end = np.concatenate([record[max(0, at + sign * size) :], np.zeros(size)])[: len(end)]
    elif fault == "drop-out":  # at least 16 samples are silent
        end[: max(size, 16)] = 0
    elif fault == "click":  # 1 to 8 samples, 2 to 50 % of full scale
        end[: 1 + size // 128] += sign * random.uniform(0.02, 0.5)
    else:  # from there on, by 1 to 12 dB
        end *= 10 ** (sign * random.uniform(1, 12) / 20)
    return np.concatenate([begin, end])


@final
class VirtualSoundCard:
    """Plays sound to a simulated device and records its answer, both at once.

    ``limits`` has ``check(sound, sample_rate_hz)``, which raises where a sound must not be played.
    The record is ``delay`` samples late, and the recorder takes ``clock`` samples in one of the
    player, with a converter of so many ``codes``. ``faults`` is the part of the records that have
    one of `FAULTS`, counted in ``injected``; ``process`` what the system does to a record, such as
    automatic gain.
    """

    def __init__(
        self,
        ports: AnalogPorts,
        limits: Any,
        *,
        delay: float = 1500.0,
        clock: float = 1.0,
        codes: int = 2**16,
        faults: float = 0.0,
        process: Callable[[Sound], Sound] | None = None,
        seed: int = 0,
    ) -> None:
        self.ports, self.limits, self.process = ports, limits, process
        self.sample_rate_hz = 1 / ports.sample_s
        self.delay, self.clock, self.codes, self.faults = delay, clock, codes, faults
        self.injected: Counter[str] = Counter()
        self.seconds = 0.0  # played
        self._random = np.random.default_rng(seed)

    def play(self, sound: Sound, tail_s: float = 0.5) -> Sound:
        """Play a sound, and return a record that begins with it and is so much longer."""
        self.limits.check(sound, self.sample_rate_hz)
        self.seconds += len(sound) / self.sample_rate_hz
        record = self.ports.respond(np.pad(sound, (0, round(tail_s * self.sample_rate_hz))))
        places = np.arange(len(record)) / self.clock - self.delay
        if self.clock == 1 and self.delay == int(self.delay):
            record = np.pad(record, (int(self.delay), 0))[: len(record)]
        else:
            spline = make_interp_spline(np.arange(len(record)), record, k=5)
            record = np.where((places < 0) | (places > len(record) - 1), 0, spline(places))
        if self.process is not None:
            record = self.process(record)
        record = np.rint(record * self.codes / 2) / (self.codes / 2)
        if self._random.random() < self.faults:
            fault = str(self._random.choice(FAULTS))
            self.injected[fault] += 1
            record = spoil(record, fault, self._random)
        return np.clip(record, -1, 1)

    def silence(self) -> None:
        """Nothing sounds here."""
