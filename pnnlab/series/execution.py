"""Run one notebook with papermill, and say in plain words how it ended."""

import contextlib
import errno
import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import papermill
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillException, PapermillExecutionError

from pnnlab.series.finding import Notebook
from pnnlab.series.kernel import KernelWatch, kernel_manager

Status = Literal["ok", "failed", "interrupted", "not run"]

_SOURCE_LINES = 6
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def execute(
    notebook: Notebook,
    values: Mapping[str, object],
    target: Path,
    watch: KernelWatch,
    *,
    bar_format: str | None,
) -> tuple[Status, str | None]:
    """Run a notebook with its parameters in a fresh kernel of this interpreter.

    Parameters
    ----------
    notebook : Notebook
        What to run; its folder is the working folder.
    values : Mapping
        Its parameters.
    target : Path
        Absolute path of the executed notebook, written after every cell.
    watch : KernelWatch
        Told about the kernel; leaves none behind.
    bar_format : str or None
        Show a bar of this form over the cells, on standard error, in the second line.

    Returns
    -------
    status, error
        How it ended, and where and why if not well.
    """
    try:
        _papermill(notebook, values, target, watch, bar_format=bar_format)
    except KeyboardInterrupt:
        at = "" if watch.cell is None else f" at cell {_position(notebook, values, watch.cell)}"
        return "interrupted", f"{notebook.name} was interrupted{at}."
    except PapermillExecutionError as error:
        return "failed", _describe(notebook, values, target, error)
    except DeadKernelError:
        at = "" if watch.cell is None else f" in cell {_position(notebook, values, watch.cell)}"
        return "failed", (
            f"The kernel of {notebook.name} died{at}; mostly that means that memory ran out. "
            "Close other programs, or run it smaller: -p scale smoke."
        )
    except (PapermillException, OSError, RuntimeError, ValueError, LookupError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return "failed", (
                f"{target} could not be written ({error.strerror}); make room or choose another "
                "folder with --out DIR."
            )
        return "failed", f"{notebook.name} could not be run: {type(error).__name__}: {error}"
    finally:
        watch.kill()
    return "ok", None


def _papermill(
    notebook: Notebook,
    values: Mapping[str, object],
    target: Path,
    watch: KernelWatch,
    *,
    bar_format: str | None,
) -> None:
    cells: dict[str, Any] = {
        "desc": f"  cells of {notebook.name}",
        "position": 1,
        "leave": False,
        "dynamic_ncols": True,
        "bar_format": bar_format,
    }
    with _quiet(logging.getLogger("papermill")):
        papermill.execute_notebook(
            _literal_path(notebook.path),
            _literal_path(target),
            parameters=dict(values),
            kernel_name="python3",
            language="python",
            progress_bar=False if bar_format is None else cells,
            cwd=notebook.path.parent,
            start_timeout=180,
            # nbclient's 4 s are too few for a machine that is busy with something else.
            iopub_timeout=60,
            kernel_manager_class=kernel_manager(watch),
            on_cell_execute=watch.cell_starts,
            on_cell_executed=watch.cell_ends,
        )


def _literal_path(path: Path) -> str:
    """Keep papermill from filling in braces: it takes a path for a format string."""
    return str(path).replace("{", "{{").replace("}", "}}")


@contextlib.contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Silence a logger: papermill's warns of parameters it overlooks, and repeats our errors."""
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _describe(
    notebook: Notebook,
    values: Mapping[str, object],
    target: Path,
    error: PapermillExecutionError,
) -> str:
    """Where it failed, the first lines of the cell, and the traceback without colours."""
    source = str(error.source).strip().splitlines()
    shown = source[:_SOURCE_LINES] + (["…"] if len(source) > _SOURCE_LINES else [])
    traceback = _ANSI.sub("", "\n".join(error.traceback)).strip()
    position = _position(notebook, values, error.cell_index)
    return "\n".join(
        (
            f"{notebook.name} failed at cell {position} (In [{error.exec_count}] of {target}):",
            "",
            *(f"    {line}".rstrip() for line in shown),
            "",
            traceback or f"{error.ename}: {error.evalue}",
        )
    )


def _position(notebook: Notebook, values: Mapping[str, object], index: int) -> int:
    """Number of a cell, from 1, in the notebook itself, which has no injected cell."""
    if not values or notebook.parameters_cell is None or index <= notebook.parameters_cell:
        return index + 1
    return index
