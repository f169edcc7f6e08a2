"""The flow of an optimisation: optuna's trials over the same candles, seeded, kept as they are done."""

from collections.abc import Iterator
from dataclasses import dataclass

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.context import SyncClientContext
from prefect.runtime import flow_run

from candlewick.announcing import announce
from candlewick.backtest_request import BacktestRequest
from candlewick.backtesting.inputs import refuse_short
from candlewick.backtesting.objectives import Objective, read_objective
from candlewick.backtesting.search_table import SearchTable
from candlewick.backtesting.set_runner import SetRunner
from candlewick.errors import UsageError
from candlewick.json_text import Json
from candlewick.logs import bind_correlation_id
from candlewick.search_space import SearchSpace, parse_search_space
from flows.backtest_context import BacktestContext, check_gate, command_text, log_as_set, prepare
from flows.backtest_options import FlowParameters, read_parameters
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
from tasks.chunks import compute_trials

MOST_TRIALS = 100_000


@dataclass(frozen=True, slots=True)
class OptimizeAsked:
    """What is asked of an optimisation besides a backtest's options."""

    space: SearchSpace
    objective: Objective
    trials: int
    top: int

    def options(self) -> dict[str, Json]:
        """As a command line says it."""
        return {"objective": self.objective.name, "trials": self.trials, "top": self.top}


def read_optimize(request: BacktestRequest, objective: str, trials: int, top: int) -> OptimizeAsked:
    """The optimisation asked for. Raises UsageError; nothing is read or written."""
    if top < 1:
        raise UsageError(f"--top {top}: it must be 1 or more")
    if not 1 <= trials <= MOST_TRIALS:
        raise UsageError(f"--trials {trials}: it must be a whole number from 1 to {MOST_TRIALS:,}")
    if not request.parameters:
        raise UsageError(f"nothing to optimize: give {request.strategy_name} a range, such as --param NAME=5:50")
    return OptimizeAsked(parse_search_space(request.strategy_type, request.parameters), read_objective(objective), trials, top)


def _run_name() -> str:
    given = flow_run.parameters
    symbols = given.get("symbols")
    return f"optimize {given.get('strategy') or ''} on {', '.join(symbols) if symbols else 'the usual symbols'}"


@flow(name="optimize", flow_run_name=_run_name, persist_result=False)
async def optimize(
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
    trials: int = 200,
    top: int = 20,
) -> State[SearchResult]:
    """Trials that learn from the ones before; the same seed makes the same trials.

    Ends Completed or Failed with a SearchResult. Bad input raises before anything is written.
    """
    request = read_parameters(
        FlowParameters(
            market=market, symbols=symbols, timeframe=timeframe, strategy=strategy, parameters=parameters, since=since,
            until=until, cash=cash, rules=rules, maker_fee_bps=maker_fee_bps, taker_fee_bps=taker_fee_bps, detail=detail,
            allow_peeking=allow_peeking, seed=seed,
        )
    )  # fmt: skip
    asked = read_optimize(request, objective, trials, top)
    log_as_set(request)
    context = BacktestContext(request)
    with SyncClientContext.get_or_create(), bind_correlation_id(context.correlation_id):
        try:
            return await run_optimize(context, asked)
        finally:
            await context.close()


async def run_optimize(context: BacktestContext, asked: OptimizeAsked) -> State[SearchResult]:
    """The optimisation's table of contents."""
    from candlewick.backtesting.trials import first_valid  # optuna takes a second

    inputs = await prepare(context)
    first = first_valid(asked.space)
    refuse_short(inputs, first.strategy)
    gate = await check_gate(context, inputs, first.strategy)
    runner = SetRunner(search_window(inputs, context.request.strategy_name))
    grid: dict[str, Json] = {**asked.space.to_document(), "trials": asked.trials, "seed": context.request.options.seed}
    varied = tuple(one.name for one in asked.space.dimensions if one.count != 1)
    begun = begin_search(
        context, inputs, gate, first.strategy, "optimize", varied=varied, grid=grid, objective=asked.objective,
        sets=asked.trials,
    )  # fmt: skip
    search = Search(context, inputs, gate, asked.objective, begun, command_text(context, inputs, "optimize", asked.options()))
    search.table = SearchTable([one.name for one in asked.space.dimensions])
    return await concluded(search, try_and_judge(search, asked, runner))


async def try_and_judge(search: Search, asked: OptimizeAsked, runner: SetRunner) -> State[SearchResult]:
    """All trials, what luck says of the best one, report and store."""
    from candlewick.backtesting.trials import Trials

    announce("compiling where it is needed, then trying")
    trials = Trials(asked.space, asked.objective, search.context.request.options.seed)
    folder = search_folder(search.context)
    with search.context.stopwatch.step("compute_sets"):
        told = ProgressTold("trying", f"{search.run.run_id.lower()}-progress", asked.trials)
        for first, last in trial_chunks(asked.trials):
            done = await compute_trials(trials, runner, folder, first, last)
            keep_sets(search, range(first, last + 1), done)
            await told.tell(last - first + 1, done)
    return await judge_and_finish(search, asked.top)


def trial_chunks(trials: int) -> Iterator[tuple[int, int]]:
    """First and last trial of each chunk."""
    from candlewick.backtesting.trials import CHUNK_TRIALS

    for first in range(0, trials, CHUNK_TRIALS):
        yield first, min(first + CHUNK_TRIALS, trials) - 1
