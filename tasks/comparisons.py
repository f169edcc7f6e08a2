"""Runs side by side, as steps of a flow: read from the store, compared, drawn, shown in Prefect's UI."""

import shlex
from collections.abc import Sequence
from pathlib import Path

import polars as pl
from prefect import task
from prefect.artifacts import acreate_markdown_artifact
from prefect.cache_policies import NO_CACHE

from candlewick.backtest_rows import BacktestRun
from candlewick.backtesting.summary import kept_check_text, run_facts
from candlewick.reports.backtest_text import comparison_markdown
from candlewick.reports.backtest_view import ComparisonView
from candlewick.run_comparison import ComparedRun, compare_runs
from candlewick.store.backtests import Backtests


@task(name="compare-runs", task_run_name="compare", cache_policy=NO_CACHE, timeout_seconds=600)
def compare_kept(store: Backtests, runs: Sequence[BacktestRun]) -> ComparisonView:
    """The runs as a comparison. Raises UsageError for fewer than two, or one that is named twice."""
    found = compare_runs([ComparedRun(run, store.equity(run.run_id), store.trades(run.run_id)) for run in runs])
    counts = [(one.run_id, one.trades, one.shared, one.alone) for one in found.trade_counts]
    return ComparisonView(
        title=" and ".join(run.run_id for run in runs) if len(runs) == 2 else f"{len(runs)} runs",
        runs=tuple(run_facts(run, kept_check_text(run)) for run in runs),
        equity=found.equity,
        figures={run.run_id: run.figures for run in runs},
        trade_counts=pl.DataFrame(counts, schema=["run_id", "trades", "shared", "alone"], orient="row"),
        notices=found.notices,
        command=" ".join(["python -m flows.backtesting compare", *(shlex.quote(run.run_id) for run in runs)]),
    )


@task(name="write-comparison", task_run_name="report", cache_policy=NO_CACHE, timeout_seconds=300)
def write_comparison(view: ComparisonView, directory: Path) -> Path:
    """The comparison's self-contained HTML report. Raises CandlewickError where it cannot be written."""
    from candlewick.reports.comparison import write_comparison_report  # plotly

    return write_comparison_report(view, directory)


@task(name="publish-comparison", task_run_name="publish the comparison", cache_policy=NO_CACHE, timeout_seconds=120)
async def publish_comparison(view: ComparisonView) -> None:
    """The comparison as an artifact with the key `comparison`."""
    await acreate_markdown_artifact(comparison_markdown(view), key="comparison", description=f"Comparison of {view.title}")
