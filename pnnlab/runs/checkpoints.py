"""Checkpoint files: written aside, read back and renamed; read without executing anything.

A checkpoint is what `torch.save` makes of ``{"format", "run", "identity", "training"}``. The one
before it is kept, so that there is always a whole one.
"""

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from pnnlab.errors import RunError
from pnnlab.plain import unreadable
from pnnlab.runs.files import write_whole
from pnnlab.runs.provenance import differences

NEWEST = "checkpoint.pt"
PREVIOUS = "checkpoint.previous.pt"
DAMAGED = "checkpoint.damaged.pt"
FORMAT = 1


class DamagedError(RunError):
    """A checkpoint is missing, cut short, altered or not plain data; another may be whole."""


def save_checkpoint(
    folder: Path, run: str, identity: dict[str, Any], state: dict[str, Any]
) -> None:
    """Write a checkpoint; whatever happens, a whole one stays in ``folder``.

    Parameters
    ----------
    folder : Path
    run : str
        Unique name of the run.
    identity : dict
        See `pnnlab.runs.provenance.identity`.
    state : dict
        See `pnnlab.training.Training.state`.

    Raises
    ------
    OSError
        Disk full, no permission; the checkpoints there were are still there.
    RunError
        Something in ``state`` cannot be read again; likewise.
    """
    # Through memory, because torch's own file writer hides why a write failed.
    buffer = io.BytesIO()
    content = {"format": FORMAT, "run": run, "identity": identity, "training": state}
    try:
        torch.save(content, buffer)
        write_whole(
            folder / NEWEST,
            buffer.getbuffer(),
            keep=folder / PREVIOUS,
            check=lambda written: load_checkpoint(written, run, identity),
        )
    except (pickle.PickleError, TypeError, AttributeError, ValueError, RuntimeError) as error:
        what = "; ".join(unreadable(content, "checkpoint"))
        if not what:
            raise OSError(f"what was written cannot be read: {error}") from error
        raise RunError(
            f"no checkpoint is written in {folder}, for it could not be read again ({what}); what "
            "was there is as it was. A state may hold tensors, text, numbers, and lists, tuples "
            "and dictionaries of them: keep an array as its tolist(), or as a tensor."
        ) from error


def load_checkpoint(path: Path, run: str, identity: dict[str, Any]) -> dict[str, Any]:
    """Read the `Training.state` in a checkpoint of this run.

    Raises
    ------
    DamagedError
        The file is missing, damaged, or holds more than tensors and plain data.
    RunError
        It is a whole checkpoint, of another run.
    """
    if not path.is_file():
        raise DamagedError(f"{path} is missing")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch.load itself does not look at the checksums
        content = None if damaged else torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise DamagedError(f"{path} cannot be read ({error})") from error
    except Exception as error:  # whatever garbage makes the readers raise, the file is no good
        raise DamagedError(
            f"{path} is damaged, or holds more than tensors and plain data; none of it was executed"
        ) from error
    if damaged:
        raise DamagedError(f"{path} is damaged: its part {damaged} fails its checksum")
    if not isinstance(content, dict) or content.keys() != {"format", "run", "identity", "training"}:
        raise DamagedError(f"{path} is not a checkpoint of pnnlab")
    if content["format"] != FORMAT:
        raise RunError(
            f"{path} has format {content['format']} and this pnnlab reads {FORMAT}: resume the run "
            "with the version that wrote it."
        )
    if content["run"] != run:
        differing = differences(content["identity"], identity)
        raise RunError(
            f"{path} belongs to another run ({summed_up(differing) or 'of equal settings'}). Put "
            "the right file back, or delete it to go on from the one before."
        )
    state: dict[str, Any] = content["training"]
    return state


def newest_whole(folder: Path, run: str, identity: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Read the newest checkpoint that is whole.

    Returns
    -------
    state : dict
        See `pnnlab.training.Training.state`.
    warning : str
        Why it is not the newest of all; empty if it is.

    Raises
    ------
    RunError
        None is whole, or they belong to another run.
    """
    try:
        return load_checkpoint(folder / NEWEST, run, identity), ""
    except DamagedError as error:
        problem = error
    try:
        state = load_checkpoint(folder / PREVIOUS, run, identity)
    except DamagedError as error:
        raise RunError(
            f"the run in {folder} cannot be resumed: {problem}, and {error}. Put a copy of either "
            "file back if there is one; the records in the journal are not affected."
        ) from problem
    return state, f"{problem}; going on from {PREVIOUS}, which is of step {state['step']}"


def set_damaged_aside(folder: Path) -> None:
    """Keep a damaged newest checkpoint from taking the place of the previous, whole one."""
    if (folder / NEWEST).exists():
        (folder / NEWEST).replace(folder / DAMAGED)


def summed_up(lines: list[str], most: int = 4) -> str:
    """Join the first few of many lines."""
    more = f"; and {len(lines) - most} more" if len(lines) > most else ""
    return "; ".join(lines[:most]) + more
