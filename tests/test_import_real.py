"""Real files with their real defects: what the import finds in each, in counts, and what it refuses."""

from pathlib import Path

import polars as pl
import pytest

from candlewick.candles import Series
from candlewick.errors import AmbiguousImport
from candlewick.lake import Lake
from candlewick.market_data.coverage import Span
from candlewick.market_data.importing_report import ImportReport
from candlewick.market_data.kinds import DataSeries
from candlewick.market_data.trade_candles import candles_of_trades, keep_candles_of_trades
from candlewick.timeframes import floor_to_bar, timeframe_ms
from tests.imported_files import imported, kinds, said
from tests.shared_data import SHARED, real_candles

DATA = SHARED / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the real files are not beside this checkout")
MIXED = DATA / "defects" / "binance_BTCUSDT_1h_mixed_units_and_duplicates.csv"
BY_UNIX: dict[str, object] = {"columns": {"opened_at": "unix"}}


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def test_two_units_two_forms_of_dates_and_conflicting_hours_are_refused_with_their_rows() -> None:
    with pytest.raises(AmbiguousImport) as caught:
        imported(MIXED, None)
    text = str(caught.value)
    assert "1,443 times are there with different candles (1,442 with different prices)" in text
    assert "line 10,127: 1596322800000,2020-08-01 23:00:00,BTC/USDT,11783.31" in text
    assert "line 10,128: 1596322800.0,2020-08-01 11-PM,BTC/USDT,11783.3," in text
    assert "'date' and 'unix' tell different times in 91 of 36,062 rows" in text, "the dates of 2017-09 are four hours off"


def test_the_same_file_is_imported_once_the_user_has_settled_it(lake: Lake) -> None:
    report = imported(MIXED, lake, BY_UNIX, resolve="first")
    assert "28,584 rows in unix seconds, 7,478 in unix milliseconds" in said(report, "time")
    assert "newest first" in said(report, "order")
    assert "2017-08-17 04:00 to 2021-06-10 01:00" in report.span_text
    assert (report.rows, report.kept) == (36062, 33413)
    assert report.rows - report.kept == 2649, "the hours that are there twice"
    assert "unfinished?" in said(report, "last row")
    assert kinds(report) == {"mixed_units", "duplicate", "resolved_duplicate"}
    truth, got = real_candles("binance_BTCUSDT_1h_2017-2024"), lake.read(Series("mine", "BTC/USDT", "1h"))
    both = truth.join(got, on="opened_at", suffix="_got")
    agree = ((both["close"] - both["close_got"]).abs() < 0.011).mean()
    assert agree is not None
    assert agree > 0.99  # type: ignore[operator]


def test_rows_out_of_order_are_found_and_sorted_and_the_volume_columns_told_apart(lake: Lake) -> None:
    report = imported(DATA / "defects" / "coinbase_BTCUSD_1h_out_of_order.csv", lake, symbol="BTC/USD")
    assert "dates with AM or PM" in said(report, "time")
    assert "newest first, 5 rows out of order" in said(report, "order")
    assert "'volume_btc' in base and 'volume' in quote currency" in said(report, "volume")
    assert kinds(report) == {"out_of_order"}
    assert lake.read(Series("mine", "BTC/USD", "1h")).equals(real_candles("coinbase_BTCUSD_1h").sort("opened_at"))


def test_days_of_other_zones_are_refused_with_their_count() -> None:
    with pytest.raises(AmbiguousImport) as caught:
        imported(DATA / "defects" / "gemini_BTCUSD_1d_broken.csv", None, symbol="BTC/USD", timeframe="1d")
    text = str(caught.value)
    assert "2,811 of 3,142 rows do not open on the 1d grid in UTC (2,646 at 04:00:00, 165 at 13:00:00 UTC)" in text
    assert "values that cannot be true in 1 of 3,142 rows (the first one's open is not above 0)" in text
    assert "line 3,144: 1444276800,2015-10-08 04:00:00,BTC/USD,0.0,245.0,0.0,243.6" in text
    assert "line 146: 1672804800000,2023-01-04 04:00:00" in text


