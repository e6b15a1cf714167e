r"""Speech: vowels by their formants, generated or measured; digits and vowels as waves.

`vowels` are generated. Formants are log-normal within a vowel and a group of speakers. With
:math:`f` the twelve formants of a token, and :math:`\mu`, :math:`\sigma` chosen so that each
formant's mean and standard deviation are the published ones,

.. math:: \log f = \mu_v + \sigma_v (s + e), \qquad s \sim N(0, S), \quad e \sim N(0, R - S)

where :math:`s` belongs to the speaker and is the same in all his vowels, :math:`e` to the token,
and R is the measured correlation between the formants and times of one token. Idealised: R and S
are the same for all vowels and groups, and the tails are those of a normal distribution.

The statistics, in hillenbrand1995.csv, are computed from the measurements of J. Hillenbrand, L. A.
Getty, M. J. Clark and K. Wheeler, Acoustic characteristics of American English vowels, J. Acoust.
Soc. Am. 97, 3099 (1995): 45 men, 48 women and 46 children of ten to twelve years, who each said the
words below once, without the formants that could not be measured. Here ah is the vowel of "hod"; in
Peterson and Barney's older set it is that of "hud".
"""

import hashlib
import io
import re
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.io import wavfile
from torch import Tensor

from pnnlab.errors import DataError, RangeError
from pnnlab.plain import whole
from pnnlab.storage import explained, user_path
from pnnlab.tasks.task import DataFiles, Split, Task, damaged, read_bytes

Array = NDArray[np.float64]

VOWELS = ("ae", "ah", "aw", "uw", "er", "iy", "ih")  # the paper's seven, in its order
WORDS = ("had", "hod", "hawed", "who'd", "heard", "heed", "hid")
GROUPS = ("men", "women", "children")
TIMES = ("steady", "20%", "50%", "80%")  # of the vowel's duration
FEATURES = tuple(f"F{k} {time} (Hz)" for time in TIMES for k in (1, 2, 3))

_CSV = Path(__file__).with_name("hillenbrand1995.csv")
_TABLE: Array = np.loadtxt(_CSV, delimiter=",", skiprows=3, usecols=range(3, 15), encoding="utf-8")
# Of the logarithms, within vowel and group, (12, 12); the part of it that the vowels of one speaker
# share: the mean product of two different vowels of one speaker, each in units of its standard
# deviation, averaged over the four times.
CORRELATION = _TABLE[-12:]
SHARED = np.tile([[0.220, 0.159, 0.180], [0.159, 0.265, 0.243], [0.180, 0.243, 0.312]], (4, 4))

# Hz, F1 to F3, what 0 and 1 stand for: fixed before anything is drawn, round numbers five standard
# deviations beyond the outermost vowels of a group.
RANGES = {
    "men": ((200, 1200), (500, 3200), (1200, 4300)),
    "women": ((200, 1600), (400, 3700), (1300, 4900)),
    "children": ((200, 1900), (400, 4500), (1300, 5800)),
}

WRIGHT_FILE = DataFiles(
    "the paper's vowels",
    ("wright2022-vowels/vowels_wright2022.npz", "vowels_wright2022.npz"),
    "the paper's vowels are not here: put vowels_wright2022.npz into the folder that PNNLAB_DATA "
    "names, or give its path; or use vowels(), which are generated.",
)
HILLENBRAND_FILE = DataFiles(
    "Hillenbrand's vowels",
    ("hillenbrand/vowdata.dat", "vowdata.dat"),
    "Hillenbrand's measurements are not here: put vowdata.dat into the folder that PNNLAB_DATA "
    "names, or give its path; or use vowels(), made from their statistics.",
)
_WRIGHT_SHA256 = "27ae4fe7822d70fc8e3cdf66368a893a7477ee49394ce20400335c1c258f8f74"
_GROUP_OF = {"m": "men", "w": "women", "b": "children", "g": "children"}
_LINE = re.compile(r"([mwbg]\d\d)([a-z]{2})((?:\s+\d+){15})\s*")
_COLUMNS = [2, 3, 4, *range(6, 15)]  # F1 to F3, steady and at 20, 50, 80 %; of the 15 numbers


