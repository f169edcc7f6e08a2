"""How a time range is cut into chunks: what is fetched, checked and kept at once, and is a checkpoint when it is done.

A chunk that is too small costs a transaction for little; one that is too large loses much when a process dies and asks for
much again when an answer fails. ``adaptive`` begins with a chunk that fits the timeframe (a week of 1m candles, thirty years
of 1d), halves it when an answer failed or came late, and doubles it after each that came at once. ``fixed`` stays.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, get_args

from candlewick.errors import UsageError
from candlewick.market_data.coverage import Coverage, Span
from candlewick.timeframes import DAY_MS, floor_to_bar, timeframe_ms

Strategy = Literal["adaptive", "fixed"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)

LEAST_BARS, MOST_BARS = 1_000, 30_000
"""Bars of the smallest and the largest chunk; the largest holds some 20 MB while it is fetched."""
_FIRST_SPAN_MS = 7 * DAY_MS
_FIRST_LEAST_BARS = 10_000


@dataclass(frozen=True, slots=True)
class ChunkSize:
    """How large the next chunk of a series is, in bars."""

    strategy: Strategy
    bars: int

    def after(self, *, smooth: bool) -> "ChunkSize":
        """The size after a chunk: ``smooth`` when all its answers came at the first asking.

        >>> ChunkSize("adaptive", 10_000).after(smooth=True).bars, ChunkSize("adaptive", 10_000).after(smooth=False).bars
        (20000, 5000)
        """
        if self.strategy == "fixed":
            return self
        bars = self.bars * 2 if smooth else self.bars // 2
        return replace(self, bars=max(LEAST_BARS, min(MOST_BARS, bars)))

    @property
    def is_least(self) -> bool:
        """Whether it gets no smaller."""
        return self.strategy == "fixed" or self.bars <= LEAST_BARS


def first_size(strategy: str, timeframe: str, fixed_bars: int | None = None) -> ChunkSize:
    """The size to begin with. ``fixed_bars`` are those of strategy ``fixed``. Raises UsageError for an unknown strategy or size.

    >>> first_size("adaptive", "1m").bars, first_size("adaptive", "1d").bars
    (10080, 10000)
    """
    if strategy not in STRATEGIES:
        raise UsageError(f"chunk strategy {strategy!r} is unknown: use one of {', '.join(STRATEGIES)}")
    if strategy == "fixed":
        bars = _FIRST_LEAST_BARS if fixed_bars is None else fixed_bars
        if not 1 <= bars <= MOST_BARS:
            raise UsageError(f"a chunk of {bars} bars is not possible: 1 to {MOST_BARS}")
        return ChunkSize("fixed", bars)
    if fixed_bars is not None:
        raise UsageError("a number of bars a chunk goes with the strategy fixed only")
    return ChunkSize("adaptive", max(_FIRST_LEAST_BARS, _FIRST_SPAN_MS // timeframe_ms(timeframe)))


def next_chunk(missing: Span, timeframe: str, size: ChunkSize) -> Span:
    """The beginning of a missing span that is fetched next; all of it where it is no longer than a chunk."""
    end_ms = missing.since_ms + size.bars * timeframe_ms(timeframe)
    return Span(missing.since_ms, min(end_ms, missing.until_ms))


def closed_span(since_ms: int, now_ms: int, timeframe: str) -> Span | None:
    """The bars that open at or after ``since_ms`` and are closed at ``now_ms``; None where there are none."""
    length_ms = timeframe_ms(timeframe)
    first_ms = floor_to_bar(since_ms + length_ms - 1, timeframe)
    end_ms = floor_to_bar(now_ms, timeframe)
    return Span(first_ms, end_ms) if first_ms < end_ms else None


def to_fetch(coverage: Coverage, wanted: Span | None) -> Iterator[Span]:
    """What is not covered of ``wanted``, in order of time."""
    yield from () if wanted is None else coverage.missing(wanted)
