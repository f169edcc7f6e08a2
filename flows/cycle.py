"""The steps of a cycle that `flows/paper_trading.py` lists, from loading the account to writing the ledger."""

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import replace

import polars as pl

from candlewick.account import Account, terms_rows
from candlewick.advancing import common_watermark, last_bars
from candlewick.amending import exchange_changes
from candlewick.announcing import announce
from candlewick.candles import FormingBar, Series, candle_digest
from candlewick.cycle import Decided, Start, new_start
from candlewick.engine.state import EngineState
from candlewick.errors import (
    CandlewickError,
    LakeError,
    MarketUnavailable,
    UnknownSymbol,
    UsageError,
)
from candlewick.findings import drop_noted, noted_findings
from candlewick.instruments import Instrument
from candlewick.lake import Lake
from candlewick.market_data.coverage import Span
from candlewick.monitoring.interventions import intervened
from candlewick.paper_request import apply_fees, check_options, kept_terms, open_account
from candlewick.quality.gate import check_windows
from candlewick.rebuilding import REBUILT
from candlewick.results import Status
from candlewick.signal_files import load_signals, prune_signals
from candlewick.store.quality import QualityStore
from candlewick.strategies.catalog import load_strategy
from candlewick.strategy_gate import refuse_peeking
from candlewick.timeframes import floor_to_bar, format_utc, timeframe_ms
from candlewick.windows import FetchPlan, plan_fetch, read_windows
from flows.cycle_context import Begun, Cycle, Fetched, failure_text_of
from tasks.candles import FetchedSeries, fetch_candles
from tasks.engine import step_engine
from tasks.funding import complete_known_funding
from tasks.ledger import commit_cycle, load_account
from tasks.market import MarketAccess, open_market, read_clock, read_instruments
from tasks.patience import patient
from tasks.rebuilding import rebuild_state
from tasks.signals import Batch, Window, compute_signals

_FETCHES_AT_ONCE = 8
Answers = dict[str, FetchedSeries | Exception | None]


async def begin(cycle: Cycle) -> Begun:
    """Load the account, or open it in memory; read the market's clock and trading rules."""
    announce(f"reading account {cycle.request.account}")
    until_ms = cycle.request.until_ms
    with cycle.stopwatch.step("load_account"):
        start = load_account(cycle.ledger, cycle.request.account)
    if start is not None:
        start = await _up_to_date(cycle, start)
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
        start = new_start(open_account(cycle.request, instruments, time.now_ms))
        _refuse_peeking(cycle, start.account)
        return Begun(start, time.now_ms, ())
    _refuse_peeking(cycle, start.account)
    changed, notices = exchange_changes(start.account, start.state, instruments)
    cycle.notices += notices
    account = replace(start.account, terms=(*start.account.terms, *changed))
    return Begun(replace(start, account=account), time.now_ms, changed)


async def _up_to_date(cycle: Cycle, start: Start) -> Start:
    """The start with a state of today's engine. Raises HistoryChanged, StateOutdated where an old one cannot be replayed."""
    if not start.is_outdated:
        return start
    with cycle.stopwatch.step("rebuild_state"):
        state = await rebuild_state(cycle.ledger, cycle.settings, start.account.name)
    cycle.notices.append(REBUILT)
    return replace(start, state=state, is_outdated=False)


def _refuse_peeking(cycle: Cycle, account: Account) -> None:
    notice = refuse_peeking(cycle.ledger.database, account.current, allow=cycle.request.options.allow_peeking)
    cycle.notices += [] if notice is None else [notice]


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
        raise MarketUnavailable(f"no symbol could be fetched, so nothing was traded: {failure_text_of(failures)}")
    forming = {s: FormingBar(int(a["forming"][0]), a["forming"][1]) for s, a in fetched.items() if a["forming"]}
    return Fetched(begun.now_ms, series, forming, failures, noted_findings(cycle.lake, series.values(), cycle.started_at))


