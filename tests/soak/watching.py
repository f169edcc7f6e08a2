"""What a session is seen to do from outside while it runs: memory, processes, and the moments at which its ledger is written."""

import bisect
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deployments.processes import descendants

_SAMPLE_S = 0.5
_LOOK_S = 0.01


@dataclass(frozen=True, slots=True)
class Sample:
    """At ``at_s`` (since 1970): of the session's process and those below it, their resident memory in MB, the time that they have
    computed (all cores together, in seconds), their number, and that of their threads."""

    at_s: float
    memory_mb: float
    computed_s: float
    processes: int
    threads: int


@dataclass
class Observer:
    """Looks at a process and its ledger until it is stopped, from two threads of this program."""

    pid: int
    ledger: Path
    samples: list[Sample] = field(default_factory=list)
    written_s: list[float] = field(default_factory=list)
    """When the ledger or its write-ahead log was written, as the file system says; sorted."""
    _ended: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> "Observer":
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._sample, self._look)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _sample(self) -> None:
        while not self._ended.wait(_SAMPLE_S):
            pids = [self.pid, *(one.pid for one in descendants(self.pid))]
            found = [one for one in map(_usage, pids) if one is not None]
            if found:
                memory, computed, threads = (sum(parts) for parts in zip(*found, strict=True))
                self.samples.append(Sample(time.time(), memory, computed, len(found), int(threads)))

    def _look(self) -> None:
        # The log is written by COMMIT, not before.
        files, last = [self.ledger, self.ledger.with_name(f"{self.ledger.name}.wal")], 0.0
        while not self._ended.wait(_LOOK_S):
            newest = max((_written_s(file) for file in files), default=0.0)
            if newest > last:
                last = newest
                self.written_s.append(newest)

    def first_write_after(self, at_s: float) -> float | None:
        """When the ledger was written first after a moment."""
        place = bisect.bisect_right(self.written_s, at_s)
        return self.written_s[place] if place < len(self.written_s) else None

    def computed_s(self, from_s: float, until_s: float) -> float:
        """How long the session has computed within a span."""
        within = [one.computed_s for one in self.samples if from_s <= one.at_s < until_s]
        return within[-1] - within[0] if within else 0.0

    def memory_mb(self, from_s: float, until_s: float) -> float | None:
        """The median of the memory within a span; None where it was not looked at."""
        return _median([one.memory_mb for one in self.samples if from_s <= one.at_s < until_s])


def _median(values: Sequence[float]) -> float | None:
    return sorted(values)[len(values) // 2] if values else None


def _usage(pid: int) -> tuple[float, float, int] | None:
    """Memory in MB, computing time in seconds, threads; None where the process is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
        ticks = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[11:13]
        computed_s = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6, computed_s, len(os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return None


def _written_s(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0
