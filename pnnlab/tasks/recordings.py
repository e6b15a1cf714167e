"""Vowels as they were measured: the paper's own tokens, and all of Hillenbrand's.

Neither file comes with the lab; both are looked for in the folder that ``PNNLAB_DATA`` names.
"""

import hashlib
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pnnlab.errors import DataError, RangeError
from pnnlab.plain import seeded, whole
from pnnlab.storage import user_path
from pnnlab.tasks.files import damaged, data_root, find_file, read_bytes
from pnnlab.tasks.formants import limits
from pnnlab.tasks.hillenbrand1995 import FEATURES, GROUPS, VOWELS
from pnnlab.tasks.task import Split, Task

_WRIGHT_FILES = ("wright2022-vowels/vowels_wright2022.npz", "vowels_wright2022.npz")
_WRIGHT_SHA256 = "27ae4fe7822d70fc8e3cdf66368a893a7477ee49394ce20400335c1c258f8f74"
_HILLENBRAND_FILES = ("hillenbrand/vowdata.dat", "vowdata.dat")
_GROUP_OF = {"m": "men", "w": "women", "b": "children", "g": "children"}
_LINE = re.compile(r"([mwbg]\d\d)([a-z]{2})((?:\s+\d+){15})\s*")
_COLUMNS = (2, 3, 4, *range(6, 15))  # F1 to F3, steady and at 20, 50, 80 %; of the 15 numbers


def find_wright_vowels() -> Path | None:
    """The file of the paper's tokens under ``PNNLAB_DATA``, or None."""
    return find_file(_WRIGHT_FILES, data_root())


def find_hillenbrand() -> Path | None:
    """Hillenbrand's ``vowdata.dat`` under ``PNNLAB_DATA``, or None."""
    return find_file(_HILLENBRAND_FILES, data_root())


def wright_vowels(path: str | Path | None = None, *, held_out: int = 42, seed: int = 0) -> Task:
    """The paper's own 259 tokens, all of women, with the authors' split: 210 to train, 49 to test.

    There are 37 tokens of each vowel. One token of the test split is 2 points, and all who speak
    there speak in the training split too. Linear classifiers name 47 to 48 of the 49.

    Parameters
    ----------
    path : path, optional
        The file ``vowels_wright2022.npz``; by default it is looked for under ``PNNLAB_DATA``.
    held_out : int
        Tokens of the authors' 210 that become the validation split, as many of each vowel, so that
        settings can be chosen. 0: all 210 are trained on, as in the paper, and the validation split
        shows the same 210 again; nothing may be chosen by it.
    seed : int
        Of which tokens are held out.

    Returns
    -------
    Task
        Each feature divided by its largest value in the whole set, as the authors did.

    Raises
    ------
    DataError
        The file is missing, or not the one it claims to be.
    RangeError
        ``held_out`` is not a multiple of seven below 210.
    """
    held_out = whole("held_out", held_out)
    each, odd = divmod(held_out, len(VOWELS))
    if odd or not 0 <= each < 28:  # the rarest vowel has 28 training tokens
        raise RangeError(f"held_out is {held_out}; it must be a multiple of 7, from 0 to 189.")
    found = user_path(path) if path is not None else find_wright_vowels()
    if found is None or not found.is_file():
        raise DataError(
            "the paper's vowels are not here: put vowels_wright2022.npz into the folder that "
            "PNNLAB_DATA names, or give its path; or use vowels(), which are generated."
        )
    content = read_bytes(found)
    if hashlib.sha256(content).hexdigest() != _WRIGHT_SHA256:
        raise damaged(found, content, f"its SHA-256 should be {_WRIGHT_SHA256}")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        everything = Split(
            torch.tensor(arrays["X"], dtype=torch.float32),
            torch.tensor(arrays["y"], dtype=torch.int64),
        )
        training = torch.tensor(arrays["train_idx"], dtype=torch.int64)
        test = torch.tensor(arrays["test_idx"], dtype=torch.int64)
    training = training[torch.randperm(len(training), generator=seeded(seed))]
    labels = everything.targets[training]
    rank = torch.stack([(labels[:k] == label).sum() for k, label in enumerate(labels)])
    held = rank < each
    return Task(
        name="wright-vowels",
        train=everything.take(training[~held]),
        validation=everything.take(training[held] if held_out else training),
        test=everything.take(test),
        classes=len(VOWELS),
        side=None,
        source="Wright, Onodera et al. (2022), measured by Hillenbrand et al. (1995)",
        class_names=VOWELS,
        feature_names=tuple(name.replace(" (Hz)", " (relative)") for name in FEATURES),
    )


