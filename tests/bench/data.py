"""What market data costs. Each measurement is a fresh process: `python -m tests.bench.data NAME` prints one JSON object.

The candles are a seeded random walk with prices of two decimals and volumes of five, as large exchanges have them, and the lake
is in the folder of temporary files. Medians of five, files in the system's cache, writes synced to disk.
"""

import json
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl

from candlewick.candles import CANDLE_SCHEMA, Series
from candlewick.lake import Lake
from candlewick.market_data.coverage import Span
from candlewick.timeframes import DAY_MS, MINUTE_MS, parse_utc, timeframe_ms, utc
from tests.bench.bounds import Bound

RUNS = 5
YEAR_MS, HOUR_MS = 365 * DAY_MS, 60 * MINUTE_MS
SINCE_MS = parse_utc("2024-01-01")
FETCHED_AT = datetime(2026, 1, 1, tzinfo=UTC)
CHUNK_BARS = 50_000  # the largest chunk of a backfill
SERIES = 1_000
MINUTES, HOURS = (Series("binance", "BTC/USDT", timeframe) for timeframe in ("1m", "1h"))

BOUNDS = (
    Bound("lake_write", "year_s", "lake: writing a year of 1m candles in a backfill's chunks, coverage included", 1.0, "s"),
    Bound("lake_write", "at_once_s", "the same as one chunk", 1.0, "s"),
    Bound("lake_read", "year_ms", "lake: reading a year of 1m candles", 50.0, "ms"),
    Bound("lake_read", "month_ms", "one month of them", 10.0, "ms"),
    Bound("lake_read", "api_year_ms", "a year of them by `candles()`, coverage looked at", None, "ms"),
    Bound("lake_read", "hours_ms", "that year made into 1h candles by `candles()`", None, "ms"),
    Bound("status", "status_s", "`status` over 1,000 series of a quarter of 1h candles, with 10,000 findings", 2.0, "s"),
    Bound("status", "files", "Parquet files of those", None, ""),
    Bound("validation", "inspect_s", "checks of 8 years of 1h candles, out of the lake, beside another source", 1.0, "s"),
    Bound("validation", "compare_s", "comparison of those two sources", 1.0, "s"),
    Bound("export", "export_s", "export of ten years of 1m candles to Parquet, digest included", None, "s"),
    Bound("export", "resample_s", "ten years of 1m candles kept as 1h candles", None, "s"),
    Bound("export", "peak_mb", "peak memory of both, and of writing those ten years", 500.0, "MB"),
)


def made_candles(series: Series, since_ms: int, until_ms: int, seed: int = 1) -> pl.DataFrame:
    """A random walk in CANDLE_SCHEMA."""
    times = np.arange(since_ms, until_ms, timeframe_ms(series.timeframe))
    random = np.random.default_rng(seed)
    close = np.round(40_000 * np.exp(random.normal(0, 0.001, times.size).cumsum()), 2)
    opened = np.append(40_000.0, close[:-1])
    spread = np.round(np.abs(random.normal(0, 0.0005, times.size)) * close, 2)
    high, low = np.round(np.maximum(opened, close) + spread, 2), np.round(np.minimum(opened, close) - spread, 2)
    volume = np.round(random.lognormal(2, 1, times.size), 5)
    columns = {"opened_at": times, "open": opened, "high": high, "low": low, "close": close, "volume": volume}
    return pl.DataFrame(columns, schema=dict(CANDLE_SCHEMA))


def put(lake: Lake, series: Series, candles: pl.DataFrame, since_ms: int, chunk_bars: int) -> None:
    """The candles as a backfill puts them: chunk after chunk, each with its span."""
    length_ms = timeframe_ms(series.timeframe)
    for start in range(0, candles.height, chunk_bars):
        chunk = candles[start : start + chunk_bars]
        span = Span(since_ms + start * length_ms, since_ms + (start + chunk.height) * length_ms)
        lake.put_chunk(series, chunk, span, series.market, FETCHED_AT)


def seconds(work: Callable[[], object], runs: int = RUNS) -> float:
    """The median of some runs."""
    return statistics.median(timed(work) for _ in range(runs))


