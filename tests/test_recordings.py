"""Recorded vowels, read from small files in the formats of the real ones."""

import hashlib

import numpy as np
import pytest
import torch

from pnnlab.errors import DataError, RangeError
from pnnlab.tasks import hillenbrand, speech, wright_vowels
from pnnlab.tasks.speech import VOWELS, limits, moments, read_vowdata

COUNTS = (("m", 5), ("w", 10), ("b", 3), ("g", 2))
GROUP_OF = {"m": "men", "w": "women", "b": "children", "g": "children"}
HEAD = """(c) 1995 James Hillenbrand

Filenames:

character 1:     m=man, w=woman, b=boy, g=girl
col1:  filename
col2:  duration in msec
Note: An entry of zero means that the formant was not measurable.

  1    2   3    4    5    6    7    8    9   10    11  12   13    14  15   16
"""


def line(name, hz, duration=300, f0=200, f4=4000):
    """One line of the real file's format; F4 stands after the three steady formants."""
    numbers = [*hz[:3], f4, *hz[3:]]
    return f"{name} {duration} {f0} " + " ".join(f"{round(n):4d}" for n in numbers) + " \r\n"


@pytest.fixture
def vowdata(tmp_path):
    """Men, women, boys and girls; w03's "uw" has one formant that was not measurable.

    Every speaker shifts all formants by a number of Hz of his own, by which he can be told.
    """
    text = HEAD.replace("\n", "\r\n")
    speakers = [f"{letter}{n:02}" for letter, count in COUNTS for n in range(1, count + 1)]
    for shift, speaker in enumerate(speakers):
        mean, _ = moments(GROUP_OF[speaker[0]])
        for vowel, hz in zip(VOWELS, mean.round() + shift, strict=True):
            hz[10] *= f"{speaker}{vowel}" != "w03uw"
            text += line(f"{speaker}{vowel}", hz)
        text += line(f"{speaker}oo", mean[3])
    path = tmp_path / "vowdata.dat"
    path.write_bytes(text.encode("ascii"))
    return path


def shifts(split, group):
    """The speakers of ``split``, told by the first formant of their "ae"."""
    low, high = (limit[0] for limit in limits((group,)))
    hz = split.x[split.targets == 0, 0].double() * (high - low) + low
    return set((hz - moments(group)[0][0, 0].round()).round().int().tolist())


def test_each_number_is_read_from_its_column(tmp_path):
    """A line of the real file, with the columns that its head names."""
    path = tmp_path / "vowdata.dat"
    path.write_text(
        HEAD + "w39ae 365 192  564 2442    0 4038  565 2446    0  710 2057 2591  988 1777 2717 \n",
        encoding="utf-8",
    )
    speakers, vowels, hz = read_vowdata(path)
    assert (list(speakers), list(vowels)) == (["w39"], ["ae"])
    expected = (564, 2442, np.nan, 565, 2446, np.nan, 710, 2057, 2591, 988, 1777, 2717)
    assert np.array_equal(hz, [expected], equal_nan=True)


@pytest.mark.parametrize(
    ("group", "speakers", "sizes"),
    [
        ("men", range(5), (3, 1, 1)),
        ("women", range(5, 15), (6, 2, 2)),
        ("children", range(15, 20), (3, 1, 1)),
    ],
)
def test_no_speaker_is_in_two_splits(vowdata, group, speakers, sizes):
    task = hillenbrand(vowdata, speakers=group)
    voices = [shifts(split, group) for split in (task.train, task.validation, task.test)]
    assert tuple(map(len, voices)) == sizes
    assert set().union(*voices) == set(speakers)


def test_groups_are_split_in_the_same_shares(vowdata):
    task = hillenbrand(vowdata, speakers=("men", "children"))
    sizes = [len(split) for split in (task.train, task.validation, task.test)]
    assert sizes == [7 * 6, 7 * 2, 7 * 2]
    assert task.train.targets.bincount().tolist() == [6] * 7


