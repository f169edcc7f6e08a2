"""Parity, as a step of a flow: an account's rows, its candles and funding from the lake, and one backtest over them."""

import asyncio

import polars as pl
from prefect import task
from prefect.artifacts import acreate_markdown_artifact
from prefect.cache_policies import NO_CACHE

from candlewick.account import Account
from candlewick.announcing import announce
from candlewick.audit import Frames, stored_account, stored_watermark_ms
from candlewick.candles import opened_at_ms
from candlewick.engine.bars import Beside
from candlewick.funding import require_funding
from candlewick.funding_lake import LOOK_BACK_MS, read_funding
from candlewick.lake import Lake
from candlewick.parity import ParityReport, parity_markdown, prove_parity
from candlewick.settings import Settings
from candlewick.store.database import Database
from candlewick.store.ledger import Ledger
from candlewick.store.queries import account_rows
from candlewick.timeframes import timeframe_ms
from tasks.audit import read_account_candles
from tasks.market import open_market
from tasks.reports import artifact_key


@task(name="prove-parity", task_run_name="parity {account}", cache_policy=NO_CACHE, timeout_seconds=1800)
async def prove_account(settings: Settings, account: str) -> ParityReport:
    """Backtest the account's whole life and compare; nothing is written, no network is asked.

    Raises UnknownAccount, LedgerError, LakeError, FundingMissing, and what the account's strategy raises.
    """
    announce(f"reading account {account}")
    rows = account_rows(Ledger(Database(settings.store.url, settings.store.lock_timeout_s)).database, account)
    candles = await read_account_candles(settings, rows)
    beside = Beside(await read_account_funding(settings, rows, candles))
    announce(f"playing {sum(frame.height for frame in candles.values()):,} candles as one backtest and comparing")
    return await asyncio.to_thread(prove_parity, rows, candles, beside)


async def read_account_funding(settings: Settings, rows: Frames, candles: Frames) -> dict[str, pl.DataFrame]:
    """The lake's funding of the account's perpetuals, over the span of their candles. Raises FundingMissing."""
    account, watermark_ms = stored_account(rows), stored_watermark_ms(rows)
    perpetuals = [one for one in account.current.instruments if one.kind == "perpetual"]
    if not perpetuals or watermark_ms is None:
        return {}
    access = await open_market(account.market, settings, watermark_ms)
    try:
        series = {one.symbol: access.market.series(one.symbol, account.timeframe) for one in perpetuals}
    finally:
        await access.market.close()
    lake, found = Lake(settings.lake.url), {}
    for one in perpetuals:
        since_ms, until_ms = _paid_span(account, candles[one.symbol], watermark_ms)
        known = await asyncio.to_thread(read_funding, lake, series[one.symbol], since_ms - LOOK_BACK_MS, until_ms)
        found[one.symbol] = require_funding(one.symbol, known, since_ms, until_ms, one.funding_interval_h)
    return found


def _paid_span(account: Account, candles: pl.DataFrame, watermark_ms: int) -> tuple[int, int]:
    """A contract pays nothing before its listing, and nothing is known of after the watermark's close."""
    first_ms = int(opened_at_ms(candles)[0]) if candles.height else account.anchor_ms
    return max(account.anchor_ms, first_ms), watermark_ms + timeframe_ms(account.timeframe)


@task(name="publish-parity", task_run_name="publish parity of {report.account}", cache_policy=NO_CACHE, timeout_seconds=120)
async def publish_parity(report: ParityReport) -> None:
    """The comparison as an artifact with the key `<account>-parity`."""
    key = f"{artifact_key(report.account)}-parity"
    await acreate_markdown_artifact(parity_markdown(report), key=key, description=f"Last parity of {report.account}")
