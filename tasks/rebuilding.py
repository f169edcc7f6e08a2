"""Rebuild an account's state that an older version wrote, as a step of a flow."""

import asyncio

from prefect import task
from prefect.cache_policies import NO_CACHE

from candlewick.announcing import announce
from candlewick.audit import read_stored, replay
from candlewick.engine.state import EngineState
from candlewick.history import candles_until
from candlewick.rebuilding import verified_state
from candlewick.settings import Settings
from candlewick.store.ledger import Ledger
from candlewick.store.queries import account_rows
from tasks.audit import read_account_candles, read_account_funding


@task(name="rebuild-state", task_run_name="rebuild the state of {account}", cache_policy=NO_CACHE, timeout_seconds=1800)
async def rebuild_state(ledger: Ledger, settings: Settings, account: str) -> EngineState:
    """Replay the account from its stored inputs; nothing is written, no network is asked.

    Raises HistoryChanged and StateOutdated where the replay does not end where the ledger stands, and what strategies raise.
    """
    announce(f"replaying account {account}: an older version of Candlewick wrote its state")
    rows = account_rows(ledger.database, account)
    candles, funding = await read_account_candles(settings, rows), await read_account_funding(settings, rows)
    stored = read_stored(rows)
    seen = {symbol: candles_until(candles[symbol], stored.watermark_ms) for symbol in stored.account.symbols}
    replayed = await asyncio.to_thread(replay, stored, seen, funding)
    return verified_state(rows, replayed)
