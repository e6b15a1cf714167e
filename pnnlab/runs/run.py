"""`Run`: a training whose records and state are kept in a folder; `train`: one call for it all."""

import json
import re
import sqlite3
import time
import uuid
import warnings
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Unpack, final

from torch import Tensor, nn
from tqdm.auto import tqdm

from pnnlab import storage
from pnnlab.errors import RunError
from pnnlab.layers import physical_layers
from pnnlab.plain import plain, whole
from pnnlab.provenance import utc_now
from pnnlab.runs.journal import JOURNAL, Journal, Row, no_links, reading
from pnnlab.storage import checksum, explained, raw, user_path, writable
from pnnlab.tasks.task import Task
from pnnlab.training import FitSettings, Options, Record, Training
from pnnlab.twins.twin import Signature

NEWEST = "checkpoint.pt"
PREVIOUS = "checkpoint.previous.pt"
DAMAGED = "checkpoint.damaged.pt"
LOCK = "run.lock"
COMMIT_SECONDS = 0.5
CHECKPOINT_SECONDS = 60.0  # a device that takes seconds a step must not lose an hour of shots


class DamagedError(RunError):
    """A checkpoint is missing, cut short, altered or not plain data; another may be whole."""


_CHECKPOINT = storage.Kind(
    name="checkpoint", format=3, error=DamagedError, remedy="go on from the one before"
)


@final
class Run:
    """A training whose records and state are kept in a folder; made by `open`.

    A run holds its folder only while `records` is being iterated or a checkpoint is written; there
    is nothing to close. A process may be killed at any moment: a simulated run that goes on ends
    bit-equal to one that was never interrupted.
    """

    def __init__(
        self, folder: Path, training: Training, row: Row, session: int, *, writable: bool = True
    ) -> None:
        self.folder = folder
        self.training = training
        self.checkpoint_every: int = row["checkpoint_every"]
        self._row = row
        self._session = session
        self._writable = writable
        self._journal: Journal | None = None
        self._pending: list[Record] = []
        self._noted = len(training.notes)  # how many of the training's are in the journal
        self._committed = self._checkpointed = time.monotonic()

    @classmethod
    def open(
        cls,
        folder: str | Path,
        training: Training,
        *,
        parameters: Mapping[str, object] | None = None,
        description: str = "",
        checkpoint_every: int = 200,
    ) -> "Run":
        """Go on with a run, or begin it where there is none.

        ``training`` is built as it was when the run began: same network, systems, data, settings
        and, where they are given, parameters. It is put where the run stopped. Records of steps
        after the checkpoint will be made again; what was measured in them is kept in the journal's
        table ``superseded``. A run at its end is opened where nothing may be written, too.

        Parameters
        ----------
        folder : path
            Of the run. With ``parameters``, of the runs: each lies below, in a folder that is named
            after its parameters.
        parameters : Mapping of str to text or numbers, optional
            All that makes a training another one, such as method, unit and seed.
        description : str
            Of a new run; by default the name of its folder if there are parameters.
        checkpoint_every : int
            Steps between checkpoints of a new run; at least every minute there is one too.

        Raises
        ------
        RunError
            The run is of another training, is going on elsewhere or is damaged, or the folder
            cannot be written.
        """
        if parameters is not None:
            folder = run_folder(folder, parameters)
            description = description or folder.name
        folder = user_path(folder)
        new: Row = {
            "began": utc_now(),
            "description": description,
            "network": str(training.network),
            "checkpoint_every": whole("checkpoint_every", checkpoint_every, 1),
            "id": uuid.uuid4().hex,
        }
        with Journal.explained(folder / JOURNAL):
            folder.mkdir(parents=True, exist_ok=True)
            journal_file = (folder / JOURNAL).resolve()
            writing = not journal_file.exists() or writable(journal_file)
            with (
                _locked(folder) if writing else nullcontext(),
                closing(Journal(folder, create=writing)) as journal,
            ):
                row, warning = journal.row, ""
                if row is None:
                    row = new | {"identity": identity(training, parameters)}
                    # First: a run that has a journal then has a checkpoint too.
                    save_checkpoint(folder, row["id"], row["identity"], training.state())
                else:
                    warning = _restore(training, journal, parameters, writing)
                if not writing:
                    return cls(folder, training, row, len(journal.sessions()), writable=False)
                clear(folder, damaged=bool(warning))
                with journal.transaction():
                    if journal.row is None:
                        journal.describe(**row | {"identity": json.dumps(row["identity"])})
                    session = journal.begin_session(training.step)
                    if warning:
                        journal.note(session, training.step, warning)
        if warning:
            warnings.warn(warning, RuntimeWarning, stacklevel=2)
        return cls(folder, training, row, session)

    def records(self) -> Generator[Record, None, None]:
        """Train to the end as `Training.records` does, keeping every record.

        Checkpoints are written at intervals, and when the iteration ends: by itself, because nobody
        iterates on, or by an exception. A folder that cannot be written raises `RunError`; training
        then stops after a whole step, intact in memory.
        """
        if self._journal is not None:
            raise RunError(f"the run in {self.folder} is being iterated already.")
        if not self._writable:
            return  # at its end: another one cannot be resumed there
        with self._held():
            try:
                for record in self.training.records():
                    self._pending.append(record)
                    now, by_step = time.monotonic(), self.training.step % self.checkpoint_every == 0
                    if by_step or now - self._checkpointed > CHECKPOINT_SECONDS:
                        self.checkpoint()
                    elif now - self._committed > COMMIT_SECONDS:
                        self._write(checkpoint=False)
                    yield record
            except RunError:
                raise  # what could not be written a moment ago will not be written now
            except BaseException:
                self.checkpoint()
                raise
            self.checkpoint()

    def checkpoint(self) -> None:
        """Write the state after the last whole step, and every record up to it, now.

        `RunError`: the folder cannot be written, or belongs to someone who resumed the run since.
        The checkpoints there were are still valid.
        """
        self._write(checkpoint=True)

    def _write(self, *, checkpoint: bool) -> None:
        records = tuple(self._pending)
        notes = self.training.notes[self._noted :]
        advice = (
            f"nothing is lost, the training is intact in memory at step {self.training.step}, and "
            "the last checkpoint is valid. Free some space there, or close what holds it, then "
            "call checkpoint() on this run; iterating records() goes on."
        )
        problem = f"{self.folder} cannot be written"
        with self._held() as journal, explained(RunError, problem, advice):
            with journal.transaction():
                journal.write(records)
                for step, message in notes:
                    journal.note(self._session, step, message)
            self._noted += len(notes)
            del self._pending[: len(records)]
            self._committed = time.monotonic()
            if checkpoint:
                row, state = self._row, self.training.state()
                save_checkpoint(self.folder, row["id"], row["identity"], state)
                self._checkpointed = time.monotonic()

    @contextmanager
    def _held(self) -> Iterator[Journal]:
        # Alone, and only if nobody else has gone on with the run since.
        if self._journal is not None:
            yield self._journal
            return
        with _locked(self.folder), reading(self.folder) as (journal, row):
            if (row["id"], journal.sessions()[-1]["id"]) != (self._row["id"], self._session):
                raise RunError(
                    f"the run in {self.folder} has been resumed elsewhere since: go on there, or "
                    "take it up here with Run.open."
                )
            self._journal = journal
            try:
                yield journal
            finally:
                self._journal = None


