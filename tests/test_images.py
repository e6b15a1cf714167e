"""Tasks of images: what comes with packages, and what the user's files give."""

import gzip
import hashlib
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch

from pnnlab import tasks
from pnnlab.errors import DataError, RangeError
from pnnlab.tasks import images


@pytest.mark.parametrize(
    ("task", "sizes", "side"),
    [
        (tasks.digits, (1257, 180, 360), 8),
        (lambda: tasks.mnist(14, full=False), (3500, 500, 1000), 14),
    ],
    ids=["digits", "mnist"],
)
def test_embedded_tasks_are_real_images_split_without_overlap(task, sizes, side):
    task = task()
    splits = (task.train, task.validation, task.test)
    assert tuple(len(split) for split in splits) == sizes
    assert task.side == side
    for split in splits:
        assert split.x.shape[1] == side * side
        assert split.x.dtype == torch.float32
        assert split.x.min() >= 0
        assert split.x.max() <= 1
        assert split.x.max() > 0.9
        assert set(split.targets.tolist()) == set(range(10))
    assert task.class_names == tuple("0123456789")
    rows = [tuple(row) for split in splits for row in split.x.tolist()]
    assert len(set(rows)) >= len(rows) - 2  # a few people wrote the same digit twice
    assert 0.05 < task.chance < 0.15


def test_a_seed_is_a_split():
    first, again, other = tasks.digits(0), tasks.digits(0), tasks.digits(1)
    assert torch.equal(first.test.x, again.test.x)
    assert not torch.equal(first.test.x, other.test.x)


def test_shrinking_keeps_the_mean_and_refuses_odd_sizes():
    small, large = (tasks.mnist(side, full=False) for side in (7, 28))
    assert torch.allclose(small.test.x.mean(1), large.test.x.mean(1), atol=1e-6)
    with pytest.raises(RangeError, match="28, 14, 7, 4, 2 or 1"):
        tasks.mnist(10, full=False)


def test_the_full_set_says_how_to_get_it_when_it_is_missing(monkeypatch):
    monkeypatch.delenv("PNNLAB_DATA", raising=False)
    assert tasks.MNIST_FILES.find() is None
    with pytest.raises(DataError, match="PNNLAB_DATA"):
        tasks.mnist(full=True)
    assert tasks.mnist(7).name == "mnist-5000"


def idx(array):
    return (
        struct.pack(">I", 0x800 + array.ndim)
        + struct.pack(f">{array.ndim}I", *array.shape)
        + array.tobytes()
    )


def write_set(raw):
    """Write files of MNIST's layout with our own small content; returns their MD5s."""
    random = np.random.default_rng(0)
    sums = {}
    raw.mkdir(parents=True)
    for part, n in (("train", 5200), ("t10k", 60)):
        pixels = random.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        labels = np.arange(n, dtype=np.uint8) % 10
        for name, array in (
            (f"{part}-images-idx3-ubyte", pixels),
            (f"{part}-labels-idx1-ubyte", labels),
        ):
            content = idx(array)
            sums[name] = hashlib.md5(content, usedforsecurity=False).hexdigest()
            if part == "train":
                (raw / f"{name}.gz").write_bytes(gzip.compress(content, 1))
            else:
                (raw / name).write_bytes(content)
    return sums


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with files of MNIST's layout and our own small content, whose MD5s are accepted."""
    raw = tmp_path / "MNIST" / "raw"
    files = replace(images.MNIST_FILES, files=write_set(raw))
    monkeypatch.setattr(images, "MNIST_FILES", files)
    monkeypatch.setenv("PNNLAB_DATA", str(tmp_path))
    return raw


def test_the_full_set_is_read_plain_or_gzipped(folder):
    task = tasks.mnist(28)
    assert task.name == "mnist"
    assert (len(task.train), len(task.validation), len(task.test)) == (200, 5000, 60)
    assert task.test.targets.tolist() == [n % 10 for n in range(60)]
    first = np.random.default_rng(0).integers(0, 256, (5200, 28, 28), dtype=np.uint8)
    total = task.train.x.sum() + task.validation.x.sum()
    assert float(total) == pytest.approx(first.sum() / 255, rel=1e-4)


def test_a_file_that_is_not_the_one_it_claims_to_be_is_refused(folder):
    path = folder / "t10k-images-idx3-ubyte"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="MD5"):
        tasks.mnist()


