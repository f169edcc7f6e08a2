"""Series looked over as the lake has them: beside other timeframes, in parts, with damaged files; and the other kinds of data."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from candlewick.candles import CANDLE_SCHEMA, Series, opened_at_ms
from candlewick.funding import normalise_funding
from candlewick.lake import Lake
from candlewick.market_data.coverage import Coverage, Span
from candlewick.market_data.gold import resample_candles
from candlewick.market_data.kinds import DataSeries
from candlewick.market_data.schemas import OPEN_INTEREST_SCHEMA, TRADES_SCHEMA
from candlewick.quality import inspect
from candlewick.quality.inspect import inspect_series
from candlewick.quality.kinds_checks import check_kind
from candlewick.validation import Finding
from tests.shared_data import SHARED, real_candles
from tests.test_quality_checks import BARS, HOUR_MS, SERIES, START_MS, at, hole, hours, put, told

FETCHED_AT = datetime(2024, 3, 1, tzinfo=UTC)
COARSE = Series(SERIES.market, SERIES.symbol, "4h")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def keep(lake: Lake, series: Series, candles: pl.DataFrame, until_ms: int | None = None) -> None:
    span = Span(int(opened_at_ms(candles)[0]), until_ms or int(opened_at_ms(candles)[-1]) + HOUR_MS)
    lake.put_chunk(series, candles, span, "test", FETCHED_AT)


def kinds(findings: tuple[Finding, ...]) -> list[str]:
    return [one.kind for one in findings]


# ------------------------------------------------------------------------------------------------- candles


def test_a_series_that_the_lake_does_not_have_has_no_findings(lake: Lake) -> None:
    assert inspect_series(lake, SERIES, at(0)) == ()


def test_other_timeframes_in_the_lake_tell_what_a_hole_is(lake: Lake) -> None:
    keep(lake, SERIES, hole(101, 2))
    assert kinds(inspect_series(lake, SERIES, at(BARS))) == ["gap"]
    keep(lake, COARSE, resample_candles(hole(101, 2), "1h", "4h"))
    assert kinds(inspect_series(lake, SERIES, at(BARS))) == ["gap_outage"]


def test_another_symbol_and_another_market_are_no_other_timeframes(lake: Lake) -> None:
    keep(lake, SERIES, hole(101, 2))
    for market, symbol in ((SERIES.market, "ETH/USDT"), ("other", SERIES.symbol)):
        keep(lake, Series(market, symbol, "4h"), resample_candles(hours(), "1h", "4h"))
    (found,) = inspect_series(lake, SERIES, at(BARS))
    assert (found.kind, found.severity) == ("gap", "warning")


def test_a_hole_that_was_never_downloaded_is_told_by_the_coverage(lake: Lake) -> None:
    keep(lake, SERIES, hours()[:100])
    keep(lake, SERIES, hours()[110:])
    assert told(inspect_series(lake, SERIES, at(BARS))) == [("gap_not_downloaded", 100, 110)]


def test_a_series_in_parts_has_the_findings_of_the_whole(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of 100 bars with 30 around: spikes, holes at borders, and one hole that is longer than a part."""
    frame = hours(bars=2_000)
    for bar in (95, 100, 199, 555, 901):
        frame = put(frame, bar, high=frame["high"][bar] * 3, volume=20.0)
    for bar in (*range(670, 690), *range(710, 725)):  # A part that ends at 648 sees 30 bars more, one from 748 on 30 before.
        frame = put(frame, bar, volume=0.0)
    frame = hole(1_090, 350, hole(298, 4, frame))
    keep(lake, SERIES, frame, at(2_020))
    keep(lake, COARSE, resample_candles(frame, "1h", "4h"))
    whole = inspect_series(lake, SERIES, at(2_020))
    assert told(whole) == [
        *(("outlier", bar, bar + 1) for bar in (95, 100, 199)),
        ("gap_outage", 298, 302),
        ("outlier", 555, 556),
        ("zero_volume", 670, 690),
        ("zero_volume", 710, 725),
        ("outlier", 901, 902),
        ("gap_outage", 1_090, 1_440),
        ("stale", 2_000, 2_003),
    ]
    for since in (0, 100, 560, 1_300, 1_999, 3_000):
        later = tuple(one for one in whole if one.span_end_ms > at(since))
        assert inspect_series(lake, SERIES, at(2_020), since_ms=at(since)) == (later or whole[-1:])
    monkeypatch.setattr(inspect, "MOST_ROWS", 100)
    monkeypatch.setattr(inspect, "AROUND_BARS", 30)
    assert inspect_series(lake, SERIES, at(2_020)) == whole


