"""One chunk of a series: fetched, judged, kept. The effect is written first and its checkpoint last, so that a kill anywhere
costs one chunk at most, and fetching it again changes nothing."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.context import TaskRunContext

from blocks.exchange_market import ExchangeMarket
from candlewick.candles import RawPage, candle_digest, opened_at_ms
from candlewick.errors import InvalidCandles
from candlewick.lake import Lake
from candlewick.market_data.coverage import Span
from candlewick.market_data.kinds import DataSeries
from candlewick.market_data.refusing import refuse_rows
from candlewick.market_data.rows import DataChunk
from candlewick.store.data_runs import DataStore
from candlewick.store.quality import QualityStore
from candlewick.timeframes import floor_to_bar, format_utc, timeframe_ms, utc
from candlewick.validation import REPAIRED_KINDS, Finding, validate_candles
from candlewick.windows import FetchPlan
from tasks.candles import confirm_gaps, keep_pages, revised_candles
from tasks.market import MarketAccess

LATE_BARS, LATE_MS = 3, 900_000
"""How late a bar may be shown: so many bars, a quarter of an hour at least. Older silence is an answer."""

# What a chunk's own answers tell for good. Gaps and the like are judged over the whole series when it is complete.
_OF_THE_ANSWER = (*REPAIRED_KINDS, "refused")


class Keeping:
    """Where a run keeps what it fetches, and who it is. Not a dataclass: Prefect would search a task's for futures."""

    def __init__(self, lake: Lake, data: DataStore, quality: QualityStore, run_id: str) -> None:
        self.lake = lake
        self.data = data
        self.quality = quality
        self.run_id = run_id
        self.looking = asyncio.Lock()
        """Held while a series is looked over: one at a time, for the sake of memory."""


@dataclass(frozen=True, slots=True)
class ChunkPlan:
    """What to fetch: bars of ``series`` that open within ``span``. ``now_ms`` is the market's clock, ``known_ms`` the open of the
    last bar known before the span."""

    series: DataSeries
    span: Span
    now_ms: int
    known_ms: int | None = None

    @property
    def reaches_now(self) -> bool:
        """Whether its last bars may not be shown by the market yet."""
        return self.span.until_ms + timeframe_ms(self.series.timeframe) > self.now_ms


@dataclass(frozen=True, slots=True)
class ChunkDone:
    """What became of a chunk. ``last_ms`` is the open of its last bar; ``smooth``: every answer came at the first asking."""

    added: int
    requests: int
    findings: int
    last_ms: int | None
    smooth: bool


@task(
    name="fetch-chunk",
    task_run_name="fetch {plan.series.symbol} {plan.series.part} {plan.span}",
    cache_policy=NO_CACHE,
    timeout_seconds=1800,
)
async def fetch_chunk(access: MarketAccess, keeping: Keeping, plan: ChunkPlan) -> ChunkDone:
    """Fetch one chunk of candles into the lake. Raises MarketUnavailable, RateLimited, UsageError, LakeError, LedgerError.

    A row that cannot be trusted makes the whole chunk be asked for again; at the last attempt it is left out, and a finding.
    """
    began = time.monotonic()
    key, span = plan.series.candles, plan.span
    page = await access.market.fetch(key.symbol, key.timeframe, span.since_ms, span.until_ms)
    refused, pages = tuple[Finding, ...](), page.pages
    try:
        asked = FetchPlan(key, span.since_ms, span.until_ms, known_ms=plan.known_ms)
        checked, pages = await confirm_gaps(access, asked, page, plan.known_ms)
    except InvalidCandles:
        if _attempt() < access.max_attempts:
            raise
        kept, refused = refuse_rows(page.candles, key)
        checked = validate_candles(kept, key, span.until_ms, plan.known_ms)
    told = [finding for finding in checked.findings if finding.kind in _OF_THE_ANSWER]
    done = await asyncio.to_thread(_keep, keeping, plan, pages, checked.candles, [*told, *refused], time.monotonic() - began)
    access.asked.add(key)
    return done


