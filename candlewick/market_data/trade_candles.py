"""Trades of the lake into candles, a few days at a time: what backfill and import do with the kind `trades`."""

from collections.abc import Iterator

import polars as pl

from candlewick.candles import Series, empty_candles
from candlewick.lake import Lake
from candlewick.market_data.coverage import Span
from candlewick.market_data.kinds import DataSeries
from candlewick.timeframes import DAY_MS, floor_to_bar, timeframe_ms, utc
from candlewick.trades_to_candles import trades_to_candles

_DAYS_AT_ONCE = 2


def candles_of_trades(lake: Lake, series: DataSeries, timeframe: str, span: Span) -> pl.DataFrame:
    """Candles (CANDLE_SCHEMA) of the bars that lie whole in ``span``, of the trades that the lake has. A bar without a trade is
    absent. Raises UsageError, InvalidCandles, LakeError."""
    assert series.kind == "trades", f"{series} holds no trades"
    frames = [
        trades_to_candles(
            lake.read_rows(series, part.since_ms, part.until_ms).select(pl.col("traded_at").dt.epoch("ms"), "price", "amount"),
            timeframe,
        )
        for part in _whole_bars(span, timeframe)
    ]
    return pl.concat([empty_candles(), *frames])


def keep_candles_of_trades(lake: Lake, series: DataSeries, timeframe: str, span: Span) -> int:
    """Put the candles of the bars that lie whole in ``span`` into the lake, as covered; the number of new ones.

    ``source`` is `trades`, ``fetched_at`` the end of the last bar. Doing it twice changes nothing.
    """
    bars = list(_whole_bars(span, timeframe))
    if not bars:
        return 0
    whole = Span(bars[0].since_ms, bars[-1].until_ms)
    candles = candles_of_trades(lake, series, timeframe, span)
    target = Series(series.market, series.symbol, timeframe)
    return lake.put_chunk(target, candles, whole, "trades", utc(whole.until_ms)).added


def _whole_bars(span: Span, timeframe: str) -> Iterator[Span]:
    """The bars that lie whole in a span, some days of them at a time."""
    length_ms = timeframe_ms(timeframe)
    since_ms = floor_to_bar(span.since_ms + length_ms - 1, timeframe)
    end_ms = floor_to_bar(span.until_ms, timeframe)
    step_ms = max(1, _DAYS_AT_ONCE * DAY_MS // length_ms) * length_ms
    while since_ms < end_ms:
        until_ms = min(since_ms + step_ms, end_ms)
        yield Span(since_ms, until_ms)
        since_ms = until_ms
