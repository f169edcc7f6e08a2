"""The flow of one backtest: from a request to a run that is kept, drawn and told."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.context import SyncClientContext
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from candlewick.announcing import announce
from candlewick.backtest_rows import BacktestRun
from candlewick.backtesting.inputs import Inputs, refuse_short
from candlewick.backtesting.playing import Played
from candlewick.backtesting.summary import backtest_view, concluded, repetition_notice, same_run
from candlewick.errors import CandlewickError, LedgerError, UsageError
from candlewick.logs import bind_correlation_id
from candlewick.reports.backtest_view import BacktestView
from candlewick.store.backtests import Outcome
from candlewick.strategies.contract import Strategy
from flows.backtest_context import BacktestContext, Gate, check_gate, command_text, log_as_set, prepare, run_record
from flows.backtest_options import FlowParameters, read_parameters
from flows.command import ending
from tasks.backtests import keep_backtest, play_backtest, publish_backtest, write_run_report


@dataclass(frozen=True, slots=True)
class BacktestResult:
    """A backtest at its end; ``view`` is what reports draw, None where it failed; ``report`` is where its HTML stands."""

    run: BacktestRun
    view: BacktestView | None
    report: str | None


def _run_name() -> str:
    given = flow_run.parameters
    symbols = given.get("symbols")
    return f"{given.get('strategy') or 'backtest'} on {', '.join(symbols) if symbols else 'the usual symbols'}"


@flow(name="backtest", flow_run_name=_run_name, persist_result=False)
async def backtest(
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
) -> State[BacktestResult]:
    """One backtest; a parameter that is not given comes from the settings.

    Ends Completed or Failed with a BacktestResult. Bad input raises before anything is written.
    """
    request = read_parameters(
        FlowParameters(
            market=market, symbols=symbols, timeframe=timeframe, strategy=strategy, parameters=parameters, since=since,
            until=until, cash=cash, rules=rules, maker_fee_bps=maker_fee_bps, taker_fee_bps=taker_fee_bps, detail=detail,
            allow_peeking=allow_peeking, seed=seed,
        )
    )  # fmt: skip
    log_as_set(request)
    chosen = request.strategy()
    context = BacktestContext(request)
    # One connection for all synchronous tasks; without it each makes its own.
    with SyncClientContext.get_or_create(), bind_correlation_id(context.correlation_id):
        try:
            return await run(context, chosen)
        finally:
            await context.close()


async def run(context: BacktestContext, strategy: Strategy) -> State[BacktestResult]:
    """The backtest's table of contents."""
    inputs = await prepare(context)
    refuse_short(inputs, strategy)
    gate = await check_gate(context, inputs, strategy)
    begun = begin(context, inputs, gate, strategy)
    try:
        played = play_out(context, inputs, strategy)
    except (CandlewickError, KeyboardInterrupt) as error:
        return fail(context, begun, error)
    ended = conclude(context, begun, played)
    view = backtest_view(ended, inputs, played, gate.sentence, command_text(context, inputs, "run"))
    return await finish(context, ended, view, played)


def begin(context: BacktestContext, inputs: Inputs, gate: Gate, strategy: Strategy) -> BacktestRun:
    """Write that the run has begun. Raises LedgerError."""
    begun = run_record(context, inputs, "run", gate, strategy)
    with context.stopwatch.step("begin"):
        context.store.begin(begun)
    return begun


def play_out(context: BacktestContext, inputs: Inputs, strategy: Strategy) -> Played:
    """Signals, engine, trades and figures; compiling, which happens once, is said to be it."""
    from candlewick.compiled import is_compiled  # numba: see candlewick/engine/run.py

    compiled = is_compiled("folding", "fold")
    announce(
        f"playing {inputs.bars:,} candles"
        if compiled
        else "compiling the engine (once, about a quarter of a minute), then playing"
    )
    with context.stopwatch.step("play"):
        return play_backtest(inputs, strategy, context.request.options.seed)


def conclude(context: BacktestContext, begun: BacktestRun, played: Played) -> BacktestRun:
    """The run with its figures, and whether the store has the same one."""
    ended = concluded(begun, played)
    context.notices += played.notices
    with context.stopwatch.step("compare"):
        before = same_run(ended, context.store.list_runs("run", ended.strategy))
    if before is not None:
        context.notices.append(repetition_notice(ended, before))
    return replace(ended, status="success", notices=tuple(context.notices))


async def finish(context: BacktestContext, ended: BacktestRun, view: BacktestView, played: Played) -> State[BacktestResult]:
    """Report, store and artifacts. A report that cannot be written is said; the run is kept all the same."""
    announce("drawing the report and keeping the run")
    report = None
    with context.stopwatch.step("report"):
        try:
            report = str(write_run_report(view, Path(context.settings.reports.directory)))
        except (CandlewickError, OSError) as problem:
            context.notices.append(f"the report could not be written: {problem}")
    with context.stopwatch.step("keep"):
        kept = replace(
            ended,
            report=report,
            notices=tuple(context.notices),
            durations_s=dict(context.stopwatch.durations_s),
            completed_at=datetime.now(UTC),
        )
        keep_backtest(context.store, kept, Outcome(trades=played.trades, fills=played.journal.fills, equity=played.equity))
    await publish_backtest(view)
    result = BacktestResult(kept, replace(view, notices=kept.notices), report)
    return ending(Completed(message=" ".join(kept.notices) or None, data=result))


def fail(context: BacktestContext, begun: BacktestRun, error: BaseException) -> State[BacktestResult]:
    """A run that came to no end leaves that in the store; bad input raises as it is."""
    interrupted = isinstance(error, KeyboardInterrupt)
    text = "interrupted" if interrupted else str(error)
    failed = replace(
        begun,
        status="interrupted" if interrupted else "failure",
        error=text,
        notices=tuple(context.notices),
        durations_s=dict(context.stopwatch.durations_s),
        completed_at=datetime.now(UTC),
    )
    try:
        context.store.finish(failed)
    except LedgerError as unwritten:
        text = f"{text} (and the run could not be kept: {unwritten})"
    if interrupted or isinstance(error, UsageError):
        raise error
    return ending(Failed(message=text, data=BacktestResult(failed, None, None)))
