"""Run notebooks in turn, and take in the summaries they write."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, final

from pnnlab.errors import RunError
from pnnlab.series.finding import Notebook
from pnnlab.storage import user_path
from pnnlab.summary import SUFFIX, Summary

if TYPE_CHECKING:
    from pnnlab.series.execution import Status

BAR = "{desc:<28.28} {bar} {n_fmt}/{total_fmt}  {elapsed} elapsed, {remaining} left"


@final
@dataclass(frozen=True)
class Outcome:
    """What came of one notebook.

    Attributes
    ----------
    name : str
        The notebook, without the ending.
    status : str
        ``"ok"``, ``"failed"``, ``"interrupted"`` or ``"not run"``.
    seconds : float or None
        Wall-clock time with the start of the kernel.
    peak_memory_mb : float or None
        Peak resident memory of the kernel and its children, in 10⁶ bytes.
    error : str or None
        Where and why it stopped.
    summaries : tuple of Summary
        Those written while it ran.
    """

    name: str
    status: "Status"
    seconds: float | None = None
    peak_memory_mb: float | None = None
    error: str | None = None
    summaries: tuple[Summary, ...] = ()


def prepare_out(out: str | Path, notebooks: Path) -> Path:
    """Make the folder of the results and try whether it can be written.

    Returns
    -------
    Path
        The folder, absolute.

    Raises
    ------
    RunError
        If it cannot be made or written, or is the folder of the notebooks.
    """
    folder = user_path(out).absolute()
    trial = folder / f".trial.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trial.write_bytes(b"\0" * 4096)
        trial.unlink()
    except OSError as error:
        with contextlib.suppress(OSError):
            trial.unlink()
        raise RunError(
            f"Results cannot be written to {folder} ({error.strerror or error}); choose another "
            "folder with --out DIR."
        ) from error
    if folder.resolve() == notebooks.resolve():
        raise RunError(
            f"{folder} holds the notebooks, and running would overwrite them; choose another "
            "folder with --out DIR."
        )
    return folder


def run_series(
    notebooks: Sequence[Notebook],
    values: Sequence[Mapping[str, object]],
    out: Path,
    *,
    tick: Callable[[], object] | None = None,
) -> Iterator[Outcome]:
    """Run notebooks in turn; one that fails does not stop the others.

    Ctrl-C ends the notebook that is running; it and those after it are still reported.

    Parameters
    ----------
    notebooks : sequence of Notebook
        What to run.
    values : sequence of Mapping
        The parameters of each.
    out : Path
        Absolute folder; the executed notebooks go there under their own names.
    tick : callable, optional
        Called twice a second, from another thread, by a caller who shows a bar over the
        notebooks and wants its clock to go on. A bar over the cells then appears below it.

    Yields
    ------
    Outcome
        One a notebook, in order.
    """
    interrupted = False
    for notebook, given in zip(notebooks, values, strict=True):
        if interrupted:
            yield Outcome(notebook.name, "not run")
            continue
        outcome = _run_notebook(notebook, given, out, tick)
        interrupted = outcome.status == "interrupted"
        yield outcome


def _run_notebook(
    notebook: Notebook,
    values: Mapping[str, object],
    out: Path,
    tick: Callable[[], object] | None,
) -> Outcome:
    # Imported before the clock starts: papermill takes seconds, which are not the notebook's.
    from pnnlab.series.execution import execute
    from pnnlab.series.kernel import KernelWatch

    watch = KernelWatch(tick)
    bar_format = None if tick is None else BAR
    before = _signatures(out)
    started = time.perf_counter()
    status, error = execute(
        notebook, values, out / notebook.path.name, watch, bar_format=bar_format
    )
    seconds = time.perf_counter() - started
    summaries, damage = _fresh_summaries(out, before)
    if damage and status == "ok":
        status, error = "failed", damage
    peak = None if watch.peak_bytes is None else round(watch.peak_bytes / 1e6, 1)
    return Outcome(notebook.name, status, round(seconds, 2), peak, error, summaries)


def _signatures(out: Path) -> dict[Path, tuple[int, int, int]]:
    """What tells a summary written now from one that was there before."""
    marks = {}
    for path in out.glob(f"*{SUFFIX}"):
        with contextlib.suppress(OSError):
            stat = path.stat()
            marks[path] = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
    return marks


def _fresh_summaries(
    out: Path, before: Mapping[Path, tuple[int, int, int]]
) -> tuple[tuple[Summary, ...], str | None]:
    """Summaries written since, and what is wrong with those that cannot be read."""
    summaries, damage = [], []
    for path, mark in sorted(_signatures(out).items()):
        if before.get(path) == mark:
            continue
        try:
            summaries.append(Summary.read(path))
        except RunError as error:
            damage.append(str(error))
    return tuple(summaries), " ".join(damage) or None
