"""Speech as waves: splits by speaker, levels, and what is wrong with files."""

import numpy as np
import pytest
import torch
from scipy.io import wavfile

from pnnlab.errors import DataError, RangeError
from pnnlab.tasks import RECORDINGS, spoken_digits, spoken_vowels
from pnnlab.tasks.speech import EACH, LEVEL, RATE, SAMPLES, SPEAKERS, prepared


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Two digits, whose pulses stand at a place that tells digit, speaker and number."""
    folder = tmp_path_factory.mktemp("fsdd") / "fsdd" / "recordings"
    folder.mkdir(parents=True)
    for digit in (3, 7):
        for s, speaker in enumerate(SPEAKERS):
            for n in range(EACH):
                sound = np.zeros(1000, np.int16)
                sound[place(digit, s, n)] = 9000
                wavfile.write(folder / f"{digit}_{speaker}_{n}.wav", RATE, sound)
    return folder


def place(digit: int, speaker: int, n: int) -> int:
    return 300 * (digit == 3) + EACH * speaker + n


def told(split):
    """Digit, speaker and number of each example."""
    at = split.x.argmax(1).numpy()
    return 7 - 4 * (at // 300), at % 300 // EACH, at % EACH


def test_the_speaker_who_is_held_out_is_tested_on_alone(recordings):
    task = spoken_digits((7, 3), held_out="lucas", path=recordings)
    digits, who, _ = told(task.test)
    assert set(who) == {SPEAKERS.index("lucas")}
    assert len(task.test) == 2 * EACH
    np.testing.assert_array_equal(task.test.targets, digits == 3)
    assert task.class_names == ("seven", "three")
    for split, numbers in ((task.train, range(5, EACH)), (task.validation, range(5))):
        _, who, n = told(split)
        assert set(who) == set(range(6)) - {SPEAKERS.index("lucas")}
        assert set(n) == set(numbers)


def test_the_customary_split_tests_on_the_first_five_of_everybody(recordings):
    task = spoken_digits((3, 7), held_out=None, path=recordings)
    for split, numbers in ((task.test, range(5)), (task.validation, range(5, 10))):
        assert set(told(split)[2]) == set(numbers)
        assert set(told(split)[1]) == set(range(6))
    assert "speakers in all splits" in task.source


def test_recordings_are_found_below_pnnlab_data(recordings, monkeypatch):
    monkeypatch.setenv("PNNLAB_DATA", str(recordings.parent.parent))
    assert RECORDINGS.find() is None  # there is no zero
    wavfile.write(recordings / "0_george_0.wav", RATE, np.ones(9, np.int16))
    assert RECORDINGS.find() == recordings


def test_the_level_is_set_once_and_nothing_is_cut_off():
    time = np.arange(3000) / RATE
    for loudness in (1e-3, 1.0):
        x = prepared(loudness * np.sin(2 * np.pi * 440 * time) + 0.1) - 0.5
        assert float(x.square().mean().sqrt()) == pytest.approx(LEVEL, rel=1e-5)
        assert x[3000:].abs().max() == 0
    click = np.zeros(100)
    click[50] = 1.0
    x = prepared(click)
    assert float((x - 0.5).abs().max()) == pytest.approx(0.5)


def test_of_a_long_recording_the_loudest_half_second_is_taken():
    sound = 1e-3 * np.random.default_rng(0).standard_normal(20_000)
    sound[9000:12_000] += np.sin(np.arange(3000))
    wave = (prepared(sound) - 0.5).numpy()
    assert len(wave) == SAMPLES
    assert np.abs(wave).argmax() < SAMPLES
    # The rest, 60 dB below, has no more than a thousandth of the energy.
    loud = np.sort(wave**2)[::-1]
    assert loud[:3000].sum() > 0.999 * loud.sum()


def test_what_is_wrong_with_recordings_is_said(recordings, tmp_path, monkeypatch):
    monkeypatch.delenv("PNNLAB_DATA", raising=False)
    with pytest.raises(DataError, match=r"spoken_vowels\(\)"):
        spoken_digits()
    with pytest.raises(DataError, match=r"lacks 300 recordings, such as 4_george_0\.wav"):
        spoken_digits((3, 4), path=recordings)
    with pytest.raises(DataError, match="silent"):
        prepared(np.ones(100))
    for name in recordings.iterdir():
        (tmp_path / name.name).symlink_to(name)
    wrong = tmp_path / "3_theo_9.wav"
    wrong.unlink()
    wavfile.write(wrong, 16_000, np.ones(9, np.int16))
    with pytest.raises(DataError, match="at 16000 Hz"):
        spoken_digits((3, 7), path=tmp_path)
    wrong.write_bytes(b"<html>not found</html>\0")
    with pytest.raises(DataError, match="damaged or another file"):
        spoken_digits((3, 7), path=tmp_path)


@pytest.mark.parametrize(
    ("digits", "who", "match"),
    [
        ((3,), {}, "two different"),
        ((3, 11), {}, "two different"),
        ((3, 7), {"held_out": "anna"}, "no speaker 'anna'"),
    ],
)
def test_digits_and_speakers_that_are_not_there_are_refused(recordings, digits, who, match):
    with pytest.raises(RangeError, match=match):
        spoken_digits(digits, path=recordings, **who)


def test_synthetic_vowels_are_waves_and_say_what_they_are():
    task = spoken_vowels(("iy", "ah", "uw"), seed=1)
    assert task.train.x.shape[1] == SAMPLES
    assert task.classes == 3
    assert task.train.targets.bincount().tolist() == [40, 40, 40]
    assert "no real speech" in task.source
    assert torch.equal(spoken_vowels(("iy", "ah", "uw"), seed=1).test.x, task.test.x)
    with pytest.raises(RangeError, match="two different"):
        spoken_vowels(("iy",))
