"""The ending of a search: its report, the run store, what Prefect's UI shows."""

from pathlib import Path

from prefect import task
from prefect.artifacts import acreate_markdown_artifact, acreate_table_artifact
from prefect.cache_policies import NO_CACHE

from candlewick.backtest_rows import BacktestRun
from candlewick.reports.backtest_text import set_rows, sweep_markdown, walk_forward_markdown
from candlewick.reports.backtest_view import SweepView, WalkForwardView
from candlewick.store.backtests import Backtests, Outcome


@task(name="write-search-report", task_run_name="report {view.run_id}", cache_policy=NO_CACHE, timeout_seconds=600)
def write_search_report(view: SweepView | WalkForwardView, directory: Path) -> Path:
    """The search's self-contained HTML report. Raises CandlewickError where it cannot be written."""
    if isinstance(view, SweepView):
        from candlewick.reports.sweep import write_sweep_report  # plotly

        return write_sweep_report(view, directory)
    from candlewick.reports.walk_forward import write_walk_forward_report

    return write_walk_forward_report(view, directory)


@task(name="keep-search", task_run_name="keep {run.run_id}", cache_policy=NO_CACHE, timeout_seconds=300)
def keep_search(store: Backtests, run: BacktestRun, outcome: Outcome | None) -> None:
    """The run as it ended, whole or not at all; its sets are there already. Raises LedgerError."""
    store.finish(run, outcome)


@task(name="publish-search", task_run_name="publish artifacts", cache_policy=NO_CACHE, timeout_seconds=120)
async def publish_search(view: SweepView | WalkForwardView) -> None:
    """Summary and best sets in the Prefect UI; keys are `<run id>-summary`, `-sets`."""
    key = view.run_id.lower()
    if isinstance(view, WalkForwardView):
        text = walk_forward_markdown(view)
        await acreate_markdown_artifact(text, key=f"{key}-summary", description=f"Walk-forward: {view.title}")
        return
    await acreate_markdown_artifact(sweep_markdown(view), key=f"{key}-summary", description=f"Best sets: {view.title}")
    rows = set_rows(view)
    if rows:
        await acreate_table_artifact(rows, key=f"{key}-sets", description=f"Best sets of {view.run_id}")
