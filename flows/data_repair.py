"""The flow of a repair: what the quality table says is missing or wrong is asked for again, put right or explained."""

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated

from cyclopts import App, Parameter
from prefect import flow
from prefect.client.schemas.objects import State
from prefect.context import SyncClientContext
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from candlewick.announcing import announce
from candlewick.cli import FAILURE, PARTIAL, SUCCESS, JsonFlag
from candlewick.code_version import code_version
from candlewick.errors import CandlewickError, UsageError
from candlewick.json_text import to_json
from candlewick.lake_opening import open_lake
from candlewick.logs import bind_correlation_id
from candlewick.market_data.mending import SeriesRepair, take_open
from candlewick.market_data.repair_report import COLUMNS, RepairReport, outcome_rows, repair_sentence
from candlewick.market_data.repairing import OpenFinding, Outcome, RepairPlan, RepairRequest, plan_repair
from candlewick.market_data.rows import DataRun, DataRunStatus, FindingState
from candlewick.settings import load_settings
from candlewick.store.data_runs import DataStore
from candlewick.store.database import Database
from candlewick.store.quality import QualityStore
from candlewick.tables import print_rows
from candlewick.timeframes import utc
from flows.command import ending, result_of, run_flow
from tasks.market import FILES, MarketAccess, open_market, read_clock
from tasks.patience import patient
from tasks.repair import Repairing, publish_repair, repair_series

SIDE_BY_SIDE = 4
_SANDBOX = "-sandbox"


class RepairContext:
    """The tools of one run. Opens nothing: the store is made by the first write."""

    def __init__(self, *, dry_run: bool, force: bool) -> None:
        self.settings = load_settings()
        self.dry_run = dry_run
        database = Database(self.settings.store.url, self.settings.store.lock_timeout_s)
        self.tools = Repairing(open_lake(self.settings.lake), DataStore(database), QualityStore(database), force=force)
        self.started_at = datetime.now(UTC)
        self.run_id = f"repair-{self.started_at:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"


def _run_name() -> str:
    given = flow_run.parameters
    return "repair " + (" ".join(str(given[name]) for name in ("market", "symbol", "timeframe") if given.get(name)) or "all")


@flow(name="repair", flow_run_name=_run_name, persist_result=False)
async def repair(
    market: str | None = None,
    symbol: str | None = None,
    timeframe: str | None = None,
    kinds: list[str] | None = None,
    dry_run: bool = False,
    force: bool = False,
) -> State[RepairReport]:
    """Ask again for what the open findings that fit are about; None: all of them. ``force`` replaces bars that accounts acted on.

    Ends Completed, or Failed where a market could not be asked; both carry the RepairReport. Bad input raises before anything
    is asked. A ``dry_run`` asks and writes nothing.
    """
    context = RepairContext(dry_run=dry_run, force=force)
    with SyncClientContext.get_or_create(), bind_correlation_id(context.run_id):
        report = await repair_open(context, await read_request(context, market, symbol, timeframe, kinds))
        if report.outcomes and not dry_run:
            await publish_repair(report)
    return _final_state(report)


async def repair_open(context: RepairContext, request: RepairRequest) -> RepairReport:
    """What became of the open findings that are meant. Raises UsageError, LakeError, LedgerError."""
    tools = context.tools
    findings = await asyncio.to_thread(
        take_open, tools.lake, tools.quality, request, context.started_at, write=not context.dry_run
    )
    if context.dry_run or not findings:
        return _listed(context, findings)
    run = await asyncio.to_thread(_begin, context, request.market, findings)
    try:
        report = await _repair_all(context, findings)
    except BaseException as error:
        ended = replace(run, status="failure", error=str(error) or type(error).__name__, completed_at=datetime.now(UTC))
        await asyncio.to_thread(tools.data.finish, ended)
        raise
    await asyncio.to_thread(tools.data.finish, _ended(run, report))
    return report


