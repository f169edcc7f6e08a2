"""`make serve` as a process, in a working directory of its own (fixture `serve_process`), shared by the tests that can."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from candlewick.serving import Serving, read_serving
from deployments.processes import ProcessId, descendants, end
from tests.prefect_server import free_port

CHECKOUT = Path(__file__).resolve().parents[1]
START_LIMIT_S = 150.0
STOP_LIMIT_S = 60.0


def wait_for(condition: Callable[[], bool], limit_s: float, what: Callable[[], str]) -> None:
    """Poll until ``condition``; the bound only keeps a broken test from hanging."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {limit_s:g} s: {what()}"
        time.sleep(0.25)


def working_directory(folder: Path) -> Path:
    """A folder that looks like the checkout but has its own `data/`."""
    for entry in ("blocks", "candlewick", "deployments", "flows", "tasks", "prefect.yaml", "pyproject.toml"):
        (folder / entry).symlink_to(CHECKOUT / entry)
    return folder


@dataclass(slots=True)
class ServeProcess:
    """At most one `python -m deployments.serve` at a time, always in the same folder and on the same port."""

    directory: Path
    port: int
    process: subprocess.Popen[str] | None = None

    @property
    def output(self) -> str:
        return (self.directory / "out.txt").read_text(encoding="utf-8")

    def environment(self) -> dict[str, str]:
        """An empty home, and nothing about Prefect or Candlewick from whoever runs the tests."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "CANDLEWICK_"))}
        home = self.directory / "home"
        home.mkdir(exist_ok=True)
        return kept | {"HOME": str(home), "CANDLEWICK_SERVE__PORT": str(self.port), "PYTHONPATH": str(self.directory)}

    def launch(self) -> subprocess.Popen[str]:
        """Start a serve, without waiting for anything."""
        with (self.directory / "out.txt").open("w") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "deployments.serve"],
                cwd=self.directory,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )

    def running(self) -> Serving:
        """A healthy serve: the one that runs, or a new one."""
        if self.process is None or self.process.poll() is not None:
            self.process = self.launch()
        process = self.process
        wait_for(
            lambda: read_serving(self.directory) is not None or process.poll() is not None, START_LIMIT_S, lambda: self.output
        )
        serving = read_serving(self.directory)
        assert serving is not None, self.output
        return serving

    def family(self) -> list[ProcessId]:
        """The processes below serve."""
        assert self.process is not None
        return descendants(self.process.pid)

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Ask the running serve to stop; returns its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(STOP_LIMIT_S)

    def rows(self, path: str, body: dict[str, object]) -> list[dict[str, object]]:
        """A question to the server's REST API."""
        answer = httpx.post(f"http://127.0.0.1:{self.port}/api{path}", json=body, trust_env=False, timeout=10).raise_for_status()
        return list(answer.json())


@pytest.fixture(scope="session")
def serve_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    """A serve that tests start and stop as they need; ended at the end whatever happened."""
    serve = ServeProcess(working_directory(tmp_path_factory.mktemp("serve")), free_port())
    yield serve
    if serve.process is not None and serve.process.poll() is None:
        family = serve.family()
        serve.process.send_signal(signal.SIGINT)
        try:
            serve.process.wait(STOP_LIMIT_S)
        finally:
            serve.process.kill()
            end(family, signal.SIGKILL, 0.0)
