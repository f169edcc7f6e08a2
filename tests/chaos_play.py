"""Blows at a desk and at everything around it, drawn from a seed; none of them may show in the ledger or in the Redis stream.

The code under test has no hook for any of this: stages raise because a strategy of the user's does, or because the exchange sends
rubbish, or because the lake's disk is gone; processes are killed.
"""

import json
import random
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from deployments.processes import ProcessId, descendants, end
from tests.emulator.faults import Fault
from tests.emulator.server import Emulator
from tests.monitor_play import Desk
from tests.prefect_server import start_server
from tests.redis_server import RedisServer

RUBBISH = ("nan", "negative", "crossed", "duplicate", "out_of_order", "truncate", "shape", "html", "empty")
_ANSWERS = ("http", "html", "drop", "truncate", "shape")


class Gate:
    """A door on loopback to a server: while it is shut, the server is as good as dead to those who use the door."""

    def __init__(self, target_url: str) -> None:
        """``target_url`` of the Prefect API."""
        parts = urlsplit(target_url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._target = (parts.hostname, parts.port)
        self._path = parts.path
        self._listener = self._listen(0)
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self._serve(self._listener)

    @property
    def url(self) -> str:
        """The API through the door."""
        return f"http://127.0.0.1:{self.port}{self._path}"

    def kill(self) -> None:
        """Cut every connection, and refuse new ones."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._open.clear()

    def start(self) -> None:
        """Let everybody in again."""
        self._listener = self._listen(self.port)
        self._serve(self._listener)

    def _listen(self, port: int) -> socket.socket:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(64)
        return listener

    def _serve(self, listener: socket.socket) -> None:
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
                server = socket.create_connection(self._target)
            except OSError:
                return
            self._open += [client, server]
            for source, target in ((client, server), (server, client)):
                threading.Thread(target=_pump, args=(source, target), daemon=True).start()


@dataclass(slots=True)
class OwnServer:
    """A Prefect server that can be killed, and started again on the same port with the same database."""

    folder: Path
    url: str = ""

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.folder.mkdir(exist_ok=True)
        self.url = start_server(self.folder, urlsplit(self.url).port if self.url else None)

    def kill(self) -> None:
        """kill -9 of it and what it started."""
        told = json.loads((self.folder / "server.json").read_text(encoding="utf-8"))
        end([ProcessId(told["pid"], told["started"]), *descendants(told["pid"])], signal.SIGKILL, 0.0)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    for one in (source, target):
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


@dataclass(slots=True)
class Chaos:
    """``prefect_dies`` and ``prefect_returns`` do that to the desk's Prefect server; ``told``: what was done, for a failing test.

    ``short_s`` is about how long something stays broken, in seconds.
    """

    desk: Desk
    exchange: Emulator
    redis: RedisServer
    prefect_dies: Callable[[], None]
    prefect_returns: Callable[[], None]
    chosen: random.Random
    short_s: float = 1.0
    told: list[str] = field(default_factory=list)

    def strike(self, blow: str) -> None:
        """One blow, by the name of one of ``BLOWS``; what it broke is whole again afterwards, or soon."""
        self.told.append(blow)
        BLOWS[blow](self)

    def kill_session(self) -> None:
        """kill -9 at any moment, and the next session at once or a little later."""
        time.sleep(self.chosen.uniform(0, self.short_s))
        self.desk.kill()
        time.sleep(self.chosen.choice((0, 0, self.short_s)))
        self.desk.start()

    def fail_exchange(self) -> None:
        """Requests, of one symbol or of all, are answered wrongly or not at all."""
        symbol = self.chosen.choice((None, self._symbol()))
        kind = self.chosen.choice(_ANSWERS)
        count = self.chosen.randint(1, 6)
        self.exchange.misbehave(Fault(kind, count=count, symbol=symbol, status=503 if kind == "http" else None))

    def stall_exchange(self) -> None:
        """One symbol's answers hang longer than anybody waits."""
        self.exchange.misbehave(Fault("hang", count=self.chosen.randint(1, 2), path="/klines", symbol=self._symbol(), seconds=5))

    def send_rubbish(self) -> None:
        """Candles of one symbol that cannot be."""
        kind, symbol = self.chosen.choice(RUBBISH), self._symbol()
        row = self.chosen.choice((0, -2))
        self.exchange.misbehave(Fault(kind, count=self.chosen.randint(1, 3), path="/klines", symbol=symbol, row=row))

    def raise_in_stage(self) -> None:
        """The strategy raises, for whatever symbols come next."""
        folder = self.desk.directory / "stumbles"
        folder.mkdir(exist_ok=True)
        for _ in range(self.chosen.randint(1, 4)):
            (folder / f"{time.monotonic_ns()}").touch()

    def kill_redis(self) -> None:
        """Redis dies, and is there again later."""
        self.redis.kill()
        time.sleep(self.short_s)
        self.redis.start()

    def lose_prefect(self) -> None:
        """The Prefect server is gone for a while."""
        self.prefect_dies()
        time.sleep(self.short_s)
        self.prefect_returns()

    def lose_lake(self) -> None:
        """The lake's folder is gone for a while, and something that is no folder in its place."""
        lake = self.desk.directory / "data" / "lake"
        aside = lake.with_name("lake-aside")
        if not lake.is_dir():
            return
        lake.rename(aside)
        lake.touch()
        time.sleep(self.short_s)
        lake.unlink()
        aside.rename(lake)

    def _symbol(self) -> str:
        return self.chosen.choice(self.desk.symbols).replace("/", "")


BLOWS: dict[str, Callable[[Chaos], None]] = {
    "kill_session": Chaos.kill_session,
    "fail_exchange": Chaos.fail_exchange,
    "stall_exchange": Chaos.stall_exchange,
    "send_rubbish": Chaos.send_rubbish,
    "raise_in_stage": Chaos.raise_in_stage,
    "kill_redis": Chaos.kill_redis,
    "lose_prefect": Chaos.lose_prefect,
    "lose_lake": Chaos.lose_lake,
}
