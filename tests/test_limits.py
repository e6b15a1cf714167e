"""What may be sent to a device."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pnnlab.errors import LimitError, RangeError
from pnnlab.instruments.generator import Limits

RATE = 1e6


@pytest.mark.parametrize(
    "nonsense",
    [
        {"low_v": 1.0, "high_v": 1.0},
        {"low_v": 1.0, "high_v": -1.0},
        {"low_v": math.nan, "high_v": 1.0},
        {"low_v": -math.inf, "high_v": 1.0},
        {"slew_v_per_s": 0.0},
        {"slew_v_per_s": math.nan},
        {"duty": 0.0},
        {"duty": 1.5},
        {"duty": math.nan},
        {"power_w": -1.0, "load_ohm": 50.0},
        {"power_w": 1.0},
        {"load_ohm": 0.0},
        {"rest_v": 2.0},
    ],
)
def test_nonsense_is_no_limit_and_an_error(nonsense: dict[str, float]) -> None:
    with pytest.raises(RangeError):
        Limits(**{"low_v": -1.0, "high_v": 1.0, **nonsense})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nan_and_infinity_are_refused(value: float, dtype: type) -> None:
    volts = np.zeros(100, dtype)
    volts[57] = value
    with pytest.raises(LimitError, match="1 of 100 samples are NaN or infinite; nothing was sent"):
        Limits(-1, 1).check(volts, RATE)


def test_a_waveform_out_of_range_is_refused_and_never_clipped() -> None:
    limits = Limits(-1, 2)
    volts = np.array([0.0, 2.0, -1.0])
    limits.check(volts, RATE)
    for wrong in (2.001, -1.001):
        volts[1] = wrong
        with pytest.raises(LimitError, match=r"permitted are -1 to 2 V\. Nothing was sent"):
            limits.check(volts, RATE)
        assert volts[1] == wrong


def test_nothing_beyond_a_limit_is_forgiven() -> None:
    limits = Limits(-1, 1, slew_v_per_s=RATE)
    limits.check(np.array([0.0, 1.0, 0.0]), RATE)
    for wrong in (np.array([0.0, 1.000001]), np.array([-0.5, 0.500001, 0.0, -0.5])):
        with pytest.raises(LimitError):
            limits.check(wrong, RATE)


@pytest.mark.parametrize("volts", [np.zeros(0), np.zeros((2, 3))])
def test_what_is_no_waveform_is_refused(volts: np.ndarray) -> None:
    with pytest.raises(LimitError, match="samples"):
        Limits(-1, 1).check(volts, RATE)


def test_slew_between_samples_and_from_the_last_to_the_first() -> None:
    limits = Limits(-1, 1, slew_v_per_s=0.2 * RATE)
    limits.check(np.array([0.0, 0.19, 0.38, 0.2]), RATE)
    with pytest.raises(LimitError, match="250000 V/s"):
        limits.check(np.array([0.0, 0.25, 0.3, 0.1]), RATE)
    with pytest.raises(LimitError, match="end it where it begins"):
        limits.check(np.array([0.0, 0.19, 0.38]), RATE)
    limits.check(np.array([0.0, 0.25, 0.3, 0.1]), RATE / 2)  # the same, played slowly


def test_duty() -> None:
    limits = Limits(-1, 1, duty=0.25)
    limits.check(np.array([0.0, 0.9, 0.0, 0.0]), RATE)
    limits.check(np.array([0.0, 0.9, 0.001, -0.001]), RATE)  # near enough to rest
    with pytest.raises(LimitError, match=r"away from rest for 0\.5"):
        limits.check(np.array([0.0, 0.9, -0.9, 0.0]), RATE)
    with pytest.raises(LimitError, match="must be at rest"):  # the generator waits there
        limits.check(np.array([0.9, 0.0, 0.0, 0.0]), RATE)
    Limits(0, 1, duty=0.25, rest_v=0.5).check(np.array([0.5, 1.0, 0.5, 0.5]), RATE)


def test_power_in_the_load() -> None:
    limits = Limits(-10, 10, power_w=0.5, load_ohm=50)
    limits.check(np.array([0.0, 5.0, -5.0, 5.0, 5.0]), RATE)  # 0.4 W
    with pytest.raises(LimitError, match=r"puts 0\.6 W into 50 ohm"):
        limits.check(np.array([0.0, 10.0, 5.0, 5.0, 0.0]), RATE)
    with pytest.raises(LimitError, match=r"puts 2 W"):  # at which the generator waits
        limits.check(np.array([10.0, 0.0, 0.0, 0.0, 0.0]), RATE)


_ANY = st.one_of(st.just(0.0), st.floats(-0.9, 0.9), st.floats(-1.1, 1.1), st.floats())


@given(arrays(np.float64, st.integers(1, 20), elements=_ANY))
def test_whatever_passes_is_within_the_limits(volts: np.ndarray) -> None:
    limits = Limits(-1, 1, slew_v_per_s=1.5 * RATE, duty=0.7, power_w=0.01, load_ohm=50)
    try:
        limits.check(volts, RATE)
    except LimitError:
        return
    assert np.all(np.abs(volts) <= 1)
    assert np.all(np.abs(volts - np.roll(volts, 1)) <= 1.5)
    assert np.mean(np.abs(volts) > 2e-3) <= 0.7
    assert np.mean(volts**2) / 50 <= 0.01
