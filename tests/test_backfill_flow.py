"""Backfill and sync through a real Prefect server and the real ccxt client, against an exchange on loopback."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import polars as pl
import pytest

from candlewick.candles import Series
from candlewick.cli import run_command
from candlewick.lake import Lake
from candlewick.market_data.coverage import Span
from candlewick.market_data.kinds import DataSeries
from candlewick.store.data_runs import DataStore
from candlewick.store.database import Database
from candlewick.store.quality import QualityStore
from flows.market_data import app
from tests.emulator.candle_book import CandleBook
from tests.emulator.faults import ANSWER_KINDS, Fault
from tests.emulator.server import Emulator
from tests.paper_flow import Workplace

HOUR_MS, MINUTE_MS = 3_600_000, 60_000
START_MS = 1_704_067_200_000
BARS = 3_000
Rows = list[tuple[int, float, float, float, float, float]]


def bars(count: int, start_ms: int = START_MS, length_ms: int = HOUR_MS, price: float = 40_000.0) -> Rows:
    return [(start_ms + i * length_ms, price + i, price + i + 2, price + i - 1, price + i + 1, 10.0 + i) for i in range(count)]


@dataclass(frozen=True, slots=True)
class Desk:
    """A folder to work in and the exchange that it is led to."""

    place: Workplace
    exchange: Emulator

    @property
    def lake(self) -> Lake:
        return self.place.lake

    @property
    def quality(self) -> QualityStore:
        return QualityStore(Database(str(self.place.directory / "ledger.duckdb")))

    @property
    def data(self) -> DataStore:
        return DataStore(Database(str(self.place.directory / "ledger.duckdb")))

    def candles(self, symbol: str = "BTC/USDT", timeframe: str = "1h", market: str = "binance") -> pl.DataFrame:
        return self.lake.read(Series(market, symbol, timeframe))

    def pages(self) -> int:
        return len(self.exchange.requests("/klines"))


@pytest.fixture
def desk(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """Two symbols of 3,000 hours; no throttle, short pauses."""
    book = CandleBook()
    book.add("BTCUSDT", "1h", bars(BARS))
    book.add("ETHUSDT", "1h", bars(BARS, price=2_000.0))
    with Emulator(book) as exchange:
        lead_to(monkeypatch, exchange, "binance", "binanceusdm", "kraken")
        yield Desk(workplace, exchange)


def lead_to(monkeypatch: pytest.MonkeyPatch, exchange: Emulator, *names: str) -> None:
    """The settings of exchanges that lead to this one."""
    wanted = {"API_URL": exchange.url, "RATE_LIMIT": "false", "RETRY_BASE_S": "0.01", "RETRY_MAX_S": "0.02", "TIMEOUT_S": "1"}
    for name in names:
        for key, value in {**wanted, "MAX_CLOCK_SKEW_S": "3600", "MAX_ATTEMPTS": "3"}.items():
            monkeypatch.setenv(f"CANDLEWICK_EXCHANGES__{name.upper()}__{key}", value)


def command(*words: str) -> int:
    """The exit code of `python -m flows.market_data …`."""
    return run_command(app, list(words))


def backfill(
    *words: str, symbols: str = "BTC/USDT", timeframes: str = "1h", since: str = "2024-01-01", until: str = "2024-05-05"
) -> int:
    """A backfill, if nothing else is said up to the end of the candles there are."""
    asked = ["--market", "binance", "--symbols", symbols, "--timeframes", timeframes, "--since", since, "--until", until]
    return command("backfill", *asked, *words)


def test_a_backfill_fills_the_lake_says_what_it_did_and_never_asks_twice(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert backfill("--json", symbols="BTC/USDT,ETH/USDT", since="2023-12-01") == 0
    report = json.loads(capsys.readouterr().out)
    assert [(one["series"], one["outcome"], one["rows"]) for one in report["series"]] == [
        ("binance BTC/USDT 1h", "complete", BARS),
        ("binance ETH/USDT 1h", "complete", BARS),
    ]
    candles = desk.candles()
    assert candles["opened_at"].dt.epoch("ms").to_list() == [row[0] for row in bars(BARS)]
    assert candles.select("open", "high", "low", "close", "volume").rows() == [row[1:] for row in bars(BARS)]
    coverage = desk.lake.coverage(Series("binance", "BTC/USDT", "1h"))
    assert coverage.covers(Span(1_701_388_800_000, START_MS + BARS * HOUR_MS)), "the head before the listing is known to be empty"
    assert desk.quality.findings(kinds=["not_listed"]).height == 2
    pages = desk.lake.pages(Series("binance", "BTC/USDT", "1h"))
    assert pages.height == 3
    assert set(pages.columns) >= {"request", "fetched_at", "digest", "body"}
    (run,) = desk.data.runs(5)
    assert (run.kind, run.status, run.rows_added, run.series) == ("backfill", "success", 2 * BARS, 2)
    asked = desk.pages()
    assert backfill(symbols="BTC/USDT,ETH/USDT", since="2023-12-01") == 0
    assert "nothing new" in capsys.readouterr().out
    assert desk.pages() == asked


def test_the_progress_and_the_result_are_artifacts(desk: Desk, prefect_server: str) -> None:
    assert backfill("--chunks", "fixed", "--chunk-bars", "500") == 0
    (run,) = desk.data.runs(1)
    body = {"artifacts": {"flow_run_id": {"any_": [run.flow_run_id]}}}
    deadline, rows = time.monotonic() + 30, []
    while len(rows) < 3 and time.monotonic() < deadline:
        rows = httpx.post(f"{prefect_server}/artifacts/filter", json=body, trust_env=False).raise_for_status().json()
    told = {str(row["key"]).removeprefix("market-data-backfill"): row for row in rows}
    assert told.keys() == {"-progress", "-series", "-summary"}
    assert float(told["-progress"]["data"]) == 100.0


@pytest.mark.parametrize("kind", ANSWER_KINDS)
def test_a_fault_at_any_page_costs_a_retry_and_nothing_else(desk: Desk, kind: str) -> None:
    desk.exchange.misbehave(*(Fault(kind, path="/klines", symbol="BTCUSDT", skip=skip, seconds=3.0) for skip in (1, 2, 3)))
    assert backfill("--chunks", "fixed", "--chunk-bars", "1000") == 0
    assert desk.candles().height == BARS
    assert desk.quality.findings(state="open").is_empty()


def test_a_bar_that_stays_wrong_is_left_out_and_is_an_open_finding_and_the_others_come(desk: Desk) -> None:
    wrong_ms = START_MS + 1_234 * HOUR_MS
    desk.exchange.misbehave(Fault("negative", count=None, symbol="BTCUSDT", opened_at_ms=wrong_ms))
    assert backfill() == 0
    assert desk.candles().height == BARS - 1
    refused = desk.quality.findings(kinds=["refused"])
    assert refused["state"].to_list() == ["open"]
    assert "2024-02-21 10:00" in refused["evidence"][0]


def test_what_makes_no_sense_is_refused_before_anything_is_written(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--kinds", "prices"], ["--chunks", "wild"], ["--chunk-bars", "0"], ["--side-by-side", "0"]):
        assert backfill(*words) == 2
    assert backfill(timeframes="1x") == 2
    assert backfill(symbols="") == 2
    assert not (desk.place.directory / "lake").exists()
    assert not (desk.place.directory / "ledger.duckdb").exists()
    capsys.readouterr()
    assert backfill(symbols="BTC/USDX") == 2
    assert "did you mean" in capsys.readouterr().err
    assert backfill(timeframes="10m") == 2
    assert "offers no candles of 10m" in capsys.readouterr().err
    assert backfill(symbols="BTC/USDT,BTC/USDX") == 3
    assert "FAILED: binance does not trade 'BTC/USDX'" in capsys.readouterr().out
    assert desk.candles().height == BARS


def test_a_timeframe_that_the_exchange_lacks_is_made_of_a_finer_one_when_asked(desk: Desk) -> None:
    desk.exchange.book.add("BTCUSDT", "5m", bars(288, length_ms=5 * MINUTE_MS))
    assert backfill("--resample", timeframes="10m", until="2024-01-02") == 0
    made = desk.candles(timeframe="10m")
    assert made.height == 144
    assert made.row(0)[1:] == (40_000.0, 40_003.0, 39_999.0, 40_002.0, 21.0)
    assert desk.candles(timeframe="5m").height == 288


def test_an_exchange_that_keeps_its_newest_candles_only_is_said_clearly(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    now_ms = round(time.time() * 1000) // HOUR_MS * HOUR_MS
    desk.exchange.kraken.book.add("XXBTZUSD", "1h", bars(2_000, now_ms - 1_999 * HOUR_MS))
    asked = ["--market", "kraken", "--symbols", "BTC/USD", "--timeframes", "1h", "--since", "2026-01-01"]
    assert command("backfill", *asked) == 0
    assert "keeps only its newest candles" in capsys.readouterr().out
    candles = desk.candles("BTC/USD", market="kraken")
    assert 715 <= candles.height <= 720
    missing = desk.lake.coverage(Series("kraken", "BTC/USD", "1h")).spans[0]
    assert missing.since_ms >= now_ms - 720 * HOUR_MS, "what is not to be had does not count as fetched"


def test_trades_are_kept_and_candles_are_made_of_them(desk: Desk) -> None:
    since_ms = START_MS
    trades = [(since_ms + i * 7_000, f"{100 + i % 13}.0", "0.5", i % 2 == 0) for i in range(1_500)]
    desk.exchange.trades.add("BTCUSDT", trades)
    assert backfill("--kinds", "trades", timeframes="5m", until="2024-01-01 02:00") == 0
    kept = desk.lake.read_rows(DataSeries("binance", "BTC/USDT", "trades"))
    assert kept.height == sum(trade[0] < since_ms + 2 * HOUR_MS for trade in trades)
    made = desk.candles(timeframe="5m")
    assert made.height == 24
    assert made["volume"].sum() == pytest.approx(0.5 * kept.height)


def test_a_sync_follows_the_datasets_and_goes_on_from_where_the_lake_ends(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("sync") == 2
    assert "no dataset is declared" in capsys.readouterr().err
    now_ms = round(time.time() * 1000) // MINUTE_MS * MINUTE_MS
    first_ms = now_ms - 300 * MINUTE_MS
    desk.exchange.book.add("BTCUSDT", "1m", bars(301, first_ms, MINUTE_MS))
    since = time.strftime("%Y-%m-%dT%H:%M", time.gmtime(first_ms / 1000))
    dataset = f"  minutes:\n    markets: [binance]\n    symbols: [BTC/USDT]\n    timeframes: [1m]\n    since: '{since}'\n"
    (desk.place.directory / "candlewick.yaml").write_text(f"datasets:\n{dataset}", encoding="utf-8")
    heights = []
    for offset_minutes in (-50, -30, -30, -10):
        desk.exchange.clock_offset_ms = offset_minutes * MINUTE_MS
        asked = desk.pages()
        assert command("sync", "minutes") == 0
        heights.append(desk.candles(timeframe="1m").height)
        assert desk.pages() - asked <= 3, "a sync asks for what is new only"
    assert 250 <= heights[0] < heights[1] <= heights[2] < heights[3] <= 291
    candles = desk.candles(timeframe="1m")
    assert candles["opened_at"].diff().drop_nulls().dt.total_minutes().unique().to_list() == [1]
    states = desk.data.series_states()
    assert states["last_synced_at"].null_count() == 0
    assert command("sync", "nope") == 2


def test_a_symbol_that_is_no_longer_traded_keeps_its_candles_and_its_silence_is_explained(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.exchange.halt("BTCUSDT")
    asked = ["--market", "binance", "--symbols", "BTC/USDT", "--timeframes", "1h", "--since", "2024-01-01"]
    assert command("backfill", *asked) == 0
    assert "binance no longer trades BTC/USDT: its last candle closed at 2024-05-05 00:00" in capsys.readouterr().out
    assert desk.candles().height == BARS
    assert desk.quality.findings(kinds=["delisted"])["state"].to_list() == ["explained"]
    assert desk.quality.findings(kinds=["stale"])["state"].to_list() == ["explained"]
    assert desk.quality.findings(state="open").is_empty()


def test_funding_and_open_interest_of_a_perpetual_are_kept_and_never_asked_for_twice(desk: Desk) -> None:
    now_ms = round(time.time() * 1000) // HOUR_MS * HOUR_MS
    day_ms = 24 * HOUR_MS
    since_ms = now_ms // day_ms * day_ms - 5 * day_ms
    futures = desk.exchange.futures
    futures.book.add("BTCUSDT", "1h", bars(130, since_ms))
    futures.add_funding("BTCUSDT", [(since_ms + i * 8 * HOUR_MS + i % 7, "0.00010000") for i in range(16)])
    futures.add_open_interest("BTCUSDT", [(since_ms + i * HOUR_MS, f"{100 + i}.5", f"{4_000_000 + i}.0") for i in range(130)])
    since = time.strftime("%Y-%m-%d", time.gmtime(since_ms / 1000))
    asked = ["--market", "binanceusdm", "--symbols", "BTC/USDT:USDT", "--timeframes", "1h", "--since", since]
    kinds = ["--kinds", "funding_rate,open_interest"]
    assert command("backfill", *asked, *kinds) == 0
    funding = desk.lake.read_rows(DataSeries("binanceusdm", "BTC/USDT:USDT", "funding_rate"))
    assert (funding["funding_at"].dt.epoch("ms") % HOUR_MS).to_list() == [0] * funding.height, "the jitter is gone"
    assert (funding["noted_at"].dt.epoch("ms") % HOUR_MS).max() == 6, "what the exchange said is kept"
    interest = desk.lake.read_rows(DataSeries("binanceusdm", "BTC/USDT:USDT", "open_interest", "1h"))
    assert interest.height >= 120
    before = len(desk.exchange.requests("/fundingRate")), len(desk.exchange.requests("/openInterestHist"))
    assert command("backfill", *asked, *kinds) == 0
    after = len(desk.exchange.requests("/fundingRate")), len(desk.exchange.requests("/openInterestHist"))
    assert all(later - earlier <= 2 for earlier, later in zip(before, after, strict=True)), (
        "only the newest hours are asked again"
    )


def test_a_series_that_was_collected_up_to_a_date_has_not_stopped_and_one_that_was_asked_for_until_now_has(desk: Desk) -> None:
    assert backfill() == 0
    assert command("validate") == 0
    assert desk.quality.findings(kinds=["stale"]).is_empty()
    asked = ["--market", "binance", "--symbols", "BTC/USDT", "--timeframes", "1h", "--since", "2024-01-01"]
    assert command("backfill", *asked) == 0
    assert desk.quality.findings(kinds=["stale"])["state"].to_list() == ["open"]
    covered_ms = desk.lake.coverage(Series("binance", "BTC/USDT", "1h")).spans[-1].until_ms
    assert 3 * HOUR_MS <= round(time.time() * 1000) - covered_ms <= 5 * HOUR_MS, "the newest bars may be late"
