"""What the backtesting flows share: the tools of a run, and the steps from a request to inputs that can be believed."""

import asyncio
import secrets
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation

import polars as pl
from prefect.runtime import flow_run

from candlewick.account import common_quote
from candlewick.announcing import announce
from candlewick.backtest_request import BacktestRequest
from candlewick.backtest_rows import BacktestRun, KeptCheck, RunKind
from candlewick.backtesting.inputs import Inputs, build_inputs
from candlewick.candles import Series
from candlewick.check_report import CheckReport
from candlewick.code_version import code_version
from candlewick.engine.bars import Beside
from candlewick.engine.terms import Terms, instrument_records
from candlewick.errors import StrategyPeeks, UsageError
from candlewick.findings import noted_findings
from candlewick.instruments import Instrument
from candlewick.json_text import Json
from candlewick.lake import Lake
from candlewick.lake_opening import open_lake
from candlewick.logs import configure_logging
from candlewick.market_data.coverage import Span as TimeSpan
from candlewick.paper_request import apply_fees
from candlewick.quality.gate import check_windows
from candlewick.reports.check_text import check_sentence
from candlewick.rules import Rules
from candlewick.stopwatch import Stopwatch
from candlewick.store.backtests import Backtests
from candlewick.store.database import Database
from candlewick.store.quality import QualityStore
from candlewick.strategies.catalog import strategy_code_version, strategy_document, strategy_name
from candlewick.strategies.contract import Strategy
from candlewick.strategy_checks import refuse_failed
from candlewick.timeframes import DAY_MS, floor_to_bar, format_utc, timeframe_ms, utc
from candlewick.windows import FetchPlan, plan_fetch
from tasks.candles import fetch_candles
from tasks.checks import check_candles
from tasks.funding import complete_funding
from tasks.market import MarketAccess, open_market, read_clock, read_instruments
from tasks.patience import patient

_FETCHES_AT_ONCE = 8


class BacktestContext:
    """The tools of one run: where things are kept, who it is, how long its steps took, what is to be said at its end."""

    def __init__(self, request: BacktestRequest, run_id: str | None = None) -> None:
        settings = request.settings
        self.request = request
        self.settings = settings
        self.store = Backtests(Database(settings.store.url, settings.store.lock_timeout_s))
        self.lake = open_lake(settings.lake)
        self.stopwatch = Stopwatch()
        self.started_at = datetime.now(UTC)
        self.run_id = run_id or f"backtest-{self.started_at:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
        self.correlation_id = self.run_id.removeprefix("backtest-")
        self.flow_run_id: str | None = flow_run.id
        self.notices: list[str] = []
        self.access: MarketAccess | None = None

    async def close(self) -> None:
        """Let go of the market's connections."""
        if self.access is not None:
            await self.access.market.close()


@dataclass(frozen=True, slots=True)
class Span:
    """Which bars of what is asked for: those with ``since_ms <= opened_at < until_ms``, both on a bar's open."""

    terms: Terms
    series: Mapping[str, Series]
    since_ms: int
    until_ms: int


@dataclass(frozen=True, slots=True)
class Gate:
    """What the look-ahead check said of the strategy; ``passed`` None: it could not be checked."""

    sentence: str
    passed: bool | None

    @property
    def verdict(self) -> str | None:
        """As the run store keeps it."""
        return None if self.passed is None else "passed" if self.passed else "failed"


def decimal_of(option: str, value: str | int | float | None) -> Decimal | None:
    """A number as it was written. Raises UsageError."""
    try:
        return None if value is None else Decimal(str(value))
    except InvalidOperation:
        raise UsageError(f"{option} {value!r} is not a number") from None


def log_as_set(request: BacktestRequest) -> None:
    """Log as the settings say, where they say anything; where not, a command tells its story in its own words only."""
    if any(key.startswith("logging.") for key in request.origins):
        configure_logging(request.settings.logging.level, request.settings.logging.json_lines)


async def prepare(context: BacktestContext) -> Inputs:
    """From the request to the inputs. Raises UsageError for what makes no sense, MarketUnavailable, InvalidCandles, LakeError,
    DirtyWindow."""
    span = await complete_candles(context, await open_span(context))
    await complete_detail(context, span)
    check_quality(context, span)
    return await read_inputs(context, span, await complete_payments(context, span))


async def open_span(context: BacktestContext) -> Span:
    """Open the market and read its clock and trading rules; what the rules forbid is refused before a candle is fetched."""
    paper, request = context.settings.paper, context.request
    with context.stopwatch.step("read_market"):
        announce(f"reading the trading rules of {paper.market}")
        context.access = await open_market(paper.market, context.settings, request.until_ms)
        time = await patient(read_clock, context.access)(context.access, request.until_ms)
        instruments = apply_fees(await patient(read_instruments, context.access)(context.access, paper.symbols), context.settings)
    ordered = tuple(instruments[symbol] for symbol in paper.symbols)
    common_quote(ordered)
    terms = Terms(paper.timeframe, paper.cash, ordered, request.rules)
    instrument_records(terms)
    series = {symbol: context.access.market.series(symbol, paper.timeframe) for symbol in paper.symbols}
    until_ms = floor_to_bar(time.now_ms, paper.timeframe)
    since_ms = _since(context, until_ms)
    if since_ms >= until_ms:
        raise UsageError(
            f"there is no bar of {paper.timeframe} from {format_utc(since_ms)} to {format_utc(until_ms)} UTC: ask for more"
        )
    return Span(terms, series, since_ms, until_ms)


