"""A button for what needs the device for a while, and what became of it."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from html import escape
from typing import Generic, TypeVar, final

import ipywidgets as widgets

from pnnlab.background import Session
from pnnlab.views.parts import alert, button
from pnnlab.views.words import count

T = TypeVar("T")


@final
class Asking(Generic[T]):
    """A button that hands an action to a session, to be carried out between two steps.

    Parameters
    ----------
    session : Session
    name : str
        What the button does; the cost is added to it.
    action : callable
        Gives a result; it has the device and the network to itself.
    show : callable
        Called with the result, in whatever thread. What it returns is said beside the button.
    passes : int
        Device passes that it costs.
    icon : str

    Attributes
    ----------
    widget : ipywidgets.HBox
    button : ipywidgets.Button
    """

    def __init__(
        self,
        session: Session,
        name: str,
        action: Callable[[], T],
        show: Callable[[T], str],
        *,
        passes: int,
        icon: str = "search",
    ) -> None:
        self._session, self._name = session, name
        self._action, self._show = action, show
        self._lock = threading.Lock()  # held from the asking to the end
        self.button = button("", icon, self.ask)
        self.cost(passes)
        self.said = widgets.HTML()
        self.widget = widgets.HBox([self.button, self.said])
        self.widget.add_class("pnn-bar")

    def cost(self, passes: int) -> None:
        """Say another cost on the button."""
        self.button.description = f"{self._name} ({price(passes)})"

    def ask(self) -> bool:
        """Ask, unless it has been asked and is not done yet; says whether it was asked now."""
        if not self._lock.acquire(blocking=False):
            return False
        self.button.disabled = True
        when = "after this step" if self._session.status == "running" else "now"
        self._say(f"{self._name}: {when} …")
        self._session.do(self._name, self._action).add_done_callback(self._done)
        return True

    def _done(self, future: "Future[T]") -> None:
        try:
            error = future.exception()
            if error is not None:
                self.said.value = alert(error)
            else:
                self._say(self._show(future.result()))
        finally:
            self.button.disabled = False
            self._lock.release()

    def _say(self, words: str) -> None:
        self.said.value = f'<div role="status" class="pnn-said">{escape(words)}</div>'


def price(passes: int) -> str:
    """What something costs on the device, as a button says it."""
    return f"{count(passes)} device passes" if passes else "no device passes"
