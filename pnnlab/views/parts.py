"""Small parts that views share: buttons, and the style sheets that come with them."""

from collections.abc import Callable
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets as widgets

HERE = Path(__file__).parent


@cache
def _sheet(name: str) -> str:
    return (HERE / f"{name}.css").read_text(encoding="utf-8")


def style_sheet(name: str) -> widgets.HTML:
    """The style sheet ``name.css`` of this folder, as a widget that takes no room."""
    return widgets.HTML(f"<style>{_sheet(name)}</style>", layout={"display": "none"})


def button(description: str, icon: str, act: Callable[[], object]) -> widgets.Button:
    """A button that calls ``act`` when it is clicked."""
    made = widgets.Button(description=description, icon=icon)
    made.on_click(lambda _: act())
    return made


def discard(widget: widgets.Widget) -> None:
    """Close a widget and all that it holds; ``close_all`` would close every widget there is."""
    for child in getattr(widget, "children", ()):
        discard(child)
    widget.close()


def shares(widget: widgets.Widget) -> None:
    """Take the state that a page sends by `share` of shared.js, as if it came the usual way."""

    def take(_: object, content: dict[str, Any], __: object) -> None:
        if "state" in content:
            widget.set_state(content["state"])

    widget.on_msg(take)


def script(name: str) -> str:
    """The code ``name.js`` of this folder as a page runs it, after what all widgets share."""
    return _short("shared.js", f"{name}.js") + "\nexport default { initialize, render };"


def styles(*names: str) -> str:
    """Style sheets of this folder as one, for a widget."""
    return _short(*(f"{name}.css" for name in names))


def _short(*files: str) -> str:
    """Several files as one; a notebook stores them with each widget: no indents, no comments."""
    lines = [
        line.strip()
        for file in files
        for line in (HERE / file).read_text(encoding="utf-8").splitlines()
    ]
    return "\n".join(line for line in lines if line and not line.startswith(("//", "/**")))


def alert(error: BaseException) -> str:
    """A refusal in its own words, as a screen reader announces it."""
    return f'<div role="alert" class="pnn-error">{escape(str(error))}</div>'
