"""Which code made a result: its revision, and the versions of what it depends on."""

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pnnlab

GIT_TIMEOUT = 10.0  # seconds; a checkout on a slow network disk must not hold up a run


def utc_now() -> str:
    """The time, UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Versions of what numbers depend on. Nothing is imported to find them out."""
    own = {"pnnlab": pnnlab.__version__, "python": platform.python_version()}
    return own | {name: version(name) for name in ("torch", "numba", "numpy")}


def provenance() -> dict[str, Any]:
    """Versions, kind of machine, source revision and command, without names of people or hosts."""
    import torch

    return {
        **versions(),
        "platform": f"{platform.system()} {platform.machine()}",
        "threads": torch.get_num_threads(),
        "commit": commit(),
        # Home folders carry people's names.
        "command": [Path(one).name if Path(one).is_absolute() else one for one in sys.argv],
    }


@cache  # what this process has imported stays as it is, whatever is committed meanwhile
def commit() -> str | None:
    """Git revision of this package; see `revision`."""
    return revision(Path(pnnlab.__file__).parent)


def revision(folder: Path) -> str | None:
    """Git revision of the checkout that tracks a folder, with ``-dirty`` after changes, or None."""
    tracked = _git(folder, "ls-files", "--", ".")
    status = _git(folder, "status", "--porcelain=v2", "--branch") if tracked else None
    if status is None:
        return None
    lines = status.splitlines()
    (oid,) = [line.split()[-1] for line in lines if line.startswith("# branch.oid ")]
    return oid if all(line.startswith("#") for line in lines) else f"{oid}-dirty"


def _git(folder: Path, *arguments: str) -> str | None:
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
