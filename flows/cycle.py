"""One cycle of an account: its tools, and the steps that `flows/paper_trading.py` lists."""

import asyncio
import logging
import secrets
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from candlewick.account import Account, TermsVersion, terms_rows
from candlewick.advancing import common_watermark, last_bars
from candlewick.amending import next_terms
from candlewick.announcing import announce
from candlewick.candles import FormingBar, Series, candle_digest
from candlewick.code_version import code_version
from candlewick.cycle import Decided, RunRecord, Start, empty_view, new_start, preview
from candlewick.engine.state import EngineState
from candlewick.engine.terms import grid_of
from candlewick.errors import (
    CandlewickError,
    LakeError,
    LedgerBusy,
    LedgerError,
    LedgerTooNew,
    LedgerUnreadable,
    LedgerUnwritable,
    MarketUnavailable,
    UnknownAccount,
    UnknownSymbol,
    UsageError,
)
from candlewick.findings import NotedFindings, drop_noted, noted_findings
from candlewick.instruments import Instrument
from candlewick.lake import Lake
from candlewick.logs import bind_correlation_id
from candlewick.paper_request import PaperRequest, apply_fees, check_options, kept_terms, open_account
from candlewick.reports.cycle_data import build_cycle_data
from candlewick.reports.view import AccountView
from candlewick.results import CycleData, CycleMetadata, CycleResult, Status
from candlewick.signal_files import load_signals, prune_signals
from candlewick.stopwatch import Stopwatch
from candlewick.store.database import Database
from candlewick.store.ledger import Ledger
from candlewick.store.lock import HeldLock, Holder
from candlewick.timeframes import format_utc
from candlewick.windows import FetchPlan, plan_fetch, read_windows
from flows.command import ending
from tasks.candles import FetchedSeries, fetch_candles
from tasks.engine import step_engine
from tasks.ledger import commit_cycle, load_account, record_failure
from tasks.market import MarketAccess, open_market, read_clock, read_instruments
from tasks.patience import patient
from tasks.reports import emit_cycle_events, publish_artifacts, write_account_report
from tasks.signals import Batch, Window, compute_signals

_LOG = logging.getLogger("candlewick.cycle")
_FETCHES_AT_ONCE = 8
_LEDGER_IS_CLOSED = (LedgerBusy, LedgerTooNew, LedgerUnreadable, LedgerUnwritable)
Answers = dict[str, FetchedSeries | Exception | None]


@dataclass(frozen=True, slots=True)
class Fetched:
    """What fetching brought: forming bars and failures by symbol, findings noted beside the candles."""

    now_ms: int
    series: Mapping[str, Series]
    forming: Mapping[str, FormingBar | None]
    failures: Mapping[str, str]
    findings: NotedFindings

    @property
    def failure_text(self) -> str | None:
        """Which symbols could not be fetched and why, None where all could."""
        return _failure_text(self.failures) or None


def _failure_text(failures: Mapping[str, str]) -> str:
    return "; ".join(why if symbol in why else f"{symbol}: {why}" for symbol, why in failures.items())


@dataclass(frozen=True, slots=True)
class Begun:
    """The account as this cycle finds it, the market's time, and terms that the exchange has changed since."""

    start: Start
    now_ms: int
    changed_terms: tuple[TermsVersion, ...]


