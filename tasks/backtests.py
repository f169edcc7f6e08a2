"""The steps of one backtest: play it, draw its report, keep it, show it in Prefect's UI."""

from pathlib import Path

from prefect import task
from prefect.artifacts import acreate_markdown_artifact, acreate_table_artifact
from prefect.cache_policies import NO_CACHE

from candlewick.backtest_rows import BacktestRun
from candlewick.backtesting.inputs import Inputs
from candlewick.backtesting.playing import Played, play
from candlewick.reports.backtest_text import backtest_markdown, trade_rows
from candlewick.reports.backtest_view import BacktestView
from candlewick.store.backtests import Backtests, Outcome
from candlewick.strategies.contract import Strategy


@task(name="play-backtest", task_run_name="play {strategy.__class__.__name__}", cache_policy=NO_CACHE, timeout_seconds=3600)
def play_backtest(inputs: Inputs, strategy: Strategy, seed: int) -> Played:
    """One account over the whole span. Raises StrategyFailed, UnknownStrategy, EngineOverflow, UsageError."""
    return play(inputs, strategy, seed)


@task(name="write-backtest-report", task_run_name="report {view.run_id}", cache_policy=NO_CACHE, timeout_seconds=300)
def write_run_report(view: BacktestView, directory: Path) -> Path:
    """The run's self-contained HTML report. Raises CandlewickError where it cannot be written."""
    from candlewick.reports.backtest import write_backtest_report  # plotly

    return write_backtest_report(view, directory)


@task(name="keep-backtest", task_run_name="keep {run.run_id}", cache_policy=NO_CACHE, timeout_seconds=300)
def keep_backtest(store: Backtests, run: BacktestRun, outcome: Outcome) -> None:
    """The run as it ended, with its rows, whole or not at all. Raises LedgerError."""
    store.finish(run, outcome)


@task(name="publish-backtest", task_run_name="publish artifacts", cache_policy=NO_CACHE, timeout_seconds=120)
async def publish_backtest(view: BacktestView) -> None:
    """Summary and newest trades in the Prefect UI; keys are `<run id>-summary`, `-trades`."""
    key = view.run_id.lower()
    await acreate_markdown_artifact(backtest_markdown(view), key=f"{key}-summary", description=f"Backtest: {view.title}")
    trades = trade_rows(view)
    if trades:
        await acreate_table_artifact(trades, key=f"{key}-trades", description=f"Newest trades of {view.run_id}")
