"""How far a download is: rows, span, rate and time left, for a terminal's line and a progress artifact."""

from dataclasses import dataclass, field

from candlewick.market_data.coverage import Span
from candlewick.timeframes import format_duration, format_utc


@dataclass(slots=True)
class Progress:
    """What all series of a download have done together. Times of the clock are seconds that the caller brings.

    The time left follows the span that is done, not the rows: how many rows there will be nobody knows before.
    """

    started_s: float
    wanted_ms: int = 0
    done_ms: int = 0
    rows: int = 0
    requests: int = 0
    latest: str = ""
    _finished: int = field(default=0)
    series: int = 0

    def expect(self, spans: tuple[Span, ...]) -> None:
        """Count a series and what is to be fetched of it."""
        self.series += 1
        self.wanted_ms += sum(span.length_ms for span in spans)

    def advance(self, name: str, span: Span, rows: int, requests: int) -> None:
        """A chunk of ``name`` is done."""
        self.done_ms += span.length_ms
        self.rows += rows
        self.requests += requests
        self.latest = f"{name} until {format_utc(span.until_ms)}"

    def skip(self, length_ms: int) -> None:
        """So much needs no fetching after all (before a listing, or given up)."""
        self.done_ms += length_ms

    @property
    def share(self) -> float:
        """Part of the wanted span that is done, 0 to 1."""
        return 1.0 if self.wanted_ms == 0 else min(1.0, self.done_ms / self.wanted_ms)

    def left_s(self, now_s: float) -> float | None:
        """Seconds left at the pace so far; None while there is no pace."""
        if self.done_ms == 0 or self.wanted_ms == 0:
            return None
        return (now_s - self.started_s) * max(0, self.wanted_ms - self.done_ms) / self.done_ms

    def text(self, now_s: float) -> str:
        """One line: rows, how far, rate, time left."""
        passed_s = max(now_s - self.started_s, 1e-3)
        left_s = self.left_s(now_s)
        parts = [f"{self.rows:,} rows", f"{self.share:.0%}", f"{self.rows / passed_s:,.0f} rows/s"]
        if left_s is not None and self.share < 1:
            parts.append(f"{duration_text(left_s)} left")
        return ", ".join([*parts, self.latest]) if self.latest else ", ".join(parts)


def duration_text(seconds: float) -> str:
    """`45 s`, `3m`, `2h 10m`: as exact as anyone wants to know.

    >>> duration_text(45.2), duration_text(200), duration_text(7_900)
    ('45 s', '3m', '2h 11m')
    """
    return f"{seconds:.0f} s" if seconds < 90 else format_duration(int(seconds / 60) * 60_000)
