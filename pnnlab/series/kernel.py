"""A kernel of this very environment, watched: its peak memory, the cell it is at, its end."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast, final

import psutil
import zmq
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from traitlets import default

_SAMPLING_S = 0.5
_INTERRUPT_S = 10.0


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
        self._tick = tick
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
        self._thread = threading.Thread(target=self._sample_until_stopped, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Take a last sample and stop; the process may be gone already."""
        if self._thread is None:
            return
        self._sample()
        self._stop.set()
        self._thread.join()
        self._thread = None

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

    def _sample_until_stopped(self) -> None:
        while not self._stop.is_set():
            self._sample()
            if self._tick is not None:
                self._tick()
            self._stop.wait(_SAMPLING_S)

    def _sample(self) -> None:
        kernel = self._process
        if kernel is None:
            return
        with contextlib.suppress(psutil.Error):
            held = sum(_resident(process) for process in kernel.children(recursive=True))
            seen = max(held + _resident(kernel), _high_water(kernel.pid))
            self.peak_bytes = max(self.peak_bytes or 0, seen)


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
    peaks = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    return 1024 * int(next(peaks, "0"))


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
