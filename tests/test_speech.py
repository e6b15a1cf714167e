"""Formants of synthesised vowels: what was put in is heard again."""

import numpy as np
import pytest

from pnnlab.demos.inputs import formants
from pnnlab.errors import DataError, RangeError, ShapeError
from pnnlab.tasks import vowels
from pnnlab.tasks.speech import (
    VOWELS,
    draw,
    formant_features,
    formant_hz,
    log_likelihood,
    moments,
    synthesised,
)

RATE = 16_000
WOMEN = ("women",)
PITCH = {"women": 210.0, "men": 120.0, "children": 250.0}  # Hz


def recorded(hz, pitch: float = 210.0, rate: float = RATE):
    """A vowel with silence around it and a little hiss, as a microphone gives it."""
    random = np.random.default_rng(0)
    silence = np.zeros(round(0.2 * rate))
    sound = np.concatenate([silence, synthesised(hz, rate, pitch=pitch), silence])
    return 0.02 + sound + 1e-3 * random.standard_normal(len(sound))


@pytest.mark.parametrize("speakers", PITCH)
def test_the_seven_vowels_are_measured_as_they_were_made(speakers):
    for name, hz in zip(VOWELS, moments(speakers)[0], strict=True):
        heard = formants(recorded(hz, PITCH[speakers]), RATE, speakers=speakers)
        error = np.abs(heard / hz - 1).reshape(4, 3)
        # A voice samples the resonances at multiples of its pitch: F1 suffers most.
        assert (error[1:, 0] * hz[3::3]).max() < 0.3 * PITCH[speakers], (name, error)
        assert error[1:, 1:].max() < 0.06, (name, error)


def test_what_is_measured_tells_the_vowels_apart():
    hz, labels = draw(WOMEN, 35, np.random.default_rng(1))
    heard = [formants(recorded(token), RATE) for token in hz]
    assert np.mean(log_likelihood(WOMEN, np.array(heard)).argmax(1) == labels) >= 0.9
    assert np.mean(log_likelihood(WOMEN, hz).argmax(1) == labels) >= 0.9


def test_any_sampling_rate_and_loudness_will_do():
    hz = moments("women")[0][0]
    for rate in (44_100, 48_000):
        heard = formants(0.05 * recorded(hz, rate=rate), rate)
        np.testing.assert_allclose(heard[3:], hz[3:], rtol=0.1)


def test_formants_are_read_along_the_vowel():
    gliding = np.array([500, 1500, 2700, 400, 1200, 2700, 500, 1500, 2700, 600, 1800, 2700])
    begin, middle, end = formants(recorded(gliding), RATE).reshape(4, 3)[1:, 1]
    assert begin + 100 < middle < end - 100


def test_a_recording_that_cannot_be_used_says_what_to_do():
    hz = moments("women")[0][5]
    sound = recorded(hz)
    with pytest.raises(DataError, match="speak louder"):
        formants(np.full(RATE, 0.02), RATE)
    with pytest.raises(DataError, match="speak louder"):
        formants(np.zeros(3), RATE)
    with pytest.raises(DataError, match="too loud"):
        formants((20 * sound).clip(-1, 1), RATE)
    with pytest.raises(DataError, match="say it for a little longer"):
        formants(np.concatenate([np.zeros(2000), sound[5000:5400], np.zeros(2000)]), RATE)
    with pytest.raises(DataError, match="one open vowel"):
        formants(0.3 * np.sin(2 * np.pi * 400 * np.arange(RATE) / RATE), RATE)
    with pytest.raises(ShapeError, match="one channel"):
        formants(np.zeros((100, 2)), RATE)
    with pytest.raises(RangeError, match="choose from men"):
        formants(sound, RATE, speakers="ducks")


def test_features_are_those_of_the_task():
    task = vowels()
    hz = formant_hz(task.test.x[0])
    assert 200 < hz[0] < hz[1] < hz[2] < 4900
    np.testing.assert_allclose(formant_features(hz), task.test.x[0], atol=1e-6)
    assert formant_features([100.0] * 12).min() == 0
    assert formant_features([9e3] * 12).max() == 1


def test_a_synthesised_vowel_is_of_its_length_and_loudness():
    sound = synthesised(moments("men")[0][2], 8000, seconds=0.25)
    assert sound.shape == (2000,)
    assert np.abs(sound).max() == 0.5
    assert abs(sound.mean()) < 0.01
    assert abs(sound[0]) + abs(sound[-1]) < 0.01
