"""Commands to sessions and alerts from flow runs: what an automation asks for is in the store, or with people."""

import asyncio
from pathlib import Path

import pytest

from candlewick.errors import UsageError
from candlewick.store.database import Database
from candlewick.store.sessions import SessionStore
from tests.test_alerts import endpoint

STALE = "stale data: the last bar is 301 s old"


@pytest.mark.xdist_group("prefect_server")
def test_a_pause_that_an_automation_asks_for_waits_in_the_store_for_the_session(
    prefect_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.monitor_control import monitor_control

    monkeypatch.chdir(tmp_path)
    ended = asyncio.run(monitor_control(command="pause", symbol="ETH/USDT", account="desk", reason=STALE, return_state=True))
    assert ended.name == "Completed"
    store = SessionStore(Database("data/ledger.duckdb"))
    (waiting,) = store.pending_controls("desk")
    assert (waiting.command, waiting.symbol, waiting.reason) == ("pause", "ETH/USDT", STALE)
    assert waiting.requested_by.startswith("flow run pause ETH/USDT")
    assert waiting.applied_at is None
    assert store.pending_controls("other") == ()
    with pytest.raises(UsageError, match="restart needs a symbol"):
        asyncio.run(monitor_control(command="restart"))
    with pytest.raises(UsageError, match="lift needs the rule"):
        asyncio.run(monitor_control(command="lift"))
    assert len(store.pending_controls("desk")) == 1


@pytest.mark.xdist_group("prefect_server")
def test_an_alert_of_an_automation_reaches_the_channel_once_however_often_it_comes(
    prefect_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.monitor_alert import monitor_alert

    monkeypatch.chdir(tmp_path)
    title, body, key = "desk: daily_loss is broken", "0.0213 is beyond 0.02", "risk:daily_loss"
    with endpoint() as (url, came):
        monkeypatch.setenv("CANDLEWICK_ALERTS__URLS", url)
        tries = [monitor_alert(title, body, "critical", "desk", key, return_state=True) for _ in range(2)]
        assert [asyncio.run(one).name for one in tries] == ["Sent", "Repeated"]
    (told,) = came
    assert told["title"] == "[critical] desk: daily_loss is broken"
    assert told["message"] == "0.0213 is beyond 0.02"
    kept = SessionStore(Database("data/ledger.duckdb")).alerts("desk")
    assert sorted((row.state, row.repeats) for row in kept) == [("repeated", 1), ("sent", 0)]
