"""Trades to candles, against a known answer (another project's candles of 12,477 real trades) and by hand."""

import polars as pl
import pytest

from candlewick.candles import CANDLE_SCHEMA
from candlewick.errors import InvalidCandles, UsageError
from candlewick.timeframes import floor_to_bar, parse_utc
from candlewick.trades_to_candles import trades_to_candles
from tests.shared_data import SHARED

ANSWERS = SHARED / "data" / "known_answers"
NOON = parse_utc("2026-01-07T12:00")  # a Wednesday


def made_trades(*rows: tuple[int, float, float]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={"traded_at": pl.Int64, "price": pl.Float64, "amount": pl.Float64}, orient="row")


@pytest.mark.parametrize(("timeframe", "bars"), [("1m", 2469), ("5m", 706)])
def test_real_trades_make_the_candles_that_another_project_made_of_them(timeframe: str, bars: int) -> None:
    if not ANSWERS.is_dir():
        pytest.skip("the known answers are not beside this checkout")
    trades = pl.read_ipc(ANSWERS / "freqtrade_XRP_ETH-trades.feather")
    expected = pl.read_ipc(ANSWERS / f"freqtrade_XRP_ETH-{timeframe}.feather")
    made = trades_to_candles(trades.select("price", "amount", traded_at="timestamp"), timeframe)
    assert made.height == bars
    assert dict(made.schema) == dict(CANDLE_SCHEMA)
    assert made["opened_at"].to_list() == expected["date"].to_list()
    for column in ("open", "high", "low", "close"):
        assert made[column].to_list() == expected[column].to_list()
    assert (made["volume"] - expected["volume"]).abs().max() < 1e-9 * expected["volume"].max()


def test_a_bar_is_its_first_highest_lowest_and_last_trade_and_a_bar_without_trades_is_absent() -> None:
    minute = 60_000
    first_bar = (NOON, 10.0, 1.0), (NOON + 1, 12.0, 2.0), (NOON + 2, 9.0, 3.0), (NOON + minute - 1, 11.0, 4.0)
    made = trades_to_candles(made_trades(*first_bar, (NOON + 3 * minute, 8.0, 5.0)), "1m")
    assert made.rows() == [
        (made["opened_at"][0], 10.0, 12.0, 9.0, 11.0, 10.0),
        (made["opened_at"][1], 8.0, 8.0, 8.0, 8.0, 5.0),
    ]
    assert made["opened_at"].dt.timestamp("ms").to_list() == [NOON, NOON + 3 * minute]


@pytest.mark.parametrize("timeframe", ["1m", "7m", "4h", "1d", "1w"])
def test_bars_open_where_the_timeframe_says(timeframe: str) -> None:
    made = trades_to_candles(made_trades((NOON + 12_345, 10.0, 1.0)), timeframe)
    assert made["opened_at"].dt.timestamp("ms").to_list() == [floor_to_bar(NOON + 12_345, timeframe)]


def test_no_trades_make_no_candles() -> None:
    assert trades_to_candles(made_trades(), "1h").height == 0


def test_trades_that_go_back_in_time_or_have_no_price_are_refused() -> None:
    with pytest.raises(InvalidCandles, match="go back in time"):
        trades_to_candles(made_trades((NOON, 10.0, 1.0), (NOON - 1, 10.0, 1.0)), "1m")
    for price, amount in ((0.0, 1.0), (-1.0, 1.0), (float("nan"), 1.0), (float("inf"), 1.0), (1.0, 0.0), (1.0, float("nan"))):
        with pytest.raises(InvalidCandles, match="must be above 0"):
            trades_to_candles(made_trades((NOON, price, amount)), "1m")
    with pytest.raises(UsageError, match="is not understood"):
        trades_to_candles(made_trades((NOON, 10.0, 1.0)), "1y")
