"""A row of buttons of which one is down."""

from collections.abc import Mapping
from functools import partial
from typing import Any, final

import ipywidgets as widgets
import traitlets

from pnnlab.views.parts import button, style_sheet


@final
class OneOf(traitlets.HasTraits):
    """Choose one of a few.

    As `ipywidgets.ToggleButtons`, but a click is a message: with ipykernel 7.4 a page sends but one
    change of state while a cell waits.

    Parameters
    ----------
    options : mapping
        Values, and what their buttons say. The first is down.
    label : str
        Stands before the row.

    Attributes
    ----------
    value : object
        The one that is down.
    buttons : dict
        By value.
    widget : ipywidgets.HBox

    Raises
    ------
    TraitError
        The value is to be one that has no button.
    """

    value = traitlets.Any()

    def __init__(self, options: Mapping[Any, str], *, label: str = "") -> None:
        super().__init__()
        self.buttons = {
            value: button(said, "", partial(self.set_trait, "value", value))
            for value, said in options.items()
        }
        before = [widgets.Label(label)] if label else []
        self.widget = widgets.HBox([style_sheet("oneof"), *before, *self.buttons.values()])
        self.widget.add_class("pnn-one-of")
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