def vowels(seed: int = 0, *, speakers: str | Sequence[str] = "women") -> Task:
    """Seven vowels by twelve formants: 210 tokens to train on, 500 for validation, 2 000 to test.

    As in the paper there are 30 training tokens a vowel, by default of women, whose vowels lie in
    one cloud each. Every speaker appears in one split only, with one token of each vowel. Formants
    are scaled into [0, 1] by `RANGES`. `bayes_accuracy` gives what can be reached.

    Parameters
    ----------
    seed : int
        Each seed has speakers of its own.
    speakers : str or sequence of str
        ``"women"``, ``"men"``, ``"children"``, or several of them, who then take turns.
    """
    groups = speaker_groups(speakers)
    splits = []
    for number, size in enumerate((210, 500, 2000)):
        hz, labels = draw(groups, size, np.random.default_rng([whole("seed", seed, 0), number]))
        splits.append(Split(formant_features(hz, groups), torch.tensor(labels)))
    source = "generated from the statistics of Hillenbrand et al. (1995), " + " and ".join(groups)
    return _task("vowels", splits, source)


def wright_vowels(path: str | Path | None = None, *, held_out: int = 42, seed: int = 0) -> Task:
    """The paper's own 259 tokens, all of women, with the authors' split: 210 to train, 49 to test.

    There are 37 tokens of each vowel, each feature divided by its largest value, as the authors
    did. All who speak in the test split speak in the training split too. Linear classifiers name 47
    to 48 of the 49.

    Parameters
    ----------
    path : path, optional
        The file ``vowels_wright2022.npz``; by default it is looked for under ``PNNLAB_DATA``.
    held_out : int
        Tokens of the authors' 210 that become the validation split, as many of each vowel, drawn by
        ``seed``. 0: all 210 are trained on, as in the paper, and the validation split shows the
        same 210 again; nothing may be chosen by it.

    Raises
    ------
    DataError, RangeError
        The file is missing or not what it should be, or ``held_out`` no multiple of seven.
    """
    each, odd = divmod(whole("held_out", held_out), len(VOWELS))
    if odd or not 0 <= each < 28:  # the rarest vowel has 28 training tokens
        raise RangeError(f"held_out is {held_out}; it must be a multiple of 7, from 0 to 189.")
    found = WRIGHT_FILE.at(path)
    content = read_bytes(found)
    if hashlib.sha256(content).hexdigest() != _WRIGHT_SHA256:
        raise damaged(found, f"its SHA-256 should be {_WRIGHT_SHA256}")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        everything = Split(torch.tensor(arrays["X"]).float(), torch.tensor(arrays["y"]))
        training, test = (
            everything.take(torch.tensor(arrays[name]).long()) for name in ("train_idx", "test_idx")
        )
    [training] = training.divided((), seed)
    labels = training.targets
    rank = torch.stack([(labels[:k] == label).sum() for k, label in enumerate(labels)])
    held = rank < each
    validation = training.take(held) if each else training
    source = "Wright, Onodera et al. (2022), measured by Hillenbrand et al. (1995)"
    return _task("wright-vowels", [training.take(~held), validation, test], source, "relative")


