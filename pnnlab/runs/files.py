"""Files that are there in full or as they were, whatever happens while they are written."""

import os
from collections.abc import Callable
from pathlib import Path


def write_whole(
    path: Path,
    content: bytes | memoryview,
    *,
    keep: Path | None = None,
    check: Callable[[Path], object] | None = None,
) -> None:
    """Write beside ``path``, make sure that it is on the disk, and take its place.

    Parameters
    ----------
    path : Path
    content : bytes
    keep : Path, optional
        Where the file that was there before goes.
    check : callable, optional
        Is given what was written before it takes its place, and raises if it is no good.

    Raises
    ------
    OSError
        Disk full, no permission; the files there were are still there.
    Exception
        Of ``check``; likewise.
    """
    beside = aside(path)
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if check is not None:
            check(beside)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    if keep is not None and path.exists():
        path.replace(keep)
    beside.replace(path)
    _sync_folder(path.parent)


def aside(path: Path) -> Path:
    """Where a file is written before it takes its place."""
    return path.with_name(f"{path.stem}.aside{path.suffix}")


def _sync_folder(folder: Path) -> None:
    """Make the renames survive a power cut, where the system lets a folder be synced."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
