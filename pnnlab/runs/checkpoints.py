"""Checkpoint files: written aside, read back and renamed; read without executing anything.

A checkpoint is what `torch.save` makes of ``{"format", "run", "identity", "training"}``. The one
before it is kept, so that there is always a whole one.
"""

from pathlib import Path
from typing import Any

from pnnlab.errors import RunError
from pnnlab.storage import UnreadableError, read_tensors, write_tensors

NEWEST = "checkpoint.pt"
PREVIOUS = "checkpoint.previous.pt"
DAMAGED = "checkpoint.damaged.pt"
FORMAT = 2


class DamagedError(RunError):
    """A checkpoint is missing, cut short, altered or not plain data; another may be whole."""


def save_checkpoint(
    folder: Path, run: str, identity: dict[str, Any], state: dict[str, Any]
) -> None:
    """Write a checkpoint; whatever happens, a whole one stays in ``folder``.

    A disk that is full or has not kept what was written raises `OSError`.
    """
    content = {"format": FORMAT, "run": run, "identity": identity, "training": state}
    try:
        write_tensors(folder / NEWEST, content, "checkpoint", keep=folder / PREVIOUS)
    except UnreadableError as error:
        raise RunError(
            f"no checkpoint is written in {folder}, for it could not be read again ({error}); what "
            "was there is as it was. A state may hold tensors, text, numbers, and lists, tuples "
            "and dictionaries of them: keep an array as its tolist(), or as a tensor."
        ) from error


def load_checkpoint(path: Path, run: str, identity: dict[str, Any]) -> dict[str, Any]:
    """Read the `Training.state` in a checkpoint of this run."""
    try:
        content = read_tensors(path)
    except FileNotFoundError as error:
        raise DamagedError(f"{path} is missing") from error
    except (OSError, ValueError) as error:  # both name the file
        raise DamagedError(str(error)) from error
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
    """Read the newest `Training.state` that is whole, and why it is not the newest, if so."""
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


def clear(folder: Path, *, damaged: bool) -> None:
    """Remove what a killed process left half-written, in a folder that this process alone holds.

    A damaged newest checkpoint is moved aside, so that it does not take the place of the previous,
    whole one.
    """
    for left in folder.glob(f".{NEWEST}.*.part"):
        left.unlink()
    if damaged and (folder / NEWEST).exists():
        (folder / NEWEST).replace(folder / DAMAGED)


def differences(then: Any, now: Any, at: str = "") -> list[str]:
    """Name, one a line, the places where two identities of a training differ."""
    if isinstance(then, dict) or isinstance(now, dict):
        then, now = then or {}, now or {}
        return [
            line
            for key in {**then, **now}
            for line in differences(then.get(key), now.get(key), f"{at} {key}".strip())
        ]
    if then == now:
        return []
    was, is_now = ("absent" if value is None else str(value) for value in (then, now))
    return [f"{at}: {was} then, {is_now} now"]


def summed_up(lines: list[str], most: int = 4) -> str:
    """Join the first few of many lines."""
    more = f"; and {len(lines) - most} more" if len(lines) > most else ""
    return "; ".join(lines[:most]) + more
