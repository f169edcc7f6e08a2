"""How a cycle ends: with its report and artifacts, as a dry run, standing aside, or in failure."""

from collections.abc import Mapping
from pathlib import Path

import polars as pl
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from candlewick.announcing import announce
from candlewick.cycle import Decided, empty_view, preview
from candlewick.errors import (
    CandlewickError,
    LedgerBusy,
    LedgerError,
    LedgerTooNew,
    LedgerUnreadable,
    LedgerUnwritable,
    UnknownAccount,
)
from candlewick.reports.cycle_data import build_cycle_data
from candlewick.reports.view import AccountView
from candlewick.results import CycleResult
from candlewick.store.lock import Holder
from flows.command import ending
from flows.cycle_context import Cycle, Fetched
from tasks.ledger import record_failure
from tasks.reports import emit_cycle_events, publish_artifacts, write_account_report

_LEDGER_IS_CLOSED = (LedgerBusy, LedgerTooNew, LedgerUnreadable, LedgerUnwritable)


async def finish(cycle: Cycle, fetched: Fetched, decided: Decided, candles: Mapping[str, pl.DataFrame]) -> State[CycleResult]:
    """Report, artifacts and events. What fails here cannot undo the ledger: it is said, and the run is partial."""
    announce("drawing the report")
    with cycle.stopwatch.step("report"):
        report, problem = None, None
        try:
            view = cycle.ledger.view(cycle.request.account, until_watermark(candles, decided))
            report = str(write_account_report(view, Path(cycle.settings.reports.directory)))
        except LedgerError as error:
            text = f"the cycle is in the ledger, which then could not be read for the report: {error}"
            return _completed(cycle.result("partial", None, text, decided.digests))
        except (CandlewickError, OSError) as error:
            problem = str(error)
    result = _conclude(cycle, view, decided, fetched, report, problem)
    with cycle.stopwatch.step("publish"):
        await publish_artifacts(cycle.request.account, result)
        emit_cycle_events(cycle.request.account, result)
    return _completed(result)


def preview_result(cycle: Cycle, fetched: Fetched, decided: Decided, candles: Mapping[str, pl.DataFrame]) -> State[CycleResult]:
    """The result of a dry run: what the cycle would have written."""
    account = decided.start.account
    shown = until_watermark(candles, decided)
    view = empty_view(account, shown) if decided.start.created else cycle.ledger.view(account.name, shown)
    return _completed(_conclude(cycle, preview(view, decided, cycle.run_id), decided, fetched, None, None))


def until_watermark(candles: Mapping[str, pl.DataFrame], decided: Decided) -> dict[str, pl.DataFrame]:
    """The candles that the account has seen."""
    watermark_at = decided.watermark_at
    if watermark_at is None:
        return {symbol: frame.clear() for symbol, frame in candles.items()}
    return {symbol: frame.filter(pl.col("opened_at") <= watermark_at) for symbol, frame in candles.items()}


def _conclude(
    cycle: Cycle, view: AccountView, decided: Decided, fetched: Fetched, report: str | None, problem: str | None
) -> CycleResult:
    problems = "; ".join(text for text in (fetched.failure_text, problem) if text)
    data = build_cycle_data(
        view,
        watermark_before=decided.start.watermark_at,
        bars=decided.advanced.bars,
        created=decided.start.created,
        dry_run=cycle.request.options.dry_run,
        notices=tuple(cycle.notices),
        report=report,
        run_id=cycle.run_id,
    )
    return cycle.result("partial" if problems else "success", data, problems or None, decided.digests)


def stand_aside(cycle: Cycle, holder: Holder) -> State[CycleResult]:
    """Another cycle of the account is at work: say so and change nothing."""
    cycle.notices.append(f"another cycle of account {cycle.request.account} is at work ({holder}); this one did nothing")
    try:
        view = cycle.ledger.view(cycle.request.account, {})
    except UnknownAccount:
        return _completed(cycle.result("success", None, cycle.notices[-1], {}))
    data = build_cycle_data(
        view,
        watermark_before=view.watermark_at,
        bars=0,
        created=False,
        dry_run=False,
        notices=tuple(cycle.notices),
        report=None,
        run_id=cycle.run_id,
        acted=False,
    )
    return _completed(cycle.result("success", data, None, {}))


def fail(cycle: Cycle, error: CandlewickError) -> State[CycleResult]:
    """A failed cycle leaves a row in `runs`, where the ledger can still be written."""
    text = str(error)
    if not isinstance(error, _LEDGER_IS_CLOSED):  # trying again would only double the wait
        try:
            record_failure(cycle.ledger, cycle.request.account, cycle.record("failure", text))
        except LedgerError as unwritten:
            text = f"{text} (and the run could not be recorded: {unwritten})"
    result = cycle.result("failure", None, text, {})
    emit_cycle_events(cycle.request.account, result)
    return ending(Failed(message=text, data=result))


def _completed(result: CycleResult) -> State[CycleResult]:
    if result.status == "partial":
        return ending(Completed(name="Partial", message=result.error or "see the notices", data=result))
    notices = " ".join(result.data.notices) if result.data and result.data.notices else None
    return ending(Completed(message=notices, data=result))
