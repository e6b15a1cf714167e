"""A number to type."""

from typing import final

import anywidget
import traitlets

from pnnlab.views.parts import shares
from pnnlab.views.touch import assets


@final
class Entry(anywidget.AnyWidget):
    """A number to type.

    As `ipywidgets.FloatText`, but what is typed comes as a message: with ipykernel 7.4 a page sends
    but one change of state while a cell waits. And what is too small is refused, not changed.

    Parameters
    ----------
    label : str
        Stands before it.
    value : float
    least : float, optional
        The smallest number that the page takes.
    whole : bool
        Whether it takes whole numbers alone.
    """

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
