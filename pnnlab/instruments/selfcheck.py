"""The self-check of a bench before it is used: what is connected, how late and how strong."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from pnnlab.instruments.oscilloscope import Trace
from pnnlab.instruments.programme import Programme
from pnnlab.systems.analog import Volts

LEAD = 32  # samples of silence before a pilot, and most by which it may be early or late
CHIP = 4  # samples of one level
WINDOW = slice(LEAD, LEAD + 96 * CHIP)  # of a waveform and its record, where the pilot is
PILOTS = 16  # of a client: more than a waveform is tried, so that no old record has the right one
LEAST_CORRELATION = 0.8  # a working device resembles its nominal equations at least so much
UNLIKE = 0.5  # less is noise
MOST_DELAY = 4  # samples, either way
MOST_GAIN = 1.4  # and answers within this factor; a wrong load or probe is 2 or 10


@final
@dataclass(frozen=True)
class SelfCheck:
    """What was found.

    A device that is slower or faster than its nominal equations adds to ``late_s``; with a cable in
    its place that is exact.
    """

    problems: tuple[str, ...]  # and what to do about them; empty if the bench can be used
    late_s: float  # how late the answer arrives, beyond the delay that was given
    gain: float  # recorded over expected
    correlation: float  # of the device with its nominal equations
    noise_v: float  # rms of a point while the device rests
    records: Volts  # of the pilots, (pilots, points), V; later ones are compared with them

    def __str__(self) -> str:
        if self.problems:
            return "The bench is not ready.\n" + "\n".join(f"- {line}" for line in self.problems)
        return (
            "The bench is ready. Beside the nominal device, the answer comes "
            f"{self.late_s * 1e9:.0f} ns late, is {self.gain:.2f} times as strong, and resembles "
            f"its answer by {self.correlation:.3f}. Noise: {self.noise_v * 1e3:.2g} mV rms a point."
        )


def quiet(heads: Volts, programme: Programme) -> Volts:
    """The end of the silence after pilots, (..., points), in which the device is at rest."""
    return heads[..., -(LEAD + programme.rest) :]


def draw_pilots(programme: Programme) -> Volts:
    """Draw the pilots of a client, (pilots, samples), V: silence, random levels, silence.

    The levels have slow and fast parts and both signs. No seed: two clients must not draw the same.
    """
    random = np.random.default_rng()
    shape = PILOTS, (WINDOW.stop - LEAD) // CHIP
    levels = random.choice([-1, 1], shape) * random.uniform(0.8, 1, shape)
    waves = np.repeat(levels * programme.pilot * programme.drive_v, CHIP, axis=1)
    # After twice the rest the first shot's answer depends on which pilot was played by what heat is
    # left of it alone: in a circuit by less than a microvolt.
    return np.pad(waves, ((0, 0), (LEAD, 2 * LEAD + 2 * programme.rest))).astype(np.float32)


def self_check(
    programme: Programme,
    pilots: Volts,
    traces: Sequence[Trace],
    other_channel: Callable[[], tuple[int, int, Volts]],
) -> SelfCheck:
    """Find what is wrong with a bench, if anything is, from its pilots, V, and what came back.

    ``other_channel`` is called if nothing came back: it plays a pilot again, and returns the number
    of the oscilloscope's channel in use, the number of another one, and its record, V.
    """
    period = 1 / programme.sample_rate_hz
    records = np.stack([trace.volts for trace in traces])
    noise = float(quiet(records, programme).std(axis=0, ddof=1).mean())
    head = WINDOW.stop + LEAD
    expected = np.stack([programme.expected(wave[:head])[WINDOW] for wave in pilots])
    # Of narrow resonances the gain of one pilot may be far off; of many it is not.
    found = [align(*pair) for pair in zip(records[:, :head], expected, strict=True)]
    late = float(np.mean([one.delay for one in found])) - LEAD
    gain = float(np.mean([one.gain for one in found]))
    correlation = float(np.mean([one.correlation for one in found]))
    wrong_gain = not 1 / MOST_GAIN < gain < MOST_GAIN
    signal = float(np.ptp(records))
    problems = []
    faint = signal < 0.01 * np.ptp(expected)
    if faint or (correlation < UNLIKE and signal < 8 * noise):
        problems.append(_silence(*other_channel(), noise))
    elif gain < 0:
        problems.append(
            "what comes back is upside down: switch the inversion of the oscilloscope's channel "
            "off, or turn the probe's and the generator's leads round."
        )
    elif any(trace.saturated for trace in traces):
        problems.append(
            "what comes back leaves the oscilloscope's screen: give a wider range (low_v, high_v) "
            "or a weaker drive, and look at the probe's attenuation."
        )
    elif correlation < (UNLIKE if wrong_gain else LEAST_CORRELATION):
        problems.append(
            f"what comes back resembles a {programme.name} by {correlation:.2f} alone. Look "
            "whether the device is there, has its supply, and is the one of this programme."
        )
    elif wrong_gain:
        problems.append(
            f"what comes back is {gain:.2g} times as strong as it should be. A factor of 2 "
            "is the generator's load setting (high impedance or 50 ohm), one of 10 the probe's "
            "attenuation."
        )
    elif abs(late) > MOST_DELAY:
        problems.append(
            f"what comes back is {late:.1f} samples late: look whether the oscilloscope is "
            "triggered by the generator's own Sync or Trigger output, and by its rising edge."
        )
    if any(trace.missing for trace in traces):
        problems.append("the oscilloscope leaves points out: lower its sample rate.")
    return SelfCheck(tuple(problems), late * period, gain, correlation, noise, records)


def _silence(channel: int, other: int, volts: Volts, noise: float) -> str:
    if np.ptp(volts) > 20 * noise:
        return (
            f"the signal is on channel {other} of the oscilloscope, and channel {channel} shows "
            "none: change the cables or the number."
        )
    return (
        f"nothing comes back: channel {channel} of the oscilloscope shows {noise * 1e3:.2g} mV of "
        "noise alone. Look at the cables from the generator's output to the device and from there "
        "to the oscilloscope, and whether the device has its supply."
    )


class RecordAlignment(NamedTuple):
    """How a record compares with the waveform that was expected."""

    delay: float  # samples by which the record is late
    gain: float  # recorded over expected; negative if the record is upside down
    correlation: float  # from 0 (nothing alike) to 1


def align(record: Volts, expected: Volts) -> RecordAlignment:
    """Find ``expected``, (samples,), in ``record``, (points,), which is no shorter.

    The whole delay is that of the largest correlation, of either sign. Its fraction is found by
    least squares: late by a fraction f, sample k of the record is (1 - f) of the expected one and f
    of the one before, and an offset.
    """
    record, expected = np.asarray(record, np.float64), np.asarray(expected, np.float64)
    windows = sliding_window_view(record, len(expected))
    dots = windows @ (expected - expected.mean())
    best = int(np.abs(dots / np.maximum(windows.std(1), 1e-15)).argmax())
    columns = np.stack([expected[1:], expected[:-1], np.ones(len(expected) - 1)], axis=1)
    fits = []
    for lag in {best, max(best - 1, 0)}:
        found = windows[lag, 1:]
        solved, *_ = np.linalg.lstsq(columns, found, rcond=None)
        gain = float(solved[:2].sum())
        fraction = float(solved[1]) / gain if gain else 0.0
        spread = found.var()
        left = float(np.square(found - columns @ solved).mean() / spread) if spread else 1.0
        fit = RecordAlignment(lag + fraction, gain, math.sqrt(max(0.0, 1 - left)))
        # Beyond the sample, the two columns fight each other over noise.
        fits.append((not -0.5 <= fraction <= 1.5, left, fit))
    return min(fits)[-1]
