"""Make the pictures of README.md and of the notebooks anew, light and dark.

    python tests/pictures.py [FOLDER]

serves the lab, touches it in headless Chromium as a visitor would, and writes what is seen then.
Every number in the pictures comes from what the lab does meanwhile.
"""

import argparse
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

from browser import lab_page, write_notebook
from PIL import Image
from playwright.sync_api import Page, expect
from served import served

FOLDER = Path(__file__).parent.parent / "notebooks" / "images"
SLOWEST = 600_000  # ms
WIDTH, HEIGHT = 1366, 1300  # a page on which the tallest view is whole
APP = """\
from pnnlab.demos.app import circuit_lab
lab = globals().get("lab") or circuit_lab("results", epochs=15)
lab"""
VIEWS = {
    "device": ("Device", ".pnn-panel"),
    "dashboard": ("Training", ".pnn-dashboard"),
    "inference": ("Live inference", ".pnn-inference"),
    "runs": ("Past runs", ".pnn-dashboard"),
}


def touch(page: Page) -> None:
    """Leave something to see in every view."""
    page.get_by_role("button", name="What changes").click()
    expect(page.locator(".pnn-heatmap").first).to_be_visible()
    page.get_by_role("tab", name="Training").click()
    page.get_by_role("button", name="Start").click()
    expect(page.locator(".pnn-state")).to_contain_text("Finished")
    page.get_by_role("tab", name="Live inference").click()
    draw(page)
    page.get_by_role("tab", name="Past runs").click()
    page.get_by_role("button", name="Read again").click()
    page.locator(".pnn-table tbody input:enabled").first.click()


def draw(page: Page) -> None:
    """A seven, with the mouse."""
    box = page.locator(".pnn-sketchpad > svg").bounding_box()
    assert box is not None
    strokes = [(0.28, 0.25), (0.72, 0.25), (0.62, 0.45), (0.52, 0.62), (0.45, 0.82)]
    points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in strokes]
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point, steps=8)
    page.mouse.up()
    expect(page.locator(".pnn-verdict")).not_to_contain_text("Nothing sent")


def keep(page: Page, folder: Path, ending: str) -> None:
    """Write a picture of each view, with 256 colours: plenty for lines and letters."""
    for name, (tab, selector) in VIEWS.items():
        page.get_by_role("tab", name=tab).click()
        view = page.locator(selector).filter(visible=True).first
        expect(view).to_be_visible()
        page.mouse.move(0, 0)
        page.wait_for_timeout(1500)  # the last update is painted
        with Image.open(BytesIO(view.screenshot())) as image:
            small = image.convert("RGB").quantize(256, dither=Image.Dither.NONE)
            small.save(folder / f"{name}{ending}.png", optimize=True)


def main() -> None:
    """Make them all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as own:
        write_notebook(Path(own) / "lab.ipynb", APP)
        with served(Path(own), "lab.ipynb") as address:
            for ending, dark in (("", False), ("-dark", True)):
                with lab_page(address, width=WIDTH, height=HEIGHT, scale=1.5, dark=dark) as lab:
                    lab.page.set_default_timeout(SLOWEST)
                    expect.set_options(timeout=SLOWEST)
                    lab.page.goto(f"{address}&theme={'dark' if dark else 'light'}")
                    lab.page.wait_for_selector(".pnn-app")
                    if not dark:
                        touch(lab.page)
                    keep(lab.page, folder, ending)
                    assert lab.errors == [], lab.errors
                    assert lab.outside == [], lab.outside


if __name__ == "__main__":
    main()
