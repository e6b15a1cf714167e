"""The app as ``pnnlab lab --app`` serves it, for tests and for pictures."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from browser import free_port
from records import wait_until

TOKEN = "of-the-tests"


@contextmanager
def served(folder: Path, *notebook: str) -> Iterator[str]:
    """The address of the app, or of another notebook; all that is written stays in ``folder``."""
    port = free_port()
    command = [sys.executable, "-m", "pnnlab.cli", "lab", "--app", *notebook]
    command += [
        "--",
        "--no-browser",
        f"--port={port}",
        "--Voila.ip=127.0.0.1",
        f"--Voila.token={TOKEN}",
    ]
    own = {f"JUPYTER_{name}_DIR": str(folder / name) for name in ("CONFIG", "RUNTIME")}
    environment = os.environ | own | {"IPYTHONDIR": str(folder / "ipython")}
    log = folder / "server.log"
    address = f"http://127.0.0.1:{port}"
    with log.open("w", encoding="utf-8") as out:
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=out)
        try:
            # Not by asking for a page: that would start the kernel.
            wait_until(lambda: listening(port) or server.poll() is not None, 300)
            assert server.poll() is None, log.read_text(encoding="utf-8")[-3000:]
            yield f"{address}/?token={TOKEN}"
        finally:
            server.terminate()
            try:
                server.wait(timeout=60)  # the kernel is ended with it
            except subprocess.TimeoutExpired:
                for process in psutil.Process(server.pid).children(recursive=True):
                    process.kill()
                server.wait(timeout=60)


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
