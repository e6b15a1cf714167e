"""A small table for a page: sorted by its headings, its rows chosen by a click or the space bar."""

from collections.abc import Sequence
from typing import Any, TypeAlias, final

import anywidget
import traitlets

from pnnlab.views.parts import script, styles
from pnnlab.views.style import DARK_PALETTE, PALETTE, LineStyle

Cell: TypeAlias = tuple[str, str | float | None]  # what is read, and what is sorted by: None last


def table_row(
    key: str, cells: Sequence[Cell], style: LineStyle | None = None, note: str = ""
) -> dict[str, Any]:
    """One row of a `Table`, by whose ``key`` it is chosen.

    ``style`` is that of its line in a plot. A ``note`` stands in place of all cells but the first;
    such a row cannot be chosen.
    """
    row: dict[str, Any] = {"key": key, "cells": [list(cell) for cell in cells], "note": note}
    if style is not None:
        row |= {"light": PALETTE[style.color], "dark": DARK_PALETTE[style.color]}
        row["dash"] = list(style.dash)
    return row


@final
class Table(anywidget.AnyWidget):
    """Rows to read and to choose from.

    Parameters
    ----------
    label : str
        For screen readers.
    columns : dict of str to bool
        Headings, and whether what stands below is numeric, and so flush right.
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

    def __init__(
        self,
        label: str,
        columns: dict[str, bool],
        *,
        choosing: str = "",
        chosen: Sequence[str] = (),
    ) -> None:
        heads = [{"name": name, "numeric": numeric} for name, numeric in columns.items()]
        super().__init__(label=label, choosing=choosing, columns=heads, chosen=list(chosen))
        self.on_msg(self._on_message)

    def _on_message(self, _: object, content: dict[str, Any], __: object) -> None:
        keys = {row["key"] for row in self.rows}
        self.chosen = [key for key in content.get("chosen", ()) if key in keys]
