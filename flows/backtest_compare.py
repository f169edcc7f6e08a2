"""The flow that puts kept runs side by side."""

from dataclasses import dataclass
from pathlib import Path

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.context import SyncClientContext
from prefect.states import Completed

from candlewick.reports.backtest_view import ComparisonView
from candlewick.settings import load_settings
from flows.backtest_options import find_run, open_store
from flows.command import ending
from tasks.comparisons import compare_kept, publish_comparison, write_comparison


@dataclass(frozen=True, slots=True)
class Compared:
    """A comparison and where its HTML stands."""

    view: ComparisonView
    report: str


@flow(name="compare-backtests", flow_run_name="compare {runs}", persist_result=False)
async def compare_backtests(runs: list[str]) -> State[Compared]:
    """Compare runs by their ids, beginnings of ids, or `latest`. Raises UsageError, UnknownRun, AmbiguousRun; keeps no run."""
    settings = load_settings()
    store = open_store(settings)
    with SyncClientContext.get_or_create():
        view = compare_kept(store, [find_run(store, named) for named in runs])
        report = write_comparison(view, Path(settings.reports.directory))
    await publish_comparison(view)
    return ending(Completed(message=f"compared {view.title}", data=Compared(view, str(report))))
