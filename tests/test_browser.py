"""The dashboard in a real JupyterLab in headless Chromium: click, and the numbers obey."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Lab, in_a_browser, lab_page, write_notebook
from playwright.sync_api import expect

pytestmark = in_a_browser

TESTS = Path(__file__).parent
PLOTS = 6  # of the dashboard and of a comparison

SETUP = f"""
import sys, time
sys.path[:0] = [{str(TESTS)!r}, {str(TESTS.parent)!r}]
from types import SimpleNamespace
import torch
from torch import nn
from toy import Toy, ToyTwin
from pnnlab.gradients import physics_aware
from pnnlab.layers import PhysicalLayer, Rescale
from pnnlab.background import Session
from pnnlab.training import FitSettings, Training
from pnnlab.views import TrainingDashboard

torch.set_num_threads(1)
torch.manual_seed(0)
x = torch.rand(200, 6)
split = SimpleNamespace(x=x, targets=(x @ torch.tensor([1.0, -1, 2, 0, 1, -2]) > 0.5).long())
layers = [PhysicalLayer(Toy(), ToyTwin(), physics_aware, encoding=Rescale(6)) for _ in range(3)]
network = nn.Sequential(*layers, nn.Linear(6, 2))
settings = FitSettings(epochs=2_000, batch_size=20, evaluations=2_000)
training = Training(network, SimpleNamespace(train=split, validation=split), settings)
saved = []

def slowly(records):
    for record in records:
        time.sleep(0.01)
        yield record

source = SimpleNamespace(
    records=lambda: slowly(training.records()),
    checkpoint=lambda: saved.append(training.step),
    training=training,
)
session = Session(source)
"""
PAST = """
from pnnlab.runs import Run
from pnnlab.views.trainings import PastRuns
for number in range(2):
    short = Training(
        network,
        SimpleNamespace(train=split, validation=split),
        FitSettings(epochs=1, batch_size=20),
    )
    for _ in Run.open(f"runs/digits-{number}", short, description="two <layers>").records():
        pass
