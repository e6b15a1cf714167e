"""A look at the bench before it is used: what is connected, how late and how strong."""

from dataclasses import dataclass
from typing import final

import numpy as np

from pnnlab.instruments.alignment import align
from pnnlab.instruments.loop import Loop
from pnnlab.instruments.oscilloscope import Oscilloscope
from pnnlab.instruments.programme import Programme
from pnnlab.systems.analog import Volts

LEAD = 32  # samples of silence around a pilot, and most by which it may be early or late
PILOT = 64  # samples of a pilot
LOUDEST = 0.8  # of the programme's drive
REPEATS = 8
ALIKE = 0.8  # a working device resembles its nominal equations at least so much
LATE = 4  # samples, either way
TRUE_GAIN = 1.4  # and answers within this factor; a wrong load or probe is 2 or 10


@final
@dataclass(frozen=True)
class SelfCheck:
    """What was found.

    Attributes
    ----------
    problems : tuple of str
        What is wrong and what to do about it; empty if the bench can be used.
    late_s : float
        How late the answer arrives, beyond the delay that was given, s. A device that is slower or
        faster than its nominal equations adds to it; with a cable in its place it is exact.
    gain : float
        Recorded over expected.
    likeness : float
        Correlation of the device with its nominal equations.
    noise_v : float
        Rms of a point from one repeat to the next, V.
    pilot : array, (points,)
        Mean record of the pilot, V; what later records are compared with.
    """

    problems: tuple[str, ...]
    late_s: float
    gain: float
    likeness: float
    noise_v: float
    pilot: Volts

    def __str__(self) -> str:
        if self.problems:
            return "The bench is not ready.\n" + "\n".join(f"- {line}" for line in self.problems)
        return (
            "The bench is ready. Beside the nominal device, the answer comes "
            f"{self.late_s * 1e9:.0f} ns late, is {self.gain:.2f} times as strong, and resembles "
            f"its answer by {self.likeness:.3f}. Noise: {self.noise_v * 1e3:.2g} mV rms a point."
        )


def pilot(programme: Programme) -> Volts:
    """Waveform that a self-check sends, and every batch begins with: silence, pilot, silence.

    Sixteen levels for four samples each, so that it has slow and fast parts and both signs.
    """
    levels = np.random.default_rng(2022).uniform(-1, 1, PILOT // 4)
    levels *= LOUDEST * programme.drive_v / np.abs(levels).max()
    silence = np.zeros(LEAD), np.zeros(2 * LEAD + programme.rest)
    return np.concatenate([silence[0], np.repeat(levels, 4), silence[1]])


def self_check(loop: Loop, programme: Programme, delay_s: float) -> SelfCheck:
    """Send the pilot through the bench, and find what is wrong with it, if anything is.

    Parameters
    ----------
    loop : Loop
    programme : Programme
    delay_s : float
        How late an answer should arrive.

    Raises
    ------
    InstrumentError
        An instrument does not answer, or the oscilloscope sees no trigger.
    """
    sent = pilot(programme)
    expected = programme.expected(sent)
    period = 1 / programme.sample_rate_hz
    window = slice(LEAD, LEAD + PILOT + LEAD)
    records = [loop.take(sent, delay_s) for _ in range(REPEATS)]
    volts = np.stack([record.volts for record in records])
    noise, mean = float(volts.std(0, ddof=1).mean()), volts.mean(0)
    found = align(mean, expected[window])
    late = found.delay - LEAD
    signal = float(np.ptp(mean))
    problems = []
    if signal < 8 * noise or signal < 0.01 * np.ptp(expected):
        problems.append(_silence(loop, sent, noise))
    elif found.gain < 0:
        problems.append(
            "what comes back is upside down: switch the inversion of the oscilloscope's channel "
            "off, or turn the probe's and the generator's leads round."
        )
    elif any(record.saturated for record in records):
        problems.append(
            "what comes back leaves the oscilloscope's screen: give a wider range (low_v, high_v) "
            "or a weaker drive, and look at the probe's attenuation."
        )
    elif found.likeness < ALIKE:
        problems.append(
            f"what comes back resembles a {programme.name} by {found.likeness:.2f} alone. Look "
            "whether the device is there, has its supply, and is the one of this programme."
        )
    elif not 1 / TRUE_GAIN < found.gain < TRUE_GAIN:
        problems.append(
            f"what comes back is {found.gain:.2g} times as strong as it should be. A factor of 2 "
            "is the generator's load setting (high impedance or 50 ohm), one of 10 the probe's "
            "attenuation."
        )
    elif abs(late) > LATE:
        problems.append(
            f"what comes back is {late:.1f} samples late: look whether the oscilloscope is "
            "triggered by the generator's own Sync or Trigger output, and by its rising edge."
        )
    if any(record.missing for record in records):
        problems.append("the oscilloscope leaves points out: lower its sample rate.")
    if max(record.step_s for record in records) > 1.01 * period:
        problems.append("the oscilloscope takes fewer points than the generator sends samples.")
    return SelfCheck(tuple(problems), late * period, found.gain, found.likeness, noise, mean)


def _silence(loop: Loop, sent: Volts, noise: float) -> str:
    """Say why nothing comes back, after a look at the oscilloscope's other channels."""
    scope = loop.oscilloscope
    neighbour = Oscilloscope(scope.link, scope.dialect, channel=2 if scope.channel == 1 else 1)
    if np.ptp(loop.seen_by(neighbour).take(sent, 0.0).volts) > 20 * noise:
        return (
            f"the signal is on channel {neighbour.channel} of the oscilloscope, and channel "
            f"{scope.channel} shows none: change the cables or the number."
        )
    return (
        f"nothing comes back: channel {scope.channel} of the oscilloscope shows {noise * 1e3:.2g} "
        "mV of noise alone. Look at the cables from the generator's output to the device and from "
        "there to the oscilloscope, and whether the device has its supply."
    )
