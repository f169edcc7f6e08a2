"""What all searches share: how they begin, keep their sets, end, and what is said when they are stopped."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

import polars as pl
from prefect.artifacts import acreate_progress_artifact, aupdate_progress_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from candlewick.announcing import announce
from candlewick.backtest_rows import BacktestRun, RunKind
from candlewick.backtesting.believing import judge_search
from candlewick.backtesting.chunk_sizes import Progress
from candlewick.backtesting.chunks import ChunkDone, read_chunk
from candlewick.backtesting.inputs import Inputs
from candlewick.backtesting.objectives import Objective
from candlewick.backtesting.search_table import SearchTable
from candlewick.backtesting.search_views import concluded_search, sweep_view
from candlewick.backtesting.set_files import FOLDER, prune_sets
from candlewick.backtesting.set_runner import SearchWindow
from candlewick.backtesting.summary import same_inputs
from candlewick.errors import CandlewickError, LedgerError, SearchInterrupted, UsageError
from candlewick.json_text import Json
from candlewick.reports.backtest_view import SweepView, WalkForwardView
from candlewick.store.backtests import Backtests, Outcome
from candlewick.strategies.contract import Strategy
from flows.backtest_context import BacktestContext, Gate, run_record
from flows.command import ending
from tasks.searches import keep_search, publish_search, write_search_report

_PROGRESS_EVERY_S = 1.0
_STOPPED = (KeyboardInterrupt, asyncio.CancelledError)


@dataclass(frozen=True, slots=True)
class SearchResult:
    """A search at its end; ``view`` is what reports draw, None where it failed; ``report`` is where its HTML stands."""

    run: BacktestRun
    view: SweepView | WalkForwardView | None
    report: str | None


class Search:
    """A search that has begun: what it computes on, what it looks for, what it has so far."""

    def __init__(
        self, context: BacktestContext, inputs: Inputs, gate: Gate, objective: Objective, run: BacktestRun, command: str
    ) -> None:
        self.context = context
        self.inputs = inputs
        self.gate = gate
        self.objective = objective
        self.run = run
        self.command = command
        self.table = SearchTable(())


def search_folder(context: BacktestContext) -> Path:
    """Where finished chunks are kept: beside the candles they were computed from."""
    return context.lake.scratch / FOLDER


def search_window(inputs: Inputs, strategy: str) -> SearchWindow:
    """All of the inputs as the window of a search."""
    return SearchWindow(
        terms=inputs.terms,
        strategy=strategy,
        candles=inputs.candles,
        beside=inputs.beside,
        digests={"candles": inputs.digests, "funding": inputs.funding_digests},
        since_ms=inputs.since_ms,
        until_ms=inputs.until_ms,
    )


def begin_search(
    context: BacktestContext,
    inputs: Inputs,
    gate: Gate,
    strategy: Strategy,
    kind: RunKind,
    *,
    varied: tuple[str, ...],
    grid: Mapping[str, Json],
    objective: Objective,
    sets: int | None,
) -> BacktestRun:
    """Write that the search has begun, or go on with the same one that did not come to its end. Raises LedgerError."""
    prune_sets(search_folder(context))
    begun = run_record(context, inputs, kind, gate, strategy)
    parameters = {name: value for name, value in begun.parameters.items() if name not in varied}
    begun = replace(begun, parameters=parameters, grid=grid, objective=objective.name, sets=sets, bars=inputs.bars)
    with context.stopwatch.step("begin"):
        before = unfinished(context.store, begun)
        if before is None:
            context.store.begin(begun)
            return begun
        resumed = context.store.resume(before.run_id)
    context.run_id, context.correlation_id = resumed.run_id, resumed.correlation_id
    context.notices.append(f"goes on with run {resumed.run_id} of {resumed.started_at:%Y-%m-%d %H:%M} UTC, which had not ended")
    return resumed


def unfinished(store: Backtests, begun: BacktestRun) -> BacktestRun | None:
    """The newest run of exactly this search that was interrupted or failed; a succeeded one is not repeated but done anew."""
    for run in store.list_runs(begun.kind, begun.strategy):
        asked = (run.grid, run.objective, run.sets) == (begun.grid, begun.objective, begun.sets)
        if run.status in ("interrupted", "failure") and asked and same_inputs(run, begun):
            return run
    return None


def keep_sets(search: Search, numbers: Sequence[int], done: ChunkDone) -> None:
    """A finished chunk, which has these sets, into the table and into the store. Raises LakeError, LedgerError."""
    sets = read_chunk(done, numbers)
    search.table.add(sets, Path(done["path"]))
    if done["notice"]:
        search.context.notices.append(done["notice"])
    rows = sets.filter(pl.col("skipped").is_null()).select(
        "number",
        "parameters",
        pl.col(search.objective.name).alias("objective"),
        "figures",
        pl.lit(done["number"], pl.Int32).alias("chunk"),
    )
    if rows.height:
        search.context.store.add_sets(search.run.run_id, rows)


class ProgressTold:
    """How far a search is, in the terminal and as a progress artifact in Prefect's UI."""

    def __init__(self, what: str, key: str, planned: int) -> None:
        self._what, self._key = what, key
        self._planned, self._done, self._kept = planned, 0, 0
        self._computing_s = 0.0
        self._artifact: object = None
        self._told_at = 0.0
        self._last_at = perf_counter()

    async def tell(self, sets: int, done: ChunkDone) -> None:
        """One chunk of so many sets more is done."""
        now = perf_counter()
        self._done += sets
        if done["kept"]:
            self._kept += sets
        else:
            self._computing_s += now - self._last_at
        self._last_at = now
        progress = Progress(self._done, self._planned, self._kept, self._computing_s)
        announce(f"{self._what}: {progress.text()}")
        is_last = self._done >= self._planned
        if is_last or perf_counter() - self._told_at > _PROGRESS_EVERY_S:
            await self._show(progress)
            self._told_at = perf_counter()

    async def _show(self, progress: Progress) -> None:
        share, text = round(progress.share * 100, 2), f"{self._what}: {progress.text()}"
        if self._artifact is None:
            self._artifact = await acreate_progress_artifact(share, key=self._key, description=text)
        else:
            await aupdate_progress_artifact(self._artifact, share, description=text)  # type: ignore[arg-type]