def _restore(
    training: Training, journal: Journal, parameters: Mapping[str, object] | None, writing: bool
) -> str:
    row, folder = journal.row, journal.path.parent
    assert row is not None
    known = row["identity"].get("parameters") if parameters is None else parameters
    differing = differences(row["identity"], identity(training, known))
    if differing:
        raise RunError(
            f"the run in {folder} is of another training ({summed_up(differing)}). Build the "
            "network, data and settings that it began with, or open a new folder."
        )
    state, warning = newest_whole(folder, row["id"], row["identity"])
    if journal.reached() < state["step"]:
        raise RunError(
            f"the journal in {folder} ends at step {journal.reached()}, before the checkpoint of "
            f"step {state['step']}: {JOURNAL}-wal, its log, is damaged or was not copied with it. "
            "Put a copy of the whole folder back."
        )
    if not writing and state["step"] < state["steps"]:
        raise RunError(
            f"the run in {folder} stands at step {state['step']} of {state['steps']}, and you may "
            "not write there: copy the folder to another place, and open it there."
        )
    training.restore(state)
    return warning


# --- checkpoints: the one before the newest is kept, so that there is always a whole one ---


def save_checkpoint(
    folder: Path, run: str, identity: dict[str, Any], state: dict[str, Any]
) -> None:
    """Write a checkpoint, or raise an `OSError`; a whole one stays in ``folder``."""
    try:
        content = storage.packed(
            {"run": run, "identity": identity, "training": state}, "checkpoint"
        )
    except storage.UnreadableError as error:
        raise RunError(
            f"no checkpoint is written in {folder}, for it could not be read again ({error}); what "
            "was there is as it was. A state may hold tensors, text, numbers, and lists, tuples "
            "and dictionaries of them: keep an array as its tolist(), or as a tensor."
        ) from error
    _CHECKPOINT.write(folder / NEWEST, *content, keep=folder / PREVIOUS)


