"""Which process computes a run, so that the run of a dead one can be told from one that takes long."""

import os
import socket
from datetime import datetime, timedelta
from pathlib import Path

PATIENCE_ELSEWHERE = timedelta(days=1)
"""How long a run of another machine counts as living: nobody here can look."""
_DEAD = ("Z", "X")


def this_process() -> str:
    """`<host> <pid> <start>`: a pid is used again after a while, with another start."""
    return f"{socket.gethostname()} {os.getpid()} {_start(os.getpid()) or ''}".rstrip()


def is_alive(process: str | None, since: datetime, now: datetime) -> bool:
    """Whether the process that ``this_process`` named ``since`` then still runs ``now``."""
    if not process:
        return False
    host, pid, *start = process.split(" ")
    if host != socket.gethostname():
        return now - since < PATIENCE_ELSEWHERE
    found = _start(int(pid))
    return found is not None and found == "".join(start)


def _start(pid: int) -> str | None:
    """When the process started, in the kernel's ticks; empty where the system does not tell, None where it is dead."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None if Path("/proc/self/stat").exists() or not _answers(pid) else ""
    state, *numbers = text[text.rindex(")") + 2 :].split()
    return None if state in _DEAD else numbers[18]


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
