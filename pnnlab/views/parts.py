"""Small parts that views share: style sheets, scripts, numbers as text, and controls.

`Entry`, `OneOf` and `Table` reach the kernel while a cell waits: with ipykernel 7.4 a page sends
but one change of state then, and these send messages.
"""

import math
import threading
import time
from abc import ABC
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from html import escape
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeAlias, final

import anywidget
import ipywidgets as widgets
import traitlets

from pnnlab.views.style import LineStyle, colors

STATIC = Path(__file__).parent.parent / "static"


@cache
def _short(file: str) -> str:
    """A static file as a notebook stores it with each widget: no indents, no comments."""
    lines = map(str.strip, (STATIC / file).read_text(encoding="utf-8").splitlines())
    return "\n".join(line for line in lines if line and not line.startswith(("//", "/**")))


def script(name: str, *before: str) -> str:
    """The code ``name.js`` of pnnlab/static as a page runs it, after what widgets share."""
    code = "\n".join(_short(f"{part}.js") for part in ("shared", *before, name))
    return f"{code}\nexport default {{ initialize, render }};"


def styles(*names: str) -> str:
    """Style sheets of pnnlab/static as one, for a widget."""
    return "\n".join(_short(f"{name}.css") for name in names)


def assets(name: str, *before: str) -> tuple[str, str]:
    """Script and style of a control, and scripts that it uses."""
    return script(name, *before), styles("shared", "control", name)


def style_sheet(*names: str) -> widgets.HTML:
    """Style sheets of pnnlab/static, as a widget that takes no room."""
    return widgets.HTML(f"<style>{styles(*names)}</style>", layout={"display": "none"})


def frame(name: str, *children: widgets.Widget) -> widgets.VBox:
    """A view of class ``pnn-name`` with its style sheet."""
    return widgets.VBox([style_sheet("view", name), *children]).add_class(f"pnn-{name}")


def bar(*children: widgets.Widget) -> widgets.HBox:
    """Controls in a row that wraps."""
    return widgets.HBox(children).add_class("pnn-bar")


def button(description: str, icon: str, act: Callable[[], object]) -> widgets.Button:
    """A button that calls ``act`` when it is clicked."""
    made = widgets.Button(description=description, icon=icon)
    made.on_click(lambda _: act())
    return made


class PageWidget(anywidget.AnyWidget):
    """A widget that takes what its page sends by `share` of shared.js as state, and messages."""

    alt_text: ClassVar[str] = ""  # in every run alike, where no widget can live

    def __init__(self, **state: Any) -> None:
        super().__init__(**state)
        self.on_msg(self._take)

    def _take(self, _: object, content: dict[str, Any], buffers: Sequence[Any]) -> None:
        if "state" in content:
            self.set_state(content["state"])
        else:
            self._on_message(content, buffers)

    def _on_message(self, content: dict[str, Any], buffers: Sequence[Any]) -> None:
        pass

    def __repr__(self) -> str:
        return f"{self.alt_text or type(self).__name__} (alive in Jupyter)"


class View(ABC):
    """Shows its widget at the end of a cell, and its text where no widget can live."""

    alt_text: ClassVar[str]
    widget: widgets.DOMWidget
    _ending: tuple[Callable[[], object], ...] = ()  # what else ends when it is closed

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        bundle: dict[str, Any] = self.widget._repr_mimebundle_(**kwargs)
        return bundle | {"text/plain": f"{self.alt_text} (alive in Jupyter)"}  # in every run alike

    def close(self) -> None:
        """Stop observing, and take the widgets off the page. What they show goes on."""
        for end in self._ending:
            end()
        discard(self.widget)


def discard(widget: widgets.Widget) -> None:
    """Close a widget and all that it holds; ``close_all`` would close every widget there is."""
    for child in getattr(widget, "children", ()):
        discard(child)
    widget.close()


def status(text: str) -> str:
    """A message as HTML, announced by screen readers."""
    return f'<div role="status" class="pnn-message">{escape(text)}</div>'