@dataclass(frozen=True)
class Token:
    """One recorded vowel.

    Attributes
    ----------
    speaker : str
        Such as ``"w01"``: m, w, b, g for man, woman, boy, girl.
    vowel : str
        Hillenbrand's label; ``"ah"`` is the vowel of "hod", ``"uh"`` of "hud", ``"oo"`` of "hood".
    hz : tuple of float
        Twelve formants in the order of `FEATURES`; NaN where they could not be measured.
    """

    speaker: str
    vowel: str
    hz: tuple[float, ...]

    @property
    def group(self) -> str:
        """``"men"``, ``"women"`` or ``"children"``."""
        return _GROUP_OF[self.speaker[0]]


def read_vowdata(path: str | Path) -> tuple[Token, ...]:
    """All tokens of Hillenbrand's ``vowdata.dat``, whose head explains its columns.

    Duration, fundamental frequency and F4 are passed over.

    Raises
    ------
    DataError
        The file cannot be read, or holds no token.
    """
    try:
        lines = user_path(path).read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as vowdata.dat: {error}.") from error
    tokens = []
    for match in filter(None, map(_LINE.fullmatch, lines)):
        numbers = [float(number) or np.nan for number in match[3].split()]
        hz = tuple(numbers[column] for column in _COLUMNS)
        tokens.append(Token(match[1], match[2], hz))
    if not tokens:
        raise DataError(
            f"{path} holds no line such as 'w01ae 305 225 678 …' with fifteen numbers: "
            "it is not Hillenbrand's vowdata.dat."
        )
    return tuple(tokens)


def hillenbrand(
    path: str | Path | None = None, *, speakers: str | Sequence[str] = "women", seed: int = 0
) -> Task:
    """The seven vowels in Hillenbrand's recordings, no speaker in more than one split.

    Three fifths of the speakers of each group are trained on, one fifth is for validation, and one
    fifth for the test. Tokens with a formant that could not be measured are left out.

    Parameters
    ----------
    path : path, optional
        The file ``vowdata.dat``; by default it is looked for under ``PNNLAB_DATA``.
    speakers : str or sequence of str
        ``"women"``, ``"men"``, ``"children"``, or several of them.
    seed : int
        Of which speakers are in which split.

    Returns
    -------
    Task
        Formants scaled into [0, 1] as those of `vowels`.

    Raises
    ------
    DataError
        The file is missing or not what it should be, or a formant is out of every reasonable range.
    RangeError
        There are no such speakers.

    Notes
    -----
    Source: Hillenbrand et al., J. Acoust. Soc. Am. 97, 3099 (1995).
    """
    groups = (speakers,) if isinstance(speakers, str) else tuple(speakers)
    if not groups or not set(groups) <= set(GROUPS):
        raise RangeError(f"speakers is {speakers!r}; choose from {', '.join(GROUPS)}.")
    found = user_path(path) if path is not None else find_hillenbrand()
    if found is None:
        raise DataError(
            "Hillenbrand's measurements are not here: put vowdata.dat into the folder that "
            "PNNLAB_DATA names, or give its path; or use vowels(), made from their statistics."
        )
    tokens = [
        token
        for token in read_vowdata(found)
        if token.group in groups and token.vowel in VOWELS and not np.isnan(token.hz).any()
    ]
    part = _speaker_parts(tokens, groups, np.random.default_rng(whole("seed", seed, 0)))
    train, validation, test = (
        _scaled([token for token in tokens if part[token.speaker] == number], groups)
        for number in range(3)
    )
    return Task(
        name="hillenbrand-vowels",
        train=train,
        validation=validation,
        test=test,
        classes=len(VOWELS),
        side=None,
        source=f"Hillenbrand et al. (1995), {' and '.join(groups)}, speakers apart",
        class_names=VOWELS,
        feature_names=FEATURES,
    )


def _speaker_parts(
    tokens: Sequence[Token], groups: Sequence[str], random: np.random.Generator
) -> dict[str, int]:
    """The split of each speaker, 0 train, 1 validation, 2 test, in equal shares of each group."""
    parts: dict[str, int] = {}
    for group in groups:
        names = sorted({token.speaker for token in tokens if token.group == group})
        if len(names) < 5:
            raise DataError(f"only {len(names)} {group} speak here; five are needed for a split.")
        order = [str(name) for name in random.permutation(names)]
        fifth = len(names) // 5
        parts |= dict.fromkeys(order, 0)
        parts |= dict.fromkeys(order[:fifth], 1) | dict.fromkeys(order[fifth : 2 * fifth], 2)
    return parts


def _scaled(tokens: Sequence[Token], groups: Sequence[str]) -> Split:
    low, high = limits(groups)
    x: NDArray[np.float64] = (np.array([token.hz for token in tokens]) - low) / (high - low)
    if x.min() < 0 or x.max() > 1:
        worst = tokens[int(np.abs(x - 0.5).max(1).argmax())]
        raise DataError(
            f"{worst.speaker}{worst.vowel} has a formant that no such speaker has: "
            f"{worst.hz} Hz; check the file."
        )
    labels = [VOWELS.index(token.vowel) for token in tokens]
    return Split(torch.tensor(x, dtype=torch.float32), torch.tensor(labels, dtype=torch.int64))
