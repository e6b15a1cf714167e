"""Controls that reach the kernel while a cell waits: a number, a choice, a table.

With ipykernel 7.4 a page sends but one change of state while a cell waits; these send messages.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias, final

import traitlets

from pnnlab.views.parts import PageWidget, assets, script, styles
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

    def __init__(
        self, *, label: str, value: float = 0.0, least: float | None = None, whole: bool = False
    ) -> None:
        super().__init__(label=label, value=value, least=least, whole=whole)


@final
class OneOf(PageWidget):
    """A row of buttons of which one is down, one for each of the ``options``; first the first.

    Of buttons that are ``folds`` at most one is, at first none: ``value`` is empty then.
    """

    _esm, _css = script("oneof"), styles("oneof")
    label = traitlets.Unicode().tag(sync=True)
    options: traitlets.List[list[Any]] = traitlets.List().tag(sync=True)  # values and their texts
    folds = traitlets.Bool(False).tag(sync=True)
    value = traitlets.Any("").tag(sync=True)

    def __init__(self, options: Mapping[Any, str], *, label: str = "", folds: bool = False) -> None:
        pairs = [[value, text] for value, text in options.items()]
        first = "" if folds else pairs[0][0]
        super().__init__(label=label, options=pairs, folds=folds, value=first)

    @traitlets.validate("value")
    def _offered(self, proposal: dict[str, Any]) -> Any:
        offered = [value for value, _ in self.options] + [""] * self.folds
        if proposal["value"] not in offered:
            raise traitlets.TraitError(f"{proposal['value']!r} is none of {offered}.")
        return proposal["value"]


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
