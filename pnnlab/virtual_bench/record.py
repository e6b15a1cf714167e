"""What an oscilloscope sees, what it keeps of it, and what its converter makes of that."""

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from pnnlab.virtual_bench.simulated_generator import Points

NOISE = 0.006  # of the screen's height, rms, each sample
JITTER = 0.01  # of a sample of the device's, at most, either way


@final
@dataclass(frozen=True)
class Signal:
    """What arrives at the connectors after a generator's trigger, or without one.

    Attributes
    ----------
    volts : array, (samples,), float64
        At the end of each sample, V; straight lines between them, constant outside.
    rest : float
        What there was before, V.
    sample_s, delay_s : float
        Duration of a sample; when the first one begins, s after the trigger pulse.
    pulse_s : float or None
        How long the pulse at the external trigger is; none: there is no pulse.
    """

    volts: Points
    rest: float
    sample_s: float
    delay_s: float = 0.0
    pulse_s: float | None = None

    def at(self, times: Points) -> Points:
        """Voltage at times in s after the pulse."""
        position = (times - self.delay_s) / self.sample_s  # sample n belongs to n + 1
        nodes = np.concatenate(([self.rest], self.volts))
        return np.interp(position, np.arange(len(nodes), dtype=np.float64), nodes)

    def crossing(self, level: float, slope: str) -> float | None:
        """When the voltage first crosses a level, s after the pulse."""
        nodes = np.concatenate(([self.rest], self.volts))
        nodes, level = (nodes, level) if slope == "POS" else (-nodes, -level)
        below = (nodes[:-1] < level) & (nodes[1:] >= level)
        if not below.any():
            return None
        first = int(np.argmax(below))
        part = (level - nodes[first]) / (nodes[first + 1] - nodes[first])
        return self.delay_s + (first + float(part)) * self.sample_s


@final
@dataclass(frozen=True)
class Screen:
    """What the vertical and horizontal settings were when a record was taken.

    Attributes
    ----------
    centre_v, height_v : float
        Middle and height of the screen's eight divisions, V.
    start_s, width_s : float
        Left edge, relative to the trigger, and width, s.
    points : int
        How many the memory takes over that width.
    """

    centre_v: float
    height_v: float
    start_s: float
    width_s: float
    points: int


@final
@dataclass(frozen=True)
class Capture:
    """A record: the signal, and how it was taken.

    Attributes
    ----------
    signal : Signal
        At the connectors.
    triggered_s : float
        When, s after the pulse.
    screen : Screen
        The settings of the time.
    gain : float
        What a volt at the connector is called.
    offset_v : float
        Of the input, V.
    alternating : bool
        Whether the mean is taken off.
    seed : (int, int)
        Of the noise.
    fault : str
        What is wrong with it.
    """

    signal: Signal
    triggered_s: float
    screen: Screen
    gain: float
    offset_v: float
    alternating: bool
    seed: tuple[int, int]
    fault: str


def seen(capture: Capture, channel: int, points: int, *, noise: bool) -> Points:
    """What the converter gets, called by the probe's factor."""
    screen, signal = capture.screen, capture.signal
    rng = np.random.default_rng(capture.seed)
    volts = np.zeros(points)
    if channel == 1:
        jitter = JITTER * signal.sample_s * rng.uniform(-1, 1) if noise else 0.0
        start = screen.start_s + capture.triggered_s + jitter
        times = start + np.arange(points, dtype=np.float64) * (screen.width_s / points)
        volts = signal.at(times)
        if capture.alternating:
            volts -= volts.mean()
        volts = (volts + capture.offset_v) * capture.gain
    if noise:
        volts += NOISE * screen.height_v * rng.standard_normal(points)
    return volts


def converted(
    volts: Points, capture: Capture, bits: int, step: float, middle: int
) -> NDArray[np.uint16]:
    """Codes of a converter with so many bits, eight of them in the high byte.

    0 where nothing was taken, 1 where the volts are below its range, 0xFF00 where above.
    """
    fine = 2 ** (bits - 8)
    codes = np.round((volts - capture.screen.centre_v) / step * fine) + middle * fine
    low, high = codes < 2 * fine, codes > 254 * fine + fine - 1
    words: NDArray[np.uint16] = np.clip(codes, 0, 255 * fine).astype(np.uint16) * (256 // fine)
    words[low], words[high] = 0x0001, 0xFF00
    if capture.fault == "hole":
        words[len(words) // 3 : len(words) // 3 + max(1, len(words) // 50)] = 0
    elif capture.fault == "saturate":
        words[len(words) // 2 : len(words) // 2 + max(1, len(words) // 50)] = 0xFF00
    return words
