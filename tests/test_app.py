"""The lab on one page: each view a tab, made when it is looked at; one kernel for all pages."""

import asyncio
import base64
import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

import ipywidgets as widgets
import nbformat
import psutil
import pytest
from ipywidgets.embed import dependency_state
from records import wait_until
from runners import toy_training
from served import served
from small_notebooks import write_notebook

from pnnlab import cli
from pnnlab.background import Session
from pnnlab.demos.app import LabApp, RunOnStart, circuit_lab
from pnnlab.demos.serving import AppServer, AsyncMappingKernelManager, OneKernel
from pnnlab.errors import InstrumentError, RunError, ShapeError
from pnnlab.runs import list_runs
from pnnlab.server_extension import PromptConnection
from pnnlab.training import FitSettings

SHORT = FitSettings(epochs=2, batch_size=50, evaluations=1)
STORED = 200_000  # bytes of all widgets of the app in a notebook, at most


class View:
    def __init__(self) -> None:
        self.widget = widgets.HTML("seen")
        self.closed = False

    def close(self) -> None:
        self.closed = True


# --- tabs -----------------------------------------------------------------------------


def test_a_view_is_made_when_its_tab_is_first_chosen() -> None:
    made: list[str] = []

    def maker(name: str) -> Callable[[], View]:
        def make() -> View:
            made.append(name)
            return View()

        return make

    app = LabApp({"Device": maker("Device"), "Training": maker("Training")}, title="A <lab>")
    assert made == ["Device"]
    assert app.tabs.titles == ("Device", "Training")
    app.tabs.selected_index = 1
    assert made == ["Device", "Training"]
    assert app.tabs.children[1].children == (app.views["Training"].widget,)
    app.tabs.selected_index = 0
    app.tabs.selected_index = 1
    assert made == ["Device", "Training"]
    assert "A &lt;lab&gt;" in app.widget.children[1].value
    app.close()
    assert all(view.closed for view in app.views.values() if isinstance(view, View))


def test_a_view_that_cannot_be_made_says_why_and_is_tried_again() -> None:
    errors = [InstrumentError("no answer from <scope>; is it switched on?")]

    def maker() -> View:
        if errors:
            raise errors.pop()
        return View()

    app = LabApp({"Device": maker, "Other": View})
    [said] = app.tabs.children[0].children
    assert 'role="alert"' in said.value
    assert "no answer from &lt;scope&gt;; is it switched on?" in said.value
    app.tabs.selected_index = 1
    app.tabs.selected_index = 0
    assert app.tabs.children[0].children == (app.views["Device"].widget,)


def test_an_app_without_tabs_is_refused() -> None:
    with pytest.raises(ShapeError, match="at least one view"):
        LabApp({})


def test_the_text_that_stands_in_for_it_is_always_the_same() -> None:
    bundle = LabApp({"Device": View})._repr_mimebundle_()
    assert bundle["text/plain"] == "The lab on one page (alive in Jupyter)"


# --- the lab that is served --------------------------------------------------------------


def test_a_run_gets_a_folder_of_its_own_once_it_is_started(tmp_path: Path) -> None:
    root = tmp_path / "results"
    sessions = [Session(RunOnStart(root, "toy", toy_training(settings=SHORT))) for _ in range(3)]
    assert not root.exists()
    for session in sessions[:2]:
        session.start().join()
    assert {run.folder.name for run in list_runs(root)} == {"toy-001", "toy-002"}
    assert sessions[0].can_checkpoint
    assert sessions[2]._checkpoint is not None
    with pytest.raises(RunError, match="before its first step"):
        sessions[2]._checkpoint()


def test_the_lab_of_the_circuit_trains_and_stays_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    app = circuit_lab("~/runs", epochs=1)
    for place in range(len(app.tabs.titles)):
        app.tabs.selected_index = place
    session = app.views["Training"].session  # type: ignore[attr-defined]
    session.start()
    wait_until(lambda: session.latest is not None, 60)
    session.stop()
    session.join()
    assert [run.folder.name for run in list_runs(tmp_path / "runs")] == ["digits-001"]

    state = dependency_state(app.widget, drop_defaults=True)
    sizes = {model: len(json.dumps(kept, default=_encoded)) for model, kept in state.items()}
    assert sum(sizes.values()) <= STORED, sorted(sizes.values())[-5:]


def _encoded(value: object) -> str:
    return base64.b64encode(bytes(value)).decode()  # type: ignore[call-overload, no-any-return]


def test_the_notebook_of_the_app_is_three_lines_that_find_the_lab_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    notebook = nbformat.read(cli.APP, 4)
    lines = [line for cell in notebook.cells for line in cell.source.splitlines()]
    assert len([line for line in lines if not line.startswith("#")]) == 3
    assert all(cell.outputs == [] for cell in notebook.cells)
    monkeypatch.setattr("pnnlab.demos.app.circuit_lab", lambda root: [root])
    names: dict[str, Any] = {}
    exec("\n".join(lines), names)
    first = names["lab"]
    exec("\n".join(lines), names)
    assert names["lab"] is first


def test_the_page_asks_for_nothing_from_outside() -> None:
    template = cli.APP.parent / "voila" / "templates" / "pnnlab"
    for file in template.iterdir():
        assert "//" not in file.read_text(encoding="utf-8"), file


# --- serving ----------------------------------------------------------------------------