class Cycle:
    """The tools of one cycle: where things are kept, who it is, how long its steps took, what is to be said at its end."""

    def __init__(self, request: PaperRequest) -> None:
        settings = request.settings
        self.request = request
        self.settings = settings
        self.ledger = Ledger(Database(settings.store.url, settings.store.lock_timeout_s))
        self.lake = Lake(settings.lake.url)
        self.stopwatch = Stopwatch()
        self.started_at = datetime.now(UTC)
        self.run_id = f"run-{self.started_at:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
        self.correlation_id = self.run_id.removeprefix("run-")
        self.flow_run_id: str | None = flow_run.id
        self.notices: list[str] = []
        self.access: MarketAccess | None = None
        self.skew_ms: int | None = None

    @contextmanager
    def turn(self) -> Iterator[HeldLock | Holder | None]:
        """The right to move the account, or who has it; a dry run needs none. Raises LedgerUnwritable."""
        if self.request.options.dry_run:
            yield None
            return
        turn = self.ledger.try_account_lock(self.request.account)
        try:
            with bind_correlation_id(self.correlation_id):
                yield turn
        finally:
            if isinstance(turn, HeldLock):
                turn.release()

    async def close(self) -> None:
        """Let go of the market's connections."""
        if self.access is not None:
            await self.access.market.close()

    def record(self, status: Status, error: str | None = None) -> RunRecord:
        """This run's bookkeeping, as of now."""
        return RunRecord(
            self.run_id, self.flow_run_id, self.correlation_id, self.started_at, datetime.now(UTC), status, error,
            tuple(self.notices), dict(self.stopwatch.durations_s),
        )  # fmt: skip

    def result(self, status: Status, data: CycleData | None, error: str | None, digests: Mapping[str, str]) -> CycleResult:
        """The standard result, as of now."""
        metadata = CycleMetadata(
            run_id=self.run_id,
            flow_run_id=self.flow_run_id,
            correlation_id=self.correlation_id,
            started_at=self.started_at,
            completed_at=datetime.now(UTC),
            durations_s=dict(self.stopwatch.durations_s),
            code_version=code_version(),
            candle_digests=dict(digests),
            clock_skew_ms=self.skew_ms,
        )
        outcome = {"account": self.request.account, "run_id": self.run_id, "status": status}
        _LOG.info("cycle of account %s: %s", self.request.account, f"{status}, {error}" if error else status, extra=outcome)
        return CycleResult(status=status, data=data, error=error, metadata=metadata)


async def begin(cycle: Cycle) -> Begun:
    """Load the account, or open it in memory; read the market's clock and trading rules."""
    announce(f"reading account {cycle.request.account}")
    until_ms = cycle.request.until_ms
    with cycle.stopwatch.step("load_account"):
        start = load_account(cycle.ledger, cycle.request.account)
    if start is not None:
        check_options(cycle.request, start.account)
        cycle.notices += kept_terms(cycle.request, start.account)
    with cycle.stopwatch.step("read_market"):
        name = start.account.market if start else cycle.settings.paper.market
        cycle.access = await open_market(name, cycle.settings, until_ms)
        time = await patient(read_clock, cycle.access)(cycle.access, until_ms)
        cycle.skew_ms = time.skew_ms
        symbols = start.account.symbols if start else cycle.settings.paper.symbols
        instruments = await _instruments(cycle, cycle.access, symbols, start)
    if start is None:
        return Begun(new_start(open_account(cycle.request, instruments, time.now_ms)), time.now_ms, ())
    changed = _changed_terms(cycle, start, instruments)
    account = replace(start.account, terms=(*start.account.terms, *changed))
    return Begun(replace(start, account=account), time.now_ms, changed)


async def _instruments(
    cycle: Cycle, access: MarketAccess, symbols: tuple[str, ...], start: Start | None
) -> dict[str, Instrument]:
    """Trading rules; a symbol that the exchange no longer lists keeps the rules the account knows, and its fetch will fail."""
    try:
        return apply_fees(await patient(read_instruments, access)(access, symbols), cycle.settings)
    except UnknownSymbol as missing:
        if start is None:
            raise
        cycle.notices.append(f"{missing}; the account keeps the trading rules it knows")
        return {instrument.symbol: instrument for instrument in start.account.current.instruments}


