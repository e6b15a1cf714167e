r"""Measure the formants of a spoken vowel.

A vowel is a buzz that throat and mouth filter. Linear prediction describes each sample by those
before it,

.. math:: s_n \approx \sum_{k=1}^{p} a_k s_{n-k},

and the roots of :math:`1 - \sum_k a_k z^{-k}` near the unit circle are the resonances: a root at
:math:`r e^{i\varphi}` is a formant of frequency :math:`\varphi f_s / 2\pi` and bandwidth
:math:`-\ln(r) f_s / \pi`. Idealised: no nasal sounds, whose zeros such a filter does not have.

References
----------
J. D. Markel and A. H. Gray, Linear Prediction of Speech (Springer, 1976), chapters 3 and 7.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import solve_toeplitz
from scipy.signal import lfilter, resample

from pnnlab.errors import DataError, ShapeError
from pnnlab.tasks.speech import PARTS, speaker_groups

Array = NDArray[np.float64]

# Hz, below which five formants are looked for: a shorter throat has higher ones. Several are tried.
CEILINGS = {
    "men": (4500.0, 4750.0, 5000.0, 5250.0, 5500.0),
    "women": (4900.0, 5200.0, 5500.0, 5800.0, 6100.0),
    "children": (5600.0, 6000.0, 6400.0, 6800.0, 7200.0),
}
ORDER = 10  # of the prediction: two for each of five formants
WINDOW, HOP = 0.030, 0.01  # s
WIDEST = 700.0  # Hz, bandwidth of a resonance that counts as a formant
LOWEST = 150.0  # Hz
QUIETEST = 0.003  # rms of the loudest 10 ms, of full scale
SHORTEST = 0.08  # s of a vowel
FEWEST = 5  # frames with three formants
FALL = 0.18  # of the loudest rms: where a vowel begins and ends, 15 dB below


def formants(samples: ArrayLike, rate: float, *, speakers: str = "women") -> Array:
    """Find the vowel in a recording, (n,), 1 being full scale, and measure its formants.

    Try several ceilings and keep the smoothest tracks: a formant that is missed or made up jumps.
    Gives F1 to F3 where they are steadiest and at 20, 50 and 80 % of its duration, (12,), Hz.
    """
    [group] = speaker_groups([speakers])
    sound = np.asarray(samples, dtype=np.float64)
    if sound.ndim != 1 or not np.isfinite(sound).all():
        raise ShapeError(f"samples have shape {sound.shape}; give one channel of finite numbers.")
    begin, end = _vowel(sound, rate)
    vowel = sound[round(begin * rate) : round(end * rate)]
    every = (_tracks(vowel, rate, ceiling) for ceiling in CEILINGS[group])
    found = [(times, tracks) for times, tracks in every if len(times) >= FEWEST]
    if not found:
        raise DataError("no three formants in what was said: say one open vowel, as in 'heed'.")
    times, tracks = min(found, key=lambda each: np.abs(np.diff(np.log(each[1]), 2, 0)).mean())
    duration = end - begin
    moved = np.abs(np.gradient(np.log(tracks), axis=0)).sum(1)
    smooth = np.convolve(moved, np.ones(5) / 5, "same")
    # Not at the edges, where consonants begin and end.
    inner = np.flatnonzero((times > 0.1 * duration) & (times < 0.7 * duration))
    steady = times[inner[smooth[inner].argmin()]] if len(inner) else duration / 2
    at = [steady, *(part * duration for part in PARTS)]
    nearest = [np.abs(times - moment).argsort()[:5] for moment in at]
    return np.concatenate([np.median(tracks[frames], axis=0) for frames in nearest])


def _vowel(sound: Array, rate: float) -> tuple[float, float]:
    """Where the loudest part of ``sound``, (n,), begins and ends, seconds."""
    width = max(1, round(0.01 * rate))
    blocks = sound[: len(sound) // width * width].reshape(-1, width)
    level = blocks.std(1) if len(blocks) else np.zeros(1)
    loudest = int(level.argmax())
    if level[loudest] < QUIETEST:
        raise DataError("nothing was heard: speak louder, or choose another microphone.")
    if np.mean(np.abs(sound) > 0.99) > 0.02:
        raise DataError("the sound is too loud: move away from the microphone, or lower its level.")
    quiet = np.flatnonzero(level < FALL * level[loudest])
    begin = int(quiet[quiet < loudest].max(initial=-1)) + 1
    end = int(quiet[quiet > loudest].min(initial=len(level)))
    if (end - begin) * 0.01 < SHORTEST:
        raise DataError("what was heard is too short for a vowel: say it for a little longer.")
    return begin * 0.01, end * 0.01


def _tracks(sound: Array, rate: float, ceiling: float) -> tuple[Array, Array]:
    """F1 to F3 below ``ceiling``: times, (frames,), and Hz, (frames, 3), where all were found."""
    sampled = 2.0 * ceiling
    slow = resample(sound, round(len(sound) * sampled / rate))
    slow = lfilter([1.0, -np.exp(-2 * np.pi * 50 / sampled)], [1.0], slow)
    width, hop = round(WINDOW * sampled), round(HOP * sampled)
    if len(slow) < width:
        return np.empty(0), np.empty((0, 3))
    frames = sliding_window_view(slow, width)[::hop] * np.hamming(width)
    found = [_resonances(frame, sampled)[:3] for frame in frames]
    whole = [place for place, f in enumerate(found) if len(f) == 3]
    times = (np.array(whole) * hop + width / 2) / sampled
    tracks: Array = np.array([found[place] for place in whole]).reshape(-1, 3)
    return times, tracks


def _resonances(frame: Array, rate: float) -> Array:
    """Frequencies of the narrow resonances of ``frame``, (samples,), Hz, rising."""
    products = np.correlate(frame, frame, "full")[len(frame) - 1 :][: ORDER + 1]
    products[0] = products[0] * (1 + 1e-9) + 1e-12  # or silence could not be solved
    roots = np.roots([1.0, *-solve_toeplitz(products[:-1], products[1:])])
    with np.errstate(divide="ignore"):  # a root at zero is infinitely wide
        bandwidth = -np.log(np.abs(roots)) * rate / np.pi
    frequency = np.angle(roots) * rate / (2 * np.pi)
    kept = (bandwidth < WIDEST) & (frequency > LOWEST) & (frequency < rate / 2 - 50)
    return np.sort(frequency[kept])
