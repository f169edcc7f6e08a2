"""Locks between processes (and threads): a fair queue before the ledger, and one cycle per account.

Both are `flock` on small files beside the ledger. The kernel lets go of a dead process's locks, so kill -9 wedges nothing
and there is no stale lock to clean up by hand. They hold on one machine, as DuckDB's own file lock does.

The queue works like tickets at a counter (after the CLH queue lock of Craig, Landin and Hagersten): a waiter draws the next
number as a file it keeps locked, then waits for the highest lower number to let go, until there is no lower number. Every
waiter looks at one file only, so eight waiters do not stampede, and arrivals are served in order. A refused DuckDB open
costs far more than this wait, which is why the queue stands before it.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from candlewick.errors import LedgerBusy

_FIRST_PAUSE_S = 0.0005
_LONGEST_PAUSE_S = 0.005
_RECORD_BYTES = 64


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lock, as far as its file tells; ``since`` is in UTC. None where the holder has not written it yet."""

    pid: int | None
    since: datetime | None

    def __str__(self) -> str:
        if self.pid is None or self.since is None:
            return "another process"
        here = " (this process)" if self.pid == os.getpid() else ""
        return f"process {self.pid}{here} since {self.since:%Y-%m-%d %H:%M:%S} UTC"


@dataclass(frozen=True, slots=True)
class Turn:
    """A granted turn in the queue. ``number`` is the ticket, ``waited_s`` how long it took."""

    number: int
    waited_s: float


class HeldLock:
    """A lock that `try_lock` obtained. A context manager; `release` may be called once or more."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    def release(self) -> None:
        """Let go. Explicitly unlocked, because a forked child may hold a copy of the descriptor."""
        if self._descriptor is not None:
            _let_go(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> "HeldLock":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def try_lock(path: Path) -> HeldLock | Holder:
    """The lock, or who holds it; never waits. Creates the folder. Raises OSError where the folder cannot be written.

    Threads of one process exclude each other as processes do.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _open(path)
    if not _locked(descriptor):
        holder = _read_holder(descriptor)
        os.close(descriptor)
        return holder
    _write_holder(descriptor)
    return HeldLock(descriptor)


@contextmanager
def fair_lock(path: Path, timeout_s: float) -> Iterator[Turn]:
    """Exclusive turn at ``path``, in order of arrival. Files: ``<path>`` and ``<path>.queue/``; the folder must exist.

    Raises LedgerBusy naming the holder after ``timeout_s``, OSError where the folder cannot be written. Not re-entrant.
    """
    queue = path.with_name(path.name + ".queue")
    started = time.monotonic()
    number, descriptor = _draw_ticket(path, queue, timeout_s)
    try:
        _wait_for_lower_tickets(queue, number, started, timeout_s)
        _write_holder(descriptor)
        yield Turn(number, time.monotonic() - started)
    finally:
        # Unlink before letting go: who comes next either finds no file, or holds an open one that is unlocked now.
        _ticket_path(queue, number).unlink(missing_ok=True)
        _let_go(descriptor)


def queue_length(path: Path) -> int:
    """How many hold or wait for `fair_lock(path)`; tickets of the dead count until a successor clears them."""
    queue = path.with_name(path.name + ".queue")
    return len(_tickets(queue)) if queue.is_dir() else 0


def _draw_ticket(path: Path, queue: Path, timeout_s: float) -> tuple[int, int]:
    """The next number and its locked file. Created and locked under a mutex: nobody sees a live ticket unlocked."""
    started = time.monotonic()
    mutex = _open(path)
    try:
        if not _lock_before(mutex, started + timeout_s):
            raise LedgerBusy(f"{path} could not be locked: waited {time.monotonic() - started:.1f} s (limit {timeout_s} s)")
        queue.mkdir(exist_ok=True)
        number = max(_tickets(queue), default=0) + 1
        descriptor = _open(_ticket_path(queue, number))
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return number, descriptor
    finally:
        _let_go(mutex)


def _wait_for_lower_tickets(queue: Path, number: int, started: float, timeout_s: float) -> None:
    """Returns once every lower ticket was let go, by its owner's release or death."""
    while lower := [ticket for ticket in _tickets(queue) if ticket < number]:
        path = _ticket_path(queue, max(lower))
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # released between the listing and the open
        granted = _lock_before(descriptor, started + timeout_s)
        if granted:
            path.unlink(missing_ok=True)
        _let_go(descriptor)
        if not granted:
            raise LedgerBusy(_busy_text(queue, lower, started, timeout_s))


def _busy_text(queue: Path, lower: list[int], started: float, timeout_s: float) -> str:
    holder = Holder(None, None)
    try:
        descriptor = os.open(_ticket_path(queue, min(lower)), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        descriptor = None  # let go at this very moment; the wait was too long all the same
    if descriptor is not None:
        holder = _read_holder(descriptor)
        os.close(descriptor)
    name = queue.name.removesuffix(".lock.queue")
    return (
        f"ledger {name} is busy: held by {holder}, {len(lower)} in the queue before this process, "
        f"waited {time.monotonic() - started:.1f} s (limit {timeout_s} s). Run it again, or raise the lock time-out"
    )


def _lock_before(descriptor: int, deadline: float) -> bool:
    """Tries until ``deadline`` (time.monotonic). Polls, because flock itself has no time-out that threads could use."""
    pause_s = _FIRST_PAUSE_S
    while not _locked(descriptor):
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            return False
        time.sleep(min(pause_s, left_s))
        pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)
    return True


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _let_go(descriptor: int) -> None:
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)


def _tickets(queue: Path) -> list[int]:
    return [int(name) for name in os.listdir(queue) if name.isdigit()]


def _ticket_path(queue: Path, number: int) -> Path:
    return queue / str(number)


def _write_holder(descriptor: int) -> None:
    """One write of a fixed length, so that a reader sees the old holder or the new one and nothing between."""
    text = f"{os.getpid()} {datetime.now(UTC).isoformat()}"
    os.pwrite(descriptor, text.ljust(_RECORD_BYTES).encode(), 0)


def _read_holder(descriptor: int) -> Holder:
    words = os.pread(descriptor, _RECORD_BYTES, 0).decode().split()
    if len(words) != 2:
        return Holder(None, None)
    return Holder(int(words[0]), datetime.fromisoformat(words[1]))
