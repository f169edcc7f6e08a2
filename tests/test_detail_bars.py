"""Detail bars: put to their coarse bars, and believed only where both tell one story."""

import asyncio

import numpy as np
import polars as pl
import pytest

from candlewick.candles import CANDLE_SCHEMA, opened_at_ms
from candlewick.detail_bars import align_detail
from candlewick.errors import UsageError
from candlewick.market.sample import SampleMarket
from candlewick.timeframes import MINUTE_MS, parse_utc
from tests.shared_data import real_candles

START_MS = parse_utc("2024-01-01")
HOUR_MS = 60 * MINUTE_MS


def minutes(count: int) -> pl.DataFrame:
    price = 100.0 + np.arange(count) % 7 + np.arange(count) / 64
    columns = {"opened_at": START_MS + np.arange(count) * MINUTE_MS, "open": price, "high": price + 1, "low": price - 1}
    return pl.DataFrame(columns | {"close": price + 0.5, "volume": price}, schema=dict(CANDLE_SCHEMA))


def hours_of(detail: pl.DataFrame) -> pl.DataFrame:
    parts = detail.group_by_dynamic("opened_at", every="1h").agg(
        pl.col("open").first(), pl.col("high").max(), pl.col("low").min(), pl.col("close").last(), pl.col("volume").sum()
    )
    return parts.cast(dict(CANDLE_SCHEMA))  # type: ignore[arg-type]


def change(frame: pl.DataFrame, row: int, column: str, value: float) -> pl.DataFrame:
    return frame.with_columns(pl.when(pl.int_range(pl.len()) == row).then(value).otherwise(pl.col(column)).alias(column))


def test_each_coarse_bar_is_told_its_rows():
    detail = minutes(240)
    aligned = align_detail(hours_of(detail), detail, "1h", "1m")
    assert aligned.offsets.tolist() == [0, 60, 120, 180, 240]
    assert aligned.offsets.dtype == np.int64
    assert aligned.findings == ()
    assert aligned.detail.equals(detail)


@pytest.mark.parametrize("column", ["open", "high", "low", "close"])
def test_a_coarse_bar_that_is_not_made_of_its_detail_bars_is_named_with_both_values(column: str):
    detail = minutes(240)
    aligned = align_detail(change(hours_of(detail), 2, column, 555.0), detail, "1h", "1m")
    (finding,) = aligned.findings
    assert aligned.disagrees
    assert (finding.kind, finding.span_start_ms, finding.span_end_ms) == (
        "detail_disagrees",
        START_MS + 2 * HOUR_MS,
        START_MS + 3 * HOUR_MS,
    )
    assert finding.evidence.startswith(f"{column} 555.0 is ")


def test_detail_bars_that_are_missing_are_counted_and_a_bar_without_any_has_no_rows():
    whole = minutes(300)
    detail = pl.concat([whole[:60], whole[180:200], whole[201:]])
    aligned = align_detail(hours_of(whole), detail, "1h", "1m")
    assert aligned.offsets.tolist() == [0, 60, 60, 60, 119, 179]
    assert [(f.kind, f.severity, f.evidence) for f in aligned.findings] == [
        ("detail_missing", "warning", "120 of 120 detail bars are missing in 2 bars"),
        ("detail_missing", "info", "1 of 60 detail bars are missing in 1 bars"),
    ]
    assert not aligned.disagrees


def test_detail_bars_inside_of_no_coarse_bar_are_left_out_and_said():
    detail = minutes(240)
    coarse = hours_of(detail)
    aligned = align_detail(pl.concat([coarse[1:2], coarse[3:]]), detail, "1h", "1m")
    assert aligned.offsets.tolist() == [0, 60, 120]
    assert opened_at_ms(aligned.detail)[[0, 60]].tolist() == [START_MS + HOUR_MS, START_MS + 3 * HOUR_MS]
    (finding,) = aligned.findings
    assert (finding.kind, finding.span_start_ms) == ("detail_without_bar", START_MS)
    assert finding.evidence == "120 detail bars are inside of no bar and left out"


def test_without_coarse_or_detail_bars_there_is_nothing_to_disagree():
    none = minutes(0)
    assert align_detail(none, minutes(3), "1h", "1m").offsets.tolist() == [0]
    aligned = align_detail(hours_of(minutes(120)), none, "1h", "1m")
    assert aligned.offsets.tolist() == [0, 0, 0]
    assert [finding.severity for finding in aligned.findings] == ["warning"]


@pytest.mark.parametrize(("timeframe", "detail"), [("1h", "1h"), ("1h", "4h"), ("1h", "7m"), ("1w", "3d"), ("10m", "3m")])
def test_a_detail_timeframe_that_does_not_fill_the_bars_is_refused(timeframe: str, detail: str):
    with pytest.raises(UsageError, match=r"not finer|not made of whole bars"):
        align_detail(minutes(0), minutes(0), timeframe, detail)


@pytest.mark.parametrize("coarse", ["5m", "15m_2025Q3", "1h", "4h", "1d"])
def test_binances_own_coarse_bars_are_made_of_its_minutes(coarse: str):
    detail = real_candles("binance_BTCUSDT_1m")
    timeframe = coarse.partition("_")[0]
    times = opened_at_ms(detail)
    # The file's last minute is unfinished, and its first day's bars are whole.
    last_ms = int(times[-1])
    bars = real_candles(f"binance_BTCUSDT_{coarse}")
    opened = pl.Series(opened_at_ms(bars))
    length_ms = {"5m": 5, "15m": 15, "1h": 60, "4h": 240, "1d": 1440}[timeframe] * MINUTE_MS
    bars = bars.filter((opened >= int(times[0])) & (opened + length_ms <= last_ms))
    aligned = align_detail(bars, detail, timeframe, "1m")
    assert bars.height > 80
    assert not aligned.disagrees
    assert (np.diff(aligned.offsets) == length_ms // MINUTE_MS).all()
    assert align_detail(change(bars, 40, "low", 1.0), detail, timeframe, "1m").disagrees


def test_the_sample_perpetuals_bars_are_made_of_its_minutes():
    market = SampleMarket(START_MS)
    since_ms = START_MS - 30 * 24 * HOUR_MS
    coarse, detail = (
        asyncio.run(market.fetch("BTC/USDT:USDT", timeframe, since_ms, START_MS)).candles for timeframe in ("1h", "1m")
    )
    aligned = align_detail(coarse, detail, "1h", "1m")
    assert aligned.detail.height == detail.height
    assert not aligned.disagrees
