"""What a page sends when somebody does something there."""

from typing import Any

import ipywidgets


def click(button: ipywidgets.Button) -> None:
    """What the page sends when a button is clicked; a disabled one sends nothing."""
    assert not button.disabled, f"{button.description} cannot be clicked"
    content = {"method": "custom", "content": {"event": "click"}}
    button.comm.handle_msg({"content": {"data": content}, "buffers": []})


def turn(widget: ipywidgets.Widget, **state: Any) -> None:
    """What the page sends when it changes something that it shares with the kernel."""
    data = {"method": "update", "state": state, "buffer_paths": []}
    widget.comm.handle_msg({"content": {"data": data}, "buffers": []})