@asynccontextmanager
async def ending_well(search: Search) -> AsyncIterator[None]:
    """Whatever stops the search inside, the store is told; what is done is kept. Raises SearchInterrupted for Ctrl-C."""
    try:
        yield
    except _STOPPED as stopped:
        _conclude(search, "interrupted", "interrupted")
        raise SearchInterrupted(_goes_on(search)) from stopped
    except UsageError as error:
        _conclude(search, "failure", str(error))
        raise


def _goes_on(search: Search) -> str:
    rows, planned = search.table.rows, search.run.sets
    of = f" of {planned:,}" if planned else ""
    return f"interrupted. {rows:,}{of} sets are done and kept; the same command goes on from there:\n  {search.command}"


def _conclude(search: Search, status: str, error: str) -> BacktestRun:
    context = search.context
    ended = replace(
        search.run,
        status="interrupted" if status == "interrupted" else "failure",
        error=error,
        notices=tuple(context.notices),
        durations_s=dict(context.stopwatch.durations_s),
        completed_at=datetime.now(UTC),
    )
    try:
        context.store.finish(ended)
    except LedgerError as unwritten:
        announce(f"the end of run {search.run.run_id} could not be kept: {unwritten}")
    return ended


async def concluded(search: Search, work: Awaitable[State[SearchResult]]) -> State[SearchResult]:
    """The search's own ending; one that fails leaves that in the store and ends Failed, with a SearchResult."""
    async with ending_well(search):
        try:
            return await work
        except (UsageError, SearchInterrupted):
            raise
        except CandlewickError as error:
            failed = _conclude(search, "failure", str(error))
            return ending(Failed(message=str(error), data=SearchResult(failed, None, None)))


async def finish_search(
    search: Search, ended: BacktestRun, view: SweepView | WalkForwardView, outcome: Outcome | None = None
) -> State[SearchResult]:
    """Report, store and artifacts. A report that cannot be written is said; the run is kept all the same."""
    context = search.context
    announce("drawing the report and keeping the run")
    report = None
    with context.stopwatch.step("report"):
        try:
            report = str(write_search_report(view, Path(context.settings.reports.directory)))
        except (CandlewickError, OSError) as problem:
            context.notices.append(f"the report could not be written: {problem}")
    kept = replace(
        ended,
        status="success",
        error=None,
        report=report,
        notices=tuple(context.notices),
        durations_s=dict(context.stopwatch.durations_s),
        completed_at=datetime.now(UTC),
    )
    keep_search(context.store, kept, outcome)
    await publish_search(view)
    result = SearchResult(kept, replace(view, notices=kept.notices), report)
    return ending(Completed(message=" ".join(kept.notices) or None, data=result))


async def judge_and_finish(search: Search, top: int) -> State[SearchResult]:
    """What luck says of the best set; then report, store and artifacts."""
    announce("judging how much of it is luck")
    table, objective = search.table, search.objective
    with search.context.stopwatch.step("judge"):
        best = objective.best(table.scores(objective.name))
        seed = search.context.request.options.seed
        belief = await asyncio.to_thread(judge_search, table.scores("sharpe"), best, table.day_equities, seed)
    told = replace(search.run, notices=tuple(search.context.notices))
    ended = concluded_search(told, table, best, belief)
    return await finish_search(
        search, ended, sweep_view(ended, table, objective, top, belief, search.gate.sentence, search.command)
    )
