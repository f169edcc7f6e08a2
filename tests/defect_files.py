"""The files with real defects beside the checkout, read as they are: the order of the rows, the doubles and the gaps stay."""

from functools import cache
from pathlib import Path

import polars as pl
import pytest

from candlewick.candles import PRICE_COLUMNS
from tests.shared_data import SHARED

_MILLISECONDS_FROM = 100_000_000_000
"""A number above this is a time in milliseconds: in seconds it would be in the year 5138."""


def _path(name: str) -> Path:
    path = SHARED / "data" / "defects" / name
    if not path.is_file():
        pytest.skip(f"the file with real defects {name} is not beside this checkout")
    return path


def _candles(name: str, time_ms: pl.Expr, volume: str, skip_rows: int = 0) -> pl.DataFrame:
    rows = pl.read_csv(_path(name), infer_schema_length=0, skip_rows=skip_rows)
    numbers = [*(pl.col(column) for column in PRICE_COLUMNS), pl.col(volume).alias("volume")]
    return rows.select(
        time_ms.cast(pl.Datetime("ms", "UTC")).alias("opened_at"), *(number.cast(pl.Float64) for number in numbers)
    )


def _unix_ms() -> pl.Expr:
    number = pl.col("unix").cast(pl.Float64)
    return pl.when(number < _MILLISECONDS_FROM).then(number * 1000).otherwise(number).cast(pl.Int64)


@cache
def mixed_units_and_duplicates() -> pl.DataFrame:
    return _candles("binance_BTCUSDT_1h_mixed_units_and_duplicates.csv", _unix_ms(), "Volume BTC")


@cache
def out_of_order() -> pl.DataFrame:
    hour = (pl.col("date") + " 00").str.to_datetime("%Y-%m-%d %I-%p %M", time_zone="UTC")
    return _candles("coinbase_BTCUSD_1h_out_of_order.csv", hour, "volume_btc")


@cache
def off_the_grid() -> pl.DataFrame:
    return _candles("gemini_BTCUSD_1d_broken.csv", _unix_ms(), "Volume BTC", skip_rows=1)


@cache
def swapped_volume() -> pl.DataFrame:
    return _candles("bitstamp_BTCUSD_1h_swapped_volume.csv", _unix_ms(), "Volume BTC")


@cache
def gappy() -> pl.DataFrame:
    rows = pl.read_ipc(_path("ADA_BTC_5m_gappy.feather"))
    return rows.select(pl.col("date").cast(pl.Datetime("ms", "UTC")).alias("opened_at"), *PRICE_COLUMNS, "volume")
