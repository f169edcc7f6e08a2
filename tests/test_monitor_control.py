"""Commands to sessions from flow runs: what an automation asks for is in the store."""

import asyncio
from pathlib import Path

import pytest

from candlewick.errors import UsageError
from candlewick.store.database import Database
from candlewick.store.sessions import SessionStore

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