async def _fetch(lake: Lake, access: MarketAccess, begun: Begun, series: Series, active: bool) -> FetchedSeries | None:
    """Complete one series in the lake; nothing is asked for that the lake knows, None where nothing is needed."""
    if access.offline:
        return None
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


def check_quality(cycle: Cycle, begun: Begun, fetched: Fetched) -> None:
    """What is known to be wrong with the bars to be decided on and the warm-up before them: a notice, or DirtyWindow.

    Older bars were decided on already; what is found out about them stops nobody again.
    """
    account, watermark_ms = begun.start.account, begun.start.state.watermark_ms
    until_ms, length_ms = floor_to_bar(fetched.now_ms, account.timeframe), timeframe_ms(account.timeframe)
    first_ms = account.anchor_ms if watermark_ms is None else watermark_ms + length_ms
    if first_ms >= until_ms:
        return
    warmup_bars = load_strategy(account.current.strategy, account.current.parameters).warmup
    window = Span(max(account.anchor_ms, first_ms - warmup_bars * length_ms), until_ms)
    with cycle.stopwatch.step("check_quality"):
        cycle.notices += check_windows(
            QualityStore(cycle.ledger.database),
            cycle.lake,
            fetched.findings.rows,
            dict.fromkeys(fetched.series.values(), window),
            cycle.settings.quality,
        )


async def complete_payments(cycle: Cycle, begun: Begun, fetched: Fetched, candles: Mapping[str, pl.DataFrame]) -> Fetched:
    """The funding of perpetuals as far as it is known; says what the account waits for. Raises FundingMissing."""
    instruments = {instrument.symbol: instrument for instrument in begun.start.account.current.instruments}
    last_ms = common_watermark(candles)
    if last_ms is None or all(instrument.kind != "perpetual" for instrument in instruments.values()):
        return fetched
    access = cycle.access
    assert access is not None
    with cycle.stopwatch.step("fetch_funding"):
        announce(f"completing the funding of {len(instruments)} symbols from {access.market.name}")
        funded = await complete_known_funding(access, cycle.lake, instruments, fetched.series, candles, last_ms)
    cycle.notices += funded.waiting
    return replace(fetched, funded=funded)


async def compute_all_signals(
    cycle: Cycle, begun: Begun, candles: Mapping[str, pl.DataFrame]
) -> dict[int, dict[str, pl.DataFrame]]:
    """Signals by version of the terms and symbol, for the versions that still act; what sessions did to them before is done."""
    account, watermark_ms = begun.start.account, begun.start.state.watermark_ms
    folder = cycle.lake.scratch / "signals"
    bars = sum(frame.height for frame in candles.values())
    announce(f"computing {account.current.strategy} signals over {bars:,} candles")
    signals: dict[int, dict[str, pl.DataFrame]] = {}
    with cycle.stopwatch.step("compute_signals"):
        windows = [Window(symbol, frame, candle_digest(frame)) for symbol, frame in candles.items()]
        for terms in account.acting_terms(watermark_ms):
            paths = await compute_signals(Batch(windows), terms, folder)
            said = {window.symbol: load_signals(paths[window.symbol], window.candles) for window in windows}
            signals[terms.version] = intervened(said, begun.start.interventions)
        prune_signals(folder)
    return signals


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
        return step_engine(begun.start, candles, signals, fetched.forming, fetched.funded)


def commit(cycle: Cycle, begun: Begun, fetched: Fetched, decided: Decided) -> None:
    """One transaction for everything the cycle decided. Raises StaleCycle, InvariantViolated, LedgerError."""
    announce("writing the ledger")
    status: Status = "partial" if fetched.failure_text else "success"
    terms = terms_rows(decided.start.account, begun.changed_terms) if begun.changed_terms else pl.DataFrame()
    with cycle.stopwatch.step("commit"):
        commit_cycle(cycle.ledger, decided, cycle.record(status, fetched.failure_text), fetched.findings.rows, terms)
        try:
            drop_noted(cycle.lake, fetched.findings)
        except LakeError as error:  # the next cycle writes them again, which is no news, and drops them
            cycle.notices.append(f"findings that the ledger has now could not be dropped from the lake: {error}")
