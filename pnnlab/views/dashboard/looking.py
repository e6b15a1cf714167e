"""The row under the plots: what there is for those who look closer."""

import threading
from collections.abc import Callable, Mapping
from typing import final

import ipywidgets as widgets

from pnnlab.layers import physical_layers
from pnnlab.views.dashboard.aligning import AlignmentCloser
from pnnlab.views.dashboard.closer import Closer, Looked
from pnnlab.views.dashboard.confusing import ConfusionCloser
from pnnlab.views.dashboard.costing import CostCloser
from pnnlab.views.dashboard.drift import DriftCloser
from pnnlab.views.dashboard.limits import LimitsCloser
from pnnlab.views.dashboard.rate import RateCloser
from pnnlab.views.folds import Folds
from pnnlab.views.parts import discard


@final
class Looking:
    """Folds, each made when it is first opened; at first all are closed, and cost nothing.

    Parameters
    ----------
    looked : Looked

    Attributes
    ----------
    folds : Folds
    made : dict of str to Closer
        Those that were opened once.
    widget : ipywidgets.VBox
    """

    def __init__(self, looked: Looked) -> None:
        self._looked = looked
        self._makers = closers(looked)
        self._lock = threading.Lock()
        self.made: dict[str, Closer] = {}
        self.folds = Folds(label="Look closer", names=list(self._makers))
        self._room = widgets.VBox()
        self.widget = widgets.VBox([self.folds, self._room])
        self.folds.observe(lambda _: self._turn(), "unfolded")

    def refresh(self) -> None:
        """Show the session as it is now."""
        for closer in tuple(self.made.values()):
            closer.refresh()

    def close(self) -> None:
        """Take everything off the page, folded or not."""
        with self._lock:
            for closer in self.made.values():
                discard(closer.widget)

    def _turn(self) -> None:
        name = self.folds.unfolded
        with self._lock:  # callbacks come in any thread
            if name and name not in self.made:
                self.made[name] = self._makers[name](self._looked)
            self._room.children = (self.made[name].widget,) if name else ()


def closers(looked: Looked) -> Mapping[str, Callable[[Looked], Closer]]:
    """What can be looked at: less of a digital network or a regression."""
    layers = physical_layers(looked.training.network)
    found: dict[str, Callable[[Looked], Closer]] = {}
    if not looked.training.train.targets.is_floating_point():
        found["Confusion"] = ConfusionCloser
    if layers and all(layer.twin is not None for layer in layers):
        found["Gradients"] = AlignmentCloser
    if layers:
        found |= {
            "Drift and refit": DriftCloser,
            "Limits": LimitsCloser,
            "Time and energy": CostCloser,
        }
    return found | {"Learning rate": RateCloser}
