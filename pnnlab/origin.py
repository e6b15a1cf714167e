"""Which code made a result: its revision, and the versions of what it stands on."""

import os
import platform
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pnnlab

GIT_TIMEOUT = 10.0  # seconds; a checkout on a slow network disk must not hold up a run
DIRTY = "-dirty"


def versions() -> dict[str, str]:
    """Versions of what numbers depend on. Nothing is imported to find them out."""
    libraries = ("torch", "numba", "numpy")
    return {
        "pnnlab": pnnlab.__version__,
        "python": platform.python_version(),
        **{name: version(name) for name in libraries},
    }


@cache  # what this process has imported stays as it is, whatever is committed meanwhile
def commit() -> str | None:
    """Revision of this package's checkout, with ``-dirty`` if there were uncommitted changes.

    Returns
    -------
    str or None
        None for an installed package, or without git.
    """
    return commit_name(source_revision(Path(pnnlab.__file__).parent))


def commit_name(source: Mapping[str, Any] | None) -> str | None:
    """A `source_revision` in one word."""
    if source is None:
        return None
    return f"{source['revision']}{DIRTY if source['dirty'] else ''}"


def source_revision(folder: Path) -> dict[str, Any] | None:
    """Git revision of the checkout that tracks ``folder``, and whether it had uncommitted changes.

    Returns
    -------
    dict or None
        ``{"revision": str, "dirty": bool}``; None for an installed package, or without git.
    """
    tracked = _git(folder, "ls-files", "--", ".")
    if not tracked:
        return None
    status = _git(folder, "status", "--porcelain=v2", "--branch")
    if status is None:
        return None
    lines = status.splitlines()
    revisions = [line.split()[-1] for line in lines if line.startswith("# branch.oid ")]
    return {
        "revision": revisions[0],
        "dirty": any(not line.startswith("#") for line in lines),
    }


def _git(folder: Path, *arguments: str) -> str | None:
    """Standard output of a git command that takes no lock, or None if it failed."""
    # GIT_DIR and its kin are set inside git hooks, and would point to another repository.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(folder), *arguments],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=True,
            timeout=GIT_TIMEOUT,
            env=environment,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
