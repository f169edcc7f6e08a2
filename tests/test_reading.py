"""The Python API: the lake in one call, as polars or pandas, and never less than was asked for without saying so."""

from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from candlewick.candles import CANDLE_SCHEMA, Series
from candlewick.errors import MissingData, UsageError
from candlewick.funding import FUNDING_SCHEMA
from candlewick.lake import Lake
from candlewick.market.files import FilesMarket
from candlewick.market_data.coverage import Span
from candlewick.market_data.kinds import DataSeries
from candlewick.market_data.schemas import OPEN_INTEREST_SCHEMA, TRADES_SCHEMA
from candlewick.reading import candles, funding, open_interest, series, trades
from candlewick.timeframes import DAY_MS, MINUTE_MS, parse_utc, timeframe_ms

BTC, PERPETUAL = "BTC/USDT", "BTC/USDT:USDT"
SINCE_MS = parse_utc("2024-01-01")
HOUR_MS = 60 * MINUTE_MS
FETCHED_AT = datetime(2024, 3, 1, tzinfo=UTC)


def put_candles(lake: Lake, timeframe: str, since_ms: int, until_ms: int, market: str = "binance") -> None:
    times = list(range(since_ms, until_ms, timeframe_ms(timeframe)))
    price = np.linspace(100.0, 200.0, len(times))
    numbers = {"open": price, "high": price + 1, "low": price - 1, "close": price, "volume": np.full(len(times), 0.1)}
    frame = pl.DataFrame({"opened_at": times, **numbers}, schema=dict(CANDLE_SCHEMA))
    lake.put_chunk(Series(market, BTC, timeframe), frame, Span(since_ms, until_ms), market, FETCHED_AT)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Ten days of hours, of which the fifth was not downloaded; funding, open interest and trades of a day."""
    lake = Lake(str(tmp_path / "lake"))
    put_candles(lake, "1h", SINCE_MS, SINCE_MS + 4 * DAY_MS)
    put_candles(lake, "1h", SINCE_MS + 5 * DAY_MS, SINCE_MS + 10 * DAY_MS)
    day = Span(SINCE_MS, SINCE_MS + DAY_MS)
    times = [SINCE_MS + n * 8 * HOUR_MS for n in range(3)]
    paid = pl.DataFrame({"funding_at": times, "rate": [1e-4, 2e-4, -1e-4], "noted_at": times}).cast(
        {"funding_at": pl.Datetime("ms"), "noted_at": pl.Datetime("ms")}
    )
    paid = paid.select(pl.col(name).cast(kind) if name == "rate" else pl.col(name).dt.replace_time_zone("UTC").cast(kind)
                       for name, kind in FUNDING_SCHEMA.items())  # fmt: skip
    lake.append_rows(DataSeries("binance", PERPETUAL, "funding_rate"), paid, day, "binance", FETCHED_AT)
    held = {"opened_at": times, "open_interest": [1.0, 2.0, 3.0], "open_interest_value": [None, 5.0, 6.0]}
    open_ = pl.DataFrame(held, schema=dict(OPEN_INTEREST_SCHEMA))
    lake.append_rows(DataSeries("binance", PERPETUAL, "open_interest", "8h"), open_, day, "binance", FETCHED_AT)
    dealt = {
        "traded_at": times,
        "trade_id": ["1", "2", "3"],
        "price": [1.0] * 3,
        "amount": [2.0] * 3,
        "side": ["buy", "sell", None],
    }
    lake.append_rows(
        DataSeries("binance", BTC, "trades"), pl.DataFrame(dealt, schema=dict(TRADES_SCHEMA)), day, "binance", FETCHED_AT
    )
    return lake


def test_candles_come_in_one_call(lake: Lake) -> None:
    frame = candles("binance", BTC, "1h", since="2024-01-02", until=date(2024, 1, 3), lake=lake.url)
    assert frame.schema == CANDLE_SCHEMA
    assert (frame.height, frame["opened_at"][0]) == (24, datetime(2024, 1, 2, tzinfo=UTC))
    same = candles("binance", BTC, "1h", SINCE_MS + DAY_MS, datetime(2024, 1, 3), lake=lake.url)  # noqa: DTZ001 - UTC is meant
    assert same.equals(frame)


def test_the_lake_of_the_settings_is_read_where_none_is_named(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANDLEWICK_LAKE__URL", lake.url)
    assert candles("binance", BTC, "1h", until="2024-01-03").height == 48


def test_pandas_has_the_times_as_its_index_in_utc(lake: Lake) -> None:
    pandas = pytest.importorskip("pandas")
    frame = candles("binance", BTC, "1h", until="2024-01-03", as_="pandas", lake=lake.url)
    assert isinstance(frame.index, pandas.DatetimeIndex)
    assert str(frame.index.tz) == "UTC"
    assert frame.index.name == "opened_at"
    assert {str(kind) for kind in frame.dtypes} == {"float64"}
    assert list(frame.columns) == ["open", "high", "low", "close", "volume"]
    assert frame.resample("1D")["volume"].count().tolist() == [24, 24]
    paid = funding("binance", PERPETUAL, as_="pandas", lake=lake.url)
    assert paid["rate"].tolist() == [1e-4, 2e-4, -1e-4]


def test_without_pandas_it_is_said_how_to_get_it(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("candlewick.reading.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="pip install pandas"):
        candles("binance", BTC, "1h", until="2024-01-03", as_="pandas", lake=lake.url)


def test_a_timeframe_that_the_lake_does_not_have_is_made_of_a_finer_one(lake: Lake) -> None:
    frame = candles("binance", BTC, "1d", until="2024-01-04", lake=lake.url)
    assert frame["volume"].to_list() == [2.4, 2.4, 2.4]


def test_what_is_missing_is_said_with_the_command_that_fetches_it(lake: Lake) -> None:
    with pytest.raises(MissingData) as caught:
        candles("binance", BTC, "1d", lake=lake.url)
    assert str(caught.value) == (
        "binance BTC/USDT 1h: 2024-01-05 00:00 to 2024-01-06 00:00 is not in the lake: `python -m flows.market_data backfill "
        "--market binance --symbols BTC/USDT --timeframes 1h --since 2024-01-05T00:00 --until 2024-01-06T00:00` fetches it; "
        'missing="allow" (--allow-missing) does without'
    )
    assert caught.value.holes == ((SINCE_MS + 4 * DAY_MS, SINCE_MS + 5 * DAY_MS),)
    assert candles("binance", BTC, "1d", missing="allow", lake=lake.url).height == 9


def test_a_beginning_before_and_an_end_after_what_there_is_are_missing(lake: Lake) -> None:
    with pytest.raises(MissingData, match="2023-12-31 00:00 to 2024-01-01 00:00 is not in the lake"):
        candles("binance", BTC, "1h", since="2023-12-31", until="2024-01-02", lake=lake.url)
    with pytest.raises(MissingData, match="2024-01-11 00:00 to 2024-01-12 00:00 is not in the lake"):
        candles("binance", BTC, "1h", since="2024-01-10", until="2024-01-12", lake=lake.url)
    with pytest.raises(MissingData, match="--since 2024-02-01T00:00"):
        candles("binance", BTC, "1h", since="2024-02-01", lake=lake.url)


def test_nothing_is_missing_of_the_future(lake: Lake) -> None:
    now_ms = round(datetime.now(UTC).timestamp() * 1000)
    start_ms = now_ms // DAY_MS * DAY_MS - DAY_MS
    put_candles(lake, "1d", start_ms, start_ms + DAY_MS, market="kraken")
    assert candles("kraken", BTC, "1d", since=start_ms, until="2100-01-01", lake=lake.url).height == 1


def test_a_series_of_which_there_is_nothing_is_no_empty_frame(lake: Lake) -> None:
    with pytest.raises(MissingData, match=r"nothing of binance ETH/USDT 1h, and nothing finer .* --since DATE`"):
        candles("binance", "ETH/USDT", "1h", missing="allow", lake=lake.url)
    with pytest.raises(MissingData, match=r"nothing of binance BTC/USDT 30m"):
        candles("binance", BTC, "30m", lake=lake.url)
    with pytest.raises(MissingData, match="--kinds funding_rate --since DATE"):
        funding("binance", "ETH/USDT:USDT", lake=lake.url)


def test_a_span_that_runs_backwards_and_a_text_that_is_no_time_are_refused(lake: Lake) -> None:
    with pytest.raises(UsageError, match="until 2024-01-01 00:00 is not after since 2024-01-02 00:00"):
        candles("binance", BTC, "1h", "2024-01-02", "2024-01-01", lake=lake.url)
    with pytest.raises(UsageError, match="is not a time"):
        candles("binance", BTC, "1h", "yesterday", lake=lake.url)
    with pytest.raises(UsageError, match="timeframe '1y' is not understood"):
        candles("binance", BTC, "1y", lake=lake.url)


def test_funding_open_interest_and_trades_are_read_alike(lake: Lake) -> None:
    assert funding("binance", PERPETUAL, "2024-01-01T08:00", lake=lake.url)["rate"].to_list() == [2e-4, -1e-4]
    assert open_interest("binance", PERPETUAL, "8h", lake=lake.url)["open_interest"].to_list() == [1.0, 2.0, 3.0]
    assert trades("binance", BTC, until="2024-01-01T16:00", lake=lake.url)["trade_id"].to_list() == ["1", "2"]
    with pytest.raises(MissingData, match=r"2024-01-02 00:00 to 2024-01-03 00:00 is not in the lake.*--kinds trades"):
        trades("binance", BTC, until="2024-01-03", lake=lake.url)
    assert trades("binance", BTC, "2024-01-02", "2024-01-03", missing="allow", lake=lake.url).is_empty()


def test_series_lists_what_there_is(lake: Lake) -> None:
    listed = series(lake=lake.url)
    assert listed.select("symbol", "kind", "timeframe", "rows").rows() == [
        (BTC, "ohlcv", "1h", 216), (BTC, "trades", "", 3),
        (PERPETUAL, "funding_rate", "", 3), (PERPETUAL, "open_interest", "8h", 3),
    ]  # fmt: skip
    assert listed["first_at"][0] == datetime(2024, 1, 1, tzinfo=UTC)
    assert series("binance", PERPETUAL, lake=lake.url).height == 2
    assert series("kraken", lake=lake.url).is_empty()


def test_a_folder_of_files_is_named_as_in_every_command(lake: Lake, tmp_path: Path) -> None:
    key = FilesMarket.from_name(f"files:{tmp_path}#kraken", 0).series(BTC, "1d")
    put_candles(lake, "1d", SINCE_MS, SINCE_MS + 3 * DAY_MS, market=key.market)
    assert candles(f"files:{tmp_path}#kraken", BTC, "1d", lake=lake.url).height == 3
    with pytest.raises(MissingData, match=rf"backfill --market files:{tmp_path} --symbols"):
        candles(f"files:{tmp_path}", BTC, "1d", lake=lake.url)
