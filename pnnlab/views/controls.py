"""Controls that reach the kernel while a cell waits: a number, a choice, sections, a table.

With ipykernel 7.4 a page sends but one change of state while a cell waits; these send messages.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias, final

import ipywidgets as widgets
import traitlets

from pnnlab.views.parts import PageWidget, assets, button, script, style_sheet, styles
from pnnlab.views.style import LineStyle, colors

Cell: TypeAlias = tuple[str, str | float | None]  # what is read, and what is sorted by: None last


@final
class Entry(PageWidget):
    """A number to type; the page refuses one below ``least`` or, if ``whole``, a fraction."""

    _esm, _css = assets("entry")
    label = traitlets.Unicode("").tag(sync=True)
    value = traitlets.Float(0.0).tag(sync=True)
    least = traitlets.Float(None, allow_none=True).tag(sync=True)
    whole = traitlets.Bool(False).tag(sync=True)


@final
class OneOf(traitlets.HasTraits):
    """Choose one of a few ``options``, values with the texts of their buttons; first the first."""

    value: Any

    def __init__(self, options: Mapping[Any, str], *, label: str = "") -> None:
        super().__init__()
        self.buttons = {
            value: button(text, "", partial(self.set_trait, "value", value))
            for value, text in options.items()
        }
        before = [widgets.Label(label)] if label else []
        parts = [style_sheet("oneof"), *before, *self.buttons.values()]
        self.widget = widgets.HBox(parts).add_class("pnn-one-of")
        self.add_traits(value=traitlets.Enum(list(options), next(iter(options))))
        self.observe(lambda _: self._mark(), "value")
        self._mark()

    def _mark(self) -> None:
        for value, one in self.buttons.items():
            if value == self.value:
                one.add_class("mod-active").tooltip = "chosen"
            else:
                one.remove_class("mod-active").tooltip = ""


@final
class Folds(PageWidget):
    """Names to unfold, one at a time; ``unfolded`` is the one that is open, at first none."""

    _esm, _css = script("folds"), styles("folds")
    label = traitlets.Unicode().tag(sync=True)
    names = traitlets.List(traitlets.Unicode()).tag(sync=True)
    unfolded = traitlets.Unicode().tag(sync=True)

    def _on_message(self, content: dict[str, str], _: object) -> None:
        name = content.get("unfold")
        if name == "" or name in self.names:
            self.unfolded = name


def table_row(
    key: str, cells: Sequence[Cell], style: LineStyle | None = None, note: str = ""
) -> dict[str, Any]:
    """One row of a `Table`; a ``note`` replaces all cells but the first, and any choice of it."""
    row: dict[str, Any] = {"key": key, "cells": [list(cell) for cell in cells], "note": note}
    if style is not None:
        row |= colors(style.color) | {"dash": list(style.dash)}
    return row


@final
class Table(PageWidget):
    """Rows to read and, if ``choosing`` says what that does, to choose from, by their keys."""

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

    def _on_message(self, content: dict[str, Any], _: object) -> None:
        keys = {row["key"] for row in self.rows}
        self.chosen = [key for key in content.get("chosen", ()) if key in keys]
