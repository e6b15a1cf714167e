import numpy as np
import pytest
from scipy.stats import binomtest

from pnnlab.errors import RangeError
from pnnlab.results.rows import (
    Estimate,
    difference_interval,
    mean_interval,
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


def test_many_samples_take_half_of_the_room():
    correct = np.random.default_rng(0).random(10_000) < 0.96
    text = packed(correct)
    assert len(text) < 1250 * 4 / 3 * 0.5
    assert np.array_equal(unpacked(text, 10_000), correct)
    for n in (9_000, 20_000):
        with pytest.raises(RangeError, match=f"of 10000 samples or a few fewer, not of {n}"):
            unpacked(text, n)


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    # Newcombe, Statistics in Medicine 17, 857 (1998), table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)],
)
def test_one_seed_has_the_published_intervals_of_wilson(hits, n, low, high):
    found = mean_interval([hits / n], n)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("n", [1, 29, 10_000])
def test_the_ends_of_the_scale(n):
    tail = 1.959964**2 / (n + 1.959964**2)  # what Wilson's formula comes to at 0 and 1
    none, all_of_them = mean_interval([0.0], n), mean_interval([1.0], n)
    assert (none.low, none.high) == pytest.approx((0.0, tail), abs=1e-5)
    assert (all_of_them.low, all_of_them.high) == pytest.approx((1.0 - tail, 1.0), abs=1e-5)


def test_without_a_number_of_samples_it_is_that_of_the_seeds():
    values = [0.90, 0.91, 0.92, 0.93, 0.94]
    found, half = mean_interval(values, None), 2.776 * np.std(values, ddof=1) / 5**0.5
    # Wilson's interval is that of Student, moved towards 1/2 where the mean is near an end.
    assert (found.low, found.high) == pytest.approx((0.92 - half, 0.92 + half), abs=3e-3)


def test_49_samples_are_49_samples():
    """Five seeds that are all right on 48 tokens say nothing of other tokens."""
    found = mean_interval([48 / 49] * 5, 49)
    low, high = binomtest(48, 49).proportion_ci(method="wilson")
    assert found.low == pytest.approx(low, abs=0.01)
    assert found.high == pytest.approx(high, abs=0.01)


def test_a_perfect_score_is_not_certain():
    found = mean_interval([1.0] * 5, 49)
    assert found.high == 1
    assert found.low < 0.94


@pytest.mark.parametrize(
    ("values", "n"), [([], 100), ([0.9], None), ([1.2], 10), ([float("nan")], 10), ([0.5], 0)]
)
def test_an_interval_of_nothing_is_refused(values, n):
    with pytest.raises(RangeError, match="give fractions"):
        mean_interval(values, n)


def drawn(random, seeds, n, mean=0.9, by_seed=0.02, by_sample=0.2):
    """Correctness with a part of the seed, one of the sample, and chance."""
    chance = mean + by_seed * random.standard_normal((seeds, 1))
    chance = chance + by_sample * random.choice([-0.5, 0.5], (1, n))
    return random.random((seeds, n)) < chance


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_intervals_cover_the_truth_as_often_as_they_say(seeds):
    random = np.random.default_rng(seeds)
    hits = [
        found.low <= 0.7 <= found.high
        for found in (
            mean_interval(list(drawn(random, seeds, 300, 0.7).mean(1)), 300) for _ in range(600)
        )
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
    alone = [mean_interval(one.mean(1).tolist(), 2000) for one in (first, second)]
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