def test_every_page_gets_the_kernel_that_the_first_one_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    started: list[dict[str, Any]] = []

    async def start(self: OneKernel, **asked: Any) -> str:
        await asyncio.sleep(0)
        started.append(asked)
        name = f"kernel {len(started)}"
        self._kernels[name] = SimpleNamespace()
        return name

    async def pages() -> None:
        manager = OneKernel()
        asked = {"kernel_name": "python3", "path": "pnnlab/app"}
        both = await asyncio.gather(manager.start_kernel(**asked), manager.start_kernel(**asked))
        assert both == ["kernel 1", "kernel 1"]
        manager._kernels.clear()  # it died
        assert await manager.start_kernel(**asked) == "kernel 2"
        manager._kernels.clear()

    monkeypatch.setattr(AsyncMappingKernelManager, "start_kernel", start)
    monkeypatch.chdir(tmp_path)
    asyncio.run(pages())
    expected = {"kernel_name": "python3", "path": None, "cwd": str(tmp_path)}
    assert started == [expected, expected]


def test_lab_app_serves_its_notebook_or_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(AppServer, "launch_instance", asked.append)
    monkeypatch.setenv("JUPYTER_PATH", "elsewhere")
    assert cli.main(["lab", "--app", "--", "--port", "8891"]) == cli.OK
    assert asked[0][0] == str(cli.APP)
    assert asked[0][-2:] == ["--port", "8891"]
    assert (
        "--VoilaConfiguration.multi_kernel_manager_class=pnnlab.demos.serving.OneKernel"
        in (asked[0])
    )
    places = os.environ["JUPYTER_PATH"].split(os.pathsep)
    assert places == [str(cli.APP.parent), "elsewhere"]
    mine = tmp_path / "mine.ipynb"
    mine.touch()
    assert cli.main(["lab", "--app", str(mine), "--", "--Voila.token=x"]) == cli.OK
    assert (asked[1][0], asked[1][-1]) == (str(mine), "--Voila.token=x")

    assert cli.main(["lab", "--app", "none.ipynb"]) == cli.BAD_ARGUMENTS
    assert re.search("no notebook none.ipynb: give --app", capsys.readouterr().err)


def settings_of(
    options: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> dict[str, Any]:
    """Of a server that was started with these options."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # of this process, which goes on
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(tmp_path))
    server = AppServer()
    server.initialize([str(cli.APP), *options])
    server.connection_dir = str(tmp_path)
    return server.init_settings()


def provider_of(options: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    return settings_of(options, monkeypatch, tmp_path)["identity_provider"]


def test_the_app_passes_on_small_messages_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = settings_of([], monkeypatch, tmp_path)
    assert settings["kernel_websocket_connection_class"] is PromptConnection


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--token"],
        ["--token="],
        ["--Voila.token="],
        ["--Voila.auto_token=False"],
        ["--IdentityProvider.token="],
        ["--PasswordIdentityProvider.token="],
        ["--Voila.base_url=/token/"],
        ["--Voila.custom_display_url=http://a.b/?token=x"],
    ],
    ids=str,
)
def test_an_option_that_sets_no_token_leaves_the_generated_one(
    options: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("JUPYTER_TOKEN", "")
    tokens = {provider_of(options, monkeypatch, tmp_path).token for _ in range(2)}
    assert len(tokens) == 2
    assert all(len(token) >= 40 for token in tokens)


@pytest.mark.parametrize(
    "options",
    [
        ["--token", "mine"],
        ["--token=mine"],
        ["--Voila.token=mine"],
        ["--Voila.token", "mine"],
        ["--IdentityProvider.token=mine"],
    ],
    ids=str,
)
def test_a_token_of_ones_own_counts(
    options: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert provider_of(options, monkeypatch, tmp_path).token == "mine"


def test_a_token_of_the_environment_or_a_password_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("JUPYTER_TOKEN", "mine")
    assert provider_of([], monkeypatch, tmp_path).token == "mine"
    monkeypatch.delenv("JUPYTER_TOKEN")
    password = "--PasswordIdentityProvider.hashed_password=argon2:x"
    provider = provider_of([password], monkeypatch, tmp_path)
    assert (provider.token, provider.auth_enabled) == ("", True)


# --- what ends with the command ---------------------------------------------------------------

PAGE = "from pathlib import Path\nimport os\nPath('pid').write_text(str(os.getpid()))"


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL], ids=str)
def test_server_and_kernel_of_the_app_end_with_the_command(
    end: signal.Signals, tmp_path: Path
) -> None:
    page = write_notebook(tmp_path, "page", PAGE, parameters=None)
    with served(tmp_path, str(page)) as address:
        direct = build_opener(ProxyHandler({}))
        with pytest.raises(HTTPError):  # without the token: a page to log in, or a refusal
            direct.open(Request(address.partition("?")[0], method="POST"), timeout=60)
        assert not (tmp_path / "pid").exists()
        direct.open(address, timeout=300).read()
        kernel = psutil.Process(int((tmp_path / "pid").read_text(encoding="utf-8")))
        server = kernel.parent()
        assert server is not None
        assert server.ppid() == os.getpid()  # no process stands between the command and its server
        server.send_signal(end)
        wait_until(lambda: not kernel.is_running(), 60)
        wait_until(lambda: server.status() == psutil.STATUS_ZOMBIE, 60)