def timed(work: Callable[[], object]) -> float:
    """Seconds that the work takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def lake_write(folder: Path) -> dict[str, float]:
    """A year of minutes into an empty lake."""
    candles = made_candles(MINUTES, SINCE_MS, SINCE_MS + YEAR_MS)
    lakes = (Lake(str(folder / f"lake-{number}")) for number in range(2 * RUNS))
    return {
        "year_s": seconds(lambda: put(next(lakes), MINUTES, candles, SINCE_MS, CHUNK_BARS)),
        "at_once_s": seconds(lambda: put(next(lakes), MINUTES, candles, SINCE_MS, candles.height)),
    }


def lake_read(folder: Path) -> dict[str, float]:
    """A year and a month of minutes out of a lake of two years."""
    from candlewick.reading import candles

    lake = Lake(str(folder / "lake"))
    put(lake, MINUTES, made_candles(MINUTES, SINCE_MS, SINCE_MS + 2 * YEAR_MS), SINCE_MS, CHUNK_BARS)
    year = (SINCE_MS + 100 * DAY_MS, SINCE_MS + 100 * DAY_MS + YEAR_MS)
    month = (parse_utc("2024-07-01"), parse_utc("2024-08-01"))
    assert lake.read(MINUTES, *year).height == 525_600
    asked = ("binance", "BTC/USDT")
    return {
        "year_ms": 1000 * seconds(lambda: lake.read(MINUTES, *year)),
        "month_ms": 1000 * seconds(lambda: lake.read(MINUTES, *month)),
        "api_year_ms": 1000 * seconds(lambda: candles(*asked, "1m", *year, lake=lake.url)),
        "hours_ms": 1000 * seconds(lambda: candles(*asked, "1h", *year, lake=lake.url)),
    }


def status(folder: Path) -> dict[str, float]:
    """Many series, made once and copied; findings of all of them in the ledger."""
    from candlewick.market_data.status import Chosen, lake_status
    from candlewick.settings import load_settings
    from candlewick.store.data_runs import DataStore
    from candlewick.store.database import Database
    from candlewick.store.quality import QualityStore
    from candlewick.validation import Finding

    lake, end_ms = Lake(str(folder / "lake")), SINCE_MS + 91 * DAY_MS
    put(lake, HOURS, made_candles(HOURS, SINCE_MS, end_ms), SINCE_MS, CHUNK_BARS)
    many = [replace(HOURS, symbol=f"S{number:04d}/USDT") for number in range(SERIES - 1)]
    for series in many:
        shutil.copytree(lake.folder(HOURS), lake.folder(series))
    database = Database(str(folder / "ledger.duckdb"))
    data, quality = DataStore(database), QualityStore(database)
    gaps = [Finding("gap_outage", "info", SINCE_MS + n * DAY_MS, SINCE_MS + n * DAY_MS + HOUR_MS, "made") for n in range(10)]
    quality.record_all(dict.fromkeys([HOURS, *many], gaps), FETCHED_AT)
    data.synced([HOURS, *many], FETCHED_AT)
    settings = load_settings(environment={}, directory=folder)

    def look() -> None:
        assert len(lake_status(lake, data, quality, settings, end_ms, Chosen())) == SERIES

    return {"status_s": seconds(look), "files": len(list(lake.folder(HOURS).glob("*.parquet"))) * SERIES}


def validation(folder: Path) -> dict[str, float]:
    """Eight years of hours, with holes, beside another collector's."""
    from candlewick.quality.comparison import Source, compare_sources
    from candlewick.quality.inspect import inspect_series

    lake, end_ms = Lake(str(folder / "lake")), SINCE_MS + 8 * YEAR_MS
    ours = made_candles(HOURS, SINCE_MS, end_ms)
    ours = ours.filter(pl.int_range(pl.len()) % 1000 != 7)
    theirs = made_candles(HOURS, SINCE_MS, end_ms).with_columns(pl.col("close", "high") + 1)
    other = replace(HOURS, market="bitstamp")
    for series, candles in ((HOURS, ours), (other, theirs)):
        lake.put_chunk(series, candles, Span(SINCE_MS, end_ms), series.market, FETCHED_AT)
    assert inspect_series(lake, HOURS, end_ms, {"bitstamp": other})
    sources = Source(HOURS, "binance"), Source(other, "bitstamp")
    return {
        "inspect_s": seconds(lambda: inspect_series(lake, HOURS, end_ms, {"bitstamp": other})),
        "compare_s": seconds(lambda: compare_sources(ours, theirs, *sources)),
    }


def export(folder: Path) -> dict[str, float]:
    """Ten years of minutes: written in chunks, kept as hours, exported."""
    from candlewick.market_data.exporting import ExportRequest, export_series
    from candlewick.market_data.gold import resample_into_lake

    lake, end_ms = Lake(str(folder / "lake")), SINCE_MS + 10 * YEAR_MS
    for since_ms in range(SINCE_MS, end_ms, YEAR_MS):
        put(lake, MINUTES, made_candles(MINUTES, since_ms, since_ms + YEAR_MS), since_ms, CHUNK_BARS)
    span = Span(SINCE_MS, end_ms)
    resample_s = timed(lambda: resample_into_lake(lake, MINUTES, "1h", span, utc(end_ms)))
    request = ExportRequest("binance", "BTC/USDT", "ohlcv", "1m", str(folder), missing="allow")
    began = time.perf_counter()
    rows = export_series(lake, request).rows
    export_s = time.perf_counter() - began
    assert rows == 10 * 525_600
    return {"export_s": export_s, "resample_s": resample_s, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


if __name__ == "__main__":
    measurements = {work.__name__: work for work in (lake_write, lake_read, status, validation, export)}
    with tempfile.TemporaryDirectory(prefix="candlewick-bench-") as place:
        print(json.dumps(measurements[sys.argv[1]](Path(place))))
        sys.stdout.flush()
    os._exit(0)
