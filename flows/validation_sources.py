"""Which two series a validation compares: the other source's symbol, what the lake lacks of both, and the span."""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

from candlewick.announcing import announce
from candlewick.candles import Series
from candlewick.errors import MarketUnavailable, UnknownSymbol, UsageError
from candlewick.lake import Lake
from candlewick.market_data.coverage import Span
from candlewick.quality.request import Comparing, candidates
from candlewick.timeframes import DAY_MS, floor_to_bar, format_utc, timeframe_ms
from candlewick.windows import FetchPlan, plan_fetch
from tasks.candles import fetch_candles
from tasks.market import FILES, MarketAccess, read_clock, read_instruments
from tasks.patience import patient

MAX_BARS = 550_000
"""Bars that one comparison holds in memory (some 250 MB): the newest of the span. 62 years of hours, a year of minutes."""
FETCH_BARS = 50_000
"""Bars that are fetched in one piece."""


class ReachedSource:
    """A source with its market. Not a dataclass: Prefect would search a task's dataclass arguments for futures."""

    def __init__(self, access: MarketAccess, symbol: str, timeframe: str) -> None:
        self.access = access
        self.symbol = symbol
        self.series: Series = access.market.series(symbol, timeframe)

    @property
    def fingerprint(self) -> str | None:
        """What the whole source is, where it can change as a whole (files). Raises UnknownSymbol, AmbiguousCandles."""
        return self.access.market.fingerprint(self.symbol, self.series.timeframe)


@dataclass(frozen=True, slots=True)
class FoundSources:
    """Both sources; ``taken`` says which symbol was taken of the other where it is not ours."""

    ours: ReachedSource
    other: ReachedSource
    taken: str | None


def source_names(ours: str, other: str) -> tuple[str, str]:
    """What a reader calls two markets: the exchange of `files:DIR#EXCHANGE`, the folder of `files:DIR`; in full where they agree.

    >>> source_names("binance", "files:../data/candles#bitstamp")
    ('binance', 'bitstamp')
    >>> source_names("binance", "files:data#binance")
    ('binance', 'files:data#binance')
    """
    short = [name.rpartition("#")[2] if "#" in name else name for name in (ours, other)]
    short = [f"{FILES}{Path(name.removeprefix(FILES)).name}" if name.startswith(FILES) else name for name in short]
    return (ours, other) if short[0] == short[1] else (short[0], short[1])


async def find_other(lake: Lake, access: MarketAccess, asked: Comparing) -> tuple[ReachedSource, str | None]:
    """The other source, and what is to be said where another symbol than ours was taken.

    A symbol that the lake has is taken before the market is asked for it. Raises UnknownSymbol naming what was tried,
    MarketUnavailable, AmbiguousCandles.
    """
    if asked.against_symbol is not None:
        return ReachedSource(access, asked.against_symbol, asked.timeframe), None
    tried = candidates(asked.symbol)
    for symbol in tried:
        source = ReachedSource(access, symbol, asked.timeframe)
        if await asyncio.to_thread(lake.span, source.series) is not None or await _is_offered(source):
            return source, None if symbol == asked.symbol else f"{asked.against} has no {asked.symbol}: {symbol} was taken"
    raise UnknownSymbol(
        f"{asked.against} has no {asked.timeframe} candles of {', '.join(tried)}: name its symbol with --against-symbol"
    )


async def _is_offered(source: ReachedSource) -> bool:
    try:
        if source.fingerprint is None:
            await patient(read_instruments, source.access)(source.access, (source.symbol,))
    except UnknownSymbol:
        return False
    return True


async def complete_source(
    lake: Lake, source: ReachedSource, span: tuple[int | None, int | None], history_days: int
) -> str | None:
    """Fetch what the lake lacks of ``span`` (None: what the lake has; else history_days before now). Says what was not asked.

    Files are copied as a whole. Raises MarketUnavailable where the lake has nothing of the series, UnknownSymbol, UsageError,
    InvalidCandles, LakeError.
    """
    there = await asyncio.to_thread(lake.span, source.series)
    try:
        if source.fingerprint is not None:
            await _copy(lake, source, span[1])
            return None
        await _fetch_missing(lake, source, span, there, history_days)
    except MarketUnavailable as error:
        if there is None:
            raise
        return f"{source.access.market.name} was not asked for more, the lake's candles are compared: {error}"
    return None


async def _copy(lake: Lake, source: ReachedSource, until_ms: int | None) -> None:
    now_ms = round(time.time() * 1000) if until_ms is None else until_ms
    plan = await asyncio.to_thread(plan_fetch, lake, source.series, 0, now_ms, source.fingerprint)
    await fetch_candles.with_options(refresh_cache=True)(source.access, plan, lake)


async def _fetch_missing(
    lake: Lake, source: ReachedSource, span: tuple[int | None, int | None], there: tuple[int, int] | None, history_days: int
) -> None:
    series, length_ms = source.series, timeframe_ms(source.series.timeframe)
    since_ms, until_ms = span
    if there is not None:
        since_ms = there[0] if since_ms is None else since_ms
        until_ms = there[1] + length_ms if until_ms is None else until_ms
    covered = await asyncio.to_thread(lake.coverage, series)
    if since_ms is not None and until_ms is not None and (since_ms >= until_ms or covered.covers(Span(since_ms, until_ms))):
        return
    clock = await patient(read_clock, source.access)(source.access, until_ms)
    end_ms = floor_to_bar(clock.now_ms, series.timeframe)
    first_ms = floor_to_bar((end_ms - history_days * DAY_MS if since_ms is None else since_ms) + length_ms - 1, series.timeframe)
    if first_ms >= end_ms:
        return
    for missing in covered.missing(Span(first_ms, end_ms)):
        for start_ms in range(missing.since_ms, missing.until_ms, FETCH_BARS * length_ms):
            piece = Span(start_ms, min(missing.until_ms, start_ms + FETCH_BARS * length_ms))
            announce(f"fetching from {source.access.market.name}: {series.symbol} {series.timeframe}, {piece}")
            plan = FetchPlan(series, piece.since_ms, piece.until_ms)
            await patient(fetch_candles.with_options(refresh_cache=True), source.access)(source.access, plan, lake)
            await asyncio.to_thread(lake.cover, series, piece)


async def compared_span(lake: Lake, ours: ReachedSource, asked: Comparing) -> tuple[Span, str | None]:
    """What of our series is compared, and what is to be said where it is more than is held in memory. Raises UsageError."""
    there = await asyncio.to_thread(lake.span, ours.series)
    if there is None:
        raise UsageError(f"{asked.market} has no {asked.timeframe} candles of {asked.symbol} in the span asked for")
    length_ms = timeframe_ms(asked.timeframe)
    since_ms = max(there[0], asked.since_ms or there[0])
    until_ms = min(there[1] + length_ms, asked.until_ms or there[1] + length_ms)
    if since_ms >= until_ms:
        raise UsageError(
            f"{asked.market} {asked.symbol} {asked.timeframe} has candles from {format_utc(there[0])} to {format_utc(there[1])}: "
            "none in the span asked for"
        )
    if until_ms - since_ms <= MAX_BARS * length_ms:
        return Span(since_ms, until_ms), None
    span = Span(until_ms - MAX_BARS * length_ms, until_ms)
    return span, f"only the newest {MAX_BARS:,} bars are compared, {span}: name another span with --since and --until"
