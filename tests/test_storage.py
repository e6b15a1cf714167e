"""Files are there whole or as they were; what cannot be read again is named."""

import sqlite3
import tracemalloc
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from runners import assert_equal, full_disk

from pnnlab.errors import DataError
from pnnlab.storage import (
    Database,
    Kind,
    UnreadableError,
    aside,
    packed,
    unpacked,
    write,
)


class Lines(Database):
    format = 1
    error = DataError
    synchronous = "FULL"
    tables: ClassVar = {"about": "who, format", "line": "id INTEGER PRIMARY KEY, text, number"}


NOTE = Kind(name="note", format=2, error=DataError, remedy="write it anew")


def test_a_file_is_replaced_only_by_one_that_is_on_the_disk(tmp_path: Path) -> None:
    path, before = tmp_path / "file", tmp_path / "before"
    write(path, "\N{GREEK SMALL LETTER THETA}")
    assert path.read_bytes() == b"\xce\xb8"
    with full_disk(), pytest.raises(OSError, match="No space left"):
        write(path, b"new", keep=before)
    assert path.read_bytes() == b"\xce\xb8"
    assert list(tmp_path.iterdir()) == [path]
    write(path, b"n", b"ew", keep=before)
    assert (path.read_bytes(), before.read_bytes()) == (b"new", b"\xce\xb8")
    assert not aside(path).exists()


def test_what_is_written_does_not_go_through_a_link(tmp_path: Path) -> None:
    path, victim = tmp_path / "file", tmp_path / "victim"
    victim.write_bytes(b"somebody's")
    for link in (path, aside(path)):
        link.symlink_to(victim)
    write(path, b"new")
    assert (victim.read_bytes(), path.read_bytes()) == (b"somebody's", b"new")
    assert not path.is_symlink()


def test_a_file_tells_its_kind_and_format(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(DataError, match=r"there is no .*; write it anew, and save it there"):
        NOTE.read(path, bytes)
    NOTE.write(path, b"two ", b"parts")
    assert NOTE.read(path, bytes) == b"two parts"
    assert path.read_bytes().startswith(b"two parts\npnnlab note 2 ")
    for other, problem in (
        (replace(NOTE, name="picture"), "holds a picture, not a note"),
        (replace(NOTE, format=1), "has format 1 and this pnnlab reads 2: open it with the version"),
    ):
        other.write(path, b"")
        with pytest.raises(DataError, match=problem):
            NOTE.read(path, bytes)
    path.write_bytes(b"written before there were checksums")
    with pytest.raises(DataError, match="of a format before note 2; use a copy, or write it anew"):
        NOTE.read(path, bytes)
    with pytest.raises(DataError, match="there is no"):
        NOTE.read(path.parent, bytes)


@settings(deadline=None)
@given(place=st.integers(0, 400), bit=st.integers(0, 7))
def test_no_flipped_bit_of_a_file_is_read(tmp_path_factory, place: int, bit: int) -> None:
    path = tmp_path_factory.getbasetemp() / "note"
    NOTE.write(path, *packed({"some": torch.arange(20.0), "more": (1, [2.5, None, "x"])}, "note"))
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= 1 << bit
    path.write_bytes(content)
    with pytest.raises(DataError):
        NOTE.read(path, unpacked)


def made(path: Path) -> Path:
    with closing(Lines(path, create=True)) as file, file.transaction():
        file.describe(who="me")
        file.add("line", [("one", 1.5), ("two", None), ("three", 3), ("four", b"4")])
    return path


def cut_short(file: Database) -> None:
    with file.transaction():
        file.describe(who="nobody")
        raise KeyError


def test_a_database_tells_its_kind_and_format(tmp_path: Path) -> None:
    path = tmp_path / "file.sqlite"
    with closing(Lines(path, create=True)) as file:
        assert file.about is None
        with pytest.raises(KeyError):
            cut_short(file)
    with closing(Lines(path)) as file:
        assert file.about is None
    made(path)
    with closing(Lines(path)) as file:
        assert file.about is not None
        assert file.about["who"] == "me"
        assert [row["text"] for row in file.read("line")] == ["one", "two", "three", "four"]
        file.verify()
        file.execute("UPDATE about SET format = 2")
    with pytest.raises(DataError, match=r"format 2 .* reads 1: open it with the version"):
        Lines(path, create=True)
    with closing(sqlite3.connect(tmp_path / "other")) as other:
        other.execute("CREATE TABLE other (a)")
    with pytest.raises(DataError, match="a database of something else"):
        Lines(tmp_path / "other", create=True)


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        ("UPDATE line SET number = 1000000000 WHERE id = 3", "row 3 of line is wrong"),
        ("UPDATE line SET number = 3.0 WHERE id = 3", "row 3 of line is wrong"),
        ("UPDATE about SET who = 'you'", "row 1 of about is wrong"),
        ("DELETE FROM line WHERE id = 4", "missing at an end"),
        ("DELETE FROM line WHERE id = 1", "missing at an end"),
        ("DELETE FROM line WHERE id = 2", "missing in line beside row 1"),
        ("INSERT INTO line (text) VALUES ('five')", "missing at an end"),
        ("UPDATE line SET id = 9 WHERE id = 4", "missing at an end"),
    ],
)
def test_an_edited_row_or_a_missing_one_is_found(tmp_path: Path, edit: str, problem: str) -> None:
    path = made(tmp_path / "file.sqlite")
    with closing(sqlite3.connect(path)) as other, other:
        other.execute(edit)
    with (
        pytest.raises(DataError, match=f"damaged or edited, .*{problem}.* Use a copy"),
        closing(Lines(path)) as file,
    ):
        file.verify()


