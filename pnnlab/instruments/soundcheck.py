"""What a loudspeaker, a microphone and all between them do to sound: measured before it is used.

Levels are parts of full scale, of player and of recorder.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias, final

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft
from scipy.ndimage import binary_closing
from scipy.signal import correlate, max_len_seq
from scipy.signal.windows import blackmanharris

from pnnlab.errors import InstrumentError
from pnnlab.systems.analog import Volts

LEAD = 32  # samples of a response before its largest one
PERIOD = 2**14 - 1  # samples of the noise that measures a response: 0.34 s at 48 kHz
SETTLED = 0.05  # samples by which periods of one clock may be off their line
ONE_CLOCK = 2e-7  # a smaller difference is none: player and recorder share a clock
ATTEMPTS = 12  # for each response, on a busy computer
LEVELS = 1 / 27, 1 / 9, 1 / 3  # of the largest, for noise; the response is that at the last one
STEADY = 8  # periods: 2.7 s, after which noise suppression and echo cancellation have acted
TONE = 1 << 13  # samples in which harmonics are measured
MEMORY = 1e-3  # of the response's energy is left
USABLE = 0.1  # of the largest amplitude, and ten times the noise
CLIPPED = 0.99  # of full scale
FAINT = 0.06  # correlation of a record with what was played; that of noise is less
UNEVEN_DB = 1.5  # change of gain with level or time that no loudspeaker makes
DISTORTED = 0.3

_HALF, _PHASES = 24, 1024  # of the interpolating kernel
_OFFSETS = np.arange(1 - _HALF, _HALF + 1) - np.arange(_PHASES + 1)[:, None] / _PHASES
_KERNEL = np.sinc(_OFFSETS) * np.i0(9 * np.sqrt(np.clip(1 - (_OFFSETS / _HALF) ** 2, 0, 1)))
_KERNEL /= _KERNEL.sum(1, keepdims=True)

Play: TypeAlias = Callable[[Volts], Volts]
"""Plays sound, (samples,), and returns a record, which begins no later and ends no earlier."""


@final
class SlipError(InstrumentError):
    """Sound was lost or doubled on the way, so that a record does not fit one clock."""


class Response(NamedTuple):
    """What an impulse of full scale becomes."""

    taps: Volts  # (taps,), the largest at `LEAD`
    delay: float  # samples until it is recorded
    clock: float  # samples of the recorder in one of the player
    gains: Volts  # of each period, beside the middle of them
    floor: Volts  # (frequencies,), amplitude of what differed between periods, as of the taps

    @property
    def gain(self) -> float:
        """Root of the energy of the answer to an impulse."""
        return float(np.linalg.norm(self.taps))

    def in_place_of(self, earlier: "Response") -> "Response":
        """The same, shifted by less than a sample or so, such that it begins as an earlier one."""
        late = float(lags(self.taps, earlier.taps, periodic=True))
        turn = 2j * math.pi / PERIOD * np.arange(PERIOD // 2 + 1)
        return self._replace(taps=irfft(rfft(self.taps) * np.exp(turn * late), PERIOD))


@final
@dataclass(frozen=True)
class SoundCheck:
    """What was found."""

    problems: tuple[str, ...]  # and what to do about them; empty if the bench can be used
    rate_hz: float
    response: Response
    frequencies_hz: Volts  # (frequencies,), of the two that follow
    amplitude: Volts  # frequency response, smoothed
    floor: Volts  # amplitude of noise in it
    band_hz: tuple[float, float]  # usable
    memory_s: float  # after which a thousandth of the energy is left
    noise: float  # rms in silence
    gains: tuple[float, ...]  # at the `LEVELS`, beside the last
    distortion: tuple[float, ...]  # harmonics beside a tone, at three times those

    @property
    def snr_db(self) -> float:
        """Signal to noise in the usable band."""
        low, high = np.searchsorted(self.frequencies_hz, self.band_hz)
        ratio = self.amplitude[low:high] / np.maximum(self.floor[low:high], 1e-12)
        return float(10 * np.log10(np.square(ratio).mean())) if high > low else 0.0

    def __str__(self) -> str:
        if self.problems:
            return "The sound is not ready.\n" + "\n".join(f"- {line}" for line in self.problems)
        return (
            f"The sound is ready. Usable from {self.band_hz[0]:.0f} to {self.band_hz[1]:.0f} Hz, "
            f"{self.snr_db:.0f} dB above the noise; silent after {self.memory_s * 1e3:.0f} ms; "
            f"{self.response.delay / self.rate_hz * 1e3:.0f} ms late; the clocks differ by "
            f"{(self.response.clock - 1) * 1e6:.1f} ppm; harmonics {self.distortion[-1]:.1%}."
        )


def resample(record: Volts, start: float, clock: float, count: int) -> Volts:
    """Values of a record, silent beyond its ends, at ``start``, ``start + clock``, and so on.

    Of one clock and a whole start these are the very values.
    """
    at = start + clock * np.arange(count)
    first = np.floor(at).astype(np.int64)
    exact = clock == 1 and start == first[0]
    rows = np.rint((at - first) * _PHASES).astype(np.int64)
    values = np.zeros(count)
    for tap in [_HALF - 1] if exact else range(2 * _HALF):
        places = first + (tap + 1 - _HALF)
        inside = (places >= 0) & (places < len(record))
        heard = np.where(inside, record[places * inside], 0)
        values += heard if exact else _KERNEL[rows, tap] * heard
    return values


def locate(record: Volts, sound: Volts) -> tuple[int, float]:
    """How late a sound is in a record, whole samples, and how alike they are there, up to 1."""
    match = correlate(record, sound, method="fft")[len(sound) - 1 :]
    lag = int(np.abs(match).argmax())
    size = np.linalg.norm(record[lag : lag + len(sound)]) * np.linalg.norm(sound)
    return lag, float(abs(match[lag]) / max(size, 1e-15))


def lags(found: Volts, expected: Volts, *, periodic: bool = False) -> Volts:
    """How late sounds, (..., samples), are beside those expected, less than a sample or so."""
    samples = expected.shape[-1]
    points = samples if periodic else next_fast_len(2 * samples, real=True)
    cross = rfft(found, points) * rfft(expected, points).conj()
    turn = 2 * math.pi / points * np.arange(cross.shape[-1] * 2 // 3)  # converters end above
    cross = cross[..., : len(turn)]
    weight = np.abs(cross)
    size = np.maximum((weight * turn**2).sum(-1), 1e-300)  # nothing was heard: not late
    slope: Volts = -(weight * turn * np.angle(cross)).sum(-1) / size
    return slope


def measure_response(play: Play, level: float, periods: int) -> Response:
    """Measure the linear response with periods of noise, after a head by which they are found.

    `SlipError`: sound was lost or doubled; `InstrumentError`: nothing was heard.
    """
    noise = level * (2.0 * max_len_seq(14)[0] - 1)
    fade = np.arange(PERIOD) / PERIOD
    head = noise * (1 - 2 * (np.arange(PERIOD) % 2)) * fade
    record = play(np.concatenate([head, *(noise,) * (1 + periods), noise * fade[::-1]]))
    late, alike = locate(record, head)
    if alike < FAINT:
        muted = "" if record.any() else "The record is nothing but zeros. "
        raise InstrumentError(f"{muted}{UNHEARD}")
    clock = 1.0
    for _ in range(3):
        begins = [late - LEAD + clock * (2 + number) * PERIOD for number in range(periods)]
        rows = np.stack([resample(record, begin, clock, PERIOD) for begin in begins])
        if not rows.any(axis=1).all():
            raise SlipError(SLIPS)
        offsets = np.array([_turned(row, rows[0]) for row in rows])
        clock += float(np.polyfit(np.arange(periods), offsets, 1)[0]) / PERIOD
        clock = 1.0 if abs(clock - 1) < ONE_CLOCK else clock
    if np.abs(offsets).max() > SETTLED:
        raise SlipError(SLIPS)
    spectra = rfft(rows) / rfft(noise)
    spectra[:, 0] = 0  # the noise has hardly any constant part
    answers = irfft(spectra, PERIOD)
    taps = np.median(answers, axis=0)  # a click in one period is in no median
    peak = int(np.abs(taps).argmax())
    before, at, after = np.abs(taps[np.arange(peak - 1, peak + 2) % PERIOD])
    summit = (before - after) / (2 * (before - 2 * at + after))  # of a parabola
    return Response(
        taps=np.roll(taps, LEAD - peak),
        delay=late + (peak - LEAD + PERIOD // 2) % PERIOD - PERIOD // 2 + float(summit),
        clock=clock,
        gains=answers @ taps / np.square(taps).sum(),
        floor=np.sqrt(np.square(np.abs(rfft(answers - taps))).mean(axis=0)),
    )


def _turned(row: Volts, first: Volts) -> float:
    """By how much a period is later than another."""
    match = irfft(rfft(row) * rfft(first).conj(), PERIOD)
    whole = (int(match.argmax()) + PERIOD // 2) % PERIOD - PERIOD // 2
    return whole + float(lags(np.roll(row, -whole), first, periodic=True))


def self_check(play: Play, level: float, rate_hz: float) -> SoundCheck:
    """Measure everything, softly at first, and find what is wrong, if anything is.

    ``level`` is the largest that may be played. It takes some ten seconds. `InstrumentError`:
    nothing is heard, or sound is lost again and again.
    """
    silence = play(np.zeros(PERIOD))
    each = [_insist(play, part * level, STEADY if part == LEVELS[-1] else 2) for part in LEVELS]
    full = each[-1]
    bands = len(full.floor) // 64
    edges_hz = np.arange(bands + 1) * 64 * rate_hz / PERIOD
    sizes = [np.abs(one[: 64 * bands]) for one in (rfft(full.taps), full.floor)]
    amplitude, floor = (np.sqrt(np.square(one).reshape(bands, 64).mean(1)) for one in sizes)
    usable = (amplitude > USABLE * amplitude.max()) & (amplitude > 10 * floor)
    usable = binary_closing(usable, np.ones(5))  # a narrow hole is a room's, not a band's end
    usable[0] = False  # there is no constant part
    runs = np.flatnonzero(np.diff(usable, prepend=False, append=False)).reshape(-1, 2)
    first, end = max(runs, key=lambda run: run[1] - run[0], default=(0, 0))
    band = float(edges_hz[first]), min(float(edges_hz[end]), rate_hz / 2)
    left = np.square(full.taps[LEAD:])
    left = np.cumsum((left - left[-PERIOD // 4 :].mean())[::-1])[::-1]
    distortion, clips = _harmonics(play, level, band, rate_hz, full)
    found = SoundCheck(
        problems=(),
        rate_hz=rate_hz,
        response=full,
        frequencies_hz=(edges_hz[1:] + edges_hz[:-1]) / 2,
        amplitude=amplitude,
        floor=floor,
        band_hz=band,
        memory_s=int(np.flatnonzero(left > MEMORY * left[0])[-1]) / rate_hz,
        noise=float(silence.std()),
        gains=tuple(float(one.taps @ full.taps / full.gain**2) for one in each),
        distortion=distortion,
    )
    return replace(found, problems=tuple(_problems(found, clips)))


def _insist(play: Play, level: float, periods: int) -> Response:
    for _ in range(ATTEMPTS - 1):
        with suppress(SlipError):
            return measure_response(play, level, periods)
    return measure_response(play, level, periods)


def _harmonics(
    play: Play, level: float, band: tuple[float, float], rate_hz: float, response: Response
) -> tuple[tuple[float, ...], bool]:
    """Second to fifth harmonic of a tone beside it, softly to fully; and whether a record clips.

    They are compared as they leave a loudspeaker with a flat response.
    """
    tone_hz = max(min(math.sqrt(band[0] * band[1]) / 2, band[1] / 5), band[0], 8 * rate_hz / TONE)
    turns = round(tone_hz * TONE / rate_hz) * np.arange(1, 6)
    time = np.arange(3 * TONE)
    wave = level * np.sin(2 * math.pi * turns[0] / TONE * time)
    wave *= np.minimum(1, np.minimum(time, time[::-1]) / (0.02 * rate_hz))
    sound = np.concatenate([3 * part * wave for part in LEVELS])
    record = play(sound)
    late, _ = locate(record, sound)
    flat = np.abs(rfft(response.taps))[turns * PERIOD // TONE % (PERIOD // 2)]
    found = []
    for start in late + TONE * np.arange(1, 3 * len(LEVELS), 3):
        spectrum = np.abs(rfft(record[start : start + TONE] * blackmanharris(TONE)))
        lines = np.array([spectrum[at - 3 : at + 4].max(initial=0.0) for at in turns]) / flat
        found.append(float(np.linalg.norm(lines[1:]) / max(lines[0], 1e-12)))
    return tuple(found), bool(np.abs(record).max() > CLIPPED)


UNHEARD = (
    "Nothing of what is played is heard. Look whether the right loudspeaker and microphone are "
    "chosen (pnnlab doctor lists them), whether either is muted or its volume at zero, and whether "
    "the system lets Python use the microphone (Windows: Settings, Privacy, Microphone; macOS: "
    "System Settings, Privacy & Security, Microphone)."
)
SLIPS = (
    "Sound is lost or doubled on the way, again and again. Close other programs, leave Bluetooth, "
    "and take the same device for playing and recording if there is one."
)
_SWITCH_OFF = (
    "is on. Switch it off (Windows: Settings, Sound, the microphone, Audio enhancements: off; "
    "macOS: the microphone's mode in the menu bar: Standard; Linux: no module-echo-cancel and no "
    "EasyEffects), and end calls."
)


def _problems(found: SoundCheck, clips: bool) -> Iterator[str]:
    """Say what is wrong and what to switch off, and where."""
    full, (low_hz, high_hz), rate_hz = found.response, found.band_hz, found.rate_hz
    ratios = np.abs([found.gains[0], full.gains[-1] / full.gains[0]])
    soft_db, fading_db = 20 * np.log10(np.maximum(ratios, 1e-6))
    if clips:
        yield "the record clips: lower the microphone's level in the system's sound settings."
    if soft_db > UNEVEN_DB:
        yield (
            f"soft sounds are amplified {soft_db:.0f} dB more than louder ones: automatic gain "
            f"control or a limiter {_SWITCH_OFF}"
        )
    if soft_db < -UNEVEN_DB:
        yield (
            f"soft sounds are weakened by {-soft_db:.0f} dB: a noise gate or noise suppression "
            f"{_SWITCH_OFF}"
        )
    if fading_db < -UNEVEN_DB:
        yield (
            f"a steady sound fades by {-fading_db:.0f} dB in {STEADY * PERIOD / rate_hz:.0f} s: "
            f"noise suppression or echo cancellation {_SWITCH_OFF}"
        )
    if high_hz < 8300 and full.delay > 0.1 * rate_hz:
        yield (
            f"nothing comes back above {high_hz:.0f} Hz, and it is {full.delay / rate_hz:.2f} s "
            "late: this is Bluetooth's coding of speech. Use a cable, or the built-in devices."
        )
    if high_hz <= 3 * low_hz:
        yield (
            f"sound stands out of the noise from {low_hz:.0f} to {high_hz:.0f} Hz alone: bring "
            "loudspeaker and microphone closer, or raise the volume a little."
        )
    if found.distortion[-1] > DISTORTED:
        harmonics = f"harmonics are {found.distortion[-1]:.0%} of a tone"
        yield f"{harmonics}: lower the volume until nothing rattles."
