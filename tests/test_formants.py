"""Generated vowels: their moments, their densities, and what can be reached on them."""

import math

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression

from pnnlab.errors import RangeError
from pnnlab.tasks import bayes_accuracy, vowels
from pnnlab.tasks.speech import (
    CORRELATION,
    FEATURES,
    GROUPS,
    RANGES,
    SHARED,
    VOWELS,
    draw,
    limits,
    log_likelihood,
    log_moments,
    moments,
)

TOKENS = 7 * 4000
WOMEN = ("women",)


@pytest.fixture(scope="module")
def drawn():
    """Many tokens of women: logarithms in units of the model, (speakers, 7, 12), and Hz."""
    mu, sigma = log_moments(WOMEN)
    hz, labels = draw(WOMEN, TOKENS, np.random.default_rng(0))
    z = (np.log(hz) - mu[0, labels]) / sigma[0, labels]
    return z.reshape(-1, 7, 12), hz.reshape(-1, 7, 12)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_task_is_the_papers_size_and_never_leaves_the_range(seed):
    task = vowels(seed)
    assert [len(split) for split in (task.train, task.validation, task.test)] == [210, 500, 2000]
    assert task.train.targets.bincount().tolist() == [30] * 7
    assert task.class_names == ("ae", "ah", "aw", "uw", "er", "iy", "ih")
    assert task.feature_names[:4] == (
        "F1 steady (Hz)",
        "F2 steady (Hz)",
        "F3 steady (Hz)",
        FEATURES[3],
    )
    assert task.side is None
    assert task.chance == pytest.approx(1 / 7, abs=0.001)
    for split in (task.train, task.validation, task.test):
        assert split.x.shape[1] == 12
        assert split.x.dtype == torch.float32
        assert split.x.min() > 0
        assert split.x.max() < 1
        assert split.x.max() > 0.7


def test_a_seed_is_a_set_of_tokens():
    first, again, other = vowels(0), vowels(0), vowels(1)
    assert torch.equal(first.train.x, again.train.x)
    assert not torch.equal(first.train.x, other.train.x)
    assert not torch.equal(first.train.x, first.test.x[:210])


def test_known_vowels_have_their_published_formants():
    """Typed in from the tables of the paper, whose averages are of well-recognised tokens."""
    mean, _ = moments("women")
    published = {"iy": (437, 2761, 3372), "ae": (669, 2349, 2972), "ah": (936, 1551, 2815)}
    for vowel, formants in published.items():
        assert mean[VOWELS.index(vowel), :3] == pytest.approx(formants, rel=0.02)


def test_the_structure_could_be_drawn_from():
    assert np.linalg.eigvalsh(CORRELATION).min() > 0.01
    assert np.linalg.eigvalsh(CORRELATION - SHARED).min() > 0.01
    assert np.linalg.eigvalsh(SHARED).min() > -1e-9
    assert np.array_equal(CORRELATION, CORRELATION.T)
    assert np.array_equal(np.diag(CORRELATION), np.ones(12))


def test_tokens_have_the_published_means_and_deviations(drawn):
    mean, sd = moments("women")
    _, hz = drawn
    error = sd / math.sqrt(TOKENS / 7)
    assert np.abs((hz.mean(0) - mean) / error).max() < 4.5
    assert hz.std(0) == pytest.approx(sd, rel=0.06)


def test_the_formants_of_a_token_belong_together(drawn):
    z, _ = drawn
    measured = np.corrcoef(z.reshape(-1, 12).T)
    assert np.abs(measured - CORRELATION).max() < 0.03


def test_the_vowels_of_a_speaker_have_a_part_in_common(drawn):
    z, _ = drawn
    across = np.einsum("svi,swj->vwij", z, z) / len(z)
    pairs = across[~np.eye(7, dtype=bool)].mean(0)
    assert np.abs(pairs - SHARED).max() < 0.03
    strangers = np.einsum("svi,svj->ij", z[:-1], z[1:]) / z[1:, :, 0].size
    assert np.abs(strangers).max() < 0.04


def test_densities_are_those_that_were_drawn_from(drawn):
    """The logarithm of a normal density averages to minus its entropy."""
    _, sigma = log_moments(WOMEN)
    _, hz = drawn
    logs = log_likelihood(WOMEN, hz[:, 2])[:, 2]
    entropy = (
        np.linalg.slogdet(2 * math.pi * math.e * CORRELATION)[1] / 2 + np.log(sigma[0, 2]).sum()
    )
    assert -logs.mean() == pytest.approx(entropy, abs=4.5 * logs.std() / math.sqrt(len(logs)))


def test_groups_take_turns_and_their_densities_are_averaged():
    both = ("men", "children")
    hz, _ = draw(both, 28, np.random.default_rng(0))
    alone = [np.exp(log_likelihood([group], hz)) for group in ("men", "children")]
    assert np.exp(log_likelihood(both, hz)) == pytest.approx((alone[0] + alone[1]) / 2)
    theirs = np.log(alone[0]).max(1) > np.log(alone[1]).max(1)
    assert (theirs.reshape(4, 7).mean(1) > 0.5).tolist() == [True, False, True, False]


def test_the_bayes_accuracy_is_that_of_the_most_probable_vowel():
    """Counting right answers on other tokens gives the same number."""
    reached, error = bayes_accuracy(n=30_000)
    hz, labels = draw(WOMEN, TOKENS, np.random.default_rng(7))
    right = log_likelihood(WOMEN, hz).argmax(1) == labels
    deviation = right.reshape(-1, 7).mean(1).std() / math.sqrt(TOKENS / 7)
    assert error < 0.001
    assert right.mean() == pytest.approx(reached, abs=4 * math.hypot(error, deviation))
    assert 0.98 < reached < 0.995


def test_no_classifier_beats_the_bayes_accuracy_and_a_good_one_comes_near():
    reached, _ = bayes_accuracy(n=30_000)
    low_high = limits(WOMEN)
    hz, labels = draw(WOMEN, 21_000, np.random.default_rng(5))
    task = vowels()
    tested = task.test.x.numpy() * (low_high[1] - low_high[0]) + low_high[0]
    good = QuadraticDiscriminantAnalysis().fit(50 * np.log(hz), labels)
    score = good.score(50 * np.log(tested), task.test.targets.numpy())
    assert score == pytest.approx(reached, abs=0.01)
    plain = LogisticRegression(C=100, max_iter=1000).fit(task.train.x, task.train.targets)
    assert 0.94 < plain.score(task.test.x, task.test.targets) < reached


@pytest.mark.parametrize("group", GROUPS)
def test_ranges_reach_five_deviations_beyond_every_vowel(group):
    mu, sigma = log_moments([group])
    low, high = limits((group,))
    assert (np.exp(mu - 5 * sigma) > low).all()
    assert (np.exp(mu + 5 * sigma) < high).all()
    assert low[:3].tolist() == [pair[0] for pair in RANGES[group]]


def test_tokens_outside_are_drawn_again(monkeypatch):
    narrow = {"women": ((400, 900), (1000, 2800), (1800, 3500))}
    monkeypatch.setitem(RANGES, "women", narrow["women"])
    task = vowels()
    assert task.train.x.min() >= 0
    assert task.train.x.max() <= 1
    assert ((task.train.x == 0) | (task.train.x == 1)).sum() == 0, "clamped, not drawn again"


@pytest.mark.parametrize("speakers", ["nobody", ("women", "dogs"), ()])
def test_unknown_speakers_are_refused(speakers):
    with pytest.raises(RangeError, match="men, women, children"):
        vowels(speakers=speakers)
