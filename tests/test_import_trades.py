"""Files of trades: ids, the taker's side, the order within a millisecond, and what is refused."""

from pathlib import Path

import polars as pl
import pytest

from candlewick.errors import AmbiguousImport, CandlewickError, InvalidCandles
from candlewick.lake import Lake
from candlewick.market_data.coverage import Span
from candlewick.market_data.importing_report import ImportReport
from candlewick.market_data.kinds import DataSeries
from candlewick.market_data.trade_candles import candles_of_trades
from candlewick.timeframes import parse_utc
from tests.imported_files import imported, said, write

NOON = parse_utc("2024-01-07T12:00")
TRADES = DataSeries("mine", "BTC/USDT", "trades")
ROWS = pl.DataFrame(
    {
        "time": [NOON, NOON, NOON + 5, NOON + 90_000],
        "price": [100.0, 101.0, 99.0, 102.0],
        "qty": [1.0, 2.0, 3.0, 4.0],
        "id": ["7", "8", "10", "9"],
        "is_buyer_maker": ["true", "false", "true", "false"],
    }
)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def taken(path: Path, lake: Lake | None, **how: object) -> ImportReport:
    return imported(path, lake, timeframe="", kind="trades", **how)  # type: ignore[arg-type]


def test_trades_keep_their_ids_and_say_who_took(tmp_path: Path, lake: Lake) -> None:
    report = taken(write(tmp_path / "mine.csv", ROWS), lake)
    kept = lake.read_rows(TRADES, NOON, NOON + 100_000)
    assert kept["trade_id"].to_list() == ["7", "8", "10", "9"]
    assert kept["side"].to_list() == ["sell", "buy", "sell", "buy"]
    assert (report.first_ms, report.end_ms) == (NOON, NOON + 90_001)
    assert taken(tmp_path / "mine.csv", lake).added == 0


def test_the_first_trade_of_a_millisecond_is_the_first_one_whichever_way_the_file_goes(tmp_path: Path) -> None:
    unnamed = ROWS.drop("id")
    for name, rows in (("forwards", unnamed), ("backwards", unnamed.reverse())):
        lake = Lake(str(tmp_path / name))
        report = taken(write(tmp_path / f"{name}.csv", rows), lake)
        (bar, _) = candles_of_trades(lake, TRADES, "1m", Span(NOON, NOON + 120_000)).rows()
        assert bar[1:] == (100.0, 101.0, 99.0, 99.0, 6.0)
        assert "trades without an id [4]" in said(report, "ids")


def test_a_dump_of_trades_without_a_header_is_known_by_its_columns(tmp_path: Path, lake: Lake) -> None:
    dump = ROWS.select("id", "price", "qty", (pl.col("price") * pl.col("qty")).alias("cost"), "time", "is_buyer_maker")
    taken(write(tmp_path / "mine.csv", dump, header=False), lake)
    assert lake.read_rows(TRADES, NOON, NOON + 100_000)["amount"].to_list() == [1.0, 2.0, 3.0, 4.0]


def test_seconds_with_decimals_are_cut_to_milliseconds_and_keep_their_order(tmp_path: Path, lake: Lake) -> None:
    rows = pl.DataFrame(
        {"t": ["1704628800.123457", "1704628800.123999", "1704628800.124"], "p": [1.0, 3.0, 2.0], "v": [1.0, 1.0, 1.0]}
    )
    taken(write(tmp_path / "XBTUSD.csv", rows, header=False), lake)
    kept = lake.read_rows(TRADES, NOON, NOON + 1000)
    assert kept["traded_at"].dt.epoch("ms").to_list() == [NOON + 123, NOON + 123, NOON + 124]
    assert kept["price"].to_list() == [1.0, 3.0, 2.0]


def test_an_id_that_is_told_again_is_one_trade_and_with_other_content_none(tmp_path: Path, lake: Lake) -> None:
    report = taken(write(tmp_path / "again.csv", pl.concat([ROWS, ROWS.head(2)])), lake)
    assert (report.added, said(report, "duplicates")) == (4, "trades whose id is there again [2] dropped")
    other = ROWS.head(1).with_columns(pl.lit(55.0).alias("price"))
    path = write(tmp_path / "other.csv", pl.concat([ROWS, other]))
    with pytest.raises(AmbiguousImport, match=r"1 ids are there with different trades:\n    line 2: .*\n    line 6: "):
        taken(path, None)
    resolved = Lake(str(tmp_path / "resolved"))
    assert taken(path, resolved, resolve="last").kept == 4
    assert resolved.read_rows(TRADES, NOON, NOON + 1)["price"].to_list() == [55.0, 101.0]


@pytest.mark.parametrize(
    ("column", "value", "error", "says"),
    [
        ("price", 0.0, InvalidCandles, "no price or amount above 0 in 1 row:\n    line 4: "),
        ("qty", -1.0, InvalidCandles, "no price or amount above 0 in 1 row:\n    line 4: "),
        ("time", parse_utc("2036-01-01"), AmbiguousImport, "times in the future in 1 row"),
        ("time", 5, AmbiguousImport, "has no time that can be read in one way in 1 row"),
    ],
)
def test_trades_that_cannot_be_are_refused_with_their_rows(
    tmp_path: Path, column: str, value: float, error: type[CandlewickError], says: str
) -> None:
    changed = pl.when(pl.int_range(pl.len()) == 2).then(value).otherwise(column).cast(ROWS.schema[column]).alias(column)
    path = write(tmp_path / "mine.csv", ROWS.with_columns(changed))
    with pytest.raises(error, match=says):
        taken(path, None)
