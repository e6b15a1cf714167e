"""Controls that reach the kernel while a cell waits: a number, a choice, sections to open.

With ipykernel 7.4 a page sends but one change of state while a cell waits; these send messages.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, final

import anywidget
import ipywidgets as widgets
import traitlets

from pnnlab.views.parts import assets, button, script, shares, style_sheet, styles


@final
class Entry(anywidget.AnyWidget):
    """A number to type; the page refuses one below ``least`` or, if ``whole``, a fraction."""

    _esm, _css = assets("entry")
    label = traitlets.Unicode("").tag(sync=True)
    value = traitlets.Float(0.0).tag(sync=True)
    least = traitlets.Float(None, allow_none=True).tag(sync=True)
    whole = traitlets.Bool(False).tag(sync=True)

    def __init__(
        self, label: str, value: float, *, least: float | None = None, whole: bool = False
    ) -> None:
        super().__init__(label=label, value=value, least=least, whole=whole)
        shares(self)


@final
class OneOf(traitlets.HasTraits):
    """Choose one of a few; ``options`` are values with the texts of their buttons.

    ``value`` is at first the first of them; one without a button raises TraitError.
    """

    value = traitlets.Any()

    def __init__(self, options: Mapping[Any, str], *, label: str = "") -> None:
        super().__init__()
        self.buttons = {
            value: button(text, "", partial(self.set_trait, "value", value))
            for value, text in options.items()
        }
        before = [widgets.Label(label)] if label else []
        parts = [style_sheet("oneof"), *before, *self.buttons.values()]
        self.widget = widgets.HBox(parts).add_class("pnn-one-of")
        self.observe(lambda _: self._mark(), "value")
        self.value = next(iter(options))

    @traitlets.validate("value")
    def _offered(self, proposal: dict[str, Any]) -> Any:
        if proposal["value"] not in self.buttons:
            offered = ", ".join(map(repr, self.buttons))
            raise traitlets.TraitError(f"{proposal['value']!r} is none of {offered}.")
        return proposal["value"]

    def _mark(self) -> None:
        for value, one in self.buttons.items():
            if value == self.value:
                one.add_class("mod-active").tooltip = "chosen"
            else:
                one.remove_class("mod-active").tooltip = ""


@final
class Folds(anywidget.AnyWidget):
    """Names to unfold, one at a time; ``unfolded`` is the one that is open, at first none."""

    _esm, _css = script("folds"), styles("folds")
    label = traitlets.Unicode().tag(sync=True)
    names = traitlets.List(traitlets.Unicode()).tag(sync=True)
    unfolded = traitlets.Unicode().tag(sync=True)

    def __init__(self, *, label: str, names: list[str]) -> None:
        super().__init__(label=label, names=names)
        self.on_msg(self._on_message)

    def _on_message(self, _: object, content: dict[str, str], __: object) -> None:
        name = content.get("unfold")
        if name == "" or name in self.names:
            self.unfolded = name
