"""A row of buttons of which one is down."""

import pytest
import traitlets
from hands import share

from pnnlab.views.parts import OneOf


def test_one_is_down_and_a_click_takes_another() -> None:
    row = OneOf({0: "never", 1: "always", 5: "every 5th"}, label="Compare")
    assert row.options == [[0, "never"], [1, "always"], [5, "every 5th"]]
    seen: list[int] = []
    row.observe(lambda change: seen.append(change["new"]), "value")
    assert row.value == 0
    for value in (5, 5, 1):
        share(row, value=value)
    assert seen == [5, 1]
    row.value = 0
    with pytest.raises(traitlets.TraitError, match=r"7 is none of \[0, 1, 5\]"):
        row.value = 7
    assert row.value == 0


def test_of_those_that_unfold_something_none_may_be_down() -> None:
    row = OneOf({"a": "A", "b": "B"}, folds=True)
    assert row.value == ""
    share(row, value="b")
    assert row.value == "b"
    share(row, value="")
    assert row.value == ""
