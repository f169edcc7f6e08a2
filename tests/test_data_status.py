"""What the lake has, how old it is and what is known against it, told of a real lake and a real ledger."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import httpx
import numpy as np
import polars as pl
import pytest

from candlewick.candles import CANDLE_SCHEMA, RawPage, Series
from candlewick.cli import FAILURE, SUCCESS, command_app, run_command
from candlewick.lake import Lake
from candlewick.market.files import FilesMarket
from candlewick.market_data.coverage import Span
from candlewick.market_data.kinds import DataSeries
from candlewick.market_data.schemas import TRADES_SCHEMA
from candlewick.market_data.status import Chosen, SeriesStatus, lake_status
from candlewick.reports.data_status import length_text, next_steps, size_text, status_row, totals_line
from candlewick.settings import load_settings
from candlewick.store.data_runs import DataStore
from candlewick.store.database import Database
from candlewick.store.quality import QualityStore
from candlewick.timeframes import DAY_MS, MINUTE_MS, parse_utc, timeframe_ms, utc
from candlewick.validation import Finding
from flows.data_status import add_status_command, data_status

BTC = "BTC/USDT"
HOUR_MS = 60 * MINUTE_MS
NOW_MS = parse_utc("2024-03-01T12:00")
SINCE_MS = parse_utc("2024-01-01")
AT = datetime(2024, 3, 1, 11, tzinfo=UTC)
HOURS = Series("binance", BTC, "1h")


def put(lake: Lake, series: Series, until_ms: int, since_ms: int = SINCE_MS, without: tuple[Span, ...] = ()) -> None:
    times = np.arange(since_ms, until_ms, timeframe_ms(series.timeframe))
    for span in without:
        times = times[(times < span.since_ms) | (times >= span.until_ms)]
    price = np.linspace(100.0, 200.0, times.size)
    numbers = {"open": price, "high": price + 1, "low": price - 1, "close": price, "volume": price}
    candles = pl.DataFrame({"opened_at": times, **numbers}, schema=dict(CANDLE_SCHEMA))
    lake.put_chunk(series, candles, Span(since_ms, until_ms), series.market, AT)


class Place:
    """A lake, a ledger and settings in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lake = Lake(str(folder / "lake"))
        database = Database(str(folder / "ledger.duckdb"), 5)
        self.data, self.quality = DataStore(database), QualityStore(database)

    def declare(self, text: str) -> None:
        (self.folder / "candlewick.yaml").write_text(text, encoding="utf-8")

    def status(self, now_ms: int = NOW_MS, chosen: Chosen | None = None) -> tuple[SeriesStatus, ...]:
        settings = load_settings(environment={}, directory=self.folder)
        return lake_status(self.lake, self.data, self.quality, settings, now_ms, chosen or Chosen())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_series_is_told_with_its_span_rows_sync_validation_and_size(place: Place) -> None:
    put(place.lake, HOURS, NOW_MS)
    page = RawPage("/api/v3/klines", AT, 200, "[]" * 500)
    place.lake.put_pages(HOURS, Span(SINCE_MS, NOW_MS), [page])
    place.data.synced(HOURS, AT)
    place.data.validated(HOURS, AT, "clean")
    (one,) = place.status()
    assert (one.market, one.symbol, one.kind, one.timeframe) == ("binance", BTC, "ohlcv", "1h")
    assert (one.rows, one.files) == ((NOW_MS - SINCE_MS) // HOUR_MS, 3)
    assert (one.first_at, one.last_at, one.known_until) == (utc(SINCE_MS), utc(NOW_MS - HOUR_MS), utc(NOW_MS))
    assert (one.missing_bars, one.holes, one.age_ms, one.freshness) == (0, 0, 0, "fresh")
    assert (one.last_synced_at, one.last_validated_at, one.verdict) == (AT, AT, "clean")
    assert one.bytes == sum(file.stat().st_size for file in place.lake.folder(HOURS).glob("*.parquet"))
    assert one.bronze_bytes > 0
    assert not one.is_wrong


def test_missing_bars_are_told_apart_by_whether_they_are_explained(place: Place) -> None:
    outage = Span(SINCE_MS + DAY_MS, SINCE_MS + DAY_MS + 5 * HOUR_MS)
    quiet = Span(SINCE_MS + 3 * DAY_MS, SINCE_MS + 3 * DAY_MS + 2 * HOUR_MS)
    strange = Span(SINCE_MS + 5 * DAY_MS, SINCE_MS + 5 * DAY_MS + 3 * HOUR_MS)
    put(place.lake, HOURS, NOW_MS, without=(outage, quiet, strange))
    found = [
        Finding("gap", "info", outage.since_ms, outage.until_ms, "5 bars"),
        Finding("gap_outage", "info", outage.since_ms, outage.until_ms, "5 bars"),
        Finding("gap_no_trades", "info", quiet.since_ms, quiet.until_ms, "2 bars"),
        Finding("gap", "warning", strange.since_ms, strange.until_ms, "3 bars"),
        Finding("high_low", "error", SINCE_MS, SINCE_MS + HOUR_MS, "high below low"),
    ]
    place.quality.record(HOURS, found, AT)
    (one,) = place.status()
    assert (one.missing_bars, one.explained_bars) == (10, 7)
    assert (one.open_errors, one.open_warnings, one.open_infos) == (1, 1, 0)
    assert one.is_wrong
    assert status_row(one)["gaps"] == "10 (7 explained)"
    assert status_row(one)["findings"] == "1 error, 1 warning"


def test_what_was_never_downloaded_is_no_missing_bar_but_a_hole(place: Place) -> None:
    put(place.lake, HOURS, SINCE_MS + 10 * DAY_MS)
    put(place.lake, HOURS, NOW_MS, since_ms=SINCE_MS + 12 * DAY_MS)
    (one,) = place.status()
    assert (one.missing_bars, one.holes, one.hole_ms) == (0, 1, 2 * DAY_MS)
    assert status_row(one)["lacking"] == "2d in 1"


@pytest.mark.parametrize(
    ("timeframe", "age_ms", "freshness"),
    [
        ("1m", 10 * MINUTE_MS, "fresh"),
        ("1m", 30 * MINUTE_MS, "late"),
        ("1m", 61 * MINUTE_MS, "stale"),
        ("1h", 75 * MINUTE_MS, "fresh"),
        ("1h", 3 * HOUR_MS, "late"),
        ("1h", 4 * HOUR_MS, "stale"),
        ("1d", DAY_MS, "fresh"),
        ("1d", 4 * DAY_MS, "stale"),
    ],
)
def test_freshness_is_the_age_of_the_last_closed_bar(place: Place, timeframe: str, age_ms: int, freshness: str) -> None:
    end_ms = parse_utc("2024-02-01")
    put(place.lake, Series("binance", BTC, timeframe), end_ms, since_ms=end_ms - 2 * timeframe_ms(timeframe))
    (one,) = place.status(end_ms + age_ms)
    assert (one.freshness, one.age_ms) == (freshness, age_ms)


def test_a_market_that_was_asked_and_did_not_trade_is_not_stale(place: Place) -> None:
    put(place.lake, HOURS, SINCE_MS + DAY_MS)
    place.lake.cover(HOURS, Span(SINCE_MS + DAY_MS, NOW_MS))
    (one,) = place.status()
    assert (one.freshness, one.holes, one.missing_bars) == ("fresh", 0, 0)


def test_where_datasets_are_declared_only_they_have_to_be_fresh(place: Place) -> None:
    place.declare(
        "datasets:\n  majors: {markets: [binance], symbols: [BTC/USDT, ETH/USDT], timeframes: [1h], since: 2023-12-31}\n"
        "  more: {markets: [binance], symbols: [BTC/USDT], timeframes: [1h], since: 2024-01-01}\n"
    )
    put(place.lake, HOURS, NOW_MS - DAY_MS)
    put(place.lake, Series("binance", "DOGE/USDT", "1h"), NOW_MS - DAY_MS)
    btc, doge, eth = place.status()
    assert (btc.datasets, btc.freshness) == (("majors", "more"), "stale")
    assert (btc.holes, btc.hole_ms) == (1, DAY_MS)  # wanted from the day before on
    assert (doge.datasets, doge.freshness, doge.is_wrong) == ((), None, False)
    assert (eth.symbol, eth.is_started, eth.is_wrong) == ("ETH/USDT", False, True)
    assert status_row(eth)["span"] == "not started"
    assert next_steps((btc, doge, eth))[0] == "`python -m flows.market_data sync` fetches what 2 declared series lack"
    assert totals_line((btc, doge, eth)).startswith("3 series (1 stale, 1 not started); ")


def test_datasets_name_series_as_the_lake_does(place: Place) -> None:
    (place.folder / "mine").mkdir()
    key = FilesMarket.from_name(f"files:{place.folder / 'mine'}", NOW_MS).series(BTC, "1d").market
    place.declare(
        f"datasets:\n  mine: {{markets: ['files:{place.folder / 'mine'}', 'files:gone', binance], symbols: [BTC/USDT], "
        "timeframes: [1d], since: 2024-01-01}\nexchanges: {binance: {sandbox: true}}\n"
    )
    put(place.lake, Series(key, BTC, "1d"), SINCE_MS + 5 * DAY_MS)
    told = {one.market: one for one in place.status()}
    assert set(told) == {key, "files:gone", "binance-sandbox"}
    assert (told[key].datasets, told[key].is_wrong) == (("mine",), False)
    assert not told["files:gone"].is_started


def test_a_damaged_file_is_a_row_and_the_others_are_told_all_the_same(place: Place) -> None:
    put(place.lake, HOURS, NOW_MS)
    put(place.lake, Series("binance", "ETH/USDT", "1h"), NOW_MS)
    (place.lake.folder(HOURS) / "2024-02.parquet").write_bytes(b"torn")
    btc, eth = place.status()
    assert btc.problem is not None
    assert "2024-02.parquet is damaged" in btc.problem
    assert btc.is_wrong
    assert eth.rows > 0
    assert any("repair" in step for step in next_steps((btc, eth)))


def test_every_kind_is_told_and_copies_of_files_need_not_be_fresh(place: Place) -> None:
    trades = pl.DataFrame(
        {"traded_at": [SINCE_MS], "trade_id": ["1"], "price": [1.0], "amount": [1.0], "side": ["buy"]}, schema=dict(TRADES_SCHEMA)
    )
    span = Span(SINCE_MS, NOW_MS - HOUR_MS)
    place.lake.append_rows(DataSeries("binance", BTC, "trades"), trades, span, "binance", AT)
    put(place.lake, Series("files-12ab34cd", BTC, "1d"), SINCE_MS + 5 * DAY_MS)
    trade, file = place.status()
    assert (trade.kind, trade.rows, trade.freshness) == ("trades", 1, "fresh")
    assert status_row(trade)["series"] == "binance BTC/USDT trades"
    assert (file.freshness, file.is_wrong) == (None, False)


def test_series_are_in_order_and_can_be_chosen(place: Place) -> None:
    for market, symbol, timeframe in (("kraken", BTC, "1h"), ("binance", "ETH/USDT", "1d"), ("binance", "ETH/USDT", "4h")):
        put(place.lake, Series(market, symbol, timeframe), SINCE_MS + 2 * DAY_MS)
    told = [(one.market, one.symbol, one.timeframe) for one in place.status()]
    assert told == [("binance", "ETH/USDT", "4h"), ("binance", "ETH/USDT", "1d"), ("kraken", BTC, "1h")]
    assert [one.market for one in place.status(chosen=Chosen(timeframe="1h"))] == ["kraken"]
    assert [one.timeframe for one in place.status(chosen=Chosen("binance", "ETH/USDT"))] == ["4h", "1d"]


def test_looking_changes_nothing(place: Place) -> None:
    assert place.status() == ()
    assert list(place.folder.iterdir()) == []


def test_lengths_and_sizes_are_written_short() -> None:
    assert [length_text(ms) for ms in (0, 59_000, 75 * MINUTE_MS, 400 * DAY_MS + HOUR_MS + MINUTE_MS)] == [
        "0m", "0m", "1h 15m", "400d 1h"
    ]  # fmt: skip
    assert [size_text(size) for size in (0, 999, 1_000, 999_600, 12_345_678)] == ["0 B", "999 B", "1 kB", "1 MB", "12.3 MB"]


def run_status(place: Place, monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setenv("CANDLEWICK_LAKE__URL", place.lake.url)
    monkeypatch.setenv("CANDLEWICK_STORE__URL", str(place.folder / "ledger.duckdb"))
    monkeypatch.chdir(place.folder)
    app = command_app("test", "")
    add_status_command(app)
    return run_command(app, ["status", *words])


def test_the_command_tells_it_on_a_narrow_terminal_and_as_json_and_check_fails_what_is_stale(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_status(place, monkeypatch, "--check") == SUCCESS
    assert "The lake is empty." in capsys.readouterr().out
    put(place.lake, HOURS, NOW_MS)
    monkeypatch.setenv("COLUMNS", "80")
    assert run_status(place, monkeypatch) == SUCCESS
    shown = capsys.readouterr().out.splitlines()
    assert "Series           binance BTC/USDT 1h" in shown
    assert "Rows             1452" in shown
    assert shown[-1].startswith("next: `python -m flows.market_data validate`")
    assert run_status(place, monkeypatch, "--check", "--json") == FAILURE
    (one,) = json.loads(capsys.readouterr().out)["series"]
    assert (one["rows"], one["freshness"], one["first_at"]) == (1452, "stale", "2024-01-01T00:00:00Z")


def test_the_flow_leaves_a_table_in_the_prefect_ui(place: Place, monkeypatch: pytest.MonkeyPatch, prefect_server: str) -> None:
    put(place.lake, HOURS, NOW_MS)
    monkeypatch.setenv("CANDLEWICK_LAKE__URL", place.lake.url)
    monkeypatch.setenv("CANDLEWICK_STORE__URL", str(place.folder / "ledger.duckdb"))
    monkeypatch.chdir(place.folder)
    state = asyncio.run(data_status(check=True, return_state=True))
    assert state.name == "Failed"
    assert state.message is not None
    assert state.message.startswith("1 series (1 stale); 1,452 rows")
    body = {"artifacts": {"key": {"any_": ["data-status"]}}, "sort": "CREATED_DESC"}
    found = httpx.post(f"{prefect_server}/artifacts/filter", json=body, trust_env=False).raise_for_status().json()
    assert json.loads(found[0]["data"])[0]["Series"] == "binance BTC/USDT 1h"