def _attempt() -> int:
    context = TaskRunContext.get()
    return 1 if context is None else max(1, context.task_run.run_count)


def _keep(
    keeping: Keeping,
    plan: ChunkPlan,
    pages: Sequence[RawPage],
    candles: pl.DataFrame,
    findings: Sequence[Finding],
    seconds: float,
) -> ChunkDone:
    """Bronze, silver, the store's rows, and last the coverage: only then the chunk counts as fetched."""
    key, now = plan.series.candles, utc(plan.now_ms)
    fetched_at = keep_pages(keeping.lake, plan.series, plan.span, pages)
    report = keeping.lake.append(key, candles, key.market, fetched_at)
    told = [*findings, *revised_candles(report)]
    times = opened_at_ms(candles)
    chunk = DataChunk(
        series=plan.series,
        span=plan.span,
        rows=candles.height,
        pages=len(pages),
        first_at=utc(int(times[0])) if candles.height else None,
        last_at=utc(int(times[-1])) if candles.height else None,
        digest=candle_digest(candles),
        bytes=sum(len(one.body) for one in pages),
        requested_s=round(seconds, 3),
        fetched_at=datetime.now(UTC),
    )
    if told:
        keeping.quality.record(plan.series, told, now)
    keeping.data.add_chunks(keeping.run_id, [chunk])
    last_ms = int(times[-1]) if candles.height else None
    if (covered := _answered(plan, last_ms)) is not None:
        keeping.lake.cover(key, covered)
    return ChunkDone(report.added, max(1, len(pages)), len(told), last_ms, _attempt() == 1)


def _answered(plan: ChunkPlan, last_ms: int | None) -> Span | None:
    """What was answered. The newest bars may be late: what the market does not show yet is asked for again next time."""
    if not plan.reaches_now:
        return plan.span
    length_ms = timeframe_ms(plan.series.timeframe)
    shown_ms = plan.span.since_ms if last_ms is None else last_ms + length_ms
    end_ms = max(shown_ms, floor_to_bar(plan.now_ms - max(LATE_BARS * length_ms, LATE_MS), plan.series.timeframe))
    return Span(plan.span.since_ms, min(end_ms, plan.span.until_ms)) if end_ms > plan.span.since_ms else None


@task(name="find-listing", task_run_name="find the first candle of {series}", cache_policy=NO_CACHE, timeout_seconds=600)
async def find_listing(access: MarketAccess, series: DataSeries, span: Span) -> int | None:
    """Open time of the first candle within the span; its beginning where the market does not say, None where there is none.

    Raises MarketUnavailable, RateLimited, UsageError.
    """
    if not isinstance(access.market, ExchangeMarket):
        return span.since_ms
    return await access.market.listing(series.symbol, series.timeframe, span.since_ms, span.until_ms)


async def note_delisting(access: MarketAccess, keeping: Keeping, series: DataSeries, now_ms: int) -> str | None:
    """What is to be said of a symbol that its exchange no longer trades; its silence is explained then. Raises LedgerError."""
    market = access.market
    if not isinstance(market, ExchangeMarket) or await market.is_trading(series.symbol):
        return None
    there = await asyncio.to_thread(keeping.lake.span, series)
    if there is None:
        return f"{market.name} no longer trades {series.symbol}"
    ends_ms = there[1] + timeframe_ms(series.timeframe)
    text = f"{market.name} no longer trades {series.symbol}: its last candle closed at {format_utc(ends_ms)}"
    finding, now = Finding("delisted", "info", there[1], ends_ms, text), utc(now_ms)
    await asyncio.to_thread(keeping.quality.record, series, [finding], now)
    stale = await asyncio.to_thread(keeping.quality.findings, series, "open", ["stale"])
    await asyncio.to_thread(keeping.quality.settle, stale["finding_id"].to_list(), "explained", text, now)
    return text
