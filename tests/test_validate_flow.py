"""`validate` through a real Prefect server: sources found and completed, findings kept and settled, artifacts, exit codes."""

import asyncio
import json
import os
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import httpx
import polars as pl
import pytest

from candlewick.candles import Series
from candlewick.cli import run_command
from candlewick.errors import UnknownSymbol, UsageError
from candlewick.market_data.coverage import Span
from candlewick.quality.request import Comparing, ValidationOptions, read_validation
from candlewick.quality.thresholds import Thresholds
from candlewick.store.data_runs import DataStore
from candlewick.store.database import Database
from candlewick.store.quality import QualityStore
from flows import validation_sources
from flows.data_validate import command_text
from flows.market_data import app
from flows.validation_sources import ReachedSource, compared_span, complete_source, find_other, source_names
from tasks.market import open_market
from tests.compared_markets import HOUR_MS, START_MS, changed, elsewhere, market
from tests.emulator.server import Emulator
from tests.paper_flow import Workplace
from tests.prefect_server import free_port

NOW = datetime(2024, 6, 1, tzinfo=UTC)
ASKED = ["--market", "files:data#binance", "--against", "files:data#bitstamp", "--symbol", "BTC/USDT", "--timeframe", "1h"]


def command(*words: str) -> int:
    """The exit code of `python -m flows.market_data validate …`."""
    return run_command(app, ["validate", *words])


@pytest.fixture
def sources(workplace: Workplace) -> Workplace:
    """Files of two exchanges: bitstamp trades dollars, has a bad print, and binance lacks three hours."""
    write(workplace, bad=True)
    return workplace


def write(place: Workplace, *, bad: bool) -> None:
    whole = market(600)
    other = elsewhere(whole)
    (place.directory / "data").mkdir(exist_ok=True)
    ours = whole.filter(~pl.int_range(pl.len()).is_in([300, 301, 302]))
    ours.write_parquet(place.directory / "data" / "binance_BTCUSDT_1h.parquet")
    other = changed(other, [500, 501], close=pl.col("close") * 1.01, high=pl.col("high") * 1.02) if bad else other
    path = place.directory / "data" / "bitstamp_BTCUSD_1h.parquet"
    other.write_parquet(path)
    os.utime(path, (time.time(), time.time() + (0 if bad else 5)))


def quality(place: Workplace) -> pl.DataFrame:
    return QualityStore(Database(str(place.directory / "ledger.duckdb"))).findings(kinds=["disagreement"])


def artifacts(server: str, flow_run_id: str) -> set[str]:
    """Keys of a run's artifacts, once they are booked."""
    body = {"artifacts": {"flow_run_id": {"any_": [flow_run_id]}}}
    deadline = time.monotonic() + 60
    while True:
        rows = httpx.post(f"{server}/artifacts/filter", json=body, trust_env=False).raise_for_status().json()
        if len(rows) >= 2 or time.monotonic() > deadline:
            return {str(row["key"]) for row in rows}
        time.sleep(0.2)


