r"""`vowels`: the paper's seven-vowel task, generated from published statistics.

Formants are log-normal within a vowel and a group of speakers. With :math:`f` the twelve formants
of a token, and :math:`\mu`, :math:`\sigma` chosen so that each formant's mean and standard
deviation are the published ones,

.. math:: \log f = \mu_v + \sigma_v (s + e), \qquad s \sim N(0, S), \quad e \sim N(0, R - S)

where :math:`s` belongs to the speaker and is the same in all his vowels, :math:`e` to the token,
and R is the measured correlation between the formants and times of one token. Idealised: R and S
are the same for all vowels and groups, and the tails are those of a normal distribution.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pnnlab.errors import RangeError
from pnnlab.plain import whole
from pnnlab.tasks.hillenbrand1995 import (
    FEATURES,
    GROUPS,
    TIMES,
    VOWELS,
    correlation,
    moments,
    shared_by_speaker,
)
from pnnlab.tasks.task import Split, Task

Array = NDArray[np.float64]

# Hz, F1 to F3, what 0 and 1 stand for: fixed before anything is drawn, round numbers five standard
# deviations beyond the outermost vowels of a group.
RANGES = {
    "men": ((200, 1200), (500, 3200), (1200, 4300)),
    "women": ((200, 1600), (400, 3700), (1300, 4900)),
    "children": ((200, 1900), (400, 4500), (1300, 5800)),
}


def vowels(seed: int = 0, *, speakers: str | Sequence[str] = "women") -> Task:
    """Seven vowels by twelve formants: 210 tokens to train on, 500 for validation, 2 000 to test.

    As in the paper there are 30 training tokens a vowel, said by women, whose vowels lie in one
    cloud each; men and children have clouds of their own. Every token is generated and every
    speaker appears in one split only, with one token of each vowel. Data that cost nothing allow a
    validation split larger than the training split, and a test split on which one token is a
    twentieth of a percent, where the paper's 49 made it two percent.

    Parameters
    ----------
    seed : int
        Of all tokens: each seed has speakers of its own.
    speakers : str or sequence of str
        ``"women"``, ``"men"``, ``"children"``, or several of them, who then take turns.

    Returns
    -------
    Task
        Formants scaled into [0, 1] by `RANGES`. A token outside, about one in a million, is drawn
        again. `bayes_accuracy` says what can be reached.

    Raises
    ------
    RangeError
        There are no such speakers.

    Notes
    -----
    Source: the statistics of Hillenbrand et al., J. Acoust. Soc. Am. 97, 3099 (1995).
    """
    model = formant_model(speakers)
    low, high = limits(model.groups)
    parts = []
    for number, size in enumerate((210, 500, 2000)):
        hz, labels = draw(model, size, np.random.default_rng([whole("seed", seed, 0), number]))
        parts.append(
            Split(
                torch.tensor((hz - low) / (high - low), dtype=torch.float32).clamp(0, 1),
                torch.tensor(labels, dtype=torch.int64),
            )
        )
    return Task(
        name="vowels",
        train=parts[0],
        validation=parts[1],
        test=parts[2],
        classes=len(VOWELS),
        side=None,
        source=f"generated from the statistics of Hillenbrand et al. (1995), {_listed(model)}",
        class_names=VOWELS,
        feature_names=FEATURES,
    )


@dataclass(frozen=True)
class FormantModel:
    """The densities that tokens are drawn from.

    Attributes
    ----------
    groups : tuple of str
        Groups of speakers, equally frequent.
    mu, sigma : array, (groups, 7, 12)
        Of the logarithms of the formants in Hz.
    correlation : array, (12, 12)
        Of one token's logarithms.
    shared : array, (12, 12)
        The part of it that all tokens of a speaker have in common.
    """

    groups: tuple[str, ...]
    mu: Array
    sigma: Array
    correlation: Array
    shared: Array


def formant_model(speakers: str | Sequence[str] = "women") -> FormantModel:
    """Densities whose means and standard deviations are those that were published.

    Raises
    ------
    RangeError
        There are no such speakers.
    """
    groups = (speakers,) if isinstance(speakers, str) else tuple(speakers)
    if not groups or not set(groups) <= set(GROUPS):
        raise RangeError(f"speakers is {speakers!r}; choose from {', '.join(GROUPS)}.")
    mean, sd = np.stack([moments(group) for group in groups], 1)
    variance = np.log1p((sd / mean) ** 2)  # of a log-normal variable's logarithm
    return FormantModel(
        groups,
        np.log(mean) - variance / 2,
        np.sqrt(variance),
        correlation(),
        shared_by_speaker(),
    )


def draw(
    model: FormantModel, n: int, random: np.random.Generator
) -> tuple[Array, NDArray[np.int64]]:
    """Tokens of speakers who say the seven vowels in turn.

    Returns
    -------
    hz : array, (n, 12), in the order of `FEATURES`
    labels : array, (n,)
        The first seven tokens are the vowels of the first speaker, and so on.
    """
    count = -(-n // len(VOWELS))
    group = np.repeat(np.arange(count) % len(model.groups), len(VOWELS))[:n]
    labels = np.tile(np.arange(len(VOWELS)), count)[:n]
    mu, sigma = model.mu[group, labels], model.sigma[group, labels]
    speaker = np.repeat(_normal(model.shared, count, random), len(VOWELS), axis=0)[:n]
    low, high = (np.log(limit) for limit in limits(model.groups))
    own = model.correlation - model.shared
    logs = mu + sigma * (speaker + _normal(own, n, random))
    while len(outside := np.flatnonzero(((logs < low) | (logs > high)).any(1))):
        again = speaker[outside] + _normal(own, len(outside), random)
        logs[outside] = mu[outside] + sigma[outside] * again
    return np.exp(logs), labels


def log_likelihood(model: FormantModel, hz: Array) -> Array:
    """Log-density of each token under each vowel, (n, 7); its speaker is not known.

    Of the logarithms of the formants ``hz``, (n, 12), and averaged over the groups.
    """
    z = (np.log(hz)[:, None, None] - model.mu) / model.sigma  # (n, groups, 7, 12)
    precision = np.linalg.inv(model.correlation)
    squares = np.einsum("...i,ij,...j->...", z, precision, z, optimize=True)
    constant = np.linalg.slogdet(2 * np.pi * model.correlation)[1]
    logs = -(squares + constant) / 2 - np.log(model.sigma).sum(-1)
    averaged: Array = np.logaddexp.reduce(logs, axis=1) - np.log(len(model.groups))
    return averaged


def bayes_accuracy(
    speakers: str | Sequence[str] = "women", *, n: int = 100_000, seed: int = 0
) -> tuple[float, float]:
    """The best accuracy on `vowels` that any classifier can have, and its standard error.

    It is the mean, over about ``n`` tokens drawn for this alone, of the probability of their most
    probable vowel, by the densities that generate them. The classifier hears one token at a time
    and does not know who speaks.
    """
    model = formant_model(speakers)
    random = np.random.default_rng([whole("seed", seed, 0), 3])
    block = 1000 * len(VOWELS)  # in parts, to keep the memory small
    means = []
    for _ in range(max(2, round(whole("n", n) / block))):
        logs = log_likelihood(model, draw(model, block, random)[0])
        chances = np.exp(logs.max(1) - np.logaddexp.reduce(logs, axis=1))
        means.append(chances.reshape(-1, len(VOWELS)).mean(1))  # a speaker's tokens are alike
    by_speaker = np.concatenate(means)
    return float(by_speaker.mean()), float(by_speaker.std() / np.sqrt(len(by_speaker)))


def limits(groups: Sequence[str]) -> tuple[Array, Array]:
    """What 0 and 1 stand for in each feature, each (12,), Hz, where ``groups`` speak."""
    ranges = np.array([RANGES[group] for group in groups], dtype=np.float64)
    low, high = ranges[..., 0].min(0), ranges[..., 1].max(0)
    return np.tile(low, len(TIMES)), np.tile(high, len(TIMES))


def _normal(covariance: Array, n: int, random: np.random.Generator) -> Array:
    """Normal deviates of this covariance, (n, 12); it may be singular."""
    values, vectors = np.linalg.eigh(covariance)
    half = vectors * np.sqrt(values.clip(0))
    deviates: Array = random.standard_normal((n, len(covariance))) @ half.T
    return deviates


def _listed(model: FormantModel) -> str:
    return " and ".join(model.groups)
