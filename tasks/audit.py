"""The audit, as a step of a flow: read what is stored, replay it, compare. And what it leaves in Prefect's UI."""

import asyncio

import polars as pl
from prefect import task
from prefect.artifacts import acreate_markdown_artifact
from prefect.cache_policies import NO_CACHE

from candlewick.announcing import announce
from candlewick.audit import AuditReport, Frames, audit, stored_account, stored_watermark_ms
from candlewick.errors import InvariantViolated
from candlewick.funding_lake import LOOK_BACK_MS, read_funding
from candlewick.lake_opening import open_lake
from candlewick.reports.audit_text import audit_markdown
from candlewick.settings import Settings
from candlewick.store.database import Database
from candlewick.store.ledger import Ledger
from candlewick.store.queries import account_rows
from candlewick.timeframes import timeframe_ms
from candlewick.windows import read_windows
from tasks.market import open_market
from tasks.reports import artifact_key


@task(name="audit-ledger", task_run_name="audit {account}", cache_policy=NO_CACHE, timeout_seconds=1800)
async def audit_ledger(settings: Settings, account: str) -> AuditReport:
    """Replay the account and compare it with the ledger; nothing is written, no network is asked.

    Raises UnknownAccount, LedgerError, LakeError, and what the account's strategy raises.
    """
    ledger = Ledger(Database(settings.store.url, settings.store.lock_timeout_s))
    announce(f"reading account {account}")
    rows = account_rows(ledger.database, account)
    broken = broken_invariant(ledger, account)
    candles = await read_account_candles(settings, rows)
    announce(f"replaying {sum(frame.height for frame in candles.values()):,} candles and comparing")
    funding = await read_account_funding(settings, rows)
    return await asyncio.to_thread(audit, rows, candles, broken, funding)


def broken_invariant(ledger: Ledger, account: str) -> str | None:
    """What is wrong with the ledger's rows among themselves, None where nothing is. Raises LedgerError, UnknownAccount."""
    try:
        ledger.check(account)
    except InvariantViolated as violated:
        return str(violated).removesuffix(". Nothing was written")
    return None


async def read_account_candles(settings: Settings, rows: Frames) -> dict[str, pl.DataFrame]:
    """The lake's candles of the account, from its anchor to its watermark, by symbol. The market only says where they are."""
    account, watermark_ms = stored_account(rows), stored_watermark_ms(rows)
    access = await open_market(account.market, settings, watermark_ms)
    try:
        series = {symbol: access.market.series(symbol, account.timeframe) for symbol in account.symbols}
    finally:
        await access.market.close()
    end_ms = account.anchor_ms if watermark_ms is None else watermark_ms + timeframe_ms(account.timeframe)
    return await asyncio.to_thread(read_windows, open_lake(settings.lake), series, account.anchor_ms, end_ms)


async def read_account_funding(settings: Settings, rows: Frames) -> dict[str, pl.DataFrame]:
    """The lake's funding of the account's perpetuals, from before its anchor to its watermark's close, by symbol.

    What is absent is not refused here: its digest differs.
    """
    account, watermark_ms = stored_account(rows), stored_watermark_ms(rows)
    perpetuals = [one.symbol for one in account.current.instruments if one.kind == "perpetual"]
    if not perpetuals:
        return {}
    access = await open_market(account.market, settings, watermark_ms)
    try:
        series = {symbol: access.market.series(symbol, account.timeframe) for symbol in perpetuals}
    finally:
        await access.market.close()
    lake = open_lake(settings.lake)
    end_ms = account.anchor_ms if watermark_ms is None else watermark_ms + timeframe_ms(account.timeframe)
    frames = [asyncio.to_thread(read_funding, lake, one, account.anchor_ms - LOOK_BACK_MS, end_ms) for one in series.values()]
    return dict(zip(perpetuals, await asyncio.gather(*frames), strict=True))


@task(name="publish-audit", task_run_name="publish the audit of {report.account}", cache_policy=NO_CACHE, timeout_seconds=120)
async def publish_audit(report: AuditReport) -> None:
    """The audit as an artifact with the key `<account>-audit`."""
    key = f"{artifact_key(report.account)}-audit"
    await acreate_markdown_artifact(audit_markdown(report), key=key, description=f"Last audit of {report.account}")
