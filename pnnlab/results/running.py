"""Run notebooks in turn with papermill, each in a fresh kernel of this very environment."""

import asyncio
import errno
import logging
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent
from typing import Any, Literal, NamedTuple, final

import papermill
import psutil
import zmq
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import CellExecutionError, DeadKernelError
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import Engine, papermill_engines
from papermill.exceptions import PapermillException, PapermillExecutionError

from pnnlab.errors import RunError
from pnnlab.results.notebooks import Notebook
from pnnlab.results.rows import SUFFIX, Summary
from pnnlab.storage import explained, user_path

BAR = "{desc:<28.28} {bar} {n_fmt}/{total_fmt}  {elapsed} elapsed, {remaining} left"
Status = Literal["ok", "failed", "interrupted", "not run"]
_SAMPLING_S = 0.5
_INTERRUPT_S = 10.0
_SOURCE_LINES = 6
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_ENGINE = "pnnlab"

# It warns of parameters that it overlooks, and repeats our errors.
logging.getLogger("papermill").setLevel(logging.CRITICAL)


class Outcome(NamedTuple):
    """What came of one notebook."""

    name: str  # without the ending
    status: Status
    seconds: float | None = None  # wall-clock time with the start of the kernel
    peak_memory_mb: float | None = None  # resident, kernel and its children together, 10⁶ bytes
    error: str | None = None  # where and why it stopped
    summaries: tuple[Summary, ...] = ()  # written while it ran


def prepare_out(out: str | Path, notebooks: Path) -> Path:
    """Make the folder of the results, try whether it can be written, and give its absolute path."""
    folder = user_path(out).absolute()
    remedy = "choose another folder with --out DIR."
    with explained(RunError, f"Results cannot be written to {folder}", remedy):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as trial:
            trial.write(bytes(4096))
    if folder.resolve() == notebooks.resolve():
        raise RunError(f"{folder} holds the notebooks, and running would overwrite them; {remedy}")
    return folder


def run_notebooks(
    notebooks: Sequence[Notebook],
    values: Sequence[Mapping[str, object]],
    out: Path,
    *,
    tick: Callable[[], object] | None = None,
    env: Mapping[str, str] | None = None,
) -> Iterator[Outcome]:
    """Run notebooks in turn, each with its values; one that fails does not stop the others.

    Ctrl-C ends the notebook that is running; it and those after it are still reported. ``tick`` is
    called twice a second; a bar over the cells then appears. ``env`` is added to that of kernels.
    """
    interrupted = False
    for notebook, given in zip(notebooks, values, strict=True):
        if interrupted:
            yield Outcome(notebook.name, "not run")
            continue
        before, began = _summary_files(out), time.perf_counter()
        run = _Run(notebook, given, out / f"{notebook.name}.ipynb", tick, env or {})
        status, error = run.execute()
        seconds = round(time.perf_counter() - began, 2)
        peak = round(run.peak_bytes / 1e6, 1) if run.peak_bytes else None
        summaries, damage = [], []
        for path, *_ in sorted(_summary_files(out) - before):
            try:
                summaries.append(Summary.read(path))
            except RunError as unreadable:
                damage.append(str(unreadable))
        if damage and status == "ok":
            status, error = "failed", " ".join(damage)
        interrupted = status == "interrupted"
        yield Outcome(notebook.name, status, seconds, peak, error, tuple(summaries))


def _summary_files(out: Path) -> set[tuple[Path, int, int]]:
    # With what changes when one is written anew.
    stats = [(path, path.lstat()) for path in out.glob(f"*{SUFFIX}")]
    return {(path, stat.st_mtime_ns, stat.st_ino) for path, stat in stats}


