"""The look-ahead check, as a step of a flow: done on the candles at hand, and kept."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime

import polars as pl
from prefect import task
from prefect.artifacts import acreate_markdown_artifact
from prefect.cache_policies import NO_CACHE

from candlewick.backtest_rows import KeptCheck
from candlewick.backtesting.inputs import Inputs
from candlewick.check_report import CheckReport
from candlewick.code_version import code_version
from candlewick.lookahead import FEWEST_BARS, check_strategy
from candlewick.reports.check_text import check_markdown
from candlewick.store.backtests import Backtests
from candlewick.strategies.catalog import strategy_code_version
from candlewick.strategies.contract import Strategy
from candlewick.strategy_checks import check_to_keep, kept_check
from tasks.reports import artifact_key

GATE_CUTS = 8
GATE_BARS = 2_000
"""A check before a run is a modest one, on the newest bars: `python -m flows.backtesting check` does the thorough one."""
GATE_SYMBOLS = 3


def newest(candles: Mapping[str, pl.DataFrame], warmup: int) -> dict[str, pl.DataFrame]:
    """The newest candles of the first symbols: what a modest check looks at."""
    bars = max(GATE_BARS, 2 * (warmup + FEWEST_BARS))
    return {symbol: frame.tail(bars) for symbol, frame in list(candles.items())[:GATE_SYMBOLS]}


@task(name="check-strategy", task_run_name="check {strategy.__class__.__name__}", cache_policy=NO_CACHE, timeout_seconds=3600)
async def check_candles(
    store: Backtests, strategy: Strategy, inputs: Inputs, cuts: int | None = None, seed: int = 0
) -> KeptCheck:
    """Check and keep the verdict; ``cuts`` None: a modest check of the newest bars.

    The answer is what is kept: a failure that other candles have shown stands. Raises UsageError where there are too few candles,
    StrategyFailed, UnknownStrategy, LedgerError.
    """
    candles = newest(inputs.candles, strategy.warmup) if cuts is None else inputs.candles
    report = await asyncio.to_thread(check_strategy, strategy, candles, cuts=cuts or GATE_CUTS, seed=seed)
    return keep(store, strategy, inputs, report)


def keep(store: Backtests, strategy: Strategy, inputs: Inputs, report: CheckReport) -> KeptCheck:
    """Keep the verdict beside the runs, unless one that weighs more is there."""
    series = next(iter(inputs.series.values()))
    version = strategy_code_version(strategy)
    new = kept_check(
        report,
        market=series.market,
        timeframe=series.timeframe,
        code_version=code_version(),
        strategy_version=version,
        checked_at=datetime.now(UTC),
    )
    chosen = check_to_keep(store.find_check(new.strategy, new.parameters, new.code_version, version), new)
    if chosen is new:
        store.keep_check(new)
    return chosen


@task(name="publish-check", task_run_name="publish the check", cache_policy=NO_CACHE, timeout_seconds=120)
async def publish_check(report: CheckReport) -> None:
    """The check as an artifact with the key `check-<strategy>`."""
    key = f"check-{artifact_key(report.strategy)}"
    await acreate_markdown_artifact(check_markdown(report), key=key, description=f"Last look-ahead check of {report.strategy}")
