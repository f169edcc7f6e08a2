"""The paper_trading flow on the sample market, against a real Prefect server: what it writes, refuses, shows and leaves alone."""

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal

import httpx
import pytest
from prefect.client.schemas.objects import State
from prefect.exceptions import MissingResult
from prefect.states import Completed, Failed

from candlewick.code_version import code_version
from candlewick.errors import AccountMismatch, CandlewickError, SettingsError, UnknownStrategy, UsageError
from candlewick.results import CycleResult
from candlewick.store.lock import HeldLock
from flows.command import ending, result_of
from tests.paper_flow import SYMBOLS, Workplace, differences, task_runs, trade
from tests.prefect_server import free_port

OPTIONS: Mapping[str, object] = {
    "account": "demo",
    "market": "sample",
    "timeframe": "4h",
    "strategy": "sma_cross",
    "parameters": {"fast": 3, "slow": 8},
    "since": "2026-09-01",
}
FIRST, SECOND = "2026-10-01T02:00", "2026-10-05T02:00"
HOLDING = "2026-09-20T02:00"
CHECK_LIMIT_S = 60.0


def trade_sample(until: str = FIRST, **options: object) -> CycleResult:
    return trade(**{**OPTIONS, "until": until, **options})


def bytes_of(place: Workplace) -> str:
    return hashlib.sha256((place.directory / "ledger.duckdb").read_bytes()).hexdigest()


def asked(server: str, path: str, body: Mapping[str, object]) -> object:
    return httpx.post(f"{server}{path}", json=body, trust_env=False, timeout=30).raise_for_status().json()


def eventually(look: Callable[[], list[dict[str, object]]], enough: int) -> list[dict[str, object]]:
    """Prefect books events a little after they were sent."""
    deadline = time.monotonic() + CHECK_LIMIT_S
    while len(found := look()) < enough and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


# -- one cycle after the other


def test_the_first_run_opens_the_account_and_the_second_continues_at_its_watermark(workplace: Workplace) -> None:
    first, second, third = trade_sample(), trade_sample(SECOND), trade_sample(SECOND)
    assert first.data is not None
    assert second.data is not None
    assert third.data is not None
    assert [r.data.created for r in (first, second, third) if r.data] == [True, False, False]
    assert first.data.watermark_before is None
    assert first.data.watermark_at == datetime(2026, 9, 30, 20, tzinfo=UTC)
    assert second.data.watermark_before == first.data.watermark_at
    assert second.data.watermark_at == datetime(2026, 10, 4, 20, tzinfo=UTC)
    assert third.data.watermark_before == third.data.watermark_at == second.data.watermark_at
    assert (third.data.bars, third.data.counts["fills"]) == (0, 0)
    assert first.data.counts["fills"] > 0
    rows = workplace.ledger.export_rows("demo")
    assert rows["equity"].height == first.data.bars + second.data.bars
    assert rows["runs"]["status"].to_list() == ["success"] * 3
    workplace.ledger.check("demo")


def test_a_second_cycle_of_the_account_at_the_same_time_stands_aside(workplace: Workplace) -> None:
    trade_sample()
    before = bytes_of(workplace)
    turn = workplace.ledger.try_account_lock("demo")
    assert isinstance(turn, HeldLock)
    try:
        result = trade_sample(SECOND)
    finally:
        turn.release()
    assert result.status == "success"
    assert result.data is not None
    assert not result.data.acted
    assert "another cycle of account demo is at work" in result.data.notices[-1]
    assert bytes_of(workplace) == before


def test_a_report_that_cannot_be_written_makes_the_run_partial_and_leaves_the_ledger_whole(workplace: Workplace) -> None:
    (workplace.directory / "reports").write_text("a file where a folder is wanted")
    result = trade_sample()
    assert result.status == "partial"
    assert result.data is not None
    assert result.data.report is None
    assert result.error is not None
    assert "the ledger is unharmed" in result.error
    assert workplace.ledger.export_rows("demo")["equity"].height == result.data.bars


# -- --dry-run


def test_a_dry_run_of_a_new_account_shows_its_orders_and_creates_nothing(workplace: Workplace) -> None:
    result = trade_sample(dry_run=True)
    assert result.status == "success"
    assert result.data is not None
    assert result.data.dry_run
    assert result.data.orders
    assert result.data.counts["fills"] > 0
    assert sorted(path.name for path in workplace.directory.iterdir()) == ["lake"], "candles are kept, and nothing else"


