"""Around the package: one version, a clean top level, nothing that only one machine has."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import pnnlab

ROOT = Path(__file__).parent.parent
TOP_LEVEL = {
    ".ci",
    ".gitattributes",
    ".gitignore",
    ".pre-commit-config.yaml",
    "CHANGELOG.md",
    "CITATION.cff",
    "CONTRIBUTING.md",
    "GLOSSARY.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "WORKSHOP.md",
    "benchmarks",
    "binder",
    "docs",
    "environment.yml",
    "notebooks",
    "pnnlab",
    "pyproject.toml",
    "tests",
}
LARGEST_FILE = 400_000  # bytes; notebooks have a limit of their own in test_notebooks.py
# Folders in which people and services keep their files. Inside an address they are harmless.
PRIVATE_FOLDERS = ("home", "Users", "root", "work", "workspace", "mnt")
PRIVATE_PATH = re.compile(rf"(?<![\w.~/)}}])/(?:{'|'.join(PRIVATE_FOLDERS)})/[\w.]|[A-Z]:\\Users")


def tracked_files() -> list[Path]:
    """Return the files that git knows, relative to the project."""
    if not (ROOT / ".git").exists():
        pytest.skip("this copy of the project has no git history")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [Path(name) for name in listed.stdout.split("\0") if name and (ROOT / name).exists()]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_one_version_everywhere():
    released = re.search(r"^## \[([^]]+)\]", read("CHANGELOG.md"), re.MULTILINE)
    assert released
    versions = {
        "CHANGELOG.md": released[1],
        "CITATION.cff": yaml.safe_load(read("CITATION.cff"))["version"],
        "pyproject.toml": tomllib.loads(read("pyproject.toml"))["project"]["version"],
    }
    assert versions == dict.fromkeys(versions, pnnlab.__version__)


def third_party_imports() -> set[str]:
    """Top-level modules that the package imports, the standard library and itself left out."""
    modules = set()
    for path in (ROOT / "pnnlab").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                modules.add(node.module.partition(".")[0])
    return modules - sys.stdlib_module_names - {"pnnlab"}


def test_everything_imported_is_required():
    """What another requirement happens to bring may be gone in its next version."""
    project = tomllib.loads(read("pyproject.toml"))["project"]
    extras = project["optional-dependencies"]
    required = {
        canonicalize_name(Requirement(line).name)
        for line in project["dependencies"] + extras["sound"] + extras["scaling"]
    }
    providers = packages_distributions()
    assert not {
        module
        for module in third_party_imports()
        if not required & {canonicalize_name(name) for name in providers.get(module, [])}
    }


def test_one_licence_everywhere():
    assert tomllib.loads(read("pyproject.toml"))["project"]["license"] == "MIT"
    assert yaml.safe_load(read("CITATION.cff"))["license"] == "MIT"
    assert read("LICENSE").startswith("MIT License\n")


def test_citation_names_what_a_citation_needs():
    citation = yaml.safe_load(read("CITATION.cff"))
    assert {"cff-version", "message", "title", "authors", "references"} <= citation.keys()
    assert citation["references"][0]["doi"]


def test_contributing_fits_on_a_page():
    assert len(read("CONTRIBUTING.md").splitlines()) <= 80


def test_contributing_names_the_rooms_in_the_order_of_the_import_contract():
    contracts = tomllib.loads(read("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    contract = [re.findall(r"\w+", line) for line in contracts[0]["layers"]]
    table = re.search(r"## Rooms\n.*?\n\n## ", read("CONTRIBUTING.md"), re.DOTALL)[0]
    rows = re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE)
    assert [name for row in rows for name in re.findall(r"\w+", row)] == [
        name for line in contract for name in line
    ]


def test_readme_gives_the_two_commands():
    readme = read("README.md")
    assert "make run" in readme
    assert "make test" in readme


def test_targets_named_in_the_prose_exist():
    targets = set(re.findall(r"^([a-z]+):", read("Makefile"), re.MULTILINE))
    prose = read("README.md") + read("CONTRIBUTING.md")
    assert set(re.findall(r"(?:`|^ *)make ([a-z]+)", prose, re.MULTILINE)) <= targets


def test_top_level_holds_only_what_belongs_there():
    assert {path.parts[0] for path in tracked_files()} <= TOP_LEVEL


def test_no_large_files():
    large = [
        str(path)
        for path in tracked_files()
        if path.suffix != ".ipynb" and (ROOT / path).stat().st_size > LARGEST_FILE
    ]
    assert not large


def test_no_path_of_one_machine():
    found = []
    for path in tracked_files():
        data = (ROOT / path).read_bytes()
        if path.suffix == ".ipynb" or b"\0" in data:  # test_notebooks.py reads the notebooks
            continue
        for number, line in enumerate(data.decode("utf-8").splitlines(), 1):
            if PRIVATE_PATH.search(line):
                found.append(f"{path}:{number}: {line.strip()}")
    assert not found


@pytest.mark.parametrize(
    ("text", "private"),
    [
        (f"open('/{'home'}/ada/data.npz')", True),
        (f"cd /{'Users'}/ada/pnnlab", True),
        ("C:" + r"\Users\ada", True),
        (f"https://example.org/{'home'}/page", False),
        ("results/home/", False),
    ],
)
def test_private_paths_are_told_from_addresses(text, private):
    assert bool(PRIVATE_PATH.search(text)) is private


def text_without_encoding(source: str) -> list[int]:
    """Lines that open a text file in an encoding that differs from one machine to the next."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [
        call.lineno
        for call in calls
        if _opens_text(call) and all(given.arg != "encoding" for given in call.keywords)
    ]


def _opens_text(call: ast.Call) -> bool:
    built_in = isinstance(call.func, ast.Name)
    name = getattr(call.func, "id" if built_in else "attr", "")
    if name in ("read_text", "write_text"):
        return len(call.args) < {"read_text": 1, "write_text": 2}[name]
    if name != "open":
        return False
    modes = [given.value for given in call.keywords if given.arg == "mode"]
    modes += call.args[1:2] if built_in else call.args[:1]
    if not modes:
        return built_in or not call.args
    return isinstance(modes[0], ast.Constant) and set(str(modes[0].value)) <= set("rwxat+")


def test_text_files_say_their_encoding():
    """Or they cannot be read where the locale is C or Chinese."""
    found = [
        f"{path}:{line}"
        for path in tracked_files()
        if path.suffix == ".py"
        for line in text_without_encoding((ROOT / path).read_text(encoding="utf-8"))
    ]
    assert not found


@pytest.mark.parametrize(
    ("source", "bad"),
    [
        ("path.read_text()", True),
        ("path.write_text(text)", True),
        ("open(path)", True),
        ("open(path, 'w')", True),
        ("path.open()", True),
        ("path.open(mode='a')", True),
        ("path.read_text(encoding='utf-8')", False),
        ("path.open('r', encoding='utf-8')", False),
        ("open(path, 'rb')", False),
        ("path.open('wb')", False),
        ("Image.open(picture)", False),
    ],
)
def test_text_without_encoding_is_found(source, bad):
    assert bool(text_without_encoding(source)) is bad


def test_scripts_are_executable_in_git():
    listed = subprocess.run(
        ["git", "ls-files", "--stage", ".ci/run", "binder/postBuild", "binder/start"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    modes = [line.split()[0] for line in listed.stdout.splitlines()]
    assert modes == ["100755"] * 3
