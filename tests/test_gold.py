"""Coarser candles of finer ones: the exchange's own to the last digit, and never one whose span is not wholly known."""

import math
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlewick.candles import CANDLE_SCHEMA, Series
from candlewick.errors import UsageError
from candlewick.lake import Lake
from candlewick.market_data.coverage import Coverage, Span
from candlewick.market_data.gold import (
    MONTH,
    find_source,
    is_made_of,
    open_from,
    open_of,
    read_gold,
    resample_candles,
    resample_into_lake,
    sum_decimals,
)
from candlewick.timeframes import DAY_MS, MINUTE_MS, parse_utc, timeframe_ms
from tests.shared_data import real_candles

HOUR_MS = 60 * MINUTE_MS
MONDAY_MS = parse_utc("2024-01-01")


def candles_at(*times_ms: int, volume: float = 1.0) -> pl.DataFrame:
    """Bars that rise by one: 100, 101, …"""
    price = np.arange(100.0, 100.0 + len(times_ms))
    columns = {"open": price, "high": price + 0.5, "low": price - 0.5, "close": price + 0.25}
    return pl.DataFrame({"opened_at": times_ms, **columns, "volume": [volume] * len(times_ms)}, schema=dict(CANDLE_SCHEMA))


def hours(count: int, since_ms: int = MONDAY_MS) -> pl.DataFrame:
    return candles_at(*(since_ms + n * HOUR_MS for n in range(count)))


def opens(candles: pl.DataFrame) -> list[str]:
    return candles["opened_at"].dt.strftime("%Y-%m-%d %H:%M").to_list()


@pytest.mark.parametrize(
    ("timeframe", "name"),
    [
        ("5m", "binance_BTCUSDT_5m"),
        ("15m", "binance_BTCUSDT_15m"),
        ("1h", "binance_BTCUSDT_1h"),
        ("4h", "binance_BTCUSDT_4h"),
        ("1d", "binance_BTCUSDT_1d"),
    ],
)
def test_minutes_make_the_exchanges_own_bars_to_the_last_digit_of_the_volume(timeframe: str, name: str) -> None:
    minutes, theirs = real_candles("binance_BTCUSDT_1m"), real_candles(name)
    made = resample_candles(minutes, "1m", timeframe)
    end = minutes["opened_at"][-1]
    theirs = theirs.filter(pl.col("opened_at") >= minutes["opened_at"][0], pl.col("opened_at") <= end)
    # The last minute is 18:27: the coarse bar it is in had not closed when the minutes were fetched, and is not made.
    assert made.equals(theirs.filter(pl.col("opened_at") + pl.duration(milliseconds=timeframe_ms(timeframe)) <= end))
    assert made.height >= 90


@pytest.mark.parametrize("symbol", ["BNBUSDT", "BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT"])
def test_four_years_of_hours_make_the_exchanges_four_hours_through_outages_and_untraded_bars(symbol: str) -> None:
    made = resample_candles(real_candles(f"binance_{symbol}_1h"), "1h", "4h")
    theirs = real_candles(f"binance_{symbol}_4h").join(made, on="opened_at", how="semi")
    assert made.height == 9481
    assert made.equals(theirs)


@pytest.mark.parametrize("symbol", ["BNBUSDT", "BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT"])
def test_four_hours_make_the_exchanges_days_since_listing(symbol: str) -> None:
    made = resample_candles(real_candles(f"binance_{symbol}_4h"), "4h", "1d")
    theirs = real_candles(f"binance_{symbol}_1d").join(made, on="opened_at", how="semi")
    assert made.height > 2_000
    assert made.equals(theirs)


def test_days_make_weeks_from_monday_on() -> None:
    days = real_candles("binance_BTCUSDT_1d")
    week = resample_candles(days, "1d", "1w").filter(pl.col("opened_at") == pl.datetime(2024, 1, 1, time_zone="UTC")).row(0)
    seven = days.filter(pl.col("opened_at").dt.strftime("%Y-%m-%d").is_in([f"2024-01-0{n}" for n in range(1, 8)]))
    assert seven.height == 7
    prices = seven["open"][0], seven["high"].max(), seven["low"].min(), seven["close"][-1]
    assert week[1:] == (*prices, float(sum(Decimal(repr(volume)) for volume in seven["volume"])))


