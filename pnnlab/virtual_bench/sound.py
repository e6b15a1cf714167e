"""A simulated sound card: a loudspeaker and a microphone with a simulated device between them."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, final

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import make_interp_spline

from pnnlab.systems.analog import AnalogPorts

Sound: TypeAlias = NDArray[np.floating[Any]]
Fault: TypeAlias = Callable[[Sound, np.random.Generator], Sound]

TAIL_S = 0.5  # of a record, after the end of the sound


def slip(record: Sound, random: np.random.Generator) -> Sound:
    """Lose up to a buffer of 1 024 samples, or hear it twice."""
    at, size = random.integers(len(record)), int(random.integers(1, 1025))
    kept = record[at + size :] if random.random() < 0.5 else record[max(0, at - size) :]
    return np.concatenate([record[:at], kept, np.zeros(size)])[: len(record)]


def drop_out(record: Sound, random: np.random.Generator) -> Sound:
    """Replace 16 to 1 024 samples by silence."""
    at = random.integers(len(record))
    silenced = record.copy()
    silenced[at : at + random.integers(16, 1025)] = 0
    return silenced


def click(record: Sound, random: np.random.Generator) -> Sound:
    """Add a click of one sample, or a few, of 2 to 50 % of full scale."""
    width = int(random.integers(1, 9))
    at = random.integers(len(record) - width)
    clicked = record.copy()
    clicked[at : at + width] += random.choice([-1, 1]) * random.uniform(0.02, 0.5)
    return clicked


def gain_step(record: Sound, random: np.random.Generator) -> Sound:
    """Change the gain by 1 to 12 dB, up or down, from some sample on."""
    factor = 10 ** (random.choice([-1, 1]) * random.uniform(1, 12) / 20)
    return np.where(np.arange(len(record)) < random.integers(len(record)), 1, factor) * record


FAULTS: Mapping[str, Fault] = {
    "slip": slip,
    "drop-out": drop_out,
    "click": click,
    "gain step": gain_step,
}


@final
class VirtualSoundCard:
    """Plays sound to a simulated device and records its answer, both at once.

    Parameters
    ----------
    limits
        Has ``check(sound, sample_rate_hz)``, which raises where a sound must not be played.
    delay : float
        Samples by which the record is late.
    clock : float
        Samples of the recorder in one of the player.
    codes : int
        Of the recorder's converter.
    faults : float
        Part of the records that have one of `FAULTS`, counted in ``injected``.
    process : callable, optional
        What the system does to a record, such as automatic gain.
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
        self.ports, self.limits = ports, limits
        self.sample_rate_hz = 1 / ports.sample_s
        self.delay, self.clock, self.codes, self.faults = delay, clock, codes, faults
        self.process = process
        self.injected: Counter[str] = Counter()
        self.seconds = 0.0  # played
        self._random = np.random.default_rng(seed)

    def play(self, sound: Sound) -> Sound:
        """Play a sound, and return a record of it that begins at the same time."""
        self.limits.check(sound, self.sample_rate_hz)
        self.seconds += len(sound) / self.sample_rate_hz
        tail = round(TAIL_S * self.sample_rate_hz)
        heard = self.ports.respond(np.concatenate([sound, np.zeros(tail)]))
        places = np.arange(len(heard)) / self.clock - self.delay
        if self.clock == 1 and self.delay == int(self.delay):
            late = int(self.delay)
            record = np.concatenate([np.zeros(late), heard[: len(heard) - late]])
        else:
            spline = make_interp_spline(np.arange(len(heard)), heard, k=5)
            record = np.where((places < 0) | (places > len(heard) - 1), 0, spline(places))
        if self.process is not None:
            record = self.process(record)
        record = np.clip(np.rint(record * self.codes / 2) / (self.codes / 2), -1, 1)
        if self._random.random() < self.faults:
            name = str(self._random.choice(list(FAULTS)))
            self.injected[name] += 1
            record = np.clip(FAULTS[name](record, self._random), -1, 1)
        return record

    def stop(self) -> None:
        """Nothing sounds here."""

    def close(self) -> None:
        """Nothing to release."""
