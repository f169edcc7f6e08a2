"""Candles of a timeframe that a market lacks, made of a finer one or of trades, and kept like any others."""

import asyncio

from prefect import task
from prefect.cache_policies import NO_CACHE

from blocks.exchange_market import ExchangeMarket
from candlewick.candles import Series
from candlewick.market_data.chunking import closed_span
from candlewick.market_data.gold import resample_into_lake
from candlewick.market_data.kinds import DataSeries
from candlewick.market_data.trade_candles import keep_candles_of_trades
from candlewick.timeframes import timeframe_ms, utc
from tasks.ingest import Keeping
from tasks.market import MarketAccess


def find_finer(access: MarketAccess, timeframe: str) -> str | None:
    """The coarsest timeframe of the market that divides the one asked for; None where it has that one, or none fits."""
    if not isinstance(access.market, ExchangeMarket):
        return None
    offered = access.market.offered_timeframes()
    length_ms = timeframe_ms(timeframe)
    usable = [
        one for one in offered if one[-1:] in "mhd" and timeframe_ms(one) < length_ms and length_ms % timeframe_ms(one) == 0
    ]
    return None if timeframe in offered or not usable else max(usable, key=timeframe_ms)


@task(name="resample", task_run_name="make {timeframe} of {finer.symbol} {finer.timeframe}", cache_policy=NO_CACHE)
async def resample_series(keeping: Keeping, finer: Series, timeframe: str, since_ms: int, now_ms: int) -> int:
    """Make the candles of ``timeframe`` that the finer ones cover wholly; the number of bars added. Raises LakeError."""
    span = closed_span(since_ms, now_ms, timeframe)
    if span is None:
        return 0
    report = await asyncio.to_thread(resample_into_lake, keeping.lake, finer, timeframe, span, utc(now_ms))
    return report.added


@task(name="candles-of-trades", task_run_name="make {timeframe} of trades of {trades.symbol}", cache_policy=NO_CACHE)
async def make_trade_candles(keeping: Keeping, trades: DataSeries, timeframe: str, since_ms: int, now_ms: int) -> int:
    """Make the candles of ``timeframe`` of trades fetched without a hole; the bars added. Raises LakeError."""
    asked = closed_span(since_ms, now_ms, timeframe)
    fetched = await asyncio.to_thread(keeping.lake.coverage, trades)
    spans = () if asked is None else fetched.within(asked)
    return sum([await asyncio.to_thread(keep_candles_of_trades, keeping.lake, trades, timeframe, span) for span in spans])