def _since(context: BacktestContext, until_ms: int) -> int:
    """`since` where it is given; else all of a source that is there as a whole (files, the lake), or `history_days`."""
    paper, access = context.settings.paper, context.access
    assert access is not None
    if context.request.since_ms is not None:
        return floor_to_bar(context.request.since_ms + timeframe_ms(paper.timeframe) - 1, paper.timeframe)
    if access.offline or access.market.fingerprint(paper.symbols[0], paper.timeframe) is not None:
        return floor_to_bar(0, paper.timeframe)
    return floor_to_bar(until_ms - paper.history_days * DAY_MS, paper.timeframe)


async def complete_candles(context: BacktestContext, span: Span) -> Span:
    """Complete the lake for every symbol; the answer begins no earlier than the first candle there is."""
    with context.stopwatch.step("fetch_candles"):
        await _complete(context, span.series, span.since_ms, span.until_ms)
    there = [first for series in span.series.values() if (first := context.lake.span(series)) is not None]
    if not there:
        name = context.settings.paper.market
        raise UsageError(f"{name} has no candle of {', '.join(span.series)} from {format_utc(span.since_ms)} UTC on")
    first_ms = min(first for first, _ in there)
    return replace(span, since_ms=max(span.since_ms, first_ms)) if context.request.since_ms is None else span


async def complete_detail(context: BacktestContext, span: Span) -> None:
    """Complete the lake for the finer bars, where they are asked for."""
    series = _detail_series(context, span)
    if series:
        with context.stopwatch.step("fetch_detail"):
            await _complete(context, series, span.since_ms, span.until_ms)


def check_quality(context: BacktestContext, span: Span) -> None:
    """What is known to be wrong with the candles, the finer ones included: a notice, or DirtyWindow, as the settings say."""
    series = (*span.series.values(), *_detail_series(context, span).values())
    with context.stopwatch.step("check_quality"):
        noted = noted_findings(context.lake, series, context.started_at)
        windows = dict.fromkeys(series, TimeSpan(span.since_ms, span.until_ms))
        store = QualityStore(context.store.database)
        context.notices += check_windows(store, context.lake, noted.rows, windows, context.settings.quality)


def _detail_series(context: BacktestContext, span: Span) -> dict[str, Series]:
    detail, access = context.request.options.detail, context.access
    assert access is not None
    return {} if detail is None else {symbol: access.market.series(symbol, detail) for symbol in span.series}


async def _complete(context: BacktestContext, series: Mapping[str, Series], since_ms: int, until_ms: int) -> None:
    """What the lake lacks, a few symbols at a time. Every fetch ends before the first failure is raised."""
    access, gate = context.access, asyncio.Semaphore(_FETCHES_AT_ONCE)
    assert access is not None
    if access.offline:
        return
    plans = [_plan(context.lake, access, key, since_ms, until_ms) for key in series.values()]
    lacking = [plan for plan in plans if not plan.is_complete]
    if lacking:
        announce(f"fetching {lacking[0].series.timeframe} candles of {len(lacking)} symbols from {access.market.name}")

    async def one(plan: FetchPlan) -> None:
        async with gate:
            await patient(fetch_candles, access)(access, plan, context.lake)
            if plan.series not in access.asked and not _holds(context.lake, plan):  # Prefect's cache outlived the lake's files
                await patient(fetch_candles.with_options(refresh_cache=True), access)(access, plan, context.lake)

    answers = await asyncio.gather(*map(one, lacking), return_exceptions=True)
    failures = [answer for answer in answers if isinstance(answer, BaseException)]
    if failures:
        raise next((failure for failure in failures if isinstance(failure, UsageError)), failures[0])


def _plan(lake: Lake, access: MarketAccess, series: Series, since_ms: int, until_ms: int) -> FetchPlan:
    """As a cycle plans it. A span before the lake's first bar is fetched up to that bar, so that the lake keeps no hole."""
    there = lake.span(series)
    end_ms = until_ms if there is None else max(until_ms, there[0])
    return plan_fetch(lake, series, since_ms, end_ms, access.market.fingerprint(series.symbol, series.timeframe))


def _holds(lake: Lake, plan: FetchPlan) -> bool:
    there = lake.span(plan.series)
    return there is not None and there[1] >= plan.last_closed_ms


async def complete_payments(context: BacktestContext, span: Span) -> Mapping[str, pl.DataFrame]:
    """The funding of perpetuals over the span, by symbol. Raises FundingMissing."""
    instruments: dict[str, Instrument] = {instrument.symbol: instrument for instrument in span.terms.instruments}
    if all(instrument.kind != "perpetual" for instrument in instruments.values()):
        return {}
    assert context.access is not None
    with context.stopwatch.step("fetch_funding"):
        announce("completing the funding history")
        return await complete_funding(context.access, context.lake, instruments, span.series, span.since_ms, span.until_ms)