def test_days_make_calendar_months_leap_years_included() -> None:
    days = real_candles("binance_BTCUSDT_1d")
    months = resample_candles(days, "1d", MONTH)
    assert opens(months)[:2] == ["2017-09-01 00:00", "2017-10-01 00:00"]  # August began before the listing
    february = months.filter(pl.col("opened_at") == pl.datetime(2024, 2, 1, time_zone="UTC")).row(0)
    inside = days.filter(pl.col("opened_at").dt.strftime("%Y-%m") == "2024-02")
    assert inside.height == 29
    prices = inside["open"][0], inside["high"].max(), inside["low"].min(), inside["close"][-1]
    assert february[1:] == (*prices, float(sum(Decimal(repr(volume)) for volume in inside["volume"])))


def test_a_bar_whose_span_was_not_all_downloaded_is_not_made() -> None:
    whole = Span(MONDAY_MS, MONDAY_MS + 12 * HOUR_MS)
    hole = Span(MONDAY_MS + 5 * HOUR_MS, MONDAY_MS + 6 * HOUR_MS)
    made = resample_candles(hours(12), "1h", "4h", Coverage((whole,)).without(hole))
    assert opens(made) == ["2024-01-01 00:00", "2024-01-01 08:00"]


def test_a_bar_that_is_still_open_is_not_made() -> None:
    covered = Coverage((Span(MONDAY_MS, MONDAY_MS + 7 * HOUR_MS),))
    assert opens(resample_candles(hours(7), "1h", "4h", covered)) == ["2024-01-01 00:00"]


def test_an_outage_inside_a_covered_span_leaves_a_bar_of_what_traded() -> None:
    covered = Coverage((Span(MONDAY_MS, MONDAY_MS + 4 * HOUR_MS),))
    outage = hours(4).filter(pl.col("opened_at").dt.hour().is_in([1, 2]))
    assert resample_candles(outage, "1h", "4h", covered).row(0)[1:] == (101.0, 102.5, 100.5, 102.25, 2.0)


def test_a_covered_span_in_which_nothing_traded_has_no_bar() -> None:
    covered = Coverage((Span(MONDAY_MS, MONDAY_MS + 12 * HOUR_MS),))
    made = resample_candles(hours(12).filter(~pl.col("opened_at").dt.hour().is_between(4, 7)), "1h", "4h", covered)
    assert opens(made) == ["2024-01-01 00:00", "2024-01-01 08:00"]


def test_without_a_coverage_only_bars_between_the_first_and_the_last_candle_are_made() -> None:
    assert opens(resample_candles(hours(10, MONDAY_MS + HOUR_MS), "1h", "4h")) == ["2024-01-01 04:00"]


def test_a_flat_bar_without_volume_repeats_an_old_price_and_opens_nothing() -> None:
    flat = pl.DataFrame(
        {"opened_at": [MONDAY_MS], "open": [150.0], "high": [150.0], "low": [150.0], "close": [150.0], "volume": [0.0]},
        schema=dict(CANDLE_SCHEMA),
    )
    rest = hours(4)[1:]
    assert resample_candles(pl.concat([flat, rest]), "1h", "4h").row(0)[1:] == (101.0, 103.5, 100.5, 103.25, 3.0)
    assert resample_candles(flat, "1h", "4h", Coverage((Span(MONDAY_MS, MONDAY_MS + 4 * HOUR_MS),))).row(0)[1:] == (
        150.0,
    ) * 4 + (0.0,)


def test_bars_are_made_of_whole_bars_only() -> None:
    assert is_made_of("1w", "1d")
    assert not is_made_of("1w", "2d")  # two days begin on 1970-01-01, weeks on a Monday
    assert not is_made_of("1h", "1h")
    assert not is_made_of("1m", MONTH)
    with pytest.raises(UsageError, match="bars of 4h are not made of whole bars of 3h"):
        resample_candles(hours(12), "3h", "4h")


