"""Starting and stopping the processes that `make serve` looks after. POSIX only, as the rest of `make`."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
# Loaded before any fork: a child between fork and exec must not import anything.
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform.startswith("linux") else None
_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process by number and start time, because numbers are used again."""

    pid: int
    started: str


@dataclass(frozen=True, slots=True)
class Child:
    """A process of ours, leader of its own session; what it prints goes to ``log``."""

    name: str
    process: subprocess.Popen[bytes]
    identity: ProcessId
    log: Path


def adopt_orphans() -> None:
    """Make processes whose parent dies children of this one (Linux), so that they are found when it is time to stop."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def start_child(
    name: str,
    command: Sequence[str],
    environment: Mapping[str, str],
    directory: Path,
    log: Path,
    *,
    dies_with_parent: bool = True,
) -> Child:
    """Start ``command`` in a session of its own, so that the terminal's Ctrl-C does not reach it: we stop it, in order.

    ``dies_with_parent``: it is asked to end when this process is killed (Linux).
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env=dict(environment),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_die_with_parent if dies_with_parent and _LIBC is not None else None,
        )
    return Child(name, process, ProcessId(process.pid, started_at(process.pid) or ""), log)


def _die_with_parent() -> None:
    # SIGTERM, not SIGKILL: a worker that is asked to go takes its flow runs with it.
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def started_at(pid: int) -> str | None:
    """When a process started, in the system's own words; None when it is gone or has ended and only awaits its parent."""
    if Path("/proc/self/stat").exists():
        fields = _proc_stat(pid)
        return None if fields is None or fields[0] in "ZX" else fields[19]
    words = _ps("-o", "state=,lstart=", "-p", str(pid)).split(None, 1)
    return None if len(words) < 2 or words[0].startswith("Z") else words[1].strip()


def is_running(identity: ProcessId) -> bool:
    """Whether that very process still runs (not another one that got its number)."""
    return identity.started != "" and started_at(identity.pid) == identity.started


def descendants(pid: int) -> list[ProcessId]:
    """Children, their children and so on, nearest first."""
    children: dict[int, list[int]] = {}
    for child, parent in _parents():
        children.setdefault(parent, []).append(child)
    found: list[ProcessId] = []
    queue = list(children.get(pid, ()))
    while queue:
        child = queue.pop(0)
        started = started_at(child)
        if started is not None:
            found.append(ProcessId(child, started))
        queue.extend(children.get(child, ()))
    return found


def send(identities: Iterable[ProcessId], signal_number: signal.Signals) -> None:
    """Signal those of ``identities`` that still run."""
    for identity in identities:
        if is_running(identity):
            try:
                os.kill(identity.pid, signal_number)
            except ProcessLookupError:
                continue  # it ended between the look and the signal: what was wanted


def wait_gone(identities: Sequence[ProcessId], timeout_s: float) -> list[ProcessId]:
    """Wait until none of ``identities`` runs; returns those that still do when the time is up."""
    deadline = time.monotonic() + timeout_s
    while True:
        left = [identity for identity in identities if is_running(identity)]
        if not left or time.monotonic() >= deadline:
            return left
        time.sleep(_POLL_S)


def end(identities: Sequence[ProcessId], first: signal.Signals, moment_s: float) -> None:
    """Ask with ``first``, give it a moment, then SIGKILL. Raises nothing: after SIGKILL there is nothing left to do."""
    send(identities, first)
    left = wait_gone(identities, moment_s)
    send(left, signal.SIGKILL)
    wait_gone(left, 5.0)


def _parents() -> list[tuple[int, int]]:
    """(process, parent) of every process that can be seen."""
    if not Path("/proc/self/stat").exists():
        rows = (line.split() for line in _ps("-A", "-o", "pid=,ppid=").splitlines())
        return [(int(row[0]), int(row[1])) for row in rows if len(row) == 2]
    pairs = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := _proc_stat(int(entry))) is not None:
            pairs.append((int(entry), int(fields[1])))
    return pairs


def _proc_stat(pid: int) -> list[str] | None:
    """Fields of /proc/PID/stat after the command's name (which may itself hold spaces and brackets)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    return text.rpartition(")")[2].split()


def _ps(*arguments: str) -> str:
    return subprocess.run(["ps", *arguments], capture_output=True, text=True, check=False).stdout
