"""What the dashboard shows to those who look closer, one thing at a time."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import ipywidgets as widgets

from pnnlab.background import Session
from pnnlab.protocols import Cost
from pnnlab.training import Reference, Training


@dataclass(frozen=True, kw_only=True, eq=False)
class Looked:
    """What is looked at.

    Attributes
    ----------
    session : Session
    training : Training
        Of that session.
    classes : sequence of str or None
        Names of the classes.
    image : (int, int) or None
        Height and width of an input that is an image.
    references : tuple of Reference
        Taken of the physical layers' systems when their twins were fitted; may be empty.
    costs : tuple of Cost
        Of a shot of each physical layer; may be empty.
    """

    session: Session
    training: Training
    classes: Sequence[str] | None = None
    image: tuple[int, int] | None = None
    references: tuple[Reference, ...] = ()
    costs: tuple[Cost, ...] = ()


class Closer(ABC):
    """One of the things that the dashboard unfolds. It is made when it is first unfolded.

    Attributes
    ----------
    widget : ipywidgets.VBox
    """

    widget: widgets.VBox

    @abstractmethod
    def refresh(self) -> None:
        """Show the session as it is now; called at every update, and so quick."""