def test_a_month_begins_on_its_first_and_ends_where_the_next_begins() -> None:
    assert open_of(parse_utc("2024-02-29T23:59"), MONTH) == parse_utc("2024-02-01")
    assert open_from(parse_utc("2024-02-01"), MONTH) == parse_utc("2024-02-01")
    assert open_from(parse_utc("2024-02-01") + 1, MONTH) == parse_utc("2024-03-01")
    assert open_from(MONDAY_MS + 1, "1w") == MONDAY_MS + 7 * DAY_MS


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 8), st.lists(st.integers(0, 10**9), min_size=1, max_size=200), st.integers(1, 200))
def test_a_sum_of_decimals_is_the_float_nearest_to_the_true_sum(decimals: int, units: list[int], length: int) -> None:
    values = [Decimal(unit).scaleb(-decimals) for unit in units]
    starts = np.arange(0, len(values), length)
    sums = sum_decimals(np.array([float(value) for value in values]), starts)
    assert sums.tolist() == [float(sum(values[start : start + length])) for start in starts.tolist()]


def test_volumes_that_are_no_decimals_are_rounded_once_and_do_not_change_their_neighbours() -> None:
    odd = np.array([1 / 3, 1 / 7, 1e-9, 0.1, 0.2, 0.3])
    assert sum_decimals(odd, np.array([0, 3])).tolist() == [math.fsum([1 / 3, 1 / 7, 1e-9]), 0.6]
    assert sum_decimals(np.array([9e15, 3.0]), np.array([0])).tolist() == [9_000_000_000_000_003.0]


# ------------------------------------------------------------------------------------------------- out of the lake

FETCHED_AT = datetime(2024, 3, 1, tzinfo=UTC)
BTC = "BTC/USDT"


def put(lake: Lake, timeframe: str, bars: int, since_ms: int = MONDAY_MS, volume: float = 1.0) -> Span:
    """Bars from ``since_ms`` on, covered."""
    length_ms = timeframe_ms(timeframe)
    span = Span(since_ms, since_ms + bars * length_ms)
    candles = candles_at(*range(span.since_ms, span.until_ms, length_ms), volume=volume)
    lake.put_chunk(Series("binance", BTC, timeframe), candles, span, "binance", FETCHED_AT)
    return span


def gold(lake: Lake, timeframe: str, since_ms: int | None = None, until_ms: int | None = None) -> tuple[pl.DataFrame, str]:
    candles, source = read_gold(lake, Series("binance", BTC, timeframe), since_ms, until_ms)
    return candles, "" if source is None else source.stored.timeframe


