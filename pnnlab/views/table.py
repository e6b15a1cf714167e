"""A small table for a page: sorted by its headings, its rows chosen by a click or the space bar."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import anywidget
import traitlets

from pnnlab.views.parts import script, styles
from pnnlab.views.style import DARK_PALETTE, PALETTE

LINE_COLORS = ("blue", "vermillion", "green", "purple", "orange", "sky")
LINE_DASHES = ((), (6, 3), (2, 2), (8, 3, 2, 3), (12, 3))


@dataclass(frozen=True)
class Look:
    """Colour and dashes by which a row is known in the plots beside the table."""

    color: str
    dash: tuple[int, ...]


def look(place: int) -> Look:
    """The look of line ``place``, from 0: thirty differ, each from its neighbours in two ways."""
    return Look(LINE_COLORS[place % len(LINE_COLORS)], LINE_DASHES[place % len(LINE_DASHES)])


@dataclass(frozen=True, kw_only=True)
class Column:
    """A heading; what stands below it is flush right if it is numeric."""

    name: str
    numeric: bool = False


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """One line of a table.

    Parameters
    ----------
    key : str
        By which it is chosen; no other row has it.
    cells : sequence of (str, str or float or None)
        What is read, and what is sorted by; None comes last.
    look : Look, optional
        Of its line in a plot.
    note : str
        Said in place of all cells but the first; such a row cannot be chosen.
    """

    key: str
    cells: Sequence[tuple[str, str | float | None]]
    look: Look | None = None
    note: str = ""

    def spec(self) -> dict[str, Any]:
        """What the page needs to draw it."""
        cells = [list(cell) for cell in self.cells]
        drawn: dict[str, Any] = {"key": self.key, "cells": cells, "note": self.note}
        if self.look is not None:
            drawn["light"] = PALETTE[self.look.color]
            drawn["dark"] = DARK_PALETTE[self.look.color]
            drawn["dash"] = list(self.look.dash)
        return drawn


@final
class Table(anywidget.AnyWidget):
    """Rows to look at and to choose from.

    Attributes
    ----------
    label : str
        What screen readers call it.
    choosing : str
        What choosing a row does, in a word, such as "Show"; empty if none can be chosen.
    chosen : list of str
        Keys of the chosen rows, in the order in which they were chosen.
    """

    _esm = script("table")
    _css = styles("table")
    label = traitlets.Unicode().tag(sync=True)
    choosing = traitlets.Unicode().tag(sync=True)
    columns: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    rows: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    chosen = traitlets.List(traitlets.Unicode()).tag(sync=True)

    def __init__(self, *, label: str, choosing: str = "", chosen: Sequence[str] = ()) -> None:
        super().__init__(label=label, choosing=choosing, chosen=list(chosen))
        self.on_msg(self._on_message)

    def _on_message(self, _: object, content: dict[str, Any], __: object) -> None:
        keys = {row["key"] for row in self.rows}
        self.chosen = [key for key in content.get("chosen", ()) if key in keys]

    def show(self, columns: Sequence[Column], rows: Sequence[TableRow]) -> None:
        """Show these from now on; what has not changed is not sent."""
        with self.hold_sync():
            self.columns = [{"name": c.name, "numeric": c.numeric} for c in columns]
            self.rows = [row.spec() for row in rows]
