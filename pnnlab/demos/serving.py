"""The server of the app: a token is required, and every page has the same kernel."""

import asyncio
import secrets
from pathlib import Path
from typing import Any, final

from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from voila.app import Voila

from pnnlab.server_extension import pass_on_at_once


@final
class AppServer(Voila):  # type: ignore[misc] # voila ships no types
    """Voila with a token, or whoever reaches the port could drive the device."""

    token: str | None

    def init_settings(self) -> dict[str, Any]:
        """Make the settings of the web server; its identity provider requires something."""
        self.auto_token, self.token = True, self.token or None
        settings: dict[str, Any] = super().init_settings()
        pass_on_at_once(settings)
        if not self.identity_provider.auth_enabled:  # an empty token, in some configuration
            self.identity_provider.token = secrets.token_hex(24)
            self.identity_provider.token_generated = True
        return settings


@final
class OneKernel(AsyncMappingKernelManager):
    """Gives each page the kernel that the first one started, in the server's folder.

    Voila's own way is a kernel for each page, ended when the page is left: a reload would end a
    training, and two tabs would drive one device. The app's template prevents that end.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)  # type: ignore[no-untyped-call]
        self._starting = asyncio.Lock()
        self._kernel = ""

    async def start_kernel(self, **kwargs: Any) -> str:  # type: ignore[override]
        """Start the kernel, or find the one that runs."""
        async with self._starting:  # two pages may be opened at the same moment
            if self._kernel not in self:
                kwargs |= {"path": None, "cwd": str(Path.cwd())}
                self._kernel = await super().start_kernel(**kwargs)
        return self._kernel
