"""The flow of a sweep: every combination of a grid over the same candles, in chunks that are kept as they are done."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.context import SyncClientContext
from prefect.runtime import flow_run

from candlewick.announcing import announce
from candlewick.backtest_request import BacktestRequest
from candlewick.backtesting.chunk_sizes import seconds_text
from candlewick.backtesting.chunks import Chunk, ChunkDone
from candlewick.backtesting.inputs import Inputs, refuse_short
from candlewick.backtesting.objectives import Objective, read_objective
from candlewick.backtesting.search_plans import ChunkPlan, refuse_chunk
from candlewick.backtesting.search_table import SearchTable
from candlewick.backtesting.set_runner import SetRunner
from candlewick.errors import UsageError
from candlewick.grids import (
    CONFIRM_ABOVE,
    ParameterGrid,
    parse_grid,
    require_confirmed,
    require_valid,
)
from candlewick.json_text import Json
from candlewick.logs import bind_correlation_id
from flows.backtest_context import BacktestContext, check_gate, command_text, log_as_set, prepare
from flows.backtest_options import FlowParameters, read_parameters
from flows.grid_chunks import first_set, grid_chunks, measured_plan
from flows.search_steps import (
    ProgressTold,
    Search,
    SearchResult,
    begin_search,
    concluded,
    judge_and_finish,
    keep_sets,
    search_folder,
    search_window,
)
from tasks.chunks import compute_sets

Runner = Literal["threads", "dask"]
_MEASURED = 64


@dataclass(frozen=True, slots=True)
class SweepAsked:
    """What is asked of a sweep besides a backtest's options. ``chunk`` None: as many sets as take about two seconds."""

    grid: ParameterGrid
    objective: Objective
    top: int
    confirmed: bool
    runner: Runner
    chunk: int | None

    def options(self) -> dict[str, Json]:
        """As a command line says it."""
        return {
            "objective": self.objective.name,
            "top": self.top,
            "runner": None if self.runner == "threads" else self.runner,
            "chunk": self.chunk,
            "yes": self.grid.count > CONFIRM_ABOVE,
        }


def read_sweep(request: BacktestRequest, objective: str, top: int, confirmed: bool, runner: str, chunk: int | None) -> SweepAsked:
    """The sweep asked for. Raises UsageError; nothing is read or written."""
    if top < 1:
        raise UsageError(f"--top {top}: it must be 1 or more")
    if runner not in ("threads", "dask"):
        raise UsageError(f"--runner {runner}: it must be threads or dask")
    refuse_chunk(chunk)
    if not request.parameters:
        raise UsageError(f"nothing to sweep: give {request.strategy_name} a range, such as --param NAME=5:50:5")
    grid = parse_grid(request.strategy_type, request.parameters)
    require_valid(grid)
    return SweepAsked(grid, read_objective(objective), top, confirmed, "dask" if runner == "dask" else "threads", chunk)


def _run_name() -> str:
    given = flow_run.parameters
    symbols = given.get("symbols")
    return f"sweep {given.get('strategy') or ''} on {', '.join(symbols) if symbols else 'the usual symbols'}"


@flow(name="sweep", flow_run_name=_run_name, persist_result=False)
async def sweep(
    market: str | None = None,
    symbols: list[str] | None = None,
    timeframe: str | None = None,
    strategy: str | None = None,
    parameters: dict[str, str | int | float | bool] | None = None,
    since: str | None = None,
    until: str | None = None,
    cash: str | int | float | None = None,
    rules: dict[str, str | int | float | bool] | None = None,
    maker_fee_bps: str | int | float | None = None,
    taker_fee_bps: str | int | float | None = None,
    detail: str | None = None,
    allow_peeking: bool = False,
    seed: int = 0,
    objective: str = "sharpe",
    top: int = 20,
    yes: bool = False,
    runner: str = "threads",
    chunk: int | None = None,
) -> State[SearchResult]:
    """Every combination of the parameters' values; a parameter that is not given comes from the settings.

    Ends Completed or Failed with a SearchResult. Bad input raises before anything is written.
    """
    request = read_parameters(
        FlowParameters(
            market=market, symbols=symbols, timeframe=timeframe, strategy=strategy, parameters=parameters, since=since,
            until=until, cash=cash, rules=rules, maker_fee_bps=maker_fee_bps, taker_fee_bps=taker_fee_bps, detail=detail,
            allow_peeking=allow_peeking, seed=seed,
        )
    )  # fmt: skip
    asked = read_sweep(request, objective, top, yes, runner, chunk)
    log_as_set(request)
    context = BacktestContext(request)
    with SyncClientContext.get_or_create(), bind_correlation_id(context.correlation_id):
        try:
            return await run_sweep(context, asked)
        finally:
            await context.close()


