"""One Prefect server for all tests of a session, whatever their number of processes (fixture `prefect_server`).

The first test that asks starts it, on loopback with a database of its own; the process that began the session stops it.
conftest.py takes the fixture and the two hooks from here.
"""

import fcntl
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from candlewick.serving import answers

_FOLDER_VARIABLE = "PREFECT_TEST_SERVER_FOLDER"
_START_LIMIT_S = 120.0
_BUSY_TRIES = 40
_BUSY_WAIT_S = 0.5


class Patient(httpx.HTTPTransport):
    """Asks again while the server says 503: its SQLite was busy, and it means "again". Prefect's own client does the same."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """The first answer that is not 503, or the last one."""
        for _ in range(_BUSY_TRIES):
            response = super().handle_request(request)
            if response.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            response.close()
            time.sleep(_BUSY_WAIT_S)
        return response


def api_client(url: str) -> httpx.Client:
    """For questions to a Prefect API that tests keep busy."""
    return httpx.Client(base_url=url, transport=Patient(), timeout=30)


def pytest_configure(config: pytest.Config) -> None:
    """Name the folder that all processes of this session share; xdist's workers inherit it."""
    if not hasattr(config, "workerinput"):
        os.environ[_FOLDER_VARIABLE] = tempfile.mkdtemp(prefix="candlewick-tests-")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the server, if any test started it, and remove its folder. Workers are gone by then."""
    if hasattr(config, "workerinput"):
        return
    from deployments.processes import ProcessId, end

    folder = Path(os.environ.pop(_FOLDER_VARIABLE))
    state = folder / "server.json"
    if state.exists():
        server = json.loads(state.read_text(encoding="utf-8"))
        end([ProcessId(server["pid"], server["started"])], signal.SIGTERM, 8.0)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[str]:
    """Address of the session's Prefect API, which `prefect` in this process and in its children uses meanwhile."""
    folder = Path(os.environ[_FOLDER_VARIABLE])
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        url = _running_server(folder) or start_server(folder)
    from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

    home = folder / "home"
    with (
        pytest.MonkeyPatch.context() as patch,
        temporary_settings({PREFECT_API_URL: url, PREFECT_HOME: home}),
    ):
        for name, value in {"PREFECT_API_URL": url, "PREFECT_HOME": str(home), "DO_NOT_TRACK": "1"}.items():
            patch.setenv(name, value)
        yield url
        _send_what_waits()


def _send_what_waits() -> None:
    """Logs and events that are still to be sent: at the interpreter's exit the server is gone, and that is tried for a minute."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for worker in (EventsWorker, APILogWorker):
        worker.drain_all(timeout=20)


def free_port() -> int:
    """A port on loopback that nobody has at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _running_server(folder: Path) -> str | None:
    try:
        return str(json.loads((folder / "server.json").read_text(encoding="utf-8"))["url"])
    except FileNotFoundError:
        return None


def start_server(folder: Path, port: int | None = None) -> str:
    """Start a server whose database is in ``folder``, on any free port where none is given; its address, once it answers."""
    from deployments.prefect_environment import api_url, prefect_environment
    from deployments.processes import start_child

    port = port or free_port()
    environment = prefect_environment(folder, port) | {"PREFECT_HOME": str(folder / "server")}
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    child = start_child("server", command, environment, folder, folder / "server.log", dies_with_parent=False)
    state = {"pid": child.identity.pid, "started": child.identity.started, "url": api_url(port)}
    (folder / "server.json").write_text(json.dumps(state), encoding="utf-8")
    deadline = time.monotonic() + _START_LIMIT_S
    while not answers(api_url(port)):
        if child.process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"the test server did not start:\n{child.log.read_text(encoding='utf-8')[-2000:]}")
        time.sleep(0.2)
    return api_url(port)
