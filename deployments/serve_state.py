"""What `make serve` leaves in `data/serve/`, so that a second one, or the one after a kill -9, knows where it stands."""

import fcntl
import json
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from candlewick.errors import CandlewickError
from candlewick.serving import read_serving, serving_file
from deployments.processes import ProcessId, descendants, end, is_running


class ServeError(CandlewickError):
    """`make serve` cannot start, or one of its processes died."""


@dataclass(frozen=True, slots=True)
class NamedProcess:
    """A child as it is remembered in the file."""

    name: str
    pid: int
    started: str


def state_directory(directory: Path) -> Path:
    """Logs, the lock and the list of processes."""
    return directory / "data" / "serve"


@contextmanager
def only_one(directory: Path) -> Iterator[None]:
    """Hold this checkout's serve lock. The system lets go of it when the process ends, however it ends. Raises ServeError."""
    path = state_directory(directory) / "lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("a")
    except OSError as problem:
        raise ServeError(f"cannot write to {path.parent}: {problem.strerror}") from problem
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ServeError(_already_running(directory)) from None
        yield


def _already_running(directory: Path) -> str:
    serving = read_serving(directory)
    if serving is None:
        return "make serve already runs here and is starting or stopping; wait, or stop it with Ctrl-C where it runs"
    return (
        f"make serve already runs here (process {serving.pid}): {serving.ui_url}; stop it first (Ctrl-C, or kill {serving.pid})"
    )


def remember(directory: Path, processes: Sequence[NamedProcess]) -> None:
    """Write down who runs, before anything can go wrong with them."""
    path = state_directory(directory) / "processes.json"
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps([asdict(process) for process in processes], indent=2) + "\n", encoding="utf-8")
    partial.replace(path)


def remembered(directory: Path) -> list[NamedProcess]:
    """Who ran when the list was last written; empty where it is absent or unreadable."""
    try:
        rows = json.loads((state_directory(directory) / "processes.json").read_text(encoding="utf-8"))
        return [NamedProcess(str(row["name"]), int(row["pid"]), str(row["started"])) for row in rows]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def clear_leftovers(directory: Path, moment_s: float = 10.0) -> list[NamedProcess]:
    """End what an earlier, killed serve of this checkout left running; returns what there was.

    A process counts only if its number *and* its start time are the remembered ones. Call with the lock held.
    """
    left = [process for process in remembered(directory) if is_running(ProcessId(process.pid, process.started))]
    family = [one for process in left for one in (*descendants(process.pid), ProcessId(process.pid, process.started))]
    end(family, signal.SIGTERM, moment_s)
    serving_file(directory).unlink(missing_ok=True)
    return left
