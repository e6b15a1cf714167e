"""Which classes are taken for which: asked of the device or of the twin."""

from typing import final

import ipywidgets as widgets

from pnnlab.layers import on_device, on_twin, physical_layers
from pnnlab.training import Confusion, confusion, seeing_passes
from pnnlab.views.confusion import ConfusionView
from pnnlab.views.dashboard.asking import Asking, price
from pnnlab.views.dashboard.closer import Closer, Looked


@final
class ConfusionCloser(Closer):
    """The confusion matrix of the validation split, on request.

    Parameters
    ----------
    looked : Looked
    """

    def __init__(self, looked: Looked) -> None:
        self._looked = looked
        network, examples = looked.training.network, looked.training.validation
        layers = physical_layers(network)
        self.view: ConfusionView | None = None
        self.on_device = Asking(
            looked.session,
            "Name the validation examples on the device" if layers else "Name the examples",
            self._device,
            lambda found: self._show(found, "device" if layers else "computer"),
            passes=seeing_passes(network, len(examples.x)),
        )
        asked = [self.on_device.widget]
        if layers and all(layer.twin is not None for layer in layers):
            self.on_twin = Asking(
                looked.session,
                "The same on the twin",
                self._twin,
                lambda found: self._show(found, "twin"),
                passes=0,
            )
            asked.append(self.on_twin.widget)
        self.widget = widgets.VBox(asked)

    def refresh(self) -> None:
        """Nothing follows by itself here: it would cost passes."""

    def _device(self) -> Confusion:
        training = self._looked.training
        with on_device(training.network):
            return confusion(training.network, training.validation, self._looked.classes)

    def _twin(self) -> Confusion:
        training = self._looked.training
        with on_twin(training.network):
            return confusion(training.network, training.validation, self._looked.classes)

    def _show(self, found: Confusion, where: str) -> str:
        x, step = self._looked.training.validation.x, self._looked.training.step
        if self.view is None:
            self.view = ConfusionView(found, x, shape=self._looked.image, where=where)
            self.widget.children = (*self.widget.children, self.view)
        else:
            self.view.show(found, x, where)
        return f"step {step}, {price(found.device_passes)}"
