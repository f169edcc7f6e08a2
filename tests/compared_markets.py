"""Made-up sources of one market for tests: a random walk, the same elsewhere, and their comparison."""

import numpy as np
import polars as pl

from candlewick.candles import CANDLE_SCHEMA, PRICE_COLUMNS, Series
from candlewick.quality.comparison import Source, SourceComparison, compare_sources
from candlewick.quality.thresholds import Thresholds
from candlewick.quality.verdict import Judgement, disagreement_findings, judge
from candlewick.reports.validation_view import ValidationView
from candlewick.timeframes import parse_utc, timeframe_ms

START_MS = parse_utc("2024-01-01")
HOUR_MS = 3_600_000


def market(bars: int = 1_000, seed: int = 1, timeframe: str = "1h") -> pl.DataFrame:
    """A random walk around 100 in CANDLE_SCHEMA."""
    draw = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(draw.normal(0, 0.004, bars)))
    first = np.concatenate(([100.0], close[:-1]))
    times = START_MS + np.arange(bars) * timeframe_ms(timeframe)
    rows = {
        "opened_at": times,
        "open": first,
        "high": np.maximum(first, close) * (1 + draw.uniform(0, 0.001, bars)),
        "low": np.minimum(first, close) * (1 - draw.uniform(0, 0.001, bars)),
        "close": close,
        "volume": draw.uniform(1, 20, bars),
    }
    return pl.DataFrame(rows).with_columns(pl.col("opened_at").cast(CANDLE_SCHEMA["opened_at"]))


def elsewhere(candles: pl.DataFrame, bps: float = 3.0, seed: int = 2) -> pl.DataFrame:
    """The same market at another exchange: each bar some basis points off, and another volume."""
    draw = np.random.default_rng(seed)
    factor = pl.Series(1 + draw.normal(0, bps / 1e4, candles.height))
    prices = [pl.col(name) * factor for name in PRICE_COLUMNS]
    return candles.with_columns(*prices, pl.col("volume") * pl.Series(draw.uniform(0.2, 0.6, candles.height)))


def changed(candles: pl.DataFrame, rows: list[int], **columns: pl.Expr) -> pl.DataFrame:
    """The candles with other values in some rows."""
    chosen = pl.int_range(pl.len()).is_in(rows)
    return candles.with_columns(
        pl.when(chosen).then(value).otherwise(pl.col(name)).alias(name) for name, value in columns.items()
    )


def named(name: str, symbol: str = "BTC/USDT", timeframe: str = "1h") -> Source:
    """A source of that name."""
    return Source(Series(name, symbol, timeframe), name)


def compared(
    ours: pl.DataFrame, other: pl.DataFrame, limits: Thresholds | None = None, timeframe: str = "1h"
) -> SourceComparison:
    """binance BTC/USDT against bitstamp BTC/USD."""
    sources = named("binance", timeframe=timeframe), named("bitstamp", "BTC/USD", timeframe)
    return compare_sources(ours, other, *sources, limits)


def judged(found: SourceComparison, limits: Thresholds | None = None) -> Judgement:
    """By the usual thresholds, or these."""
    return judge(found, limits or Thresholds())


def validation_view(ours: pl.DataFrame, other: pl.DataFrame, notices: tuple[str, ...] = (), command: str = "") -> ValidationView:
    """A judged comparison as the reports take it."""
    found = compared(ours, other)
    judgement = judged(found)
    findings = disagreement_findings(found, judgement)
    return ValidationView(comparison=found, judgement=judgement, findings=findings, notices=notices, command=command)