@final
@dataclass
class _Run:
    notebook: Notebook
    values: Mapping[str, object]
    target: Path
    tick: Callable[[], object] | None
    env: Mapping[str, str]
    kernel: psutil.Process | None = None
    cell: int | None = None
    peak_bytes: int = 0

    def execute(self) -> tuple[Status, str | None]:
        """Run all cells; give the status, and where and why they stopped."""
        name = self.notebook.name
        bar = {"desc": f"  cells of {name}", "position": 1, "leave": False, "bar_format": BAR}
        try:
            papermill.execute_notebook(  # which takes a path for a format string: escape braces
                *(re.sub("[{}]", r"\g<0>\g<0>", str(p)) for p in (self.notebook.path, self.target)),
                parameters=dict(self.values),
                engine_name=_ENGINE,
                kernel_name="python3",
                language="python",
                progress_bar=self.tick is not None and bar | {"dynamic_ncols": True},
                cwd=self.notebook.path.parent,
                run=self,
            )
        except KeyboardInterrupt:
            return "interrupted", f"{name} was interrupted{self._where('at')}."
        except PapermillExecutionError as error:
            return "failed", self._description(error)
        except DeadKernelError:
            return "failed", (
                f"The kernel of {name} died{self._where('in')}; mostly that means that memory ran "
                "out. Close other programs, or run it smaller: -p scale smoke."
            )
        except (PapermillException, OSError, RuntimeError, ValueError, LookupError) as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                return "failed", (
                    f"{self.target} could not be written ({error.strerror}); make room or choose "
                    "another folder with --out DIR."
                )
            return "failed", f"{name} could not be run: {type(error).__name__}: {error}"
        return "ok", None

    async def in_kernel(self, nb_man: Any) -> None:
        """Start a kernel, run the cells that papermill manages, and end the kernel."""
        # A user may have a kernel called python3 that belongs to another environment; without any
        # folder to look in, what remains is ipykernel's own, for sys.executable.
        manager: Any = AsyncKernelManager(kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
        if manager.has_trait("transport_encryption") and zmq.has("curve"):
            # Others on this machine could read along, and ipykernel warns of it each time.
            manager.transport_encryption = "auto"
        # nbclient's 4 s for outputs are too few for a machine that is busy with something else.
        client = PapermillNotebookClient(nb_man, manager, startup_timeout=180, iopub_timeout=60)
        await client.async_start_new_kernel(env={**os.environ, **self.env})
        self.kernel = psutil.Process(manager.provisioner.pid)
        sampling = asyncio.create_task(self._sample(self.kernel))
        try:
            await client.async_start_new_kernel_client()
            await self._run_cells(client)
        finally:
            sampling.cancel()
            self._note_memory(self.kernel)
            if client.kc is not None:
                client.kc.stop_channels()
            await manager.shutdown_kernel()

    def kill(self) -> None:
        """Leave nothing of the kernel, whatever happened to its manager."""
        with suppress(psutil.Error):
            left = [*self.kernel.children(recursive=True), self.kernel] if self.kernel else []
            for process in left:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(left, timeout=5)

    async def _run_cells(self, client: Any) -> None:
        for self.cell, cell in enumerate(client.nb.cells):
            client.nb_man.cell_start(cell, self.cell)
            running = asyncio.ensure_future(client.async_execute_cell(cell, self.cell))
            try:
                await asyncio.shield(running)
            except CellExecutionError:  # papermill raises it anew once the notebook is saved
                client.nb_man.cell_exception(cell, self.cell)
                break
            except asyncio.CancelledError:  # Ctrl-C
                # Let the cell clean up first (outputs off, journal closed), as after ■ in Jupyter.
                await client.km.interrupt_kernel()
                await asyncio.wait([running], timeout=_INTERRUPT_S)
                running.cancel()
                # Take the result, or asyncio warns at exit that it was never retrieved.
                await asyncio.gather(running, return_exceptions=True)
                raise
            finally:
                client.nb_man.cell_complete(cell, self.cell)
        about = await client.async_wait_for_reply(client.kc.kernel_info())
        client.nb.metadata["language_info"] = about["content"]["language_info"]
        client.set_widgets_metadata()

    async def _sample(self, kernel: psutil.Process) -> None:
        while True:
            self._note_memory(kernel)
            if self.tick is not None:
                self.tick()
            await asyncio.sleep(_SAMPLING_S)

    def _note_memory(self, kernel: psutil.Process) -> None:
        with suppress(psutil.Error):  # one that ended just now: the next sample will do
            processes = (kernel, *kernel.children(recursive=True))
            resident = sum(process.memory_info().rss for process in processes)
            self.peak_bytes = max(self.peak_bytes, resident)
        with suppress(OSError):  # the peak that Linux keeps: nothing between samples is missed
            status = Path(f"/proc/{kernel.pid}/status").read_bytes()
            if found := re.search(rb"^VmHWM:\s*(\d+)", status, re.MULTILINE):
                self.peak_bytes = max(self.peak_bytes, 1024 * int(found[1]))

    def _where(self, preposition: str) -> str:
        """Name the cell by its number, from 1, in the notebook itself, without the injected one."""
        if self.cell is None:
            return ""
        first = self.notebook.parameters_cell
        injected = self.values and first is not None and self.cell > first
        return f" {preposition} cell {self.cell if injected else self.cell + 1}"

    def _description(self, error: PapermillExecutionError) -> str:
        self.cell = error.cell_index
        source = str(error.source).strip().splitlines()
        shown = "\n".join(source[:_SOURCE_LINES] + ["…"] * (len(source) > _SOURCE_LINES))
        place = f"{self._where('at')} (In [{error.exec_count}] of {self.target})"
        traceback = _ANSI.sub("", "\n".join(error.traceback)).strip()
        traceback = traceback or f"{error.ename}: {error.evalue}"
        return f"{self.notebook.name} failed{place}:\n\n{indent(shown, '    ')}\n\n{traceback}"


class _Engine(Engine):  # type: ignore[misc] # papermill ships no types
    @classmethod  # our own loop, in which Ctrl-C reaches the cells in order
    def execute_managed_notebook(cls, nb_man: Any, _: str, *, run: _Run, **__: object) -> None:
        try:
            # zmq needs this loop, which is not the default on Windows.
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                # A second Ctrl-C leaves a cell unfinished: asyncio would print a traceback of it.
                runner.get_loop().set_exception_handler(lambda *_: None)
                runner.run(run.in_kernel(nb_man))
        finally:
            run.kill()


papermill_engines.register(_ENGINE, _Engine)
