"""The Jupyter server passes on small messages at once, and keeps a connection chosen by others."""

from types import SimpleNamespace

import pytest
from jupyter_server.services.kernels.connection.base import BaseKernelWebsocketConnection
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from jupyter_server.services.kernels.websocket import KernelWebsocketHandler

from pnnlab import server_extension
from pnnlab.server_extension import PromptConnection


def chosen_beside(connection: type[BaseKernelWebsocketConnection]) -> type | None:
    settings = {}
    server_extension._load_jupyter_server_extension(
        SimpleNamespace(
            kernel_websocket_connection_class=connection,
            web_app=SimpleNamespace(settings=settings),
        )
    )
    return settings.get("kernel_websocket_connection_class")


def test_only_jupyters_own_connection_is_replaced() -> None:
    assert chosen_beside(ZMQChannelsWebsocketConnection) is PromptConnection
    assert chosen_beside(BaseKernelWebsocketConnection) is None


def test_a_connection_waits_for_no_acknowledgement(monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    monkeypatch.setattr(ZMQChannelsWebsocketConnection, "connect", lambda _: told.append("open"))
    monkeypatch.setattr(KernelWebsocketHandler, "set_nodelay", lambda _, on: told.append(on))
    connection = PromptConnection.__new__(PromptConnection)
    connection.websocket_handler = KernelWebsocketHandler.__new__(KernelWebsocketHandler)
    connection.connect()
    assert told == [True, "open"]
