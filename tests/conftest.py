"""What every test shares: one thread, so that numbers and timings do not depend on the machine."""

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

# Read by torch when it is first imported, here and in every process that a test starts.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of a JupyterLab, and the folder that it serves."""
    from browser import chromium, jupyter_lab

    assert chromium() is not None, "Chromium is required here: apt-get install chromium"
    folder = tmp_path_factory.mktemp("notebooks")
    with jupyter_lab(folder, tmp_path_factory.mktemp("own")) as address:
        yield address, folder


@pytest.fixture
def place() -> Iterator[Path]:
    """Where others may look: what pytest makes belongs to its user alone."""
    with TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o755)
        yield place
        for path in (place, *place.rglob("*")):
            path.chmod(0o755)