def test_a_damaged_file_is_a_finding_and_the_other_files_are_looked_at(lake: Lake) -> None:
    frame = put(put(hours(bars=2_000), 1_500, high=90_000.0, volume=20.0), 1_000, high=90_000.0, volume=20.0)
    keep(lake, SERIES, frame)
    files = sorted(Path(lake.folder(SERIES)).glob("*.parquet"))
    assert [file.name for file in files] == ["2024-01.parquet", "2024-02.parquet", "2024-03.parquet"]
    february, march = (31 * 24, 60 * 24)
    files[1].write_bytes(b"not parquet")
    findings = inspect_series(lake, SERIES, None)
    assert told(findings) == [("damaged_file", february, march), ("outlier", 1_500, 1_501)]
    assert "2024-02.parquet" in findings[0].evidence
    files[0].write_bytes(b"nor this")
    assert told(inspect_series(lake, SERIES, None)) == [("damaged_file", 0, march), ("outlier", 1_500, 1_501)]


def test_two_files_of_one_exchange_agree_through_the_lake(lake: Lake) -> None:
    real, market = real_candles("binance_BTCUSDT_1h"), "binance"
    keep(lake, Series(market, "BTC/USDT", "1h"), real)
    keep(lake, Series(market, "BTC/USDT", "4h"), real_candles("binance_BTCUSDT_4h"))
    findings = inspect_series(lake, Series(market, "BTC/USDT", "1h"), None)
    assert kinds(findings) == ["invented_candle", "gap_outage"]
    against = inspect_series(lake, Series(market, "BTC/USDT", "1h"), None, {"itself": Series(market, "BTC/USDT", "1h")})
    assert kinds(against) == ["invented_candle", "gap_outage"]


# ------------------------------------------------------------------------------------------------- other kinds

FUNDING = DataSeries("market", "BTC/USDT:USDT", "funding_rate")
OPEN_INTEREST = DataSeries("market", "BTC/USDT:USDT", "open_interest", "1h")
TRADES = DataSeries("market", "BTC/USDT", "trades")


def funding(payments: int = 90) -> pl.DataFrame:
    times = pl.Series(START_MS + 8 * HOUR_MS * np.arange(payments)).cast(pl.Datetime("ms", "UTC"))
    return normalise_funding(pl.DataFrame({"noted_at": times, "rate": np.full(payments, 0.0001)}), "test")


def open_interest(rows: int = 50) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "opened_at": pl.Series(START_MS + HOUR_MS * np.arange(rows)).cast(pl.Datetime("ms", "UTC")),
            "open_interest": 1_000.0 + np.arange(rows),
            "open_interest_value": [None] * rows,
        },
        schema=dict(OPEN_INTEREST_SCHEMA),
    )


def trades(rows: int = 50) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "traded_at": pl.Series(START_MS + 1_000 * np.arange(rows)).cast(pl.Datetime("ms", "UTC")),
            "trade_id": [str(row) for row in range(rows)],
            "price": np.full(rows, 100.0),
            "amount": np.full(rows, 0.5),
            "side": ["buy", None] * (rows // 2),
        },
        schema=dict(TRADES_SCHEMA),
    )


def test_clean_rows_of_every_kind_raise_nothing() -> None:
    assert check_kind(funding(), FUNDING) == ()
    assert check_kind(open_interest(), OPEN_INTEREST) == ()
    assert check_kind(trades(), TRADES) == ()
    for rows, series in ((funding(), FUNDING), (open_interest(), OPEN_INTEREST), (trades(), TRADES)):
        assert check_kind(rows[:0], series) == ()


