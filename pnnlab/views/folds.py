"""A row of buttons of which one at a time unfolds something."""

from typing import final

import anywidget
import traitlets

from pnnlab.views.parts import script, styles


@final
class Folds(anywidget.AnyWidget):
    """Names to unfold; at first none is.

    Attributes
    ----------
    label : str
        Stands before the row.
    names : list of str
    unfolded : str
        The one that is open, or empty.
    """

    _esm = script("folds")
    _css = styles("folds")
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