def hillenbrand(
    path: str | Path | None = None, *, speakers: str | Sequence[str] = "women", seed: int = 0
) -> Task:
    """The seven vowels in Hillenbrand's recordings, no speaker in more than one split.

    Three fifths of the speakers of each group, drawn by ``seed``, are trained on, one fifth is for
    validation, and one fifth for the test. Tokens with a formant that could not be measured are
    left out.

    Parameters
    ----------
    path : path, optional
        The file ``vowdata.dat``; by default it is looked for under ``PNNLAB_DATA``.
    speakers
        As of `vowels`; formants are scaled as there.

    Raises
    ------
    DataError, RangeError
        The file is missing or not what it should be, or there are no such speakers.
    """
    groups = speaker_groups(speakers)
    names, words, hz = read_vowdata(HILLENBRAND_FILE.at(path))
    group_of = np.array([_GROUP_OF[name[0]] for name in names])
    usable = np.isin(group_of, groups) & np.isin(words, VOWELS) & np.isfinite(hz).all(1)
    names, words, hz, group_of = names[usable], words[usable], hz[usable], group_of[usable]
    random = np.random.default_rng(whole("seed", seed, 0))
    part_of: dict[str, int] = {}
    for group in groups:
        present = np.unique(names[group_of == group])
        fifth = len(present) // 5
        if not fifth:
            raise DataError(f"{len(present)} {group} in this file; a split needs at least five.")
        parts = [1] * fifth + [2] * fifth + [0] * (len(present) - 2 * fifth)
        part_of |= dict(zip(random.permutation(present), parts, strict=True))
    low, high = limits(groups)
    outside = ((hz < low) | (hz > high)).any(1)
    if outside.any():
        worst = int(outside.argmax())
        raise DataError(
            f"{names[worst]}{words[worst]} has a formant that no such speaker has: "
            f"{hz[worst]} Hz; check the file."
        )
    labels = torch.tensor([VOWELS.index(word) for word in words])
    everything = Split(formant_features(hz, groups), labels)
    part = torch.tensor([part_of[name] for name in names])
    splits = [everything.take(part == number) for number in range(3)]
    source = f"Hillenbrand et al. (1995), {' and '.join(groups)}, speakers apart"
    return _task("hillenbrand-vowels", splits, source)


def read_vowdata(path: str | Path) -> tuple[NDArray[np.str_], NDArray[np.str_], Array]:
    """Speakers, such as ``"w01"``, labels and formants, (n, 12), Hz or NaN, of ``vowdata.dat``."""
    with explained(
        DataError, f"{path} cannot be read as vowdata.dat", "check the path and its permissions."
    ):
        lines = user_path(path).read_text(encoding="ascii").splitlines()
    found = [match.groups() for match in map(_LINE.fullmatch, lines) if match]
    if not found:
        raise DataError(
            f"{path} holds no line such as 'w01ae 305 225 678 …' with fifteen numbers: "
            "it is not Hillenbrand's vowdata.dat."
        )
    speakers, labels, numbers = zip(*found, strict=True)
    hz = np.array([line.split() for line in numbers], dtype=np.float64)[:, _COLUMNS]
    return np.array(speakers), np.array(labels), np.where(hz == 0, np.nan, hz)


def moments(group: str) -> tuple[Array, Array]:
    """Means and standard deviations of a group's formants, each (7, 12), Hz."""
    mean, sd = _TABLE[:-12].reshape(3, 7, 2, 12)[GROUPS.index(group)].swapaxes(0, 1).copy()
    return mean, sd


def speaker_groups(speakers: str | Sequence[str]) -> tuple[str, ...]:
    """Groups that are named; raise `RangeError` if there is none or an unknown one."""
    groups = (speakers,) if isinstance(speakers, str) else tuple(speakers)
    if not groups or not set(groups) <= set(GROUPS):
        raise RangeError(f"speakers is {speakers!r}; choose from {', '.join(GROUPS)}.")
    return groups


def limits(groups: Sequence[str]) -> tuple[Array, Array]:
    """Formants that 0 and 1 stand for where ``groups`` speak, each (12,), Hz."""
    ranges = np.array([RANGES[group] for group in groups], dtype=np.float64)
    low, high = ranges[..., 0].min(0), ranges[..., 1].max(0)
    return np.tile(low, len(TIMES)), np.tile(high, len(TIMES))


def formant_features(hz: ArrayLike, groups: Sequence[str] = ("women",)) -> Tensor:
    """Formants, (..., 12), Hz, scaled as in the task `vowels`; float32, in [0, 1]."""
    low, high = limits(groups)
    x = (np.asarray(hz, dtype=np.float64) - low) / (high - low)
    return torch.tensor(x, dtype=torch.float32).clamp(0, 1)


def formant_hz(x: Tensor, groups: Sequence[str] = ("women",)) -> Array:
    """Formants, (..., 12), Hz, of features of the task `vowels`."""
    low, high = limits(groups)
    hz: Array = x.detach().double().cpu().numpy() * (high - low) + low
    return hz


