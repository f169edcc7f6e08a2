"""Trades to candles: what an exchange does before it answers with candles, for markets of which only the trades are known."""

import polars as pl

from candlewick.candles import CANDLE_SCHEMA
from candlewick.errors import InvalidCandles
from candlewick.timeframes import floor_to_bar, timeframe_ms


def trades_to_candles(trades: pl.DataFrame, timeframe: str) -> pl.DataFrame:
    """Candles of ``trades``: a frame in the order of trading with ``traded_at`` (int64, milliseconds UTC), ``price``, ``amount``.

    A trade at a bar's open time belongs to that bar. A bar without a trade is absent: nothing is carried on, as no price was
    made. ``amount`` is in base currency, and so is the volume. The answer has the columns of ``CANDLE_SCHEMA``.

    Raises UsageError for an unknown timeframe, and InvalidCandles where trades go back in time or a price or an amount is not
    above 0.
    """
    length_ms, some_open_ms = timeframe_ms(timeframe), floor_to_bar(0, timeframe)
    if not trades["traded_at"].is_sorted():
        raise InvalidCandles("the trades go back in time; sort them by time and by the exchange's id")
    sound = pl.all_horizontal((pl.col(name) > 0) & pl.col(name).is_finite() for name in ("price", "amount"))
    for traded_at, price, amount in trades.filter(~sound).select("traded_at", "price", "amount").head(1).iter_rows():
        raise InvalidCandles(f"trade at {traded_at} ms: price {price} and amount {amount} must be above 0 and finite")
    opened_at = (pl.col("traded_at") - some_open_ms) // length_ms * length_ms + some_open_ms
    return (
        trades.group_by(opened_at=pl.from_epoch(opened_at, "ms").dt.replace_time_zone("UTC"), maintain_order=True)
        .agg(
            open=pl.col("price").first(),
            high=pl.col("price").max(),
            low=pl.col("price").min(),
            close=pl.col("price").last(),
            volume=pl.col("amount").sum(),
        )
        .select(pl.col(name).cast(kind) for name, kind in CANDLE_SCHEMA.items())
    )
