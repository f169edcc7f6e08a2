"""Rows that cannot be trusted, taken out of an answer one by one, so that one bad bar does not keep years of good ones out.

`validate_candles` refuses a whole answer. That is right for a cycle that is about to trade. A download asks again first; what
is wrong then still is left out, and is a finding of its own (`refused`, error, open), which `repair` asks for again.
"""

import polars as pl

from candlewick.candles import CANDLE_SCHEMA, PRICE_COLUMNS, Series
from candlewick.errors import InvalidCandles
from candlewick.timeframes import floor_to_bar, format_utc, timeframe_ms
from candlewick.validation import Finding

_NUMBERS = (*PRICE_COLUMNS, "volume")
_TIME = pl.col("opened_at").dt.epoch("ms")


def refuse_rows(candles: pl.DataFrame, series: Series) -> tuple[pl.DataFrame, tuple[Finding, ...]]:
    """The rows that can be trusted, in the order received, and a finding for each open time that has others.

    ``candles`` in CANDLE_SCHEMA. Of two rows with one open time and different content neither is kept: which one is right nobody
    can say. Raises InvalidCandles for other columns, or a row without an open time.
    """
    if candles.schema != dict(CANDLE_SCHEMA) or candles["opened_at"].null_count():
        raise InvalidCandles(f"{series.market} {series.symbol} {series.timeframe}: columns are {dict(candles.schema)}")
    length_ms, offset_ms = timeframe_ms(series.timeframe), floor_to_bar(0, series.timeframe)
    finite = pl.all_horizontal(pl.col(name).is_not_null() & pl.col(name).is_finite() for name in _NUMBERS)
    positive = pl.all_horizontal(pl.col(name) > 0 for name in PRICE_COLUMNS) & (pl.col("volume") >= 0)
    ordered = (pl.col("high") >= pl.max_horizontal("open", "close")) & (pl.col("low") <= pl.min_horizontal("open", "close"))
    twice = pl.struct(_NUMBERS).n_unique().over("opened_at") > 1
    why = (
        pl.when((_TIME - offset_ms) % length_ms != 0)
        .then(pl.lit("it does not open on the timeframe's grid"))
        .when(~finite)
        .then(pl.lit("a value is no finite number"))
        .when(~positive)
        .then(pl.lit("a price is not above 0, or the volume is below 0"))
        .when(~ordered)
        .then(pl.lit("the high is below or the low above the open or the close"))
        .when(twice)
        .then(pl.lit("it is there twice with different content"))
    )
    judged = candles.with_columns(why.alias("why"))
    bad = judged.filter(pl.col("why").is_not_null()).unique("opened_at", keep="first", maintain_order=True).sort("opened_at")
    times = bad.select(_TIME.alias("time"))["time"].to_list()
    findings = tuple(
        Finding("refused", "error", time, time + length_ms, _evidence(time, row))
        for time, row in zip(times, bad.iter_rows(named=True), strict=True)
    )
    return judged.filter(pl.col("why").is_null()).drop("why"), findings


def _evidence(time_ms: int, row: dict[str, object]) -> str:
    values = ", ".join(f"{name} {row[name]}" for name in _NUMBERS)
    return f"bar {format_utc(time_ms)}: {row['why']} ({values}); left out"
