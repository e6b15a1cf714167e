"""The Jupyter server passes on small messages at once, and keeps a connection chosen by others."""

from types import SimpleNamespace

import pytest
from jupyter_server.services.kernels.connection.base import BaseKernelWebsocketConnection
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from jupyter_server.services.kernels.websocket import KernelWebsocketHandler

from pnnlab.server_extension import PromptConnection, _load_jupyter_server_extension


@pytest.mark.parametrize(
    ("chosen", "then"),
    [
        (ZMQChannelsWebsocketConnection, PromptConnection),
        (BaseKernelWebsocketConnection, BaseKernelWebsocketConnection),
    ],
)
def test_only_jupyters_own_connection_is_replaced(chosen: type, then: type) -> None:
    settings = {"kernel_websocket_connection_class": chosen}
    _load_jupyter_server_extension(SimpleNamespace(web_app=SimpleNamespace(settings=settings)))
    assert settings == {"kernel_websocket_connection_class": then}


def test_a_connection_waits_for_no_acknowledgement(monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    monkeypatch.setattr(ZMQChannelsWebsocketConnection, "connect", lambda _: told.append("open"))
    monkeypatch.setattr(KernelWebsocketHandler, "set_nodelay", lambda _, on: told.append(on))
    connection = PromptConnection.__new__(PromptConnection)
    connection.websocket_handler = KernelWebsocketHandler.__new__(KernelWebsocketHandler)
    connection.connect()
    assert told == [True, "open"]
