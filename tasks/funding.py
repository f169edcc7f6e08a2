"""Funding of perpetuals: fetched, put into the lake, and handed on only when all of it is known."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TypedDict

import polars as pl
from prefect import task
from prefect.cache_policies import NO_CACHE

from candlewick.candles import Series, opened_at_ms
from candlewick.errors import CandlewickError, FundingMissing, UsageError
from candlewick.findings import note_findings
from candlewick.funded import Funded, funded_bar, waiting_text
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


async def complete_known_funding(
    access: MarketAccess,
    lake: Lake,
    instruments: Mapping[str, Instrument],
    series: Mapping[str, Series],
    candles: Mapping[str, pl.DataFrame],
    last_ms: int,
) -> Funded:
    """As ``complete_funding`` for the bars of ``candles`` up to the one at ``last_ms``, except that what is late is waited for.

    What a market does not answer is taken from the lake as far as it goes, and said. Raises FundingMissing for a payment that is
    not merely late (`candlewick/funded.py`), UsageError where the market has no funding of a symbol, LakeError.
    """
    perpetuals = [symbol for symbol, instrument in instruments.items() if instrument.kind == "perpetual"]
    parts = await asyncio.gather(
        *(_known(access, lake, instruments[symbol], series[symbol], candles[symbol], last_ms) for symbol in perpetuals),
        return_exceptions=True,
    )
    for part in parts:
        if isinstance(part, BaseException):
            raise part
    known = [part for part in parts if isinstance(part, Funded)]
    ends = [part.until_ms for part in known if part.until_ms is not None]
    return Funded(
        payments={symbol: frame for part in known for symbol, frame in part.payments.items()},
        until_ms=min(ends) if ends else None,
        waiting=tuple(text for part in known for text in part.waiting),
        failures={symbol: why for part in known for symbol, why in part.failures.items()},
    )


async def _known(
    access: MarketAccess, lake: Lake, instrument: Instrument, series: Series, candles: pl.DataFrame, last_ms: int
) -> Funded:
    """One perpetual's payments as far as they are known; a market that does not answer is no reason to forget what is."""
    symbol, length_ms = instrument.symbol, timeframe_ms(series.timeframe)
    bars = opened_at_ms(candles)
    bars = bars[bars <= last_ms]
    since_ms, until_ms = int(bars[0]), int(bars[-1]) + length_ms
    failure: Exception | None = None
    try:
        await _complete(access, lake, instrument, series, (since_ms, until_ms))
    except UsageError:
        raise
    except FundingMissing:
        failure = None  # how much of it is missing, and whether it may be late, is judged below
    except (CandlewickError, TimeoutError) as error:
        failure = error
    known = await asyncio.to_thread(read_funding, lake, series, since_ms - LOOK_BACK_MS, until_ms)
    try:
        end_ms = funded_bar(symbol, known, bars, length_ms, instrument.funding_interval_h)
    except FundingMissing:
        if failure is not None:
            raise failure from None
        raise
    late = failure is None and end_ms < int(bars[-1])
    return Funded(
        payments={symbol: known},
        until_ms=end_ms,
        waiting=(waiting_text(symbol, known, max(end_ms, since_ms - length_ms), length_ms),) if late else (),
        failures={} if failure is None else {symbol: str(failure) or type(failure).__name__},
    )


async def _complete(
    access: MarketAccess, lake: Lake, instrument: Instrument, series: Series, span: tuple[int, int]
) -> pl.DataFrame:
    since_ms, until_ms = span
    interval_h, symbol = instrument.funding_interval_h, instrument.symbol
    source = access.market.funding_fingerprint(symbol)
    plan = await asyncio.to_thread(plan_funding, lake, series, since_ms, until_ms, interval_h, source)
    if plan is not None and not access.offline:
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
