"""A row of buttons of which one at a time unfolds something."""

from typing import final

import anywidget
import traitlets

from pnnlab.views.parts import HERE, script


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
    _css = HERE / "folds.css"
    label = traitlets.Unicode().tag(sync=True)
    names = traitlets.List(traitlets.Unicode()).tag(sync=True)
    unfolded = traitlets.Unicode().tag(sync=True)
