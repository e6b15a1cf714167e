"""Which code made a result: revision and versions, with git, without it and inside its hooks."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pnnlab.provenance import commit, provenance, revision, versions


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


def test_the_revision_tells_of_changes(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "module.py").write_text("a = 1\n", encoding="utf-8")
    assert revision(package) is None  # no checkout
    git(tmp_path, "init", "-q")
    assert revision(package) is None  # inside a checkout, which does not track it
    git(tmp_path, "add", "package")
    git(tmp_path, "commit", "-q", "-m", "begin")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert revision(package) == head
    (package / "module.py").write_text("a = 2\n", encoding="utf-8")
    assert revision(package) == f"{head}-dirty"


def test_without_git_there_is_no_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert revision(Path(__file__).parent) is None


def test_the_commit_is_that_of_the_package_wherever_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    commit.cache_clear()
    assert commit() == revision(Path(__file__).parent.parent / "pnnlab")


def test_provenance_names_versions_but_neither_people_nor_hosts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "train.py"), "--seed", "3"])
    told = provenance()
    assert told["torch"] == torch.__version__
    assert told["command"] == ["train.py", "--seed", "3"]
    assert str(Path.home()) not in json.dumps(told)
