"""Every notebook in a real JupyterLab in headless Chromium: act on what it shows, and read.

They run at scale "smoke", and their first training waits for its reader: it pauses after a step.
Of the variants of a notebook, which show the same widgets, one is enough: all run in `make smoke`.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from browser import PATIENCE, Lab, in_a_browser, lab_page
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook
from playwright.sync_api import Locator, expect
from records import wait_until

from pnnlab.results.notebooks import assign, choose, list_notebooks

pytestmark = in_a_browser

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
WAITS = """
import time

from pnnlab.background import Session

begin = Session.start

def begin_and_wait(session):
    Session.start = begin
    begin(session)
    while session.active and session.latest is None:  # asked at once, it would take no step
        time.sleep(0.01)
    session.pause()
    return session

Session.start = begin_and_wait
"""


@pytest.fixture
def lab(server: tuple[str, Path]) -> Iterator[Lab]:
    with lab_page(server[0]) as lab:
        yield lab
        # Looked at before the kernel ends: that cancels what it was asked, and a page says so.
        outside, errors = list(lab.outside), list(lab.errors)
        lab.page.evaluate("jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    assert outside == []
    assert errors == []


def opened(lab: Lab, folder: Path, name: str) -> nbformat.NotebookNode:
    """Open a notebook of the series, or a variant of one, in a folder of its own."""
    chosen = choose(list_notebooks(NOTEBOOKS), [name])[:1]
    [values] = assign(chosen, [("scale", "smoke")], Path("results"))
    notebook = load_notebook_node(str(chosen[0].path))
    notebook = parameterize_notebook(notebook, values)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(WAITS))
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []  # what is read here was made here
    (folder / name).mkdir()
    nbformat.write(notebook, folder / name / f"{name}.ipynb")
    lab.open(f"{name}/{name}.ipynb")
    return notebook


def run(lab: Lab, folder: Path, name: str) -> None:
    """Open a notebook of the series, and run its cells."""
    opened(lab, folder, name)
    lab.run_all()


def resume(lab: Lab) -> None:
    """Let the training go on that waits, and see it end with its last step."""
    board = lab.page.locator(".pnn-dashboard").first
    state, step = board.locator(".pnn-state b"), board.locator(".pnn-tiles div").first
    expect(state).to_have_text("Paused")
    done, of = steps(step)
    assert done < of
    board.get_by_role("button", name="Resume").click()
    expect(state).to_have_text("Finished")
    expect(step).to_have_text(re.compile(rf"^Step\s*{of} of {of}$"))  # it follows the state
    expect(board.get_by_role("button", name="Stop")).to_be_disabled()


def steps(tile: Locator) -> tuple[int, int]:
    """What a tile such as "Step 12 of 345" says."""
    done, of = tile.inner_text().removeprefix("Step").split("of")
    return int(done), int(of)


def touch(lab: Lab, *, asked: bool = False) -> None:
    """Change the input by keys: the device answers anew, a bench once it is asked."""
    panel = lab.page.locator(".pnn-panel")
    answer = panel.locator(".pnn-plot > svg path:not(.band)").first
    before = answer.get_attribute("d")
    curve = panel.locator(".pnn-curve > svg").first
    expect(curve).to_have_attribute("aria-valuenow", re.compile(r"\d"))
    value = float(curve.get_attribute("aria-valuenow") or "nan")
    up = value < 0.5
    curve.focus()
    for _ in range(5):
        lab.page.keyboard.press("ArrowUp" if up else "ArrowDown")
    expect(curve).to_have_attribute("aria-valuenow", f"{value + (0.05 if up else -0.05):g}")
    if asked:
        panel.get_by_role("button", name="Measure").click()
    expect(answer).not_to_have_attribute("d", before or "")


def choose_another(lab: Lab) -> None:
    """Send the second example through the layers; what the device makes of it is read."""
    view = lab.page.locator(".pnn-inference")
    verdict = view.locator(".pnn-verdict span")
    expect(verdict).to_contain_text("The device")
    chosen = view.locator(".pnn-choice button[aria-pressed=true]")
    before = chosen.get_attribute("aria-label")
    other = view.locator(".pnn-choice button[aria-pressed=false]").first
    name = other.get_attribute("aria-label")
    other.click()
    expect(chosen).to_have_attribute("aria-label", name or "")
    assert name != before
    expect(verdict).to_contain_text("The device")


def point(lab: Lab, says: str) -> None:
    """Point at the middle of the first figure that can be explored: it tells what is there."""
    figure = lab.page.locator(".jp-RenderedPlotly").first
    told = figure.locator(".hovertext").filter(has_text=re.compile(says))
    expect(figure.locator(".plot-container")).to_be_visible()

    def it_tells() -> bool:  # a figure that is not done, or is moved by others, misses a pointer
        figure.scroll_into_view_if_needed()
        box = figure.bounding_box()
        assert box is not None
        lab.page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 0.4 * box["height"])
        lab.page.mouse.move(box["x"] + 0.45 * box["width"], box["y"] + 0.5 * box["height"], steps=5)
        lab.page.wait_for_timeout(200)
        return told.count() > 0

    wait_until(it_tells, PATIENCE / 1000)


def test_00_a_training_goes_on_when_its_reader_says_so(lab: Lab, server: tuple[str, Path]) -> None:
    run(lab, server[1], "00_tour")
    resume(lab)


def test_01_the_device_answers_whoever_touches_it(lab: Lab, server: tuple[str, Path]) -> None:
    run(lab, server[1], "01_meet_the_devices")
    touch(lab)
    expect(lab.page.locator(".jp-RenderedPlotly canvas").first).to_be_visible()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("02_characterize", r"y \(fraction of full scale\): [\d.]+.*SD of y .*: [\d.e−]+"),
        ("03_fit_the_twin", r"rms residual \(fraction of full scale\): [\d.e−]+.*shots: \d+"),
    ],
    ids=["surface", "map"],
)
def test_a_figure_tells_the_values_under_the_pointer(
    lab: Lab, server: tuple[str, Path], name: str, says: str
) -> None:
    run(lab, server[1], name)
    point(lab, says)


def test_04_trainings_are_compared_by_what_they_cost(lab: Lab, server: tuple[str, Path]) -> None:
    run(lab, server[1], "04_physics_aware_training")
    resume(lab)
    compared = lab.page.locator(".pnn-dashboard").nth(1)
    axes = compared.locator(".pnn-plot > svg text")
    expect(axes.filter(has_text="step")).not_to_have_count(0)
    compared.get_by_role("button", name="device passes", exact=True).click()
    expect(axes.filter(has_text="passes")).not_to_have_count(0)
    expect(axes.filter(has_text="step")).to_have_count(0)


@pytest.mark.parametrize("name", ["06_images_plate", "07_vowels_in_light"])
def test_another_example_travels_through_the_layers(
    lab: Lab, server: tuple[str, Path], name: str
) -> None:
    run(lab, server[1], name)
    resume(lab)
    choose_another(lab)


def test_07_the_bench_answers_and_trains(lab: Lab, server: tuple[str, Path]) -> None:
    notebook = opened(lab, server[1], "08_real_instruments")
    trains = next(n for n, cell in enumerate(notebook.cells) if ".watch()" in cell.source)
    lab.page.evaluate(f"jupyterapp.shell.currentWidget.content.activeCellIndex = {trains}")
    lab.page.evaluate("void jupyterapp.commands.execute('notebook:run-all-above')")
    touch(lab, asked=True)
    lab.page.evaluate("void jupyterapp.commands.execute('notebook:run-all-below')")
    resume(lab)
