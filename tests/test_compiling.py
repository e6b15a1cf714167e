"""Compiled code is kept where that is possible, and where it is not, compiled all the same."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pnnlab
from pnnlab import doctor
from pnnlab.compiling import cache_folder

COMPILE = """
import torch, pnnlab
from pnnlab.compiling import cache_folder
from pnnlab.instruments import generator, oscilloscope
from pnnlab.systems import Circuit
assert pnnlab.__file__.startswith({copy!r})
system = Circuit(input_dim=4, output_dim=4)
system(torch.rand(2, system.input_dim), torch.rand(system.param_dim))
print(cache_folder())
"""


@pytest.fixture
def unwritable(tmp_path: Path) -> Path:
    """A copy of the package in whose folders nothing can be kept, not even by an administrator."""
    copy = tmp_path / "site-packages"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(pnnlab.__file__).parent, copy / "pnnlab", ignore=ignored)
    for folder in [path for path in (copy / "pnnlab").rglob("*") if path.is_dir()]:
        (folder / "__pycache__").touch()
    (copy / "pnnlab" / "__pycache__").touch()
    return copy


def compiles_in(copy: Path, **folders: str) -> str:
    environment = {key: value for key, value in os.environ.items() if "CACHE" not in key}
    environment |= {"HOME": "/dev/null", **folders}
    done = subprocess.run(
        [sys.executable, "-c", COMPILE.format(copy=str(copy))],
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_without_a_folder_to_write_to_it_compiles_all_the_same(
    unwritable: Path, tmp_path: Path
) -> None:
    assert compiles_in(unwritable, NUMBA_CACHE_DIR="/dev/null/cache") == "None"
    kept = compiles_in(unwritable, NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    assert Path(kept).is_relative_to(tmp_path / "cache")
    assert list((tmp_path / "cache").rglob("*.nbc"))


def test_the_doctor_says_where_compiled_code_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    [finding] = doctor._compiler()
    assert finding == ("compiled code", f"kept in {cache_folder()}")
    monkeypatch.setattr("pnnlab.compiling.cache_folder", lambda: None)
    [finding] = doctor._compiler()
    assert finding[:3] == ("compiled code", "not kept", "absent")
    assert "NUMBA_CACHE_DIR" in finding[3]


def test_numba_that_does_not_load_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pnnlab.compiling", None)
    [finding] = doctor._loading("numba", doctor._compiler())
    assert (finding[0], finding[2]) == ("numba", "broken")
    assert "numba" in finding[3]


def test_numba_may_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("numba.core.config.DISABLE_JIT", 1)
    assert cache_folder() is None
