"""The flow of a walk-forward: train windows choose, the test windows after them count."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.context import SyncClientContext
from prefect.runtime import flow_run

from candlewick.announcing import announce
from candlewick.backtest_request import BacktestRequest
from candlewick.backtesting.believing import judge_search
from candlewick.backtesting.chunk_sizes import seconds_text
from candlewick.backtesting.chunks import ChunkDone, read_chunk
from candlewick.backtesting.inputs import Inputs
from candlewick.backtesting.objectives import Objective, read_objective
from candlewick.backtesting.search_plans import ChunkPlan
from candlewick.backtesting.search_table import SearchTable
from candlewick.backtesting.set_runner import SearchWindow, SetRunner
from candlewick.backtesting.walk_forward_view import choose, concluded_walk, walk_forward_view
from candlewick.backtesting.walking import Choice, cut_window, walk
from candlewick.errors import UsageError
from candlewick.grids import GridSet, ParameterGrid, judge, parse_grid, require_confirmed, require_valid
from candlewick.json_text import Json
from candlewick.logs import bind_correlation_id
from candlewick.timeframes import format_duration, parse_duration
from candlewick.walk_forward import Span, Window, plan_windows
from flows.backtest_context import BacktestContext, check_gate, command_text, log_as_set, prepare
from flows.backtest_options import FlowParameters, read_parameters
from flows.grid_chunks import first_set, grid_chunks, measured_plan
from flows.search_steps import (
    ProgressTold,
    Search,
    SearchResult,
    begin_search,
    concluded,
    finish_search,
    keep_sets,
    search_folder,
    search_window,
)
from tasks.chunks import Chunks, compute_sets, play_test_windows, train_window


@dataclass(frozen=True, slots=True)
class WalkAsked:
    """What is asked of a walk-forward besides a backtest's options. ``step_ms`` None: as long as a test."""

    grid: ParameterGrid
    objective: Objective
    train_ms: int
    test_ms: int
    step_ms: int | None
    anchored: bool
    confirmed: bool

    def options(self) -> dict[str, Json]:
        """As a command line says it."""
        return {
            "train": _duration(self.train_ms),
            "test": _duration(self.test_ms),
            "step": None if self.step_ms is None else _duration(self.step_ms),
            "anchored": self.anchored,
            "objective": self.objective.name,
            "yes": self.confirmed,
        }


def _duration(duration_ms: int) -> str:
    """As ``parse_duration`` reads it."""
    minutes = duration_ms // 60_000
    return f"{minutes // 1440}d" if minutes % 1440 == 0 else f"{minutes // 60}h" if minutes % 60 == 0 else f"{minutes}m"


def read_walk(
    request: BacktestRequest, objective: str, train: str, test: str, step: str | None, anchored: bool, confirmed: bool
) -> WalkAsked:
    """The walk-forward asked for. Raises UsageError; nothing is read or written."""
    if not request.parameters:
        raise UsageError(f"nothing to choose from: give {request.strategy_name} a range, such as --param NAME=5:50:5")
    grid = parse_grid(request.strategy_type, request.parameters)
    require_valid(grid)
    train_ms, test_ms = parse_duration(train), parse_duration(test)
    step_ms = None if step is None else parse_duration(step)
    if request.since_ms is not None and request.until_ms is not None:
        plan_windows(
            request.since_ms, request.until_ms, train_ms=train_ms, test_ms=test_ms, step_ms=step_ms, anchored=anchored,
            timeframe=request.settings.paper.timeframe,
        )  # fmt: skip
    return WalkAsked(grid, read_objective(objective), train_ms, test_ms, step_ms, anchored, confirmed)


def _run_name() -> str:
    given = flow_run.parameters
    symbols = given.get("symbols")
    return f"walk-forward {given.get('strategy') or ''} on {', '.join(symbols) if symbols else 'the usual symbols'}"


@flow(name="walk-forward", flow_run_name=_run_name, persist_result=False)
async def walk_forward(
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
    train: str = "180d",
    test: str = "30d",
    step: str | None = None,
    anchored: bool = False,
    yes: bool = False,
) -> State[SearchResult]:
    """Choose on each train window, count on the test window after it.

    Ends Completed or Failed with a SearchResult. Bad input raises before anything is written.
    """
    request = read_parameters(
        FlowParameters(
            market=market, symbols=symbols, timeframe=timeframe, strategy=strategy, parameters=parameters, since=since,
            until=until, cash=cash, rules=rules, maker_fee_bps=maker_fee_bps, taker_fee_bps=taker_fee_bps, detail=detail,
            allow_peeking=allow_peeking, seed=seed,
        )
    )  # fmt: skip
    asked = read_walk(request, objective, train, test, step, anchored, yes)
    log_as_set(request)
    context = BacktestContext(request)
    with SyncClientContext.get_or_create(), bind_correlation_id(context.correlation_id):
        try:
            return await run_walk_forward(context, asked)
        finally:
            await context.close()


