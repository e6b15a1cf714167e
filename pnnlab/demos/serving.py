"""One kernel behind every page of the app: there is one lab, however many look at it."""

import asyncio
from pathlib import Path
from typing import Any, final

from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager


@final
class OneKernel(AsyncMappingKernelManager):
    """Gives each page the kernel that the first one started.

    Voila's own way is a kernel for each page, ended when the page is left: a reload would end a
    training, and two tabs would drive one device at the same time. The app's template keeps a page
    that is left from asking for the kernel's end. The kernel works in the folder that the server
    was started in, and ends with the server.
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