def alert(error: object) -> str:
    """The text of an error as HTML, announced by screen readers."""
    return f'<div role="alert" class="pnn-error">{escape(str(error))}</div>'


def show_error(place: widgets.HTML, error: object) -> None:
    """Show an error in its place, which takes no room if there is none."""
    place.value = alert(error) if error else ""
    place.layout.display = None if error else "none"


def tiles(values: Mapping[str, object], label: str, done: int, of: int) -> str:
    """The numbers of the moment as HTML, and a bar of how far it is."""
    items = "".join(f"<div><span>{name}</span>{value}</div>" for name, value in values.items())
    return (
        f'<div class="pnn-tiles">{items}</div><progress class="pnn-progress" '
        f'aria-label="{label}" value="{done}" max="{of}"></progress>'
    )


def count(value: int) -> str:
    """A number with its thousands apart."""
    return f"{value:,}".replace(",", "\u202f")


def number(value: float) -> str:
    """Three significant digits, never in powers of ten where that is hard to read."""
    if value and not 1e-4 <= abs(value) < 1e6:
        return f"{value:.2e}"
    digits = 2 - math.floor(math.log10(abs(value))) if value else 0
    return f"{value:.{max(0, min(digits, 6))}f}"


def duration(seconds: float) -> str:
    """A time in seconds, minutes or hours."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


@final
class LatestRequests:
    """Runs requests in one thread; of several waiting ones of a name, only the latest."""

    def __init__(self) -> None:
        self._worker = ThreadPoolExecutor(1, "pnnlab-panel")
        self._futures: dict[str, Future[None]] = {}

    @property
    def busy(self) -> bool:
        """Whether a request waits or is being run."""
        return not all(future.done() for future in self._futures.values())

    def submit(self, name: str, act: Callable[[], None]) -> None:
        """Call ``act`` soon, in place of an earlier request of this name that still waits."""
        if name in self._futures:
            self._futures[name].cancel()
        self._futures[name] = self._worker.submit(act)

    def close(self) -> None:
        """Drop what has not begun, and take no more."""
        self._worker.shutdown(wait=False, cancel_futures=True)


INTERVAL = 0.1  # seconds between two updates while something happens, or more:
LOAD = 0.01  # the part that updates may take of what the process uses of its processors
COST = 3.0  # times what an update takes in its own thread: sending and waking come on top
LATEST = 0.8  # seconds between two updates, at most: who waits for a device uses no processor
SHORTEST = 0.05  # seconds between two updates, however often `wake` is called
ATTENTIVE = 3  # updates at full speed after `wake`: a command shows its effect in one of them


class Observed(Protocol):
    """What tells its ``observers`` that it changed: a session, a sweep."""

    observers: list[Callable[[], object]]


@final
class RefreshLoop:
    """Calls ``refresh`` at once, when one of the ``observed`` changes, and while ``active()``.

    It does so in a thread of its own, which takes at most a fiftieth of a processor, and once more
    after all has ended.
    """

    def __init__(
        self, refresh: Callable[[], None], active: Callable[[], bool], *observed: Observed
    ) -> None:
        self._refresh, self._active, self._observed = refresh, active, observed
        self._changed = threading.Event()
        self._closed = False
        self._running = threading.Lock()  # held by the thread, if there is one
        for one in observed:
            one.observers.append(self.wake)
        refresh()
        if active():
            self.wake()

    def wake(self) -> None:
        """Refresh soon, at least once more."""
        self._changed.set()
        if not self._closed and self._running.acquire(blocking=False):
            threading.Thread(target=self._run, name="pnnlab-dashboard", daemon=True).start()

    def close(self) -> None:
        """Refresh no more."""
        self._closed = True
        self._changed.set()
        for one in self._observed:
            with suppress(ValueError):  # closed before
                one.observers.remove(self.wake)

    def _run(self) -> None:
        attentive = 0
        try:
            while not self._closed:
                attentive = ATTENTIVE if self._changed.is_set() else attentive - 1
                self._changed.clear()
                going = self._active()  # before the refresh: what ends meanwhile is shown once more
                began = time.thread_time()
                self._refresh()
                if not going:
                    break
                share = COST * (time.thread_time() - began) / LOAD
                time.sleep(SHORTEST)
                if attentive > 0:
                    self._changed.wait(INTERVAL)
                else:
                    self._rest(share)
        finally:
            self._running.release()
        if self._changed.is_set():
            self.wake()  # something has changed since that refresh, before the lock was free

    def _rest(self, share: float) -> None:
        # Until the process has used so much of its processors, not until so much time has passed:
        # where others use the machine too, a training gets but a part of it, and would lose several
        # times as large a part to its views.
        enough = time.process_time() + share
        latest = time.monotonic() + max(LATEST, share)
        while not self._changed.wait(INTERVAL):
            if time.process_time() >= enough or time.monotonic() >= latest:
                return


Cell: TypeAlias = tuple[str, str | float | None]  # what is read, and what is sorted by: None last


@final
class Entry(PageWidget):
    """A number to type; the page refuses one below ``least`` or, if ``whole``, a fraction."""

    _esm, _css = assets("entry")
    label = traitlets.Unicode("").tag(sync=True)
    value = traitlets.Float(0.0).tag(sync=True)
    least = traitlets.Float(None, allow_none=True).tag(sync=True)
    whole = traitlets.Bool(False).tag(sync=True)

    def __init__(
        self, *, label: str, value: float = 0.0, least: float | None = None, whole: bool = False
    ) -> None:
        super().__init__(label=label, value=value, least=least, whole=whole)


@final
class OneOf(PageWidget):
    """A row of buttons of which one is down, one for each of the ``options``; first the first.

    Of buttons that are ``folds`` at most one is, at first none: ``value`` is empty then.
    """

    _esm, _css = script("oneof"), styles("oneof")
    label = traitlets.Unicode().tag(sync=True)
    options: traitlets.List[list[Any]] = traitlets.List().tag(sync=True)  # values and their texts
    folds = traitlets.Bool(False).tag(sync=True)
    value = traitlets.Any("").tag(sync=True)

    def __init__(self, options: Mapping[Any, str], *, label: str = "", folds: bool = False) -> None:
        pairs = [[value, text] for value, text in options.items()]
        first = "" if folds else pairs[0][0]
        super().__init__(label=label, options=pairs, folds=folds, value=first)

    @traitlets.validate("value")
    def _offered(self, proposal: dict[str, Any]) -> Any:
        offered = [value for value, _ in self.options] + [""] * self.folds
        if proposal["value"] not in offered:
            raise traitlets.TraitError(f"{proposal['value']!r} is none of {offered}.")
        return proposal["value"]


def table_row(
    key: str, cells: Sequence[Cell], style: LineStyle | None = None, note: str = ""
) -> dict[str, Any]:
    """One row of a `Table`; a ``note`` replaces all cells but the first, and any choice of it."""
    row: dict[str, Any] = {"key": key, "cells": [list(cell) for cell in cells], "note": note}
    if style is not None:
        row |= colors(style.color) | {"dash": list(style.dash)}
    return row


@final
class Table(PageWidget):
    """Rows to read and, if ``choosing`` says what that does, to choose from, by their keys."""

    _esm, _css = script("table"), styles("table")
    label = traitlets.Unicode().tag(sync=True)
    choosing = traitlets.Unicode().tag(sync=True)
    columns: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    rows: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    chosen = traitlets.List(traitlets.Unicode()).tag(sync=True)

    def __init__(
        self,
        label: str,
        texts: Sequence[str],
        numbers: Sequence[str] = (),
        *,
        choosing: str = "",
        chosen: Iterable[str] = (),
    ) -> None:
        columns = [{"name": name, "numeric": False} for name in texts]
        columns += [{"name": name, "numeric": True} for name in numbers]
        super().__init__(label=label, choosing=choosing, columns=columns, chosen=list(chosen))

    def _on_message(self, content: dict[str, Any], _: object) -> None:
        keys = {row["key"] for row in self.rows}
        self.chosen = [key for key in content.get("chosen", ()) if key in keys]
