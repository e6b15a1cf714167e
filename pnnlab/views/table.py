"""A small table for a page: sorted by its headings, its rows chosen by a click or the space bar."""

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias, final

import anywidget
import traitlets

from pnnlab.views.parts import script, styles
from pnnlab.views.style import DARK_PALETTE, PALETTE, LineStyle

Cell: TypeAlias = tuple[str, str | float | None]  # what is read, and what is sorted by: None last


def table_row(
    key: str, cells: Sequence[Cell], style: LineStyle | None = None, note: str = ""
) -> dict[str, Any]:
    """One row of a `Table`, by whose ``key`` it is chosen; ``style`` is that of its line in a plot.

    A ``note`` stands in place of all cells but the first; such a row cannot be chosen.
    """
    row: dict[str, Any] = {"key": key, "cells": [list(cell) for cell in cells], "note": note}
    if style is not None:
        row |= {"light": PALETTE[style.color], "dark": DARK_PALETTE[style.color]}
        row["dash"] = list(style.dash)
    return row


@final
class Table(anywidget.AnyWidget):
    """Rows to read and to choose from, by columns of texts, then of numbers.

    ``choosing`` is what choosing a row does, in a word; empty if none can be chosen. ``chosen``
    holds the keys of the chosen rows, in the order of their choice.
    """

    _esm, _css = script("table"), styles("table")
    label = traitlets.Unicode().tag(sync=True)
    choosing = traitlets.Unicode().tag(sync=True)
    columns: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    rows: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    chosen = traitlets.List(traitlets.Unicode()).tag(sync=True)

    def __init__(
        self,
        label: str,
        texts: Sequence[str],
        numbers: Sequence[str] = (),
        *,
        choosing: str = "",
        chosen: Iterable[str] = (),
    ) -> None:
        columns = [{"name": name, "numeric": False} for name in texts]
        columns += [{"name": name, "numeric": True} for name in numbers]
        super().__init__(label=label, choosing=choosing, columns=columns, chosen=list(chosen))
        self.on_msg(self._on_message)

    def _on_message(self, _: object, content: dict[str, Any], __: object) -> None:
        keys = {row["key"] for row in self.rows}
        self.chosen = [key for key in content.get("chosen", ()) if key in keys]
