"""Speech as waves: recorded digits, and synthetic vowels for where there are no recordings."""

import io
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.io import wavfile

from pnnlab.errors import DataError, RangeError
from pnnlab.plain import whole
from pnnlab.tasks.formants import GROUPS, VOWELS, draw
from pnnlab.tasks.task import DataFiles, Split, Task, damaged, read_bytes

Array = NDArray[np.float64]

RATE = 8000  # Hz
SAMPLES = 4096  # of a wave, half a second
LEVEL = 1 / 16  # rms of a wave over all its samples, about 0.5
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
EACH = 50  # recordings of a digit by a speaker
PARTS = (0.2, 0.5, 0.8)  # of a vowel's duration, where the tasks read the formants
PITCHES = {"men": 120.0, "women": 210.0, "children": 250.0}  # Hz, of a voice

RECORDINGS = DataFiles(
    "spoken digits",
    ("fsdd/recordings", "free-spoken-digit-dataset/recordings", "recordings"),
    "the spoken digits are not here: put the folder recordings of the Free Spoken Digit Dataset "
    "into a folder fsdd of the folder that PNNLAB_DATA names, or give its path; or use "
    "spoken_vowels(), which are synthetic and stand for no real speech.",
    {"0_george_0.wav": ""},
)


def spoken_digits(
    digits: Sequence[int] = tuple(range(10)),
    *,
    held_out: str | None = "george",
    path: str | Path | None = None,
) -> Task:
    """Digits as six speakers said them: each example is the recorded wave itself.

    A wave is 4096 samples at 8 kHz, see `prepared`. Recordings are those of the Free Spoken Digit
    Dataset (Z. Jackson et al., CC BY-SA 4.0), 50 of each digit by each speaker.

    Parameters
    ----------
    digits : sequence of int
        Which are the classes, in this order.
    held_out : str or None
        The one of `SPEAKERS` whose recordings alone are the test split: what counts. None is the
        customary split, in which all speakers are trained on: recordings 0 to 4 of each digit are
        the test split, 5 to 9 the validation split; otherwise the latter is recordings 0 to 4 of
        all who are trained on.
    path : path, optional
        Folder of the recordings; by default it is looked for under ``PNNLAB_DATA``.

    Raises
    ------
    DataError, RangeError
        The recordings are missing or not what they should be, or there is no such speaker or digit.
    """
    wanted = tuple(whole("digit", digit) for digit in digits)
    if len(set(wanted)) != len(wanted) or len(wanted) < 2 or not set(wanted) <= set(range(10)):
        raise RangeError(f"digits are {wanted}; give at least two different ones from 0 to 9.")
    if held_out not in (None, *SPEAKERS):
        raise RangeError(f"there is no speaker {held_out!r}; choose from {', '.join(SPEAKERS)}.")
    folder = RECORDINGS.at(path)
    keys = [(digit, who, n) for digit in wanted for who in SPEAKERS for n in range(EACH)]
    names = [f"{digit}_{who}_{n}.wav" for digit, who, n in keys]
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise DataError(f"{folder} lacks {len(missing)} recordings, such as {missing[0]}.")
    x = torch.stack([prepared(_read(folder / name)) for name in names])
    said, who, numbers = map(np.array, zip(*keys, strict=True))
    everything = Split(x, torch.tensor([wanted.index(digit) for digit in said]))
    tested = numbers < 5 if held_out is None else who == held_out
    held = ~tested & (numbers < (10 if held_out is None else 5))
    train, validation, test = (
        everything.take(torch.tensor(rows)) for rows in (~tested & ~held, held, tested)
    )
    way = "speakers in all splits" if held_out is None else f"tested on {held_out} alone"
    name = "spoken-digits" if held_out else "spoken-digits, customary split"
    source = f"Free Spoken Digit Dataset, CC BY-SA 4.0, {way}"
    class_names = tuple(DIGITS[digit] for digit in wanted)
    return Task(name, train, validation, test, len(wanted), None, source, class_names)