async def read_request(
    context: RepairContext, market: str | None, symbol: str | None, timeframe: str | None, kinds: Sequence[str] | None
) -> RepairRequest:
    """What the user wrote, in the lake's names: files have another one there. Raises UsageError."""
    if market is not None and market.startswith(FILES):
        access = await open_market(market, context.settings, None)
        market = access.market.series(symbol or "", timeframe or "1h").market
    return RepairRequest(market, symbol, timeframe, tuple(kinds) if kinds else None)


async def _repair_all(context: RepairContext, findings: Sequence[OpenFinding]) -> RepairReport:
    """Market after market, so that each has its whole request budget; a series that fails does not stop the others."""
    outcomes: dict[str, Outcome] = {}
    failures: list[str] = []
    added = replaced = 0
    for market in dict.fromkeys(finding.series.market for finding in findings):
        mine = [finding for finding in findings if finding.series.market == market]
        plans = [
            plan_repair(series, mine) for series in dict.fromkeys(finding.series for finding in mine if _is_candles(finding))
        ]
        outcomes |= {one.finding_id: _no_candles(one) for one in mine if not _is_candles(one)}
        for plan, answer in zip(plans, await _repair_market(context, market, plans), strict=True):
            if isinstance(answer, SeriesRepair):
                outcomes |= {one.finding.finding_id: one for one in answer.outcomes}
                added, replaced = added + answer.added, replaced + answer.replaced
            else:
                outcomes |= {one.finding_id: Outcome(one, "open", answer) for one in plan.findings}
                failures.append(f"{plan.series.market} {plan.series.symbol} {plan.series.timeframe}: {answer}")
    ordered = tuple(outcomes[finding.finding_id] for finding in findings)
    return RepairReport(context.run_id, False, ordered, added, replaced, tuple(failures))


async def _repair_market(context: RepairContext, market: str, plans: Sequence[RepairPlan]) -> list[SeriesRepair | str]:
    """What became of each series, or why it could not be asked for."""
    if market == "sample" or market.startswith("files-"):
        what = "the sample market is made up" if market == "sample" else "files say the same until somebody changes them"
        return [
            SeriesRepair(tuple(Outcome(one, "open", f"it cannot be asked again: {what}") for one in plan.findings))
            for plan in plans
        ]
    try:
        access = await open_market(market.removesuffix(_SANDBOX), context.settings, None)
    except UsageError as error:
        return [f"it cannot be asked again: {error}"] * len(plans)
    gate = asyncio.Semaphore(SIDE_BY_SIDE)
    try:
        clock = await patient(read_clock, access)(access, None)

        async def one(plan: RepairPlan) -> SeriesRepair | str:
            async with gate:
                return await _repair_one(context, access, plan, clock.now_ms)

        return list(await asyncio.gather(*map(one, plans)))
    except CandlewickError as error:
        return [str(error)] * len(plans)
    finally:
        await access.market.close()


async def _repair_one(context: RepairContext, access: MarketAccess, plan: RepairPlan, now_ms: int) -> SeriesRepair | str:
    series = plan.series
    if access.market.series(series.symbol, series.timeframe) != series:
        return f"it cannot be asked again: the settings lead to {access.market.series(series.symbol, series.timeframe).market}"
    announce(f"repairing {series.market} {series.symbol} {series.timeframe}: {len(plan.findings)} findings, {plan.bars:,} bars")
    try:
        return await patient(repair_series, access)(access, context.tools, plan, now_ms)
    except (CandlewickError, TimeoutError) as error:
        return str(error) or type(error).__name__


def _is_candles(finding: OpenFinding) -> bool:
    return finding.series.timeframe[:1].isdigit()


def _no_candles(finding: OpenFinding) -> Outcome:
    return Outcome(finding, "open", "only candles are repaired; a backfill asks for what is missing of other data")


def _listed(context: RepairContext, findings: Sequence[OpenFinding]) -> RepairReport:
    """What is open, with what is known of it."""
    outcomes = tuple(Outcome(finding, "open", finding.explanation or finding.evidence) for finding in findings)
    return RepairReport(context.run_id, context.dry_run, outcomes)


