"""A microphone in the page: a click records for a moment, and the kernel gets the samples."""

from collections.abc import Callable
from typing import Any, final

import anywidget
import numpy as np
import traitlets
from numpy.typing import NDArray

from pnnlab.errors import PnnlabError
from pnnlab.views.touch import assets

SECONDS = 1.5


@final
class Microphone(anywidget.AnyWidget):
    """Records in the browser. No sound is stored in the notebook.

    Parameters
    ----------
    title : str
        What is to be said.
    on_sound : callable
        Called with the samples, (n,), 1 being full scale, and their rate, per second. A
        `PnnlabError` that it raises is said below the button in the error's own words.
    seconds : float
        How long a recording is.

    Attributes
    ----------
    refused : str
        Why the last recording could not be used; empty if it was taken. What the page's own browser
        refuses is said in that page alone.
    """

    _esm, _css = assets("microphone")
    title = traitlets.Unicode("").tag(sync=True)
    seconds = traitlets.Float(SECONDS).tag(sync=True)
    refused = traitlets.Unicode("").tag(sync=True)

    def __init__(
        self,
        title: str,
        on_sound: Callable[[NDArray[np.float64], float], None],
        *,
        seconds: float = SECONDS,
    ) -> None:
        super().__init__(title=title, seconds=seconds)
        self._on_sound = on_sound
        self.on_msg(self._on_message)

    def play(self, samples: NDArray[np.float64], rate: float) -> None:
        """Let the page play ``samples``, (n,), in [-1, 1]."""
        self.send({"rate": rate}, [samples.astype("<f4").tobytes()])

    def _on_message(self, _: object, content: dict[str, Any], buffers: list[memoryview]) -> None:
        samples = np.frombuffer(buffers[0], dtype="<f4").astype(np.float64)
        self.refused = ""
        try:
            self._on_sound(samples, float(content["rate"]))
        except PnnlabError as error:
            self.refused = str(error)
