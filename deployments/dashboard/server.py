"""Serving the live page: uvicorn on a socket, ending at once although browsers listen to streams that never end by themselves."""

import socket

import uvicorn

from deployments.dashboard.app import create_app
from deployments.dashboard.watch import Watch


class PageServer(uvicorn.Server):
    """Serves what ``watch`` reads."""

    def __init__(self, watch: Watch) -> None:
        super().__init__(uvicorn.Config(create_app(watch), log_level="warning", timeout_graceful_shutdown=2))
        self.watch = watch

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams, then the server."""
        await self.watch.end()
        await super().shutdown(sockets)
