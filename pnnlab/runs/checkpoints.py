"""Checkpoint files. The one before the newest is kept, so that there is always a whole one."""

from pathlib import Path
from typing import Any

from pnnlab.errors import RunError
from pnnlab.storage import Kind, UnreadableError, packed, unpacked

NEWEST = "checkpoint.pt"
PREVIOUS = "checkpoint.previous.pt"
DAMAGED = "checkpoint.damaged.pt"


class DamagedError(RunError):
    """A checkpoint is missing, cut short, altered or not plain data; another may be whole."""


_CHECKPOINT = Kind(
    name="checkpoint", format=3, error=DamagedError, remedy="go on from the one before"
)


def save_checkpoint(
    folder: Path, run: str, identity: dict[str, Any], state: dict[str, Any]
) -> None:
    """Write a checkpoint, or raise an `OSError`; a whole one stays in ``folder``."""
    try:
        content = packed({"run": run, "identity": identity, "training": state}, "checkpoint")
    except UnreadableError as error:
        raise RunError(
            f"no checkpoint is written in {folder}, for it could not be read again ({error}); what "
            "was there is as it was. A state may hold tensors, text, numbers, and lists, tuples "
            "and dictionaries of them: keep an array as its tolist(), or as a tensor."
        ) from error
    _CHECKPOINT.write(folder / NEWEST, *content, keep=folder / PREVIOUS)


def load_checkpoint(path: Path, run: str, identity: dict[str, Any]) -> dict[str, Any]:
    """Read the `Training.state` in a checkpoint of this run."""

    def decode(content: memoryview) -> tuple[str, dict[str, Any], dict[str, Any]]:
        found = unpacked(content)
        state = found["training"]
        if not 0 <= state["step"] <= state["steps"]:
            raise ValueError(f"it is of step {state['step']} of {state['steps']}")
        return found["run"], found["identity"], state

    theirs, their_identity, state = _CHECKPOINT.read(path, decode)
    if theirs != run:
        differing = differences(their_identity, identity)
        raise RunError(
            f"{path} belongs to another run ({summed_up(differing) or 'of equal settings'}). Put "
            "the right file back, or delete it to go on from the one before."
        )
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
            f"the run in {folder} cannot be resumed: {problem} And {error} Put a copy of either "
            "file back if there is one; the records in the journal are not affected."
        ) from problem
    return state, f"{problem} Going on from {PREVIOUS}, which is of step {state['step']}"


def clear(folder: Path, *, damaged: bool) -> None:
    """Remove what a killed process left half-written, in a folder that this process alone holds."""
    for left in folder.glob(f".{NEWEST}.*.part"):
        left.unlink()
    if damaged and (folder / NEWEST).exists():  # or it takes the place of the previous, whole one
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
