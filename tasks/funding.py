"""Funding of perpetuals: fetched, put into the lake, and handed on only when all of it is known."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TypedDict

import polars as pl
from prefect import task
from prefect.cache_policies import NO_CACHE

from candlewick.candles import Series
from candlewick.findings import note_findings
from candlewick.funding import require_funding
from candlewick.funding_lake import (
    LOOK_BACK_MS,
    FundingPlan,
    append_funding,
    plan_funding,
    read_funding,
    replace_funding,
    revised_funding,
)
from candlewick.instruments import Instrument
from candlewick.lake import Lake
from candlewick.timeframes import timeframe_ms
from tasks.market import MarketAccess
from tasks.patience import patient


class FetchedFunding(TypedDict):
    """JSON-ready word on a symbol's funding in the lake: payments that were ``told``, and ``added``."""

    symbol: str
    told: int
    added: int


@task(name="fetch-funding", task_run_name="fetch funding {plan.series.symbol}", cache_policy=NO_CACHE, timeout_seconds=900)
async def fetch_funding(access: MarketAccess, plan: FundingPlan, lake: Lake) -> FetchedFunding:
    """Bring one symbol's funding in the lake up to date. Raises MarketUnavailable, InvalidFunding, UsageError, LakeError."""
    funding = await access.market.funding(plan.series.symbol, plan.since_ms, plan.until_ms)
    added = await asyncio.to_thread(_keep, lake, plan, funding)
    return FetchedFunding(symbol=plan.series.symbol, told=funding.height, added=added)


async def complete_funding(
    access: MarketAccess,
    lake: Lake,
    instruments: Mapping[str, Instrument],
    series: Mapping[str, Series],
    since_ms: int,
    until_ms: int,
    forming_open: bool = False,
) -> dict[str, pl.DataFrame]:
    """Every perpetual's payments with ``since_ms <= funding_at < until_ms`` by symbol, in FUNDING_SCHEMA; nothing for others.

    ``series`` are the candles that are traded: where the lake has them later than ``since_ms`` or no longer at ``until_ms``,
    funding is required for that shorter span. ``forming_open``: the open after the last closed bar is acted on too, and a
    payment due at it is required (with an ``until_ms`` after it). The market is asked for what the lake lacks and for
    nothing else. Raises FundingMissing where a payment stays unknown, and what ``fetch_funding`` raises.
    """
    perpetuals = [symbol for symbol, instrument in instruments.items() if instrument.kind == "perpetual"]
    asked = since_ms, until_ms
    frames = await asyncio.gather(
        *(
            _complete(access, lake, instruments[symbol], series[symbol], _traded_span(lake, series[symbol], asked, forming_open))
            for symbol in perpetuals
        )
    )
    return dict(zip(perpetuals, frames, strict=True))


async def _complete(
    access: MarketAccess, lake: Lake, instrument: Instrument, series: Series, span: tuple[int, int]
) -> pl.DataFrame:
    since_ms, until_ms = span
    interval_h, symbol = instrument.funding_interval_h, instrument.symbol
    source = access.market.funding_fingerprint(symbol)
    plan = await asyncio.to_thread(plan_funding, lake, series, since_ms, until_ms, interval_h, source)
    if plan is not None:
        await patient(fetch_funding, access)(access, plan, lake)
    known = await asyncio.to_thread(read_funding, lake, series, since_ms - LOOK_BACK_MS, until_ms)
    return require_funding(symbol, known, since_ms, until_ms, interval_h)


def _traded_span(lake: Lake, series: Series, asked: tuple[int, int], forming_open: bool) -> tuple[int, int]:
    """The part of the span that has candles: a contract pays nothing before its listing."""
    there = lake.span(series)
    if there is None:
        return asked
    opens_ms = there[1] + timeframe_ms(series.timeframe)
    return max(asked[0], there[0]), min(asked[1], opens_ms + 1 if forming_open else opens_ms)


def _keep(lake: Lake, plan: FundingPlan, funding: pl.DataFrame) -> int:
    """Findings before what they are about stays unsaid for ever. Payments added."""
    if plan.source is not None:
        replace_funding(lake, plan.series, funding, plan.series.market, plan.source, datetime.now(UTC))
        return funding.height
    report = append_funding(lake, plan.series, funding, plan.series.market, datetime.now(UTC))
    note_findings(lake, plan.series, revised_funding(report))
    return report.added