def spoken_vowels(names: Sequence[str] = ("iy", "ah"), seed: int = 0) -> Task:
    """Synthetic vowels as waves, for a demonstration where there are no recordings.

    Formants are drawn as those of `vowels`, of men, women and children in turn, each token with a
    pitch and a duration of its own, and `synthesised`. Nothing is recorded, so no licence applies.
    Figures reached with it never stand for real speech.
    """
    wanted = tuple(names)
    if len(wanted) < 2 or len(set(wanted)) != len(wanted) or not set(wanted) <= set(VOWELS):
        raise RangeError(f"names are {wanted}; give at least two different ones of {VOWELS}.")
    splits = []
    for number, size in enumerate((120, 60, 100)):
        random = np.random.default_rng([whole("seed", seed, 0), number, 8])
        hz, labels = draw(GROUPS, size * len(VOWELS) // len(wanted), random)
        chosen = [n for n, label in enumerate(labels) if VOWELS[label] in wanted]
        waves = []
        for n in chosen:
            pitch = PITCHES[GROUPS[n // len(VOWELS) % len(GROUPS)]] * random.uniform(0.85, 1.15)
            sound = synthesised(hz[n], RATE, pitch=pitch, seconds=random.uniform(0.25, 0.45))
            waves.append(prepared(sound + 0.003 * random.standard_normal(len(sound))))
        classes = torch.tensor([wanted.index(VOWELS[labels[n]]) for n in chosen])
        splits.append(Split(torch.stack(waves), classes))
    source = "synthesised from the statistics of Hillenbrand et al. (1995): no real speech"
    train, validation, test = splits
    return Task("spoken-vowels", train, validation, test, len(wanted), None, source, wanted)


def prepared(sound: ArrayLike) -> torch.Tensor:
    """A recording, (n,), as the wave that drives a system, (4096,), float32, 0.5 in silence.

    It is the half second with the most energy, or all of it and silence after it, brought to an rms
    of `LEVEL`, or less where the wave would leave [0, 1].
    """
    wave = np.asarray(sound, dtype=np.float64)
    wave = wave - wave.mean() if len(wave) else wave
    if len(wave) > SAMPLES:
        energy = np.concatenate([[0.0], np.cumsum(wave**2)])
        begin = int((energy[SAMPLES:] - energy[:-SAMPLES]).argmax())
        wave = wave[begin : begin + SAMPLES]
    if not wave.any():
        raise DataError("a recording is silent: leave it out.")
    wave = np.pad(wave, (0, SAMPLES - len(wave)))
    level = min(LEVEL / np.sqrt((wave**2).mean()), 0.5 / np.abs(wave).max())
    return torch.tensor(0.5 + level * wave, dtype=torch.float32).clamp(0, 1)  # but for rounding


def _read(path: Path) -> Array:
    try:
        rate, sound = wavfile.read(io.BytesIO(read_bytes(path)))
    except (ValueError, EOFError, struct.error) as error:
        raise damaged(path, str(error)) from error
    if rate != RATE or sound.dtype != np.int16 or sound.ndim != 1:
        raise DataError(
            f"{path} is {sound.dtype} of shape {sound.shape} at {rate} Hz; one channel of 16 bits "
            f"at {RATE} Hz is wanted: convert it, as with sox -r 8000 -c 1 -b 16."
        )
    fractions: Array = sound / 2.0**15
    return fractions


def synthesised(
    hz: ArrayLike, rate: float = 16_000, *, pitch: float = 200.0, seconds: float = 0.3
) -> Array:
    """A vowel of given formants: the harmonics of a voice through five resonators in a row.

    ``hz``, (12,), is F1 to F3 where steady, which is not used, and at 20, 50 and 80 % of the time;
    ``pitch``, Hz, falls by a tenth to the end. The largest value is 0.5.

    The cascade is that of D. H. Klatt, Software for a cascade/parallel formant synthesizer, J.
    Acoust. Soc. Am. 67, 971 (1980), with bandwidths of his tables. The voice falls by 12 dB an
    octave, of which the lips give back 6.
    """
    at = np.asarray(hz, dtype=np.float64).reshape(4, 3)[1:]
    time = np.arange(round(seconds * rate)) / rate
    fundamental = pitch * (1.05 - 0.1 * time / seconds)
    harmonic = np.arange(1, 0.45 * rate / fundamental[0])[:, None]
    frequency = harmonic * fundamental
    amplitude = 1 / harmonic
    highest = float(at[:, 2].max())
    resonances = [np.interp(time / seconds, PARTS, at[:, k]) for k in range(3)]
    resonances += [np.array(max(4000.0, 1.2 * highest)), np.array(max(5000.0, 1.5 * highest))]
    for centre, bandwidth in zip(resonances, (60.0, 90.0, 150.0, 200.0, 250.0), strict=True):
        amplitude = amplitude * centre**2
        amplitude /= np.hypot(centre**2 - frequency**2, bandwidth * frequency)
    phase = 2 * np.pi * np.cumsum(fundamental) / rate
    sound = (amplitude * np.sin(harmonic * phase)).sum(0)
    sound *= np.clip(np.minimum(time, seconds - time) / 0.02, 0, 1)
    made: Array = 0.5 * sound / np.abs(sound).max()
    return made