@pytest.mark.parametrize("name", ["BTCUSDT", "SOLUSDT", "XRPUSDT"])
def test_real_funding_is_complete(name: str) -> None:
    path = SHARED / "data" / "derivatives" / f"binanceusdm_{name}_funding_8h.parquet"
    if not path.is_file():
        pytest.skip(f"the real funding {path.name} is not beside this checkout")
    raw = pl.read_parquet(path).select(pl.col("ts").alias("noted_at"), pl.col("funding_rate").alias("rate"))
    assert check_kind(normalise_funding(raw, name), FUNDING) == ()


def test_absent_and_contradicting_payments_are_told() -> None:
    rows = funding()
    lacking = pl.concat([rows[:30], rows[32:]])
    (found,) = check_kind(lacking, FUNDING)
    assert (found.kind, found.evidence) == ("gap", "2 payments missing between the two")
    assert (found.span_start_ms, found.span_end_ms) == (at(29 * 8), at(32 * 8))
    (found,) = check_kind(lacking, FUNDING, Coverage.of([Span(at(0), at(29 * 8 + 1)), Span(at(32 * 8), at(2_000))]))
    assert found.kind == "gap_not_downloaded"
    other = rows[5:6].with_columns(rate=pl.lit(0.5))
    (found,) = check_kind(pl.concat([rows[:6], other, rows[6:]]), FUNDING)
    assert (found.kind, found.severity) == ("conflicting_duplicate", "error")
    (found,) = check_kind(rows.with_columns(rate=pl.when(pl.int_range(pl.len()) == 3).then(1.5).otherwise("rate")), FUNDING)
    assert (found.kind, "rate 1.5" in found.evidence) == ("not_finite", True)


def test_open_interest_off_the_grid_below_zero_missing_and_out_of_order_is_told() -> None:
    rows = open_interest()
    late = rows.with_columns(
        pl.when(pl.int_range(pl.len()) == 49)
        .then(pl.col("opened_at").dt.offset_by("5m"))
        .otherwise("opened_at")
        .alias("opened_at")
    )
    bad = late.with_columns(pl.when(pl.int_range(pl.len()) == 4).then(-1.0).otherwise("open_interest").alias("open_interest"))
    findings = check_kind(pl.concat([bad[:20], bad[25:]])[::-1], OPEN_INTEREST)
    assert {one.kind: one.severity for one in findings} == {
        "out_of_order": "info",
        "not_positive": "error",
        "gap": "warning",
        "off_grid": "error",
    }
    gap = next(one for one in findings if one.kind == "gap")
    assert (gap.span_start_ms, gap.span_end_ms, gap.evidence) == (at(20), at(25), "5 rows missing")


def test_trades_without_a_price_twice_or_of_no_side_are_told() -> None:
    rows = trades()
    free = rows.with_columns(price=pl.when(pl.int_range(pl.len()) == 3).then(0.0).otherwise("price"))
    odd = free.with_columns(side=pl.when(pl.int_range(pl.len()) == 6).then(pl.lit("bid")).otherwise("side"))
    twice = pl.concat([odd, odd[9:10], odd[10:11].with_columns(amount=pl.lit(9.0))])
    assert {one.kind for one in check_kind(twice, TRADES)} == {
        "not_positive",
        "schema",
        "duplicate",
        "conflicting_duplicate",
        "out_of_order",
    }


def test_other_kinds_are_looked_over_in_the_lake_with_what_was_never_downloaded(lake: Lake) -> None:
    rows = trades()
    ends = Span(at(0), at(0) + 10_000), Span(at(0) + 30_000, at(0) + 50_000)
    for span in ends:
        part = rows.filter(pl.col("traded_at").dt.epoch("ms").is_between(span.since_ms, span.until_ms, closed="left"))
        lake.append_rows(TRADES, part, span, "test", FETCHED_AT)
    (found,) = inspect_series(lake, TRADES, None)
    assert (found.kind, found.span_start_ms, found.span_end_ms) == ("gap_not_downloaded", ends[0].until_ms, ends[1].since_ms)


def test_candles_are_found_by_either_name_of_their_series(lake: Lake) -> None:
    keep(lake, SERIES, hole(101, 2))
    assert inspect_series(lake, DataSeries.of_candles(SERIES), None) == inspect_series(lake, SERIES, None)
    assert hours().schema == dict(CANDLE_SCHEMA)
