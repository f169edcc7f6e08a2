"""Parity, as a step of a flow: an account's rows, its candles and funding from the lake, and one backtest over them."""

import asyncio

from prefect import task
from prefect.artifacts import acreate_markdown_artifact
from prefect.cache_policies import NO_CACHE

from candlewick.announcing import announce
from candlewick.engine.bars import Beside
from candlewick.parity import ParityReport, parity_markdown, prove_parity
from candlewick.settings import Settings
from candlewick.store.database import Database
from candlewick.store.ledger import Ledger
from candlewick.store.queries import account_rows
from tasks.audit import read_account_candles, read_account_funding
from tasks.reports import artifact_key


@task(name="prove-parity", task_run_name="parity {account}", cache_policy=NO_CACHE, timeout_seconds=1800)
async def prove_account(settings: Settings, account: str) -> ParityReport:
    """Backtest the account's whole life and compare; nothing is written, no network is asked.

    Raises UnknownAccount, LedgerError, LakeError, and what the account's strategy raises.
    """
    announce(f"reading account {account}")
    rows = account_rows(Ledger(Database(settings.store.url, settings.store.lock_timeout_s)).database, account)
    candles = await read_account_candles(settings, rows)
    beside = Beside(await read_account_funding(settings, rows))
    announce(f"playing {sum(frame.height for frame in candles.values()):,} candles as one backtest and comparing")
    return await asyncio.to_thread(prove_parity, rows, candles, beside)


@task(name="publish-parity", task_run_name="publish parity of {report.account}", cache_policy=NO_CACHE, timeout_seconds=120)
async def publish_parity(report: ParityReport) -> None:
    """The comparison as an artifact with the key `<account>-parity`."""
    key = f"{artifact_key(report.account)}-parity"
    await acreate_markdown_artifact(parity_markdown(report), key=key, description=f"Last parity of {report.account}")
