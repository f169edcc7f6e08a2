"""The engine, as a step of a flow: every closed bar since the watermark, decided by compiled code."""

from collections.abc import Mapping

import polars as pl
from prefect import task
from prefect.cache_policies import NO_CACHE

from candlewick.advancing import advance_account, common_watermark
from candlewick.candles import FormingBar
from candlewick.cycle import Decided, Start, conclude
from candlewick.engine.bars import Beside
from candlewick.funded import Funded
from candlewick.history import refuse_changed_history


@task(name="step-engine", task_run_name="step {start.account.name}", cache_policy=NO_CACHE, timeout_seconds=1800)
def step_engine(
    start: Start,
    candles: Mapping[str, pl.DataFrame],
    signals: Mapping[int, Mapping[str, pl.DataFrame]],
    forming: Mapping[str, FormingBar | None],
    funded: Funded,
) -> Decided:
    """What the account does with every bar that all its symbols have. Raises HistoryChanged, EngineOverflow.

    ``candles`` from the anchor on by symbol; ``signals`` the same rows by version of the terms and symbol. Nothing moves further
    than the funding of perpetuals is known.
    """
    refuse_changed_history(start.account, candles, funded.payments, start.state.watermark_ms, start.digests)
    until_ms = common_watermark(candles)
    if until_ms is not None and funded.until_ms is not None:
        until_ms = min(until_ms, funded.until_ms)
    beside = Beside(funding=funded.payments)
    advanced = advance_account(start.account, start.state, candles, signals, until_ms, forming, beside)
    return conclude(start, advanced, candles, funded.payments)