@pytest.mark.parametrize("kept", [0, 2, 15, 20, 1000, -1])
@pytest.mark.parametrize("name", ["train-images-idx3-ubyte.gz", "t10k-images-idx3-ubyte"])
def test_a_truncated_download_is_refused(folder, name, kept):
    path = folder / name
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match="fetch it again") as refused:
        tasks.mnist()
    if kept >= 20 and not name.endswith("gz"):
        assert f"ends after {kept} of 47056 bytes" in str(refused.value)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(
    "converted",
    [
        lambda content: content.replace(b"\n", b"\r\n"),
        lambda content: content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"),
        lambda content: content.replace(b"\r\n", b"\n"),
        lambda content: content.decode("utf-8", errors="replace").encode(),
        lambda content: content.decode("latin-1").encode(),
    ],
    ids=["LF to CR LF", "all to CR LF", "CR LF to LF", "read as UTF-8", "Latin-1 to UTF-8"],
)
def test_a_transfer_in_text_mode_is_refused(folder, converted, packed):
    path = folder / "train-images-idx3-ubyte.gz"
    content = path.read_bytes() if packed else gzip.decompress(path.read_bytes())
    path.write_bytes(converted(content))
    with pytest.raises(DataError, match="binary mode"):
        tasks.mnist()


def test_damage_within_a_gzipped_file_is_refused(folder):
    path = folder / "train-images-idx3-ubyte.gz"
    content = path.read_bytes()
    path.write_bytes(content[:100] + content[120:])
    with pytest.raises(DataError, match="fetch it again"):
        tasks.mnist()


def test_a_head_that_makes_no_sense_is_refused(folder):
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(b"\0\0\x08\xff" + bytes(20))
    with pytest.raises(DataError, match=r"24 bytes.*MD5"):
        tasks.mnist()


def test_an_error_page_in_place_of_the_file_is_refused(folder):
    page = "<!DOCTYPE html>\r\n<p>Ünknown</p>\r\n".encode()
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(page)
    with pytest.raises(DataError, match=rf"{len(page)} bytes.*MD5"):
        tasks.mnist()


def test_a_file_that_was_unpacked_under_its_old_name_is_read(folder):
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.decompress(path.read_bytes()))
    plain = folder / "t10k-labels-idx1-ubyte"
    plain.write_bytes(gzip.compress(plain.read_bytes()))
    assert len(tasks.mnist(28).test) == 60


def test_an_incomplete_folder_counts_as_missing(folder):
    (folder / "t10k-labels-idx1-ubyte").unlink()
    assert tasks.MNIST_FILES.find() is None


def test_every_copy_of_a_digit_is_appended_to_the_training_split_alone():
    plain, grown = (tasks.mnist(14, full=False, copies=n) for n in (0, 2))
    assert len(grown.train) == 3 * len(plain.train)
    assert torch.equal(grown.train.x[: len(plain.train)], plain.train.x)
    assert torch.equal(grown.train.targets.view(3, -1), plain.train.targets.expand(3, -1))
    assert torch.equal(grown.test.x, plain.test.x)
    assert torch.equal(grown.validation.x, plain.validation.x)


def test_subsampling_keeps_single_pixels():
    sampled, whole = (tasks.mnist(side, full=False, subsample=True) for side in (14, 28))
    expected = whole.test.x.view(-1, 28, 28)[:, ::2, ::2].flatten(1)
    assert torch.equal(sampled.test.x, expected)
    assert sampled.side == 14


@pytest.mark.parametrize("place", ["FashionMNIST/raw", "fashion-mnist"])
def test_fashion_mnist_is_read_from_files_of_its_own(tmp_path, monkeypatch, place):
    sums = write_set(tmp_path / place)
    monkeypatch.setattr(images, "FASHION_FILES", replace(images.FASHION_FILES, files=sums))
    monkeypatch.setenv("PNNLAB_DATA", str(tmp_path))
    assert tasks.FASHION_FILES.find() == tmp_path / place
    assert tasks.MNIST_FILES.find() is None
    task = tasks.fashion_mnist(14, flips=True)
    assert (len(task.train), len(task.validation), len(task.test)) == (400, 5000, 60)
    assert task.class_names[9] == "ankle boot"
    mirrored = task.train.x[200:].view(-1, 14, 14).flip(-1).flatten(1)
    assert torch.allclose(mirrored, task.train.x[:200], atol=1e-6)


def test_a_bare_folder_is_taken_for_mnist_only(tmp_path, monkeypatch):
    write_set(tmp_path / "data")
    monkeypatch.setenv("PNNLAB_DATA", str(tmp_path / "data"))
    assert tasks.MNIST_FILES.find() is not None
    assert tasks.FASHION_FILES.find() is None


def test_fashion_mnist_without_files_says_where_to_put_them(monkeypatch):
    monkeypatch.delenv("PNNLAB_DATA", raising=False)
    with pytest.raises(DataError, match=r"FashionMNIST/raw .* no installed package"):
        tasks.fashion_mnist()
