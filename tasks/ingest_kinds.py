"""Funding, open interest and trades of one series: fetched, kept, and their times counted as covered last."""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl
from prefect import task
from prefect.cache_policies import NO_CACHE

from blocks.exchange_answers import collecting_answers
from blocks.exchange_market import ExchangeMarket
from candlewick.candles import RawPage, Series
from candlewick.errors import CandlesNotKept, UsageError
from candlewick.funding_lake import FundingPlan, append_funding, funding_fingerprint, revised_funding
from candlewick.market_data.coverage import Span
from candlewick.market_data.kinds import DataSeries
from candlewick.market_data.rows import DataChunk
from candlewick.timeframes import DAY_MS, format_utc, timeframe_ms, utc
from tasks.candles import keep_pages
from tasks.funding import fetch_funding
from tasks.ingest import Keeping
from tasks.market import MarketAccess
from tasks.patience import patient

# What is asked for at once: funding comes three times a day, trades by the thousand.
_CHUNK_MS = {"funding_rate": 3_650 * DAY_MS, "open_interest": 30 * DAY_MS, "trades": DAY_MS // 4}
_TIME_COLUMN = {"funding_rate": "funding_at", "open_interest": "opened_at", "trades": "traded_at"}
_END_OF_TIME_MS = 253_402_300_800_000
_LATE_MS = DAY_MS // 2
"""How late a payment or a reading may come: what is younger and absent is asked for again."""


Watch = Callable[[tuple[Span, ...], Span | None, int, int], Awaitable[None]]
"""Told of what is missing, and of a finished chunk with its rows and requests."""


@dataclass(frozen=True, slots=True)
class EventsDone:
    """What became of a series that is no candles."""

    added: int = 0
    requests: int = 0
    chunks: int = 0
    notes: tuple[str, ...] = ()


async def fetch_events(
    access: MarketAccess, keeping: Keeping, series: DataSeries, wanted: Span, now_ms: int, told: Watch
) -> EventsDone:
    """Fetch what the lake lacks of a series that is no candles. ``now_ms`` is the market's clock.

    ``told`` hears what is missing first, and then of each chunk what was added and asked.

    Raises UsageError where the market does not offer it.
    """
    if not isinstance(access.market, ExchangeMarket):
        return await _copy_funding(access, keeping, series)
    step_ms = timeframe_ms(series.timeframe) if series.timeframe else 1
    end_ms = wanted.until_ms // step_ms * step_ms
    coverage = await asyncio.to_thread(keeping.lake.coverage, series)
    missing = coverage.missing(Span(wanted.since_ms, end_ms)) if wanted.since_ms < end_ms else ()
    await told(missing, None, 0, 0)
    added, requests, chunks = 0, 0, 0
    notes: list[str] = []
    for span in missing:
        since = span.since_ms
        while since < span.until_ms:
            chunk = Span(since, min(since + _CHUNK_MS[series.kind], span.until_ms))
            try:
                rows, asked = await patient(fetch_event_chunk, access)(access, keeping, series, chunk, now_ms)
            except CandlesNotKept as gone:
                if gone.first_ms <= since:
                    raise
                notes.append(f"{series.market} keeps its newest {series.kind} only, from {format_utc(gone.first_ms)} on")
                since = -(-gone.first_ms // step_ms) * step_ms
                continue
            await told((), chunk, rows, asked)
            added, requests, chunks, since = added + rows, requests + asked, chunks + 1, chunk.until_ms
    return EventsDone(added, requests, chunks, tuple(notes))


@task(
    name="fetch-events",
    task_run_name="fetch {series.symbol} {series.part} {span}",
    cache_policy=NO_CACHE,
    timeout_seconds=1800,
)
async def fetch_event_chunk(
    access: MarketAccess, keeping: Keeping, series: DataSeries, span: Span, now_ms: int
) -> tuple[int, int]:
    """Fetch a span of funding, open interest or trades into the lake; rows added and requests made.

    Raises MarketUnavailable, RateLimited, UsageError, InvalidFunding, LakeError, LedgerError.
    """
    market, began = access.market, time.monotonic()
    assert isinstance(market, ExchangeMarket), f"{market.name} is no exchange"
    with collecting_answers() as pages:
        if series.kind == "funding_rate":
            rows = await market.funding(series.symbol, span.since_ms, span.until_ms)
        elif series.kind == "open_interest":
            rows = await market.open_interest(series.symbol, series.timeframe, span.since_ms, span.until_ms)
        else:
            rows = await market.trades(series.symbol, span.since_ms, span.until_ms)
    seconds = time.monotonic() - began
    added = await asyncio.to_thread(_keep, keeping, series, span, rows, pages, seconds, now_ms)
    return added, max(1, len(pages))


def _keep(
    keeping: Keeping, series: DataSeries, span: Span, rows: pl.DataFrame, pages: list[RawPage], seconds: float, now_ms: int
) -> int:
    """Bronze, the store's rows, silver, and last the coverage."""
    lake, now = keeping.lake, utc(now_ms)
    fetched_at = keep_pages(lake, series, span, pages)
    times = rows[_TIME_COLUMN[series.kind]].dt.epoch("ms").to_list()
    chunk = DataChunk(
        series=series,
        span=span,
        rows=rows.height,
        pages=len(pages),
        first_at=utc(times[0]) if times else None,
        last_at=utc(times[-1]) if times else None,
        digest=hashlib.sha256(rows.write_csv().encode()).hexdigest(),
        bytes=sum(len(page.body) for page in pages),
        requested_s=round(seconds, 3),
        fetched_at=datetime.now(UTC),
    )
    keeping.data.add_chunks(keeping.run_id, [chunk])
    if series.kind != "funding_rate":
        added = lake.append_rows(series, rows, None, series.market, fetched_at).added
    else:
        report = append_funding(lake, Series(series.market, series.symbol, ""), rows, series.market, fetched_at)
        if told := revised_funding(report):
            keeping.quality.record(series, told, now)
        added = report.added
    if (covered := _answered(series, span, times[-1] if times else None, now_ms)) is not None:
        lake.cover(series, covered)
    return added


def _answered(series: DataSeries, span: Span, last_ms: int | None, now_ms: int) -> Span | None:
    """What was answered. A row may come late: the newest times are asked for again until they are old."""
    if span.until_ms + _LATE_MS <= now_ms:
        return span
    end_ms = span.since_ms if last_ms is None else last_ms + (timeframe_ms(series.timeframe) if series.timeframe else 1)
    end_ms = max(end_ms, min(span.until_ms, now_ms - _LATE_MS))
    return Span(span.since_ms, min(end_ms, span.until_ms)) if end_ms > span.since_ms else None


async def _copy_funding(access: MarketAccess, keeping: Keeping, series: DataSeries) -> EventsDone:
    """Funding of files is copied as a whole when the file has changed. Raises UsageError for other kinds."""
    if series.kind != "funding_rate":
        raise UsageError(f"{access.market.name} has no {series.kind}: exchanges have, and `import` takes files of trades")
    source = access.market.funding_fingerprint(series.symbol)
    key = Series(series.market, series.symbol, "")
    if source is None or funding_fingerprint(keeping.lake, key) == source:
        return EventsDone()
    answer = await patient(fetch_funding, access)(access, FundingPlan(key, 0, _END_OF_TIME_MS, source), keeping.lake)
    return EventsDone(answer["added"], 1, 1)
