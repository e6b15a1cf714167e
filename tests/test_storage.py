"""Files are there whole or as they were; what cannot be read again is named."""

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch

from pnnlab.errors import DataError
from pnnlab.storage import Database, aside, insert, transaction, unreadable, write

DATABASE = Database(
    table="about",
    format=1,
    error=DataError,
    synchronous="FULL",
    schema="CREATE TABLE IF NOT EXISTS about (format INTEGER, who TEXT);",
)


def test_a_file_is_replaced_only_by_one_that_was_found_good(tmp_path: Path) -> None:
    path, before = tmp_path / "file", tmp_path / "before"
    write(path, "\N{GREEK SMALL LETTER THETA}", check=lambda part: part.read_bytes())
    assert path.read_bytes() == b"\xce\xb8"

    def refuse(part: Path) -> None:
        assert part.read_bytes() == b"new"
        raise DataError("no good")

    with pytest.raises(DataError, match="no good"):
        write(path, b"new", keep=before, check=refuse)
    assert path.read_bytes() == b"\xce\xb8"
    assert list(tmp_path.iterdir()) == [path]
    write(path, b"new", keep=before)
    assert (path.read_bytes(), before.read_bytes()) == (b"new", b"\xce\xb8")
    assert not aside(path).exists()


def cut_short(connection: sqlite3.Connection) -> None:
    with transaction(connection):
        DATABASE.describe(connection, who="nobody")
        raise KeyError


def test_a_database_tells_its_kind_and_format(tmp_path: Path) -> None:
    path = tmp_path / "file.sqlite"
    with closing(DATABASE.connect(path, create=True)) as connection:
        assert DATABASE.described(connection, path) is None
        with pytest.raises(KeyError):
            cut_short(connection)
        assert DATABASE.described(connection, path) is None
        DATABASE.describe(connection, who="me")
        assert DATABASE.described(connection, path) == {"who": "me"}
        connection.execute("UPDATE about SET format = 2")
    with pytest.raises(DataError, match=r"format 2 .* reads 1: open it with the version"):
        DATABASE.connect(path, create=True)
    with closing(sqlite3.connect(tmp_path / "other")) as other:
        other.execute("CREATE TABLE other (a)")
        assert insert(other, "other", a=1) == 1
    with pytest.raises(DataError, match="a database of something else"):
        DATABASE.connect(tmp_path / "other", create=True)


def test_what_cannot_be_read_again_is_named_by_its_place() -> None:
    value = {"ok": 1, "deep": [0, {"it": np.ones(2)}], "code": print, np.int64(3): 1}
    assert list(unreadable(value, "state")) == [
        "state['deep'][1]['it'] is a numpy.ndarray",
        "state['code'] is a builtins.builtin_function_or_method",
        "state['key np.int64(3)'] is a numpy.int64",
    ]
    assert list(unreadable({"ok": [1, 2.0, "a", torch.ones(2), None, (True,)]}, "state")) == []
