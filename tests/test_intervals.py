import numpy as np
import pytest
from scipy.stats import binomtest

from pnnlab.errors import RangeError
from pnnlab.results.intervals import (
    Estimate,
    accuracy_interval,
    difference_interval,
    packed,
    unpacked,
    verdict,
)


def test_packed_samples_are_read_back():
    correct = np.random.default_rng(0).random(49) < 0.9
    assert np.array_equal(unpacked(packed(correct), 49), correct)
    with pytest.raises(RangeError, match="not of 60"):
        unpacked(packed(correct), 60)
    with pytest.raises(RangeError, match="base64"):
        unpacked("%%%", 49)


def test_one_seed_has_the_interval_of_wilson():
    correct = np.arange(2000) < 1900
    found = accuracy_interval(correct)
    low, high = binomtest(1900, 2000).proportion_ci(method="wilson")
    assert found.mean == pytest.approx(0.95)
    assert (found.low, found.high) == pytest.approx((low, high), abs=2e-4)


def test_49_samples_are_49_samples():
    """Five seeds that are all right on the same 48 tokens say nothing of other tokens."""
    correct = np.tile(np.arange(49) > 0, (5, 1))
    found = accuracy_interval(correct)
    low, high = binomtest(48, 49).proportion_ci(method="wilson")
    assert found.low == pytest.approx(low, abs=0.01)
    assert found.high == pytest.approx(high, abs=0.01)


def test_a_perfect_score_is_not_certain():
    found = accuracy_interval(np.ones((5, 49), bool))
    assert found.high == 1
    assert found.low < 0.94


def drawn(random, seeds, n, mean=0.9, by_seed=0.02, by_sample=0.2):
    """Correctness with a part of the seed, one of the sample, and chance."""
    chance = mean + by_seed * random.standard_normal((seeds, 1))
    chance = chance + by_sample * random.choice([-0.5, 0.5], (1, n))
    return random.random((seeds, n)) < chance


@pytest.mark.parametrize("seeds", [3, 5])
def test_intervals_cover_the_truth_as_often_as_they_say(seeds):
    random = np.random.default_rng(seeds)
    hits = [
        found.low <= 0.7 <= found.high
        for found in (accuracy_interval(drawn(random, seeds, 300, mean=0.7)) for _ in range(600))
    ]
    assert np.mean(hits) > 0.93
    differences = [
        difference_interval(drawn(random, seeds, 300, 0.7), drawn(random, seeds, 300, 0.7))
        for _ in range(600)
    ]
    assert np.mean([one.low <= 0 <= one.high for one in differences]) > 0.93


def test_pairing_sees_what_two_intervals_hide():
    """Two methods that fail on the same samples, but for a few of one of them."""
    random = np.random.default_rng(1)
    hard = random.random((1, 2000)) < 0.1
    first = ~np.repeat(hard, 3, 0)
    second = first & ~(random.random((3, 2000)) < 0.02)
    alone = accuracy_interval(first), accuracy_interval(second)
    assert alone[1].high > alone[0].low
    pair = difference_interval(first, second)
    assert pair.low > 0.01
    assert verdict(pair) == "better"


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ((0.002, 0.009), "equal"),
        ((-0.009, 0.009), "equal"),
        ((0.002, 0.02), "better"),
        ((-0.05, -0.001), "worse"),
        ((-0.02, 0.02), "not known"),
    ],
)
def test_verdicts(interval, expected):
    low, high = interval
    assert verdict(Estimate((low + high) / 2, low, high)) == expected


def test_a_pair_of_other_samples_is_refused():
    with pytest.raises(RangeError, match="same seeds"):
        difference_interval(np.ones((2, 30), bool), np.ones((3, 30), bool))