def test_what_cannot_be_read_again_is_named_by_its_place() -> None:
    value = {"ok": 1, "deep": [0, {"it": np.ones(2)}], "code": print, np.int64(3): 1}
    with pytest.raises(UnreadableError) as caught:
        packed(value, "state")
    assert str(caught.value).split("; ") == [
        "state['deep'][1]['it'] is a numpy.ndarray",
        "state['code'] is a builtins.builtin_function_or_method",
        "state[key np.int64(3)] is a numpy.int64",
    ]


def test_tensors_and_plain_data_come_back_as_they_were() -> None:
    kinds = (torch.float64, torch.bfloat16, torch.complex64, torch.int64, torch.bool, torch.uint8)
    value = {
        "tensors": [torch.arange(6).reshape(2, 3).to(kind).T for kind in kinds],
        "empty": (torch.empty(0, 3), torch.tensor(2.5), torch.ones(3)[::2]),
        "numbers": [1, -2.5, True, None, 10**30, float("inf"), "θ\ud800", {3: {"a": (1,)}}],
    }
    again = unpacked(b"".join(packed(value, "state")))
    assert_equal(again, value)
    again["tensors"][0].add_(1)  # in memory of its own


@pytest.mark.parametrize(
    "line",
    [
        '{"float32": [40000000000]}',  # 149 GiB
        '{"float32": [-2, -2]}',
        '{"float32": [4611686018427387904, 4]}',
        '[{"uint8": [3]}, {"uint8": [3]}]',
        '{"load": [3]}',
        '{"float32": [0, 1e400]}',
        '{"uint8": [1]}',
        "[" * 100_000,
        "{",
        '{"dict": [[[], 1]]}',
    ],
)
def test_what_a_stranger_wrote_allocates_nothing_and_is_refused(tmp_path: Path, line: str) -> None:
    NOTE.write(tmp_path / "file", line.encode(), b"\n", b"abcd")
    tracemalloc.start()
    with pytest.raises(DataError, match="holds no note that this version can read"):
        NOTE.read(tmp_path / "file", unpacked)
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()
