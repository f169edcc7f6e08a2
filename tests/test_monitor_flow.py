"""The flow `monitor` against an exchange whose clock runs fast: turns, hand-over, commands, and what Prefect sees."""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from candlewick.monitoring.books import account_name
from candlewick.monitoring.request import SessionOptions, SessionRequest, read_session_request
from candlewick.monitoring.results import SessionResult
from candlewick.results import CycleResult
from flows.command import result_of
from tests.emulator.live_book import MINUTE_MS, LiveBook, live_symbols, unified
from tests.emulator.server import Emulator
from tests.monitor_play import NAME, Desk, holes, told_wrongly, unlike_a_backtest
from tests.prefect_server import api_client

FACTOR = 60
NAMES = live_symbols(3)
SYMBOLS = tuple(unified(name) for name in NAMES)
HANDOVER_S = 4.0


async def until(condition: Callable[[], bool], limit_s: float = 60) -> None:
    """Poll; the bound only keeps a broken test from hanging."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {limit_s:g} s"
        await asyncio.sleep(0.05)


class Sessions:
    """Sessions of one desk in this process, each with a duration of its own in seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, since_ms: int) -> None:
        self.durations_s: list[float] = []
        self.since_ms = since_ms

        def read(options: SessionOptions) -> SessionRequest:
            return replace(read_session_request(options), duration_ms=round(self.durations_s.pop(0) * 1000))

        monkeypatch.setattr("flows.monitor.read_session_request", read)

    def start(self, duration_s: float) -> asyncio.Task[SessionResult]:
        """A run of the flow."""
        from flows.monitor import monitor

        self.durations_s.append(duration_s)
        since = f"{time.strftime('%Y-%m-%dT%H:%M', time.gmtime(self.since_ms / 1000))}"
        asked = monitor(
            market="binance", symbols=list(SYMBOLS), timeframe="1m", since=since, strategy="sma_cross",
            parameters={"fast": 3, "slow": 8}, return_state=True,
        )  # fmt: skip
        return asyncio.create_task(result_of(asked))  # type: ignore[arg-type]


def task_runs(server: str, flow_run_id: str) -> int:
    """Task runs of a flow run, as Prefect has booked them."""
    with api_client(server) as client:
        found = client.post("/task_runs/count", json={"flow_runs": {"id": {"any_": [flow_run_id]}}})
        return int(found.raise_for_status().json())


def artifact_of(server: str) -> str:
    """The newest status artifact of the desk."""
    with api_client(server) as client:
        body = {"artifacts": {"key": {"any_": [f"monitor-{NAME}"]}}, "sort": "UPDATED_DESC"}
        rows = client.post("/artifacts/filter", json=body).raise_for_status().json()
        return str(rows[0]["data"]) if rows else ""


@pytest.mark.xdist_group("prefect_server")
def test_sessions_take_turns_hand_over_without_a_hole_and_obey_commands_from_elsewhere(
    prefect_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_ms = round(time.time() * 1000) // MINUTE_MS * MINUTE_MS
    with Emulator(LiveBook(NAMES)) as exchange:
        exchange.accelerate(FACTOR, start_ms)
        settings = {"monitoring": {"handover_s": HANDOVER_S}}
        desk = Desk(tmp_path, exchange.url, SYMBOLS, start_ms - 30 * MINUTE_MS, prefect_server, settings)
        monkeypatch.chdir(tmp_path)
        asyncio.run(live(desk, Sessions(monkeypatch, desk.since_ms), prefect_server))
    last_ms = min(desk.watermarks().values())
    assert last_ms > start_ms + 10 * MINUTE_MS
    assert holes(desk, last_ms) == []
    assert unlike_a_backtest(desk, desk.accounts.values()) == []
    events = desk.store.events(NAME, 0, 10_000)
    assert told_wrongly(desk, [{"event_id": one.event_id, "kind": one.kind} for one in events]) == []


async def live(desk: Desk, sessions: Sessions, server: str) -> None:
    """The desk's life: one session, another that finds it taken, one that takes over, commands to it, and its end."""
    first = sessions.start(20)
    await until(lambda: desk.status().get("state") == "RUNNING")
    aside = await sessions.start(3600)
    assert (aside.status, aside.bars) == ("stood_aside", 0)
    assert f"watches desk {NAME}" in aside.reason
    cycle = await paper_cycle(account_name(NAME, SYMBOLS[0]))
    assert cycle.data is not None
    assert (cycle.data.acted, cycle.data.bars) == (False, 0)
    await until(lambda: left_s(desk) < HANDOVER_S)
    second = sessions.start(3600)
    ended = await first
    assert (ended.status, ended.quarantined) == ("handed_over", ())
    bars = ended.bars // len(SYMBOLS)
    assert bars >= 5
    row = desk.store.session(ended.session_id)
    assert row is not None
    assert row.state == "STOPPED"
    await until(lambda: desk.status().get("state") == "RUNNING" and desk.status()["session_id"] != ended.session_id)
    code, said = await asyncio.to_thread(desk.ask, "pause", "--symbol", SYMBOLS[0], "--reason", "a test")
    assert (code, "paused" in said) == (0, True), said
    assert [one["paused_by"] for one in desk.status()["symbols"]] == ["a test", None, None]
    code, said = await asyncio.to_thread(desk.ask, "status", "--json")
    assert json.loads(said)["session_id"] == desk.status()["session_id"]
    code, said = await asyncio.to_thread(desk.ask, "stop", "--reason", "the test is over", "--wait", "0")
    stopped = await second
    assert (stopped.status, stopped.reason.rsplit(": ", 1)[1]) == ("stopped", "the test is over")
    assert task_runs(server, str(row.flow_run_id)) <= 3 * bars + 15
    assert "STOPPED" in artifact_of(server)


async def paper_cycle(account: str) -> CycleResult:
    """A run of paper trading on one of the desk's accounts."""
    from flows.paper_trading import paper_trading

    return await result_of(paper_trading(account=account, return_state=True))  # type: ignore[arg-type]


def left_s(desk: Desk) -> float:
    """Until the session that runs ends, in seconds."""
    rows = [row for row in desk.store.sessions(NAME, 5) if row.ended_at is None and row.state != "STARTING"]
    return rows[0].ends_at.timestamp() - time.time() if rows else 3600.0