PastRuns("runs")
"""
AFTER = "print('after:', session.status, len(saved))"
AWAITING = ["await TrainingDashboard(session).watch()", AFTER]
RETURNING = [
    "dashboard = TrainingDashboard(session.start())\ndashboard",
    "await session.done(); dashboard.figure()",
    AFTER,
]

# The page itself notes when its numbers change.
WATCH = """
() => {
  window.seen = [];
  const note = () => {
    const step = document.querySelector('.pnn-dashboard .pnn-tiles div');
    const state = document.querySelector('.pnn-dashboard .pnn-state');
    if (!step || !state) return;
    const now = { step: Number(step.innerText.match(/\\d+/)[0]), state: state.innerText };
    const last = seen.at(-1);
    if (now.step === last?.step && now.state === last?.state) return;
    seen.push({ at: performance.now() / 1000, ...now });
  };
  new MutationObserver(note).observe(document.body, { subtree: true, childList: true });
}
"""
STILL = "seen.at(-1).state === 'Paused' && performance.now() / 1000 - seen.at(-1).at > 1"
CLICK = "button => { const at = performance.now() / 1000; button.click(); return at; }"


@pytest.fixture
def lab(server: tuple[str, Path]) -> Iterator[Lab]:
    with lab_page(server[0]) as lab:
        yield lab


def start(lab: Lab, folder: Path, name: str, cells: list[str]) -> None:
    """Write a notebook, run it, and come back when its dashboard shows steps."""
    write_notebook(folder / name, SETUP, *cells)
    lab.open(name)
    lab.run_all()
    lab.page.wait_for_selector(".pnn-tiles")
    lab.page.evaluate(WATCH)
    lab.page.wait_for_function("seen.length > 5")


def click(lab: Lab, name: str, condition: str) -> float:
    """Click a button; seconds until the page noted the first ``now`` for which that holds."""
    button = lab.page.locator(".pnn-dashboard").get_by_role("button", name=name)
    expect(button).to_be_enabled()
    at = float(button.evaluate(CLICK))
    found = f"at => seen.find((now) => now.at >= at && {condition})?.at"
    return float(lab.page.wait_for_function(found, arg=at).json_value()) - at


def pause(lab: Lab) -> float:
    """Seconds until the steps stood still."""
    return click(lab, "Pause", f"now.step === seen.at(-1).step && {STILL}")


def resume(lab: Lab) -> float:
    """Seconds until the steps went on."""
    held = lab.page.evaluate("seen.at(-1).step")
    return click(lab, "Resume", f"now.step > {held} && now.state === 'Running'")


def save(lab: Lab) -> float:
    """Seconds until the checkpoint was written."""
    return click(lab, "Checkpoint", "now.state.includes('checkpoint written at step')")


def stop(lab: Lab) -> float:
    """Seconds until the training had stopped."""
    return click(lab, "Stop", "now.state.includes('Stopped')")


@pytest.mark.parametrize(
    ("name", "cells"),
    [("awaiting.ipynb", AWAITING), ("returning.ipynb", RETURNING)],
    ids=["the cell awaits", "the cell has returned"],
)
def test_buttons_act_while_the_training_runs(
    lab: Lab, server: tuple[str, Path], name: str, cells: list[str], tmp_path: Path
) -> None:
    start(lab, server[1], name, cells)
    pause(lab)
    resume(lab)
    save(lab)
    lab.page.screenshot(path=tmp_path / "running.png")
    stop(lab)
    lab.wait_until_done()
    said = lab.page.locator(".jp-OutputArea-output pre")
    expect(said.filter(has_text="after: stopped 1")).to_have_count(1)
    picture = lab.page.locator(".jp-OutputArea-output img")
    expect(picture).to_have_count(1)
    assert picture.evaluate("img => img.decode().then(() => img.naturalWidth)") > 900
    buttons = lab.page.locator(".pnn-dashboard > .pnn-bar").get_by_role("button")
    expect(buttons).to_have_count(3)
    expect(buttons.and_(lab.page.locator(":disabled"))).to_have_count(3)
    assert lab.errors == []
    assert lab.outside == []


def look_closer(lab: Lab) -> None:
    """Unfold the confusion matrix, ask for it, and go through its cells by keyboard alone."""
    page = lab.page
    row = page.locator(".pnn-folds").get_by_role("button")
    expect(row).to_have_count(6)
    row.first.focus()
    page.keyboard.press("Enter")
    expect(row.first).to_have_attribute("aria-expanded", "true")
    asking = page.get_by_role("button", name="examples on the device (600 device passes)")
    asking.focus()
    page.keyboard.press("Enter")
    cells = page.locator(".pnn-confusion td button")
    expect(cells).to_have_count(4)
    cells.first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    expect(cells.last).to_be_focused()
    for cell in (cells.last, cells.first):  # one after the other, while the notebook waits
        cell.focus()
        page.keyboard.press("Enter")
        expect(cell).to_have_attribute("aria-pressed", "true")
        count = int((cell.get_attribute("aria-label") or "").split()[0])
        expect(page.locator(".pnn-confusion figure")).to_have_count(min(24, count))
    row.first.click()
    expect(page.locator(".pnn-confusion")).to_have_count(0)
    rate = page.locator(".pnn-folds").get_by_role("button", name="Learning rate")
    rate.click()
    for factor, said in (("0.5", "now 0.5 times"), ("3", "now 1.5 times")):
        page.get_by_label("Factor").fill(factor)
        page.get_by_role("button", name="Multiply").click()
        expect(page.locator(".pnn-message", has_text=said)).to_be_visible()
    rate.click()


def look_back(lab: Lab) -> None:
    """Open one past run, then another beside it."""
    past = lab.page.locator(".pnn-dashboard").first
    boxes = past.locator(".pnn-table").first.get_by_role("checkbox")
    expect(boxes).to_have_count(2)
    expect(past.get_by_text("two <layers>")).to_have_count(2)
    boxes.first.check()
    expect(past.locator(".pnn-plot")).to_have_count(4)
    boxes.last.check()
    expect(past.get_by_text("Accuracy on the device")).to_have_count(1)
    for against in ("device passes", "time", "step"):
        past.get_by_role("button", name=re.compile(f"^{against}s?$")).click()
        expect(past.locator(".pnn-plot text", has_text=against)).to_have_count(2)


def test_the_plots_are_read_pointed_at_and_follow_the_theme(
    lab: Lab, server: tuple[str, Path], tmp_path: Path
) -> None:
    page = lab.page
    start(lab, server[1], "looking.ipynb", [PAST, *RETURNING])
    page.wait_for_function("seen.at(-1).step > 60")
    pause(lab)
    look_closer(lab)
    look_back(lab)
    plots = page.locator(".pnn-plots").last.locator(".pnn-plot > svg")
    expect(plots).to_have_count(4)
    labels = [plots.nth(i).get_attribute("aria-label") or "" for i in range(4)]
    for label, title in zip(labels, ("Loss", "Accuracy", "Gap", "Clamped"), strict=True):
        assert label.startswith(title)
    assert "device" in labels[1]
    assert "twin" in labels[1]
    assert "layer 3" in labels[2]

    page.screenshot(path=tmp_path / "light.png")
    plots.first.scroll_into_view_if_needed()
    box = plots.first.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 100, box["y"] + 80)
    expect(plots.first).not_to_have_attribute("aria-label", labels[0])
    page.mouse.move(0, 0)
    expect(plots.first).to_have_attribute("aria-label", labels[0])

    assert page.locator(".pnn-plots[data-dark]").count() == 0
    dark = {"theme": "JupyterLab Dark"}
    page.evaluate("theme => jupyterapp.commands.execute('apputils:change-theme', theme)", dark)
    expect(page.locator(".pnn-plot")).to_have_count(PLOTS)
    expect(page.locator(".pnn-plots[data-dark] .pnn-plot")).to_have_count(PLOTS)
    expect(page.locator(".pnn-table[data-dark]")).to_have_count(2)
    page.screenshot(path=tmp_path / "dark.png")

    resume(lab)
    page.evaluate("jupyterapp.commands.execute('notebook:interrupt-kernel')")
    expect(page.locator(".pnn-dashboard .pnn-state")).to_have_text("Stopped")
    said = page.locator(".jp-OutputArea-output").filter(has_text="CancelledError")
    expect(said.first).to_be_visible()
    assert lab.errors == []
    assert lab.outside == []


def test_a_reloaded_page_picks_the_running_training_up(lab: Lab, server: tuple[str, Path]) -> None:
    start(lab, server[1], "reloaded.ipynb", RETURNING[:1])
    lab.wait_until_done()
    lab.page.evaluate("jupyterapp.commands.execute('docmanager:save')")
    lab.open("reloaded.ipynb")
    lab.page.wait_for_selector(".pnn-dashboard .pnn-tiles")
    lab.page.evaluate(WATCH)
    lab.page.wait_for_function("seen.length > 5")
    pause(lab)
    resume(lab)
    stop(lab)
    assert lab.outside == []
