"""Files of a user's own, made for tests of the import: good candles told in odd ways."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from candlewick.candles import CANDLE_SCHEMA, Series
from candlewick.lake import Lake
from candlewick.market_data.importing_lake import import_file
from candlewick.market_data.importing_report import ImportReport
from candlewick.market_data.importing_schema import ImportRequest, ImportSchema, Resolve
from candlewick.market_data.kinds import Kind
from candlewick.timeframes import parse_utc

START = datetime(2024, 1, 1, tzinfo=UTC)
NOW_MS = parse_utc("2026-11-01")
HOURS = Series("mine", "BTC/USDT", "1h")
PRICES = ["open", "high", "low", "close"]


def hours(count: int = 48) -> pl.DataFrame:
    """Candles of one hour from START on, in CANDLE_SCHEMA; prices about 20,000, so that base and quote volume are far apart."""
    return pl.DataFrame(
        {
            "opened_at": [START + timedelta(hours=n) for n in range(count)],
            "open": [20000.25 + n for n in range(count)],
            "high": [20010.5 + n for n in range(count)],
            "low": [19990.0 + n for n in range(count)],
            "close": [20001.25 + n for n in range(count)],
            "volume": [5.5 + n % 7 for n in range(count)],
        },
        schema=dict(CANDLE_SCHEMA),
    )


def with_times(candles: pl.DataFrame, time: pl.Expr, name: str = "time") -> pl.DataFrame:
    """The candles with their open time told in another way."""
    return candles.select(time.alias(name), *PRICES, "volume")


def unix(unit: int = 1) -> pl.Expr:
    """Open times as milliseconds times ``unit``."""
    return pl.col("opened_at").dt.epoch("ms") * unit


def write(path: Path, frame: pl.DataFrame, delimiter: str = ",", header: bool = True) -> Path:
    """A text with delimiters."""
    frame.write_csv(path, separator=delimiter, include_header=header)
    return path


def imported(
    path: Path,
    lake: Lake | None,
    schema: dict[str, object] | None = None,
    resolve: Resolve | None = None,
    drop_broken: bool = False,
    source: str | None = None,
    symbol: str = "BTC/USDT",
    timeframe: str = "1h",
    kind: Kind = "ohlcv",
) -> ImportReport:
    """The import of one file into the market `mine`."""
    request = ImportRequest(
        market="mine",
        symbol=symbol,
        kind=kind,
        timeframe=timeframe,
        now_ms=NOW_MS,
        schema=ImportSchema.model_validate(schema or {}),
        source=source,
        resolve=resolve,
        drop_broken=drop_broken,
    )
    return import_file(path, request, lake)


def said(report: ImportReport, topic: str) -> str:
    """What the report says about a topic."""
    return "; ".join(f"{note.found} [{note.rows}] {note.done}" for note in report.notes if note.topic == topic)


def kinds(report: ImportReport) -> set[str]:
    """The kinds of findings."""
    return {finding.kind for finding in report.findings}