def test_a_token_that_could_not_be_measured_is_left_out_and_no_other(vowdata):
    task = hillenbrand(vowdata)
    labels = torch.cat([s.targets for s in (task.train, task.validation, task.test)])
    assert labels.bincount().tolist() == [10, 10, 10, 9, 10, 10, 10]
    assert min(float(s.x.min()) for s in (task.train, task.validation, task.test)) > 0.05


def test_a_seed_is_a_choice_of_speakers(vowdata):
    first, again, other = (hillenbrand(vowdata, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.test.x, again.test.x)
    assert not torch.equal(first.test.x, other.test.x)


def test_hillenbrands_file_is_found_under_pnnlab_data(vowdata, monkeypatch):
    monkeypatch.setenv("PNNLAB_DATA", str(vowdata.parent))
    assert torch.equal(hillenbrand().test.x, hillenbrand(vowdata).test.x)


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ("no vowels here\n", DataError, "not Hillenbrand's"),
        (line("w01ae", [500.0] * 12), DataError, "needs at least five"),
    ],
)
def test_files_that_do_not_serve_are_refused(tmp_path, content, error, message):
    path = tmp_path / "vowdata.dat"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(error, match=message):
        hillenbrand(path)
    with pytest.raises(RangeError, match="choose from"):
        hillenbrand(path, speakers="dogs")


def test_a_formant_out_of_reason_is_refused(vowdata):
    vowdata.write_bytes(vowdata.read_bytes() + line("w11iy", [437, 9999] + [3000] * 10).encode())
    with pytest.raises(DataError, match="w11iy"):
        hillenbrand(vowdata)


@pytest.mark.parametrize("load", [wright_vowels, hillenbrand])
def test_without_the_files_it_says_how_to_get_them(load, monkeypatch, tmp_path):
    monkeypatch.delenv("PNNLAB_DATA", raising=False)
    with pytest.raises(DataError, match=r"PNNLAB_DATA.*vowels\(\)"):
        load()
    with pytest.raises(DataError):
        load(tmp_path / "nothing")


@pytest.fixture
def wright(tmp_path, monkeypatch):
    """A file of the layout of the paper's vowels, with our own numbers; its hash is accepted."""
    random = np.random.default_rng(0)
    labels = np.arange(259, dtype=np.int8) % 7
    order = random.permutation(259).astype(np.int16)
    x = random.random((259, 12), dtype=np.float32)
    path = tmp_path / "vowels_wright2022.npz"
    np.savez(path, X=x, y=labels, train_idx=order[:210], test_idx=order[210:])
    sha = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(speech, "_WRIGHT_SHA256", sha)
    return path, x, order


def test_the_papers_split_is_kept(wright):
    path, x, order = wright
    task = wright_vowels(path)
    assert np.array_equal(task.test.x, x[order[210:]])
    assert (len(task.train), len(task.validation)) == (168, 42)
    assert task.validation.targets.bincount().tolist() == [6] * 7
    rows = {tuple(row) for part in (task.train, task.validation) for row in part.x.tolist()}
    assert rows == {tuple(row) for row in x[order[:210]].tolist()}
    assert not torch.equal(task.validation.x, wright_vowels(path, seed=1).validation.x)


def test_all_of_the_papers_training_tokens_can_be_trained_on(wright):
    path, x, order = wright
    task = wright_vowels(path, held_out=0)
    assert {tuple(r) for r in task.train.x.tolist()} == {tuple(r) for r in x[order[:210]].tolist()}
    assert torch.equal(task.train.x, task.validation.x)
    with pytest.raises(RangeError, match="multiple of 7"):
        wright_vowels(path, held_out=40)


def test_the_papers_file_is_found_under_pnnlab_data(wright, monkeypatch):
    path, _, _ = wright
    monkeypatch.setenv("PNNLAB_DATA", str(path.parent))
    assert len(wright_vowels().test) == 49


def test_another_file_of_that_name_is_refused(wright):
    path, x, _ = wright
    np.savez(path, X=x)
    with pytest.raises(DataError, match="SHA-256"):
        wright_vowels(path)
