"""How pictures are stored."""

from io import BytesIO

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from pnnlab.views.style import PALETTE, lean


def drawn() -> bytes:
    figure, png = Figure(), BytesIO()
    figure.subplots().plot(np.sin(np.arange(100)), "o-")
    figure.savefig(png, format="png")
    return png.getvalue()


def test_a_lean_picture_is_smaller_and_looks_the_same():
    png = drawn()
    small = lean(png)
    assert len(small) < 0.6 * len(png)
    before, after = (
        np.asarray(Image.open(BytesIO(data)).convert("RGB"), float) for data in (png, small)
    )
    assert before.shape == after.shape
    assert np.abs(before - after).mean() < 1  # of 255


def test_a_thin_line_keeps_its_colour():
    figure, png = Figure(), BytesIO()
    axes = figure.subplots()
    axes.imshow(np.random.default_rng(0).random((40, 40)), aspect="auto")
    for row, color in enumerate(PALETTE.values()):
        axes.axhline(5 * row + 3, color=color, lw=2)
    figure.savefig(png, format="png")
    before, after = (
        np.asarray(Image.open(BytesIO(data)).convert("RGB"), float)
        for data in (png.getvalue(), lean(png.getvalue()))
    )
    for color in PALETTE.values():
        exact = [int(color[at : at + 2], 16) for at in (1, 3, 5)]
        drawn = (before == exact).all(-1)
        assert drawn.any()
        assert np.abs(after[drawn] - exact).max() < 12


def test_a_picture_never_grows():
    small = lean(drawn())
    assert len(lean(small)) <= len(small)
    two_colours = BytesIO()
    Image.new("1", (9, 9)).save(two_colours, "PNG")
    assert len(lean(two_colours.getvalue())) <= len(two_colours.getvalue())