async def run_walk_forward(context: BacktestContext, asked: WalkAsked) -> State[SearchResult]:
    """The walk-forward's table of contents."""
    inputs = await prepare(context)
    windows = plan(asked, inputs)
    first = first_set(asked.grid)
    gate = await check_gate(context, inputs, first.strategy)
    span = Span(windows[0].train.since_ms, windows[-1].test.until_ms)
    whole = cut_window(search_window(inputs, context.request.strategy_name), span)
    runner = SetRunner(whole)
    chunk_plan = await measured_plan(context, asked.grid, runner)
    confirm(asked, chunk_plan, windows, span)
    grid: dict[str, Json] = {**asked.grid.to_document(), "chunk": chunk_plan.size, **asked.options()}
    begun = begin_search(
        context, inputs, gate, first.strategy, "walk-forward", varied=asked.grid.varied, grid=grid, objective=asked.objective,
        sets=asked.grid.count,
    )  # fmt: skip
    search = Search(context, inputs, gate, asked.objective, begun, command_text(context, inputs, "walk-forward", asked.options()))
    search.table = SearchTable(asked.grid.names)
    return await concluded(search, train_and_test(search, asked, runner, whole, windows, chunk_plan))


def plan(asked: WalkAsked, inputs: Inputs) -> tuple[Window, ...]:
    """The windows; the first train span begins where the slowest set knows its indicators. Raises UsageError."""
    judged = (judge(asked.grid.strategy, index, values) for index, values in enumerate(asked.grid))
    warmup = max(one.strategy.warmup for one in judged if isinstance(one, GridSet))
    return plan_windows(
        inputs.since_ms, inputs.until_ms, train_ms=asked.train_ms, test_ms=asked.test_ms, step_ms=asked.step_ms,
        timeframe=inputs.terms.timeframe, anchored=asked.anchored, warmup_bars=warmup,
    )  # fmt: skip


def confirm(asked: WalkAsked, chunk_plan: ChunkPlan, windows: Sequence[Window], span: Span) -> None:
    """Say how much work it is. Raises GridTooLarge."""
    trained_ms = sum(window.train.duration_ms for window in windows) + span.duration_ms
    expected_s = chunk_plan.pace.expected_s(asked.grid.count) * trained_ms / span.duration_ms
    require_confirmed(asked.grid, confirmed=asked.confirmed, expected_s=expected_s)
    announce(
        f"{asked.grid.count:,} sets over {len(windows):,} train windows of {format_duration(asked.train_ms)} and over the whole "
        f"span, about {seconds_text(expected_s)}"
    )


async def train_and_test(
    search: Search, asked: WalkAsked, runner: SetRunner, whole: SearchWindow, windows: tuple[Window, ...], chunk_plan: ChunkPlan
) -> State[SearchResult]:
    """Choose on every train window, play every test window, judge all sets over the whole span; report and store."""
    context, folder = search.context, search_folder(search.context)
    chunks = Chunks(partial(grid_chunks, asked.grid, chunk_plan.size))
    told = ProgressTold("walking", f"{search.run.run_id.lower()}-progress", asked.grid.count * (len(windows) + 1))
    with context.stopwatch.step("train"):
        choices: list[Choice | None] = []
        for window in windows:
            trained = SetRunner(cut_window(whole, window.train))
            done = await train_window(trained, chunks, folder, window.number)
            choices.append(await asyncio.to_thread(chosen, search, asked, chunks, done))
            await told.tell(asked.grid.count, done[-1])
    with context.stopwatch.step("compute_sets"):
        for chunk in chunks.made():
            finished = await compute_sets(runner, chunk, folder, None)
            keep_sets(search, chunk.numbers, finished)
            await told.tell(len(chunk.judged), finished)
    announce("playing the test windows")
    with context.stopwatch.step("test"):
        walked = await play_test_windows(partial(walk, whole, windows, choices), len(windows))
    with context.stopwatch.step("judge"):
        table = search.table
        best = asked.objective.best(table.scores(asked.objective.name))
        belief = await asyncio.to_thread(
            judge_search, table.scores("sharpe"), best, table.day_equities, context.request.options.seed
        )
    told_run = replace(search.run, notices=tuple(context.notices))
    ended, outcome = concluded_walk(told_run, walked, asked.grid, belief)
    view = walk_forward_view(ended, walked, asked.grid, asked.objective, belief, search.gate.sentence, search.command)
    return await finish_search(search, ended, view, outcome)


def chosen(search: Search, asked: WalkAsked, chunks: Chunks, done: Sequence[ChunkDone]) -> Choice | None:
    """The best set of a train window, from its chunks. Raises LakeError."""
    table = SearchTable(asked.grid.names)
    for chunk, one in zip(chunks.made(), done, strict=True):
        table.add(read_chunk(one, chunk.numbers), Path(one["path"]))
        search.context.notices += [one["notice"]] if one["notice"] else []
    return choose(table, asked.objective)
