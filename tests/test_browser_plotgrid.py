"""A line plot's page finds the ranges of its axes itself: the same as its still picture has."""

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


PANELS = {
    "nothing": panel(),
    "nothing, logarithmic": panel(log=True),
    "no point": panel(line()),
    "above zero": panel(line(2, 5), line(1, 3)),
    "below zero": panel(line(-1, 1)),
    "all the same": panel(line(-2, -2, -2)),
    "zeros": panel(line(0, 0)),
    "one point": panel(line(3)),
    "interrupted": panel(line(np.nan, 4, np.inf, 2)),
    "with a background": panel(line(1, 2), line(-7, 9, 11, faint=True)),
    "logarithmic": panel(line(0.01, 100, -3, 0), log=True),
}


def test_the_page_and_the_still_picture_show_the_same_ranges() -> None:
    code = script("plotgrid").replace("export default { initialize, render };", "")
    given = [
        {
            "log": one.log,
            "lines": [
                {"x": list(line.x), "y": list(line.y), "faint": line.faint} for line in one.lines
            ],
        }
        for one in PANELS.values()
    ]
    act = f"""(given) => {{ {code}
      return given.map((panel) => ranges({{ ...panel, lines: panel.lines.map((line) => (
        {{ ...line, x: new Float32Array(line.x), y: new Float32Array(line.y) }})) }}));
    }}"""
    with lab_page("about:blank") as lab:
        found = lab.page.evaluate(act, given)
    for (name, one), ranges in zip(PANELS.items(), found, strict=True):
        assert ranges == [pytest.approx(r, rel=1e-6) for r in one.limits()], name