async def run_sweep(context: BacktestContext, asked: SweepAsked) -> State[SearchResult]:
    """The sweep's table of contents."""
    inputs = await prepare(context)
    first = first_set(asked.grid)
    refuse_short(inputs, first.strategy)
    gate = await check_gate(context, inputs, first.strategy)
    runner = SetRunner(search_window(inputs, context.request.strategy_name))
    plan = await plan_chunks(context, asked, runner, inputs)
    grid: dict[str, Json] = {**asked.grid.to_document(), "chunk": plan.size}
    begun = begin_search(
        context, inputs, gate, first.strategy, "sweep", varied=asked.grid.varied, grid=grid, objective=asked.objective,
        sets=asked.grid.count,
    )  # fmt: skip
    search = Search(context, inputs, gate, asked.objective, begun, command_text(context, inputs, "sweep", asked.options()))
    search.table = SearchTable(asked.grid.names)
    return await concluded(search, compute_and_judge(search, asked, runner, plan))


async def plan_chunks(context: BacktestContext, asked: SweepAsked, runner: SetRunner, inputs: Inputs) -> ChunkPlan:
    """How the grid is cut, said with the time to expect. Raises GridTooLarge."""
    measured = await measured_plan(context, asked.grid, runner)
    expected_s = measured.pace.expected_s(asked.grid.count)
    require_confirmed(asked.grid, confirmed=asked.confirmed, expected_s=expected_s)
    plan = ChunkPlan(asked.chunk or measured.size, measured.pace)
    announce(
        f"{asked.grid.count:,} sets over {inputs.bars:,} candles, about {seconds_text(expected_s)}, "
        f"in {-(-asked.grid.count // plan.size):,} chunks"
    )
    return plan


async def compute_and_judge(search: Search, asked: SweepAsked, runner: SetRunner, plan: ChunkPlan) -> State[SearchResult]:
    """All chunks, what luck says of the best set, report and store."""
    with search.context.stopwatch.step("compute_sets"):
        told = ProgressTold("sweeping", f"{search.run.run_id.lower()}-progress", asked.grid.count)
        async with aclosing(finished_chunks(search, asked, runner, plan)) as finished:
            async for chunk, done in finished:
                keep_sets(search, chunk.numbers, done)
                await told.tell(len(chunk.judged), done)
    return await judge_and_finish(search, asked.top)


async def finished_chunks(
    search: Search, asked: SweepAsked, runner: SetRunner, plan: ChunkPlan
) -> AsyncGenerator[tuple[Chunk, ChunkDone], None]:
    """Every chunk of the grid in order, computed or taken from its file."""
    folder, chunks = search_folder(search.context), grid_chunks(asked.grid, plan.size)
    if asked.runner == "threads":
        for chunk in chunks:
            yield chunk, await compute_sets(runner, chunk, folder, None)
        return
    from flows.dask_chunks import spread_over_processes

    announce("writing the candles for the other processes and starting them")
    runner.ship(folder / "windows")
    try:
        async with aclosing(spread_over_processes(runner, chunks, folder)) as spread:
            async for chunk, done in spread:
                yield chunk, done
    finally:
        runner.unship()