def _changed_terms(cycle: Cycle, start: Start, instruments: Mapping[str, Instrument]) -> tuple[TermsVersion, ...]:
    """A new version of the terms when the exchange's trading rules have changed, from the first bar not yet begun."""
    current = start.account.current
    offered = [(instruments[old.symbol], old) for old in current.instruments]
    finer = [new.symbol for new, old in offered if grid_of(new) != grid_of(old)]
    if finer:
        cycle.notices.append(f"{', '.join(finer)}: the exchange's new tick needs another grid; the account keeps the old rules")
    ordered = tuple(old if new.symbol in finer else new for new, old in offered)
    if ordered == current.instruments:
        return ()
    changed = [new.symbol for new, old in zip(ordered, current.instruments, strict=True) if new != old]
    cycle.notices.append(f"the trading rules of {', '.join(changed)} have changed; the new ones act from the next bar on")
    return (next_terms(start.account, start.state, replace(current, instruments=ordered, lifts_halt=False)),)


async def fetch_all(cycle: Cycle, begun: Begun) -> Fetched:
    """Complete the lake for every symbol; one that fails does not stop the others."""
    account, state = begun.start.account, begun.start.state
    access = cycle.access
    assert access is not None
    series = {symbol: access.market.series(symbol, account.timeframe) for symbol in account.symbols}
    with cycle.stopwatch.step("fetch_candles"):
        announce(f"fetching candles of {len(series)} symbols from {access.market.name}")
        active = dict(zip(account.symbols, state.active(), strict=True))
        answers = await _gather({s: _fetch(cycle.lake, access, begun, key, active[s]) for s, key in series.items()})
    refused = [answer for answer in answers.values() if isinstance(answer, UsageError)]
    if refused and begun.start.created:
        raise refused[0]
    failures = {s: str(answer) or type(answer).__name__ for s, answer in answers.items() if isinstance(answer, Exception)}
    fetched = {s: answer for s, answer in answers.items() if answer is not None and not isinstance(answer, Exception)}
    if len(failures) == len(series):
        if all(isinstance(answer, LakeError) for answer in answers.values()):  # the market is not to blame
            raise LakeError(next(iter(failures.values())))
        raise MarketUnavailable(f"no symbol could be fetched, so nothing was traded: {_failure_text(failures)}")
    forming = {s: FormingBar(int(a["forming"][0]), a["forming"][1]) for s, a in fetched.items() if a["forming"]}
    return Fetched(begun.now_ms, series, forming, failures, noted_findings(cycle.lake, series.values(), cycle.started_at))


async def _fetch(lake: Lake, access: MarketAccess, begun: Begun, series: Series, active: bool) -> FetchedSeries | None:
    """Complete one series in the lake; nothing is asked for that the lake knows, None where nothing is needed."""
    source = access.market.fingerprint(series.symbol, series.timeframe)
    plan = plan_fetch(lake, series, begun.start.account.anchor_ms, begun.now_ms, source)
    if plan.is_complete and not _awaits_open(plan, begun.start.state, active):
        return None
    known = lake.forming(series) if plan.is_complete else None
    if known is not None and known.opened_at_ms == plan.forming_ms:
        return FetchedSeries(symbol=series.symbol, added=0, forming=[known.opened_at_ms, known.open])
    answer = await patient(fetch_candles, access)(access, plan, lake)
    if series not in access.asked and _came_too_early(lake, plan, answer):
        answer = await patient(fetch_candles.with_options(refresh_cache=True), access)(access, plan, lake)
    return answer


def _came_too_early(lake: Lake, plan: FetchPlan, answer: FetchedSeries) -> bool:
    """Whether Prefect remembers an answer from a moment at which the market did not show everything that is due."""
    span = lake.span(plan.series)
    return span is None or span[1] < plan.last_closed_ms or answer["forming"] is None


def _awaits_open(plan: FetchPlan, state: EngineState, active: bool) -> bool:
    """Whether the forming bar's open could fill something: an order that waits for it, or one this cycle may yet decide."""
    return state.watermark_ms != plan.last_closed_ms or (active and state.opened_ms != plan.forming_ms)


