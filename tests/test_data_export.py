"""Exports: the lake's rows as files of one's own, whole or not at all, that come back as the same candles."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from candlewick.candles import CANDLE_SCHEMA, Series, candle_digest
from candlewick.cli import FAILURE, PARTIAL, SUCCESS, USAGE, command_app, run_command
from candlewick.errors import LakeError, MissingData, UsageError
from candlewick.funding import FUNDING_SCHEMA
from candlewick.lake import Lake
from candlewick.market.files import FilesMarket
from candlewick.market_data.coverage import Span
from candlewick.market_data.exporting import ExportRequest, export_requests, export_series, file_name
from candlewick.market_data.gold import resample_into_lake
from candlewick.market_data.kinds import DataSeries
from candlewick.market_data.schemas import TRADES_SCHEMA
from candlewick.market_data.status import Chosen, lake_status
from candlewick.settings import load_settings
from candlewick.store.data_runs import DataStore
from candlewick.store.database import Database
from candlewick.store.quality import QualityStore
from candlewick.timeframes import DAY_MS, MINUTE_MS, parse_utc, timeframe_ms
from flows.data_export import add_export_command
from tests.object_store import lake_at, s3_server

BTC, PERPETUAL = "BTC/USDT", "SOL/USDT:USDT"
SINCE_MS = parse_utc("2024-01-01")
END_MS = SINCE_MS + 40 * DAY_MS
FETCHED_AT = datetime(2024, 3, 1, tzinfo=UTC)
HOURS = Series("binance", BTC, "1h")


def random_candles(timeframe: str, since_ms: int, until_ms: int) -> pl.DataFrame:
    times = list(range(since_ms, until_ms, timeframe_ms(timeframe)))
    price = np.exp(np.random.default_rng(1).normal(0, 0.01, len(times)).cumsum()) * 100
    numbers = {"open": price, "high": price * 1.01, "low": price * 0.99, "close": price, "volume": price / 3}
    return pl.DataFrame({"opened_at": times, **numbers}, schema=dict(CANDLE_SCHEMA))


def put(lake: Lake, series: Series) -> None:
    candles = random_candles(series.timeframe, SINCE_MS, END_MS).filter(pl.col("opened_at").dt.day() != 7)  # an outage
    lake.put_chunk(series, candles, Span(SINCE_MS, END_MS), series.market, FETCHED_AT)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(str(tmp_path / "lake"))
    put(lake, HOURS)
    return lake


def request(to: Path, timeframe: str = "1h", **given: str | bool) -> ExportRequest:
    return ExportRequest("binance", BTC, "ohlcv", timeframe, str(to), **given)  # type: ignore[arg-type]


def from_files(folder: Path, symbol: str, timeframe: str) -> pl.DataFrame:
    market = FilesMarket.from_name(f"files:{folder}", END_MS)
    return asyncio.run(market.fetch(symbol, timeframe, 0, END_MS)).candles


@pytest.mark.parametrize("form", ["parquet", "csv", "feather"])
def test_an_exported_file_is_read_by_the_market_of_files_as_the_same_candles(lake: Lake, tmp_path: Path, form: str) -> None:
    told = export_series(lake, request(tmp_path / "out", form=form))
    assert told.path == str(tmp_path / "out" / f"binance_BTC-USDT_1h.{form}")
    kept = lake.read(HOURS)
    assert (told.outcome, told.rows, told.digest) == ("written", kept.height, candle_digest(kept))
    assert (told.first_at, told.last_at) == (kept["opened_at"][0], kept["opened_at"][-1])
    assert told.bytes == Path(told.path).stat().st_size
    assert candle_digest(from_files(tmp_path / "out", BTC, "1h")) == told.digest


def test_a_perpetual_comes_back_as_the_perpetual(lake: Lake, tmp_path: Path) -> None:
    put(lake, Series("binanceusdm", PERPETUAL, "4h"))
    told = export_series(lake, ExportRequest("binanceusdm", PERPETUAL, "ohlcv", "4h", str(tmp_path / "out")))
    assert Path(told.path).name == "binanceusdm_SOL-USDT-USDT_4h.parquet"
    assert candle_digest(from_files(tmp_path / "out", PERPETUAL, "4h")) == told.digest


def test_times_in_a_csv_are_iso_8601_in_utc(lake: Lake, tmp_path: Path) -> None:
    export_series(lake, request(tmp_path / "btc.csv", since="2024-01-02", until="2024-01-02T02:00"))
    header, first, second = (tmp_path / "btc.csv").read_text(encoding="utf-8").splitlines()
    assert header == "opened_at,open,high,low,close,volume"
    assert first.startswith("2024-01-02T00:00:00Z,")
    assert second.startswith("2024-01-02T01:00:00Z,")


@pytest.mark.parametrize("form", ["parquet", "csv", "feather"])
def test_a_span_that_is_read_in_parts_makes_the_same_rows(
    lake: Lake, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = export_series(lake, request(tmp_path / "whole", form=form))
    monkeypatch.setattr("candlewick.market_data.gold._BARS_AT_ONCE", 100)
    parts = export_series(lake, request(tmp_path / "parts", form=form))
    assert (parts.rows, parts.digest, parts.last_at) == (whole.rows, whole.digest, whole.last_at)
    assert from_files(tmp_path / "parts", BTC, "1h").equals(from_files(tmp_path / "whole", BTC, "1h"))


def test_the_same_again_leaves_the_file_alone_and_other_content_is_not_overwritten_unasked(lake: Lake, tmp_path: Path) -> None:
    to = tmp_path / "btc.parquet"
    export_series(lake, request(to, since="2024-01-02"))
    before = to.read_bytes(), to.stat().st_ino
    assert export_series(lake, request(to, since="2024-01-02")).outcome == "unchanged"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["btc.parquet"]
    with pytest.raises(UsageError, match=r"btc\.parquet is there with other content: say --overwrite"):
        export_series(lake, request(to))
    assert (to.read_bytes(), to.stat().st_ino) == before
    assert export_series(lake, request(to, overwrite=True)).outcome == "replaced"
    assert pl.read_parquet(to).height == lake.read(HOURS).height
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["btc.parquet"]


def test_a_reading_that_fails_on_the_way_leaves_what_was_there(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "btc.csv").write_text("mine", encoding="utf-8")
    monkeypatch.setattr("candlewick.market_data.gold._BARS_AT_ONCE", 100)
    later = Span(END_MS, END_MS + 40 * DAY_MS)
    lake.put_chunk(HOURS, random_candles("1h", later.since_ms, later.until_ms), later, "binance", FETCHED_AT)
    (lake.folder(HOURS) / "2024-02.parquet").write_bytes(b"PAR1 torn")  # in the middle: its ends are read before
    with pytest.raises(LakeError, match=r"2024-02\.parquet is damaged"):
        export_series(lake, request(tmp_path / "btc.csv", overwrite=True))
    assert (tmp_path / "btc.csv").read_text(encoding="utf-8") == "mine"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["btc.csv"]


def test_coarser_candles_and_months_are_made_on_the_way(lake: Lake, tmp_path: Path) -> None:
    told = export_series(lake, request(tmp_path, "1d"))
    assert (told.rows, told.made_of) == (38, "1h")  # the seventh of both months is an outage
    month = export_series(lake, request(tmp_path, "1M"))
    assert (Path(month.path).name, month.rows) == ("binance_BTC-USDT_1M.parquet", 1)


def test_what_was_not_downloaded_is_not_exported_as_if_it_were_whole(lake: Lake, tmp_path: Path) -> None:
    lake.uncover(HOURS, Span(SINCE_MS + 6 * DAY_MS, SINCE_MS + 7 * DAY_MS))
    with pytest.raises(MissingData, match="2024-01-07 00:00 to 2024-01-08 00:00 is not in the lake"):
        export_series(lake, request(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    assert export_series(lake, request(tmp_path / "out", missing="allow")).rows == lake.read(HOURS).height


def test_funding_comes_back_as_the_same_rates(lake: Lake, tmp_path: Path) -> None:
    put(lake, Series("binanceusdm", PERPETUAL, "4h"))
    times = pl.Series([SINCE_MS + n * 8 * 60 * MINUTE_MS for n in range(30)])
    paid = pl.DataFrame({
        "funding_at": times.cast(pl.Datetime("ms", "UTC")).cast(FUNDING_SCHEMA["funding_at"]),
        "rate": np.linspace(-1e-4, 1e-4, 30),
        "noted_at": (times + 7).cast(FUNDING_SCHEMA["noted_at"]),
    })  # fmt: skip
    series = DataSeries("binanceusdm", PERPETUAL, "funding_rate")
    lake.append_rows(series, paid, Span(SINCE_MS, SINCE_MS + 10 * DAY_MS), "binanceusdm", FETCHED_AT)
    for form in ("csv", "parquet"):
        told = export_series(lake, ExportRequest("binanceusdm", PERPETUAL, "funding_rate", "", str(tmp_path / form), form))
        assert (Path(told.path).name, told.rows) == (f"binanceusdm_SOL-USDT-USDT_funding.{form}", 30)
        export_series(lake, ExportRequest("binanceusdm", PERPETUAL, "ohlcv", "4h", str(tmp_path / form), form))
        market = FilesMarket.from_name(f"files:{tmp_path / form}", END_MS)
        assert asyncio.run(market.funding(PERPETUAL, 0, END_MS))["rate"].to_list() == paid["rate"].to_list()


def test_trades_are_exported_day_by_day(lake: Lake, tmp_path: Path) -> None:
    times = [SINCE_MS + n * 7 * 60 * MINUTE_MS for n in range(20)]
    trades = pl.DataFrame(
        {
            "traded_at": times,
            "trade_id": [str(n) for n in range(20)],
            "price": [1.5] * 20,
            "amount": [2.0] * 20,
            "side": ["buy"] * 20,
        },
        schema=dict(TRADES_SCHEMA),
    )
    series = DataSeries("binance", BTC, "trades")
    lake.append_rows(series, trades, Span(SINCE_MS, SINCE_MS + 7 * DAY_MS), "binance", FETCHED_AT)
    told = export_series(lake, ExportRequest("binance", BTC, "trades", "", str(tmp_path)))
    assert pl.read_parquet(told.path).equals(trades)


def test_files_are_named_so_that_no_other_kind_is_taken_for_candles() -> None:
    assert file_name(DataSeries("okx", PERPETUAL, "open_interest", "1h"), "csv") == "okx_SOL-USDT-USDT_open-interest-1h.csv"
    assert file_name(DataSeries("okx", PERPETUAL, "trades"), "parquet") == "okx_SOL-USDT-USDT_trades.parquet"


@pytest.mark.parametrize(
    ("symbols", "timeframes", "given", "text"),
    [
        ([], ["1h"], {}, "name at least one symbol"),
        ([BTC], [], {}, "ohlcv comes in timeframes"),
        ([BTC], ["1y"], {}, "timeframe '1y' is not understood"),
        ([BTC], ["1h", "4h"], {"to": "one.csv"}, "2 series do not go into one file one.csv"),
        ([BTC], ["1h"], {"to": "one.csv", "form": "parquet"}, "one.csv says csv, and the format asked for is parquet"),
        ([BTC], ["1h"], {"form": "xlsx"}, "format 'xlsx' is unknown: use one of parquet, csv, feather"),
        ([BTC], ["1h"], {"kind": "trades"}, "trades comes in no timeframes"),
    ],
)
def test_requests_that_make_no_sense_are_refused(
    symbols: list[str], timeframes: list[str], given: dict[str, str], text: str
) -> None:
    named = {"market": "binance", "symbol": "", "kind": "ohlcv", "timeframe": "", "to": "out"} | given
    with pytest.raises(UsageError, match=text):
        export_requests(symbols, timeframes, ExportRequest(**named))  # type: ignore[arg-type]


def run_export(*words: str) -> int:
    app = command_app("test", "")
    add_export_command(app)
    return run_command(app, ["export", *words])


def test_the_command_exports_without_prefect(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CANDLEWICK_LAKE__URL", lake.url)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    asked = ("--market", "binance", "--symbols", BTC, "--to", str(tmp_path / "out"))
    assert run_export(*asked, "--timeframe", "1h,1d", "--json") == SUCCESS
    hours, days = json.loads(capsys.readouterr().out)
    assert (hours["digest"], days["rows"]) == (candle_digest(lake.read(HOURS)), 38)
    assert run_export(*asked, "--timeframes", "1h,30m") == PARTIAL
    shown = capsys.readouterr().out
    assert "unchanged" in shown
    assert "nothing of binance BTC/USDT 30m" in shown
    assert run_export(*asked, "--timeframe", "30m") == FAILURE
    assert run_export(*asked) == USAGE


def test_a_lake_in_an_object_store_is_told_of_resampled_and_exported_like_one_in_a_folder(lake: Lake, tmp_path: Path) -> None:
    with s3_server() as endpoint:
        remote = lake_at(endpoint, "desk")
        put(remote, HOURS)
        store = Database(str(tmp_path / "ledger.duckdb"))
        settings = load_settings(environment={}, directory=tmp_path)
        told = [
            lake_status(one, DataStore(store), QualityStore(store), settings, END_MS, Chosen("binance")) for one in (lake, remote)
        ]
        assert told[0] == told[1]
        for one in (lake, remote):
            resample_into_lake(one, HOURS, "6h", Span(SINCE_MS, END_MS), FETCHED_AT)
        near, far = (export_series(one, request(tmp_path / name, "1d")) for one, name in ((lake, "near"), (remote, "far")))
    assert near.made_of == far.made_of == "6h"
    assert Path(near.path).read_bytes() == Path(far.path).read_bytes()
