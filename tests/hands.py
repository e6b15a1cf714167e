"""What a page sends when somebody does something there."""

from typing import Any

import ipywidgets


def message(widget: ipywidgets.Widget, content: dict[str, Any], *buffers: bytes) -> None:
    """What the page sends of its own."""
    data = {"method": "custom", "content": content}
    widget.comm.handle_msg({"content": {"data": data}, "buffers": list(buffers)})


def click(button: ipywidgets.Button) -> None:
    """What the page sends when a button is clicked; a disabled one sends nothing."""
    assert not button.disabled, f"{button.description} cannot be clicked"
    message(button, {"event": "click"})


def share(widget: ipywidgets.Widget, **state: Any) -> None:
    """What the page sends when it changes something that it shares with the kernel."""
    message(widget, {"state": state})
