"""A look at the bench before it is used: what is connected, how late and how strong."""

from dataclasses import dataclass
from typing import final

import numpy as np

from pnnlab.instruments.alignment import align
from pnnlab.instruments.loop import Loop
from pnnlab.instruments.oscilloscope import Oscilloscope
from pnnlab.instruments.programme import Programme
from pnnlab.systems.terminals import Volts

LEAD = 32  # samples of silence before a pilot, and most by which it may be early or late
PILOT = 64  # samples of a pilot
LOUDEST = 0.8  # of the programme's drive
REPEATS = 8
ALIKE = 0.8  # a working device resembles its nominal equations at least so much
TRUE_GAIN = 1.4  # and answers within this factor; a wrong load or probe is 2 or 10


@final
@dataclass(frozen=True)
class SelfCheck:
    """What was found.

    Attributes
    ----------
    problems : tuple of str
        What is wrong and what to do about it; empty if the bench can be used.
    delay_s : float
        How late the answer to a sample arrives, s.
    gain : float
        Recorded over expected.
    likeness : float
        Correlation of the device with its nominal equations.
    noise_v : float
        Rms of a point from one repeat to the next, V.
    pilot : array, (points,)
        Mean record of the pilot, V, aligned; what later records are compared with.
    """

    problems: tuple[str, ...]
    delay_s: float
    gain: float
    likeness: float
    noise_v: float
    pilot: Volts

    def __str__(self) -> str:
        if self.problems:
            return "The bench is not ready.\n" + "\n".join(f"- {line}" for line in self.problems)
        return (
            f"The bench is ready: delay {self.delay_s * 1e9:.0f} ns, gain {self.gain:.2f} of the "
            f"nominal device, likeness {self.likeness:.3f}, noise {self.noise_v * 1e3:.2g} mV rms "
            "a point."
        )


def pilot(programme: Programme) -> Volts:
    """Waveform that a self-check sends, and every batch begins with: silence, pilot, silence.

    Sixteen levels for four samples each, so that it has slow and fast parts and both signs.
    """
    levels = np.random.default_rng(2022).uniform(-1, 1, PILOT // 4)
    levels *= LOUDEST * programme.drive_v / np.abs(levels).max()
    silence = np.zeros(LEAD), np.zeros(LEAD + programme.rest)
    return np.concatenate([silence[0], np.repeat(levels, 4), silence[1]])


def self_check(loop: Loop, programme: Programme) -> SelfCheck:
    """Send the pilot through the bench, and find what is wrong with it, if anything is.

    Raises
    ------
    InstrumentError
        An instrument does not answer, or the oscilloscope sees no trigger.
    """
    sent = pilot(programme)
    expected = programme.expected(sent)
    period = 1 / programme.sample_rate_hz
    window = slice(LEAD, LEAD + PILOT + LEAD)
    first = np.mean([loop.take(sent, 0.0).volts for _ in range(REPEATS)], axis=0)
    delay_s = (align(first, expected[window]).delay - LEAD) * period
    records = [loop.take(sent, delay_s) for _ in range(REPEATS)]
    volts = np.stack([record.volts for record in records])
    noise = float(volts.std(0, ddof=1).mean())
    mean = volts.mean(0)
    aligned = align(mean[window], expected[window])  # no room to move: gain and offset alone
    signal = float(np.ptp(mean))
    problems = []
    if signal < 8 * noise or signal < 0.01 * np.ptp(expected):
        problems.append(_silence(loop, sent, noise))
    elif aligned.gain < 0:
        problems.append(
            "what comes back is upside down: switch the inversion of the oscilloscope's channel "
            "off, or turn the probe's and the generator's leads round."
        )
    elif any(record.saturated for record in records):
        problems.append(
            "what comes back leaves the oscilloscope's screen: give a wider range (low_v, high_v) "
            "or a weaker drive, and look at the probe's attenuation."
        )
    elif aligned.likeness < ALIKE:
        problems.append(
            f"what comes back resembles a {programme.name} by {aligned.likeness:.2f} alone. Look "
            "whether the device is there, has its supply, and is the one of this programme."
        )
    elif not 1 / TRUE_GAIN < aligned.gain < TRUE_GAIN:
        problems.append(
            f"what comes back is {aligned.gain:.2g} times as strong as it should be. A factor of 2 "
            "is the generator's load setting (high impedance or 50 ohm), one of 10 the probe's "
            "attenuation."
        )
    if any(record.missing for record in records):
        problems.append("the oscilloscope leaves points out: lower its sample rate.")
    if max(record.step_s for record in records) > 1.01 * period:
        problems.append("the oscilloscope takes fewer points than the generator sends samples.")
    return SelfCheck(tuple(problems), delay_s, aligned.gain, aligned.likeness, noise, mean)


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
