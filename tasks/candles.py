"""Candles of one symbol: fetched, checked, put into the lake. What travels on is a reference, never the frame."""

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypedDict

import polars as pl
from prefect import task
from prefect.context import TaskRunContext

from candlewick.candles import CandlePage, FormingBar, RawPage, Series, empty_candles, opened_at_ms
from candlewick.errors import InvalidCandles
from candlewick.findings import note_findings
from candlewick.lake import Lake, compact_pages
from candlewick.market_data.coverage import Span
from candlewick.market_data.kinds import DataSeries
from candlewick.partitions import AppendReport
from candlewick.timeframes import format_utc
from candlewick.validation import REPAIRED_KINDS, Finding, ValidatedCandles, validate_candles
from candlewick.windows import FetchPlan, remember_covered
from tasks.market import MarketAccess

_GAPS_ASKED_AGAIN = 3


class FetchedSeries(TypedDict):
    """JSON-ready word on a series that is complete in the lake now. ``forming`` is [open time in ms, open]."""

    symbol: str
    added: int
    forming: list[float] | None


def fetch_key(_context: TaskRunContext, arguments: dict[str, Any]) -> str:
    """Exchange, symbol, timeframe and last closed bar; and where the lake is and ends, so that a lost lake is filled again."""
    plan: FetchPlan = arguments["plan"]
    series = plan.series
    where = arguments["lake"].url
    key = f"candles-1/{where}/{series.market}/{series.symbol}/{series.timeframe}/{plan.last_closed_ms}/{plan.since_ms}"
    return key if plan.source is None else f"{key}/{plan.source}"


@task(
    name="fetch-candles",
    task_run_name="fetch {plan.series.symbol} {plan.series.timeframe}",
    cache_key_fn=fetch_key,
    cache_expiration=timedelta(days=1),
    persist_result=True,
    result_serializer="json",
    timeout_seconds=900,
)
async def fetch_candles(access: MarketAccess, plan: FetchPlan, lake: Lake) -> FetchedSeries:
    """Complete one series in the lake up to the last closed bar. Raises MarketUnavailable, InvalidCandles, LakeError."""
    access.asked.add(plan.series)
    if plan.source is not None:
        return await copy_source(access, plan, lake)
    page = await access.market.fetch(plan.series.symbol, plan.series.timeframe, plan.since_ms, plan.now_ms)
    try:
        checked, pages = await confirm_gaps(access, plan, page, plan.known_ms)
    except InvalidCandles as error:
        refusal = Finding("refused", "error", plan.since_ms, max(plan.forming_ms, plan.since_ms + 1), str(error))
        await asyncio.to_thread(note_findings, lake, plan.series, (refusal,))
        raise
    added = await asyncio.to_thread(_keep, lake, plan, checked, page.forming, pages)
    return _fetched(plan, added, None if page.forming is None else (page.forming.opened_at_ms, page.forming.open))


async def copy_source(access: MarketAccess, plan: FetchPlan, lake: Lake) -> FetchedSeries:
    """Bring the lake's copy of a source that changed as a whole up to date: all of it that this machine's clock has closed.

    The bar that is forming at the plan's time is in the copy too; only its open is used.
    """
    added = 0
    if plan.since_ms == 0 and plan.source is not None:
        clock_ms = max(plan.now_ms, round(time.time() * 1000))
        page = await access.market.fetch(plan.series.symbol, plan.series.timeframe, 0, clock_ms)
        checked = validate_candles(page.candles, plan.series, clock_ms)
        await asyncio.to_thread(note_findings, lake, plan.series, checked.findings)
        await asyncio.to_thread(lake.replace, plan.series, checked.candles, plan.series.market, datetime.now(UTC))
        await asyncio.to_thread(lake.set_fingerprint, plan.series, plan.source)
        added = checked.candles.height
    current = lake.read(plan.series, plan.forming_ms, plan.forming_ms + 1) if plan.now_ms > plan.forming_ms else empty_candles()
    forming = (plan.forming_ms, float(current["open"][0])) if current.height else None
    return _fetched(plan, added, forming)


def _fetched(plan: FetchPlan, added: int, forming: tuple[int, float] | None) -> FetchedSeries:
    return FetchedSeries(symbol=plan.series.symbol, added=added, forming=None if forming is None else [*forming])


async def confirm_gaps(
    access: MarketAccess, plan: FetchPlan, page: CandlePage, before_ms: int | None
) -> tuple[ValidatedCandles, tuple[RawPage, ...]]:
    """The page, validated; bars that are missing from it are asked for once more before their absence is believed.

    With all the answers. Raises InvalidCandles, MarketUnavailable.
    """
    checked = validate_candles(page.candles, plan.series, plan.now_ms, before_ms)
    gaps = [finding for finding in checked.findings if finding.kind == "gap"][:_GAPS_ASKED_AGAIN]
    if not gaps or access.max_attempts == 1:
        return checked, page.pages
    again = [
        await access.market.fetch(plan.series.symbol, plan.series.timeframe, gap.span_start_ms, gap.span_end_ms) for gap in gaps
    ]
    pages = (*page.pages, *(one for answer in again for one in answer.pages))
    if not any(answer.candles.height for answer in again):
        return checked, pages
    # Sorted here, because it was not the market that sent the late ones last; what was repaired in its page stays said.
    whole = pl.concat([checked.candles, *(answer.candles for answer in again)]).sort("opened_at", maintain_order=True)
    completed = validate_candles(whole, plan.series, plan.now_ms, before_ms)
    repaired = [finding for finding in checked.findings if finding.kind in REPAIRED_KINDS]
    return ValidatedCandles(completed.candles, tuple(dict.fromkeys([*repaired, *completed.findings]))), pages


def _keep(lake: Lake, plan: FetchPlan, checked: ValidatedCandles, forming: FormingBar | None, pages: tuple[RawPage, ...]) -> int:
    """Findings before the candles they are about: after a kill in between, the same candles are fetched again. Bars added."""
    fetched_at = keep_pages(lake, plan.series, Span(plan.since_ms, max(plan.now_ms, plan.since_ms + 1)), pages)
    note_findings(lake, plan.series, checked.findings)
    report = lake.append(plan.series, checked.candles, plan.series.market, fetched_at)
    note_findings(lake, plan.series, revised_candles(report))
    remember_covered(lake, plan, checked.candles)
    if forming is not None:
        lake.set_forming(plan.series, forming)
    return report.added


def keep_pages(lake: Lake, series: Series | DataSeries, span: Span, pages: Sequence[RawPage]) -> datetime | None:
    """Keep the answers as they came, in bronze. What rows made of them say of their time: nothing, where bronze says it."""
    if not pages:
        return datetime.now(UTC)
    lake.put_pages(series, span, pages)
    compact_pages(lake, series)
    return None


def revised_candles(report: AppendReport) -> list[Finding]:
    """Bars that the market now tells differently than before. The lake keeps the first word: accounts have acted on it."""
    rows = report.conflicting.iter_rows(named=True)
    times = opened_at_ms(report.conflicting).tolist()
    return [
        Finding(
            "revised",
            "warning",
            time,
            time + 1,
            f"bar {format_utc(time)}: close {row['close']} kept, {row['close_offered']} offered",
        )
        for time, row in zip(times, rows, strict=True)
    ]
