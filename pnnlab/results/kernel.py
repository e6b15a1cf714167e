"""Run one notebook with papermill in a kernel of this very environment, and say how it ended."""

import asyncio
import contextlib
import errno
import logging
import re
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, cast, final

import papermill
import psutil
import zmq
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillException, PapermillExecutionError
from traitlets import default

from pnnlab.results.notebooks import BAR, Notebook, Status

_SAMPLING_S = 0.5
_INTERRUPT_S = 10.0
_SOURCE_LINES = 6
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@final
class KernelWatch:
    """Follows one kernel from its start to its end.

    Parameters
    ----------
    tick : callable, optional
        Called twice a second while the kernel lives, from another thread.

    Attributes
    ----------
    cell : int or None
        Position of the last cell that was started, from 0 and counting the injected one.
    busy : bool
        Whether it is still running.
    peak_bytes : int or None
        Largest resident memory seen, of the kernel and its child processes together.
    """

    def __init__(self, tick: Callable[[], object] | None = None) -> None:
        self.tick = tick
        self.cell: int | None = None
        self.busy = False
        self.peak_bytes: int | None = None
        self._process: psutil.Process | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def cell_starts(self, *, cell_index: int, **_: object) -> None:
        """Note the cell: a hook for nbclient."""
        self.cell, self.busy = cell_index, True

    def cell_ends(self, **_: object) -> None:
        """Note that it ended, in whatever way: a hook for nbclient."""
        self.busy = False

    def begin(self, pid: int) -> None:
        """Start to sample the memory of a process."""
        self._process = psutil.Process(pid)
        self._thread = threading.Thread(
            target=self._sample_until_stopped, args=(self._process,), daemon=True
        )
        self._thread.start()

    def end(self) -> None:
        """Take a last sample and stop; the process may be gone already."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def kill(self) -> None:
        """Make sure that nothing of the kernel is left, whatever happened to its manager."""
        self.end()
        if self._process is None:
            return
        with contextlib.suppress(psutil.Error):
            left = [*self._process.children(recursive=True), self._process]
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(left, timeout=5)

    def _sample_until_stopped(self, kernel: psutil.Process) -> None:
        last = False
        while not last:
            last = self._stop.is_set()
            with contextlib.suppress(psutil.Error):
                held = sum(map(_resident, kernel.children(recursive=True)))
                seen = max(held + _resident(kernel), _high_water(kernel.pid))
                self.peak_bytes = max(self.peak_bytes or 0, seen)
            if self.tick is not None and not last:
                self.tick()
            self._stop.wait(_SAMPLING_S)


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:  # it ended just now
        return 0


def _high_water(pid: int) -> int:
    """Peak that Linux itself keeps, in bytes; 0 elsewhere. It misses nothing between samples."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    found = re.search(r"^VmHWM:\s*(\d+)", status, re.MULTILINE)
    return 1024 * int(found[1]) if found else 0


def execute(
    notebook: Notebook, values: Mapping[str, object], target: Path, watch: KernelWatch
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
        Told about the kernel; leaves none behind. If it ticks, a bar over the cells is shown on
        standard error, in the second line.

    Returns
    -------
    status, error
        How it ended, and where and why if not well.
    """
    bar = {
        "desc": f"  cells of {notebook.name}",
        "position": 1,
        "leave": False,
        "dynamic_ncols": True,
        "bar_format": BAR,
    }
    # It warns of parameters that it overlooks, and repeats our errors.
    logging.getLogger("papermill").setLevel(logging.CRITICAL)
    try:
        papermill.execute_notebook(
            _literal_path(notebook.path),
            _literal_path(target),
            parameters=dict(values),
            kernel_name="python3",
            language="python",
            progress_bar=bar if watch.tick else False,
            cwd=notebook.path.parent,
            start_timeout=180,
            # nbclient's 4 s are too few for a machine that is busy with something else.
            iopub_timeout=60,
            kernel_manager_class=kernel_manager(watch),
            on_cell_execute=watch.cell_starts,
            on_cell_executed=watch.cell_ends,
        )
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


def _literal_path(path: Path) -> str:
    """Keep papermill from filling in braces: it takes a path for a format string."""
    return str(path).replace("{", "{{").replace("}", "}}")


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


def kernel_manager(watch: KernelWatch) -> type[AsyncKernelManager]:
    """Make a kernel manager class that starts this interpreter and reports to ``watch``.

    A user may have a kernel called ``python3`` that belongs to another environment; without any
    folder to look in, the specification that remains is ipykernel's own, for ``sys.executable``.
    """

    @final
    class LabKernelManager(AsyncKernelManager):
        @default("kernel_spec_manager")
        def _no_kernels_of_others(self) -> KernelSpecManager:
            return KernelSpecManager(parent=self, kernel_dirs=[])

        @default("transport_encryption")
        def _private_where_possible(self) -> str:
            # Others on this machine could read along, and ipykernel warns of it each time.
            return "auto" if zmq.has("curve") else "disabled"

        async def _start(self, **options: Any) -> None:
            await super().start_kernel(**options)
            pid = cast(LocalProvisioner, self.provisioner).pid
            if pid is not None:
                watch.begin(pid)

        async def _shut_down(self, now: bool = False, restart: bool = False) -> None:
            if watch.busy:
                await self._interrupt_cell()
            watch.end()
            await super().shutdown_kernel(now=now, restart=restart)

        # Declared as the class above declares them: it replaces plain functions by coroutines.
        start_kernel: Callable[..., Awaitable[Any]] = _start
        shutdown_kernel: Callable[..., Awaitable[Any]] = _shut_down

        async def _interrupt_cell(self) -> None:
            """Let the cell clean up first (outputs off, journal closed), as after ■ in Jupyter."""
            # Ctrl-C cut off the wait for this cell, which is still in the loop and will fail.
            waits = asyncio.all_tasks() - {asyncio.current_task()}
            with contextlib.suppress(RuntimeError):  # the kernel is gone
                await self.interrupt_kernel()
            deadline = time.monotonic() + _INTERRUPT_S
            while watch.busy and time.monotonic() < deadline:
                await asyncio.sleep(0.05)
            for wait in waits:
                wait.cancel()
            # Take the results, or asyncio complains at exit that nobody did.
            await asyncio.gather(*waits, return_exceptions=True)

    return LabKernelManager
