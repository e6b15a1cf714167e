"""The device panel in a real JupyterLab in headless Chromium: draw, and the device answers."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Lab, in_a_browser, lab_page, write_notebook
from playwright.sync_api import Locator, expect

pytestmark = in_a_browser

TESTS = Path(__file__).parent
PANEL = f"""
import sys
sys.path[:0] = [{str(TESTS)!r}, {str(TESTS.parent)!r}]
import torch
from pnnlab.characterize import ManualControl
from pnnlab.systems import Circuit
from pnnlab.twins import CircuitEquations, PhysicsTwin
from pnnlab.views.panel import DevicePanel

torch.set_num_threads(1)

def units(number):
    return Circuit(number, input_dim=32, replays=2, output_dim=32)

twin = PhysicsTwin(units(0), CircuitEquations(2))
theta = torch.rand(128, generator=torch.Generator().manual_seed(0))
panel = DevicePanel(ManualControl(units(0), twin, theta=theta), units=units)
panel
"""
# Hands act all the same while a cell waits, as one does for a training.
WAITS = """
import asyncio
while not panel.map.spec:
    await asyncio.sleep(0.05)
"""
VALUES = "print('values:', [round(float(v), 3) for v in panel.control.x])"


@pytest.fixture
def lab(server: tuple[str, Path]) -> Iterator[Lab]:
    with lab_page(server[0]) as lab:
        yield lab


def box_of(drawn: Locator) -> tuple[float, float, float, float]:
    box = drawn.bounding_box()
    assert box is not None
    return box["x"], box["y"], box["width"], box["height"]


def value_of(drawn: Locator) -> float:
    return float(drawn.get_attribute("aria-valuenow") or "nan")


def test_a_drive_is_drawn_refused_typed_swept_and_taken_along(
    lab: Lab, server: tuple[str, Path], tmp_path: Path
) -> None:
    page = lab.page
    write_notebook(server[1] / "touched.ipynb", PANEL, WAITS, VALUES)
    lab.open("touched.ipynb")
    lab.run_all()
    curve, other = (page.locator(".pnn-curve > svg").nth(place) for place in (0, 1))
    for drawn_first in (curve, other):
        expect(drawn_first).to_have_attribute("aria-valuenow", re.compile(r"\d"))
    response = page.locator(".pnn-panel .pnn-plot").first
    answer = response.locator("> svg path:not(.band)").first
    refusal = page.locator(".pnn-curve").first.get_by_role("alert")
    before = answer.get_attribute("d") or ""
    assert before.count("L") == 31
    expect(response.locator("> svg path:not(.band)")).to_have_count(2)  # device and twin
    response.locator("> svg").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    read = re.compile(
        r"Response: .*, output 1, device ± 2 SD of 8 shots  [\d.]+ ± [\d.]+, twin  0."
    )
    expect(response.locator("> svg")).to_have_attribute("aria-valuetext", read)
    page.keyboard.press("Escape")
    expect(response.locator("> svg")).not_to_have_attribute("aria-valuetext", read)
    page.screenshot(path=tmp_path / "light.png")

    # Draw with the mouse: the device answers before the hand is lifted.
    x, y, width, height = box_of(curve)
    page.mouse.move(x + 0.3 * width, y + 0.6 * height)
    page.mouse.down()
    page.mouse.move(x + 0.5 * width, y + 0.3 * height, steps=5)
    expect(answer).not_to_have_attribute("d", before)
    drawn = answer.get_attribute("d") or ""
    expect(refusal).to_be_empty()

    # Over the limit: refused in place, in the words of the error; the device holds what it had.
    page.mouse.move(x + 0.6 * width, y + 1, steps=3)
    expect(refusal).to_contain_text("outside [0, 1]")
    expect(refusal).to_contain_text("nothing was driven")
    page.mouse.up()
    assert 0 <= value_of(curve) <= 1

    # Keys choose an element and change it.
    curve.focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    expect(curve).to_have_attribute("aria-valuetext", "element 1 of 32: 0.5")
    for _ in range(3):
        page.keyboard.press("ArrowUp")
    expect(curve).to_have_attribute("aria-valuetext", "element 1 of 32: 0.53")
    expect(refusal).to_be_empty()
    page.keyboard.press("Tab")
    focused = "document.activeElement.getAttribute('aria-label')"
    assert page.evaluate(focused) == "Input x: element"

    # A number beyond the limits is refused too, and the old one comes back.
    exact = page.get_by_label("Input x: value of the element, as a number")
    exact.fill("1.5")
    exact.press("Enter")
    expect(refusal).to_contain_text("1 of 32 values outside [0, 1] (from")
    expect(curve).to_have_attribute("aria-valuetext", "element 1 of 32: 0.53")

    # Theta shows its parts; presets fill all of it.
    page.get_by_label("Parameters θ: part shown").select_option(label="scale, replay 2")
    expect(other).to_have_attribute("aria-valuetext", re.compile("element 32 of 128"))
    page.get_by_role("group", name="Presets of Parameters θ").get_by_text("Flat").click()
    expect(other).to_have_attribute("aria-valuenow", "0.5")
    expect(answer).not_to_have_attribute("d", drawn)

    # Another unit is typed; one that there is not is refused, and the number comes back.
    unit, refused = page.get_by_label("Unit"), page.get_by_text("unit is -1; it must be at least 0")
    for typed, stays in (("2", "2"), ("-1", "2"), ("0", "0")):
        unit.fill(typed)
        unit.press("Enter")
        expect(refused).to_have_count(int(typed == "-1"))
        expect(unit).to_have_value(stays)

    page.get_by_role("button", name="What changes with theta[32]?").click()
    expect(page.locator(".pnn-heatmap image")).to_be_visible()
    expect(page.locator(".pnn-heatmap b")).to_have_text("Change while theta[32] goes from 0 to 1")
    expect(page.locator(".pnn-heatmap > svg")).to_have_attribute(
        "aria-valuetext", re.compile(r"output \d+ changes most")
    )

    lab.wait_until_done()
    page.get_by_role("button", name="Send to notebook").click()
    code = page.get_by_label("Code that repeats this")
    expect(code).to_have_value(
        re.compile(r"Circuit\(unit=0, input_dim=32, replays=2, output_dim=32\)")
    )
    page.get_by_role("button", name="Put into a cell below").click()
    expect(page.locator(".jp-Notebook .jp-CodeCell")).to_have_count(4)
    expect(page.locator(".jp-Notebook .jp-CodeCell .cm-content").nth(1)).to_contain_text("Circuit(")

    # The cell below runs as it is, and the kernel holds what the page shows.
    page.evaluate("jupyterapp.commands.execute('notebook:run-all-below')")
    expect(page.locator(".jp-OutputArea-output pre").last).to_contain_text("0.5, 0.53, ")
    assert page.locator("[data-mime-type='application/vnd.jupyter.error']").count() == 0

    dark = {"theme": "JupyterLab Dark"}
    page.evaluate("theme => jupyterapp.commands.execute('apputils:change-theme', theme)", dark)
    expect(page.locator(".pnn-control[data-dark]")).to_have_count(5)
    page.locator(".pnn-panel").screenshot(path=tmp_path / "dark.png")
    assert lab.errors == []
    assert lab.outside == []