async def _gather(
    calls: Mapping[str, Coroutine[None, None, FetchedSeries | None]],
) -> Answers:
    """The answers by symbol, a few calls at a time; an expected failure is an answer."""
    gate = asyncio.Semaphore(_FETCHES_AT_ONCE)

    async def one(call: Coroutine[None, None, FetchedSeries | None]) -> FetchedSeries | Exception | None:
        async with gate:
            try:
                return await call
            except (CandlewickError, TimeoutError) as error:
                return error

    answers = await asyncio.gather(*(one(call) for call in calls.values()))
    return dict(zip(calls, answers, strict=True))


async def read_candles(cycle: Cycle, begun: Begun, fetched: Fetched) -> dict[str, pl.DataFrame]:
    """Each symbol's window since the anchor, from the lake; says whom the account waits for."""
    with cycle.stopwatch.step("read_lake"):
        candles = await asyncio.to_thread(read_windows, cycle.lake, fetched.series, begun.start.account.anchor_ms, fetched.now_ms)
    last = last_bars(candles)
    newest = max((time for time in last.values() if time is not None), default=None)
    waiting = [symbol for symbol, time in last.items() if time != newest and symbol not in fetched.failures]
    if waiting:
        common = common_watermark(candles)
        until = "its first candle" if common is None else f"candles after {format_utc(common)} UTC"
        cycle.notices.append(f"waiting for {', '.join(waiting)}: the market shows no {until} yet")
    return candles


async def compute_all_signals(
    cycle: Cycle, begun: Begun, candles: Mapping[str, pl.DataFrame]
) -> dict[int, dict[str, pl.DataFrame]]:
    """Signals by version of the terms and symbol, for the versions that still act."""
    account, watermark_ms = begun.start.account, begun.start.state.watermark_ms
    folder = cycle.lake.root / "signals"
    bars = sum(frame.height for frame in candles.values())
    announce(f"computing {account.current.strategy} signals over {bars:,} candles")
    signals: dict[int, dict[str, pl.DataFrame]] = {}
    with cycle.stopwatch.step("compute_signals"):
        windows = [Window(symbol, frame, candle_digest(frame)) for symbol, frame in candles.items()]
        for terms in _acting_terms(account, watermark_ms):
            paths = await compute_signals(Batch(windows), terms, folder)
            signals[terms.version] = {window.symbol: load_signals(paths[window.symbol], window.candles) for window in windows}
        prune_signals(folder)
    return signals


def _acting_terms(account: Account, watermark_ms: int | None) -> list[TermsVersion]:
    ends = [following.effective_from_ms - 1 for following in account.terms[1:]]
    return [terms for terms, end in zip(account.terms, [*ends, None], strict=True) if end is None or end > (watermark_ms or 0)]


def decide(
    cycle: Cycle,
    begun: Begun,
    fetched: Fetched,
    candles: Mapping[str, pl.DataFrame],
    signals: Mapping[int, Mapping[str, pl.DataFrame]],
) -> Decided:
    """Step the engine over every bar that all symbols have."""
    from candlewick.compiled import is_compiled  # numba: see candlewick/engine/run.py

    announce(
        "stepping the engine" if is_compiled("folding", "fold") else "compiling the engine (once, about a quarter of a minute)"
    )
    with cycle.stopwatch.step("step_engine"):
        return step_engine(begun.start, candles, signals, fetched.forming)


def commit(cycle: Cycle, begun: Begun, fetched: Fetched, decided: Decided) -> None:
    """One transaction for everything the cycle decided. Raises StaleCycle, InvariantViolated, LedgerError."""
    announce("writing the ledger")
    status: Status = "partial" if fetched.failures else "success"
    terms = terms_rows(decided.start.account, begun.changed_terms) if begun.changed_terms else pl.DataFrame()
    with cycle.stopwatch.step("commit"):
        commit_cycle(cycle.ledger, decided, cycle.record(status, fetched.failure_text), fetched.findings.rows, terms)
        try:
            drop_noted(cycle.lake, fetched.findings)
        except LakeError as error:  # the next cycle writes them again, which is no news, and drops them
            cycle.notices.append(f"findings that the ledger has now could not be dropped from the lake: {error}")


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
