"""Conda and Binder give the same lab as `pip install`: checked with Binder's own build code."""

import os
import re
import shlex
import stat
import tomllib
from pathlib import Path

import pytest
import yaml
from repo2docker.app import Repo2Docker
from repo2docker.buildpacks import CondaBuildPack

from pnnlab import cli

ROOT = Path(__file__).parent.parent
CPU_INDEX = "--extra-index-url https://download.pytorch.org/whl/cpu"


def conda_environment(name: str) -> tuple[list[str], list[str]]:
    """Split an environment file into what conda installs and what pip is given."""
    dependencies = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))["dependencies"]
    (pip,) = [entry["pip"] for entry in dependencies if isinstance(entry, dict)]
    return [entry for entry in dependencies if isinstance(entry, str)], pip


@pytest.fixture
def buildpack(monkeypatch):
    """The first of Binder's build packs that claims this project, as Binder chooses it."""
    monkeypatch.chdir(ROOT)
    app = Repo2Docker()
    chosen = next(
        pack for make in app.buildpacks if (pack := make(base_image=app.base_image)).detect()
    )
    chosen.platform = "linux/amd64"
    return chosen


def test_binder_builds_with_conda_from_its_own_folder(buildpack):
    assert isinstance(buildpack, CondaBuildPack)
    assert buildpack.binder_dir == "binder"
    assert buildpack.python_version == "3.11"


def test_binder_installs_before_it_copies_the_project(buildpack):
    """The slow layer stays cached while only the code changes."""
    scripts = "\n".join(script for _, script in buildpack.get_preassemble_scripts())
    assert "env update" in scripts
    assert "binder/environment.yml" in scripts


def test_binder_image_runs_our_scripts(buildpack):
    dockerfile = buildpack.render(build_args={})
    assert re.search(r"^RUN \./binder/postBuild$", dockerfile, re.MULTILINE)
    assert re.search(r'^ENV R2D_ENTRYPOINT="?[^"\n]*binder/start"?$', dockerfile, re.MULTILINE)


@pytest.mark.parametrize("name", ["postBuild", "start"])
def test_binder_scripts_are_executable_bash(name):
    path = ROOT / "binder" / name
    assert path.read_text(encoding="utf-8").startswith("#!/usr/bin/env bash\n")
    assert path.stat().st_mode & stat.S_IXUSR


def test_binder_makes_the_students_edition_that_readme_names(tmp_path, monkeypatch):
    command = (ROOT / "binder/postBuild").read_text(encoding="utf-8").splitlines()[-1]
    program, *words = shlex.split(command)
    assert program == "pnnlab"
    monkeypatch.chdir(tmp_path)
    assert cli.main(words) == cli.OK
    paths = re.findall(r"`(\w+/\d\d_\w+\.ipynb)`", (ROOT / "README.md").read_text("utf-8"))
    assert [path for path in paths if (tmp_path / path).exists()] == ["students/00_tour.ipynb"]


def test_binder_hands_over_to_jupyter(tmp_path):
    """A start script that does not exec leaves Binder waiting for a server that never comes."""
    marker = tmp_path / "served"
    os.spawnl(
        os.P_WAIT, ROOT / "binder/start", "start", "bash", "-c", f"echo $OMP_NUM_THREADS >{marker}"
    )
    assert marker.read_text(encoding="utf-8").strip().isdigit()


@pytest.mark.parametrize(
    ("name", "extra"), [("environment.yml", "--editable ."), ("binder/environment.yml", CPU_INDEX)]
)
def test_environments_carry_what_pyproject_requires(name, extra):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    conda, pip = conda_environment(name)
    assert conda == ["python=3.11", "pip"]
    assert sorted(pip) == sorted([*project["dependencies"], extra])