def test_a_comparison_finds_keeps_shows_and_later_settles_what_differs(
    sources: Workplace, prefect_server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(*ASKED, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["verdict"] == "agree"
    assert told["notices"][0] == "files:data#bitstamp has no BTC/USDT: BTC/USD was taken"
    assert [(run["bars"], run["since_ms"]) for run in told["comparison"]["only_other"]] == [(3, START_MS + 300 * HOUR_MS)]
    assert told["findings"] == {"written": 2, "settled": 0}
    assert [one["kind"] for one in told["found"]] == ["disagreement", "gap_outage"]
    assert Path(told["report"]).is_file()
    (row,) = quality(sources).iter_rows(named=True)
    assert (row["state"], row["severity"], row["symbol"]) == ("open", "warning", "BTC/USDT")
    assert "at bitstamp BTC/USD, bar" in row["evidence"]
    data = DataStore(Database(str(sources.directory / "ledger.duckdb")))
    assert data.series_states()["verdict"].to_list() == ["agree"]
    (run,) = data.runs()
    assert (run.kind, run.status, run.series, run.findings) == ("validate", "success", 2, 2)
    assert artifacts(prefect_server, run.flow_run_id or "") == {
        "validation-binance-btc-usdt-1h",
        "validation-binance-btc-usdt-1h-findings",
    }
    # The same again is no news; a source that was mended settles it; a limit that is not met ends with 1.
    assert command(*ASKED) == 0
    assert "AGREE  binance BTC/USDT against bitstamp BTC/USD, 1h" in capsys.readouterr().out
    assert quality(sources).height == 1
    write(sources, bad=False)
    assert command(*ASKED, "--max-median-bps", "1", "--json") == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["verdict"], told["findings"]) == ("differ", {"written": 0, "settled": 1})
    assert quality(sources)["state"].to_list() == ["repaired"]
    assert data.series_states()["verdict"].to_list() == ["differ"]


def test_what_the_lake_has_is_looked_over_where_no_other_source_is_named(
    sources: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("--market", "kraken") == 2
    assert "it has 0 series, of nothing" in capsys.readouterr().err
    assert command() == 0
    assert capsys.readouterr().out.startswith("0 series looked over")
    sources.lake.append(Series("binance", "BTC/USDT", "1h"), market(200), "binance", NOW)
    sources.lake.append(
        Series("kraken", "ETH/USD", "1h"), market(200, seed=5).filter(pl.int_range(pl.len()) != 50), "kraken", NOW
    )
    assert command("--market", "kraken", "--json") in (0, 1)
    told = json.loads(capsys.readouterr().out)
    assert [row["series"] for row in told["series"]] == ["kraken ETH/USD 1h"]
    assert any(kind["kind"].startswith("gap") for kind in told["series"][0]["kinds"])
    command()
    shown = capsys.readouterr().out
    assert shown.startswith("2 series looked over: ")
    assert "binance BTC/USDT 1h" in shown
    states = DataStore(Database(str(sources.directory / "ledger.duckdb"))).series_states()
    assert states["last_validated_at"].null_count() == 0
    assert states.height == 2


def test_a_request_that_makes_no_sense_ends_with_2_and_writes_nothing(
    workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    odd_timeframe = [word.replace("1h", "7x") for word in ASKED]
    for wrong, said in (
        (["--against", "bitstamp"], "needs --market and --symbol and --timeframe"),
        (["--since", "2024-01-01"], "--since belongs to a comparison"),
        (odd_timeframe, "timeframe '7x' is not understood"),
        ([*ASKED, "--since", "x"], "'x' is not a time"),
        (ASKED, "is not a folder"),
    ):
        assert command(*wrong) == 2
        assert said in capsys.readouterr().err
    assert not (workplace.directory / "ledger.duckdb").exists()


def test_a_source_that_is_not_there_is_refused_before_anything_is_booked_and_one_that_fails_is_booked(
    sources: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(*[word.replace("BTC", "ETH") for word in ASKED]) == 2
    assert "--against-symbol" in capsys.readouterr().err
    assert not (sources.directory / "ledger.duckdb").exists()
    (sources.directory / "reports").write_text("a file stands here")
    assert command(*ASKED) == 1
    assert "cannot be written" in capsys.readouterr().err
    (run,) = DataStore(Database(str(sources.directory / "ledger.duckdb"))).runs()
    assert run.status == "failure"
    assert "cannot be written" in (run.error or "")


def test_the_command_that_repeats_a_comparison_names_all_that_was_asked() -> None:
    given = asked("files:my data#a", "b", since="2024-01-01", until="2024-02-01T06:00")
    assert command_text(given) == (
        "python -m flows.market_data validate --market 'files:my data#a' --against b --symbol BTC/USDT --timeframe 1h "
        "--since 2024-01-01T00:00 --until 2024-02-01T06:00"
    )
    assert command_text(replace(given, limits=Thresholds(max_p99_bps=70))).endswith(" --max-p99-bps 70")


# ------------------------------------------------------------------------------------------------- sources


def asked(market_name: str, against: str, symbol: str = "BTC/USDT", **more: str) -> Comparing:
    read = read_validation(
        ValidationOptions(market=market_name, against=against, symbol=symbol, timeframe="1h", limits={}, **more)
    )
    assert isinstance(read, Comparing)
    return read


def test_the_other_sources_symbol_is_the_same_one_before_any_other(sources: Workplace) -> None:
    access = asyncio.run(open_market("files:data#bitstamp", asked("a", "b").settings, None))
    found, said = asyncio.run(find_other(sources.lake, access, asked("files:data#binance", "files:data#bitstamp")))
    assert (found.symbol, said) == ("BTC/USD", "files:data#bitstamp has no BTC/USDT: BTC/USD was taken")
    sources.lake.append(access.market.series("BTC/USDT", "1h"), market(3), "x", NOW)
    found, said = asyncio.run(find_other(sources.lake, access, asked("files:data#binance", "files:data#bitstamp")))
    assert (found.symbol, said) == ("BTC/USDT", None)
    with pytest.raises(UnknownSymbol, match=r"has no 1h candles of ETH/USDT, ETH/USD, .*--against-symbol"):
        asyncio.run(find_other(sources.lake, access, asked("x", "files:data#bitstamp", "ETH/USDT")))


def exchange(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"API_URL": emulator.url, "RATE_LIMIT": "false", "MAX_ATTEMPTS": "1", "MAX_CLOCK_SKEW_S": "3600"}.items():
        monkeypatch.setenv(f"CANDLEWICK_EXCHANGES__BINANCE__{name}", value)


async def reached(comparing: Comparing) -> ReachedSource:
    return ReachedSource(await open_market(comparing.market, comparing.settings, None), "BTC/USDT", "1h")


def test_an_exchange_is_asked_for_what_the_lake_lacks_and_never_twice(
    workplace: Workplace, made_up_exchange: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange(made_up_exchange, monkeypatch)
    made_up_exchange.now_ms = None
    lake, comparing = workplace.lake, asked("binance", "bitstamp")
    first, last = START_MS + 100 * HOUR_MS, START_MS + 200 * HOUR_MS

    async def complete(since_ms: int | None, until_ms: int | None) -> str | None:
        source = await reached(comparing)
        try:
            return await complete_source(lake, source, (since_ms, until_ms), 3)
        finally:
            await source.access.market.close()

    assert asyncio.run(complete(first, last)) is None
    series = Series("binance", "BTC/USDT", "1h")
    assert lake.span(series) == (first, last - HOUR_MS)
    assert lake.coverage(series).covers(Span(first, last))
    # What is there needs no exchange at all; what is not can be missing, and is said.
    monkeypatch.setenv("CANDLEWICK_EXCHANGES__BINANCE__API_URL", f"http://127.0.0.1:{free_port()}")
    comparing = asked("binance", "bitstamp")
    assert asyncio.run(complete(None, None)) is None
    assert asyncio.run(complete(first, last)) is None
    said = asyncio.run(complete(first - 50 * HOUR_MS, last))
    assert said is not None
    assert "the lake's candles are compared" in said
    exchange(made_up_exchange, monkeypatch)
    comparing = asked("binance", "bitstamp")
    assert asyncio.run(complete(first - 50 * HOUR_MS, last)) is None
    assert lake.span(series) == (first - 50 * HOUR_MS, last - HOUR_MS)


def test_more_bars_than_memory_holds_are_left_out_and_said(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation_sources, "MAX_BARS", 100)
    ours = asyncio.run(reached(asked("sample", "bitstamp")))
    workplace.lake.append(ours.series, market(300), "x", NOW)
    span, said = asyncio.run(compared_span(workplace.lake, ours, asked("binance", "bitstamp")))
    assert span == Span(START_MS + 200 * HOUR_MS, START_MS + 300 * HOUR_MS)
    assert said is not None
    assert "only the newest 100 bars are compared" in said
    span, said = asyncio.run(compared_span(workplace.lake, ours, asked("binance", "bitstamp", until="2024-01-03")))
    assert (span, said) == (Span(START_MS, START_MS + 48 * HOUR_MS), None)
    with pytest.raises(UsageError, match="none in the span asked for"):
        asyncio.run(compared_span(workplace.lake, ours, asked("binance", "bitstamp", since="2025-01-01")))


def test_sources_are_called_by_their_exchange_unless_both_are_the_same() -> None:
    assert source_names("files:a#binance", "files:b") == ("binance", "files:b")
    assert source_names("files:a#binance", "files:b#binance") == ("files:a#binance", "files:b#binance")