async def read_inputs(context: BacktestContext, span: Span, funding: Mapping[str, pl.DataFrame]) -> Inputs:
    """The lake's candles of the span, with what belongs beside them. Raises UsageError, LakeError."""
    announce("reading the candles")
    detail = _detail_series(context, span)
    with context.stopwatch.step("read_lake"):
        inputs = await asyncio.to_thread(_read, context, span, funding, detail)
    context.notices += inputs.notices
    return inputs


def _read(context: BacktestContext, span: Span, funding: Mapping[str, pl.DataFrame], detail: Mapping[str, Series]) -> Inputs:
    bounds = span.since_ms, span.until_ms
    candles = {symbol: context.lake.read(series, *bounds) for symbol, series in span.series.items()}
    finer = {symbol: context.lake.read(series, *bounds) for symbol, series in detail.items()}
    return build_inputs(span.terms, span.series, candles, Beside(funding, finer), bounds, context.request.options.detail)


async def check_gate(context: BacktestContext, inputs: Inputs, strategy: Strategy) -> Gate:
    """The look-ahead check that is kept of this strategy, or a modest one now. Raises StrategyPeeks unless peeking is allowed."""
    allow = context.request.options.allow_peeking
    with context.stopwatch.step("check_strategy"):
        kept: KeptCheck | None = context.store.find_check(
            strategy_name(strategy), strategy_document(strategy), code_version(), strategy_code_version(strategy)
        )
        if kept is None:
            announce(f"checking {strategy_name(strategy)} for look-ahead")
            try:
                kept = await check_candles(context.store, strategy, inputs)
            except UsageError as too_few:
                return Gate(f"not done: {too_few}", None)
    try:
        notice = refuse_failed(kept, allow=allow)
    except StrategyPeeks as peeks:
        raise StrategyPeeks(f"{peeks} with --allow-peeking") from None
    context.notices += [] if notice is None else [notice]
    return Gate(check_sentence(CheckReport.from_document(kept.document)), kept.verdict == "passed")


def run_record(context: BacktestContext, inputs: Inputs, kind: RunKind, gate: Gate, strategy: Strategy) -> BacktestRun:
    """The run as it begins, with all that is known of it by then. A search adds its grid and what it looks for."""
    terms = inputs.terms
    return BacktestRun(
        run_id=context.run_id,
        kind=kind,
        correlation_id=context.correlation_id,
        flow_run_id=context.flow_run_id,
        market=context.settings.paper.market,
        timeframe=terms.timeframe,
        detail_timeframe=context.request.options.detail,
        symbols=terms.symbols,
        quote=common_quote(terms.instruments),
        strategy=strategy_name(strategy),
        parameters=dict(strategy_document(strategy)),
        rules=terms.rules,
        instruments=terms.instruments,
        initial_cash=terms.initial_cash,
        code_version=code_version(),
        strategy_version=strategy_code_version(strategy),
        since_at=utc(inputs.since_ms),
        until_at=utc(inputs.until_ms),
        candle_digests=inputs.digests,
        funding_digests=inputs.funding_digests,
        check_verdict=gate.verdict,
        started_at=context.started_at,
    )


def command_text(context: BacktestContext, inputs: Inputs, subcommand: str, more: Mapping[str, Json] | None = None) -> str:
    """What repeats the run from a terminal; ``more`` are options by name (`trials`), None and False are left out."""
    request, paper, terms = context.request, context.settings.paper, inputs.terms
    usual, own = Rules().to_document(), terms.rules.to_document()
    options: list[tuple[str, str]] = [
        ("market", paper.market),
        ("symbols", ",".join(terms.symbols)),
        ("timeframe", terms.timeframe),
        ("strategy", request.strategy_name),
        *(("param", f"{name}={_plain(value)}") for name, value in request.parameters.items()),
        ("since", format_utc(inputs.since_ms).replace(" ", "T")),
        ("until", format_utc(inputs.until_ms).replace(" ", "T")),
        ("cash", f"{terms.initial_cash.normalize():f}"),
        *(("rule", f"{name}={_plain(value)}") for name, value in own.items() if value != usual[name]),
    ]
    rest: dict[str, Json] = {
        "maker-fee-bps": _decimal_text(request.options.maker_fee_bps),
        "taker-fee-bps": _decimal_text(request.options.taker_fee_bps),
        "detail": request.options.detail,
        "seed": request.options.seed or None,
        "allow-peeking": request.options.allow_peeking,
        **(more or {}),
    }
    options += [(name, _plain(value)) for name, value in rest.items() if value is not None and value is not False]
    words = [f"--{name} {shlex.quote(value)}" if value != "true" else f"--{name}" for name, value in options]
    return " ".join([f"python -m flows.backtesting {subcommand}", *words])


def _decimal_text(value: Decimal | None) -> str | None:
    return None if value is None else f"{value:f}"


def _plain(value: Json) -> str:
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
