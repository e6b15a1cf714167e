"""What a Jupyter server loads of pnnlab: it passes on small messages of a kernel at once.

TCP keeps a small message until the one before is acknowledged (Nagle's algorithm), and a page
acknowledges after up to 40 ms. Beats, dashboards and buttons then come late and several at a time.
"""

import asyncio
from typing import Any, final

from jupyter_server.serverapp import ServerApp
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection


@final
class PromptConnection(ZMQChannelsWebsocketConnection):
    """The way from a kernel to a page, without waiting for acknowledgements."""

    def connect(self) -> asyncio.Future[None] | None:  # type: ignore[override] # the bases differ
        self.websocket_handler.set_nodelay(True)
        return super().connect()


def pass_on_at_once(settings: dict[str, Any]) -> None:
    """Leave alone a connection that somebody else chose, such as a gateway's."""
    key = "kernel_websocket_connection_class"
    if settings[key] is ZMQChannelsWebsocketConnection:
        settings[key] = PromptConnection


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": __name__}]


def _load_jupyter_server_extension(app: ServerApp) -> None:
    pass_on_at_once(app.web_app.settings)
