"""A line plot's page finds the ranges of its axes itself."""

import numpy as np
import pytest
from browser import in_a_browser, lab_page

from pnnlab.views import Plot, Series
from pnnlab.views.parts import script

pytestmark = in_a_browser


def panel(*lines: Series, log: bool = False) -> Plot:
    return Plot("T", "step", "y", lines, log=log)


def line(*y: float, faint: bool = False) -> Series:
    return Series("a", np.arange(len(y)) - 1.5, y, faint=faint)


PANELS = {  # with the ranges of x and y
    "nothing": (panel(), (0, 1), (0, 1)),
    "nothing, logarithmic": (panel(log=True), (0, 1), (0.1, 10)),
    "no point": (panel(line()), (0, 1), (0, 1)),
    "above zero": (panel(line(2, 5), line(1, 3)), (-1.5, -0.5), (0, 5.3)),
    "below zero": (panel(line(-1, 1)), (-1.5, -0.5), (-1.12, 1.12)),
    "all the same": (panel(line(-2, -2, -2)), (-1.5, 0.5), (-3, -1)),
    "zeros": (panel(line(0, 0)), (-1.5, -0.5), (0, 1)),
    "one point": (panel(line(3)), (-2.5, -0.5), (0, 3.18)),
    "interrupted": (panel(line(np.nan, 4, np.inf, 2)), (-1.5, 1.5), (0, 4.24)),
    "with a background": (panel(line(1, 2), line(-7, 9, 11, faint=True)), (-1.5, 0.5), (0, 2.12)),
    "logarithmic": (panel(line(0.01, 100, -3, 0), log=True), (-1.5, 1.5), (0.01 / 1.5, 150)),
}


def test_what_is_shown_begins_at_zero_and_has_a_margin() -> None:
    code = script("plotgrid").replace("export default { initialize, render };", "")
    given = [
        {
            "log": one.log,
            "lines": [
                {"x": list(line.x), "y": list(line.y), "faint": line.faint} for line in one.lines
            ],
        }
        for one, _, _ in PANELS.values()
    ]
    act = f"""(given) => {{ {code}
      return given.map((panel) => ranges({{ ...panel, lines: panel.lines.map((line) => (
        {{ ...line, x: new Float32Array(line.x), y: new Float32Array(line.y) }})) }}));
    }}"""
    with lab_page("about:blank") as lab:
        found = lab.page.evaluate(act, given)
    for (name, (_, *expected)), ranges in zip(PANELS.items(), found, strict=True):
        assert ranges == [pytest.approx(r, rel=1e-6) for r in expected], name
