"""A real redis-server on loopback that tests start, kill and start again on the same port, with an append-only file.

Tests that need it skip, saying so, where there is no redis-server.
"""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from tests.prefect_server import free_port

if TYPE_CHECKING:
    from redis import Redis

_START_LIMIT_S = 20.0


@dataclass
class RedisServer:
    """A server with its port and folder; both stay the same over restarts. Every write is on disk before it is confirmed."""

    folder: Path
    port: int = field(default_factory=free_port)
    password: str | None = None
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> SecretStr:
        user = f":{self.password}@" if self.password else ""
        return SecretStr(f"redis://{user}127.0.0.1:{self.port}/0")

    @property
    def client(self) -> "Redis":
        """A client of its own, as another program has one."""
        from redis import Redis

        return Redis(host="127.0.0.1", port=self.port, password=self.password, decode_responses=True)

    def start(self) -> None:
        """Start it, or start it again with what its file holds."""
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip("there is no redis-server on this machine")
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", ""]
        options += ["--appendonly", "yes", "--appendfsync", "always", "--daemonize", "no"]
        options += ["--requirepass", self.password] if self.password else []
        self.process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + _START_LIMIT_S
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"redis-server did not start on port {self.port}")
            time.sleep(0.02)

    def kill(self) -> None:
        """As `kill -9`: nothing is said, nothing is saved."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def _answers(self) -> bool:
        from redis.exceptions import RedisError

        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=0.2):
                return bool(self.client.ping())
        except (OSError, RedisError):
            return False


@contextmanager
def redis_server(folder: Path, password: str | None = None) -> Iterator[RedisServer]:
    """A running server, killed at the end."""
    server = RedisServer(folder, password=password)
    server.start()
    try:
        yield server
    finally:
        server.kill()
