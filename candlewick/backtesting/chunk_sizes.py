"""How a search is cut: chunks of about a second, so that a crash loses one and Prefect's task costs little beside it."""

import math
from dataclasses import dataclass

CHUNK_S = 2.0
"""Seconds of work that a chunk aims at."""
SMALLEST, LARGEST = 4, 4096
"""Sets in a chunk: the least keeps both ends of a search on all processors, the most bounds what is in memory at once."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long one set takes, wall-clock, with ``threads`` sets at once."""

    set_s: float
    threads: int

    def expected_s(self, sets: int) -> float:
        """Seconds for so many sets."""
        return sets * self.set_s / self.threads

    def chunk_size(self) -> int:
        """The power of two whose sets take about CHUNK_S."""
        wanted = CHUNK_S * self.threads / max(self.set_s, 1e-9)
        return min(LARGEST, max(SMALLEST, 1 << math.floor(math.log2(max(wanted, 1.0)))))


@dataclass(frozen=True, slots=True)
class Progress:
    """Sets that are done of those planned, ``kept`` of them taken from finished chunks, after ``elapsed_s`` of computing."""

    done: int
    planned: int
    kept: int
    elapsed_s: float

    @property
    def sets_per_s(self) -> float:
        """Computed sets a second; 0 before the first."""
        return (self.done - self.kept) / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def share(self) -> float:
        """Between 0 and 1."""
        return self.done / self.planned if self.planned else 1.0

    def text(self) -> str:
        """``512 of 1,000 sets, 480 sets/s, 1 s left``."""
        parts = [f"{self.done:,} of {self.planned:,} sets"]
        if self.kept:
            parts[0] += f" ({self.kept:,} from finished chunks)"
        if self.sets_per_s > 0:
            parts += [f"{_rate(self.sets_per_s)} sets/s", f"{seconds_text((self.planned - self.done) / self.sets_per_s)} left"]
        return ", ".join(parts)


def _rate(sets_per_s: float) -> str:
    return f"{sets_per_s:,.0f}" if sets_per_s >= 10 else f"{sets_per_s:.2g}"


def seconds_text(seconds: float) -> str:
    """``47 s``, ``3 min 05 s``, ``2 h 10 min``: rounded up."""
    whole = math.ceil(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60:02d} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60:02d} min"
