"""`make dashboard`: the live page of a desk on this machine, until Ctrl-C.

    python -m deployments.dashboard        # settings: monitoring.dashboard_port, monitoring.account, store.url, lake.url

It only reads: beside a running session, before the first one, and after one that crashed. Exit codes: 0 after Ctrl-C or
SIGTERM, 1 when the port is taken, 2 for wrong settings.
"""

import signal
import socket
import sys
from types import FrameType

from candlewick.errors import CandlewickError, PortInUse
from candlewick.settings import Settings, load_settings

HOST = "127.0.0.1"
# How long a look waits for a session's commit before the page says that it waits.
LOCK_TIMEOUT_S = 3.0


def main() -> int:
    """Serve the page until asked to stop; the exit code."""
    try:
        settings = load_settings()
        listening = listen(settings.monitoring.dashboard_port)
    except CandlewickError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    serve(settings, listening)
    return 0


def listen(port: int) -> socket.socket:
    """The page's socket on loopback. Raises PortInUse."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
        listening.listen()
    except OSError as error:
        listening.close()
        raise PortInUse(
            f"monitoring.dashboard_port: port {port} of {HOST} is taken ({error.strerror}); a live page may run already, "
            "or set another port"
        ) from error
    return listening


def serve(settings: Settings, listening: socket.socket) -> None:
    """Serve the desk of the settings on a socket until Ctrl-C or SIGTERM."""
    from candlewick.lake_opening import open_lake
    from candlewick.store.database import Database
    from deployments.dashboard.bars import CandleReader
    from deployments.dashboard.reading import DeskReader
    from deployments.dashboard.server import PageServer
    from deployments.dashboard.watch import Watch

    database = Database(settings.store.url, min(LOCK_TIMEOUT_S, settings.store.lock_timeout_s))
    watch = Watch(DeskReader(database, settings.monitoring.account), CandleReader(database, open_lake(settings.lake)))
    print(
        f"The live page of desk {settings.monitoring.account}: http://{HOST}:{listening.getsockname()[1]}  (Ctrl-C ends it)",
        flush=True,
    )
    # uvicorn ends orderly on a signal, and then raises it again for whoever was asked before: that is nobody here.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end_quietly)
    PageServer(watch).run(sockets=[listening])


def _end_quietly(number: int, frame: FrameType | None) -> None:
    """The server has ended already."""


if __name__ == "__main__":
    raise SystemExit(main())