def test_swapped_volumes_of_older_rows_are_found_and_swapped_back(lake: Lake) -> None:
    report = imported(DATA / "defects" / "bitstamp_BTCUSD_1h_swapped_volume.csv", lake, symbol="BTC/USD")
    assert "swapped in 20,143 rows, proved by the price" in said(report, "volume")
    assert kinds(report) == {"swapped_volume"}
    got = lake.read(Series("mine", "BTC/USD", "1h"))
    assert got.height == 30355
    assert got["volume"].max() < 50_000  # type: ignore[operator]
    raw = pl.read_csv(DATA / "defects" / "bitstamp_BTCUSD_1h_swapped_volume.csv").reverse()
    assert got["volume"].to_list() == raw.select(pl.min_horizontal("Volume USD", "Volume BTC")).to_series().to_list()


def test_gaps_of_a_quiet_market_stay_gaps(lake: Lake) -> None:
    report = imported(DATA / "defects" / "ADA_BTC_5m_gappy.feather", lake, symbol="ADA/BTC", timeframe="5m")
    assert (report.kept, kinds(report)) == (5720, set())
    assert "candles missing: 40 [5] kept as gaps" in said(report, "gaps")
    assert lake.coverage(Series("mine", "ADA/BTC", "5m")).covers(Span(report.first_ms, report.end_ms))


@pytest.mark.parametrize(
    ("name", "symbol", "timeframe"),
    [
        ("binance_BTCUSDT_1h_2017-2024", "BTC/USDT", "1h"),
        ("binanceusdm_SUIUSDT_1m", "SUI/USDT:USDT", "1m"),
        ("bitfinex_BTCUSD_1d", "BTC/USD", "1d"),
    ],
)
def test_clean_files_raise_nothing(lake: Lake, name: str, symbol: str, timeframe: str) -> None:
    report = imported(DATA / "candles" / f"{name}.parquet", lake, symbol=symbol, timeframe=timeframe)
    assert kinds(report) == set()
    assert lake.read(Series("mine", symbol, timeframe)).equals(real_candles(name))


@pytest.fixture
def trades(lake: Lake) -> ImportReport:
    path = DATA / "known_answers" / "freqtrade_XRP_ETH-trades.feather"
    return imported(path, lake, symbol="XRP/ETH", timeframe="", kind="trades")


@pytest.mark.parametrize(("timeframe", "bars"), [("1m", 2469), ("5m", 706)])
def test_imported_trades_make_the_candles_that_another_project_made_of_them(
    lake: Lake, trades: ImportReport, timeframe: str, bars: int
) -> None:
    assert trades.added == 12477
    expected = pl.read_ipc(DATA / "known_answers" / f"freqtrade_XRP_ETH-{timeframe}.feather")
    whole = Span(floor_to_bar(trades.first_ms, timeframe), floor_to_bar(trades.end_ms, timeframe) + timeframe_ms(timeframe))
    made = candles_of_trades(lake, DataSeries("mine", "XRP/ETH", "trades"), timeframe, whole)
    assert made.height == bars
    assert made["opened_at"].to_list() == expected["date"].to_list()
    for column in ("open", "high", "low", "close"):
        assert made[column].to_list() == expected[column].to_list()
    assert (made["volume"] - expected["volume"]).abs().max() < 1e-9 * expected["volume"].max()  # type: ignore[operator]


def test_candles_are_made_of_whole_bars_and_once(lake: Lake, trades: ImportReport) -> None:
    series = DataSeries("mine", "XRP/ETH", "trades")
    told = Span(trades.first_ms, trades.end_ms)
    added = keep_candles_of_trades(lake, series, "5m", told)
    assert added == 706 - 2, "the bars at both ends are not whole"
    assert keep_candles_of_trades(lake, series, "5m", told) == 0
    covered = lake.coverage(Series("mine", "XRP/ETH", "5m")).spans
    assert [span.since_ms % 300_000 + span.until_ms % 300_000 for span in covered] == [0]
    assert keep_candles_of_trades(lake, series, "1h", Span(trades.first_ms, trades.first_ms + 60_000)) == 0