def test_gold_is_made_of_the_coarsest_timeframe_that_covers_the_span(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    put(lake, "1m", 3 * 1440)
    put(lake, "1h", 2 * 24)
    put(lake, "7m", 10)
    day = MONDAY_MS + DAY_MS
    assert gold(lake, "1d", MONDAY_MS, day)[1] == "1h"
    assert gold(lake, "1d", MONDAY_MS, day + DAY_MS)[1] == "1h"
    candles, used = gold(lake, "1d", MONDAY_MS, day + 2 * DAY_MS)
    assert used == "1m"
    assert candles["volume"].to_list() == [1440.0] * 3


def test_candles_of_the_exchange_itself_are_preferred_where_they_cover_the_span(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    put(lake, "1h", 48)
    put(lake, "4h", 6, volume=9.0)
    assert gold(lake, "4h", MONDAY_MS, MONDAY_MS + DAY_MS)[0]["volume"].to_list() == [9.0] * 6
    assert gold(lake, "4h", MONDAY_MS, MONDAY_MS + 2 * DAY_MS)[1] == "1h"
    assert gold(lake, "4h")[1] == "4h"


def test_open_ends_are_those_of_the_whole_bars_there_are(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    put(lake, "1h", 10, MONDAY_MS + HOUR_MS)  # 01:00 to 11:00
    assert opens(gold(lake, "4h")[0]) == ["2024-01-01 04:00"]
    assert opens(gold(lake, "4h", until_ms=MONDAY_MS + 5 * HOUR_MS)[0]) == ["2024-01-01 04:00"]
    assert gold(lake, "4h", since_ms=MONDAY_MS + 30 * HOUR_MS)[0].is_empty()


def test_what_the_span_lacks_is_said(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    put(lake, "1h", 24)
    put(lake, "1h", 24, MONDAY_MS + 2 * DAY_MS)
    source = find_source(lake, Series("binance", BTC, "1d"), MONDAY_MS, MONDAY_MS + 3 * DAY_MS)
    assert source is not None
    assert source.missing == (Span(MONDAY_MS + DAY_MS, MONDAY_MS + 2 * DAY_MS),)
    assert find_source(lake, Series("binance", "ETH/USDT", "1d"), None, None) is None
    assert find_source(lake, Series("binance", BTC, "30m"), None, None) is None


def test_candles_that_came_before_there_was_a_coverage_count_where_they_follow_each_other(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    without_five = hours(12).filter(pl.col("opened_at").dt.hour() != 5)
    lake.append(Series("binance", BTC, "1h"), without_five, "binance", FETCHED_AT)
    assert opens(gold(lake, "4h")[0]) == ["2024-01-01 00:00", "2024-01-01 08:00"]


def test_a_span_of_many_parts_is_read_as_if_it_were_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = Lake(str(tmp_path))
    put(lake, "1h", 40 * 24, parse_utc("2024-01-20"))
    whole = {timeframe: gold(lake, timeframe)[0] for timeframe in ("4h", "1d", "1w", MONTH)}
    monkeypatch.setattr("candlewick.market_data.gold._BARS_AT_ONCE", 50)
    assert whole["1w"].height == 5
    assert opens(whole[MONTH]) == []
    assert opens(whole["1w"])[0] == "2024-01-22 00:00"
    assert all(gold(lake, timeframe)[0].equals(candles) for timeframe, candles in whole.items())


def test_bars_that_the_exchange_does_not_offer_are_kept_with_what_they_were_made_of(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    finer, made = Series("binance", BTC, "1h"), Series("binance", BTC, "6h")
    put(lake, "1h", 20)
    put(lake, "1h", 24, MONDAY_MS + DAY_MS)
    span = Span(MONDAY_MS - DAY_MS, MONDAY_MS + 3 * DAY_MS)
    report = resample_into_lake(lake, finer, "6h", span, FETCHED_AT)
    assert report.added == 7
    assert opens(lake.read(made))[:4] == ["2024-01-01 00:00", "2024-01-01 06:00", "2024-01-01 12:00", "2024-01-02 00:00"]
    assert lake.coverage(made).spans == (
        Span(MONDAY_MS, MONDAY_MS + 18 * HOUR_MS), Span(MONDAY_MS + DAY_MS, MONDAY_MS + 2 * DAY_MS)
    )  # fmt: skip
    (file,) = lake.folder(made).glob("*.parquet")
    assert pl.read_parquet(file, columns=["source"])["source"].unique().to_list() == ["resampled:1h"]
    content = file.read_bytes()
    again = resample_into_lake(lake, finer, "6h", span, FETCHED_AT)
    assert (again.added, again.unchanged) == (0, 0)  # what is covered is not made again
    put(lake, "1h", 4, MONDAY_MS + 20 * HOUR_MS)
    assert resample_into_lake(lake, finer, "6h", span, FETCHED_AT).added == 1
    assert file.read_bytes() != content
    assert resample_candles(lake.read(finer), "1h", "6h").equals(lake.read(made))


def test_months_are_not_kept(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the lake keeps no 1M"):
        resample_into_lake(Lake(str(tmp_path)), Series("binance", BTC, "1h"), MONTH, Span(0, 1), FETCHED_AT)


def test_a_market_that_was_asked_and_had_nothing_is_no_lake_without_data(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    lake.cover(Series("binance", BTC, "4h"), Span(MONDAY_MS, MONDAY_MS + DAY_MS))
    candles, source = read_gold(lake, Series("binance", BTC, "4h"), MONDAY_MS, MONDAY_MS + DAY_MS)
    assert candles.is_empty()
    assert source is not None
    assert source.missing == ()
