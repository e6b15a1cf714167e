"""A real JupyterLab in a real browser, for tests and for pictures.

    python tests/browser.py NOTEBOOK SELECTOR PICTURE.png [--dark]

runs a notebook in headless Chromium and writes a picture of the first element that SELECTOR
(as CSS has it) finds when all cells are done.
"""

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import nbformat
import pytest
from playwright.sync_api import Error, Page, Request, expect, sync_playwright

CHROMIUM_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# Nothing here is in a hurry: a machine that has much else to do is given this long, in ms.
PATIENCE = 180_000
expect.set_options(timeout=PATIENCE)
# anywidget says this of a widget whose code came late; `initialize` of shared.js makes up for it.
LATE = "[anywidget] Failed to initialize model."
SETTINGS = {
    "apputils-extension/notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
        "doNotDisturbMode": True,
    },
    "notebook-extension/tracker": {"windowingMode": "none"},
}


def chromium() -> str | None:
    """The browser, or None: Debian's name first, then what others call it."""
    named = os.environ.get("PNNLAB_CHROMIUM")
    names = [named] if named else ["chromium", "chromium-browser", "google-chrome"]
    return next((found for name in names if (found := shutil.which(name))), None)


# Where a browser is demanded, a test without one fails instead of being skipped.
needs_chromium = pytest.mark.skipif(
    chromium() is None and os.environ.get("PNNLAB_REQUIRE_BROWSER") != "1",
    reason="no Chromium found: apt-get install chromium, or set PNNLAB_CHROMIUM to one",
)
in_a_browser = [pytest.mark.browser, pytest.mark.slow, needs_chromium]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def jupyter_lab(folder: Path, own: Path, *, dark: bool = False) -> Iterator[str]:
    """Serve ``folder`` with JupyterLab; all that it writes about itself goes into ``own``."""
    settings = SETTINGS | {
        "apputils-extension/themes": {"theme": f"JupyterLab {'Dark' if dark else 'Light'}"}
    }
    for name, values in settings.items():
        path = own / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values), encoding="utf-8")
    environment = os.environ | {
        "JUPYTER_CONFIG_DIR": str(own / "config"),
        "JUPYTER_RUNTIME_DIR": str(own / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(own / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(own / "workspaces"),
        "IPYTHONDIR": str(own / "ipython"),
    }
    port = free_port()
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root"]
    command += ["--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", f"--notebook-dir={folder}"]
    command += ["--IdentityProvider.token=", "--LabApp.expose_app_in_browser=True"]
    address = f"http://127.0.0.1:{port}"
    log_path = own / "server.log"
    with log_path.open("w", encoding="utf-8") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            wait_for_server(address, server, log_path)
            yield address
        finally:
            server.terminate()
            server.wait(timeout=PATIENCE / 1000)


def wait_for_server(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    direct = build_opener(ProxyHandler({}))  # loopback is never behind a proxy
    deadline = time.monotonic() + PATIENCE / 1000
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with direct.open(f"{address}/api", timeout=5):
                return
        except URLError:
            time.sleep(0.2)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text(encoding='utf-8')[-3000:]}")


@dataclass
class Lab:
    """A page with JupyterLab in it, and what it should not have done."""

    page: Page
    address: str
    errors: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("request", self._on_request)
        self.page.set_default_timeout(PATIENCE)
        self.page.on("pageerror", lambda error: self._on_error(str(error)))
        self.page.on(
            "console",
            lambda message: self._on_error(message.text) if message.type == "error" else None,
        )

    def _on_error(self, text: str) -> None:
        if text != LATE:
            self.errors.append(text)

    def _on_request(self, request: Request) -> None:
        # Addresses without a host, data: and blob:, never leave the page.
        if request.url.startswith(("http", "ws")) and "//127.0.0.1:" not in request.url:
            self.outside.append(request.url)

    def open(self, notebook: str) -> None:
        """Show a notebook, and nothing beside it, with its kernel ready."""
        name = notebook.removesuffix(".ipynb").replace("/", "-").replace(".", "-")
        self.page.goto(f"{self.address}/lab/workspaces/{name}/tree/{notebook}?reset")
        self.page.wait_for_selector(".jp-Notebook .jp-Cell")
        self.page.wait_for_function(
            "() => { const now = jupyterapp.shell.currentWidget?.sessionContext;"
            " return now?.isReady && now.session?.kernel?.status === 'idle'; }"
        )
        self.page.evaluate("jupyterapp.shell.collapseLeft()")

    def run_all(self) -> None:
        """Run all cells; comes back at once, whatever they wait for."""
        self.page.evaluate("void jupyterapp.commands.execute('notebook:run-all-cells')")

    def wait_until_done(self, seconds: float = 600) -> None:
        """Wait until no cell is running or waiting to run."""
        self.page.wait_for_function(
            "() => ![...document.querySelectorAll('.jp-Notebook .jp-CodeCell .jp-InputPrompt')]"
            ".some((prompt) => ['[ ]:', '[*]:'].includes(prompt.textContent.trim()))",
            timeout=1000 * seconds,
        )


def write_notebook(path: Path, *sources: str) -> None:
    """A notebook of these code cells, for Python's kernel."""
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)


@contextmanager
def lab_page(
    address: str,
    *,
    width: int = 1366,
    height: int = 768,
    scale: float = 1,
    dark: bool = False,
    flags: Sequence[str] = (),
    audible: bool = False,
) -> Iterator[Lab]:
    """A headless Chromium at ``address``, where `jupyter_lab` serves."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=chromium(),
            args=[*CHROMIUM_FLAGS, *flags],
            ignore_default_args=["--mute-audio"] if audible else None,
        )
        try:
            page = browser.new_page(
                viewport={"width": width, "height": height},
                device_scale_factor=scale,
                color_scheme="dark" if dark else "light",
            )
            yield Lab(page, address)
        finally:
            # A kernel takes half a gigabyte. No page, or one without JupyterLab, has none.
            with suppress(Error):
                page.evaluate("globalThis.jupyterapp?.serviceManager.sessions.shutdownAll()")
            browser.close()


def main() -> None:
    """Write the picture that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebook", type=Path)
    parser.add_argument("selector")
    parser.add_argument("picture", type=Path)
    parser.add_argument("--dark", action="store_true")
    asked = parser.parse_args()
    from tempfile import TemporaryDirectory

    with (
        TemporaryDirectory() as own,
        jupyter_lab(asked.notebook.parent, Path(own), dark=asked.dark) as address,
        lab_page(address, scale=2, dark=asked.dark) as lab,
    ):
        lab.open(asked.notebook.name)
        lab.run_all()
        lab.wait_until_done()
        lab.page.wait_for_timeout(500)  # the last update is painted
        lab.page.locator(asked.selector).first.screenshot(path=asked.picture)


if __name__ == "__main__":
    main()