def _begin(context: RepairContext, market: str | None, findings: Sequence[OpenFinding]) -> DataRun:
    run = DataRun(
        run_id=context.run_id,
        kind="repair",
        code_version=code_version(),
        started_at=context.started_at,
        market=market,
        series=len({finding.series for finding in findings}),
        since_at=utc(min(finding.span.since_ms for finding in findings)),
        until_at=utc(max(finding.span.until_ms for finding in findings)),
        flow_run_id=flow_run.id,
    )
    context.tools.data.begin(run)
    return run


def _ended(run: DataRun, report: RepairReport) -> DataRun:
    settled = sum(one.state != "open" for one in report.outcomes)
    status: DataRunStatus = "success" if not report.failures else "partial" if settled else "failure"
    error = "; ".join(report.failures) or None
    return replace(run, status=status, error=error, rows_added=report.added, findings=settled, completed_at=datetime.now(UTC))


def _final_state(report: RepairReport) -> State[RepairReport]:
    said = repair_sentence(report)
    return ending(Failed(message=said, data=report) if report.failures else Completed(message=said, data=report))


def add_repair_command(app: App) -> None:
    """Give ``app`` the commands of this module."""
    app.command(repair_command, name="repair")
    app.command(settle_command, name="settle")


def repair_command(
    *,
    market: Annotated[str | None, Parameter(help="Only findings of this market. [all]")] = None,
    symbol: Annotated[str | None, Parameter(help="Only findings of this symbol. [all]")] = None,
    timeframe: Annotated[str | None, Parameter(help="Only findings of this timeframe. [all]")] = None,
    kind: Annotated[tuple[str, ...], Parameter(help="Only findings of these kinds, separated by commas. [all]")] = (),
    dry_run: Annotated[bool, Parameter(help="Show what is open; ask and write nothing.")] = False,
    force: Annotated[bool, Parameter(help="Replace bars, too, that a paper account has decided on.")] = False,
    json: JsonFlag = False,
) -> int:
    """Ask the market again for what is missing or wrong. What it tells otherwise is put right, the rest is explained."""
    kinds = [part.strip() for text in kind for part in text.split(",") if part.strip()]
    if dry_run:  # Only reads what is here: no Prefect server is needed for that.
        report = asyncio.run(_list_open(market, symbol, timeframe, kinds))
    else:
        call = repair(market=market, symbol=symbol, timeframe=timeframe, kinds=kinds or None, force=force, return_state=True)
        report = run_flow(result_of(call))
    if json:
        print(to_json(report, indent=2))
    else:
        if report.outcomes:
            print_rows(outcome_rows(report), COLUMNS, False)
        print(repair_sentence(report))
    if not report.failures:
        return SUCCESS
    return PARTIAL if any(one.state != "open" for one in report.outcomes) else FAILURE


async def _list_open(market: str | None, symbol: str | None, timeframe: str | None, kinds: Sequence[str]) -> RepairReport:
    context = RepairContext(dry_run=True, force=False)
    return await repair_open(context, await read_request(context, market, symbol, timeframe, kinds))


def settle_command(
    findings: Annotated[tuple[str, ...], Parameter(help="Ids, or the beginnings of ids, as repair --dry-run shows them.")],
    *,
    because: Annotated[str, Parameter(help="Why it is so, for those who ask later.")],
    reopen: Annotated[bool, Parameter(help="Open them again instead.")] = False,
) -> int:
    """Say of findings that somebody has looked at them: they are explained, and no longer count against a window."""
    settings = load_settings()
    quality = QualityStore(Database(settings.store.url, settings.store.lock_timeout_s))
    state: FindingState = "open" if reopen else "explained"
    changed = quality.settle(quality.whole_ids(findings), state, because, datetime.now(UTC))
    print(f"{changed} finding{'' if changed == 1 else 's'} {'opened again' if reopen else 'explained'}.")
    return SUCCESS
