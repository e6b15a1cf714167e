"""Which code made a result: revision and versions, with git, without it and inside its hooks."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from pnnlab.origin import commit, commit_name, source_revision, versions


def test_versions_are_those_of_what_is_imported():
    told = versions()
    assert told["torch"] == torch.__version__
    assert told["numpy"] == np.__version__


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]
    done = subprocess.run(
        ["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_source_revision_tells_revision_and_changes(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "module.py").write_text("a = 1\n", encoding="utf-8")
    assert source_revision(package) is None  # no checkout
    git(tmp_path, "init", "-q")
    assert source_revision(package) is None  # inside a checkout, which does not track it
    git(tmp_path, "add", "package")
    git(tmp_path, "commit", "-q", "-m", "begin")
    revision = git(tmp_path, "rev-parse", "HEAD")
    assert source_revision(package) == {"revision": revision, "dirty": False}
    (package / "module.py").write_text("a = 2\n", encoding="utf-8")
    assert source_revision(package) == {"revision": revision, "dirty": True}


def test_source_revision_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert source_revision(Path(__file__).parent) is None


@pytest.mark.parametrize(
    ("source", "name"),
    [
        (None, None),
        ({"revision": "ab12", "dirty": False}, "ab12"),
        ({"revision": "ab12", "dirty": True}, "ab12-dirty"),
    ],
)
def test_a_revision_in_one_word(source: dict[str, object] | None, name: str | None) -> None:
    assert commit_name(source) == name


def test_the_commit_is_that_of_the_package_wherever_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    commit.cache_clear()
    package = Path(__file__).parent.parent / "pnnlab"
    assert commit() == commit_name(source_revision(package))
