"""A bench in a real browser, which plays and hears through PulseAudio: what it plays comes back."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from audio import Listener, audio_server, need_audio
from browser import Lab, in_a_browser, jupyter_lab, lab_page, write_notebook
from playwright.sync_api import Locator, expect

pytestmark = in_a_browser

OPEN = """
import asyncio
import torch
from pnnlab.errors import PnnlabError
from pnnlab.instruments.programme import SoundProgramme
from pnnlab.instruments.sound import open_sound
from pnnlab.views.browser_sound import BrowserSound

programme = SoundProgramme(input_dim=16, replays=2, outputs=5, rest=480)
x, theta = torch.rand(20, 16), torch.rand(programme.param_dim)
port = BrowserSound()
port
"""
BENCH = """
await port.started()
for _ in range(5):  # a busy computer may lose too much sound, and the bench refuses
    try:
        bench = await asyncio.to_thread(open_sound, port, programme)
        break
    except PnnlabError as error:
        print(error)
print(bench.self_check)
"""
TWICE = """
first = await asyncio.to_thread(bench, x, theta)
second = await asyncio.to_thread(bench, x, theta)
try:
    bench(x, theta)
except PnnlabError as error:
    print(error)
print("the same:", bool((first - second).std() < 0.02 * first.std()))
"""
ALWAYS = """
said = set()
while "stopped in the page" not in str(said):
    try:
        await asyncio.to_thread(bench, x, theta)
    except PnnlabError as error:
        said.add(str(error))
print(said)
await port.started()
print("it goes on:", (await asyncio.to_thread(bench, x, theta)).shape)
"""
FOREVER = """
import os
print(os.getpid())
while True:
    await asyncio.to_thread(bench, x, theta)
"""


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listener]:
    """What the browser plays; it is what the browser's microphone hears, too."""
    need_audio()
    with (
        audio_server(tmp_path_factory.mktemp("audio")) as environment,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("PULSE_SERVER", environment["PULSE_SERVER"])
        for command in (
            "load-module module-remap-source master=speaker.monitor source_name=mic",
            "set-default-source mic",
            "set-default-sink speaker",
        ):
            subprocess.run(["pactl", *command.split()], check=True, stdout=subprocess.DEVNULL)
        listener = Listener(environment)
        yield listener
        listener.close()


@pytest.fixture(scope="module")
def lab(heard: Listener, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("notebooks")
    write_notebook(folder / "sound.ipynb", OPEN, BENCH, TWICE, ALWAYS, FOREVER)
    flags = ["--disable-features=AudioServiceSandbox"]
    with (
        jupyter_lab(folder, tmp_path_factory.mktemp("own")) as address,
        lab_page(address, flags=flags, audible=True) as lab,
    ):
        lab.open("sound.ipynb")
        lab.run_all()
        yield lab


def output(lab: Lab, cell: int) -> Locator:
    return lab.page.locator(".jp-Notebook .jp-CodeCell").nth(cell).locator(".jp-OutputArea")


def test_a_muted_microphone_is_said_and_the_page_goes_on(tmp_path: Path) -> None:
    """With Chromium's own imitation of a microphone, which can be muted and needs no server."""
    write_notebook(tmp_path / "sound.ipynb", OPEN, "await port.started()\nprint('granted')")
    flags = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with jupyter_lab(tmp_path, tmp_path / "own") as address, lab_page(address, flags=flags) as lab:
        page = lab.page
        page.add_init_script(
            "Object.defineProperty(MediaStreamTrack.prototype, 'muted',"
            " { configurable: true, get: () => Boolean(window.muted) });"
        )
        lab.open("sound.ipynb")
        page.evaluate("window.muted = true")
        lab.run_all()
        button, status, alert = (
            page.locator(f".pnn-sound {part}")
            for part in ("button", "[role=status]", "[role=alert]")
        )
        button.click()
        expect(alert).to_contain_text("The microphone is muted: unmute it")
        expect(button).to_have_text("Start")
        assert "granted" not in output(lab, 1).inner_text()
        page.evaluate("window.muted = false")
        button.click()
        expect(status).to_contain_text("ready: 48000")
        expect(output(lab, 1)).to_contain_text("granted")
    log = (tmp_path / "own" / "server.log").read_text(encoding="utf-8")
    assert "pnnlab.server_extension | extension was successfully loaded" in log


@pytest.mark.alone
def test_a_page_is_a_bench_asks_first_and_is_silent_when_told(lab: Lab, heard: Listener) -> None:
    page = lab.page
    button, status, alert = (
        page.locator(f".pnn-sound {part}") for part in ("button", "[role=status]", "[role=alert]")
    )
    expect(status).to_contain_text("10 % of full scale")
    button.click()
    expect(alert).to_contain_text("The microphone was refused: allow it")
    assert heard.last == 0  # nothing sounded before it was allowed
    page.context.grant_permissions(["microphone"])
    button.click()
    expect(status).to_contain_text("ready: 48000")
    expect(output(lab, 1)).to_contain_text("The sound is ready. Usable from")
    expect(output(lab, 2)).to_contain_text("await asyncio.to_thread")
    expect(output(lab, 2)).to_contain_text("the same: True")
    begun = time.monotonic()
    while heard.last < begun:
        page.wait_for_timeout(20)
    button.click()  # Stop
    told = time.monotonic()
    expect(output(lab, 3)).to_contain_text("stopped in the page: start it again")
    page.wait_for_timeout(1000)
    assert heard.last < told + 0.1
    button.click()
    expect(output(lab, 3)).to_contain_text("it goes on: torch.Size([20, 5])")
    begun = time.monotonic()
    while heard.last < begun:
        page.wait_for_timeout(20)
    kernel = int(output(lab, 4).inner_text())
    begun = time.monotonic()
    while heard.last < begun + 2:  # by then the page knows how regular the beats of the kernel are
        page.wait_for_timeout(20)
    os.kill(kernel, signal.SIGSTOP)
    told = time.monotonic()
    page.wait_for_timeout(2500)
    os.kill(kernel, signal.SIGCONT)
    assert heard.last < told + 1  # beats come late on a busy computer, and 2 s are the most
    begun = time.monotonic()
    while heard.last < begun:  # the sound that was ended is played again
        page.wait_for_timeout(20)
    page.close()
    told = time.monotonic()
    time.sleep(1)
    assert heard.last < told + 0.1
    assert lab.outside == []
    assert not [text for text in lab.errors if "Audio" in text], lab.errors