def log_moments(groups: Sequence[str]) -> tuple[Array, Array]:
    """Mu and sigma of the logarithms, each (groups, 7, 12), that give the published moments."""
    mean, sd = np.stack([moments(group) for group in groups], 1)
    variance = np.log1p((sd / mean) ** 2)  # of a log-normal variable's logarithm
    return np.log(mean) - variance / 2, np.sqrt(variance)


def draw(
    groups: Sequence[str], n: int, random: np.random.Generator
) -> tuple[Array, NDArray[np.int64]]:
    """Draw formants, (n, 12), Hz, of speakers who say the vowels in turn, and their labels."""
    count = -(-n // len(VOWELS))
    group = np.repeat(np.arange(count) % len(groups), len(VOWELS))[:n]
    labels = np.tile(np.arange(len(VOWELS)), count)[:n]
    mu, sigma = (moment[group, labels] for moment in log_moments(groups))
    speaker = np.repeat(_normal(SHARED, count, random), len(VOWELS), axis=0)[:n]
    low, high = (np.log(limit) for limit in limits(groups))
    own = CORRELATION - SHARED
    logs = mu + sigma * (speaker + _normal(own, n, random))
    while len(outside := np.flatnonzero(((logs < low) | (logs > high)).any(1))):
        again = speaker[outside] + _normal(own, len(outside), random)
        logs[outside] = mu[outside] + sigma[outside] * again
    return np.exp(logs), labels


def log_likelihood(groups: Sequence[str], hz: Array) -> Array:
    """Log-density of each token, (n, 12), under each vowel, (n, 7), averaged over the groups."""
    mu, sigma = log_moments(groups)
    z = (np.log(hz)[:, None, None] - mu) / sigma  # (n, groups, 7, 12)
    squares = np.einsum("...i,ij,...j->...", z, np.linalg.inv(CORRELATION), z, optimize=True)
    constant = np.linalg.slogdet(2 * np.pi * CORRELATION)[1]
    logs = -(squares + constant) / 2 - np.log(sigma).sum(-1)
    averaged: Array = np.logaddexp.reduce(logs, axis=1) - np.log(len(groups))
    return averaged


def bayes_accuracy(
    speakers: str | Sequence[str] = "women", *, n: int = 100_000, seed: int = 0
) -> tuple[float, float]:
    """The best accuracy on `vowels` that any classifier can have, and its standard error.

    It is the mean probability, over about ``n`` tokens, of the most probable vowel.
    """
    groups = speaker_groups(speakers)
    random = np.random.default_rng([whole("seed", seed, 0), 3])
    block = 1000 * len(VOWELS)  # in parts, to keep the memory small
    means = []
    for _ in range(max(2, round(whole("n", n) / block))):
        logs = log_likelihood(groups, draw(groups, block, random)[0])
        chances = np.exp(logs.max(1) - np.logaddexp.reduce(logs, axis=1))
        means.append(chances.reshape(-1, len(VOWELS)).mean(1))  # a speaker's tokens are alike
    by_speaker = np.concatenate(means)
    return float(by_speaker.mean()), float(by_speaker.std() / np.sqrt(len(by_speaker)))


def _normal(covariance: Array, n: int, random: np.random.Generator) -> Array:
    """Normal deviates of this covariance, (n, 12); it may be singular."""
    values, vectors = np.linalg.eigh(covariance)
    half = vectors * np.sqrt(values.clip(0))
    deviates: Array = random.standard_normal((n, len(covariance))) @ half.T
    return deviates


def _task(name: str, splits: Sequence[Split], source: str, unit: str = "Hz") -> Task:
    train, validation, test = splits
    features = tuple(feature.replace("(Hz)", f"({unit})") for feature in FEATURES)
    return Task(name, train, validation, test, len(VOWELS), None, source, VOWELS, features)


# --- as waves: recorded digits, and synthetic vowels for where there are no recordings ---

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


def prepared(sound: ArrayLike) -> Tensor:
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
