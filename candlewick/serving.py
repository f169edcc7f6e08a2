"""Where the Prefect server of a running `make serve` is reached. Standard library only, so that asking costs nothing."""

import json
import os
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path

HEALTH_TIMEOUT_S = 1.0
# The server is on this machine: an HTTP proxy from the environment has no part in reaching it.
_LOCAL = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, slots=True)
class Serving:
    """One healthy `make serve`: its addresses, process id and start (ISO 8601, UTC)."""

    api_url: str
    ui_url: str
    pid: int
    started_at: str


def serving_file(directory: Path) -> Path:
    """Where `make serve`, started in ``directory``, says that it is healthy."""
    return directory / "data" / "serve.json"


def write_serving(directory: Path, serving: Serving) -> None:
    """Put ``serving`` in its place in one step, so that a reader never meets half a file."""
    path = serving_file(directory)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(asdict(serving), indent=2) + "\n", encoding="utf-8")
    partial.replace(path)


def read_serving(directory: Path) -> Serving | None:
    """What the file says, whether or not it is still true; None where there is no file or it is not ours."""
    try:
        document: object = json.loads(serving_file(directory).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(document, dict):
        return None
    api_url, ui_url, pid, started_at = (document.get(name) for name in ("api_url", "ui_url", "pid", "started_at"))
    if isinstance(api_url, str) and isinstance(ui_url, str) and isinstance(pid, int) and isinstance(started_at, str):
        return Serving(api_url, ui_url, pid, started_at)
    return None


def running_api_url(directory: Path) -> str | None:
    """Address of the Prefect API that `make serve` runs for ``directory``; None when none runs or answers within a second."""
    serving = read_serving(directory)
    if serving is None or not _is_alive(serving.pid) or not answers(serving.api_url):
        return None
    return serving.api_url


def answers(api_url: str, timeout_s: float = HEALTH_TIMEOUT_S) -> bool:
    """Whether a Prefect API says that it is healthy."""
    try:
        with _LOCAL.open(f"{api_url}/health", timeout=timeout_s) as response:
            return bool(response.status == 200 and response.read(16).strip() == b"true")
    except (OSError, ValueError, urllib.error.URLError):
        return False


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
