"""Live inference in a real browser: drawn with the mouse and with keys, said into a microphone."""

import logging
import re
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import Lab, chromium, in_a_browser, jupyter_lab, lab_page, write_notebook
from playwright.sync_api import expect

from pnnlab.tasks.speech import moments, synthesised

pytestmark = in_a_browser

logger = logging.getLogger(__name__)
TESTS = Path(__file__).parent
RATE = 48_000
HEED = moments("women")[0][5]

SETUP = f"""
import sys
sys.path[:0] = [{str(TESTS)!r}, {str(TESTS.parent)!r}]
import torch
from toy import Toy, ToyTwin
from pnnlab.gradients import physics_aware
from pnnlab.layers import calibrate, deep_pnn
from pnnlab.tasks import digits, vowels
from pnnlab.training import FitSettings, Training
from pnnlab.demos.inference import LiveInference

torch.set_num_threads(1)

def trained(task, *widths):
    sizes = list(zip(widths, widths[1:]))
    network = deep_pnn([Toy(*s) for s in sizes], [ToyTwin(*s) for s in sizes], physics_aware)
    calibrate(network, task.train.x[:200])
    settings = FitSettings(epochs=10, batch_size=30, learning_rate=0.05, evaluations=1)
    for record in Training(network, task, settings).records():
        pass
    print("accuracy", record.device_metric)
    return network

images, sounds = digits(), vowels()
digit = LiveInference(trained(images, 64, 16, 10), images)
vowel = LiveInference(trained(sounds, 12, 12, 7), sounds)
"""
SHOW = "from IPython.display import display\ndisplay(digit, vowel)"
WAITS = "import asyncio\nawait asyncio.Event().wait()"  # as for a training: hands act all the same
# What a status said, however short; it speaks of a recording no longer than that takes.
NOTE = """
status => { window.said = []; new MutationObserver(() => said.push(status.textContent))
  .observe(status, { childList: true }); }
"""
SEVEN = [(0.3, 0.2), (0.7, 0.2), (0.45, 0.85)]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A page whose microphone hears a woman say the vowel of 'heed', again and again."""
    assert chromium() is not None, "Chromium is required here: apt-get install chromium"
    folder, own = (tmp_path_factory.mktemp(name) for name in ("notebooks", "own"))
    sound = folder / "heed.wav"
    silence = np.zeros(RATE // 2)
    heard = np.concatenate([silence, synthesised(HEED, RATE, pitch=210, seconds=0.5), silence])
    with wave.open(str(sound), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(np.rint(2**15 * heard).astype("<i2").tobytes())
    flags = ["--use-fake-device-for-media-stream", f"--use-file-for-fake-audio-capture={sound}"]
    write_notebook(folder / "live.ipynb", SETUP, SHOW, WAITS)
    with jupyter_lab(folder, own) as address, lab_page(address, flags=flags) as lab:
        lab.page.context.grant_permissions([])  # nothing, and no question is asked
        lab.open("live.ipynb")
        lab.run_all()
        lab.page.wait_for_selector(".pnn-microphone button")
        yield lab


def test_a_digit_is_drawn_with_the_mouse_and_with_keys(lab: Lab, tmp_path: Path) -> None:
    page = lab.page
    view = page.locator(".pnn-inference").first
    pad, verdict = view.locator(".pnn-sketchpad > svg"), view.locator(".pnn-verdict span")
    pad.scroll_into_view_if_needed()
    expect(verdict).to_have_text("Nothing sent yet.")
    box = pad.bounding_box()
    assert box is not None
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in SEVEN]
    page.mouse.move(*places[0])
    page.mouse.down()
    for x, y in places[1:]:
        page.mouse.move(x, y, steps=8)
    page.mouse.up()
    expect(verdict).to_contain_text("The device reads 7")
    expect(view.locator(".pnn-pixels img")).to_have_attribute(
        "alt", "What goes in, your drawing: 8 × 8 pixels"
    )
    plots = view.locator(".pnn-plots .pnn-plot > svg")
    expect(plots).to_have_count(2)
    for number in (0, 1):
        label = re.compile(rf"^Layer {number + 1} · toy.*, device .*, twin ")
        expect(plots.nth(number)).to_have_attribute("aria-label", label)
    expect(view.locator(".pnn-classes li")).to_have_count(10)
    expect(view.locator(".pnn-classes .pnn-first")).to_contain_text("7")
    page.screenshot(path=tmp_path / "drawn.png")
    for name, what in (("Drives", "drive"), ("Read-outs", "device"), ("Drives", "drive")):
        view.get_by_role("button", name=name).click()
        expect(plots.first).to_have_attribute("aria-label", re.compile(rf", {what} "))

    view.get_by_role("button", name="Clear").click()
    expect(view.locator(".pnn-sketchpad path")).to_have_count(0)
    pad.focus()
    cells = page.locator(".jp-Notebook .jp-Cell.jp-mod-active")
    active = cells.get_attribute("data-windowed-list-index")
    for key, times in (("ArrowUp", 6), (" ", 1), ("ArrowDown", 12), (" ", 1)):
        for _ in range(times):
            page.keyboard.press(key)
    expect(view.locator(".pnn-sketchpad [role=status]")).to_have_text("1 stroke")
    expect(verdict).to_contain_text("The device reads 1")
    assert cells.get_attribute("data-windowed-list-index") == active, "the notebook stays still"
    page.keyboard.press("Backspace")
    expect(view.locator(".pnn-sketchpad [role=status]")).to_have_text("no stroke yet")

    view.get_by_role("button", name="4, test example").click()
    expect(view.get_by_role("button", name="4, test example")).to_have_attribute(
        "aria-pressed", "true"
    )
    expect(verdict).to_have_text(re.compile("reads 4, .* and is right|but it is 4"))
    assert lab.outside == []
    assert lab.errors == []


def test_a_vowel_is_said_into_the_microphone_or_refused(lab: Lab, tmp_path: Path) -> None:
    page = lab.page
    view = page.locator(".pnn-inference").nth(1)
    record = view.get_by_role("button", name="Record")
    verdict = view.locator(".pnn-verdict span")
    record.click()
    alert, status = (view.locator(f".pnn-microphone [role={role}]") for role in ("alert", "status"))
    status.evaluate(NOTE)
    expect(alert).to_contain_text("The microphone was refused: allow it")
    view.get_by_role("button", name="aw (hawed), test example").click()
    expect(verdict).to_contain_text("The device reads aw (hawed)")

    page.context.grant_permissions(["microphone"])
    record.click()
    expect(alert).to_have_text("")
    expect(verdict).to_contain_text("The device reads iy (heed)")
    expect(status).to_have_text("recorded")
    assert "speak now" in page.evaluate("said.join()")
    page.screenshot(path=tmp_path / "said.png")
    logger.info("%s", verdict.inner_text())
    assert lab.outside == []
    assert lab.errors == []
