"""A row of buttons of which one is down."""

import pytest
import traitlets
from hands import click

from pnnlab.views.controls import OneOf


def down(row: OneOf) -> list[object]:
    return [value for value, one in row.buttons.items() if "mod-active" in one._dom_classes]


def test_one_is_down_and_a_click_takes_another() -> None:
    row = OneOf({0: "never", 1: "always", 5: "every 5th"}, label="Compare")
    seen: list[int] = []
    row.observe(lambda change: seen.append(change["new"]), "value")
    assert (row.value, down(row)) == (0, [0])
    click(row.buttons[5])
    click(row.buttons[5])
    click(row.buttons[1])
    assert seen == [5, 1]
    assert down(row) == [1]
    assert [one.tooltip for one in row.buttons.values()] == ["", "chosen", ""]
    row.value = 0
    assert down(row) == [0]
    assert row.widget.children[1].value == "Compare"
    with pytest.raises(traitlets.TraitError, match=r"any of \[0, 1, 5\], not the int 7"):
        row.value = 7
    assert down(row) == [0]


def test_without_a_label_there_are_but_buttons() -> None:
    row = OneOf({"a": "A", "b": "B"})
    assert row.widget.children[1:] == tuple(row.buttons.values())