def test_a_dry_run_shows_what_the_real_run_then_does_and_leaves_the_ledger_as_it_was(workplace: Workplace) -> None:
    trade_sample()
    before, rows = bytes_of(workplace), workplace.ledger.export_rows("demo")
    shown = trade_sample(SECOND, dry_run=True)
    assert bytes_of(workplace) == before
    assert differences(workplace.ledger.export_rows("demo"), rows) == []
    real = trade_sample(SECOND)
    assert shown.data is not None
    assert real.data is not None
    assert shown.data.orders
    told = ("orders", "counts", "equity", "cash", "positions", "last_fills", "bars", "watermark_at")
    assert {name: getattr(shown.data, name) for name in told} == {name: getattr(real.data, name) for name in told}


# -- refusals


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"strategy": "sma_crss"}, UnknownStrategy, "sma_cross"),
        ({"parameters": {"fast": 8, "slow": 3}}, UnknownStrategy, "fast must be below slow"),
        ({"timeframe": "7x"}, SettingsError, "7x"),
        ({"cash": "plenty"}, UsageError, "--cash 'plenty' is not a number"),
        ({"cash": "-5"}, SettingsError, "cash"),
        ({"symbols": ["BTC/USDT", "ETH/BTC"]}, SettingsError, "quote currency"),
        ({"since": "2026-10-02"}, UsageError, "is not after --since"),
        ({"market": "binanse"}, UsageError, "did you mean binance"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_written(
    workplace: Workplace, options: dict[str, object], error: type[CandlewickError], text: str
) -> None:
    with pytest.raises(error, match=text):
        trade_sample(**options)
    assert not (workplace.directory / "ledger.duckdb").exists()
    assert not (workplace.directory / "lake").exists()


def test_a_setting_that_is_unknown_is_refused_with_its_origin(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANDLEWICK_PAPER__TIMEFRAM", "1h")
    with pytest.raises(SettingsError, match="CANDLEWICK_PAPER__TIMEFRAM"):
        trade_sample()
    assert list(workplace.directory.iterdir()) == []


@pytest.mark.parametrize(
    "options",
    [{"cash": 5000}, {"timeframe": "1h"}, {"strategy": "buy_and_hold", "parameters": None}, {"since": "2026-08-01"}],
)
def test_an_option_that_contradicts_the_account_is_refused(workplace: Workplace, options: dict[str, object]) -> None:
    trade_sample()
    before = bytes_of(workplace)
    (name,) = [name for name, value in options.items() if value is not None]
    with pytest.raises(AccountMismatch, match=f"account demo was opened with other terms: --{name}"):
        trade_sample(SECOND, **options)
    assert bytes_of(workplace) == before


# -- what Prefect shows


def test_artifacts_events_and_the_flow_run_tell_what_the_result_says(workplace: Workplace, prefect_server: str) -> None:
    result = trade_sample(HOLDING, account="shown.Demo")
    data, metadata = result.data, result.metadata
    assert data is not None
    assert data.positions

    run = asked(prefect_server, "/flow_runs/filter", {"flow_runs": {"id": {"any_": [metadata.flow_run_id]}}})[0]  # type: ignore[index]
    assert (run["name"], run["state_type"]) == (f"shown.Demo until {HOLDING}", "COMPLETED")

    body = {"artifacts": {"flow_run_id": {"any_": [metadata.flow_run_id]}}}
    artifacts = {artifact["key"]: artifact["data"] for artifact in asked(prefect_server, "/artifacts/filter", body)}  # type: ignore[attr-defined]
    assert set(artifacts) == {"shown-demo-summary", "shown-demo-positions", "shown-demo-fills"}
    assert "shown.Demo" in artifacts["shown-demo-summary"]
    positions, fills = (json.loads(artifacts[f"shown-demo-{name}"]) for name in ("positions", "fills"))
    assert len(positions) == len(data.positions)
    assert len(fills) == len(data.last_fills)
    for position, row in zip(data.positions, positions, strict=True):
        assert position.symbol in row.values()

    def events() -> list[dict[str, object]]:
        resource = {"resource": {"id": ["candlewick.account.shown.Demo"]}, "event": {"prefix": ["candlewick."]}}
        return asked(prefect_server, "/events/filter", {"filter": resource, "limit": 50})["events"]  # type: ignore[call-overload, index, no-any-return]

    found = eventually(events, min(len(data.orders), 49) + 1)
    kinds = [str(event["event"]) for event in found]
    assert kinds.count("candlewick.cycle.success") == 1
    (cycle,) = [event["payload"] for event in found if event["event"] == "candlewick.cycle.success"]
    assert isinstance(cycle, dict)
    assert (cycle["run_id"], cycle["correlation_id"]) == (metadata.run_id, metadata.correlation_id)
    assert Decimal(cycle["equity"]) == data.equity
    assert kinds.count("candlewick.order.filled") == sum(order.status == "filled" for order in data.orders)


def test_a_failure_is_an_event_too(workplace: Workplace, prefect_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANDLEWICK_EXCHANGES__BINANCE__API_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("CANDLEWICK_EXCHANGES__BINANCE__MAX_ATTEMPTS", "1")
    result = trade_sample(account="unreachable", market="binance")
    assert (result.status, result.data) == ("failure", None)
    assert result.error is not None
    assert result.error.startswith("binance clock: the exchange cannot be reached")
    run = asked(prefect_server, "/flow_runs/filter", {"flow_runs": {"id": {"any_": [result.metadata.flow_run_id]}}})[0]  # type: ignore[index]
    assert (run["state_type"], run["state"]["message"]) == ("FAILED", result.error)

    def events() -> list[dict[str, object]]:
        resource = {"resource": {"id": ["candlewick.account.unreachable"]}, "event": {"prefix": ["candlewick.cycle."]}}
        return asked(prefect_server, "/events/filter", {"filter": resource, "limit": 50})["events"]  # type: ignore[call-overload, index, no-any-return]

    (event,) = eventually(events, 1)
    assert event["event"] == "candlewick.cycle.failure"
    assert event["payload"]["error"] == result.error  # type: ignore[index]


@pytest.mark.parametrize("booked", [Completed(), Failed()])
def test_the_answer_outlives_a_server_that_booked_the_final_state_without_it(booked: State[str]) -> None:
    async def slow_server() -> State[str]:
        ending(Completed(data="the cycle's result"))
        return booked

    assert asyncio.run(result_of(slow_server())) == "the cycle's result"  # type: ignore[arg-type]


def test_a_run_that_has_no_answer_says_so() -> None:
    async def no_answer() -> State[str]:
        return Completed()

    with pytest.raises(MissingResult):
        asyncio.run(result_of(no_answer()))  # type: ignore[arg-type]


def test_the_result_says_where_its_numbers_come_from_and_the_ledger_says_the_same(workplace: Workplace) -> None:
    result = trade_sample()
    metadata = result.metadata
    assert metadata.flow_run_id is not None
    assert metadata.run_id.endswith(metadata.correlation_id)
    assert metadata.code_version == code_version()
    assert metadata.started_at < metadata.completed_at
    assert set(metadata.durations_s) >= {
        "load_account",
        "read_market",
        "fetch_candles",
        "compute_signals",
        "step_engine",
        "commit",
    }
    assert all(seconds >= 0 for seconds in metadata.durations_s.values())
    assert {symbol: len(digest) for symbol, digest in metadata.candle_digests.items()} == dict.fromkeys(SYMBOLS, 64)
    (row,) = workplace.ledger.export_rows("demo")["runs"].to_dicts()
    told = {name: getattr(metadata, name) for name in ("run_id", "flow_run_id", "correlation_id", "code_version", "started_at")}
    assert {name: row[name] for name in told} == told
    assert json.loads(row["candle_digests"]) == metadata.candle_digests


def test_a_cycle_has_as_many_task_runs_for_two_thousand_bars_as_for_one(workplace: Workplace, prefect_server: str) -> None:
    hourly = {"timeframe": "1h", "since": "2026-07-07T18:00"}
    many, one = trade_sample("2026-09-29T02:00", **hourly), trade_sample("2026-09-29T03:00", **hourly)
    assert many.data is not None
    assert one.data is not None
    assert (many.data.bars, one.data.bars) == (2000, 1)
    assert task_runs(prefect_server, many) == task_runs(prefect_server, one)
    assert len(task_runs(prefect_server, one)) == 8 + len(SYMBOLS)
