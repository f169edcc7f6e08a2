"""The flow of a thorough look-ahead check: every signal again on other histories of a market's candles."""

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.context import SyncClientContext
from prefect.states import Completed, Failed

from candlewick.announcing import announce
from candlewick.backtest_rows import KeptCheck
from candlewick.check_report import CheckReport
from candlewick.logs import bind_correlation_id
from candlewick.reports.check_text import check_sentence
from flows.backtest_context import BacktestContext, log_as_set, prepare
from flows.backtest_options import FlowParameters, read_parameters
from flows.command import ending
from tasks.checks import check_candles, publish_check

CUTS = 40


@flow(name="check-strategy", flow_run_name="check {strategy}", persist_result=False)
async def check_look_ahead(
    strategy: str | None = None,
    parameters: dict[str, str | int | float | bool] | None = None,
    market: str | None = None,
    symbols: list[str] | None = None,
    timeframe: str | None = None,
    since: str | None = None,
    until: str | None = None,
    cuts: int = CUTS,
    seed: int = 0,
) -> State[CheckReport]:
    """Ends Completed where the strategy passed, else Failed; both carry the CheckReport. Keeps the verdict."""
    request = read_parameters(
        FlowParameters(
            market=market, symbols=symbols, timeframe=timeframe, strategy=strategy, parameters=parameters, since=since,
            until=until, cash=None, rules=None, maker_fee_bps=None, taker_fee_bps=None, detail=None, allow_peeking=False,
            seed=seed,
        )
    )  # fmt: skip
    log_as_set(request)
    chosen = request.strategy()
    context = BacktestContext(request)
    with SyncClientContext.get_or_create(), bind_correlation_id(context.correlation_id):
        try:
            inputs = await prepare(context)
            announce(f"asking {request.strategy_name} again on other histories of {inputs.bars:,} candles")
            kept: KeptCheck = await check_candles(context.store, chosen, inputs, cuts, seed)
            report = CheckReport.from_document(kept.document)
            await publish_check(report)
            return conclude_check(report)
        finally:
            await context.close()


def conclude_check(report: CheckReport) -> State[CheckReport]:
    """The flow's final state."""
    verdict = check_sentence(report)
    return ending(Completed(message=verdict, data=report) if report.verdict == "passed" else Failed(message=verdict, data=report))