def load_checkpoint(path: Path, run: str, identity: dict[str, Any]) -> dict[str, Any]:
    """Read the `Training.state` in a checkpoint of this run."""

    def decode(content: memoryview) -> tuple[str, dict[str, Any], dict[str, Any]]:
        found = storage.unpacked(content)
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


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    # SQLite's own lock, on an empty file, works on every system and dies with its holder.
    no_links(folder)
    how: dict[str, Any] = {"timeout": 0, "isolation_level": None, "check_same_thread": False}
    with ExitStack() as opened:
        try:
            lock = opened.enter_context(closing(sqlite3.connect(folder / LOCK, **how)))
            lock.execute("PRAGMA journal_mode = MEMORY")  # no second file beside the lock
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise RunError(f"{folder} is gone or cannot be written ({error}).") from error
            raise RunError(
                f"the run in {folder} is going on elsewhere, in another process or under another "
                "name in this one: stop it there first, or restart the notebook that holds it."
            ) from error
        yield


def identity(training: Training, parameters: Mapping[str, object] | None = None) -> dict[str, Any]:
    """Describe a training, as JSON holds it; only one of equal identity resumes a run."""
    network = training.network
    state = network.state_dict()
    described = {
        "settings": asdict(training.settings),
        "objective": {"name": training.objective.name, **asdict(training.objective.labels)},
        "optimizer": type(training.optimizer).__name__,
        "method": {"name": type(training.method).__name__, **_settings(training.method)},
        # A `Rescale` did not always keep its unit; runs of that time can go on.
        "tensors": {n: _described(t) for n, t in state.items() if not n.endswith(".unit")},
        "modules": {name: type(module).__name__ for name, module in network.named_modules()},
        "systems": {n: asdict(Signature.of(one)) for n, one in enumerate(training.systems)},
        "rules": {
            number: _setting(layer.rule) for number, layer in enumerate(physical_layers(network))
        },
    }
    for name in ("train", "validation"):
        split = getattr(training, name)
        described[name] = {
            "x": _described(split.x),
            "targets": _described(split.targets),
            "digest": checksum(raw(split.x), raw(split.targets)).hex(),
        }
    if parameters is not None:
        described["parameters"] = plain(dict(parameters))
    as_stored: dict[str, Any] = json.loads(json.dumps(described, default=str))
    return as_stored


def _described(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"


def _settings(made: Any) -> dict[str, Any]:
    own = getattr(made, "__dict__", {}).items()  # what it was made with: public attributes
    return {name: _setting(v) for name, v in own if name != "training" and name[0] != "_"}


def _setting(value: Any) -> Any:
    if value is None or isinstance(value, int | float | str):
        return value
    if isinstance(value, Tensor):
        return f"{_described(value)} {checksum(raw(value)).hex()}"
    if isinstance(value, list | tuple):
        return [_setting(one) for one in value]
    if isinstance(value, partial):
        return {"of": _setting(value.func), **{n: _setting(v) for n, v in value.keywords.items()}}
    return getattr(value, "__name__", None) or f"{type(value).__name__}{_settings(value) or ''}"


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


def run_folder(folder: str | Path, parameters: Mapping[str, object]) -> Path:
    """Folder of one run among others: named by its text, and by numbers behind what they are."""
    values = plain(dict(parameters)).items()
    parts = [value if isinstance(value, str) else f"{key}-{value}" for key, value in values]
    return user_path(folder) / re.sub(r"[^\w.+-]+", "-", "-".join(parts)).strip("-.")


def train(
    network: nn.Module,
    task: Task,
    settings: FitSettings | None = None,
    *,
    folder: str | Path | None = None,
    parameters: Mapping[str, object] | None = None,
    label: str = "",
    progress: bool = True,
    **options: Unpack[Options],
) -> Training:
    """Train a network to the end.

    With a folder, every record and a checkpoint are kept there, and the same call goes on with
    what was interrupted. Ctrl-C stops after a whole step.

    Parameters
    ----------
    network, task, settings, epochs, seed, objective, optimizer, method
        See `Training`.
    folder : path, optional
        Of the run.
    parameters : mapping, optional
        What makes this training another one, such as method, unit and seed; each run then lies in
        a folder of its own below ``folder``, see `Run.open`.
    label : str
        Stands beside the progress bar, and describes the run.

    Returns
    -------
    Training
        Its ``latest`` record tells how it ended.

    Raises
    ------
    RunError
        In the folder is a run of another training, or it cannot be written.
    TrainingError
        The loss is no longer finite.
    """
    training = Training(network, task, settings, **options)
    source: Training | Run = training
    if folder is not None:
        source = Run.open(folder, training, parameters=parameters, description=label)
    labels = training.objective.labels
    bar = tqdm(
        source.records(),
        label or "training",
        total=training.steps,
        initial=training.step,
        # A kernel whose messages nobody reads keeps some 1 000 of them and drops the rest.
        mininterval=1.0,
        disable=not progress,
    )
    for record in bar:
        if record.device_metric is not None:
            bar.set_postfix_str(f"{labels.metric} {labels.text(record.device_metric)}")
    return training
