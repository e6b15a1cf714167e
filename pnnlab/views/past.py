"""What views need of a training, whether it runs, has run, or is kept in a folder."""

import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol, final

from pnnlab.runs import read_journal, read_run
from pnnlab.storage import user_path
from pnnlab.training import CLASSIFICATION, Curves, History, Labels, Record


class Watched(Protocol):
    """A training that can be looked at: a `Session`, or what is remembered of one."""

    @property
    def labels(self) -> Labels:
        """Names of the loss and the metric."""

    @property
    def latest(self) -> Record | None:
        """The last record."""

    @property
    def evaluations(self) -> Sequence[Record]:
        """Records that hold an evaluation, oldest first."""

    def curves(self) -> Curves:
        """Loss, batch accuracy and clamping over the steps."""


@final
class Past:
    """What is remembered of some records, in bounded memory, as a session remembers its own.

    Parameters
    ----------
    records : iterable of Record
        In the order of their steps.
    labels : Labels
        Names of their loss and metric.
    """

    def __init__(
        self, records: Iterable[Record] = (), labels: Labels = CLASSIFICATION.labels
    ) -> None:
        self.labels = labels
        self._history = History()
        self._latest: Record | None = None
        self.add(records)

    @property
    def latest(self) -> Record | None:
        """The last record."""
        return self._latest

    @property
    def evaluations(self) -> tuple[Record, ...]:
        """Records that hold an evaluation, oldest first; thinned, but never the latest."""
        return tuple(self._history.evaluations)

    def curves(self) -> Curves:
        """Loss, batch accuracy and clamping over the steps."""
        return self._history.curves()

    def add(self, records: Iterable[Record]) -> None:
        """Remember more."""
        for record in records:
            self._history.add(record)
            self._latest = record


@final
class Kept:
    """A run folder, read as far as its journal goes; `read` again for what came since.

    Parameters
    ----------
    folder : path

    Raises
    ------
    RunError
        There is no run in ``folder``, or its journal cannot be read.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = user_path(folder)
        self._reading = threading.Lock()
        self.info = read_run(self.folder)
        self.labels = self.info.labels
        self._past = Past()
        self.read()

    @property
    def latest(self) -> Record | None:
        """The last record."""
        return self._past.latest

    @property
    def evaluations(self) -> tuple[Record, ...]:
        """Records that hold an evaluation, oldest first; thinned, but never the latest."""
        return self._past.evaluations

    @property
    def whole(self) -> bool:
        """Whether the run has come to its end."""
        latest = self.latest
        return latest is not None and latest.step >= latest.steps

    def curves(self) -> Curves:
        """Loss, batch accuracy and clamping over the steps."""
        return self._past.curves()

    def read(self) -> bool:
        """Read what was written since, and say whether there was anything.

        Raises
        ------
        RunError
            The journal can no longer be read.
        """
        with self._reading:
            past, latest = self._past, self._past.latest
            if latest is None:
                new = read_journal(self.folder)
            else:
                new = read_journal(self.folder, latest.step - 1)
                if new and new[0] == latest:
                    del new[0]
                else:  # resumed from a checkpoint: these steps were taken anew
                    past, new = Past(), read_journal(self.folder)
            past.add(new)
            changed = bool(new) or past is not self._past
            self._past = past
            return changed
